package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/plumbline/plumbline/conformance/runner"
)

// TextOptions say what Text prints.
type TextOptions struct {
	// Verbose prints every run, and the trace of those that failed in any
	// way, expected or not.
	Verbose bool
	// Requirements prints the table of requirements.
	Requirements bool
}

// Text prints results for people: what failed and why, a table of sections by
// target, and a line of totals.
func Text(w io.Writer, results []*runner.Result, opt TextOptions) error {
	out := bufio.NewWriter(w)
	for _, r := range results {
		if opt.Verbose || !r.Verdict.OK() {
			writeResult(out, r, opt.Verbose)
		}
	}
	writeUnsupported(out, results, opt.Verbose)
	writeFindings(out, results)
	writeSections(out, results)
	if opt.Requirements {
		writeRequirements(out, results)
	}
	writeTotals(out, results)
	return out.Flush()
}

// writeResult prints one run.
func writeResult(w io.Writer, r *runner.Result, verbose bool) {
	fmt.Fprintf(w, "%-5s %s", r.Verdict, r.Name())
	if r.Tags.Title != "" {
		fmt.Fprintf(w, "  (%s)", r.Tags.Title)
	}
	fmt.Fprintln(w)
	if r.Reason != "" && r.Failure == nil {
		fmt.Fprintf(w, "      %s\n", r.Reason)
	}
	if verbose {
		for i := range r.Findings {
			fmt.Fprintf(w, "      oracle: %v\n", &r.Findings[i])
		}
	}
	if r.Failure == nil || !verbose && r.Verdict.OK() {
		return
	}
	f := r.Failure
	fmt.Fprintf(w, "      %v: %s\n", f.Pos, f.Message)
	if f.Event != "" {
		fmt.Fprintf(w, "      %5d %s\n", f.Pos.Line, f.Event)
	}
	writeSideBySide(w, "expected", f.Expected, "actual", orNothing(f.Actual))
	for _, n := range r.Notes {
		fmt.Fprintf(w, "      note: %s\n", strings.ReplaceAll(n, "\n", "\n            "))
	}
	if len(r.Trace) > 0 {
		fmt.Fprintf(w, "       line         time event\n")
	}
	for _, e := range r.Trace {
		fmt.Fprintf(w, "      %v\n", e)
	}
	fmt.Fprintln(w)
}

// orNothing names the absence of an event.
func orNothing(s string) string {
	if s == "" {
		return "(nothing)"
	}
	return s
}

// writeSideBySide prints two columns, or two lines if they would be too wide.
func writeSideBySide(w io.Writer, headA, a, headB, b string) {
	if a == "" {
		return
	}
	const most = 72
	width := max(len(headA), utf8.RuneCountInString(a))
	if width > most {
		fmt.Fprintf(w, "      %-8s  %s\n      %-8s  %s\n", headA, a, headB, b)
		return
	}
	fmt.Fprintf(w, "      %s | %s\n      %s | %s\n", pad(headA, width), headB, pad(a, width), b)
}

// pad fills s with spaces up to width.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// writeUnsupported prints why runs are unsupported, each reason once, unless
// every run is printed anyway.
func writeUnsupported(w io.Writer, results []*runner.Result, verbose bool) {
	if verbose {
		return
	}
	count := make(map[string]int)
	var reasons []string
	for _, r := range results {
		if r.Verdict != runner.Unsupported {
			continue
		}
		reason := r.Target + ": " + shortReason(r)
		if count[reason]++; count[reason] == 1 {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return
	}
	slices.SortStableFunc(reasons, func(a, b string) int { return count[b] - count[a] })
	fmt.Fprintln(w, "unsupported:")
	for _, reason := range reasons {
		fmt.Fprintf(w, "  %4d  %s\n", count[reason], reason)
	}
	fmt.Fprintln(w)
}

// shortReason is the reason of a run without the position in its script, so
// that those of many scripts count as one.
func shortReason(r *runner.Result) string {
	if rest, ok := strings.CutPrefix(r.Reason, r.Script+":"); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			return after
		}
	}
	return r.Reason
}

// otherSection is where scripts are counted that name no section.
const otherSection = "no section"

// writeSections prints the table of sections by target.
func writeSections(w io.Writer, results []*runner.Result) {
	targets := targetsOf(results)
	cells := make(map[string]map[string]Count)
	var sections []string
	for _, r := range results {
		s := cmp.Or(r.Tags.Section, otherSection)
		if cells[s] == nil {
			cells[s] = make(map[string]Count)
			sections = append(sections, s)
		}
		if cells[s][r.Target] == nil {
			cells[s][r.Target] = make(Count)
		}
		cells[s][r.Target][r.Verdict]++
	}
	slices.SortFunc(sections, compareSections)
	rows := [][]string{append([]string{"section"}, targets...)}
	for _, s := range sections {
		row := []string{s}
		for _, t := range targets {
			row = append(row, cells[s][t].String())
		}
		rows = append(rows, row)
	}
	writeTable(w, rows)
}

// compareSections orders "RFC 9293 3.4" before "RFC 9293 3.10".
func compareSections(a, b string) int {
	split := func(r rune) bool { return r == ' ' || r == '.' }
	x, y := strings.FieldsFunc(a, split), strings.FieldsFunc(b, split)
	return slices.CompareFunc(x, y, func(p, q string) int {
		m, errM := strconv.Atoi(p)
		n, errN := strconv.Atoi(q)
		if errM == nil && errN == nil {
			return m - n
		}
		return strings.Compare(p, q)
	})
}

// writeTable prints rows in columns; the first row is the heading.
func writeTable(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		var line strings.Builder
		for j, cell := range row {
			line.WriteString(pad(cell, widths[j]) + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
		if i == 0 {
			total := 2 * (len(widths) - 1)
			for _, n := range widths {
				total += n
			}
			fmt.Fprintln(w, strings.Repeat("-", total))
		}
	}
	fmt.Fprintln(w)
}

// writeRequirements prints the tables of requirements by target: that of RFC
// 9293, and that of other RFCs.
func writeRequirements(w io.Writer, results []*runner.Result) {
	targets := targetsOf(results)
	for _, covered := range [][]Covered{Coverage(results), OtherCoverage(results)} {
		if covered == nil {
			continue
		}
		rows := [][]string{slices.Concat([]string{"requirement", "level", "section", "feature"}, targets)}
		for _, c := range covered {
			row := []string{c.ID, c.Level, c.Section, c.Feature}
			for _, t := range targets {
				row = append(row, string(c.Verdicts[t]))
			}
			rows = append(rows, row)
		}
		writeTable(w, rows)
	}
}

// writeTotals prints one line of totals for each target, and one for all.
func writeTotals(w io.Writer, results []*runner.Result) {
	coverage, others := Coverage(results), OtherCoverage(results)
	for _, t := range targetsOf(results) {
		var own []*runner.Result
		for _, r := range results {
			if r.Target == t {
				own = append(own, r)
			}
		}
		req, other := make(Count), make(Count)
		for _, c := range coverage {
			req[c.Verdicts[t]]++
		}
		for _, c := range others {
			other[c.Verdicts[t]]++
		}
		again := 0
		for _, r := range own {
			if r.Retried != "" {
				again++
			}
		}
		if again > 0 {
			fmt.Fprintf(w, "%s: %d runs were done a second time, since the first failed in timing\n", t, again)
		}
		fmt.Fprintf(w, "%s: %v\n%s requirements of RFC 9293: %v\n", t, CountOf(own), t, req)
		if others != nil {
			fmt.Fprintf(w, "%s requirements of other RFCs: %v\n", t, other)
		}
	}
	c := CountOf(results)
	verdict := "ok"
	if !c.OK() {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "%s: %d runs, %v\n", verdict, c.Total(), c)
}
