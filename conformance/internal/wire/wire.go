package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Protocol numbers of the IP header.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Lengths of headers without options.
const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8
	icmpHeaderLen = 8
)

// Flags of a TCP header, in the bits of its 13th and 14th octet.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE
)

// IP is an IP header, of the version of its addresses.
type IP struct {
	Src, Dst netip.Addr
	// TOS is the traffic class octet, ECN included.
	TOS uint8
	// TTL is the time to live or hop limit; Encode writes 255 for 0.
	TTL uint8
	// FlowLabel is that of IPv6.
	FlowLabel uint32
	// ID and DontFragment are those of IPv4.
	ID           uint16
	DontFragment bool
	Protocol     uint8
}

// TCP is a TCP segment.
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	// Flags are the low nine bits of octets 13 and 14; Reserved are the
	// three above them.
	Flags    uint16
	Reserved uint8
	Window   uint16
	Urgent   uint16
	// Options are the octets of the options, padding included.
	Options []byte
	Payload []byte
	// DataOffset is what the header says, in units of 4 octets. Encode
	// computes it if it is 0.
	DataOffset uint8
}

// Len returns the length of the segment in sequence space.
func (t *TCP) Len() uint32 {
	n := uint32(len(t.Payload))
	if t.Flags&SYN != 0 {
		n++
	}
	if t.Flags&FIN != 0 {
		n++
	}
	return n
}

// ICMP is a message of ICMP or ICMPv6.
type ICMP struct {
	Type, Code uint8
	// Rest are the four octets after the checksum: an identifier and a
	// sequence number, or a next-hop MTU.
	Rest uint32
	// Body is what follows: for an error, the packet that it quotes.
	Body []byte
}

// UDP is a UDP datagram.
type UDP struct {
	SrcPort, DstPort uint16
	Payload          []byte
}

// Packet is one decoded packet.
type Packet struct {
	IP   IP
	TCP  *TCP
	UDP  *UDP
	ICMP *ICMP
	// Faults are what is wrong with the packet, as in "bad TCP checksum".
	// Nothing in them is fatal to decoding.
	Faults []string
}

// ErrShort is the error of a packet that ends before its headers do.
var ErrShort = errors.New("packet too short for its headers")

// Decode decodes a packet that begins with its IP header. It keeps references
// into data.
func Decode(data []byte) (*Packet, error) {
	if len(data) == 0 {
		return nil, ErrShort
	}
	p := &Packet{}
	var payload []byte
	var err error
	switch version := data[0] >> 4; version {
	case 4:
		payload, err = p.decodeIPv4(data)
	case 6:
		payload, err = p.decodeIPv6(data)
	default:
		return nil, fmt.Errorf("IP version %d", version)
	}
	if err != nil {
		return nil, err
	}
	return p, p.decodeTransport(payload)
}

// fault notes something wrong.
func (p *Packet) fault(format string, args ...any) {
	p.Faults = append(p.Faults, fmt.Sprintf(format, args...))
}

func (p *Packet) decodeIPv4(b []byte) ([]byte, error) {
	if len(b) < ipv4HeaderLen {
		return nil, ErrShort
	}
	headerLen, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if headerLen < ipv4HeaderLen || headerLen > len(b) {
		return nil, ErrShort
	}
	fragment := binary.BigEndian.Uint16(b[6:])
	p.IP = IP{
		Src:          netip.AddrFrom4([4]byte(b[12:16])),
		Dst:          netip.AddrFrom4([4]byte(b[16:20])),
		TOS:          b[1],
		TTL:          b[8],
		ID:           binary.BigEndian.Uint16(b[4:]),
		DontFragment: fragment&0x4000 != 0,
		Protocol:     b[9],
	}
	if Checksum(b[:headerLen], 0) != 0 {
		p.fault("bad IP header checksum")
	}
	if fragment&0x3fff != 0 {
		p.fault("fragment")
	}
	if total < headerLen || total > len(b) {
		p.fault("IP total length %d in a packet of %d", total, len(b))
		total = len(b)
	}
	return b[headerLen:total], nil
}

func (p *Packet) decodeIPv6(b []byte) ([]byte, error) {
	if len(b) < ipv6HeaderLen {
		return nil, ErrShort
	}
	word := binary.BigEndian.Uint32(b)
	p.IP = IP{
		Src:       netip.AddrFrom16([16]byte(b[8:24])),
		Dst:       netip.AddrFrom16([16]byte(b[24:40])),
		TOS:       uint8(word >> 20),
		TTL:       b[7],
		FlowLabel: word & 0xfffff,
		Protocol:  b[6],
	}
	end := ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if end > len(b) {
		p.fault("IPv6 payload length %d in a packet of %d", end-ipv6HeaderLen, len(b))
		end = len(b)
	}
	return p.skipExtensions(b[ipv6HeaderLen:end]), nil
}

// skipExtensions follows the chain of hop-by-hop, routing and destination
// options headers (RFC 8200 section 4).
func (p *Packet) skipExtensions(b []byte) []byte {
	for len(b) >= 8 {
		switch p.IP.Protocol {
		case 0, 43, 60:
		default:
			return b
		}
		n := 8 * (int(b[1]) + 1)
		if n > len(b) {
			return b
		}
		p.IP.Protocol, b = b[0], b[n:]
	}
	return b
}

// decodeTransport decodes what the IP header announces. Protocols that it
// does not know leave the packet without a transport header.
func (p *Packet) decodeTransport(b []byte) error {
	switch p.IP.Protocol {
	case ProtoTCP:
		return p.decodeTCP(b)
	case ProtoUDP:
		return p.decodeUDP(b)
	case ProtoICMP, ProtoICMPv6:
		return p.decodeICMP(b)
	}
	return nil
}

func (p *Packet) decodeTCP(b []byte) error {
	if len(b) < tcpHeaderLen {
		return ErrShort
	}
	t := &TCP{
		SrcPort:    binary.BigEndian.Uint16(b),
		DstPort:    binary.BigEndian.Uint16(b[2:]),
		Seq:        binary.BigEndian.Uint32(b[4:]),
		Ack:        binary.BigEndian.Uint32(b[8:]),
		DataOffset: b[12] >> 4,
		Reserved:   b[12] >> 1 & 7,
		Flags:      binary.BigEndian.Uint16(b[12:]) & 0x1ff,
		Window:     binary.BigEndian.Uint16(b[14:]),
		Urgent:     binary.BigEndian.Uint16(b[18:]),
	}
	p.TCP = t
	if Checksum(b, p.pseudoHeader(ProtoTCP, len(b))) != 0 {
		p.fault("bad TCP checksum")
	}
	headerLen := int(t.DataOffset) * 4
	if headerLen < tcpHeaderLen || headerLen > len(b) {
		p.fault("TCP data offset %d in a segment of %d octets", t.DataOffset, len(b))
		headerLen = tcpHeaderLen
	}
	t.Options, t.Payload = b[tcpHeaderLen:headerLen], b[headerLen:]
	return nil
}

func (p *Packet) decodeUDP(b []byte) error {
	if len(b) < udpHeaderLen {
		return ErrShort
	}
	p.UDP = &UDP{
		SrcPort: binary.BigEndian.Uint16(b),
		DstPort: binary.BigEndian.Uint16(b[2:]),
		Payload: b[udpHeaderLen:],
	}
	if (p.IP.Src.Is6() || binary.BigEndian.Uint16(b[6:]) != 0) && Checksum(b, p.pseudoHeader(ProtoUDP, len(b))) != 0 {
		p.fault("bad UDP checksum")
	}
	return nil
}

func (p *Packet) decodeICMP(b []byte) error {
	if len(b) < icmpHeaderLen {
		return ErrShort
	}
	p.ICMP = &ICMP{Type: b[0], Code: b[1], Rest: binary.BigEndian.Uint32(b[4:]), Body: b[icmpHeaderLen:]}
	var sum uint32
	if p.IP.Protocol == ProtoICMPv6 {
		sum = p.pseudoHeader(ProtoICMPv6, len(b))
	}
	if Checksum(b, sum) != 0 {
		p.fault("bad ICMP checksum")
	}
	return nil
}

// pseudoHeader returns the sum of the pseudo-header of a transport checksum
// (RFC 9293 section 3.1, RFC 8200 section 8.1).
func (p *Packet) pseudoHeader(proto uint8, length int) uint32 {
	sum := uint32(proto) + uint32(length)>>16 + uint32(length)&0xffff
	for _, a := range []netip.Addr{p.IP.Src, p.IP.Dst} {
		sum = addWords(sum, a.AsSlice())
	}
	return sum
}

// Checksum returns the Internet checksum (RFC 1071) of b, on top of sum.
func Checksum(b []byte, sum uint32) uint16 {
	sum = addWords(sum, b)
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// addWords adds the 16-bit words of b to sum, folding as it goes.
func addWords(sum uint32, b []byte) uint32 {
	for len(b) >= 2 {
		sum += uint32(b[0])<<8 | uint32(b[1])
		sum = sum>>16 + sum&0xffff
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}
