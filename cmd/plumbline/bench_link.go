package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline/plumbline/internal/linkbench"
)

// benchLinkFlags are the flags of `plumbline bench link`.
type benchLinkFlags struct {
	contenders []string
	quantities []string
	rounds     int
	time       time.Duration
	json       string
}

// newBenchLinkCommand builds `plumbline bench link`.
func newBenchLinkCommand() *cobra.Command {
	var f benchLinkFlags
	var quantities []string
	for _, q := range linkbench.Quantities {
		quantities = append(quantities, q.Name)
	}
	cmd := &cobra.Command{
		Use:   "link [flags]",
		Short: "Measure link endpoints beside gVisor's and the kernel",
		Long: `Link measures this module's link endpoints, gVisor's and the kernel's own stack
on devices in network namespaces that it makes, which takes root. Rounds go
through all of them in turn; reported are medians over the rounds, and how they
compare to gVisor's endpoint of the same kind.

Quantities: ` + strings.Join(quantities, ", ") + `; the report says
what each is. All connections have gVisor's TCP at one end and the kernel's at
the other, except kernel's, which are veth between two namespaces.

Numbers of a machine that does something else at the same time mean little, but
the ratios of one run survive much of it.`,
		Example: `  # Everything, about three minutes.
  sudo plumbline bench link

  # Packet rates of packet sockets only, for a program.
  sudo plumbline bench link --only afpacket,stock-recvmmsg --quantity rx,tx --json -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringSliceVar(&f.contenders, "only", nil, "what to measure: "+strings.Join(linkbench.Names(), ", ")+" (default: all)")
	fl.StringSliceVar(&f.quantities, "quantity", nil, "quantities to measure (default: all)")
	fl.IntVar(&f.rounds, "rounds", 7, "rounds that the medians are of")
	fl.DurationVar(&f.time, "time", 300*time.Millisecond, "how long each quantity is measured in a round")
	fl.StringVar(&f.json, "json", "", "file to write the results to as JSON, - for the standard output in place of the table")
	return cmd
}

// check says what is wrong with the flags.
func (f *benchLinkFlags) check() error {
	for _, name := range f.contenders {
		if !slices.Contains(linkbench.Names(), name) {
			return usageErrorf("bench link: --only %q: there are %s", name, strings.Join(linkbench.Names(), ", "))
		}
	}
	for _, name := range f.quantities {
		if !slices.ContainsFunc(linkbench.Quantities, func(q linkbench.Quantity) bool { return q.Name == name }) {
			return usageErrorf("bench link: --quantity %q is not one of those that --help lists", name)
		}
	}
	const longest = time.Minute
	switch {
	case f.rounds < 1 || f.rounds > 1000:
		return usageErrorf("bench link: --rounds %d, want 1 to 1000", f.rounds)
	case f.time < time.Millisecond || f.time > longest:
		return usageErrorf("bench link: --time %v, want 1ms to %v", f.time, longest)
	}
	return nil
}

// run measures and reports.
func (f *benchLinkFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	var file *os.File
	if f.json != "" && f.json != "-" {
		var err error
		if file, err = os.Create(f.json); err != nil {
			return usageErrorf("bench link: --json: %w", err)
		}
		defer file.Close()
	}
	ctx, stop := signal.NotifyContext(ctx, endSignals...)
	defer stop()
	o := linkbench.Options{Contenders: f.contenders, Quantities: f.quantities, Rounds: f.rounds, Time: f.time}
	if isTerminal(stderr) {
		o.Progress = func(done, total int) { fmt.Fprintf(stderr, "\r%d of %d measurements\x1b[K", done, total) }
	}
	result, err := linkbench.Run(ctx, o)
	if o.Progress != nil {
		fmt.Fprint(stderr, "\r\x1b[K")
	}
	if err != nil {
		return fmt.Errorf("bench link: %w", err)
	}
	if file != nil {
		if err := result.WriteJSON(file); err != nil {
			return fmt.Errorf("bench link: --json: %w", err)
		}
	}
	if f.json == "-" {
		return result.WriteJSON(stdout)
	}
	return result.WriteTable(stdout)
}

// isTerminal says whether somebody looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
