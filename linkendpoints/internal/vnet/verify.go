package vnet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Verdict is what Verify found out about a packet.
type Verdict int

const (
	// Good packets have no checksum that is known to be wrong: everything
	// that a stack would verify holds or was vouched for by the device.
	//
	// A fragment counts as Good once its IP header is. Its transport checksum
	// covers bytes that other packets carry.
	Good Verdict = iota
	// Malformed packets have headers that contradict their length, so that
	// their checksums cannot be found.
	Malformed
	// BadIPChecksum is a wrong IPv4 header checksum.
	BadIPChecksum
	// BadTransportChecksum is a wrong TCP or UDP checksum, or none on UDP over
	// IPv6 (RFC 8200, §8.1).
	BadTransportChecksum
)

// udpChecksumOffset is the place of the checksum in a UDP header (RFC 768).
const udpChecksumOffset = 6

// A Packet is a received network-layer packet as it lies in memory. All its
// headers are expected in Head; Tail continues it and is often empty. Both may
// be longer than the packet, as Ethernet pads short frames.
type Packet struct {
	Head, Tail []byte
}

// size returns the number of bytes that p holds, padding included.
func (p Packet) size() int { return len(p.Head) + len(p.Tail) }

// sum adds the bytes [from, to) of p to initial. The range has to lie within p.
func (p Packet) sum(from, to int, initial uint16) uint16 {
	if to <= len(p.Head) {
		return checksum.Checksum(p.Head[from:to], initial)
	}
	var c checksum.Checksumer
	if from < len(p.Head) {
		c.Add(p.Head[from:])
	}
	c.Add(p.Tail[max(from-len(p.Head), 0) : to-len(p.Head)])
	return checksum.Combine(c.Checksum(), initial)
}

// Complete computes the checksum that h leaves to the receiver and stores it
// in p, whose first byte is the one at offset l2 of the frame. It reports
// false if the field is not in p.Head.
func Complete(h Header, l2 int, p Packet) bool {
	start := int(h.CsumStart) - l2
	at := start + int(h.CsumOffset)
	if start < 0 || at+2 > len(p.Head) {
		return false
	}
	// The field already holds the sum of the pseudo-header, so it takes part.
	xsum := ^p.sum(start, p.size(), 0)
	if xsum == 0 && int(h.CsumOffset) == udpChecksumOffset {
		xsum = 0xffff // RFC 768: zero means that there is none
	}
	binary.BigEndian.PutUint16(p.Head[at:], xsum)
	return true
}

// Verify checks what the device did not vouch for in the packet p of network
// protocol proto, received with header h, which passed Check. The packet
// begins at offset l2 of its frame. Protocols other than IPv4 and IPv6 are
// Good: their users do not rely on offloads.
//
// A checksum that is to be completed is taken as good if it is the packet's
// own TCP or UDP checksum: then the packet never left this machine's memory.
// If it belongs to something within (a tunnelled packet), Verify completes it
// in p and goes on to verify the outer packet.
func Verify(proto tcpip.NetworkProtocolNumber, h Header, l2 int, p Packet) Verdict {
	var t transport
	if v := t.locate(proto, p); v != Good {
		return v
	}
	if h.Flags&FlagNeedsCsum != 0 {
		if t.csumOffset != 0 && int(h.CsumStart) == l2+t.start && int(h.CsumOffset) == t.csumOffset {
			return Good
		}
		if !Complete(h, l2, p) {
			return Malformed
		}
	} else if h.Flags&FlagDataValid != 0 {
		return Good
	}
	return t.verify(p, t.sumAddresses())
}

// transport says where a packet's transport segment lies and how its checksum
// is to be verified. The zero csumOffset means: not at all.
type transport struct {
	start, end int // within the packet
	csumOffset int
	number     tcpip.TransportProtocolNumber
	addresses  []byte // source and destination
}

// locate checks the headers of a packet of network protocol proto and finds the
// segment in it. Of other protocols than IPv4 and IPv6 there is none.
func (t *transport) locate(proto tcpip.NetworkProtocolNumber, p Packet) Verdict {
	switch proto {
	case header.IPv4ProtocolNumber:
		return t.locateIPv4(p)
	case header.IPv6ProtocolNumber:
		return t.locateIPv6(p)
	}
	return Good
}

// sumAddresses returns the part of a pseudo-header's sum that does not depend on
// the segment.
func (t *transport) sumAddresses() uint16 { return checksum.Checksum(t.addresses, 0) }

// pseudoHeader returns the sum of the pseudo-header of a segment of n bytes,
// between addresses whose sum is given.
func (t *transport) pseudoHeader(n int, addresses uint16) uint16 {
	return checksum.Combine(checksum.Combine(addresses, uint16(t.number)), uint16(n))
}

// verify checks the checksum of a located segment, between addresses whose sum
// is given.
func (t *transport) verify(p Packet, addresses uint16) Verdict {
	end := t.end
	switch t.number {
	case header.TCPProtocolNumber:
		if end-t.start < header.TCPMinimumSize {
			return Malformed
		}
	case header.UDPProtocolNumber:
		if end-t.start < header.UDPMinimumSize || t.start+header.UDPMinimumSize > len(p.Head) {
			return Malformed
		}
		udp := header.UDP(p.Head[t.start:])
		// RFC 768: the checksum covers what the UDP length says, which may be
		// less than what IP carried.
		n := int(udp.Length())
		if n < header.UDPMinimumSize || t.start+n > end {
			return Malformed
		}
		end = t.start + n
		if udp.Checksum() == 0 {
			if len(t.addresses) == 2*header.IPv4AddressSize {
				return Good
			}
			return BadTransportChecksum
		}
	default:
		return Good
	}
	if p.sum(t.start, end, t.pseudoHeader(end-t.start, addresses)) != 0xffff {
		return BadTransportChecksum
	}
	return Good
}

// csumOffsetOf returns the place of the checksum in a segment of protocol n,
// or 0 for protocols whose checksum is never offloaded.
func csumOffsetOf(n tcpip.TransportProtocolNumber) int {
	switch n {
	case header.TCPProtocolNumber:
		return header.TCPChecksumOffset
	case header.UDPProtocolNumber:
		return udpChecksumOffset
	}
	return 0
}

// locateIPv4 checks the header of an IPv4 packet (RFC 791, §3.1) and finds the
// segment in it.
func (t *transport) locateIPv4(p Packet) Verdict {
	if len(p.Head) < header.IPv4MinimumSize {
		return Malformed
	}
	ip := header.IPv4(p.Head)
	hlen, total := int(ip.HeaderLength()), int(ip.TotalLength())
	if header.IPVersion(p.Head) != header.IPv4Version || hlen < header.IPv4MinimumSize ||
		hlen > len(p.Head) || total < hlen || total > p.size() {
		return Malformed
	}
	if checksum.Checksum(p.Head[:hlen], 0) != 0xffff {
		return BadIPChecksum
	}
	if ip.More() || ip.FragmentOffset() != 0 {
		return Good
	}
	n := ip.TransportProtocol()
	t.start, t.end, t.number, t.csumOffset = hlen, total, n, csumOffsetOf(n)
	t.addresses = p.Head[12:20]
	return Good
}

// locateIPv6 checks the header of an IPv6 packet (RFC 8200, §3) and finds the
// segment behind its extension headers.
func (t *transport) locateIPv6(p Packet) Verdict {
	if len(p.Head) < header.IPv6MinimumSize {
		return Malformed
	}
	ip := header.IPv6(p.Head)
	end := header.IPv6MinimumSize + int(ip.PayloadLength())
	if header.IPVersion(p.Head) != header.IPv6Version || end > p.size() {
		return Malformed
	}
	next, at := ip.NextHeader(), header.IPv6MinimumSize
	for {
		// The shortest extension header is 8 bytes; its second says how many
		// units of 8 follow the first.
		isExtension, isFragment := extension(next)
		if !isExtension {
			break
		}
		if at+8 > end || at+8 > len(p.Head) {
			return Malformed
		}
		size := 8 + 8*int(p.Head[at+1])
		switch {
		case isFragment:
			size = 8
			// An offset of zero without more to come is the whole packet
			// (RFC 6946).
			if binary.BigEndian.Uint16(p.Head[at+2:])&^0x6 != 0 {
				return Good
			}
		case next == uint8(header.IPv6RoutingExtHdrIdentifier) && p.Head[at+3] != 0:
			// Segments are left: the packet is under way to somebody else, and
			// its checksum is for the last of them (RFC 8200, §8.1).
			return Good
		}
		next, at = p.Head[at], at+size
	}
	if at > end {
		return Malformed
	}
	n := tcpip.TransportProtocolNumber(next)
	t.start, t.end, t.number, t.csumOffset = at, end, n, csumOffsetOf(n)
	t.addresses = p.Head[8:40]
	return Good
}

// extension says whether next is an extension header that a stack walks over,
// and whether it is the fragment header, whose second byte is reserved.
func extension(next uint8) (is, isFragment bool) {
	switch header.IPv6ExtensionHeaderIdentifier(next) {
	case header.IPv6HopByHopOptionsExtHdrIdentifier,
		header.IPv6RoutingExtHdrIdentifier,
		header.IPv6DestinationOptionsExtHdrIdentifier,
		header.IPv6ExperimentExtHdrIdentifier:
		return true, false
	case header.IPv6FragmentExtHdrIdentifier:
		return true, true
	}
	return false, false
}
