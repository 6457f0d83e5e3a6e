package pmtu_test

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/ext/pmtu"
)

// A program on UDP finds how large its datagrams may be: it pads a message of its own to the size of the probe, sends it with DF (tcpip.PMTUDiscoveryDo), and
// reports whether the peer answered it. Here a function stands for peer and path.
func Example_udp() {
	const headers = 20 + 8 // IPv4 and UDP
	answered := func(payload uint32) bool { return payload+headers <= 1420 }

	cache := pmtu.New(tcpip.NewStdClock(), pmtu.Options{}) // one for all peers; stack.Clock() in a netstack
	peer := pmtu.Path{Remote: tcpip.AddrFrom4([4]byte{192, 0, 2, 1})}
	flow := cache.Flow(peer, 1500, pmtu.Config{Mode: pmtu.Always})

	flow.Start() // the first message was answered
	for size, ok := flow.Probe(); ok; size, ok = flow.Probe() {
		flow.ProbeSent()
		if answered(size - headers) {
			flow.Acked(size)
		} else {
			flow.ProbeLost() // or Tick at Deadline, if nobody tells
		}
	}
	mtu, _ := flow.MTU()
	fmt.Println(flow.State(), "datagrams of", mtu-headers)
	// Output: SEARCH_COMPLETE datagrams of 1392
}
