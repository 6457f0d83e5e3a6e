package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/rfcs"
	"github.com/plumbline/plumbline/conformance/runner"
)

// newExplainCommand builds `plumbline conform explain`.
func newExplainCommand() *cobra.Command {
	var f conformFlags
	cmd := &cobra.Command{
		Use:   "explain REQUIREMENT|SCRIPT",
		Short: "Print a requirement or a script, its tests and their verdicts",
		Long: `Explain prints what RFC 9293 requires under an ID, as in MUST-13, or what another
RFC requires, as in RFC5961-3.2-b, which tests of the built-in suite prove it, and how each target does in them: it runs them. With
the name of a script it prints the script and how each target does.`,
		Example: `  plumbline conform explain MUST-13
  plumbline conform explain RFC5961-3.2-b
  plumbline conform explain matrix/FIN-WAIT-2/FIN
  plumbline conform explain close/active.pkt --target tcpx`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.explain(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	cmd.Flags().StringSliceVar(&f.targets, "target", nil, "targets to run on: "+targetWords)
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of all that is random")
	return cmd
}

// explain runs the command.
func (f *conformFlags) explain(ctx context.Context, out io.Writer, what string) error {
	id := strings.ToUpper(what)
	isID := rfc9293.Lookup(id) != nil
	f.run = "^" + regexp.QuoteMeta(what) + "/ipv"
	if isID {
		f.run = "^" + regexp.QuoteMeta(id) + "$"
	}
	if r, ok := otherRequirement(what); ok {
		id, isID = r.ID, true
		var names []string
		for _, n := range r.Tests {
			names = append(names, regexp.QuoteMeta(n))
		}
		f.run = "^(" + strings.Join(names, "|") + ")/ipv"
	}
	defer f.picker.close()
	s, err := f.suite(nil)
	if err != nil {
		return err
	}
	quiet()
	results, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if isID {
		_, err := report.Explain(out, id, results)
		return err
	}
	if len(results) == 0 {
		return usageErrorf("conform explain: %q is neither a requirement, as MUST-13 and RFC5961-3.2-b are, nor a script of the suite", what)
	}
	return explainScript(out, results)
}

// otherRequirement returns the requirement of another RFC with an ID, in
// whichever case it is written.
func otherRequirement(id string) (rfcs.Requirement, bool) {
	for _, r := range rfcs.All() {
		if strings.EqualFold(r.ID, id) {
			return r, true
		}
	}
	return rfcs.Requirement{}, false
}

// explainScript prints a script and its verdicts.
func explainScript(out io.Writer, results []*runner.Result) error {
	fmt.Fprintf(out, "%s\n\n", results[0].Script)
	for i, line := range strings.Split(strings.TrimRight(results[0].Source, "\n"), "\n") {
		fmt.Fprintf(out, "%5d  %s\n", i+1, line)
	}
	fmt.Fprintln(out)
	slices.SortStableFunc(results, func(a, b *runner.Result) int { return strings.Compare(a.Target, b.Target) })
	return report.Text(out, results, report.TextOptions{Verbose: true})
}
