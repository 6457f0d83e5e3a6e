package runner_test

import (
	"context"
	"fmt"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A transport protocol of gVisor's netstack is a kind of target in one line;
// here it is the one that gVisor comes with, under another name.
func Example() {
	mine := target.Netstack("mine", "my TCP", target.Capabilities{}, tcp.NewProtocol)

	s, err := script.Parse("refuse.pkt", []byte(`
// Nobody listens: a SYN is refused.
0  < S 0:0(0) win 1000 <mss 1000>
+0 > R. 0:0(0) ack 1
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	suite := runner.Suite{Scripts: []*script.Script{s}, Targets: []target.Kind{mine}}
	results, err := suite.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range results {
		fmt.Println(r.Verdict, r.Name())
		for _, e := range r.Trace {
			fmt.Println(e)
		}
	}
	// Output:
	// PASS refuse.pkt/ipv4/mine
	//     3     0.000000 < S 0:0(0) win 1000 <mss 1000>
	//     4     0.000000 > R. 0:0(0) ack 1 win 0
	// PASS refuse.pkt/ipv6/mine
	//     3     0.000000 < S 0:0(0) win 1000 <mss 1000>
	//     4     0.000000 > R. 0:0(0) ack 1 win 0
}
