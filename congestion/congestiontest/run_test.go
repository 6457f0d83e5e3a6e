package congestiontest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/congestiontest"
	"github.com/plumbline/plumbline/congestion/reno"
)

// mutant is Reno with one fault.
type mutant struct {
	congestion.Controller
	fault string
	now   congestion.Time
	cwnd  uint64
	sink  []byte

	signalled bool
}

// faults names the faults and what the contract says of each.
var faults = map[string]string{
	"no floor":         "outside one MSS",
	"no initial cwnd":  "of initial window",
	"no ssthresh":      "ssthresh is 0",
	"allocates":        "OnAck allocates",
	"no growth":        "took cwnd from 10000 to 10000",
	"explodes":         "its peak was",
	"signal raises":    "raised cwnd from",
	"never reduces":    "after 100 round trips",
	"no undo":          "undone after",
	"idle raises":      "idleness raised cwnd",
	"absolute time":    "at other instants",
	"unseeded":         "other results",
	"ignores use":      "2000 exchanges",
	"no state":         "the snapshot is",
	"keeps state":      "initialised again",
	"paces at nothing": "gives no rate",
	"stalls":           "of the link",
}

var unseeded uint64

func (m *mutant) Init(cfg congestion.Config) {
	if m.fault == "keeps state" && m.cwnd != 0 {
		cfg.InitialWindow = m.cwnd
	}
	if m.fault == "no initial cwnd" {
		cfg.InitialWindow = 4 * uint64(cfg.MSS)
	}
	m.Controller.Init(cfg)
}

func (m *mutant) OnAck(ev *congestion.AckEvent) {
	m.now = ev.Now
	switch m.fault {
	case "allocates":
		m.sink = make([]byte, 100)
	case "no growth":
		return
	case "explodes":
		for range 10 {
			m.Controller.OnAck(ev)
		}
	case "ignores use":
		ev.CwndLimited = true
	}
	m.Controller.OnAck(ev)
	m.cwnd = m.Controller.Control().Cwnd
}

func (m *mutant) OnSignal(ev *congestion.SignalEvent) {
	m.signalled = true
	switch m.fault {
	case "signal raises":
		m.OnMSS(ev.Now, 100000)
	case "never reduces":
		return
	}
	m.Controller.OnSignal(ev)
}

func (m *mutant) OnSpurious(now congestion.Time, s congestion.Signal, inFlight uint64) {
	if m.fault != "no undo" {
		m.Controller.OnSpurious(now, s, inFlight)
	}
}

func (m *mutant) OnIdleRestart(now congestion.Time, idle time.Duration) {
	if m.fault == "idle raises" {
		m.Controller.Init(congestion.Config{MSS: 1000, InitialWindow: 1 << 30})
		return
	}
	m.Controller.OnIdleRestart(now, idle)
}

func (m *mutant) Control() congestion.Control {
	c := m.Controller.Control()
	switch m.fault {
	case "no floor":
		c.Cwnd /= 20
	case "no ssthresh":
		c.Ssthresh = 0
	case "stalls":
		if m.signalled {
			c.Cwnd = 1000
		}
	case "absolute time":
		c.PacingRate = uint64(m.now)%1000 + 1
	case "unseeded":
		unseeded++
		c.PacingRate = unseeded
	case "paces at nothing":
		c.Capabilities = congestion.NeedsPacing
	}
	return c
}

func (m *mutant) Snapshot(s *congestion.Snapshot) {
	m.Controller.Snapshot(s)
	if m.fault == "no state" {
		s.State = ""
	}
}

// TestContractFindsFaults runs the contract on each mutant in a process of its own, since a test can't see another fail.
func TestContractFindsFaults(t *testing.T) {
	if fault, child := os.LookupEnv("CONGESTIONTEST_FAULT"); child {
		congestiontest.Run(t, func() congestion.Controller { return &mutant{Controller: reno.New(), fault: fault} })
		return
	}
	if testing.Short() {
		t.Skip("takes a while, and is about the contract and not about algorithms")
	}
	for fault, want := range faults {
		t.Run(fault, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestContractFindsFaults$", "-test.short", "-test.v")
			cmd.Env = append(os.Environ(), "CONGESTIONTEST_FAULT="+fault)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the contract did not notice")
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("the contract does not say %q:\n%s", want, out)
			}
		})
	}
}

// TestContractPassesTheOriginal checks that the faults above are what the contract found.
func TestContractPassesTheOriginal(t *testing.T) {
	congestiontest.Run(t, func() congestion.Controller { return &mutant{Controller: reno.New()} })
}
