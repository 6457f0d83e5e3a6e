//go:build amd64 || arm64

package xdp

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// maxHeaders is the most that the link, network and transport headers of a
// packet to cut may take, in bytes.
const maxHeaders = 256

// flagCWR is the Congestion Window Reduced flag (RFC 3168, §6.1), which belongs
// to the first of the segments cut from one.
const flagCWR header.TCPFlags = 0x80

// reader reads the bytes of a packet in order.
type reader struct {
	next *buffer.View
	rest []byte
}

// reset begins at the start of pkt.
func (r *reader) reset(pkt *stack.PacketBuffer) {
	views, skip := pkt.AsViewList()
	r.next, r.rest = views.Front(), nil
	for skip > 0 {
		r.advance()
		n := min(skip, len(r.rest))
		r.rest, skip = r.rest[n:], skip-n
	}
}

// advance goes on to the next view.
func (r *reader) advance() {
	r.rest = r.next.AsSlice()
	r.next = r.next.Next()
}

// read fills dst. The packet has to have as many bytes left.
func (r *reader) read(dst []byte) {
	for len(dst) > 0 {
		for len(r.rest) == 0 {
			r.advance()
		}
		n := copy(dst, r.rest)
		dst, r.rest = dst[n:], r.rest[n:]
	}
}

// cut is a packet of several segments that is being cut into frames, each with
// headers of its own.
type cut struct {
	l3, l4   int // offsets of the network and the transport header
	headers  int // the size of all headers
	payload  int // bytes of payload in all
	mss      int // bytes of payload in each segment but the last
	checksum int // offset of the transport checksum
	six      bool

	id     uint16 // of the first segment (IPv4)
	seq    uint32
	flags  header.TCPFlags
	pseudo uint16 // sum of the pseudo-header but for the length
}

// newCut examines pkt, which h says how to cut. It reports false if the headers are
// not as h has them.
func newCut(pkt *stack.PacketBuffer, h vnet.Header) (cut, bool) {
	c := cut{
		l3:      len(pkt.LinkHeader().Slice()),
		l4:      int(h.CsumStart),
		headers: int(h.HdrLen),
		payload: pkt.Data().Size(),
		mss:     int(h.GSOSize),
		six:     h.GSOType&^vnet.GSOECN == vnet.GSOTCPv6,
	}
	c.checksum = c.l4 + int(h.CsumOffset)
	l3Size := header.IPv4MinimumSize
	if c.six {
		l3Size = header.IPv6MinimumSize
	}
	ok := c.l3 >= header.EthernetMinimumSize && c.l4 >= c.l3+l3Size && c.l4+header.TCPMinimumSize <= c.headers &&
		c.headers <= maxHeaders && h.CsumOffset == header.TCPChecksumOffset
	return c, ok
}

// count returns the number of segments.
func (c *cut) count() int { return (c.payload + c.mss - 1) / c.mss }

// size returns the length of the frame of segment i.
func (c *cut) size(i int) int { return c.headers + min(c.mss, c.payload-i*c.mss) }

// begin notes what the headers b of the whole packet say.
func (c *cut) begin(b []byte) {
	if !c.six {
		c.id = header.IPv4(b[c.l3:]).ID()
	}
	tcp := header.TCP(b[c.l4:])
	c.seq, c.flags = tcp.SequenceNumber(), tcp.Flags()
	// The transport left the sum of the pseudo-header in the field. Take the
	// length of the whole out of it (RFC 1624, §3).
	c.pseudo = checksum.Combine(tcp.Checksum(), ^uint16(c.headers-c.l4+c.payload))
}

// headersOf makes, of the headers b of the packet or another segment, those of
// segment i, with the sum of its pseudo-header in the place of the checksum.
func (c *cut) headersOf(i int, b []byte) {
	size := c.size(i)
	if c.six {
		header.IPv6(b[c.l3:]).SetPayloadLength(uint16(size - c.l3 - header.IPv6MinimumSize))
	} else {
		ip := header.IPv4(b[c.l3:c.l4])
		ip.SetTotalLength(uint16(size - c.l3))
		ip.SetID(c.id + uint16(i))
		ip.SetChecksum(0)
		ip.SetChecksum(^checksum.Checksum(ip, 0))
	}
	flags := c.flags
	if i > 0 {
		flags &^= flagCWR
	}
	if i < c.count()-1 {
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	tcp := header.TCP(b[c.l4:])
	tcp.SetSequenceNumber(c.seq + uint32(i*c.mss))
	tcp.SetFlags(uint8(flags))
	tcp.SetChecksum(checksum.Combine(c.pseudo, uint16(size-c.l4)))
}

// writeSegments cuts pkt as h says and puts the segments into the ring. q.mu is
// held.
func (q *txQueue) writeSegments(pkt *stack.PacketBuffer, h vnet.Header) tcpip.Error {
	c, ok := newCut(pkt, h)
	switch {
	case !ok:
		return &tcpip.ErrMalformedHeader{}
	case c.size(0) > q.e.maxFrame || pkt.Size() > c.l3+frame.MaxIPSize:
		return &tcpip.ErrMessageTooLong{}
	}
	// All segments or none, unless the queue could never hold all.
	each := chunks(c.size(0))
	need := c.count() * each
	if need > len(q.frames.lent) {
		need = each
	}
	q.src.reset(pkt)
	b := q.headers[:c.headers]
	q.src.read(b)
	c.begin(b)
	for i := range c.count() {
		if len(q.free) < need {
			if err := q.makeRoom(need); err != nil {
				if i == 0 {
					return err
				}
				// The transport will find out that the rest is lost.
				q.counters.dropped.Add(1)
				return nil
			}
		}
		need = each
		c.headersOf(i, b)
		q.put(b, c.size(i))
		q.complete(c.l4, c.checksum)
	}
	q.counters.segmented.Add(1)
	return nil
}

// complete replaces, in the frame that was put last, the sum of the
// pseudo-header at offset at by the checksum of what begins at start.
func (q *txQueue) complete(start, at int) {
	var sum checksum.Checksumer
	sum.Add(q.parts[0][start:])
	for _, p := range q.parts[1:] {
		sum.Add(p)
	}
	binary.BigEndian.PutUint16(q.parts[0][at:], ^sum.Checksum())
}
