package emulated

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// wire is the other end of a path as a linktest.Peer.
type wire struct {
	ep     *Endpoint
	frames chan []byte
}

// Send implements linktest.Peer.
func (w *wire) Send(frame []byte) error {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	var list stack.PacketBufferList
	list.PushBack(pkt)
	if _, err := w.ep.WritePackets(list); err != nil {
		return fmt.Errorf("%v", err)
	}
	return nil
}

// Recv implements linktest.Peer.
func (w *wire) Recv(ctx context.Context) ([]byte, error) {
	select {
	case f := <-w.frames:
		return f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (w *wire) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	select {
	case w.frames <- pkt.Data().AsRange().ToSlice():
	default: // a case under load does not look at all of them
	}
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*wire) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// The contract holds on the real clock.
func TestContract(t *testing.T) {
	fast := Link{Rate: 10 * Gbps, Delay: 100 * time.Microsecond}
	for _, tt := range []struct {
		name string
		opts Options
	}{
		{"at once", Options{}},
		{"delay", Options{Forward: Link{Delay: time.Millisecond}, Reverse: Link{Delay: time.Millisecond}}},
		{"rate", Options{Forward: fast, Reverse: fast}},
		{"CoDel", Options{Forward: Link{Rate: Gbps, Queue: CoDel{}}, Reverse: Link{Rate: Gbps, Queue: CoDel{}}}},
		{"FQ-CoDel", Options{Forward: Link{Rate: Gbps, Queue: FQCoDel{}}, Reverse: Link{Rate: Gbps, Queue: FQCoDel{}}}},
		{"PIE", Options{Forward: Link{Rate: Gbps, Queue: PIE{}}, Reverse: Link{Rate: Gbps, Queue: PIE{}}}},
		{"DualPI2", Options{Forward: Link{Rate: Gbps, Queue: DualPI2{}}, Reverse: Link{Rate: Gbps, Queue: DualPI2{}}}},
		{"jumbo frames", Options{MTU: 65535}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
				path, err := New(tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				w := &wire{ep: path.Right(0), frames: make(chan []byte, 4096)}
				w.ep.Attach(w)
				t.Cleanup(func() {
					path.Close()
					w.ep.Wait()
				})
				return path.Left(0), w
			})
		})
	}
}
