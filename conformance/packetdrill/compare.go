package packetdrill

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// Pair are the outcomes of one script over one version of IP, on both sides, a
// round at a time.
type Pair struct {
	// Name is the name of the script with the version of IP, as in
	// "close/close.pkt/ipv4".
	Name string
	// Ours are the outcomes of this project's runner, Theirs packetdrill's;
	// at least one each, and as many on both sides.
	Ours, Theirs []Outcome
}

// Agreement says how the two sides of a Pair stand to each other.
type Agreement string

// The values of Agreement.
const (
	// Agree: the same verdict.
	Agree Agreement = "agree"
	// Differ: not the same.
	Differ Agreement = "differ"
	// Timing: not the same, but one side failed in nothing but time.
	Timing Agreement = "timing"
)

// verdictOf returns the verdict of all runs of one side, and whether it failed in
// time alone.
func verdictOf(list []Outcome) (v runner.Verdict, timing bool) {
	v, timing = runner.Fail, true
	for _, o := range list {
		switch o.Verdict {
		case runner.Pass, runner.Unsupported:
			return o.Verdict, false
		}
		timing = timing && o.Timing
	}
	return v, timing
}

// Agreement compares the two sides.
func (p *Pair) Agreement() Agreement {
	ours, lateOurs := verdictOf(p.Ours)
	theirs, lateTheirs := verdictOf(p.Theirs)
	switch {
	case ours == theirs:
		return Agree
	case lateOurs || lateTheirs:
		return Timing
	}
	return Differ
}

// Flaky reports whether the runs of a side did not all end in one verdict.
func (p *Pair) Flaky() bool {
	for _, side := range [][]Outcome{p.Ours, p.Theirs} {
		for _, o := range side {
			if o.Verdict != side[0].Verdict {
				return true
			}
		}
	}
	return false
}

// Comparer runs scripts on both sides.
type Comparer struct {
	// Ours runs a script by this project's runner, Theirs by packetdrill.
	Ours   func(ctx context.Context, s *script.Script, ip runner.IPVersion) Outcome
	Theirs func(ctx context.Context, script string, ip runner.IPVersion) Outcome
	// Rounds is how often to run a script at most; 0 means 3.
	Rounds int
	// Progress, if not nil, is told of each Pair when it is done.
	Progress func(*Pair)
}

// Run compares scripts, in order. When ctx ends it returns what it has, with the
// error of ctx.
func (c *Comparer) Run(ctx context.Context, scripts []*script.Script) ([]*Pair, error) {
	rounds := c.Rounds
	if rounds == 0 {
		rounds = 3
	}
	var pairs []*Pair
	for _, s := range scripts {
		for _, ip := range runner.Versions(s) {
			p := &Pair{Name: fmt.Sprintf("%s/%v", s.Name, ip)}
			for range rounds {
				p.Ours = append(p.Ours, c.Ours(ctx, s, ip))
				p.Theirs = append(p.Theirs, c.Theirs(ctx, s.Name, ip))
				if ctx.Err() != nil {
					return pairs, ctx.Err()
				}
				if ours, _ := verdictOf(p.Ours); ours == runner.Unsupported || p.Agreement() == Agree {
					break
				}
			}
			pairs = append(pairs, p)
			if c.Progress != nil {
				c.Progress(p)
			}
		}
	}
	return pairs, nil
}

// OutcomeOf turns a result of the runner into an Outcome.
func OutcomeOf(r *runner.Result) Outcome {
	o := Outcome{Verdict: r.Verdict, Message: r.Reason}
	if r.Failure != nil {
		o.Timing = r.Failure.Timing
		o.Message = r.Failure.Error()
	}
	return o
}

// Rate is the share of pairs that agree among those that are no matter of timing,
// from 0 to 1; 1 if there are none.
func Rate(pairs []*Pair) float64 {
	agree, all := 0, 0
	for _, p := range pairs {
		switch p.Agreement() {
		case Agree:
			agree++
			all++
		case Differ:
			all++
		}
	}
	if all == 0 {
		return 1
	}
	return float64(agree) / float64(all)
}

// Report writes what differs, what is a matter of timing, what took more than one
// run, and the counts.
func Report(w io.Writer, pairs []*Pair) error {
	counts := map[Agreement]int{}
	verdicts := map[[2]runner.Verdict]int{}
	for _, p := range pairs {
		counts[p.Agreement()]++
		ours, _ := verdictOf(p.Ours)
		theirs, _ := verdictOf(p.Theirs)
		verdicts[[2]runner.Verdict{ours, theirs}]++
	}
	for _, kind := range []Agreement{Differ, Timing} {
		for _, p := range pairs {
			if p.Agreement() != kind {
				continue
			}
			if _, err := fmt.Fprintf(w, "%-7s %s\n%s%s", kind, p.Name, sideText("plumbline", p.Ours), sideText("packetdrill", p.Theirs)); err != nil {
				return err
			}
		}
	}
	for _, p := range pairs {
		if p.Agreement() == Agree && p.Flaky() {
			if _, err := fmt.Fprintf(w, "flaky   %s\n%s%s", p.Name, sideText("plumbline", p.Ours), sideText("packetdrill", p.Theirs)); err != nil {
				return err
			}
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nplumbline\tpacketdrill\truns\n")
	for _, ours := range []runner.Verdict{runner.Pass, runner.Fail, runner.Unsupported} {
		for _, theirs := range []runner.Verdict{runner.Pass, runner.Fail} {
			if n := verdicts[[2]runner.Verdict{ours, theirs}]; n > 0 {
				fmt.Fprintf(table, "%s\t%s\t%d\n", ours, theirs, n)
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d runs: %d agree, %d differ, %d are a matter of timing; agreement %.1f %%\n",
		len(pairs), counts[Agree], counts[Differ], counts[Timing], 100*Rate(pairs))
	return err
}

// sideText lists what one side said, each message once.
func sideText(who string, list []Outcome) string {
	var lines []string
	text := ""
	for _, o := range list {
		line := string(o.Verdict)
		if o.Message != "" {
			line += " " + o.Message
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
			text += fmt.Sprintf("        %-11s %s\n", who, line)
		}
	}
	return text
}
