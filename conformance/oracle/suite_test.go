package oracle_test

import (
	"context"
	"slices"
	"testing"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

// TestSuiteRuns judges the packets of every script of the suite on tcpx: what
// tcpx sends breaks no rule of the hard tier, whatever the script does to it.
func TestSuiteRuns(t *testing.T) {
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	kinds := slices.DeleteFunc(target.Kinds(), func(k target.Kind) bool { return k.Name != "tcpx" })
	s := runner.Suite{Scripts: scripts, Targets: kinds, Options: runner.Options{Seed: 1, Oracle: true}}
	results, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for _, res := range results {
		for i := range res.Findings {
			if f := &res.Findings[i]; f.Tier == oracle.Hard {
				t.Errorf("%s: %v", res.Name(), f)
			}
		}
		for _, e := range res.Trace {
			if e.Kind == runner.Inbound || e.Kind == runner.Outbound {
				packets++
			}
		}
	}
	if packets < 1000 {
		t.Errorf("%d packets were judged", packets)
	}
	t.Logf("%d packets in %d runs", packets, len(results))
}
