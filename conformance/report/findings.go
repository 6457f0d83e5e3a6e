package report

import (
	"fmt"
	"io"
	"slices"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
)

// ruleBroken is one rule of the oracle that one target broke.
type ruleBroken struct {
	target string
	// worst is the finding that is the surest, runs in how many runs there are
	// any, and first the name of the first.
	worst oracle.Finding
	runs  int
	first string
}

// findingsOf sums up what the oracle holds against each target, by rule: those
// of the hard tier first, then what is in most runs.
func findingsOf(results []*runner.Result) []ruleBroken {
	var out []ruleBroken
	for _, r := range results {
		counted := make(map[string]bool)
		for _, f := range r.Findings {
			i := slices.IndexFunc(out, func(b ruleBroken) bool { return b.target == r.Target && b.worst.Rule == f.Rule })
			if i < 0 {
				i = len(out)
				out = append(out, ruleBroken{target: r.Target, worst: f, first: r.Name()})
			}
			if f.Confidence > out[i].worst.Confidence {
				out[i].worst = f
			}
			if !counted[f.Rule] {
				counted[f.Rule] = true
				out[i].runs++
			}
		}
	}
	slices.SortStableFunc(out, func(a, b ruleBroken) int {
		if a.worst.Tier != b.worst.Tier {
			if a.worst.Tier == oracle.Hard {
				return -1
			}
			return 1
		}
		return b.runs - a.runs
	})
	return out
}

// writeFindings prints what the oracle holds against the targets, a line for
// each rule that one of them broke.
func writeFindings(w io.Writer, results []*runner.Result) {
	broken := findingsOf(results)
	if len(broken) == 0 {
		return
	}
	fmt.Fprintln(w, "oracle (runs; soft findings fail nothing):")
	for _, b := range broken {
		f := b.worst
		sure := string(f.Tier)
		if f.Tier == oracle.Soft {
			sure = fmt.Sprintf("soft %.1f", f.Confidence)
		}
		fmt.Fprintf(w, "  %4d  %s: %s %s (%s), as in %s: %s\n", b.runs, b.target, sure, f.Rule, f.Section, b.first, oneLine(f.Text))
	}
	fmt.Fprintln(w)
}
