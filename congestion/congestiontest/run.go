package congestiontest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
)

// Run tests that the controllers that factory returns satisfy the contract. It takes a few seconds; with -short it takes less.
func Run(t *testing.T, factory func() congestion.Controller) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(*testing.T, func() congestion.Controller)
	}{
		{"Init", testInit},
		{"NoAllocations", testAllocations},
		{"Grows", testGrows},
		{"UnusedWindow", testUnusedWindow},
		{"Signals", testSignals},
		{"Undo", testUndo},
		{"IdleRestart", testIdleRestart},
		{"Time", testTime},
		{"Deterministic", testDeterministic},
		{"Snapshot", testSnapshot},
		{"RandomEvents", testRandomEvents},
		{"Link", testLink},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, factory) })
	}
}

// Fuzz makes f search for a sequence of events that breaks an invariant of the controllers that factory returns.
func Fuzz(f *testing.F, factory func() congestion.Controller) {
	f.Helper()
	f.Add([]byte{15, 7, 6, 3, 15, 2, 10, 0, 11, 0, 15, 7})
	f.Add([]byte{2, 0, 7, 50, 9, 0, 9, 0, 3, 0, 10, 0, 11, 0, 12, 200, 15, 3})
	f.Add([]byte{13, 0, 15, 7, 13, 6, 15, 7, 14, 1, 14, 0, 13, 2, 3, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		x := newTransport(factory(), 0)
		if err := x.run(data[:min(len(data), 256)]); err != nil {
			t.Fatal(err)
		}
	})
}

// testInit checks the state before the first event, that the configuration is obeyed, and that Init forgets an earlier connection.
func testInit(t *testing.T, factory func() congestion.Controller) {
	for _, cfg := range []congestion.Config{
		{MSS: 1000, InitialWindow: 10_000},
		{MSS: 1448, InitialWindow: 14_480, SRTT: baseRTT},
		{MSS: 65535, InitialWindow: 65535},
		{MSS: 536, InitialWindow: 1 << 40, Ssthresh: 1 << 30}, // a live connection with a large window
		{MSS: 1000, InitialWindow: 1},
		{MSS: 1, InitialWindow: congestion.MaxWindow},
	} {
		cfg.Rand = rand.New(rand.NewPCG(1, 1))
		c := factory()
		c.Init(cfg)
		if got, want := c.Control().Cwnd, max(cfg.InitialWindow, uint64(cfg.MSS)); got != want {
			t.Errorf("with %d bytes of initial window and an MSS of %d cwnd is %d", cfg.InitialWindow, cfg.MSS, got)
		}
	}
	fresh, used := factory(), factory()
	newTransport(used, 0).run([]byte{15, 7, 6, 3, 15, 2, 9, 0, 15, 7})
	a, b := newTransport(fresh, time.Second), newTransport(used, time.Second)
	a.keepTrace, b.keepTrace = true, true
	script := []byte{15, 7, 6, 3, 15, 7}
	if err := a.run(script); err != nil {
		t.Fatal(err)
	}
	if b.run(script); !slices.Equal(a.trace, b.trace) {
		t.Error("a controller that is initialised again behaves otherwise than a new one")
	}
}

func testAllocations(t *testing.T, factory func() congestion.Controller) {
	x := newTransport(factory(), 0)
	for range 8 {
		x.round(baseRTT)
	}
	p := congestion.PacketState{Size: x.mss, SentTime: x.now}
	loss := congestion.LossEvent{Now: x.now, Size: uint64(x.mss), Packet: &p, InFlight: x.bytes, TotalLost: 1000, Delivered: x.sampler.Delivered()}
	var control congestion.Control
	for name, f := range map[string]func(){
		"OnSent":  func() { x.OnSent(x.now, uint64(x.mss), x.bytes) },
		"OnLost":  func() { x.OnLost(&loss) },
		"OnAck":   func() { x.ack.Now += time.Millisecond; x.ack.Delivered += x.ack.Acked; x.OnAck(&x.ack) },
		"Control": func() { control = x.Control() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	_ = control
}

// testGrows checks that a window that is used grows while nothing is lost.
func testGrows(t *testing.T, factory func() congestion.Controller) {
	x := newTransport(factory(), 0)
	before := x.cwnd()
	for range 6 {
		x.round(baseRTT)
	}
	if x.err != nil {
		t.Fatal(x.err)
	}
	if got := x.cwnd(); got < 2*before {
		t.Errorf("six round trips without loss took cwnd from %d to %d", before, got)
	}
}

// testUnusedWindow checks that a window of which the application uses one segment proves nothing (RFC 7661).
func testUnusedWindow(t *testing.T, factory func() congestion.Controller) {
	x := newTransport(factory(), 0)
	before := x.cwnd()
	for range 2000 {
		x.send(1)
		x.now += baseRTT
		x.acknowledge(0, 1)
	}
	if x.err != nil {
		t.Fatal(x.err)
	}
	if got := x.cwnd(); got > 2*before {
		t.Errorf("2000 exchanges of one segment took cwnd from %d to %d", before, got)
	}
}

// testSignals checks that losses without end take the window down to a few segments and timeouts to one or two, without ever breaking its bounds.
func testSignals(t *testing.T, factory func() congestion.Controller) {
	x := newTransport(factory(), 0)
	for range 5 {
		x.round(baseRTT)
	}
	const rounds = 100 // algorithms that keep maxima forget them after ten or more
	for range rounds {
		x.fill()
		x.now += baseRTT
		x.acknowledge(len(x.flight)*2/3, 1)
		x.now += baseRTT
		x.acknowledge(0, len(x.flight))
		x.exitRecovery()
	}
	if got := x.cwnd(); got > 32*uint64(x.mss) {
		t.Errorf("cwnd is %d after %d round trips that lost two thirds", got, rounds)
	}
	for range 4 {
		x.fill()
		x.now += time.Second
		x.timeout()
	}
	if got := x.cwnd(); got > 4*uint64(x.mss) {
		t.Errorf("cwnd is %d after four timeouts in a row", got)
	}
	if x.err != nil {
		t.Error(x.err)
	}
}

// testUndo checks that an episode that proves spurious leaves no mark on the window.
func testUndo(t *testing.T, factory func() congestion.Controller) {
	for _, s := range []congestion.Signal{congestion.FastRecovery, congestion.RTO, congestion.TLP, congestion.ClassicECN} {
		for _, during := range []int{0, 1, 5} {
			x := newTransport(factory(), 0)
			for range 6 {
				x.round(baseRTT)
			}
			x.fill()
			x.now += baseRTT
			before := x.Control()
			x.inRecovery, x.inLoss = s == congestion.FastRecovery, s == congestion.RTO
			x.congested(s, x.bytes, 0)
			for range during {
				x.acknowledge(0, 1)
			}
			x.spurious()
			after := x.Control()
			if after.Cwnd < before.Cwnd || after.Ssthresh < min(before.Ssthresh, after.Cwnd) {
				t.Errorf("signal %d undone after %d ACKs: cwnd %d and ssthresh %d became %d and %d",
					s, during, before.Cwnd, before.Ssthresh, after.Cwnd, after.Ssthresh)
			}
			x.OnSpurious(x.now, s, x.bytes) // nothing left to undo
			x.check("a second OnSpurious")
			if x.err != nil {
				t.Error(x.err)
			}
		}
	}
	x := newTransport(factory(), 0)
	before := x.Control()
	x.OnSpurious(x.now, congestion.FastRecovery, 0)
	if x.Control() != before {
		t.Error("OnSpurious without an episode changed something")
	}
}

// testIdleRestart checks that silence gives no right to more, neither at its end nor at the first ACK after it.
func testIdleRestart(t *testing.T, factory func() congestion.Controller) {
	for _, d := range []time.Duration{time.Second, time.Minute, 24 * time.Hour} {
		x := newTransport(factory(), 0)
		for range 6 {
			x.round(baseRTT)
		}
		x.idle(d)
		x.round(baseRTT)
		x.idle(d)
		if x.err != nil {
			t.Errorf("after %v: %v", d, x.err)
		}
	}
}

// testTime checks that only differences of instants count, and that events of one instant do no harm.
func testTime(t *testing.T, factory func() congestion.Controller) {
	script := randomScript(rand.New(rand.NewPCG(5, 6)), 400)
	var traces [][]congestion.Control
	for _, origin := range []congestion.Time{0, 1, 1e9 + 7, 1e17} {
		x := newTransport(factory(), origin)
		x.keepTrace = true
		if err := x.run(script); err != nil {
			t.Fatal(err)
		}
		traces = append(traces, x.trace)
	}
	for _, trace := range traces[1:] {
		if !slices.Equal(trace, traces[0]) {
			t.Error("the same events at other instants have other results")
		}
	}
	x := newTransport(factory(), 0)
	for range 20 {
		x.fill()
		x.acknowledge(0, 3)
		x.acknowledge(1, 1)
		x.exitRecovery()
		x.spurious()
	}
	if x.err != nil {
		t.Error(x.err)
	}
}

func testDeterministic(t *testing.T, factory func() congestion.Controller) {
	for seed := range uint64(5) {
		script := randomScript(rand.New(rand.NewPCG(seed, 1)), 300)
		a, b := newTransport(factory(), 0), newTransport(factory(), 0)
		a.keepTrace, b.keepTrace = true, true
		if err := a.run(script); err != nil {
			t.Fatal(err)
		}
		if b.run(script); !slices.Equal(a.trace, b.trace) {
			t.Fatalf("seed %d: the same events have other results", seed)
		}
	}
}

func testSnapshot(t *testing.T, factory func() congestion.Controller) {
	x := newTransport(factory(), 0)
	var s congestion.Snapshot
	for i := range 200 {
		x.Snapshot(&s)
		c := x.Control()
		if s.Algorithm == "" || s.State == "" || s.Cwnd != c.Cwnd || s.Ssthresh != c.Ssthresh {
			t.Fatalf("step %d: the snapshot is %+v, the controls are %+v", i, s, c)
		}
		x.step(byte(i*7), i)
	}
}

func testRandomEvents(t *testing.T, factory func() congestion.Controller) {
	n := 300
	if testing.Short() {
		n = 30
	}
	for seed := range uint64(n) {
		script := randomScript(rand.New(rand.NewPCG(seed, 2)), 200)
		x := newTransport(factory(), congestion.Time(seed))
		if err := x.run(script); err != nil {
			t.Fatalf("seed %d, script %v: %v", seed, script, err)
		}
	}
}

func randomScript(r *rand.Rand, events int) []byte {
	script := make([]byte, 2*events)
	for i := range script {
		script[i] = byte(r.Uint32())
	}
	return script
}

// testLink runs the controller alone over links that any algorithm can use, and twice, to see the same.
func testLink(t *testing.T, factory func() congestion.Controller) {
	for _, link := range []struct {
		rate  uint64 // bytes per second
		rtt   time.Duration
		queue float64 // in BDP
		drop  float64
		least float64 // of the rate
	}{
		{1_250_000, 40 * time.Millisecond, 1, 0, 0.85},
		{1_250_000, 40 * time.Millisecond, 4, 0, 0.85},
		{125_000, 100 * time.Millisecond, 2, 0, 0.8},
		{12_500, 10 * time.Millisecond, 20, 0, 0.5}, // less than a packet of BDP
		{1_250_000, 40 * time.Millisecond, 1, 0.1, 0.01},
	} {
		t.Run(fmt.Sprintf("%d_byte/s,_%v,_%v_BDP,_loss_%v", link.rate, link.rtt, link.queue, link.drop), func(t *testing.T) {
			run := func() (delivered uint64) {
				bdp := float64(link.rate) * link.rtt.Seconds()
				sim := linksim.New(link.rate, uint64(link.queue*bdp)+2*defaultMSS)
				r := rand.New(rand.NewPCG(9, 9))
				flow := sim.Add(linksim.FlowConfig{
					Controller: factory(), RTT: link.rtt, MSS: defaultMSS, Seed: 3,
					Drop: func(uint64) bool { return r.Float64() < link.drop },
				})
				sim.Run(30 * time.Second)
				return flow.Delivered
			}
			delivered := run()
			if share := float64(delivered) / float64(30*link.rate); share < link.least {
				t.Errorf("the flow used %.3f of the link, want at least %.2f", share, link.least)
			}
			if again := run(); again != delivered {
				t.Errorf("%d bytes in one run, %d in another", delivered, again)
			}
		})
	}
}
