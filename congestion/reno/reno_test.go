package reno_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
	"github.com/plumbline/plumbline/congestion/reno"
)

const mss = 1000

// TestSlowStartDoubles checks IW·2ⁿ, exactly, with an ACK for each segment and with delayed ACKs, which byte counting makes up for (RFC 3465, L=2).
func TestSlowStartDoubles(t *testing.T) {
	for _, ackEvery := range []int{1, 2} {
		t.Run(fmt.Sprintf("ACK every %d", ackEvery), func(t *testing.T) {
			sim := linksim.New(0, 0)
			flow := sim.Add(linksim.FlowConfig{Controller: reno.New(), RTT: 100 * time.Millisecond, MSS: mss, AckEvery: ackEvery})
			for n := range 11 {
				sim.Run(time.Duration(n) * 100 * time.Millisecond)
				if got, want := flow.Cwnd(), uint64(10*mss)<<n; got != want {
					t.Fatalf("cwnd after %d round trips: %d, want %d", n, got, want)
				}
			}
		})
	}
}

// TestCongestionAvoidanceAddsOneSegment checks that each round trip adds exactly one segment.
func TestCongestionAvoidanceAddsOneSegment(t *testing.T) {
	sim := linksim.New(0, 0)
	flow := sim.Add(linksim.FlowConfig{
		Controller: reno.New(), RTT: 100 * time.Millisecond, MSS: mss, InitialWindow: 10 * mss, Ssthresh: 10 * mss,
	})
	for n := range 50 {
		sim.Run(time.Duration(n) * 100 * time.Millisecond)
		if got, want := flow.Cwnd(), uint64(10+n)*mss; got != want {
			t.Fatalf("cwnd after %d round trips: %d, want %d", n, got, want)
		}
	}
}

// TestResponseFunction checks Mathis' W = √(1.5/p) under periodic loss. Its limit of small p leaves out that the round trip of recovery adds no segment, which
// matters where a cycle has eight of them: with it, a cycle from W/2 to W has 3/8·W² + 5/4·W segments in W/2 + 2 round trips.
func TestResponseFunction(t *testing.T) {
	mathis := func(p float64) float64 { return math.Sqrt(1.5 / p) }
	cycle := func(p float64) float64 {
		w := (-1.25 + math.Sqrt(1.25*1.25+1.5/p)) / 0.75
		return 1 / p / (w/2 + 2)
	}
	for _, c := range []struct{ p, want, tolerance float64 }{
		{1e-4, mathis(1e-4), 0.05}, {1e-3, mathis(1e-3), 0.05}, {1e-2, cycle(1e-2), 0.08},
	} {
		t.Run(fmt.Sprint("p=", c.p), func(t *testing.T) {
			period := uint64(math.Round(1 / c.p))
			w := meanWindow(t, c.p, func(n uint64) bool { return n%period == period-1 }, 40)
			t.Logf("W = %.1f, closed form %.1f", w, c.want)
			if math.Abs(w/c.want-1) > c.tolerance {
				t.Errorf("mean window %.1f segments, want %.1f ±%v", w, c.want, c.tolerance)
			}
		})
	}
}

// meanWindow returns the mean number of segments in flight, losses losses long, after a tenth of them for warming up.
func meanWindow(t *testing.T, p float64, drop func(uint64) bool, losses float64) float64 {
	t.Helper()
	const rtt = 100 * time.Millisecond
	sim := linksim.New(0, 0)
	start := math.Sqrt(1.5 / p)
	flow := sim.Add(linksim.FlowConfig{
		Controller: reno.New(), RTT: rtt, MSS: mss, Drop: drop,
		InitialWindow: uint64(start) * mss, Ssthresh: uint64(start) * mss,
	})
	round := func(packets float64) time.Duration { return time.Duration(packets / start * float64(rtt)) }
	warm := round(losses / 10 / p)
	sim.Run(warm)
	before := flow.Delivered
	sim.Run(warm + round(losses/p))
	if flow.RTOs != 0 {
		t.Errorf("%d timeouts", flow.RTOs)
	}
	return float64(flow.Delivered-before) / mss / (float64(round(losses/p)) / float64(rtt))
}

// TestUtilisation checks the closed form of AIMD on a link with a buffer of b·BDP.
func TestUtilisation(t *testing.T) {
	for _, c := range []struct{ b, want float64 }{{0, 0.75}, {0.5, 0.964}, {1, 1}} {
		t.Run(fmt.Sprint("b=", c.b), func(t *testing.T) {
			const rtt = 100 * time.Millisecond
			const bdp = 200 * mss
			sim := linksim.New(bdp*10, uint64(c.b*bdp)+2*mss)
			flow := sim.Add(linksim.FlowConfig{Controller: reno.New(), RTT: rtt, MSS: mss, InitialWindow: bdp / 2, Ssthresh: bdp / 2})
			sim.Run(30 * time.Second)
			before := sim.Link.Delivered()
			sim.Run(330 * time.Second)
			u := float64(sim.Link.Delivered()-before) / (300 * bdp * 10)
			t.Logf("utilisation %.3f, closed form %.3f", u, c.want)
			if math.Abs(u-c.want) > 0.02 {
				t.Errorf("utilisation %.3f, want %.3f ±0.02", u, c.want)
			}
			if flow.RTOs != 0 {
				t.Errorf("%d timeouts", flow.RTOs)
			}
		})
	}
}

// TestFairness checks that two flows whose windows differ tenfold share the link within three loss epochs.
func TestFairness(t *testing.T) {
	const rtt = 100 * time.Millisecond
	const bdp = 200 * mss
	sim := linksim.New(bdp*10, bdp)
	var flows []*linksim.Flow
	for i, w := range []uint64{180 * mss, 18 * mss} {
		flows = append(flows, sim.Add(linksim.FlowConfig{
			Controller: reno.New(), RTT: rtt, MSS: mss, InitialWindow: w, Ssthresh: w, Start: time.Duration(i) * 7 * time.Millisecond,
		}))
	}
	epoch := func() (least int) { return min(flows[0].Recoveries, flows[1].Recoveries) }
	for epoch() < 4 && sim.Now() < 1000*time.Second {
		sim.Run(sim.Now() + rtt)
	}
	a, b := float64(flows[0].Cwnd()), float64(flows[1].Cwnd())
	jain := (a + b) * (a + b) / (2 * (a*a + b*b))
	t.Logf("after %v: %.0f and %.0f segments, Jain %.3f", sim.Now(), a/mss, b/mss, jain)
	if jain < 0.95 {
		t.Errorf("Jain %.3f after %d epochs, want at least 0.95", jain, epoch())
	}
}

// connection drives a controller by hand.
type connection struct {
	congestion.Controller
	now congestion.Time
}

func open(cfg congestion.Config) *connection {
	c := &connection{Controller: reno.New()}
	if cfg.MSS == 0 {
		cfg.MSS = mss
	}
	c.Init(cfg)
	return c
}

func (c *connection) cwnd() uint64     { return c.Control().Cwnd }
func (c *connection) ssthresh() uint64 { return c.Control().Ssthresh }

func (c *connection) ack(n uint64, edit ...func(*congestion.AckEvent)) {
	ev := congestion.AckEvent{Now: c.now, Acked: n, CumAcked: n, CwndLimited: true, PriorInFlight: c.cwnd()}
	for _, e := range edit {
		e(&ev)
	}
	c.OnAck(&ev)
}

func (c *connection) signal(s congestion.Signal, flight uint64) {
	c.OnSignal(&congestion.SignalEvent{Now: c.now, Signal: s, PriorInFlight: flight})
}

func inLoss(ev *congestion.AckEvent)     { ev.InLoss = true }
func inRecovery(ev *congestion.AckEvent) { ev.InRecovery = true }
func appLimited(ev *congestion.AckEvent) { ev.CwndLimited, ev.PriorInFlight = false, mss }

func (c *connection) expect(t *testing.T, what string, cwnd, ssthresh uint64) {
	t.Helper()
	if c.cwnd() != cwnd || c.ssthresh() != ssthresh {
		t.Errorf("%s: cwnd %d, ssthresh %d, want %d and %d", what, c.cwnd(), c.ssthresh(), cwnd, ssthresh)
	}
}

func TestSignals(t *testing.T) {
	const unlimited = congestion.MaxWindow
	for _, c := range []struct {
		name           string
		iw, ssthresh   uint64
		signal         congestion.Signal
		flight         uint64
		cwnd, wantSsth uint64
	}{
		{"fast recovery halves the flight (RFC 5681 eq. 4)", 20 * mss, 20 * mss, congestion.FastRecovery, 20 * mss, 10 * mss, 10 * mss},
		{"the flight counts, not an unused window", 20 * mss, 20 * mss, congestion.FastRecovery, 8 * mss, 4 * mss, 4 * mss},
		{"limited transmit does not count (RFC 5681 §3.2)", 20 * mss, 20 * mss, congestion.FastRecovery, 22 * mss, 10 * mss, 10 * mss},
		{"no less than two segments", 3 * mss, 3 * mss, congestion.FastRecovery, 3 * mss, 2 * mss, 2 * mss},
		{"a probe's repair counts as fast recovery (RFC 8985 §7.4)", 20 * mss, 20 * mss, congestion.TLP, 20 * mss, 10 * mss, 10 * mss},
		{"a timeout leaves one segment", 20 * mss, unlimited, congestion.RTO, 20 * mss, mss, 10 * mss},
		{"a second timeout leaves ssthresh (RFC 5681 §3.1)", 20 * mss, 14 * mss, congestion.PersistentCongestion, mss, mss, 14 * mss},
		{"a mark in congestion avoidance takes a fifth (RFC 8511)", 20 * mss, 20 * mss, congestion.ClassicECN, 20 * mss, 16 * mss, 16 * mss},
		{"a mark in slow start takes half (RFC 3168 §6.1.2)", 20 * mss, unlimited, congestion.ClassicECN, 20 * mss, 10 * mss, 10 * mss},
		{"a mark may leave one segment (RFC 3168 §6.1.2)", 2 * mss, unlimited, congestion.ClassicECN, 2 * mss, mss, 2 * mss},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := open(congestion.Config{InitialWindow: c.iw, Ssthresh: c.ssthresh})
			conn.signal(c.signal, c.flight)
			conn.expect(t, "after the signal", c.cwnd, c.wantSsth)
		})
	}
}

func TestRecoveryLeavesTheWindowAlone(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 20 * mss})
	c.signal(congestion.FastRecovery, 20*mss)
	for range 30 {
		c.ack(mss, inRecovery)
	}
	c.expect(t, "in recovery", 10*mss, 10*mss)
	c.OnRecoveryExit(c.now, 9*mss)
	c.expect(t, "after it", 10*mss, 10*mss)
	for range 10 {
		c.ack(mss)
	}
	c.expect(t, "a round trip later", 11*mss, 10*mss)
}

// TestSlowStartAfterTimeout checks L=1 (RFC 3465 §2.3): a cumulative ACK may cover what arrived before the timeout.
func TestSlowStartAfterTimeout(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 20 * mss})
	c.signal(congestion.RTO, 20*mss)
	c.ack(12*mss, inLoss)
	c.expect(t, "after a large cumulative ACK", 2*mss, 10*mss)
	c.OnRecoveryExit(c.now, 0)
	c.expect(t, "after recovery", 2*mss, 10*mss)
	for range 8 {
		c.ack(2 * mss)
	}
	c.expect(t, "at ssthresh", 10*mss, 10*mss)
	c.signal(congestion.RTO, 10*mss)
	c.signal(congestion.PersistentCongestion, mss)
	c.expect(t, "after two timeouts", mss, 5*mss)
}

func TestSlowStartStopsAtSsthresh(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: 11*mss + 500})
	c.ack(2 * mss)
	c.expect(t, "the ACK that crosses it", 11*mss+500, 11*mss+500)
}

func TestUnusedWindowDoesNotGrow(t *testing.T) {
	for _, ssthresh := range []uint64{congestion.MaxWindow, 10 * mss} {
		c := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: ssthresh})
		for range 2000 {
			c.now += 100 * time.Millisecond
			c.ack(mss, appLimited)
		}
		c.expect(t, "after 2000 exchanges of one segment", 10*mss, ssthresh)
	}
}

// TestUnusedWindowDecays checks RFC 7661 §4.4.2: after five minutes the window is halved, no further than to the restart window, and ssthresh remembers.
func TestUnusedWindowDecays(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 64 * mss, RestartWindow: 10 * mss, Ssthresh: 20 * mss})
	want := []uint64{64, 32, 16, 10, 10}
	for i, w := range want {
		if got := c.cwnd(); got != w*mss {
			t.Errorf("cwnd after %d periods: %d, want %d", i, got, w*mss)
		}
		for range 310 {
			c.now += time.Second
			c.ack(mss, appLimited)
		}
	}
	if got := c.ssthresh(); got != 48*mss {
		t.Errorf("ssthresh %d, want three quarters of the largest window", got)
	}
}

func TestIdleRestart(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: 40 * mss})
	for range 30 {
		c.ack(mss)
	}
	c.expect(t, "before", 40*mss, 40*mss)
	c.OnIdleRestart(c.now, time.Minute)
	c.expect(t, "after", 10*mss, 40*mss)
	c.signal(congestion.FastRecovery, 4*mss)
	c.OnRecoveryExit(c.now, 0)
	c.OnIdleRestart(c.now, time.Minute)
	c.expect(t, "a window below the restart window stays", 2*mss, 2*mss)
}

func TestSpurious(t *testing.T) {
	for _, s := range []congestion.Signal{congestion.FastRecovery, congestion.RTO, congestion.TLP, congestion.ClassicECN} {
		c := open(congestion.Config{InitialWindow: 20 * mss, Ssthresh: 20 * mss})
		for range 7 {
			c.ack(mss)
		}
		c.signal(s, 20*mss)
		c.OnSpurious(c.now, s, 10*mss)
		c.expect(t, "restored", 20*mss, 20*mss)
		for range 13 {
			c.ack(mss)
		}
		c.expect(t, "the fraction is restored as well", 21*mss, 20*mss)
		c.OnSpurious(c.now, s, 10*mss)
		c.expect(t, "a second time does nothing", 21*mss, 20*mss)
	}
}

// TestSpuriousTimeoutInRecovery checks that a timeout within fast recovery is undone on its own.
func TestSpuriousTimeoutInRecovery(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 40 * mss, Ssthresh: 40 * mss})
	c.signal(congestion.FastRecovery, 40*mss)
	c.signal(congestion.RTO, 20*mss)
	c.signal(congestion.PersistentCongestion, mss)
	c.expect(t, "at the bottom", mss, 10*mss)
	c.OnSpurious(c.now, congestion.RTO, 20*mss)
	c.expect(t, "the timeout undone", 20*mss, 20*mss)
	c.OnSpurious(c.now, congestion.FastRecovery, 20*mss)
	c.expect(t, "all undone", 40*mss, 40*mss)
}

func TestMSS(t *testing.T) {
	c := open(congestion.Config{MSS: 1460, InitialWindow: 14600})
	c.OnMSS(c.now, 536)
	c.expect(t, "a smaller MSS keeps the segments", 5360, congestion.MaxWindow)
	c.OnMSS(c.now, 1460)
	c.expect(t, "a larger one the bytes", 5360, congestion.MaxWindow)
	c.OnMSS(c.now, 9000)
	c.expect(t, "but one segment at least", 9000, congestion.MaxWindow)
}

func TestSnapshotNamesTheState(t *testing.T) {
	c := open(congestion.Config{InitialWindow: 10 * mss})
	var s congestion.Snapshot
	for _, step := range []struct {
		want string
		do   func()
	}{
		{"slow-start", func() {}},
		{"recovery", func() { c.signal(congestion.FastRecovery, 10*mss) }},
		{"congestion-avoidance", func() { c.OnRecoveryExit(c.now, 0) }},
		{"loss", func() { c.signal(congestion.RTO, 5*mss) }},
	} {
		step.do()
		if c.Snapshot(&s); s.State != step.want || s.Algorithm != reno.Name {
			t.Errorf("state %q of %q, want %q", s.State, s.Algorithm, step.want)
		}
	}
}

// TestEchoStopsGrowth checks RFC 3168 §6.1.2: no growth on an ACK with an ECN-Echo, in slow start and after it.
func TestEchoStopsGrowth(t *testing.T) {
	for _, ssthresh := range []uint64{congestion.MaxWindow, 10 * mss} {
		c := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: ssthresh})
		for range 30 {
			c.ack(mss, func(ev *congestion.AckEvent) { ev.ECE = true })
		}
		c.expect(t, "after 30 echoes", 10*mss, ssthresh)
	}
}
