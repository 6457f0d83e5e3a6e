package afpacket

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// gsoUDPL4 is the segmentation type of UDP super-segments (VIRTIO 1.2, §5.1.6:
// VIRTIO_NET_HDR_GSO_UDP_L4). A packet socket gets it unasked.
const gsoUDPL4 = 5

// maxSegments is how many packets one super-segment may stand for. The kernel
// sends 128 datagrams at once at most, and TCP segments of 32 bytes at least.
const maxSegments = 2048

// splitter cuts a super-segment into the packets that it stands for, each with
// headers and checksums of its own. It is pure: bytes in, bytes out.
type splitter struct {
	p        vnet.Packet // from the network header on
	l4       int         // offset of the transport header
	payload  int         // offset of the payload
	end      int         // of the packet; what follows is padding
	size     int         // payload bytes of each packet but the last
	proto    tcpip.TransportProtocolNumber
	six      bool
	plainUDP bool // the datagrams have no checksum (RFC 768)
}

// newSplitter examines the super-segment p of network protocol proto, which
// begins at offset l2 of its frame. It reports false if its headers contradict
// h or its length, or if all headers do not lie in p.Head.
func newSplitter(proto tcpip.NetworkProtocolNumber, h vnet.Header, l2 int, p vnet.Packet) (splitter, bool) {
	s := splitter{p: p, size: int(h.GSOSize)}
	var wantSix, anySix bool
	switch h.GSOType &^ vnet.GSOECN {
	case vnet.GSOTCPv4:
		s.proto = header.TCPProtocolNumber
	case vnet.GSOTCPv6:
		s.proto, wantSix = header.TCPProtocolNumber, true
	case gsoUDPL4:
		s.proto, anySix = header.UDPProtocolNumber, true
	default:
		return s, false
	}
	s.six = proto == header.IPv6ProtocolNumber
	if !s.six && proto != header.IPv4ProtocolNumber || !anySix && s.six != wantSix {
		return s, false
	}
	ok := false
	if s.six {
		ok = s.locate6(h, l2)
	} else {
		ok = s.locate4()
	}
	if !ok || !s.locatePayload() {
		return s, false
	}
	return s, s.size > 0 && s.count() <= maxSegments
}

// locate4 finds the transport header of an IPv4 packet (RFC 791, §3.1).
func (s *splitter) locate4() bool {
	b := s.p.Head
	if len(b) < header.IPv4MinimumSize || header.IPVersion(b) != header.IPv4Version {
		return false
	}
	ip := header.IPv4(b)
	s.l4, s.end = int(ip.HeaderLength()), int(ip.TotalLength())
	return s.l4 >= header.IPv4MinimumSize && s.l4 <= len(b) && ip.TransportProtocol() == s.proto &&
		!ip.More() && ip.FragmentOffset() == 0
}

// locate6 finds the transport header of an IPv6 packet (RFC 8200, §3). Behind
// extension headers it is where the kernel says that the checksum starts.
func (s *splitter) locate6(h vnet.Header, l2 int) bool {
	b := s.p.Head
	if len(b) < header.IPv6MinimumSize || header.IPVersion(b) != header.IPv6Version {
		return false
	}
	ip := header.IPv6(b)
	s.l4, s.end = header.IPv6MinimumSize, header.IPv6MinimumSize+int(ip.PayloadLength())
	if tcpip.TransportProtocolNumber(ip.NextHeader()) == s.proto {
		return true
	}
	if h.Flags&vnet.FlagNeedsCsum == 0 {
		return false
	}
	s.l4 = int(h.CsumStart) - l2
	return s.l4 >= header.IPv6MinimumSize+8
}

// locatePayload finds the end of the transport header.
func (s *splitter) locatePayload() bool {
	b := s.p.Head
	least := header.UDPMinimumSize
	if s.proto == header.TCPProtocolNumber {
		least = header.TCPMinimumSize
	}
	if s.l4+least > len(b) || s.end > len(b)+len(s.p.Tail) {
		return false
	}
	s.payload = s.l4 + least
	if s.proto == header.TCPProtocolNumber {
		tcp := header.TCP(b[s.l4:])
		if int(tcp.DataOffset()) < header.TCPMinimumSize {
			return false
		}
		s.payload = s.l4 + int(tcp.DataOffset())
	} else {
		s.plainUDP = !s.six && header.UDP(b[s.l4:]).Checksum() == 0
	}
	return s.payload <= len(b) && s.payload < s.end
}

// count returns the number of packets.
func (s *splitter) count() int { return (s.end - s.payload + s.size - 1) / s.size }

// length returns the length of packet i in bytes.
func (s *splitter) length(i int) int {
	return s.payload + min(s.size, s.end-s.payload-i*s.size)
}

// put writes packet i to b, which has its length. needsCsum says that the super-segment
// came without a checksum, so that a zero in its place does not mean that there
// is none.
func (s *splitter) put(i int, b []byte, needsCsum bool) {
	copy(b, s.p.Head[:s.payload])
	from := s.payload + i*s.size
	n := 0
	if from < len(s.p.Head) {
		n = copy(b[s.payload:], s.p.Head[from:])
	}
	if s.payload+n < len(b) {
		copy(b[s.payload+n:], s.p.Tail[max(from-len(s.p.Head), 0):])
	}

	var addresses []byte
	if s.six {
		header.IPv6(b).SetPayloadLength(uint16(len(b) - header.IPv6MinimumSize))
		addresses = b[8:40]
	} else {
		ip := header.IPv4(b)
		ip.SetTotalLength(uint16(len(b)))
		ip.SetID(ip.ID() + uint16(i))
		ip.SetChecksum(0)
		ip.SetChecksum(^checksum.Checksum(b[:s.l4], 0))
		addresses = b[12:20]
	}
	l4 := b[s.l4:]
	pseudo := checksum.Checksum(addresses, 0)
	pseudo = checksum.Combine(pseudo, uint16(s.proto))
	pseudo = checksum.Combine(pseudo, uint16(len(l4)))
	if s.proto == header.TCPProtocolNumber {
		s.fixTCP(i, l4)
		putChecksum(l4, header.TCPChecksumOffset, ^checksum.Checksum(l4, pseudo))
		return
	}
	header.UDP(l4).SetLength(uint16(len(l4)))
	putChecksum(l4, udpChecksumOffset, 0)
	if s.plainUDP && !needsCsum {
		return
	}
	xsum := ^checksum.Checksum(l4, pseudo)
	if xsum == 0 {
		xsum = 0xffff // RFC 768: zero means that there is none
	}
	putChecksum(l4, udpChecksumOffset, xsum)
}

// udpChecksumOffset is the place of the checksum in a UDP header (RFC 768).
const udpChecksumOffset = 6

// putChecksum stores a checksum.
func putChecksum(b []byte, at int, xsum uint16) { binary.BigEndian.PutUint16(b[at:], xsum) }

// fixTCP makes the header of segment i: its sequence number, and flags that
// belong to the first or the last segment only.
func (s *splitter) fixTCP(i int, b []byte) {
	const flagCWR = 0x80 // RFC 3168, §6.1.2: on the first only
	tcp := header.TCP(b)
	tcp.SetSequenceNumber(tcp.SequenceNumber() + uint32(i*s.size))
	flags := tcp.Flags()
	if i > 0 {
		flags &^= flagCWR
	}
	if i < s.count()-1 {
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	tcp.SetFlags(uint8(flags))
	tcp.SetChecksum(0)
}
