//go:build amd64 || arm64

package xdp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// The contract holds on the kernel's devices, in every mode that they have.
func TestContract(t *testing.T) {
	for _, tt := range []struct {
		name        string
		mtu, queues int
		opts        Options
		mode        Mode
	}{
		{"native", 1500, 1, Options{}, Copy},
		{"generic", 1500, 1, Options{Mode: Generic}, Generic},
		{"native with jumbo frames", 9000, 1, Options{}, Copy},
		{"generic with jumbo frames", 9000, 1, Options{Mode: Generic}, Generic},
		{"generic with the largest MTU", 65535, 1, Options{Mode: Generic}, Generic},
		{"two queues", 1500, 2, Options{}, Copy},
		{"few frames", 1500, 1, Options{Frames: 256, Backpressure: Block}, Copy}, // a burst of the suite fits,
		{"busy polling", 1500, 1, Options{BusyPoll: 50 * time.Microsecond}, Copy},
		{"promiscuous", 1500, 1, Options{Promiscuous: true}, Copy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
				c := newCable(t, tt.mtu, tt.queues)
				e, err := c.tryOpen(tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				if e.Mode() != tt.mode {
					t.Errorf("mode %v, want %v", e.Mode(), tt.mode)
				}
				return e, newPacketSocket(t, c)
			})
		})
	}
}
