package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/runner"
)

// order is the order in which verdicts are counted and printed.
var order = []runner.Verdict{
	runner.Pass, runner.Fail, runner.XFail, runner.XPass, runner.Unsupported, runner.NotApplicable, runner.Untested,
}

// Count is how often each verdict occurs.
type Count map[runner.Verdict]int

// CountOf counts the verdicts of results.
func CountOf(results []*runner.Result) Count {
	c := make(Count)
	for _, r := range results {
		c[r.Verdict]++
	}
	return c
}

// Total is the sum of all counts.
func (c Count) Total() int {
	total := 0
	for _, n := range c {
		total += n
	}
	return total
}

// OK reports whether none of the verdicts is one that fails a suite.
func (c Count) OK() bool {
	for v, n := range c {
		if n > 0 && !v.OK() {
			return false
		}
	}
	return true
}

// String lists the counts that are not 0, as in "12 pass, 1 fail".
func (c Count) String() string {
	var parts []string
	for _, v := range order {
		if c[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[v], strings.ToLower(string(v))))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// targetsOf returns the names of the targets, in the order in which they first
// occur.
func targetsOf(results []*runner.Result) []string {
	var names []string
	for _, r := range results {
		if !slices.Contains(names, r.Target) {
			names = append(names, r.Target)
		}
	}
	return names
}
