package pmtu

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Report is what an ICMP "packet too big" error says (RFC 792 and RFC 1191 §4, RFC 4443 §3.2).
type Report struct {
	// MTU is the next hop's, 0 if the router named none.
	MTU uint32
	// Router is who sent the error; it may be anybody.
	Router tcpip.Address
	// What it quotes: the packet that was too big, its size (0 if unknown) and its transport's ports and, for TCP, sequence number.
	Local, Remote         tcpip.Address
	Size                  uint32
	Protocol              tcpip.TransportProtocolNumber
	LocalPort, RemotePort uint16
	Seq                   uint32
	// ID is the quoted IPv4 identification.
	ID uint16
}

// FromTransport converts what a stack.TransportError of kind PacketTooBigTransportError has as Info, an MTU without the IP header, to an MTU. 0, which netstack
// passes for an MTU that no link has, stays 0: unknown.
func FromTransport(info uint32, proto tcpip.NetworkProtocolNumber) uint32 {
	switch {
	case info == 0:
		return 0
	case proto == header.IPv6ProtocolNumber:
		return info + header.IPv6MinimumSize
	}
	return info + header.IPv4MinimumSize
}

// Plateau returns the largest MTU of RFC 1191's table 7-1, with Ethernet's, jumbo frames' and IPv6's least, that is less than mtu; 0 for none. It is what to try when a router
// says that a packet of that size is too big, and names no MTU (RFC 1191 §5).
func Plateau(mtu uint32) uint32 { return below(plateaus, mtu) }

// InFlight reports whether sequence number seq is in what was sent and not acknowledged, [una, nxt), modulo 2^32: RFC 5927 §4's check of an error that quotes TCP.
func InFlight(seq, una, nxt uint32) bool { return seq-una < nxt-una }

// ParseICMP reads an IPv4 or IPv6 packet, and reports false if it is not an intact "fragmentation needed" or "packet too big" error that quotes at least eight octets
// of a first fragment's transport header. It checks the ICMP checksum; whether the quoted packet was ever sent is for Options.Validate to say.
func ParseICMP(b []byte) (Report, bool) {
	switch header.IPVersion(b) {
	case 4:
		return parseICMPv4(b)
	case 6:
		return parseICMPv6(b)
	}
	return Report{}, false
}

func parseICMPv4(b []byte) (Report, bool) {
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) || ip.TransportProtocol() != header.ICMPv4ProtocolNumber || ip.More() || ip.FragmentOffset() != 0 {
		return Report{}, false
	}
	icmp := header.ICMPv4(b[ip.HeaderLength():ip.TotalLength()])
	if len(icmp) < header.ICMPv4MinimumSize || icmp.Type() != header.ICMPv4DstUnreachable || icmp.Code() != header.ICMPv4FragmentationNeeded {
		return Report{}, false
	}
	if checksum.Checksum(icmp, 0) != 0xffff {
		return Report{}, false
	}
	r := Report{MTU: uint32(icmp.MTU()), Router: ip.SourceAddress()}
	q := header.IPv4(icmp.Payload())
	if len(q) < header.IPv4MinimumSize || q[0]>>4 != 4 || q.FragmentOffset() != 0 {
		return Report{}, false
	}
	r.Local, r.Remote, r.Size, r.ID = q.SourceAddress(), q.DestinationAddress(), uint32(q.TotalLength()), q.ID()
	hl := int(q.HeaderLength())
	if hl < header.IPv4MinimumSize {
		return Report{}, false
	}
	return r, r.transport(q.TransportProtocol(), q, hl)
}

func parseICMPv6(b []byte) (Report, bool) {
	ip := header.IPv6(b)
	if !ip.IsValid(len(b)) || ip.NextHeader() != uint8(header.ICMPv6ProtocolNumber) {
		return Report{}, false
	}
	icmp := header.ICMPv6(b[header.IPv6MinimumSize : header.IPv6MinimumSize+int(ip.PayloadLength())])
	if len(icmp) < header.ICMPv6PacketTooBigMinimumSize || icmp.Type() != header.ICMPv6PacketTooBig {
		return Report{}, false
	}
	sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(icmp)))
	if checksum.Checksum(icmp, sum) != 0xffff {
		return Report{}, false
	}
	r := Report{MTU: icmp.MTU(), Router: ip.SourceAddress()}
	q := header.IPv6(icmp[header.ICMPv6PacketTooBigMinimumSize:])
	if len(q) < header.IPv6MinimumSize || q[0]>>4 != 6 {
		return Report{}, false
	}
	r.Local, r.Remote = q.SourceAddress(), q.DestinationAddress()
	r.Size = header.IPv6MinimumSize + uint32(q.PayloadLength())
	return r, r.transport(tcpip.TransportProtocolNumber(q.NextHeader()), q, header.IPv6MinimumSize)
}

// transport reads ports and sequence number of the quoted packet's transport header at offset; extension headers are not walked.
func (r *Report) transport(p tcpip.TransportProtocolNumber, q []byte, offset int) bool {
	r.Protocol = p
	if len(q) < offset+8 {
		return false
	}
	t := q[offset:]
	switch p {
	case header.TCPProtocolNumber:
		r.Seq = binary.BigEndian.Uint32(t[4:])
		fallthrough
	case header.UDPProtocolNumber:
		r.LocalPort, r.RemotePort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	}
	return true
}
