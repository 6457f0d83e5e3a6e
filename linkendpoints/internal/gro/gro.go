package gro

import (
	"bytes"
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// slots is how many flows are collected at once. A batch of frames rarely
	// has more.
	slots = 8
	// maxSize is the size of the largest IP packet.
	maxSize = 65535
	// viewSize is how much payload is in one view.
	viewSize = 8192
	maxViews = 1 + (maxSize+viewSize-1)/viewSize
)

// A Table collects segments between two calls of Flush. The zero Table is empty;
// it must not be used concurrently.
type Table struct {
	// Deliver takes frames over that were put together of so many segments. It is
	// called by Add and Flush.
	Deliver func(frame buffer.Buffer, segments int)

	groups [slots]group
	used   int // how many of groups, from the first on
}

// group is a run of segments of one flow.
type group struct {
	views    [maxViews]*buffer.View // the first segment whole, then payload
	used     int                    // how many of views; all but the last are full
	segment  segment                // the first
	next     uint32                 // sequence number of the next segment
	size     int                    // bytes of IP packet in all
	segments int
	push     bool
}

// head returns the start of the frame, with all headers.
func (g *group) head() []byte { return g.views[0].AsSlice() }

// segment says where the headers of a frame are. The frame is TCP over IPv4
// without options or IPv6 without extension headers.
type segment struct {
	l3, l4, payload, end int // offsets in the frame
	six                  bool
}

// locate finds the headers of a frame with a link header of l3 bytes. It reports
// false if the frame is no whole TCP segment.
func locate(frame []byte, l3 int, proto tcpip.NetworkProtocolNumber) (s segment, ok bool) {
	ip := frame[l3:]
	s.l3 = l3
	switch {
	case proto == header.IPv4ProtocolNumber && len(ip) >= header.IPv4MinimumSize+header.TCPMinimumSize:
		h := header.IPv4(ip)
		if ip[0] != 0x45 || ip[9] != uint8(header.TCPProtocolNumber) || h.More() || h.FragmentOffset() != 0 {
			return s, false
		}
		s.l4, s.end = l3+header.IPv4MinimumSize, l3+int(h.TotalLength())
	case proto == header.IPv6ProtocolNumber && len(ip) >= header.IPv6MinimumSize+header.TCPMinimumSize:
		h := header.IPv6(ip)
		if ip[0]>>4 != 6 || h.NextHeader() != uint8(header.TCPProtocolNumber) {
			return s, false
		}
		s.six, s.l4 = true, l3+header.IPv6MinimumSize
		s.end = s.l4 + int(h.PayloadLength())
	default:
		return s, false
	}
	if s.end > len(frame) || s.end < s.l4+header.TCPMinimumSize {
		return s, false
	}
	n := int(header.TCP(frame[s.l4:]).DataOffset())
	s.payload = s.l4 + n
	return s, n >= header.TCPMinimumSize && s.payload <= s.end
}

// sameFlow says whether two segments have the same addresses and ports.
func sameFlow(a []byte, sa segment, b []byte, sb segment) bool {
	if sa.six != sb.six || sa.l3 != sb.l3 {
		return false
	}
	at := sa.l3 + 12 // IPv4 addresses
	if sa.six {
		at = sa.l3 + 8
	}
	return bytes.Equal(a[at:sa.l4+4], b[at:sb.l4+4])
}

// tcpFlags and pushFlag are the byte of flags in a TCP header and one of them.
const (
	tcpFlags = 13
	pushFlag = byte(header.TCPFlagPsh)
)

// alike says whether the headers of two segments of one flow differ only where
// those of segments cut from one do: in length, IPv4 identification, sequence number,
// PSH and checksums.
func alike(a []byte, sa segment, b []byte, sb segment) bool {
	if sa.payload != sb.payload || !bytes.Equal(a[:sa.l3], b[:sb.l3]) {
		return false
	}
	ipA, ipB := a[sa.l3:sa.l4], b[sb.l3:sb.l4]
	if sa.six {
		if !bytes.Equal(ipA[:4], ipB[:4]) || ipA[7] != ipB[7] { // class and flow label, hop limit
			return false
		}
	} else if ipA[1] != ipB[1] || ipA[6] != ipB[6] || ipA[8] != ipB[8] { // ToS, DF, TTL
		return false
	}
	tcpA, tcpB := a[sa.l4:sa.payload], b[sb.l4:sb.payload]
	return bytes.Equal(tcpA[8:tcpFlags], tcpB[8:tcpFlags]) && // acknowledgment, data offset
		(tcpA[tcpFlags]^tcpB[tcpFlags])&^pushFlag == 0 &&
		bytes.Equal(tcpA[14:16], tcpB[14:16]) && // window
		bytes.Equal(tcpA[18:], tcpB[18:]) // urgent pointer, options
}

// Add looks at a received frame whose checksums have been verified. If it reports
// true, the bytes were copied and will be delivered by Flush at the latest;
// otherwise the caller is to deliver the frame, and if it is a whole TCP segment,
// everything that came before it in its flow has been delivered.
func (t *Table) Add(frame []byte, l3 int, proto tcpip.NetworkProtocolNumber) bool {
	s, ok := locate(frame, l3, proto)
	if !ok {
		return false
	}
	seq := header.TCP(frame[s.l4:]).SequenceNumber()
	for i := range t.used {
		g := &t.groups[i]
		if !sameFlow(g.head(), g.segment, frame, s) {
			continue
		}
		if g.takes(frame, s, seq) {
			if g.add(frame, s) {
				t.deliver(i)
			}
			return true
		}
		t.deliver(i)
		break
	}
	flags := frame[s.l4+tcpFlags]
	if s.payload == s.end || flags != byte(header.TCPFlagAck) {
		return false // nothing may follow it
	}
	if t.used == slots {
		t.deliver(0)
	}
	t.groups[t.used].begin(frame, s, seq)
	t.used++
	return true
}

// takes says whether a segment of the same flow continues g.
func (g *group) takes(frame []byte, s segment, seq uint32) bool {
	n, first := s.end-s.payload, g.segment.end-g.segment.payload
	return seq == g.next && n > 0 && n <= first && g.size+n <= maxSize && alike(g.head(), g.segment, frame, s)
}

// begin starts g with a segment.
func (g *group) begin(frame []byte, s segment, seq uint32) {
	n := s.end - s.payload
	*g = group{used: 1, segment: s, next: seq + uint32(n), size: s.end - s.l3, segments: 1}
	g.views[0] = buffer.NewViewWithData(frame[:s.end])
}

// add appends the payload of a segment that g takes, and says whether it has to
// be the last.
func (g *group) add(frame []byte, s segment) (last bool) {
	payload := frame[s.payload:s.end]
	for b := payload; len(b) > 0; {
		v := g.views[g.used-1]
		n := min(v.AvailableSize(), len(b))
		if n == 0 {
			g.views[g.used] = buffer.NewView(viewSize)
			g.used++
			continue
		}
		_, _ = v.Write(b[:n]) // there is room
		b = b[n:]
	}
	g.next += uint32(len(payload))
	g.size += len(payload)
	g.segments++
	g.push = frame[s.l4+tcpFlags]&pushFlag != 0
	return g.push || len(payload) < g.segment.end-g.segment.payload
}

// Flush delivers all groups, in the order in which they were begun.
func (t *Table) Flush() {
	for t.used > 0 {
		t.deliver(0)
	}
}

// deliver delivers group i.
func (t *Table) deliver(i int) {
	g := t.groups[i]
	copy(t.groups[i:], t.groups[i+1:t.used])
	t.used--
	t.groups[t.used] = group{}
	if g.segments > 1 {
		g.finish()
	}
	frame := buffer.MakeWithView(g.views[0])
	for _, v := range g.views[1:g.used] {
		_ = frame.Append(v) // without a copy: the one before is full
	}
	t.Deliver(frame, g.segments)
}

// finish makes the headers those of one packet. Its TCP checksum is left to be
// computed by who needs one: the field has the sum of the pseudo-header.
func (g *group) finish() {
	b := g.head()
	ip := b[g.segment.l3:g.segment.l4]
	var addresses []byte
	if g.segment.six {
		header.IPv6(ip).SetPayloadLength(uint16(g.size - header.IPv6MinimumSize))
		addresses = ip[8:40]
	} else {
		h := header.IPv4(ip)
		h.SetTotalLength(uint16(g.size))
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(ip, 0))
		addresses = ip[12:20]
	}
	tcp := b[g.segment.l4:g.segment.payload]
	if g.push {
		tcp[tcpFlags] |= pushFlag
	}
	sum := checksum.Checksum(addresses, 0)
	sum = checksum.Combine(sum, uint16(header.TCPProtocolNumber))
	sum = checksum.Combine(sum, uint16(g.size-len(ip)))
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], sum)
}
