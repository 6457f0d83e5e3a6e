package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/congestion/testbed"
	"github.com/plumbline/plumbline/congestion/testbed/scenariofile"
)

// benchCCFlags are the flags of `plumbline bench cc`.
type benchCCFlags struct {
	scenarios, algorithms, stacks []string
	files                         []string
	duration                      time.Duration
	seed                          uint64
	parallel                      int
	rounds                        int
	compareLinux                  bool
	shard                         string
	list                          bool
	chosen                        func(flag string) bool
	json, html, pcapng            string
}

// The defaults run in seconds and show what distinguishes the algorithms.
var (
	defaultCCScenarios  = []string{"clean", "loss/1%", "bufferbloat/10bdp"}
	defaultCCAlgorithms = []string{"reno", "cubic", "bbr"}
)

// What --compare-linux runs unless other flags say otherwise.
var (
	compareScenarios  = []string{"clean", "loss/0.1%", "loss/1%", "bufferbloat/10bdp"}
	compareAlgorithms = []string{"reno", "cubic", "bbr1"}
)

const (
	compareRounds = 5
	maxRounds     = 1000
	// retries is how often a run in real time is repeated when the machine was too busy.
	retries = 2
)

// newBenchCCCommand builds `plumbline bench cc`.
func newBenchCCCommand() *cobra.Command {
	var f benchCCFlags
	cmd := &cobra.Command{
		Use:   "cc [flags]",
		Short: "Compare congestion control algorithms in virtual time",
		Long: `Cc runs whole TCP stacks over an emulated bottleneck in virtual time and
measures goodput, queueing delay, losses and fairness. The same seed gives the
same results, however fast the machine is.

Goodput, the time that packets wait in the queue and Jain's index of fairness are
those of the steady state, without a warm-up at the start; drops, retransmits
and time-outs are those of the whole run. "of max" is the share of what the link
can carry beside headers, or, for a single flow among others, of all goodput.

The stack linux is this machine's kernel: two network namespaces over TAP devices
and the same emulator, in real time, which takes root. "late p99" is by how many
milliseconds the emulator missed its time, with a ! if that is too much for the
run to mean anything. The kernel's bbr is BBR's first version: bbr1.`,
		Example: `  # Reno, CUBIC and BBR on three scenarios.
  plumbline bench cc

  # The same as a page with charts.
  plumbline bench cc --html cc.html

  # What scenarios are there?
  plumbline bench cc --list

  # Everything about random loss, against gVisor's own TCP, for a program.
  plumbline bench cc --scenario loss --cc reno,cubic --stack tcpx,gvisor --json loss.json

  # Every packet of one scenario, for Wireshark.
  plumbline bench cc --scenario step/blackout --cc bbr --pcapng blackout.pcapng

  # Scenarios of one's own, with all algorithms.
  plumbline bench cc --file scenarios.yaml

  # tcpx beside the TCP of this machine's kernel, in real time: an hour.
  sudo plumbline bench cc --compare-linux

  # A large sweep in three parts, as in a CI matrix, and their union.
  plumbline bench cc --scenario coexist --shard 1/3 --json part1.json
  plumbline bench cc merge part1.json part2.json part3.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.chosen = cmd.Flags().Changed
			return f.run(cmd.Context(), chosenFlags(cmd), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.scenarios, "scenario", defaultCCScenarios, "scenarios to run, whole or one variant; \"all\" for all")
	fl.StringSliceVar(&f.files, "file", nil, "run the scenarios of this YAML file; built-in ones only if --scenario names them")
	fl.StringSliceVar(&f.algorithms, "cc", defaultCCAlgorithms, "algorithms to compare")
	fl.StringSliceVar(&f.stacks, "stack", []string{"tcpx"}, "stacks to compare: "+strings.Join(kindNames(), ", "))
	fl.DurationVar(&f.duration, "duration", 0, "virtual time of each scenario (default its own)")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of all that is random")
	fl.IntVar(&f.parallel, "parallel", 0, "how many scenarios to run at a time (default the number of CPUs)")
	fl.IntVar(&f.rounds, "rounds", 1, "how often to run each scenario, each time with the next seed: reported are medians")
	fl.BoolVar(&f.compareLinux, "compare-linux", false, fmt.Sprintf("compare with the kernel's TCP: unless other flags choose, --stack tcpx,linux --cc %s --scenario %s --rounds %d; status 1 if they differ by more than 10%% (bbr1: 15%%)",
		strings.Join(compareAlgorithms, ","), strings.Join(compareScenarios, ","), compareRounds))
	fl.StringVar(&f.shard, "shard", "", "run only part i of n of the scenarios, as in 2/5")
	fl.BoolVar(&f.list, "list", false, "list the scenarios and stop")
	fl.StringVar(&f.json, "json", "", "write the results in JSON to this file, - for the standard output")
	fl.StringVar(&f.html, "html", "", "write a page with charts to this file")
	fl.StringVar(&f.pcapng, "pcapng", "", "record the headers of all packets at the senders' links to files in this directory, or to this file (*.pcapng) if one scenario runs")
	cmd.AddCommand(newBenchCCMergeCommand())
	return cmd
}

// chosenFlags writes a command with the flags that decide what it computes, for whoever wants to repeat it.
func chosenFlags(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "json", "html", "pcapng", "parallel":
		default:
			line += " --" + f.Name
			if f.Value.Type() != "bool" {
				line += " " + strings.Trim(f.Value.String(), "[]")
			}
		}
	})
	return line
}

// kindNames returns the names of the stacks.
func kindNames() []string {
	var names []string
	for _, k := range testbed.Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// run runs the command.
func (f *benchCCFlags) run(ctx context.Context, commandLine string, stdout, stderr io.Writer) error {
	if f.list {
		return listScenarios(stdout)
	}
	f.applyComparison()
	scenarios, err := f.expand()
	if err != nil {
		return usageErrorf("bench cc: %w", err)
	}
	if err := testbed.CheckRealTime(scenarios); err != nil {
		return usageErrorf("bench cc: --stack linux: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, endSignals...)
	defer stop()
	out, err := createOutputs(stdout, f.json, f.html)
	if err != nil {
		return usageErrorf("bench cc: %w", err)
	}
	out.page.Command = commandLine
	defer out.close()
	// gVisor logs what it makes of losses.
	log.SetLevel(log.Warning)
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})

	bar := newProgressLine(stderr)
	sweep := testbed.Sweep{Scenarios: testbed.Repeat(scenarios, f.rounds), Parallel: f.parallel, Progress: bar.update}
	if f.rounds > 1 {
		sweep.Retries = retries
	}
	closeCaptures := func() error { return nil }
	if f.pcapng != "" {
		c, err := newCaptures(f.pcapng, scenarios)
		if err != nil {
			return usageErrorf("bench cc: --pcapng: %w", err)
		}
		sweep.Options, closeCaptures = c.options, c.close
	}
	results, err := sweep.Run(ctx)
	bar.clear()
	if err := errors.Join(err, closeCaptures()); err != nil {
		return err
	}
	results = testbed.Medians(results, f.rounds)
	testbed.Sort(results)
	return f.report(out, results)
}

// report writes the results, and the comparison of the kernel's with others if there are any.
func (f *benchCCFlags) report(out *outputs, results []*testbed.Result) error {
	out.comparisons = testbed.Compare(results, "linux")
	if err := out.write(results); err != nil || !f.compareLinux {
		return err
	}
	held := 0
	for i := range out.comparisons {
		if out.comparisons[i].Holds() {
			held++
		}
	}
	if held < len(out.comparisons) {
		return &checkFailed{fmt.Sprintf("bench cc: %d of %d comparisons do not hold", len(out.comparisons)-held, len(out.comparisons))}
	}
	return nil
}

// applyComparison makes --compare-linux the default of flags that were not given.
func (f *benchCCFlags) applyComparison() {
	if !f.compareLinux {
		return
	}
	if !f.chosen("stack") {
		f.stacks = []string{"tcpx", "linux"}
	}
	if !f.chosen("cc") {
		f.algorithms = compareAlgorithms
	}
	if !f.chosen("scenario") {
		f.scenarios = compareScenarios
	}
	if !f.chosen("rounds") {
		f.rounds = compareRounds
	}
}

// expand puts together what to run.
func (f *benchCCFlags) expand() ([]*testbed.Scenario, error) {
	if f.parallel < 0 {
		return nil, fmt.Errorf("--parallel %d is negative", f.parallel)
	}
	if f.duration < 0 {
		return nil, fmt.Errorf("--duration %v is negative", f.duration)
	}
	if f.rounds < 1 || f.rounds > maxRounds {
		return nil, fmt.Errorf("--rounds %d, want 1 to %d", f.rounds, maxRounds)
	}
	if f.rounds > 1 && f.pcapng != "" {
		return nil, errors.New("--pcapng records one round")
	}
	if f.compareLinux && !slices.Contains(f.stacks, "linux") {
		return nil, errors.New("--compare-linux without linux in --stack")
	}
	var shard testbed.Shard
	if f.shard != "" {
		var err error
		if shard, err = testbed.ParseShard(f.shard); err != nil {
			return nil, fmt.Errorf("--shard: %w", err)
		}
	}
	var all []*testbed.Scenario
	for _, source := range f.sources() {
		for _, stack := range f.stacks {
			kind, err := testbed.KindOf(stack)
			if err != nil {
				return nil, fmt.Errorf("--stack: %w", err)
			}
			algorithms, err := f.algorithmsOf(kind)
			if err != nil {
				return nil, err
			}
			s, err := source(testbed.Params{Stack: stack, Algorithms: algorithms, Seed: f.seed, Duration: f.duration})
			if err != nil {
				return nil, err
			}
			all = append(all, s...)
		}
	}
	for _, s := range all {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("nothing to run: these scenarios need more than one algorithm, or another stack")
	}
	return shard.Select(all), nil
}

// sources returns functions that make the scenarios of each name and file.
func (f *benchCCFlags) sources() []func(testbed.Params) ([]*testbed.Scenario, error) {
	names := f.scenarios
	switch {
	case slices.Contains(names, "all"):
		names = nil
		for _, family := range testbed.Families() {
			names = append(names, family.Name)
		}
	case len(f.files) > 0 && !f.chosen("scenario"):
		names = nil
	}
	var out []func(testbed.Params) ([]*testbed.Scenario, error)
	for _, name := range names {
		out = append(out, func(p testbed.Params) ([]*testbed.Scenario, error) {
			s, err := testbed.Expand(name, p)
			if err != nil {
				err = fmt.Errorf("--scenario: %w", err)
			}
			return s, err
		})
	}
	for _, name := range f.files {
		out = append(out, func(p testbed.Params) ([]*testbed.Scenario, error) {
			s, err := scenariofile.Load(name, p)
			if p.Duration > 0 {
				for _, one := range s {
					one.Stretch(p.Duration)
				}
			}
			return s, err
		})
	}
	return out
}

// algorithmsOf returns the chosen algorithms that a stack has. Where several stacks are compared, one may lack some of them.
func (f *benchCCFlags) algorithmsOf(kind testbed.Kind) ([]string, error) {
	known := kind.Algorithms()
	var out []string
	for _, a := range f.algorithms {
		if slices.Contains(known, a) {
			out = append(out, a)
		} else if len(f.stacks) == 1 || !knownToAny(a) {
			return nil, fmt.Errorf("--cc: %s has no %q; it has %s", kind.Name, a, strings.Join(known, ", "))
		}
	}
	return out, nil
}

func knownToAny(algorithm string) bool {
	return slices.ContainsFunc(testbed.Kinds(), func(k testbed.Kind) bool { return slices.Contains(k.Algorithms(), algorithm) })
}

// listScenarios prints the built-in scenarios.
func listScenarios(w io.Writer) error {
	for _, f := range testbed.Families() {
		if _, err := fmt.Fprintf(w, "%-12s %s\n", f.Name, f.About); err != nil {
			return err
		}
		if len(f.Variants) > 0 {
			if _, err := fmt.Fprintf(w, "%-12s   %s\n", "", strings.Join(f.Variants, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

// newBenchCCMergeCommand builds `plumbline bench cc merge`.
func newBenchCCMergeCommand() *cobra.Command {
	var jsonName, htmlName string
	cmd := &cobra.Command{
		Use:   "merge [flags] FILE...",
		Short: "Put the results of several runs together",
		Long: `Merge reads files that bench cc wrote with --json, of shards for example, and
writes one report.`,
		Example: `  plumbline bench cc merge --json all.json part*.json`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := readResults(args)
			if err != nil {
				return usageErrorf("bench cc merge: %w", err)
			}
			out, err := createOutputs(cmd.OutOrStdout(), jsonName, htmlName)
			if err != nil {
				return usageErrorf("bench cc merge: %w", err)
			}
			defer out.close()
			return out.write(results)
		},
	}
	cmd.Flags().StringVar(&jsonName, "json", "", "write the results in JSON to this file, - for the standard output")
	cmd.Flags().StringVar(&htmlName, "html", "", "write a page with charts to this file; JSON has no series, so that it compares only")
	return cmd
}

// readResults reads the results in files and puts them into the order of a run without shards.
func readResults(names []string) ([]*testbed.Result, error) {
	var all []*testbed.Result
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		results, err := testbed.ReadJSON(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, results...)
	}
	testbed.Sort(all)
	return all, nil
}
