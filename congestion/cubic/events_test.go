package cubic_test

import (
	"math"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
)

// connection drives a controller by hand.
type connection struct {
	congestion.Controller
	now       congestion.Time
	delivered uint64
}

func open(cfg congestion.Config) *connection {
	conn := &connection{Controller: cubic.New()}
	if cfg.MSS == 0 {
		cfg.MSS = mss
	}
	conn.Init(cfg)
	return conn
}

func (x *connection) cwnd() uint64     { return x.Control().Cwnd }
func (x *connection) ssthresh() uint64 { return x.Control().Ssthresh }

func (x *connection) ack(n uint64, edit ...func(*congestion.AckEvent)) {
	x.delivered += n
	ev := congestion.AckEvent{
		Now: x.now, Acked: n, CumAcked: n, Delivered: x.delivered, CwndLimited: true, PriorInFlight: x.cwnd(), InFlight: x.cwnd() - min(n, x.cwnd()), SRTT: rtt,
	}
	for _, e := range edit {
		e(&ev)
	}
	x.OnAck(&ev)
}

// run acknowledges a window's worth of segments each round trip for the time d.
func (x *connection) run(d time.Duration, edit ...func(*congestion.AckEvent)) {
	for end := x.now + d; x.now < end; {
		x.now += time.Duration(float64(rtt) * mss / float64(x.cwnd()))
		x.ack(mss, edit...)
	}
}

func (x *connection) signal(s congestion.Signal, flight uint64) {
	x.OnSignal(&congestion.SignalEvent{Now: x.now, Signal: s, PriorInFlight: flight})
}

func (x *connection) expect(t *testing.T, what string, cwnd, ssthresh uint64) {
	t.Helper()
	if x.cwnd() != cwnd || x.ssthresh() != ssthresh {
		t.Errorf("%s: cwnd %d, ssthresh %d, want %d and %d", what, x.cwnd(), x.ssthresh(), cwnd, ssthresh)
	}
}

func (x *connection) expectValue(t *testing.T, name string, want float64) {
	t.Helper()
	if got := value(x, name); math.Abs(got-want) > 1e-3 {
		t.Errorf("%s = %.4f, want %.4f", name, got, want)
	}
}

func inLoss(ev *congestion.AckEvent)     { ev.InLoss = true }
func appLimited(ev *congestion.AckEvent) { ev.CwndLimited, ev.PriorInFlight = false, mss }

func TestSignals(t *testing.T) {
	const unlimited = congestion.MaxWindow
	for _, x := range []struct {
		name           string
		iw, ssthresh   uint64
		signal         congestion.Signal
		flight         uint64
		cwnd, wantSsth uint64
	}{
		{"fast recovery leaves 0.7 of the flight (§4.6)", 20 * mss, 20 * mss, congestion.FastRecovery, 20 * mss, 14 * mss, 14 * mss},
		{"of the flight, not of an unused window", 20 * mss, 20 * mss, congestion.FastRecovery, 10 * mss, 7 * mss, 7 * mss},
		{"no less than two segments after loss", 2 * mss, 2 * mss, congestion.FastRecovery, 2 * mss, 2 * mss, 2 * mss},
		{"a probe's repair counts as fast recovery (RFC 8985 §7.4)", 20 * mss, 20 * mss, congestion.TLP, 20 * mss, 14 * mss, 14 * mss},
		{"a timeout leaves one segment and 0.7 in ssthresh (§4.8)", 20 * mss, unlimited, congestion.RTO, 20 * mss, mss, 14 * mss},
		{"a second timeout leaves ssthresh (RFC 5681 §3.1)", 20 * mss, 14 * mss, congestion.PersistentCongestion, mss, mss, 14 * mss},
		{"a mark leaves 0.85 (RFC 8511 §3.1)", 20 * mss, 20 * mss, congestion.ClassicECN, 20 * mss, 17 * mss, 17 * mss},
		{"a mark in slow start leaves 0.7", 20 * mss, unlimited, congestion.ClassicECN, 20 * mss, 14 * mss, 14 * mss},
		{"a mark may leave one segment (§4.6)", mss, unlimited, congestion.ClassicECN, mss, mss, 2 * mss},
	} {
		t.Run(x.name, func(t *testing.T) {
			conn := open(congestion.Config{InitialWindow: x.iw, Ssthresh: x.ssthresh})
			conn.signal(x.signal, x.flight)
			conn.expect(t, "after the signal", x.cwnd, x.wantSsth)
		})
	}
}

// TestFastConvergence checks §4.7: a flow that loses before it is back at W_max gives room to others.
func TestFastConvergence(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 100 * mss, Ssthresh: 100 * mss})
	conn.signal(congestion.FastRecovery, 100*mss)
	conn.expectValue(t, "W_max", 100)
	conn.OnRecoveryExit(conn.now, 0)
	conn.signal(congestion.FastRecovery, 70*mss)
	conn.expectValue(t, "W_max", 70*(1+beta)/2)
	conn.expectValue(t, "cwnd_prior", 70)
	conn.OnRecoveryExit(conn.now, 0)
	conn.ack(mss)
	conn.expectValue(t, "K", math.Cbrt((59.5-49)/c))
}

// TestTargetCap checks §4.2: the window grows by no more than half in a round trip, however far the curve is ahead.
func TestTargetCap(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: 10 * mss})
	conn.ack(mss) // starts the stage
	conn.now += 60 * time.Second
	before := conn.cwnd()
	for range 10 {
		conn.ack(mss)
	}
	if got := float64(conn.cwnd()) / float64(before); got > math.Pow(1.05, 10)+1e-3 || got < 1.4 {
		t.Errorf("a round trip grew the window %.3f times, want half as much again, in ten steps of half a segment in ten", got)
	}
}

// TestRenoFriendly checks §4.3 at a short round-trip time: growth by α a round trip up to cwnd_prior, and by one segment after it.
func TestRenoFriendly(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 20 * mss, Ssthresh: 20 * mss})
	conn.signal(congestion.FastRecovery, 20*mss)
	conn.OnRecoveryExit(conn.now, 0)
	const short = 2 * time.Millisecond
	prev := 14.0
	for n := range 30 {
		for range int(prev + 0.5) {
			conn.now += time.Duration(float64(short) / prev)
			conn.ack(mss, func(ev *congestion.AckEvent) { ev.SRTT = short })
		}
		w := value(conn, "W_est")
		want := 3 * (1 - beta) / (1 + beta)
		if prev >= 20 {
			want = 1
		}
		if crossing := prev < 20 && w >= 20; !crossing && math.Abs(w-prev-want) > 0.05 {
			t.Fatalf("round %d: W_est grew from %.2f by %.3f, want %.3f", n, prev, w-prev, want)
		}
		if cwnd := float64(conn.cwnd()) / mss; math.Abs(cwnd-w) > 0.01 {
			t.Fatalf("round %d: cwnd is %.3f, W_est %.3f", n, cwnd, w)
		}
		prev = w
	}
}

// TestFractions checks that growth of a fraction of a byte an ACK adds up: one segment a round trip at a window of 5000.
func TestFractions(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 5000 * mss, Ssthresh: 5000 * mss})
	conn.run(200 * time.Millisecond)
	if got := float64(conn.cwnd()) / mss; math.Abs(got-5002) > 0.01 {
		t.Errorf("cwnd after two round trips is %.4f segments, want 5002", got)
	}
}

// TestAppLimitedTimeDoesNotCount checks §4.2 and §5.8: after a minute in which the window was not used the curve goes on where it stopped.
func TestAppLimitedTimeDoesNotCount(t *testing.T) {
	for _, how := range []string{"ACKs of a slow application", "silence"} {
		conn := open(congestion.Config{InitialWindow: 100 * mss, Ssthresh: 100 * mss, RestartWindow: 1000 * mss})
		conn.signal(congestion.FastRecovery, 100*mss)
		conn.OnRecoveryExit(conn.now, 0)
		conn.run(2 * time.Second)
		before := conn.cwnd()
		if how == "silence" {
			conn.now += time.Minute
			conn.OnIdleRestart(conn.now, time.Minute)
		} else {
			for range 60 {
				conn.ack(mss, appLimited)
				conn.now += time.Second
			}
		}
		if conn.cwnd() != before {
			t.Errorf("%s: cwnd went from %d to %d", how, before, conn.cwnd())
		}
		conn.run(time.Second)
		k := math.Cbrt(30 / c)
		if got, want := float64(conn.cwnd())/mss, c*math.Pow(3-k, 3)+100; math.Abs(got-want) > 1 {
			t.Errorf("%s: a second later cwnd is %.2f, three seconds into the curve are %.2f", how, got, want)
		}
	}
}

// TestIdleDoesNotExplode is the case of a minute of silence at a small window: one ACK must not add thousands of segments.
func TestIdleDoesNotExplode(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: 10 * mss})
	conn.run(time.Second)
	before := conn.cwnd()
	conn.now += time.Minute
	conn.OnIdleRestart(conn.now, time.Minute)
	conn.ack(mss)
	if got := conn.cwnd(); got > before+2*mss {
		t.Errorf("cwnd went from %d to %d", before, got)
	}
}

// TestAfterTimeout checks §4.8: slow start with one segment an ACK up to ssthresh, then a curve that starts at its plateau.
func TestAfterTimeout(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 100 * mss, Ssthresh: 100 * mss})
	conn.signal(congestion.RTO, 100*mss)
	conn.expect(t, "after the timeout", mss, 70*mss)
	conn.ack(50*mss, inLoss)
	conn.expect(t, "a large cumulative ACK", 2*mss, 70*mss)
	conn.OnRecoveryExit(conn.now, 0)
	for conn.cwnd() < 70*mss {
		conn.ack(mss)
	}
	conn.ack(mss)
	conn.expectValue(t, "W_max", 70)
	conn.expectValue(t, "K", 0)
}

func TestSpurious(t *testing.T) {
	for _, s := range []congestion.Signal{congestion.FastRecovery, congestion.RTO, congestion.TLP, congestion.ClassicECN} {
		conn := open(congestion.Config{InitialWindow: 100 * mss, Ssthresh: 100 * mss})
		conn.signal(congestion.FastRecovery, 100*mss)
		conn.OnRecoveryExit(conn.now, 0)
		conn.run(time.Second)
		cwnd, ssthresh := conn.cwnd(), conn.ssthresh()
		k, west := value(conn, "K"), value(conn, "W_est")
		conn.signal(s, cwnd)
		conn.OnSpurious(conn.now, s, cwnd/2)
		// A mark's ssthresh may be above the one before: either way the window is not below it.
		if conn.cwnd() != cwnd || conn.ssthresh() < ssthresh || conn.ssthresh() > cwnd {
			t.Errorf("restored to cwnd %d, ssthresh %d, want %d and %d", conn.cwnd(), conn.ssthresh(), cwnd, ssthresh)
		}
		conn.expectValue(t, "K", k)
		conn.expectValue(t, "W_est", west)
		conn.expectValue(t, "W_max", 100)
		conn.run(2 * time.Second)
		if got, want := float64(conn.cwnd())/mss, c*math.Pow(3-k, 3)+100; math.Abs(got-want) > 1 {
			t.Errorf("%d: two seconds later cwnd is %.2f, the curve %.2f", s, got, want)
		}
	}
}

// TestSpuriousTooLate checks the end of §4.9.2: a window that has outgrown the one before the episode keeps its curve.
func TestSpuriousTooLate(t *testing.T) {
	conn := open(congestion.Config{InitialWindow: 100 * mss, Ssthresh: 100 * mss})
	conn.signal(congestion.FastRecovery, 100*mss)
	conn.OnRecoveryExit(conn.now, 0)
	for conn.cwnd() < 110*mss {
		conn.run(rtt)
	}
	cwnd, k := conn.cwnd(), value(conn, "K")
	conn.OnSpurious(conn.now, congestion.FastRecovery, cwnd)
	if conn.cwnd() != cwnd {
		t.Errorf("cwnd went from %d to %d", cwnd, conn.cwnd())
	}
	conn.expectValue(t, "K", k)
}

func TestMSSScalesTheCurve(t *testing.T) {
	conn := open(congestion.Config{MSS: 1000, InitialWindow: 100 * mss, Ssthresh: 100 * mss})
	conn.signal(congestion.FastRecovery, 100*mss)
	conn.OnRecoveryExit(conn.now, 0)
	conn.run(time.Second)
	before := float64(conn.cwnd()) / 1000
	conn.OnMSS(conn.now, 500)
	if got := float64(conn.cwnd()) / 500; math.Abs(got-before) > 0.01 {
		t.Errorf("%.2f segments became %.2f", before, got)
	}
	conn.expectValue(t, "W_max", 100)
	conn.OnMSS(conn.now, 0)
	conn.ack(1)
}

// hystartConn is in its initial slow start; round acknowledges one window with the given round-trip times.
func hystartRound(conn *connection, rtts ...time.Duration) {
	w := conn.cwnd()
	segments := w / mss
	for i := range segments {
		r := rtts[min(int(i), len(rtts)-1)]
		left := w - (i+1)*mss
		conn.ack(mss, func(ev *congestion.AckEvent) { ev.RTT, ev.InFlight = r, left+2*i*mss })
	}
}

func state(conn *connection) string {
	var s congestion.Snapshot
	conn.Snapshot(&s)
	return s.State
}

// TestHyStartRounds walks through RFC 9406 §4.2.
func TestHyStartRounds(t *testing.T) {
	const base = 80 * time.Millisecond // threshold: an eighth, 10 ms
	t.Run("a rise slows growth to a quarter, and after five rounds ends slow start", func(t *testing.T) {
		conn := open(congestion.Config{InitialWindow: 16 * mss})
		for range 3 {
			hystartRound(conn, base)
		}
		for range 10 {
			before := conn.cwnd()
			hystartRound(conn, base+10*time.Millisecond)
			if conn.ssthresh() != congestion.MaxWindow {
				break
			}
			if got := float64(conn.cwnd()) / float64(before); state(conn) == "conservative-slow-start" && got < 1.2 {
				t.Errorf("a conservative round grew %.2f times", got)
			}
		}
		if conn.ssthresh() == congestion.MaxWindow {
			t.Fatal("slow start did not end")
		}
	})
	t.Run("a rise that passes lets slow start go on", func(t *testing.T) {
		conn := open(congestion.Config{InitialWindow: 16 * mss})
		for range 3 {
			hystartRound(conn, base)
		}
		hystartRound(conn, base+15*time.Millisecond)
		hystartRound(conn, base+15*time.Millisecond)
		if s := state(conn); s != "conservative-slow-start" {
			t.Fatalf("state %q after the rise", s)
		}
		hystartRound(conn, base)
		hystartRound(conn, base)
		if s := state(conn); s != "slow-start" {
			t.Errorf("state %q after the fall", s)
		}
	})
	t.Run("less than the threshold is no rise", func(t *testing.T) {
		conn := open(congestion.Config{InitialWindow: 16 * mss})
		for i := range 6 {
			hystartRound(conn, base+time.Duration(i)*9*time.Millisecond)
		}
		if s := state(conn); s != "slow-start" {
			t.Errorf("state %q", s)
		}
	})
	t.Run("only the initial slow start", func(t *testing.T) {
		conn := open(congestion.Config{InitialWindow: 100 * mss})
		conn.signal(congestion.RTO, 100*mss)
		conn.OnRecoveryExit(conn.now, 0)
		for i := range 5 {
			hystartRound(conn, base*time.Duration(i+1))
		}
		if s := state(conn); s != "slow-start" {
			t.Errorf("state %q", s)
		}
	})
}

// TestEchoStopsGrowth checks RFC 3168 §6.1.2: no growth on an ACK with an ECN-Echo, in slow start and after it.
func TestEchoStopsGrowth(t *testing.T) {
	for _, ssthresh := range []uint64{congestion.MaxWindow, 10 * mss} {
		conn := open(congestion.Config{InitialWindow: 10 * mss, Ssthresh: ssthresh})
		for range 30 {
			conn.ack(mss, func(ev *congestion.AckEvent) { ev.ECE = true })
		}
		conn.expect(t, "after 30 echoes", 10*mss, ssthresh)
	}
}
