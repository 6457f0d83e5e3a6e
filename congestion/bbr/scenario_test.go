package bbr

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
	"github.com/plumbline/plumbline/congestion/reno"
)

func repeat(n int, f func() congestion.Controller) []func() congestion.Controller {
	return slices.Repeat([]func() congestion.Controller{f}, n)
}

const mbit = 125_000

// long skips a test that simulates minutes.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("simulates minutes")
	}
}

// TestStartupRounds checks that Startup finds the bandwidth in log2(BDP/IW) rounds, needs three more to see that it grows no further, and leaves no more than a
// BDP in the queue. Rounds count from the first sample of a whole window, which is of the initial one.
func TestStartupRounds(t *testing.T) {
	for _, rate := range []uint64{10 * mbit, 100 * mbit, 1000 * mbit} {
		const rtt = 100 * time.Millisecond
		bdp := float64(rate) * rtt.Seconds()
		l := newLab(t, labConfig{rate: rate, rtt: rtt, buffer: uint64(4 * bdp)})
		l.untilState(drain)
		rounds, want := float64(l.roundCount-2), math.Ceil(math.Log2(bdp/(10*mss)))+3
		t.Logf("%d Mbit/s: %.0f rounds, log2(BDP/IW)+3 is %.0f", rate/mbit, rounds, want)
		if math.Abs(rounds-want) > 1 {
			t.Errorf("%d Mbit/s: Startup took %.0f rounds, want %.0f ±1", rate/mbit, rounds, want)
		}
		if q := float64(l.sim.Link.Waiting()); q > 1.05*bdp {
			t.Errorf("%d Mbit/s: %.2f BDP in the queue when Startup ends", rate/mbit, q/bdp)
		}
	}
}

// TestProbeRTTCost checks §5.3.4.2: half a BDP for 200 ms in five seconds leaves 0.98 of the bandwidth.
func TestProbeRTTCost(t *testing.T) {
	const rtt = 10 * time.Millisecond // short, so that entry and exit count for little
	l := newLab(t, labConfig{rate: 100 * mbit, rtt: rtt, buffer: 4 * 100 * mbit / 100})
	l.untilState(probeRTT)
	l.run(4900 * time.Millisecond)
	var whole, without float64
	var span, outside time.Duration
	for range 5 {
		l.untilState(probeRTT)
		entry, before := l.sim.Now(), l.flow.Delivered
		l.nextState()
		l.run(2 * rtt)
		exit, after := l.sim.Now(), l.flow.Delivered
		l.run(4700*time.Millisecond - (exit - entry))
		whole += float64(l.flow.Delivered - before)
		span += l.sim.Now() - entry
		without += float64(l.flow.Delivered - after)
		outside += l.sim.Now() - exit
	}
	cost := (whole / span.Seconds()) / (without / outside.Seconds())
	// The measured interval is 4.7 s of the cycle: the loss of 0.1 s weighs a little more.
	want := 1 - 0.1/4.7
	t.Logf("%.4f, want %.4f", cost, want)
	if math.Abs(cost-want) > 0.005 {
		t.Errorf("with ProbeRTT the flow has %.4f of its rate without, want %.4f ±0.005", cost, want)
	}
}

func TestCleanLink(t *testing.T) {
	o := linksim.Scenario{Rate: 100 * mbit, RTT: 100 * time.Millisecond, Queue: 1, Duration: 60 * time.Second, Flows: repeat(1, New)}.Run()
	t.Logf("%+v", o)
	if o.Total < 0.95 || o.Retransmits > 0.001 || o.Timeouts != 0 {
		t.Errorf("%.3f of the link with %.4f retransmitted, want 0.95 and less than 0.001", o.Total, o.Retransmits)
	}
}

// TestRandomLoss checks that loss at random up to the threshold costs little: CUBIC has 1.5 % of this link at 1 %.
func TestRandomLoss(t *testing.T) {
	long(t)
	for _, x := range []struct{ loss, least float64 }{{1e-4, 0.90}, {1e-3, 0.90}, {1e-2, 0.85}} {
		const runs = 3
		mean := 0.0
		for seed := range uint64(runs) {
			s := linksim.Scenario{Rate: 100 * mbit, RTT: 100 * time.Millisecond, Queue: 1, Loss: x.loss, Seed: seed, Duration: 120 * time.Second, Flows: repeat(1, New)}
			mean += s.Run().Total / runs
		}
		t.Logf("loss %v: %.3f of the link", x.loss, mean)
		if mean < x.least*(1-x.loss) {
			t.Errorf("loss %v: %.3f of the link, want %.3f", x.loss, mean, x.least*(1-x.loss))
		}
	}
}

func TestBufferbloat(t *testing.T) {
	long(t)
	for _, n := range []int{1, 2} {
		for _, queue := range []float64{1, 10, 50} {
			s := linksim.Scenario{Rate: 50 * mbit, RTT: 30 * time.Millisecond, Queue: queue, Duration: 60 * time.Second, Flows: repeat(n, New)}
			o := s.Run()
			t.Logf("%d flows, %v BDP: median queue %v, %.3f of the link", n, queue, o.QueueMedian, o.Total)
			if o.QueueMedian > 45*time.Millisecond || o.Total < 0.95 {
				t.Errorf("%d flows, %v BDP: the median queue is %v and %.3f of the link is used", n, queue, o.QueueMedian, o.Total)
			}
		}
	}
}

func TestFairness(t *testing.T) {
	long(t)
	for _, n := range []int{2, 4, 10} {
		s := linksim.Scenario{Rate: 50 * mbit, RTT: 30 * time.Millisecond, Queue: 1, Duration: 120 * time.Second, Flows: repeat(n, New)}
		o := s.Run()
		t.Logf("%d flows: Jain %.3f, %v", n, o.Jain, o.Shares)
		if o.Jain < 0.95 {
			t.Errorf("%d flows: Jain %.3f, shares %v", n, o.Jain, o.Shares)
		}
	}
}

// TestCoexistence checks that BBR and loss-based flows leave each other a fair part.
func TestCoexistence(t *testing.T) {
	long(t)
	for name, other := range map[string]func() congestion.Controller{"CUBIC": cubic.New, "Reno": reno.New} {
		for _, queue := range []float64{0.1, 1, 2, 4, 16} {
			least := 0.10
			if queue >= 1 && queue <= 4 {
				least = 0.25
			}
			s := linksim.Scenario{
				Rate: 50 * mbit, RTT: 40 * time.Millisecond, Queue: queue, Duration: 120 * time.Second,
				Flows: []func() congestion.Controller{New, other},
			}
			o := s.Run()
			t.Logf("%s, %v BDP: BBR has %.3f, it has %.3f", name, queue, o.Shares[0], o.Shares[1])
			if slices.Min(o.Shares) < least*o.Total {
				t.Errorf("%s, %v BDP: BBR has %.3f, it has %.3f", name, queue, o.Shares[0], o.Shares[1])
			}
		}
	}
}

func TestShallowBuffer(t *testing.T) {
	long(t)
	for _, n := range []int{1, 4} {
		s := linksim.Scenario{Rate: 100 * mbit, RTT: 100 * time.Millisecond, Queue: 0.02, Duration: 60 * time.Second, Flows: repeat(n, New)}
		o := s.Run()
		t.Logf("%d flows: %.3f of the link, %.4f retransmitted", n, o.Total, o.Retransmits)
		if o.Retransmits > 0.02 || o.Total < 0.8 {
			t.Errorf("%d flows: %.3f of the link, %.4f retransmitted", n, o.Total, o.Retransmits)
		}
	}
}

func TestScenariosAreDeterministic(t *testing.T) {
	s := linksim.Scenario{Rate: 20 * mbit, RTT: 40 * time.Millisecond, Queue: 1, Loss: 1e-3, Duration: 20 * time.Second, Flows: repeat(3, New)}
	if a, b := fmt.Sprint(s.Run()), fmt.Sprint(s.Run()); a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}
