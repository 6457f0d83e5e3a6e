package frame

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// MaxIPSize is the size in bytes of the largest IP packet that is not a
// jumbogram, headers included: the most that an MTU may be and that a transport
// may leave to a link to segment.
const MaxIPSize = 65535

// Classify reads the Ethernet header of a frame of at least
// header.EthernetMinimumSize bytes: the protocol of what follows, and who it is
// for, seen from a host with address addr.
func Classify(frame []byte, addr tcpip.LinkAddress) (tcpip.NetworkProtocolNumber, tcpip.PacketType) {
	proto := header.Ethernet(frame).Type()
	// The destination is compared byte by byte: a tcpip.LinkAddress of it would
	// be an allocation.
	dst := frame[:header.EthernetAddressSize]
	switch {
	case string(dst) == string(header.EthernetBroadcastAddress):
		return proto, tcpip.PacketBroadcast
	case dst[0]&1 != 0:
		return proto, tcpip.PacketMulticast
	case string(dst) == string(addr):
		return proto, tcpip.PacketHost
	}
	return proto, tcpip.PacketOtherHost
}

// Deliver passes a frame with a link header of linkSize bytes, which may be
// zero, to a stack.
func Deliver(d stack.NetworkDispatcher, proto tcpip.NetworkProtocolNumber, pktType tcpip.PacketType, linkSize int, frame buffer.Buffer) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: frame})
	pkt.PktType = pktType
	pkt.NetworkProtocolNumber = proto
	if linkSize > 0 {
		pkt.LinkHeader().Consume(linkSize)
	}
	d.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// Take returns a view of the first n bytes of *v. If they fill at least a
// quarter, it is *v itself, and *v becomes nil; otherwise they are copied into
// a view of the right size, so that small frames in a socket's queue hold no
// more memory than they account for, and a large chunk need not be cleared.
func Take(v **buffer.View, n int) *buffer.View {
	full := *v
	if n < full.Size()/4 {
		return buffer.NewViewWithData(full.AsSlice()[:n])
	}
	*v = nil
	full.CapLength(n)
	return full
}

// Release lets go of *v, which may be nil and is afterwards.
func Release(v **buffer.View) {
	if *v != nil {
		(*v).Release()
		*v = nil
	}
}

// Queue chooses one of n queues for an outgoing packet, so that a flow stays
// on one.
func Queue(pkt *stack.PacketBuffer, n int) int {
	if n == 1 {
		return 0
	}
	h := pkt.Hash
	if h == 0 {
		h = FlowHash(pkt)
	}
	return int(h % uint32(n))
}

// FlowHash hashes what identifies the flow of an outgoing packet: of all
// transports, only TCP sets PacketBuffer.Hash. It is FNV-1a over addresses,
// protocol and ports; fragments have no ports.
func FlowHash(pkt *stack.PacketBuffer) uint32 {
	h := uint32(2166136261)
	add := func(b []byte) {
		for _, c := range b {
			h = (h ^ uint32(c)) * 16777619
		}
	}
	net := pkt.NetworkHeader().Slice()
	switch {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(net) >= header.IPv4MinimumSize:
		ip := header.IPv4(net)
		add(net[9:10])
		add(net[12:20])
		if ip.More() || ip.FragmentOffset() != 0 {
			return h
		}
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(net) >= header.IPv6MinimumSize:
		add(net[6:7])
		add(net[8:40])
		if net[6] == uint8(header.IPv6FragmentExtHdrIdentifier) {
			return h
		}
	}
	switch pkt.TransportProtocolNumber {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		if t := pkt.TransportHeader().Slice(); len(t) >= 4 {
			add(t[:4])
		}
	}
	return h
}
