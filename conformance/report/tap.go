package report

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/plumbline/plumbline/conformance/runner"
)

// TAP writes results in the Test Anything Protocol: a test point for each run.
// What is unsupported is skipped, an expected failure is a TODO, and a failure
// has its comparison and its trace in a block of YAML. The version is 13, since
// Perl's prove refuses 14, of which nothing is needed here.
func TAP(w io.Writer, results []*runner.Result) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "TAP version 13\n1..%d\n", len(results))
	for i, r := range results {
		ok := "ok"
		if r.Verdict != runner.Pass && r.Verdict != runner.Unsupported {
			ok = "not ok"
		}
		fmt.Fprintf(out, "%s %d - %s%s\n", ok, i+1, escapeTAP(r.Name()), directive(r))
		for i := range r.Findings {
			fmt.Fprintf(out, "# oracle: %s\n", oneLine(r.Findings[i].String()))
		}
		if !r.Verdict.OK() {
			writeYAML(out, r)
		}
	}
	return out.Flush()
}

// directive is what stands behind the description of a test point. A failure
// that is expected does not fail the suite, which is what TODO means.
func directive(r *runner.Result) string {
	switch r.Verdict {
	case runner.Unsupported:
		return " # SKIP " + escapeTAP(oneLine(r.Reason))
	case runner.XFail:
		return " # TODO " + escapeTAP(oneLine(r.Reason))
	}
	return ""
}

// escapeTAP escapes what has a meaning in a description.
func escapeTAP(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(s)
}

// oneLine joins lines.
func oneLine(s string) string { return strings.Join(strings.Fields(printable(s)), " ") }

// printable replaces what a terminal would act upon.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// writeYAML writes what is known about a failure.
func writeYAML(w io.Writer, r *runner.Result) {
	quote := func(s string) string { return strconv.Quote(printable(s)) }
	fmt.Fprintf(w, "  ---\n  verdict: %s\n  message: %s\n", quote(string(r.Verdict)), quote(r.Reason))
	if f := r.Failure; f != nil {
		fmt.Fprintf(w, "  at: %s\n  event: %s\n  expected: %s\n  actual: %s\n",
			quote(f.Pos.String()), quote(f.Event), quote(f.Expected), quote(orNothing(f.Actual)))
		fmt.Fprintf(w, "  trace:\n")
		for _, e := range r.Trace {
			fmt.Fprintf(w, "    - %s\n", quote(e.String()))
		}
	}
	fmt.Fprintf(w, "  ...\n")
}
