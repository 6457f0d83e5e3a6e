package main

import (
	"context"
	"net/netip"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
	"github.com/plumbline/plumbline/conformance/target/adapter"
)

// asAdapter in the environment makes the test program the example.
const asAdapter = "PLUMBLINE_TEST_AS_ADAPTER"

func TestMain(m *testing.M) {
	if os.Getenv(asAdapter) != "" {
		main()
		return
	}
	os.Setenv(asAdapter, "1") // for the processes that the tests start
	os.Exit(m.Run())
}

// TestSameInAnotherProcess runs a part of the suite in this process and in that
// of the example: verdicts, reasons, packets and times are the same.
func TestSameInAnotherProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Start(adapter.Options{Command: []string{self}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	run := func(k target.Kind) []*runner.Result {
		s := runner.Suite{
			Scripts: scripts, Cases: suite.Cases(), Targets: []target.Kind{k}, Options: runner.Options{Seed: 1, Oracle: true},
			Match: regexp.MustCompile(`^(open|close|sockets)/`),
		}
		results, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	here, there := run(target.GVisor()), run(a.Kind())
	if len(here) < 150 {
		t.Errorf("only %d runs", len(here))
	}
	count := make(map[runner.Verdict]int)
	for i := range here {
		count[here[i].Verdict]++
		if d := cmp.Diff(here[i], there[i], cmpopts.IgnoreUnexported(oracle.Finding{}), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s: here - and there +:\n%s", here[i].Name(), d)
		}
	}
	if count[runner.Pass] < 100 || count[runner.XFail] == 0 || count[runner.Unsupported] == 0 {
		t.Errorf("the part of the suite does not have every verdict: %v", count)
	}
}
