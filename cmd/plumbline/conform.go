package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

// conformFlags are the flags of `plumbline conform`.
type conformFlags struct {
	targets      []string
	run          string
	level        string
	ignore       []string
	corpus       string
	packetdrill  string
	shell        bool
	reports      map[string]*string
	snapshot     string
	update       bool
	tolerance    time.Duration
	maxTime      time.Duration
	seed         uint64
	verbose      bool
	requirements bool
	oracle       bool
	parallel     int
	realTime     int
	// picker finds the targets, and knows the processes among them.
	picker targetPicker
}

// newConformCommand builds `plumbline conform`.
func newConformCommand() *cobra.Command {
	f := conformFlags{reports: make(map[string]*string)}
	cmd := &cobra.Command{
		Use:   "conform [flags] [PATH...]",
		Short: "Judge a TCP by packet scripts",
		Long: `Conform runs packet scripts against one or more TCPs, in memory and in virtual
time, and prints what failed, a table of sections by target, and totals.

Without a PATH it runs the suite that is built in. A PATH is a script or a
directory with scripts, in the language of packetdrill. --corpus runs a checkout
of scripts that were written for packetdrill on Linux.

The exit status is 1 if a script failed that was not expected to, or passed
although it was expected to fail, or if a verdict differs from the snapshot.`,
		Example: `  # The built-in suite, on every target.
  plumbline conform

  # What became of each requirement of RFC 9293.
  plumbline conform --requirements

  # Scripts about the handshake, on one target, with every packet.
  plumbline conform --target gvisor --run '^open/' --verbose

  # The scripts that prove one requirement.
  plumbline conform --run '^MUST-14$'

  # A stack of your own, in a program that speaks the protocol of docs/adapter.md.
  plumbline conform --target exec:./my-adapter

  # Reports for continuous integration.
  plumbline conform --junit conform.xml --json conform.json --html conform.html

  # No verdict may change silently.
  plumbline conform --snapshot conformance/snapshot.txt

  # Google's public scripts.
  git clone https://github.com/google/packetdrill
  plumbline conform --corpus packetdrill/gtests/net/tcp

  # The same on Linux, compared with packetdrill itself.
  plumbline conform --corpus packetdrill/gtests/net/tcp --target linux \
      --packetdrill packetdrill/gtests/net/packetdrill/packetdrill`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.conform(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.targets, "target", nil, "targets to run on: "+targetWords)
	fl.StringVar(&f.run, "run", "", "run only what matches this regular expression: the name of a run, as in open/active.pkt/ipv4/gvisor, or a requirement of its script")
	fl.StringVar(&f.level, "level", "", "compare packets at this level, rfc or strict (default what the script asks for)")
	fl.StringSliceVar(&f.ignore, "ignore", nil, "do not compare: windows, the window field and the shift of its scale; ect, which segments are ECN-capable")
	fl.StringVar(&f.corpus, "corpus", "", "run the packetdrill scripts below this directory instead of the suite")
	fl.BoolVar(&f.shell, "shell", false, "run the commands of the scripts of --corpus in a shell, in the namespace of the target linux; they can do all that you can")
	fl.StringVar(&f.packetdrill, "packetdrill", "", "compare the verdicts of --target linux with those of this program, packetdrill; it runs the commands of scripts, as --shell does")
	for _, r := range reports {
		f.reports[r.flag] = fl.String(r.flag, "", "write a report in "+r.what+" to this file")
	}
	fl.StringVar(&f.snapshot, "snapshot", "", "compare the verdicts with those in this file")
	fl.BoolVar(&f.update, "update", false, "write the verdicts to the file of --snapshot in place of comparing them")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of all that is random; the same seed gives the same packets")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "print every run, and every packet of those that failed")
	fl.BoolVar(&f.oracle, "oracle", false, "judge the packets of each run as check does: a run fails if the target breaks a rule of the hard tier")
	fl.BoolVar(&f.requirements, "requirements", false, "print what became of each requirement of RFC 9293")
	fl.DurationVar(&f.tolerance, "tolerance", 0, "how early or late an event may be (default 4ms); a busy machine needs more in real time")
	fl.DurationVar(&f.maxTime, "max-time", 10*time.Second, "how long a script may last on a target in real time; 0 is no limit")
	cmd.AddCommand(newExplainCommand())
	fl.IntVar(&f.parallel, "parallel", 0, "how many scripts to run at a time (default the number of CPUs)")
	fl.IntVar(&f.realTime, "real-time-parallel", 1, "how many scripts to run at a time on targets in real time: more save time, and want an idle machine")
	return cmd
}

// conform runs the command.
func (f *conformFlags) conform(ctx context.Context, out io.Writer, args []string) error {
	defer f.picker.close()
	s, err := f.suite(args)
	if err != nil {
		return err
	}
	if f.update && f.snapshot == "" {
		return usageErrorf("conform: --update needs --snapshot FILE")
	}
	if f.packetdrill != "" {
		quiet()
		return f.comparePacketdrill(ctx, out, s)
	}
	files, err := f.createReports()
	if err != nil {
		return err
	}
	defer files.close()
	quiet()
	results, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return usageErrorf("conform: nothing matches --run %q", f.run)
	}
	if err := report.Text(out, results, report.TextOptions{Verbose: f.verbose, Requirements: f.requirements}); err != nil {
		return err
	}
	if err := files.write(results, f.seed); err != nil {
		return err
	}
	same, err := f.checkSnapshot(out, results)
	if err != nil {
		return err
	}
	if !same || !report.CountOf(results).OK() {
		return &checkFailed{}
	}
	return nil
}

// quiet silences gVisor, which logs what hostile packets make it do: scripts
// send them on purpose.
func quiet() {
	log.SetLevel(log.Warning)
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
}

// suite puts together what to run.
func (f *conformFlags) suite(args []string) (*runner.Suite, error) {
	s := &runner.Suite{Parallel: f.parallel, RealTimeParallel: f.realTime, Options: runner.Options{Seed: f.seed, Oracle: f.oracle, Tolerance: f.tolerance, MaxRealTime: f.maxTime}}
	if f.tolerance < 0 || f.maxTime < 0 {
		return nil, usageErrorf("conform: --tolerance and --max-time are not negative")
	}
	var err error
	f.picker.command = "conform"
	if s.Targets = target.Kinds(); len(f.targets) > 0 {
		if s.Targets, err = f.picker.pick(f.targets); err != nil {
			return nil, err
		}
	}
	if f.level != "" {
		if s.Options.Level, err = runner.ParseLevel(f.level); err != nil {
			return nil, usageErrorf("conform: --level: %v", err)
		}
	}
	if s.Options.Ignore, err = runner.ParseIgnored(f.ignore); err != nil {
		return nil, usageErrorf("conform: --ignore: %v", err)
	}
	if f.run != "" {
		if s.Match, err = regexp.Compile(f.run); err != nil {
			return nil, usageErrorf("conform: --run: %v", err)
		}
	}
	if f.parallel < 0 {
		return nil, usageErrorf("conform: --parallel %d is negative", f.parallel)
	}
	if f.realTime < 0 {
		return nil, usageErrorf("conform: --real-time-parallel %d is negative", f.realTime)
	}
	if err := f.checkShell(); err != nil {
		return nil, err
	}
	switch {
	case f.corpus != "" && len(args) > 0:
		return nil, usageErrorf("conform: give --corpus or paths, not both")
	case f.corpus != "":
		return s, f.loadCorpus(s)
	case len(args) > 0:
		return s, loadPaths(s, args)
	}
	if s.Scripts, err = suite.Load(); err != nil {
		return nil, err
	}
	s.Cases = suite.Cases()
	return s, nil
}

// loadCorpus reads a directory of scripts for packetdrill.
func (f *conformFlags) loadCorpus(s *runner.Suite) error {
	info, err := os.Stat(f.corpus)
	if err != nil {
		return usageErrorf("conform: --corpus: %w", err)
	}
	if !info.IsDir() {
		return usageErrorf("conform: --corpus %s is not a directory", f.corpus)
	}
	s.Scripts, s.Broken, err = runner.LoadCorpus(os.DirFS(f.corpus))
	if err != nil {
		return usageErrorf("conform: --corpus: %w", err)
	}
	if len(s.Scripts)+len(s.Broken) == 0 {
		return usageErrorf("conform: --corpus %s has no scripts (*.pkt)", f.corpus)
	}
	s.Options.IgnoreLeftovers = true
	s.Options.Addrs = runner.CorpusAddrs()
	if f.shell || f.packetdrill != "" {
		s.Options.Shell = f.corpus
	}
	if f.packetdrill != "" {
		s.Options.MaxRealTime = 0 // packetdrill has no limit either
	}
	s.Options.ReadFile = readBelow(f.corpus)
	return nil
}

// maxRead is the longest file that a script may name, in bytes.
const maxRead = 1 << 20

// readBelow returns a function that reads files whose names are relative to
// dir. It reads regular files only, so that a script cannot make it hang.
func readBelow(dir string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		p := filepath.FromSlash(name)
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxRead {
			return nil, fmt.Errorf("%s is not a regular file of at most 1 MiB", p)
		}
		return os.ReadFile(p)
	}
}

// loadPaths reads the scripts that the arguments name.
func loadPaths(s *runner.Suite, paths []string) error {
	s.Options.ReadFile = readBelow(".")
	for _, p := range paths {
		found := 0
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || name != p && filepath.Ext(name) != ".pkt" {
				return err
			}
			src, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			sc, err := script.Parse(filepath.ToSlash(name), src)
			if err != nil {
				return err
			}
			s.Scripts = append(s.Scripts, sc)
			found++
			return nil
		})
		if err != nil {
			return usageErrorf("conform: %w", err)
		}
		if found == 0 {
			return usageErrorf("conform: %s has no scripts (*.pkt)", p)
		}
	}
	return nil
}
