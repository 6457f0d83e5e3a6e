package bbr

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
)

// The path of most tests: 10 Mbit/s and 40 ms are 50 segments.
const (
	mss  = 1000
	rate = 1_250_000
	rtt  = 40 * time.Millisecond
	bdp  = 50 * mss
)

// lab is one BBR flow over a path whose conditions a test changes while it watches the flow's state.
type lab struct {
	*bbr
	t    *testing.T
	sim  *linksim.Sim
	flow *linksim.Flow

	loss    float64 // of packets, at random
	rand    *rand.Rand
	appRate uint64 // bytes per second that the application writes, 0 for as much as can be sent
	appFrom congestion.Time
	appBase uint64
	paused  bool

	entered []state // states in the order in which they were entered
	onAck   func(ev *congestion.AckEvent)
	onEnter func(s state)
}

type labConfig struct {
	rate   uint64
	rtt    time.Duration
	buffer uint64
	seed   uint64
}

func newLab(t *testing.T, cfg labConfig) *lab {
	t.Helper()
	if cfg.rate == 0 {
		cfg.rate = rate
	}
	if cfg.rtt == 0 {
		cfg.rtt = rtt
	}
	l := &lab{t: t, bbr: New().(*bbr), sim: linksim.New(cfg.rate, cfg.buffer), rand: rand.New(rand.NewPCG(cfg.seed, 1))}
	l.flow = l.sim.Add(linksim.FlowConfig{
		Controller: l.bbr, RTT: cfg.rtt, MSS: mss, Seed: cfg.seed,
		Drop:    func(uint64) bool { return l.loss > 0 && l.rand.Float64() < l.loss },
		Offered: l.offered,
		OnAck: func(ev *congestion.AckEvent) {
			if n := len(l.entered); n == 0 || l.entered[n-1] != l.state {
				l.entered = append(l.entered, l.state)
				if l.onEnter != nil {
					l.onEnter(l.state)
				}
			}
			if l.onAck != nil {
				l.onAck(ev)
			}
		},
	})
	return l
}

func (l *lab) offered(now congestion.Time) (total uint64, next congestion.Time) {
	switch {
	case l.paused:
		return l.appBase, 0
	case l.appRate == 0:
		return 1 << 60, 0
	}
	gap := congestion.Time(uint64(mss) * uint64(time.Second) / l.appRate)
	n := (now - l.appFrom) / gap
	return l.appBase + uint64(n)*mss, l.appFrom + (n+1)*gap
}

// limitApp makes the application write at a rate from now on, 0 for without limit.
func (l *lab) limitApp(rate uint64) {
	l.appRate, l.appFrom, l.appBase, l.paused = rate, l.sim.Now(), l.flow.Written(), false
	l.flow.Poke()
}

func (l *lab) pauseApp() { l.appBase, l.paused = l.flow.Written(), true }

// until runs the simulation to the ACK after which cond holds.
func (l *lab) until(what string, limit time.Duration, cond func() bool) {
	l.t.Helper()
	for end := l.sim.Now() + limit; !cond(); l.sim.Run(l.sim.Now() + 100*time.Microsecond) {
		if l.sim.Now() > end {
			l.t.Fatalf("%v: no %s within %v; state %v, states so far %v", l.sim.Now(), what, limit, l.state, l.entered)
		}
	}
}

func (l *lab) untilState(s state) {
	l.t.Helper()
	l.until(s.String(), 30*time.Second, func() bool { return l.state == s })
}

// nextState runs until the state changes and returns the new one.
func (l *lab) nextState() state {
	l.t.Helper()
	s := l.state
	l.until("change of state", 30*time.Second, func() bool { return l.state != s })
	return l.state
}

func (l *lab) run(d time.Duration) { l.sim.Run(l.sim.Now() + d) }

// goodput returns what part of rate the flow delivers in the next d.
func (l *lab) goodput(d time.Duration, rate uint64) float64 {
	before := l.flow.Delivered
	l.run(d)
	return float64(l.flow.Delivered-before) / (float64(rate) * d.Seconds())
}

func (l *lab) expect(what string, ok bool) {
	l.t.Helper()
	if !ok {
		l.t.Errorf("%v, %v: not so: %s", l.sim.Now(), l.state, what)
	}
}

func near(got, want uint64, tolerance float64) bool {
	d := float64(got)/float64(want) - 1
	return d <= tolerance && d >= -tolerance
}
