package oracle_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/oracle/live"
	"github.com/plumbline/plumbline/congestion/testbed"
)

// TestTestbed judges every family of scenarios of the congestion testbed, cut
// short, at the senders' links.
func TestTestbed(t *testing.T) {
	segments := int64(0)
	for _, family := range testbed.Families() {
		if testing.Short() && family.Name != "loss" {
			continue
		}
		scenarios, err := testbed.Expand(family.Name, testbed.Params{Stack: "tcpx", Algorithms: []string{"cubic", "bbr"}, Seed: 1, Duration: 800 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scenarios[:min(len(scenarios), 2)] {
			var links []*live.Endpoint
			capture := func(link stack.LinkEndpoint, clock tcpip.Clock) (stack.LinkEndpoint, error) {
				e := live.Wrap(link, live.Options{Clock: clock, Oracle: oracle.Options{Complete: true, Wire: true}})
				links = append(links, e)
				return e, nil
			}
			if _, err := testbed.Run(t.Context(), s, testbed.Options{Capture: capture}); err != nil {
				t.Fatal(err)
			}
			for _, e := range links {
				rep := e.Report()
				segments += rep.Segments
				for i := range rep.Findings {
					if f := &rep.Findings[i]; f.Tier == oracle.Hard {
						t.Errorf("%s: %v", s.Name, f)
					}
				}
			}
		}
	}
	if segments < 1000 {
		t.Errorf("%d segments were judged", segments)
	}
	t.Logf("%d segments", segments)
}
