package vnet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// VerifyPartial is Verify for a packet without a virtio-net header that may
// come from a sender on the same machine who left the checksum to a device that
// never was. Such a sender puts the sum of the pseudo-header into the field. It
// is told by that and the checksum completed, which changes nothing in a packet
// whose checksum happens to be this number.
//
// A wrong checksum is taken for one that was left out once in 65536 times, as
// likely as it is for a wrong packet to have the right one.
func VerifyPartial(proto tcpip.NetworkProtocolNumber, p Packet) (v Verdict, completed bool) {
	var t transport
	if v = t.locate(proto, p); v != Good {
		return v, false
	}
	addresses := t.sumAddresses()
	if t.isPartial(p, addresses) {
		// Ethernet padding does not count.
		body := p.truncate(t.end)
		h := Header{Flags: FlagNeedsCsum, CsumStart: uint16(t.start), CsumOffset: uint16(t.csumOffset)}
		if Complete(h, 0, body) {
			return Good, true
		}
	}
	return t.verify(p, addresses), false
}

// isPartial says whether the segment's checksum is the sum of its pseudo-header,
// not complemented, between addresses whose sum is given.
func (t *transport) isPartial(p Packet, addresses uint16) bool {
	size := t.end - t.start
	switch t.number {
	case header.TCPProtocolNumber:
		if size < header.TCPMinimumSize {
			return false
		}
	case header.UDPProtocolNumber:
		// Only a whole datagram comes from a sender on this machine.
		if size < header.UDPMinimumSize || t.start+header.UDPMinimumSize > len(p.Head) || int(header.UDP(p.Head[t.start:]).Length()) != size {
			return false
		}
	default:
		return false
	}
	at := t.start + t.csumOffset
	if at+2 > len(p.Head) {
		return false
	}
	return binary.BigEndian.Uint16(p.Head[at:]) == t.pseudoHeader(size, addresses)
}

// truncate returns the first n bytes of p, which has at least as many.
func (p Packet) truncate(n int) Packet {
	if n <= len(p.Head) {
		return Packet{Head: p.Head[:n]}
	}
	return Packet{Head: p.Head, Tail: p.Tail[:n-len(p.Head)]}
}
