package oracle_test

import (
	"context"
	"net/netip"
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
	var kinds []target.Kind
	for _, k := range target.Kinds() {
		if k.Name == "tcpx" {
			kinds = append(kinds, k)
		}
	}
	s := runner.Suite{Scripts: scripts, Targets: kinds, Options: runner.Options{Seed: 1}}
	results, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	addrs := target.DefaultAddrs()
	local := map[netip.Addr]bool{addrs.Local4: true, addrs.Local6: true}
	segments := int64(0)
	for _, res := range results {
		c := oracle.New(oracle.Options{NearAll: true, Complete: true, Wire: true})
		for _, e := range res.Trace {
			if e.Kind == runner.Inbound || e.Kind == runner.Outbound {
				c.IP(e.At, e.Data, len(e.Data))
			}
		}
		rep := c.Report()
		segments += rep.Segments
		for i := range rep.Findings {
			if f := &rep.Findings[i]; f.Tier == oracle.Hard && local[f.From.Addr()] {
				t.Errorf("%s: %v", res.Name(), f)
			}
		}
	}
	if segments < 1000 {
		t.Errorf("%d segments were judged", segments)
	}
	t.Logf("%d segments in %d runs", segments, len(results))
}
