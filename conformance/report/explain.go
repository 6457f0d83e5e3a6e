package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/rfcs"
	"github.com/plumbline/plumbline/conformance/runner"
)

// Explain prints a requirement of RFC 9293 or of package rfcs: what it says, the
// tests that prove it, and how each target does in each. Results are those of
// these tests. It reports false if there is no such requirement.
func Explain(w io.Writer, id string, results []*runner.Result) (bool, error) {
	out := bufio.NewWriter(w)
	i := slices.IndexFunc(rfcs.All(), func(r rfcs.Requirement) bool { return r.ID == id })
	rows := rfc9293.Lookup(id)
	var own []*runner.Result
	var notApplicable, unsupported string
	switch {
	case rows != nil:
		for _, r := range rows {
			fmt.Fprintf(out, "%s  %s  RFC 9293 section %s, %s\n    %s\n", r.ID, r.Level, r.Section, r.Group, r.Feature)
		}
		notApplicable, _ = rfc9293.NotApplicable(id)
		own = selectResults(results, func(r *runner.Result) bool { return slices.Contains(r.Tags.Requirements, id) })
	case i >= 0:
		r := rfcs.All()[i]
		fmt.Fprintf(out, "%s  %s  section %s of %s\n    %s\n", r.ID, r.Level, r.Section, r.Group(), r.Feature)
		notApplicable, unsupported = r.NotApplicable, r.Unsupported
		own = selectResults(results, func(res *runner.Result) bool { return slices.Contains(r.Tests, res.Script) })
	default:
		return false, nil
	}
	fmt.Fprintln(out)
	switch {
	case len(own) > 0:
		explainTests(out, id, own)
	case notApplicable != "":
		fmt.Fprintf(out, "not applicable: %s\n", notApplicable)
	case unsupported != "":
		fmt.Fprintf(out, "unsupported: %s\n", unsupported)
	default:
		fmt.Fprintln(out, "no test names it")
	}
	return true, out.Flush()
}

// selectResults returns the results for which is holds.
func selectResults(results []*runner.Result, is func(*runner.Result) bool) []*runner.Result {
	var out []*runner.Result
	for _, r := range results {
		if is(r) {
			out = append(out, r)
		}
	}
	return out
}

// explainTests prints the tests of a requirement and how they went.
func explainTests(out io.Writer, id string, own []*runner.Result) {
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
	for _, c := range append(Coverage(own), OtherCoverage(own)...) {
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
