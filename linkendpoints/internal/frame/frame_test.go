package frame

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Small frames do not pin large buffers, and large ones are not copied.
func TestTake(t *testing.T) {
	for _, tt := range []struct {
		size, n int
		copied  bool
	}{
		{2048, 1, true}, {2048, 60, true}, {2048, 511, true}, {2048, 512, false}, {2048, 2048, false},
		{65536, 1, true}, {65536, 16383, true}, {65536, 16384, false}, {65536, 65536, false},
	} {
		v := buffer.NewViewSize(tt.size)
		original := v
		got := Take(&v, tt.n)
		if got.Size() != tt.n {
			t.Errorf("Take(%d of %d) has %d bytes", tt.n, tt.size, got.Size())
		}
		if copied := got != original; copied != tt.copied || (v == nil) == copied {
			t.Errorf("Take(%d of %d): copied %t, want %t", tt.n, tt.size, copied, tt.copied)
		}
		if got.Capacity() > max(4*tt.n, 64) {
			t.Errorf("Take(%d of %d) holds %d bytes", tt.n, tt.size, got.Capacity())
		}
		got.Release()
		if v != nil {
			v.Release()
		}
	}
}

// A flow has one queue, whether or not the transport computed a hash; flows
// spread.
func TestQueue(t *testing.T) {
	queue := func(pkt *stack.PacketBuffer) int { return Queue(pkt, 4) }
	packet := func(src byte, port uint16, fragment, hash bool) *stack.PacketBuffer {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 28})
		header.UDP(pkt.TransportHeader().Push(8)).Encode(&header.UDPFields{SrcPort: port, DstPort: 53})
		fields := header.IPv4Fields{TotalLength: 28, Protocol: 17, SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, src}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1})}
		if fragment {
			fields.Flags = header.IPv4FlagMoreFragments
		}
		header.IPv4(pkt.NetworkHeader().Push(20)).Encode(&fields)
		pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber = header.IPv4ProtocolNumber, header.UDPProtocolNumber
		if hash {
			pkt.Hash = uint32(port)
		}
		return pkt
	}
	var used [4]int
	for src := range byte(8) {
		for port := range uint16(8) {
			a, b := packet(src, port, false, false), packet(src, port, false, false)
			if queue(a) != queue(b) {
				t.Errorf("two packets of one flow have queues %d and %d", queue(a), queue(b))
			}
			used[queue(a)]++
			// Later fragments have no ports, so the first may not use them.
			f, g := packet(src, port, true, false), packet(src, port+1, true, false)
			if queue(f) != queue(g) {
				t.Error("fragments are spread by what is not a port")
			}
			if h := packet(src, port, false, true); port > 0 && queue(h) != int(port)%4 {
				t.Errorf("the transport's hash %d was not used", port)
			}
		}
	}
	for i, n := range used {
		if n < 4 {
			t.Errorf("queue %d has %d of 64 flows", i, n)
		}
	}
}
