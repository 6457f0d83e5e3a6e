package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"
)

// flags are the flags of the command.
type flags struct {
	run      string
	list     bool
	judge    bool
	markdown bool
	cases    int
	seed     uint64
	patience time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	status, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	stop()
	os.Exit(status)
}

// run is the command. It returns the exit status.
func run(ctx context.Context, args []string, out, progress io.Writer) (int, error) {
	var f flags
	set := flag.NewFlagSet("mutants", flag.ContinueOnError)
	set.SetOutput(progress)
	set.StringVar(&f.run, "run", "", "run only mutants whose name or file matches this regular expression")
	set.BoolVar(&f.list, "list", false, "print the mutants and run nothing")
	set.BoolVar(&f.markdown, "markdown", false, "print the table in Markdown")
	set.BoolVar(&f.judge, "judge", false, "judge the tcpx that this program was built with, and print what was found as JSON; what each mutant's own build is run with")
	set.IntVar(&f.cases, "cases", 300, "how many random cases to run on each mutant")
	set.Uint64Var(&f.seed, "seed", 1, "seed of scripts and cases")
	set.DurationVar(&f.patience, "patience", 90*time.Second, "after how long a mutant whose judge does not end counts as caught")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 2, nil // which flag has said
	}
	match, err := regexp.Compile(f.run)
	switch {
	case set.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q", set.Arg(0))
	case err != nil:
		return 2, fmt.Errorf("-run: %w", err)
	case f.cases < 0 || f.patience <= 0:
		return 2, errors.New("-cases is not negative, and -patience is positive")
	case f.judge:
		return 0, judgeHere(ctx, out, f.seed, f.cases)
	}
	chosen := selected(match)
	if len(chosen) == 0 {
		return 2, fmt.Errorf("nothing matches -run %q", f.run)
	}
	if f.list {
		for _, m := range chosen {
			fmt.Fprintf(out, "%-40s %s: %s\n", m.name, m.file, m.breaks)
		}
		return 0, nil
	}
	return f.measure(ctx, out, progress, chosen)
}

// selected returns the mutants that match, in the order of the table.
func selected(match *regexp.Regexp) []mutant {
	var out []mutant
	for _, m := range table() {
		if match.MatchString(m.name) || match.MatchString(m.file) {
			out = append(out, m)
		}
	}
	return out
}

// measure builds and judges the mutants, one after the other, and prints what became of them.
func (f *flags) measure(ctx context.Context, out, progress io.Writer, chosen []mutant) (int, error) {
	b, err := newBuilder()
	if err != nil {
		return 2, err
	}
	defer b.close()
	judge := func(m *mutant) (found, error) {
		program, err := b.build(ctx, m)
		if err != nil {
			return found{}, err
		}
		return f.ask(ctx, program)
	}
	original, err := judge(nil)
	if err != nil {
		return 2, err
	}
	if original.caught() {
		return 2, fmt.Errorf("the original does not pass, so that nothing can be told of mutants: %v", original)
	}
	survived, unseen := 0, 0
	var rows []row
	var broken []error
	for _, m := range chosen {
		got, err := judge(&m)
		if ctx.Err() != nil {
			return 2, ctx.Err()
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", m.name, err))
			continue
		}
		got.subtractSoft(original)
		rows = append(rows, row{m, got})
		fmt.Fprintf(progress, "%-40s %v\n", m.name, got)
		switch {
		case got.caught():
		case m.unseen != "":
			unseen++
		default:
			survived++
		}
	}
	print(out, rows, f.markdown)
	fmt.Fprintf(out, "%d mutants: %d caught, %d cannot be seen, %d survived\n", len(rows), len(rows)-unseen-survived, unseen, survived)
	if len(broken) > 0 {
		return 2, errors.Join(broken...)
	}
	if survived > 0 {
		return 1, nil
	}
	return 0, nil
}
