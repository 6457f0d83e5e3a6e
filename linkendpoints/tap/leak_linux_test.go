package tap

import (
	"testing"

	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// nobody is a dispatcher that keeps nothing.
type nobody struct{}

func (nobody) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (nobody) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// gVisor's own check finds no packet buffer and no chunk of memory that is still
// referenced after Close, whatever was sent, refused, delivered or dropped.
func TestNoReferenceLeaks(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() { refs.SetLeakMode(before) })

	e, w := newTestEndpoint(t, TAP, Options{})
	e.Attach(nobody{})
	frames := [][]byte{{1}, raw(vnet.Header{}, ipv4TCP(10, 0)), raw(vnet.Header{GSOType: 9}, ipv4TCP(10, 0))}
	for _, n := range []int{0, 10, 600, 1460, 2500, 9000, 30000, 65000} {
		frames = append(frames, raw(vnet.Header{Flags: vnet.FlagDataValid}, ipv4TCP(n, 0)))
	}
	for range 20 {
		for _, f := range frames {
			if err := w.Peer.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 50 {
		write(e, tcpPacket(e, 20000, hostGSO), tcpPacket(e, 65535, stack.GSO{}), tcpPacket(e, 10, stack.GSO{}))
	}
	if e.Stats().TxRefusedFull == 0 {
		t.Error("the device was never full")
	}
	e.Close()
	e.Wait()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%v", r)
		}
	}()
	refs.DoRepeatedLeakCheck()
}

// Sending allocates nothing.
func TestWriteAllocations(t *testing.T) {
	e, w := newTestEndpoint(t, TAP, Options{})
	pkt := tcpPacket(e, 3000, hostGSO)
	defer pkt.DecRef()
	var list stack.PacketBufferList
	list.PushBack(pkt)
	buf := make([]byte, 1<<16)
	avg := testing.AllocsPerRun(200, func() {
		if n, err := e.WritePackets(list); n != 1 || err != nil {
			t.Fatalf("WritePackets = %d, %v", n, err)
		}
		if _, err := readOne(w, buf); err != nil {
			t.Fatal(err)
		}
	})
	if avg != 0 {
		t.Errorf("%v allocations for each packet sent", avg)
	}
}
