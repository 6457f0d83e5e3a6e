//go:build amd64 || arm64

package xdp

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The addresses of the tests' packets (RFC 5737) and of the far end.
var (
	peerIP = tcpip.AddrFrom4([4]byte{192, 0, 2, 1})
	ourIP  = tcpip.AddrFrom4([4]byte{192, 0, 2, 2})
)

const peerAddress = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x01")

// ethernet prepends a link header to a packet.
func ethernet(dst tcpip.LinkAddress, proto tcpip.NetworkProtocolNumber, packet []byte) []byte {
	b := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(packet))
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: peerAddress, DstAddr: dst, Type: proto})
	return append(b, packet...)
}

// ipv4UDP makes a packet of size bytes with a number in its payload, all
// checksums right.
func ipv4UDP(number uint32, size int) []byte {
	b := make([]byte, size)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(size), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: peerIP, DstAddr: ourIP,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(b[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: uint16(len(udp))})
	body := udp[header.UDPMinimumSize:]
	binary.BigEndian.PutUint32(body, number)
	for i := 4; i < len(body); i++ {
		body[i] = byte(i)
	}
	xsum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, peerIP, ourIP, uint16(len(udp)))
	udp.SetChecksum(^udp.CalculateChecksum(checksum.Checksum(body, xsum)))
	return b
}

// numberOf returns the number of a packet made by ipv4UDP, or 0.
func numberOf(packet []byte) uint32 {
	const at = header.IPv4MinimumSize + header.UDPMinimumSize
	if len(packet) < at+4 || packet[0] != 0x45 || packet[9] != uint8(header.UDPProtocolNumber) {
		return 0
	}
	return binary.BigEndian.Uint32(packet[at:])
}

// udpPacket makes a packet buffer for WritePackets.
func udpPacket(e stack.LinkEndpoint, number uint32, size int) *stack.PacketBuffer {
	b := ipv4UDP(number, size)
	const headers = header.IPv4MinimumSize + header.UDPMinimumSize
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(e.MaxHeaderLength()) + headers,
		Payload:            buffer.MakeWithData(b[headers:]),
	})
	copy(pkt.TransportHeader().Push(header.UDPMinimumSize), b[header.IPv4MinimumSize:])
	copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize), b)
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = e.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = peerAddress
	e.AddHeader(pkt)
	return pkt
}

// write writes packets and drops the references to them, as a stack does.
func write(e stack.LinkEndpoint, pkts ...*stack.PacketBuffer) (int, tcpip.Error) {
	var list stack.PacketBufferList
	for _, p := range pkts {
		list.PushBack(p)
	}
	n, err := e.WritePackets(list)
	for _, p := range pkts {
		p.DecRef()
	}
	return n, err
}

// expect waits for a packet with a number on the wire.
func (p *packetSocket) expect(t testing.TB, number uint32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b, err := p.Recv(ctx)
		if err != nil {
			t.Fatalf("packet %d does not arrive: %v", number, err)
		}
		if len(b) > header.EthernetMinimumSize && numberOf(b[header.EthernetMinimumSize:]) == number {
			return
		}
	}
}

// counter is a dispatcher that notes the numbers of the packets it gets.
type counter struct {
	mu      sync.Mutex
	numbers []uint32
	changed chan struct{} // closed and replaced with each packet
}

func newCounter() *counter { return &counter{changed: make(chan struct{})} }

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (c *counter) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	n := numberOf(pkt.Data().AsRange().ToSlice())
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.numbers = append(c.numbers, n)
	close(c.changed)
	c.changed = make(chan struct{})
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*counter) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// waitUntil waits until the numbers satisfy ok.
func (c *counter) waitUntil(t testing.TB, what string, ok func([]uint32) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		numbers, changed := slices.Clone(c.numbers), c.changed
		c.mu.Unlock()
		if ok(numbers) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s not received, only %v", what, numbers)
		}
	}
}

// wait waits for n packets.
func (c *counter) wait(t testing.TB, n int) {
	t.Helper()
	c.waitUntil(t, "enough packets", func(got []uint32) bool { return len(got) >= n })
}

// waitFor waits for the packet of a number.
func (c *counter) waitFor(t testing.TB, number uint32) {
	t.Helper()
	c.waitUntil(t, "a packet", func(got []uint32) bool { return slices.Contains(got, number) })
}

// manyPackets makes n small packets, numbered from 1.
func manyPackets(e stack.LinkEndpoint, n int) (pkts []*stack.PacketBuffer) {
	for i := range n {
		pkts = append(pkts, udpPacket(e, uint32(i+1), 100))
	}
	return pkts
}
