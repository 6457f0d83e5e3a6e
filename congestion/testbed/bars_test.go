package testbed

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// The bars are what an algorithm in this stack has to reach. These are quick versions: shorter or slower than the scenarios of the same name that docs/benchmarks.md
// has the results of.
func TestBars(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds of processor time")
	}
	path := func(rate emulated.BitRate, rtt time.Duration, bdp float64) Scenario {
		s := Scenario{Seed: 1}
		s.Forward, s.Reverse = bottleneck(rate, rtt, bdp)
		return s
	}
	lossy := func(s Scenario, p float64) Scenario {
		s.Forward.Loss = emulated.RandomLoss(p)
		return s
	}
	reordering := func(s Scenario) Scenario {
		s.Forward.Reorder = emulated.Reorder{Probability: 0.02, Delay: 10 * ms}
		return s
	}
	// of is how much of what the wire leaves over must arrive.
	of := func(share, loss float64) func(*testing.T, *Result) {
		return func(t *testing.T, r *Result) {
			if want := share * (1 - loss); r.Detail.Utilisation < want {
				t.Errorf("%.1f %% of the ceiling, want at least %.1f %%", 100*r.Detail.Utilisation, 100*want)
			}
		}
	}
	noRTO := func(t *testing.T, r *Result) {
		if r.RTOs != 0 {
			t.Errorf("%d time-outs", r.RTOs)
		}
	}
	jain := func(t *testing.T, r *Result) {
		if r.Jain < 0.95 {
			t.Errorf("Jain's index is %.3f, want at least 0.95", r.Jain)
		}
	}
	shares := func(t *testing.T, r *Result) {
		for _, f := range r.Detail.PerFlow {
			if f.Share < 0.25 || f.Share > 0.80 {
				t.Errorf("%s has %.1f %%, want 25 to 80 %%", f.Algorithm, 100*f.Share)
			}
		}
	}
	all := []string{"reno", "cubic", "bbr"}
	for _, tt := range []struct {
		bar      string
		scenario Scenario
		duration time.Duration
		// algorithms run one after the other with that many flows each, or, if mix is set, in one scenario with a flow each.
		algorithms []string
		flows      int
		mix        bool
		stack      string
		checks     []func(*testing.T, *Result)
	}{
		{"clean: reno and cubic 97 % of the ceiling without time-outs", path(100*emulated.Mbps, 100*ms, 1), 15 * time.Second, []string{"reno", "cubic"}, 1, false, "tcpx", checks(of(0.97, 0), noRTO)},
		{"clean: bbr 95 % of the ceiling, drops below 0.1 %", path(100*emulated.Mbps, 100*ms, 1), 15 * time.Second, []string{"bbr"}, 1, false, "tcpx", checks(of(0.95, 0), noRTO, func(t *testing.T, r *Result) {
			if r.Detail.DropRate > 0.001 {
				t.Errorf("%.2f %% dropped", 100*r.Detail.DropRate)
			}
		})},
		{"loss: bbr 85 % at 1 %", lossy(path(100*emulated.Mbps, 100*ms, 1), 0.01), 20 * time.Second, []string{"bbr"}, 1, false, "tcpx", checks(of(0.85, 0.01))},
		{"loss: cubic near 1.5 Mbit/s at 1 %", lossy(path(100*emulated.Mbps, 100*ms, 1), 0.01), 300 * time.Second, []string{"cubic"}, 1, false, "tcpx", checks(func(t *testing.T, r *Result) {
			// 12.2 segments in 100 ms, and a quarter more since losses are random (docs/congestion.md).
			if r.GoodputMbps < 1.2 || r.GoodputMbps > 1.9 {
				t.Errorf("%.2f Mbit/s, want 1.2 to 1.9", r.GoodputMbps)
			}
		})},
		{"bufferbloat: bbr waits 45 ms at 10 BDP", path(50*emulated.Mbps, 30*ms, 10), 15 * time.Second, []string{"bbr"}, 2, false, "tcpx", checks(func(t *testing.T, r *Result) {
			if r.QueueP50Ms > 45 {
				t.Errorf("the median wait is %.1f ms", r.QueueP50Ms)
			}
		}, of(0.95, 0))},
		{"fairness: Jain 0.95 among four", path(20*emulated.Mbps, 40*ms, 1), 120 * time.Second, all, 4, false, "tcpx", checks(jain)},
		{"fairness: Jain 0.95 among four, paced", path(20*emulated.Mbps, 40*ms, 1), 120 * time.Second, []string{"cubic"}, 4, false, "tcpx-paced", checks(jain)},
		{"coexistence: 25 to 80 % at 1 BDP", path(20*emulated.Mbps, 30*ms, 1), 120 * time.Second, []string{"cubic", "bbr"}, 1, true, "tcpx", checks(shares)},
		{"coexistence: 25 to 80 % at 4 BDP", path(20*emulated.Mbps, 30*ms, 4), 120 * time.Second, []string{"cubic", "bbr"}, 1, true, "tcpx", checks(shares)},
		// With timestamps PAWS discards late packets once a retransmission has filled the hole before them, and the losses are real ones: docs/benchmarks.md.
		{"reordering: 95 % of the ceiling without PAWS", reordering(path(50*emulated.Mbps, 40*ms, 1)), 30 * time.Second, []string{"reno", "cubic"}, 1, false, "tcpx-no-timestamps", checks(of(0.95, 0))},
	} {
		t.Run(tt.bar, func(t *testing.T) {
			t.Parallel()
			var scenarios []*Scenario
			for i, a := range tt.algorithms {
				if i == 0 || !tt.mix {
					s := tt.scenario
					s.Name, s.Duration, s.Warmup = tt.bar, tt.duration, tt.duration/2
					scenarios = append(scenarios, &s)
				}
				s := scenarios[len(scenarios)-1]
				for n := range tt.flows {
					s.Flows = append(s.Flows, Flow{Stack: tt.stack, Algorithm: a, Start: time.Duration(n+i) * tt.duration / 120})
				}
			}
			for i, r := range sweep(t, scenarios, 1) {
				t.Run(scenarios[i].Algorithm(), func(t *testing.T) {
					for _, check := range tt.checks {
						check(t, r)
					}
				})
			}
		})
	}
}

// checks is a list that reads well in a table.
func checks(f ...func(*testing.T, *Result)) []func(*testing.T, *Result) { return f }

// A spurious time-out and reordering cost less than 5 % of what passes without them.
func TestBarMistakesCostLessThan5Percent(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of processor time")
	}
	const rate, total = 20 * emulated.Mbps, 40 * time.Second
	for _, algorithm := range []string{"reno", "cubic", "bbr"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			var scenarios []*Scenario
			for range 3 {
				s := &Scenario{Name: "mistakes", Seed: 1, Duration: total, Warmup: 5 * time.Second, Flows: []Flow{{Stack: "tcpx", Algorithm: algorithm}}}
				s.Forward, s.Reverse = bottleneck(rate, 40*ms, 1)
				scenarios = append(scenarios, s)
			}
			// A delay of 500 ms for 50 ms, each 10 s.
			scenarios[1].Forward.Steps = delaySpikes(emulated.Step{Rate: rate, Delay: 20 * ms}, 500*ms, 10*time.Second, total)
			scenarios[2].Forward.Reorder = emulated.Reorder{Probability: 0.02, Delay: 10 * ms}
			r := sweep(t, scenarios, 1)
			if r[1].RTOs == 0 {
				t.Error("no time-out: the delay was too short")
			}
			for i, what := range []string{"delay spikes", "reordering"} {
				if with, without := r[i+1].GoodputMbps, r[0].GoodputMbps; with < 0.95*without {
					t.Errorf("%s: %.2f Mbit/s, %.2f without", what, with, without)
				}
			}
		})
	}
}
