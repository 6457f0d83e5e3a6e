package conformance_test

import (
	"testing"

	"github.com/plumbline/plumbline/conformance"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
	"github.com/plumbline/plumbline/tcpx"
)

// mine is the target that the tests of this stack run on.
var mine = target.Netstack("mine", "my TCP", target.Capabilities{}, tcpx.NewProtocol)

// TestHandshakes is what a third party writes, here with a part of the suite:
// conformance.Run(t, mine) is all of it.
func TestHandshakes(t *testing.T) {
	all, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	var open []*script.Script
	for _, s := range all {
		if s.Name == "open/active.pkt" || s.Name == "matrix/LISTEN/SYN" {
			open = append(open, s)
		}
	}
	if len(open) != 2 {
		t.Fatalf("%d scripts of 2", len(open))
	}
	conformance.RunScripts(t, mine, open, runner.Options{Seed: 1})
}
