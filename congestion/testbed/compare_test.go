package testbed

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// Each round has its seed, and nothing else changes.
func TestRepeat(t *testing.T) {
	all := []*Scenario{{Name: "a", Seed: 7}, {Name: "b", Seed: 1}}
	var got []Scenario
	for _, s := range Repeat(all, 3) {
		got = append(got, *s)
	}
	want := []Scenario{{Name: "a", Seed: 7}, {Name: "b", Seed: 1}, {Name: "a", Seed: 8}, {Name: "b", Seed: 2}, {Name: "a", Seed: 9}, {Name: "b", Seed: 3}}
	if !slices.EqualFunc(got, want, func(a, b Scenario) bool { return a.Name == b.Name && a.Seed == b.Seed }) {
		t.Errorf("%+v", got)
	}
}

// Each figure is the median for itself, what else there is that of the round in the middle; spoilt rounds do not count unless all are.
func TestMedians(t *testing.T) {
	late := func(ms float64) *Detail { return &Detail{BaseRTTMs: 40, RealTime: &RealTime{LateP99Ms: ms}} }
	round := func(mbps, queue float64, retransmits uint64, d *Detail) *Result {
		return &Result{Scenario: "a", GoodputMbps: mbps, QueueP50Ms: queue, QueueP95Ms: 10 * queue, Retransmits: retransmits, RTOs: retransmits / 10, Jain: mbps / 10, WallSeconds: 1, Detail: d}
	}
	for _, tt := range []struct {
		name       string
		rounds     []*Result
		want       Result
		used       int
		fromSource int
	}{
		{"one", []*Result{round(5, 3, 10, late(1))}, Result{GoodputMbps: 5, QueueP50Ms: 3, Retransmits: 10, RTOs: 1}, 1, 0},
		{"each for itself", []*Result{round(5, 3, 10, late(1)), round(9, 1, 30, late(1)), round(7, 9, 20, late(1))}, Result{GoodputMbps: 7, QueueP50Ms: 3, Retransmits: 20, RTOs: 2}, 3, 2},
		{"without the spoilt", []*Result{round(5, 3, 10, late(1)), round(9, 1, 30, late(9)), round(7, 9, 20, late(1)), round(1, 1, 0, late(9))}, Result{GoodputMbps: 7, QueueP50Ms: 9, Retransmits: 20, RTOs: 2}, 2, 2},
		{"all spoilt", []*Result{round(5, 3, 10, late(9)), round(9, 4, 30, late(9)), round(7, 9, 20, late(9))}, Result{GoodputMbps: 7, QueueP50Ms: 4, Retransmits: 20, RTOs: 2}, 3, 2},
	} {
		m := Medians(tt.rounds, len(tt.rounds))
		if len(m) != 1 {
			t.Fatalf("%s: %d results", tt.name, len(m))
		}
		got := m[0]
		if got.GoodputMbps != tt.want.GoodputMbps || got.QueueP50Ms != tt.want.QueueP50Ms || got.QueueP95Ms != 10*tt.want.QueueP50Ms || got.Retransmits != tt.want.Retransmits ||
			got.RTOs != tt.want.RTOs || got.Jain != tt.want.GoodputMbps/10 || got.WallSeconds != float64(len(tt.rounds)) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if d := got.Detail; d.Rounds != len(tt.rounds) || d.RoundsUsed != tt.used || d.RealTime != tt.rounds[tt.fromSource].Detail.RealTime {
			t.Errorf("%s: %+v", tt.name, d)
		}
		if tt.rounds[0].Detail.Rounds != 0 {
			t.Errorf("%s: the rounds were changed", tt.name)
		}
	}
	two := Medians([]*Result{{Scenario: "a", GoodputMbps: 1}, {Scenario: "b", GoodputMbps: 2}, {Scenario: "a", GoodputMbps: 3}, {Scenario: "b", GoodputMbps: 4}}, 2)
	if len(two) != 2 || two[0].Scenario != "a" || two[0].GoodputMbps != 3 || two[1].Scenario != "b" || two[1].GoodputMbps != 4 {
		t.Errorf("%+v", two)
	}
}

// A run that cannot be trusted is repeated, within limits; one that fails is not.
func TestPersist(t *testing.T) {
	spoilt := &Result{Detail: &Detail{RealTime: &RealTime{Missed: 1}}}
	good := &Result{Detail: &Detail{RealTime: &RealTime{}, BaseRTTMs: 1}}
	failed := errors.New("no")
	for _, tt := range []struct {
		retries int
		results []*Result // nil stands for failed
		want    int       // which counts
	}{
		{2, []*Result{good, good}, 0},
		{0, []*Result{spoilt, good}, 0},
		{2, []*Result{spoilt, good}, 1},
		{1, []*Result{spoilt, spoilt, good}, 1},
		{2, []*Result{spoilt, nil, good}, 1},
	} {
		runs := 0
		r, err := persist(tt.retries, func() (*Result, error) {
			runs++
			if r := tt.results[runs-1]; r != nil {
				return r, nil
			}
			return nil, failed
		})
		if runs != tt.want+1 || r != tt.results[tt.want] || (err != nil) != (r == nil) {
			t.Errorf("%d retries of %v: %d runs, %v, %v", tt.retries, tt.results, runs, r, err)
		}
	}
}

// What differs by more than the algorithm's tolerance is a miss: the goodput always, the wait if it is worth the name.
func TestCompare(t *testing.T) {
	result := func(stack, algorithm string, mbps, queue float64) *Result {
		return &Result{Scenario: "a", Stack: stack, Algorithm: algorithm, Flows: 1, GoodputMbps: mbps, QueueP50Ms: queue}
	}
	spoilt := result("linux", "reno", 10, 5)
	spoilt.Detail = &Detail{RealTime: &RealTime{Missed: 1}, Rounds: 5, RoundsUsed: 5}
	for _, tt := range []struct {
		name    string
		a, b    *Result
		verdict string
		holds   bool
	}{
		{"equal", result("tcpx", "reno", 10, 5), result("linux", "reno", 10, 5), "within 10%", true},
		{"within", result("tcpx", "cubic", 9.1, 5.4), result("linux", "cubic", 10, 5), "within 10%", true},
		{"less", result("tcpx", "cubic", 8.9, 5), result("linux", "cubic", 10, 5), "outside of 10%: goodput", false},
		{"more", result("tcpx", "cubic", 11.1, 5), result("linux", "cubic", 10, 5), "outside of 10%: goodput", false},
		{"waits", result("tcpx", "reno", 10, 5.6), result("linux", "reno", 10, 5), "outside of 10%: queue", false},
		{"both", result("tcpx", "reno", 1, 1), result("linux", "reno", 10, 5), "outside of 10%: goodput, queue", false},
		{"hardly waits", result("tcpx", "reno", 10, 0.9), result("linux", "reno", 10, 0.1), "within 10%", true},
		{"waits for once", result("tcpx", "reno", 10, 20), result("linux", "reno", 10, 0.1), "outside of 10%: queue", false},
		{"version 1", result("tcpx", "bbr1", 8.6, 4.3), result("linux", "bbr1", 10, 5), "within 15%", true},
		{"version 1, less", result("tcpx", "bbr1", 8.4, 5), result("linux", "bbr1", 10, 5), "outside of 15%: goodput", false},
		{"version 3", result("tcpx", "bbr", 1, 1), result("linux", "bbr", 10, 5), "other algorithms: no tolerance", true},
		{"nothing at all", result("tcpx", "reno", 10, 5), result("linux", "reno", 0, 5), "outside of 10%: goodput", false},
		{"spoilt", result("tcpx", "reno", 10, 5), spoilt, "not trusted: the machine was too busy", false},
	} {
		all := Compare([]*Result{tt.a, tt.b, result("gvisor", "other", 1, 1)}, "linux")
		if len(all) != 1 || all[0].Result != tt.a || all[0].Reference != tt.b {
			t.Fatalf("%s: %+v", tt.name, all)
		}
		var table bytes.Buffer
		if err := WriteComparison(&table, all); err != nil || !strings.Contains(table.String(), tt.verdict) {
			t.Errorf("%s: %v, want %q in\n%s", tt.name, err, tt.verdict, table.String())
		}
		if all[0].Holds() != tt.holds {
			t.Errorf("%s: holds %v", tt.name, all[0].Holds())
		}
	}
	if q := (&Comparison{Result: result("", "", 1, 0.5), Reference: result("", "", 1, 0.9)}).Queue(); !math.IsNaN(q) {
		t.Errorf("waits of less than a millisecond compare to %v", q)
	}
}
