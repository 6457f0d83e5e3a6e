package testbed

import (
	"context"
	"slices"
	"testing"
	"time"
)

// TestDeviations checks each number on both stacks: tcpx has what the rule wants, and gVisor's TCP what its departure from it makes, with a tolerance for changes that do
// not touch the rule.
func TestDeviations(t *testing.T) {
	stock := map[string]struct{ least, most float64 }{
		"cubic-regrowth":  {10, 11.5},
		"cubic-idle":      {1000, 100_000},
		"second-rto":      {0, 0.1},
		"rack-burst":      {4, 8},
		"recovery-volume": {3, 200},
		"recovery-clock":  {25, 200},
		"spurious":        {0.3, 0.85},
		"unused-window":   {500, 520},
		"byte-counting":   {10, 14.5},
		"dsack":           {0, 0},
		"pacing":          {50, 80},
		"cubic-epoch":     {2.5, 3.5},
		"cubic-friendly":  {0.45, 0.6},
		"rto-recovery":    {0, 0.2},
	}
	for _, d := range deviations() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stacks := []string{"tcpx", "gvisor"}
			if testing.Short() {
				stacks = stacks[:1] // gVisor's goroutines have to come to rest after each packet, which takes time
			}
			for _, stack := range stacks {
				s := d.scenario(stack)
				if d.name == "cubic-regrowth" {
					// A smaller window takes fewer packets: K is 4.27 s. At 833 segments gVisor takes 21.4 s.
					small := regrowth(104, 12*time.Second)
					s = small.scenario(stack)
				}
				s.Name, s.Seed = d.name, 1
				r, err := Run(context.Background(), s, Options{})
				if err != nil {
					t.Fatal(err)
				}
				c := r.Check
				t.Logf("%s: %s %.4g %s", stack, c.Quantity, c.Value, c.Unit)
				want, ok := stock[d.name]
				switch {
				case stack == "tcpx" && !c.OK():
					t.Errorf("tcpx: %s is %v, want %v to %v (%s)", c.Quantity, c.Value, c.Least, c.Most, c.Source)
				case stack == "gvisor" && (c.OK() || !ok || c.Value < want.least || c.Value > want.most):
					t.Errorf("gVisor: %s is %v, was %v to %v: the scenario does not show the departure, or it is gone", c.Quantity, c.Value, want.least, want.most)
				}
			}
		})
	}
}

// TestDeviationIsNamed checks what the command shows of one.
func TestDeviationIsNamed(t *testing.T) {
	all, err := Expand("deviation/rack-burst", Params{Stack: "tcpx", Algorithms: []string{"bbr"}, Seed: 1, Duration: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Algorithm() != "reno" || all[0].Duration < 1e9 {
		t.Fatalf("%d scenarios of %s, %v", len(all), all[0].Algorithm(), all[0].Duration)
	}
	results := sweep(t, all, 1)
	titles, rows := Table(results)
	for title, want := range map[string]string{"measured": "1 segments", "right": "1 to 1: yes"} {
		if i := slices.Index(titles, title); i < 0 || rows[0][i] != want {
			t.Errorf("column %q of %v", title, rows[0])
		}
	}
	results[0].Check.Value = 5
	if _, rows = Table(results); rows[0][slices.Index(titles, "right")] != "1 to 1: NO" {
		t.Errorf("with another value: %v", rows[0])
	}
}

// TestRegrowth checks the case of the built-in scenario, for as long as tcpx takes.
func TestRegrowth(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of processor time")
	}
	t.Parallel()
	d := regrowth(833, 10*time.Second)
	r := sweep(t, []*Scenario{d.scenario("tcpx")}, 1)[0]
	if c := r.Check; !c.OK() {
		t.Errorf("%s is %.3g s, want %.3g to %.3g", c.Quantity, c.Value, c.Least, c.Most)
	}
}
