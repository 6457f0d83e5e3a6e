package testbed_test

import (
	"context"
	"fmt"
	"time"

	"github.com/plumbline/plumbline/congestion/testbed"
)

// One packet of a hundred is lost at random: CUBIC takes each loss for a full queue, BBR does not.
func Example() {
	scenarios, err := testbed.Expand("loss/1%", testbed.Params{Stack: "tcpx", Algorithms: []string{"cubic", "bbr"}, Duration: 6 * time.Second, Seed: 1})
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
		fmt.Printf("%-5s uses more than half of the link: %v\n", r.Algorithm, r.Detail.Utilisation > 0.5)
	}
	// Output:
	// cubic uses more than half of the link: false
	// bbr   uses more than half of the link: true
}
