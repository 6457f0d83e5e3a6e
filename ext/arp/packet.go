package arp

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Op is the operation of an ARP packet (RFC 826, ar$op).
type Op uint16

// The operations of ARP. Those of RARP, InARP and others are counted as malformed.
const (
	OpRequest Op = 1
	OpReply   Op = 2
)

// Packet is an ARP packet for IPv4 over Ethernet.
type Packet struct {
	Op Op
	// SenderLink and Sender are the sender's addresses; Sender is 0.0.0.0 in a probe (RFC 5227 §1.1).
	SenderLink tcpip.LinkAddress
	Sender     tcpip.Address
	// TargetLink is all zeroes in a request; Target is whose link address is asked for.
	TargetLink tcpip.LinkAddress
	Target     tcpip.Address
}

// Probe reports whether p asks if anybody uses Target, without saying who asks (RFC 5227 §1.1).
func (p *Packet) Probe() bool { return p.Op == OpRequest && p.Sender == header.IPv4Any }

// Gratuitous reports whether p announces its sender's own address (RFC 5227 §3, RFC 5944 §4.6): request or reply, sender and target are the same.
func (p *Packet) Gratuitous() bool { return p.Sender == p.Target && p.Sender != header.IPv4Any }

// Malformed says why a packet is not a valid ARP packet.
type Malformed uint8

// The reasons to drop a packet unread. WellFormed is none.
const (
	WellFormed     Malformed = iota
	TooShort                 // fewer than 28 octets
	HardwareType             // not Ethernet (1)
	ProtocolType             // not IPv4 (0x0800)
	HardwareLength           // not 6
	ProtocolLength           // not 4
	Operation                // neither request nor reply
	SenderHardware           // zero, or a group address: nobody can be reached there
	SenderProtocol           // multicast, broadcast, loopback or class E; or 0.0.0.0 in a reply
	TargetProtocol           // multicast, broadcast, loopback or class E; or 0.0.0.0 in a request

	numMalformed
)

var malformedNames = [numMalformed]string{
	"well-formed", "too short", "hardware type", "protocol type", "hardware address length", "protocol address length", "operation",
	"sender hardware address", "sender protocol address", "target protocol address",
}

// String names the reason.
func (m Malformed) String() string {
	if m < numMalformed {
		return malformedNames[m]
	}
	return "unknown"
}

// Parse reads an ARP packet from the front of b; what follows is padding. The packet is valid only if the reason is WellFormed.
func Parse(b []byte) (Packet, Malformed) {
	if len(b) < header.ARPSize {
		return Packet{}, TooShort
	}
	switch {
	case binary.BigEndian.Uint16(b) != uint16(header.ARPHardwareEther):
		return Packet{}, HardwareType
	case binary.BigEndian.Uint16(b[2:]) != uint16(header.IPv4ProtocolNumber):
		return Packet{}, ProtocolType
	case b[4] != header.EthernetAddressSize:
		return Packet{}, HardwareLength
	case b[5] != header.IPv4AddressSize:
		return Packet{}, ProtocolLength
	}
	p := Packet{
		Op:         Op(binary.BigEndian.Uint16(b[6:])),
		SenderLink: tcpip.LinkAddress(b[8:14]),
		Sender:     tcpip.AddrFrom4Slice(b[14:18]),
		TargetLink: tcpip.LinkAddress(b[18:24]),
		Target:     tcpip.AddrFrom4Slice(b[24:28]),
	}
	return p, p.check()
}

// check validates the fields of a packet that has the right shape.
func (p *Packet) check() Malformed {
	switch {
	case p.Op != OpRequest && p.Op != OpReply:
		return Operation
	case !header.IsValidUnicastEthernetAddress(p.SenderLink):
		return SenderHardware
	case p.Sender == header.IPv4Any && p.Op == OpReply:
		return SenderProtocol
	case p.Sender != header.IPv4Any && !isHost(p.Sender):
		return SenderProtocol
	case p.Target == header.IPv4Any && p.Op == OpRequest:
		return TargetProtocol
	case p.Target != header.IPv4Any && !isHost(p.Target):
		return TargetProtocol
	}
	return WellFormed
}

// isHost reports whether a is an address that a host on a link can have: neither "this network", loopback, multicast, class E nor broadcast (RFC 1122 §3.2.1.3).
func isHost(a tcpip.Address) bool {
	first := a.As4()[0]
	return first != 0 && first != 127 && first < 224
}

// AppendTo appends the 28 octets of p to b and returns the longer slice. Link addresses of a length other than 6 are cut or filled with zeroes.
func (p *Packet) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(header.ARPHardwareEther))
	b = binary.BigEndian.AppendUint16(b, uint16(header.IPv4ProtocolNumber))
	b = append(b, header.EthernetAddressSize, header.IPv4AddressSize)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Op))
	b = appendHost(b, p.SenderLink, p.Sender)
	return appendHost(b, p.TargetLink, p.Target)
}

func appendHost(b []byte, link tcpip.LinkAddress, addr tcpip.Address) []byte {
	var mac [header.EthernetAddressSize]byte
	copy(mac[:], link)
	b = append(b, mac[:]...)
	ip := addr.As4()
	return append(b, ip[:]...)
}
