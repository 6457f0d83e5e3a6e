package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/runner"
)

// Explain prints a requirement of RFC 9293: what it says, the tests that prove
// it, and how each target does in each. Results are those of these tests. It
// reports false if there is no such requirement.
func Explain(w io.Writer, id string, results []*runner.Result) (bool, error) {
	rows := rfc9293.Lookup(id)
	if rows == nil {
		return false, nil
	}
	out := bufio.NewWriter(w)
	for _, r := range rows {
		fmt.Fprintf(out, "%s  %s  RFC 9293 section %s, %s\n    %s\n", r.ID, r.Level, r.Section, r.Group, r.Feature)
	}
	fmt.Fprintln(out)
	var own []*runner.Result
	for _, r := range results {
		if slices.Contains(r.Tags.Requirements, id) {
			own = append(own, r)
		}
	}
	if len(own) == 0 {
		if reason, ok := rfc9293.NotApplicable(id); ok {
			fmt.Fprintf(out, "not applicable: %s\n", reason)
		} else {
			fmt.Fprintln(out, "no test names it")
		}
		return true, out.Flush()
	}
	targets := targetsOf(own)
	table := [][]string{slices.Concat([]string{"test"}, targets, []string{"what it proves"})}
	for _, name := range scriptsOf(own) {
		row := []string{name}
		var title string
		for _, t := range targets {
			var verdicts string
			for _, r := range own {
				if r.Script == name && r.Target == t {
					title = r.Tags.Title
					verdicts = joinVerdict(verdicts, r.Verdict)
				}
			}
			row = append(row, verdicts)
		}
		table = append(table, append(row, title))
	}
	writeTable(out, table)
	for _, c := range Coverage(own) {
		if c.ID == id {
			for _, t := range targets {
				fmt.Fprintf(out, "%s: %s\n", t, c.Verdicts[t])
			}
		}
	}
	for _, r := range own {
		if r.Verdict != runner.Pass {
			fmt.Fprintf(out, "\n%s %s\n      %s\n", r.Verdict, r.Name(), oneLine(r.Reason))
			if f := r.Failure; f != nil {
				fmt.Fprintf(out, "      %v: %s\n", f.Pos, f.Message)
				writeSideBySide(out, "expected", f.Expected, "actual", orNothing(f.Actual))
			}
		}
	}
	return true, out.Flush()
}

// joinVerdict appends the verdict of another version of IP, if it differs.
func joinVerdict(have string, v runner.Verdict) string {
	switch have {
	case "", string(v):
		return string(v)
	}
	return have + "/" + string(v)
}

// scriptsOf returns the names of the scripts, in the order in which they first
// occur.
func scriptsOf(results []*runner.Result) []string {
	var names []string
	for _, r := range results {
		if !slices.Contains(names, r.Script) {
			names = append(names, r.Script)
		}
	}
	return names
}
