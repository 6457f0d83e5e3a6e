package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline/plumbline/conformance/fuzz"
	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target"
)

// fuzzFlags are the flags of `plumbline fuzz`.
type fuzzFlags struct {
	targets  []string
	seed     uint64
	cases    int
	time     time.Duration
	diff     []string
	out      string
	replay   []string
	known    []string
	json     bool
	noShrink bool
	parallel int
}

// newFuzzCommand builds `plumbline fuzz`.
func newFuzzCommand() *cobra.Command {
	var f fuzzFlags
	cmd := &cobra.Command{
		Use:   "fuzz [flags]",
		Short: "Look for faults of a TCP with random peers",
		Long: `Fuzz plays peers that are random but know the state of the connection: they lose,
reorder, repeat and overlap, close windows, acknowledge too little or too much, fall
silent, reset. It judges what the TCP does by the rules of the oracle that have no
false positives, by the octets that it delivers, and at the end of each case by
whether it still gets along with a peer that does everything right.

A failure is shrunk to a few steps and printed as a script that fails in the same
way; --out writes the scripts to files, and --replay runs them again. The same seed
gives the same cases and, in virtual time, the same packets.

--diff A,B runs each case on two targets and reports what they do differently, the
known differences by name. A difference is no failure.

The exit status is 1 if a target failed in a way that --known does not name.`,
		Example: `  # A thousand cases against Plumbline's TCP.
  plumbline fuzz

  # Ten minutes against gVisor's own TCP, with scripts of what it gets wrong.
  plumbline fuzz --target gvisor --time 10m --out findings

  # One of them again.
  plumbline fuzz --target gvisor --replay findings/gvisor-stuck-sending.pkt

  # A stack in a process of its own, that speaks the protocol of docs/adapter.md.
  plumbline fuzz --target exec:./my-adapter

  # What differs between two of them.
  plumbline fuzz --diff tcpx,gvisor --cases 2000
  sudo plumbline fuzz --diff tcpx,linux --cases 50`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.fuzz(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), cmd.Flags().Changed("cases"))
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.targets, "target", []string{"tcpx"}, "targets: "+targetWords)
	fl.Uint64Var(&f.seed, "seed", 1, "seed of the cases")
	fl.IntVar(&f.cases, "cases", 1000, "how many cases to run on each target; without it, --time alone decides if it is given")
	fl.DurationVar(&f.time, "time", 0, "how long to run on each target at most")
	fl.StringSliceVar(&f.diff, "diff", nil, "two targets to compare, in place of --target")
	fl.StringVar(&f.out, "out", "", "write the script of each failure to this directory")
	fl.StringSliceVar(&f.replay, "replay", nil, "run these scripts in place of random cases")
	fl.StringSliceVar(&f.known, "known", nil, "classes of failures that are reported, but do not count, as in oracle:window,leftover")
	fl.BoolVar(&f.json, "json", false, "print JSON: an array with an object for each target")
	fl.BoolVar(&f.noShrink, "no-shrink", false, "leave failing cases as they are")
	fl.IntVar(&f.parallel, "parallel", 0, "how many cases to run at a time (default the number of CPUs)")
	return cmd
}

// fuzz runs the command.
func (f *fuzzFlags) fuzz(ctx context.Context, out, progress io.Writer, casesGiven bool) error {
	if f.time > 0 && !casesGiven {
		f.cases = 0
	}
	names := f.targets
	if len(f.diff) > 0 {
		names = f.diff
	}
	picker := targetPicker{command: "fuzz"}
	defer picker.close()
	kinds, err := picker.pick(names)
	if err != nil {
		return err
	}
	if err := f.check(kinds); err != nil {
		return err
	}
	quiet()
	switch {
	case len(f.replay) > 0:
		return f.runReplay(ctx, out, kinds)
	case len(f.diff) > 0:
		return f.runDiff(ctx, out, progress, kinds)
	}
	var reports []*fuzz.Report
	for _, k := range kinds {
		r, err := f.runOne(ctx, progress, k)
		if err != nil {
			return fmt.Errorf("fuzz: %s: %w", k.Name, err)
		}
		reports = append(reports, r)
		if !f.json {
			printFuzzReport(out, r)
		}
	}
	if f.json {
		if err := printJSON(out, reports); err != nil {
			return err
		}
	}
	if err := f.writeScripts(reports); err != nil {
		return err
	}
	for _, r := range reports {
		for _, x := range r.Failures {
			if !slices.Contains(f.known, x.Class) {
				return &checkFailed{}
			}
		}
	}
	return nil
}

// check refuses flags that make no sense.
func (f *fuzzFlags) check(kinds []target.Kind) error {
	switch {
	case f.cases < 0 || f.time < 0 || f.parallel < 0:
		return usageErrorf("fuzz: --cases, --time and --parallel are not negative")
	case f.cases == 0 && f.time == 0 && len(f.replay) == 0:
		return usageErrorf("fuzz: --cases 0 needs --time")
	case len(f.diff) > 0 && (len(f.diff) != 2 || len(kinds) != 2):
		return usageErrorf("fuzz: --diff wants two targets, as in tcpx,gvisor")
	case len(f.diff) > 0 && len(f.replay) > 0:
		return usageErrorf("fuzz: give --diff or --replay, not both")
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o777); err != nil {
			return usageErrorf("fuzz: --out: %w", err)
		}
	}
	return nil
}

// runOne fuzzes one target.
func (f *fuzzFlags) runOne(ctx context.Context, progress io.Writer, k target.Kind) (*fuzz.Report, error) {
	if f.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.time)
		defer cancel()
	}
	return fuzz.Run(ctx, fuzz.Options{
		Kind: k, Seed: f.seed, Cases: f.cases, Parallel: f.parallel, NoShrink: f.noShrink,
		Progress: func(p fuzz.Progress) {
			fmt.Fprintf(progress, "%s: %d cases in %v, %d failed, in %d ways\n", k.Name, p.Cases, p.Elapsed.Round(time.Second), p.Failing, p.Classes)
		},
	})
}

// printFuzzReport prints a report for people.
func printFuzzReport(out io.Writer, r *fuzz.Report) {
	for _, x := range r.Failures {
		fmt.Fprintf(out, "%s: %s, %d cases, the first is %d (%d steps, shrunk to %d)\n", r.Target, x.Class, x.Count, x.Number, x.Steps, x.Left)
		if x.Script == "" {
			fmt.Fprintf(out, "    %s\n", x.Text)
		}
		for line := range strings.Lines(x.Script) {
			fmt.Fprintf(out, "    %s", line)
		}
		if x.Script != "" && !x.Reproduced {
			fmt.Fprintf(out, "    (conform does not fail at this script)\n")
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s: %d cases of seed %d with %d steps, %d packets sent by the target: ", r.Target, r.Cases, r.Seed, r.Steps, r.Packets)
	if r.Failing == 0 {
		fmt.Fprint(out, "none failed")
	} else {
		fmt.Fprintf(out, "%d failed, in %d ways", r.Failing, len(r.Failures))
	}
	if r.Unsupported > 0 {
		fmt.Fprintf(out, "; %d need what the target has not", r.Unsupported)
	}
	fmt.Fprintln(out)
}

// printJSON prints a value for a program.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeScripts writes the script of each failure to a file that is named after the
// target and the class.
func (f *fuzzFlags) writeScripts(reports []*fuzz.Report) error {
	if f.out == "" {
		return nil
	}
	for _, r := range reports {
		for _, x := range r.Failures {
			if x.Script == "" {
				continue
			}
			name := filepath.Join(f.out, fuzz.FileName(r.Target, x.Class))
			if err := os.WriteFile(name, []byte(x.Script), 0o666); err != nil {
				return usageErrorf("fuzz: --out: %w", err)
			}
		}
	}
	return nil
}

// runReplay runs scripts, judged as cases are.
func (f *fuzzFlags) runReplay(ctx context.Context, out io.Writer, kinds []target.Kind) error {
	s := &runner.Suite{Targets: kinds, Parallel: f.parallel, Options: runner.Options{Seed: f.seed, Oracle: true}}
	if err := loadPaths(s, f.replay); err != nil {
		return err
	}
	results, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if f.json {
		err = report.JSON(out, results, f.seed)
	} else {
		err = report.Text(out, results, report.TextOptions{Verbose: true})
	}
	if err == nil && !report.CountOf(results).OK() {
		err = &checkFailed{}
	}
	return err
}

// runDiff compares two targets.
func (f *fuzzFlags) runDiff(ctx context.Context, out, progress io.Writer, kinds []target.Kind) error {
	if f.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.time)
		defer cancel()
	}
	r, err := fuzz.Differ(ctx, fuzz.DiffOptions{
		A: kinds[0], B: kinds[1], Seed: f.seed, Cases: f.cases, Parallel: f.parallel,
		Progress: func(p fuzz.Progress) {
			fmt.Fprintf(progress, "%d cases in %v, %d answered differently, in %d ways\n", p.Cases, p.Elapsed.Round(time.Second), p.Failing, p.Classes)
		},
	})
	if err != nil {
		return fmt.Errorf("fuzz: %w", err)
	}
	if f.json {
		return printJSON(out, r)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(out, "%5d  %s\n       %s: %s; %s: %s\n", d.Count, d.Class, r.A, d.A, r.B, d.B)
		if d.Known != "" {
			fmt.Fprintf(out, "       known: %s\n", d.Known)
		}
		if f.out == "" {
			continue
		}
		name := filepath.Join(f.out, fuzz.FileName(r.A+"-"+r.B, d.Class))
		if err := os.WriteFile(name, []byte(d.Script), 0o666); err != nil {
			return usageErrorf("fuzz: --out: %w", err)
		}
	}
	fmt.Fprintf(out, "%s and %s: %d cases of seed %d, %d answered differently, in %d ways; %d failed at, %d unsupported\n",
		r.A, r.B, r.Cases, r.Seed, r.Differing, len(r.Differences), r.Failed, r.Unsupported)
	return nil
}
