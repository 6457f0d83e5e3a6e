package testbed_test

import (
	"context"
	"fmt"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
	"github.com/plumbline/plumbline/congestion/testbed"
)

// small is an algorithm that lives outside of this module's packages: CUBIC, with never more than 64 KiB under way.
type small struct{ congestion.Controller }

func (c small) Control() congestion.Control {
	ctl := c.Controller.Control()
	ctl.Cwnd = min(ctl.Cwnd, 64<<10)
	return ctl
}

func init() {
	congestion.Register("small", func() congestion.Controller { return small{cubic.New()} })
}

// An algorithm of one's own runs in every scenario once it has a name, beside those that are built in: 64 KiB in 100 ms are 5.2 Mbit/s.
func Example_ownAlgorithm() {
	scenarios, err := testbed.Expand("clean", testbed.Params{Stack: "tcpx", Algorithms: []string{"small", "cubic"}, Duration: 6 * time.Second, Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	sweep := testbed.Sweep{Scenarios: scenarios}
	results, err := sweep.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range results {
		fmt.Printf("%-6s %3.0f Mbit/s\n", r.Algorithm, r.GoodputMbps)
	}
	// Output:
	// small    5 Mbit/s
	// cubic   97 Mbit/s
}
