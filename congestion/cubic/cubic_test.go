package cubic_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
	"github.com/plumbline/plumbline/congestion/reno"
)

const (
	mss = 1000
	rtt = 100 * time.Millisecond
	// C and β of RFC 9438.
	c    = 0.4
	beta = 0.7
)

// TestCurve follows a window from its reduction to 1.3 K under an even ACK clock: never more than a segment off C(t-K)³+W_max, so that it is back at W_max at K.
func TestCurve(t *testing.T) {
	for _, x := range []struct {
		wMax uint64
		k    float64
	}{{833, 8.55}, {1666, 10.77}} {
		t.Run(fmt.Sprint("W_max=", x.wMax), func(t *testing.T) {
			conn := open(congestion.Config{InitialWindow: x.wMax * mss, Ssthresh: x.wMax * mss})
			conn.signal(congestion.FastRecovery, x.wMax*mss)
			conn.OnRecoveryExit(conn.now, 0)
			conn.ack(mss)
			if k := value(conn, "K"); math.Abs(k-x.k) > 0.005 {
				t.Fatalf("K = %.3f s, want %.2f s", k, x.k)
			}
			exact := math.Cbrt(float64(x.wMax) * (1 - beta) / c)
			var sum, duration float64
			for conn.now.Seconds() < 1.3*exact {
				got := float64(conn.cwnd()) / mss
				at := conn.now.Seconds()
				if want := c*math.Pow(at-exact, 3) + float64(x.wMax); math.Abs(got-want) > 1 {
					t.Fatalf("%.2f s after the reduction cwnd is %.2f segments, the curve %.2f", at, got, want)
				}
				gap := time.Duration(float64(rtt) / got)
				if at <= exact {
					sum += got * gap.Seconds()
					duration += gap.Seconds()
				}
				conn.now += gap
				conn.ack(mss)
			}
			if mean := sum / duration / float64(x.wMax); math.Abs(mean-0.925) > 0.01*0.925 {
				t.Errorf("mean window over [0, K] is %.4f of W_max, want 0.925", mean)
			}
		})
	}
}

// TestCurveOnALink is the same with a link and a sender that pauses in recovery: the window catches up with the curve in a few round trips.
func TestCurveOnALink(t *testing.T) {
	const start = 833
	var epoch congestion.Time
	ctl := cubic.New()
	sim := linksim.New(0, 0)
	flow := sim.Add(linksim.FlowConfig{
		Controller: ctl, RTT: rtt, MSS: mss, InitialWindow: start * mss, Ssthresh: start * mss,
		Pace: 1.1, // spreads the ACKs over the round trip, once the first flight has shown how long it is
		Drop: func(n uint64) bool { return n == 3*start },
		OnAck: func(ev *congestion.AckEvent) {
			if ev.TotalLost != 0 && !ev.InRecovery && epoch == 0 {
				epoch = ev.Now
			}
		},
	})
	for epoch == 0 && sim.Now() < time.Second {
		sim.Run(sim.Now() + time.Millisecond)
	}
	wMax, k := value(ctl, "W_max"), value(ctl, "K")
	for at := 1.0; at < 1.3*k; at += 0.1 {
		sim.Run(epoch + time.Duration(at*1e9))
		if got, want := float64(flow.Cwnd())/mss, c*math.Pow(at-k, 3)+wMax; math.Abs(got-want) > 1 {
			t.Fatalf("%.1f s after the reduction cwnd is %.2f segments, the curve %.2f", at, got, want)
		}
	}
}

// value returns a value of the controller's Snapshot.
func value(ctl congestion.Controller, name string) float64 {
	var s congestion.Snapshot
	ctl.Snapshot(&s)
	for _, v := range s.Values {
		if v.Name == name {
			return v.Value
		}
	}
	return math.NaN()
}

// TestResponseFunction checks RFC 9438 §5.1: 1.054·(RTT/p)^¾, or Reno's √(1.5/p) where that is more.
func TestResponseFunction(t *testing.T) {
	for _, x := range []struct{ p, want, tolerance float64 }{{1e-4, 187, 0.05}, {1e-3, 38.7, 0.05}, {1e-2, 12.2, 0.15}} {
		t.Run(fmt.Sprint("p=", x.p), func(t *testing.T) {
			if model := max(1.054*math.Pow(rtt.Seconds()/x.p, 0.75), math.Sqrt(1.5/x.p)); math.Abs(model/x.want-1) > 0.01 {
				t.Fatalf("the formula gives %.1f", model)
			}
			// Each cycle is alike: fast convergence would take rounding for the arrival of others.
			ctl := cubic.Options{DisableFastConvergence: true}.New()
			period := uint64(math.Round(1 / x.p))
			w := meanWindow(t, ctl, x.want, x.p, func(n uint64) bool { return n%period == 1 }, 40)
			t.Logf("W = %.1f, closed form %.1f", w, x.want)
			if math.Abs(w/x.want-1) > x.tolerance {
				t.Errorf("mean window %.1f segments, want %.1f ±%v", w, x.want, x.tolerance)
			}
		})
	}
}

// TestResponseRandomLoss compares with the curve itself under losses at random: the constant of the formula above is that of equal cycles. Where CUBIC is
// Reno-friendly it compares with Reno under the same losses.
func TestResponseRandomLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("2000 losses take seconds")
	}
	random := func(p float64) func(uint64) bool {
		r := rand.New(rand.NewPCG(1, 2))
		return func(uint64) bool { return r.Float64() < p }
	}
	t.Run("Reno-friendly", func(t *testing.T) {
		const p = 1e-2
		start := math.Sqrt(1.5 / p)
		w := meanWindow(t, cubic.New(), start, p, random(p), 2000)
		r := meanWindow(t, reno.New(), start, p, random(p), 2000)
		t.Logf("CUBIC %.1f, Reno %.1f segments", w, r)
		if math.Abs(w/r-1) > 0.15 {
			t.Errorf("mean window %.1f segments, Reno's %.1f", w, r)
		}
	})
	t.Run("cubic", func(t *testing.T) {
		const p = 2e-4
		want := idealMeanWindow(p, 100000)
		w := meanWindow(t, cubic.Options{DisableFastConvergence: true}.New(), want, p, random(p), 2000)
		t.Logf("W = %.1f, ideal curve %.1f, equal cycles %.1f", w, want, 1.054*math.Pow(rtt.Seconds()/p, 0.75))
		if math.Abs(w/want-1) > 0.15 {
			t.Errorf("mean window %.1f segments, want %.1f ±15 %%", w, want)
		}
	})
}

// idealMeanWindow is the mean window of the plain curve, continuous in time and without recovery, when packets are lost independently with probability p.
func idealMeanWindow(p float64, losses int) float64 {
	r := rand.New(rand.NewPCG(3, 4))
	wMax, packets, rounds := 100.0, 0.0, 0.0
	for range losses {
		n := r.ExpFloat64() / p
		packets += n
		k := math.Cbrt(wMax * (1 - beta) / c)
		w, t := wMax, 0.0
		for ; n > 0; t += rtt.Seconds() / 4 {
			w = c*math.Pow(t-k, 3) + wMax
			n -= w / 4
		}
		rounds += t / rtt.Seconds()
		wMax = max(w, 2)
	}
	return packets / rounds
}

// meanWindow returns the mean number of segments delivered in a round trip, over so many losses after a tenth of them for warming up.
func meanWindow(t *testing.T, ctl congestion.Controller, start, p float64, drop func(uint64) bool, losses float64) float64 {
	t.Helper()
	sim := linksim.New(0, 0)
	flow := sim.Add(linksim.FlowConfig{
		Controller: ctl, RTT: rtt, MSS: mss, Drop: drop,
		// The mean over an epoch is 0.925 of its end, at which this starts.
		InitialWindow: uint64(start/0.925) * mss, Ssthresh: uint64(start/0.925) * mss,
	})
	round := func(packets float64) time.Duration { return time.Duration(packets / start * float64(rtt)) }
	warm := round(losses / 10 / p)
	sim.Run(warm)
	before := flow.Delivered
	sim.Run(warm + round(losses/p))
	return float64(flow.Delivered-before) / mss / (float64(round(losses/p)) / float64(rtt))
}

// TestUtilisation checks the closed form of a multiplicative decrease by β on a link with a buffer of b·BDP. (The 0.85 of the table for b=0 is AIMD's; on the
// concave curve the mean is 0.925.)
func TestUtilisation(t *testing.T) {
	for _, x := range []struct{ b, want float64 }{{0, 0.925}, {3.0 / 7, 1}} {
		t.Run(fmt.Sprintf("b=%.2f", x.b), func(t *testing.T) {
			const bdp = 400 * mss
			sim := linksim.New(bdp*10, uint64(x.b*bdp)+2*mss)
			flow := sim.Add(linksim.FlowConfig{
				Controller: cubic.Options{DisableFastConvergence: true}.New(), RTT: rtt, MSS: mss, Pace: 1.02,
				InitialWindow: bdp / 2, Ssthresh: bdp / 2,
			})
			sim.Run(30 * time.Second)
			before := sim.Link.Delivered()
			sim.Run(150 * time.Second)
			u := float64(sim.Link.Delivered()-before) / (120 * bdp * 10)
			t.Logf("utilisation %.3f, closed form %.3f", u, x.want)
			if math.Abs(u-x.want) > 0.02 {
				t.Errorf("utilisation %.3f, want %.3f ±0.02", u, x.want)
			}
			if flow.RTOs != 0 {
				t.Errorf("%d timeouts", flow.RTOs)
			}
		})
	}
}

// TestFairness checks that two flows whose windows differ tenfold share the link within five loss epochs.
func TestFairness(t *testing.T) {
	const bdp = 200 * mss
	sim := linksim.New(bdp*10, bdp)
	var flows []*linksim.Flow
	for i, w := range []uint64{180 * mss, 18 * mss} {
		flows = append(flows, sim.Add(linksim.FlowConfig{
			Controller: cubic.New(), RTT: rtt, MSS: mss, InitialWindow: w, Ssthresh: w, Start: time.Duration(i) * 7 * time.Millisecond,
		}))
	}
	for min(flows[0].Recoveries, flows[1].Recoveries) < 6 && sim.Now() < 1000*time.Second {
		sim.Run(sim.Now() + rtt)
	}
	a, b := float64(flows[0].Cwnd()), float64(flows[1].Cwnd())
	jain := (a + b) * (a + b) / (2 * (a*a + b*b))
	t.Logf("after %v: %.0f and %.0f segments, Jain %.3f", sim.Now(), a/mss, b/mss, jain)
	if jain < 0.95 {
		t.Errorf("Jain %.3f, want at least 0.95", jain)
	}
}

// TestWithReno checks that CUBIC and Reno share a link of one BDP of buffer in the Reno-friendly region.
func TestWithReno(t *testing.T) {
	const bdp = 50 * mss
	const rtt = 20 * time.Millisecond
	sim := linksim.New(bdp*50, bdp)
	a := sim.Add(linksim.FlowConfig{Controller: cubic.New(), RTT: rtt, MSS: mss})
	b := sim.Add(linksim.FlowConfig{Controller: reno.New(), RTT: rtt, MSS: mss, Start: 7 * time.Millisecond})
	sim.Run(30 * time.Second)
	da, db := a.Delivered, b.Delivered
	sim.Run(150 * time.Second)
	x, y := float64(a.Delivered-da), float64(b.Delivered-db)
	jain := (x + y) * (x + y) / (2 * (x*x + y*y))
	t.Logf("CUBIC %.1f %%, Jain %.3f", 100*x/(x+y), jain)
	if jain < 0.95 {
		t.Errorf("CUBIC has %.1f %% of what both have, Jain %.3f", 100*x/(x+y), jain)
	}
}

func TestSlowStartDoubles(t *testing.T) {
	for _, ackEvery := range []int{1, 2, 8} {
		sim := linksim.New(0, 0)
		flow := sim.Add(linksim.FlowConfig{Controller: cubic.New(), RTT: rtt, MSS: mss, AckEvery: ackEvery, InitialWindow: 16 * mss})
		for n := range 11 {
			sim.Run(time.Duration(n) * rtt)
			if got, want := flow.Cwnd(), uint64(16*mss)<<n; got != want {
				t.Fatalf("ACK every %d: cwnd after %d round trips: %d, want %d", ackEvery, n, got, want)
			}
		}
	}
}

// TestHyStart checks that the initial slow start ends by the rise of the round-trip time, not before the window fills the path, and loses less than standard
// slow start does.
func TestHyStart(t *testing.T) {
	const bdp = 1000 * mss
	run := func(o cubic.Options) (lost, cwnd uint64) {
		sim := linksim.New(bdp*10, 3*bdp)
		flow := sim.Add(linksim.FlowConfig{Controller: o.New(), RTT: rtt, MSS: mss})
		for sim.Now() < 10*time.Second && flow.Recoveries == 0 {
			sim.Run(sim.Now() + 10*time.Millisecond)
		}
		sim.Run(sim.Now() + time.Second)
		return sim.Link.Dropped(), flow.Cwnd()
	}
	lost, cwnd := run(cubic.Options{})
	standard, _ := run(cubic.Options{DisableHyStart: true})
	t.Logf("lost %d segments, standard slow start %d", lost/mss, standard/mss)
	if lost > standard/4 {
		t.Errorf("lost %d bytes, standard slow start %d", lost, standard)
	}
	if cwnd < bdp {
		t.Errorf("cwnd after slow start is %d, less than the BDP of %d", cwnd, bdp)
	}
}
