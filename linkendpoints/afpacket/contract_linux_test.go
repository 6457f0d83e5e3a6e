package afpacket

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// The contract holds on veth devices.
func TestContract(t *testing.T) {
	for _, tt := range []struct {
		name string
		mtu  int
		opts Options
	}{
		{"plain", 1500, Options{}},
		{"without offload", 1500, Options{NoOffload: true}},
		{"jumbo frames", 9000, Options{}},
		{"largest MTU", 65535, Options{}},
		{"two queues", 1500, Options{Queues: 2}},
		{"smallest ring", 1500, Options{RingSize: 1}},
		{"promiscuous", 1500, Options{Promiscuous: true}},
		{"an address of its own", 1500, Options{LinkAddress: "\x02\x00\x5e\x00\x53\x22"}},
		{"blocking, around the queueing discipline", 1500, Options{Backpressure: Block, QdiscBypass: true}},
		{"dropping", 1500, Options{Backpressure: Drop}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
				c := newCable(t, tt.mtu)
				tt.opts.Name = "ours"
				e, err := c.tryOpen(tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				return e, newPacketSocket(t, c)
			})
		})
	}
}
