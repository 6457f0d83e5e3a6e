package main

import (
	"context"
	"fmt"
	"io"

	"github.com/plumbline/plumbline/conformance/packetdrill"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target/linux"
)

// agreed is the share of runs on which both sides have to agree.
const agreed = 0.95

// comparePacketdrill runs a corpus with this runner and with packetdrill.
func (f *conformFlags) comparePacketdrill(ctx context.Context, out io.Writer, s *runner.Suite) error {
	tool := &packetdrill.Tool{Path: f.packetdrill, Dir: f.corpus}
	if err := tool.Check(); err != nil {
		return usageErrorf("conform: --packetdrill: %w", err)
	}
	kind := linux.Kind()
	c := packetdrill.Comparer{
		Ours: func(_ context.Context, s2 *script.Script, ip runner.IPVersion) packetdrill.Outcome {
			return packetdrill.OutcomeOf(runner.Run(s2, kind, ip, s.Options))
		},
		Theirs: tool.Run,
		Progress: func(p *packetdrill.Pair) {
			if f.verbose {
				fmt.Fprintf(out, "%-7s %s\n", p.Agreement(), p.Name)
			}
		},
	}
	pairs, err := c.Run(ctx, s.Selected())
	if err != nil {
		return err
	}
	if len(pairs) == 0 {
		return usageErrorf("conform: nothing matches --run %q", f.run)
	}
	if err := packetdrill.Report(out, pairs); err != nil {
		return err
	}
	if packetdrill.Rate(pairs) < agreed {
		return &checkFailed{}
	}
	return nil
}

// checkShell says what is wrong with the flags that let scripts run commands, or
// returns nil.
func (f *conformFlags) checkShell() error {
	switch {
	case !f.shell && f.packetdrill == "":
		return nil
	case f.corpus == "":
		return usageErrorf("conform: --shell and --packetdrill need --corpus DIR")
	case f.packetdrill != "" && (len(f.targets) != 1 || f.targets[0] != linux.Name):
		return usageErrorf("conform: --packetdrill compares with --target %s alone", linux.Name)
	}
	return nil
}
