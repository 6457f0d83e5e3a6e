package testbed

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Repeat returns the scenarios in so many rounds, one behind the other. Each round has a seed of its own, from the scenario's on; flows and traces that were made of a seed stay.
func Repeat(scenarios []*Scenario, rounds int) []*Scenario {
	var out []*Scenario
	for r := range rounds {
		for _, s := range scenarios {
			again := *s
			again.Seed += uint64(r)
			out = append(out, &again)
		}
	}
	return out
}

// Medians returns one result for each of the scenarios that Repeat was given: each figure is the median of those of the rounds, for itself, and what else there is comes from
// the round whose goodput is the median. Of an even number of rounds it is the upper one of the two in the middle. Rounds in real time that cannot be trusted are left
// out as long as there are others. WallSeconds is what all rounds took.
func Medians(results []*Result, rounds int) []*Result {
	n := len(results) / max(rounds, 1)
	out := make([]*Result, n)
	for i := range out {
		var all, good []*Result
		wall := 0.0
		for r := range rounds {
			one := results[r*n+i]
			all = append(all, one)
			wall += one.WallSeconds
			if one.trusted() {
				good = append(good, one)
			}
		}
		if len(good) == 0 {
			good = all
		}
		out[i] = median(good)
		out[i].WallSeconds = wall
		if d := out[i].Detail; d != nil {
			d.Rounds, d.RoundsUsed = len(all), len(good)
		}
	}
	return out
}

// trusted tells whether a result can be compared with others.
func (r *Result) trusted() bool {
	return r.Detail == nil || r.Detail.RealTime == nil || r.Detail.RealTime.Trustworthy(r.Detail.BaseRTTMs)
}

// median returns the medians of the figures of results.
func median(results []*Result) *Result {
	byGoodput := slices.SortedFunc(slices.Values(results), func(a, b *Result) int { return cmp.Compare(a.GoodputMbps, b.GoodputMbps) })
	m := *byGoodput[len(results)/2]
	if m.Detail != nil {
		d := *m.Detail
		m.Detail = &d
	}
	m.QueueP50Ms = middle(results, func(r *Result) float64 { return r.QueueP50Ms })
	m.QueueP95Ms = middle(results, func(r *Result) float64 { return r.QueueP95Ms })
	m.Retransmits = middle(results, func(r *Result) uint64 { return r.Retransmits })
	m.RTOs = middle(results, func(r *Result) uint64 { return r.RTOs })
	m.Jain = middle(results, func(r *Result) float64 { return r.Jain })
	return &m
}

// middle returns the median of one figure.
func middle[T cmp.Ordered](results []*Result, figure func(*Result) T) T {
	var values []T
	for _, r := range results {
		values = append(values, figure(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Comparison is a scenario with the same algorithm on two stacks.
type Comparison struct {
	// Result is that of the stack that is compared, and Reference that of the stack to compare with.
	Result, Reference *Result
	// Tolerance is by how much a figure may differ, as a share of the reference's; 0 means that there is none, because the algorithms are not the same.
	Tolerance float64
}

// tolerances are those of algorithms that are the same everywhere.
var tolerances = map[string]float64{"reno": 0.10, "cubic": 0.10, "bbr1": 0.15}

// notableQueueMs is the wait from which on it is compared: below, it is that of a few packets and of the timers.
const notableQueueMs = 1

// Compare pairs the results of the stack called reference with those of other stacks for the same scenario, algorithm and number of flows. It keeps the order of results.
func Compare(results []*Result, reference string) []Comparison {
	var out []Comparison
	for _, r := range results {
		if r.Stack == reference {
			continue
		}
		i := slices.IndexFunc(results, func(o *Result) bool {
			return o.Stack == reference && o.Scenario == r.Scenario && o.Algorithm == r.Algorithm && o.Flows == r.Flows
		})
		if i >= 0 {
			out = append(out, Comparison{Result: r, Reference: results[i], Tolerance: tolerances[r.Algorithm]})
		}
	}
	return out
}

// Goodput returns the ratio of the goodputs; NaN if the reference has none.
func (c *Comparison) Goodput() float64 { return ratio(c.Result.GoodputMbps, c.Reference.GoodputMbps) }

// Queue returns the ratio of the median waits at the bottleneck; NaN if neither is long enough to be compared.
func (c *Comparison) Queue() float64 {
	if max(c.Result.QueueP50Ms, c.Reference.QueueP50Ms) < notableQueueMs {
		return math.NaN()
	}
	return ratio(c.Result.QueueP50Ms, c.Reference.QueueP50Ms)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return a / b
}

// Misses names the figures that differ by more than the tolerance.
func (c *Comparison) Misses() []string {
	if c.Tolerance == 0 {
		return nil
	}
	var out []string
	if !(math.Abs(c.Goodput()-1) <= c.Tolerance) { // NaN is a miss.
		out = append(out, "goodput")
	}
	if q := c.Queue(); math.Abs(q-1) > c.Tolerance {
		out = append(out, "queue")
	}
	return out
}

// verdict says in words what Misses says.
func (c *Comparison) verdict() string {
	if !c.Reference.trusted() || !c.Result.trusted() {
		return "not trusted: the machine was too busy"
	}
	if c.Tolerance == 0 {
		return "other algorithms: no tolerance"
	}
	if m := c.Misses(); len(m) > 0 {
		return fmt.Sprintf("outside of %.0f%%: %s", 100*c.Tolerance, strings.Join(m, ", "))
	}
	return fmt.Sprintf("within %.0f%%", 100*c.Tolerance)
}

// Holds tells whether both sides can be trusted and nothing differs by more than the tolerance.
func (c *Comparison) Holds() bool {
	return c.Reference.trusted() && c.Result.trusted() && len(c.Misses()) == 0
}

// rounds tells of how many rounds a result is the median, and how many were left out.
func (r *Result) rounds() string {
	switch d := r.Detail; {
	case d == nil || d.Rounds == 0:
		return "1"
	case d.RoundsUsed < d.Rounds:
		return fmt.Sprintf("%d of %d", d.RoundsUsed, d.Rounds)
	default:
		return fmt.Sprint(d.Rounds)
	}
}

// WriteComparison writes a table of comparisons for a terminal: the figures of both stacks, the ratio of goodputs and of waits, and whether they are within the tolerance.
func WriteComparison(w io.Writer, comparisons []Comparison) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "scenario\talgorithm\tstack\tagainst\tMbit/s\t\tratio\tqueue p50 ms\t\tratio\tretrans\t\trounds\t\tverdict\t")
	for i := range comparisons {
		c := &comparisons[i]
		a, b := c.Result, c.Reference
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.2f\t%.2f\t%s\t%.1f\t%.1f\t%s\t%d\t%d\t%s\t%s\t%s\t\n", a.Scenario, a.Algorithm, a.Stack, b.Stack,
			a.GoodputMbps, b.GoodputMbps, ratioCell(c.Goodput()), a.QueueP50Ms, b.QueueP50Ms, ratioCell(c.Queue()), a.Retransmits, b.Retransmits, a.rounds(), b.rounds(), c.verdict())
	}
	return tw.Flush()
}

func ratioCell(r float64) string { return unless(math.IsNaN(r), "%.3f", r) }
