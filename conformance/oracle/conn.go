package oracle

import (
	"net/netip"
	"time"
	"unsafe"
)

// connKey names a connection, the lower end first.
type connKey struct{ a, b netip.AddrPort }

// conn is a connection.
type conn struct {
	key   connKey
	num   int64 // from 1, in the order of their first segments
	h     [2]half
	older *conn
	newer *conn
	// started says that the trace has a SYN of it.
	started bool
	// reused says that a SYN has begun it anew and was not answered yet, so
	// that the other end may still be in the connection before.
	reused bool
	// gap says that the capture has missed packets.
	gap bool
	// lastAt is the time of the last segment, or negative.
	lastAt   time.Duration
	closed   bool // a RST was sent
	segments int64
	lastNum  int64 // the number of the packet of the last segment
	counted  int   // of its memory
}

// half is one end of a connection: a sender of octets and of acknowledgments.
// Offsets count from its initial sequence number: the SYN is 0 and the first
// octet is 1. If no SYN was seen they count from about 2^32.
type half struct {
	addr netip.AddrPort
	near bool

	isn     uint32
	haveISN bool // the offsets mean something
	synSeen bool
	synAck  bool // the SYN that was seen had ACK
	crossed bool // and one without ACK came before it: both ends opened actively
	oldISN  uint32
	haveOld bool
	states  stateSet
	opts    options // of the SYN

	next    int64 // behind the highest octet that was seen, SYN and FIN included
	known   int64 // SND.NXT is at least that
	dataEnd int64 // behind the highest octet of data
	fin     int64 // the offset of the FIN, or -1
	seen    spans // what was seen, SYN and FIN included
	kept    spans // what is in content, unless it was forgotten
	content content

	acked int64 // the highest acknowledgment number that it sent, or -1: an offset of the other end
	edge  int64 // the highest right edge that it advertised, or -1
	last  int64 // the right edge that it advertised last, or -1

	tsMax  uint32
	tsAt   time.Duration
	haveTS bool

	id    uint16 // the last identification of IPv4
	idRun int    // how many packets in a row have counted it up

	// acks and ends are the last acknowledgment numbers it sent, and the ends
	// of its segments.
	acks, ends   [8]uint32
	nAcks, nEnds int

	soft softState
}

// longGone is the offset that stands for where a trace without a SYN begins.
const longGone = int64(1) << 32

// offset returns the offset of a sequence number near ref.
func (h *half) offset(seq uint32, ref int64) int64 {
	return ref + int64(int32(seq-(h.isn+uint32(ref))))
}

// begin makes sequence number seq the offset 0, as a SYN does.
func (h *half) begin(seq uint32) {
	if h.haveISN {
		h.oldISN, h.haveOld = h.isn, true
	}
	h.isn, h.haveISN = seq, true
	h.next, h.known, h.dataEnd, h.fin = 0, 0, 0, -1
	h.seen, h.kept = nil, nil
	h.content = content{}
	h.haveTS, h.idRun = false, 0
	h.soft.restart()
}

// assume makes sequence number seq an offset, in a trace without a SYN.
func (h *half) assume(seq uint32) {
	if h.haveISN {
		return
	}
	h.isn, h.haveISN, h.fin = seq, true, -1
	h.next, h.known, h.dataEnd = longGone, longGone, longGone
	h.seen = spans{{0, longGone}}
}

// noteOrder looks whether the identification of IPv4 counts up, which tells
// the order of sending.
func (h *half) noteOrder(p *segment) {
	if d := p.id - h.id; p.hasID && d >= 1 && d <= 64 {
		h.idRun++
	} else {
		h.idRun = 0
	}
	h.id = p.id
}

// ordered reports whether the segment at hand is known to be sent after all
// that were seen before it.
func (h *half) ordered() bool { return h.near || h.idRun >= 8 }

// noteRaw keeps the numbers of a segment that a RST may answer.
func (h *half) noteRaw(p *segment) {
	if p.has(flagACK) {
		h.acks[h.nAcks%len(h.acks)] = p.ack
		h.nAcks++
	}
	h.ends[h.nEnds%len(h.ends)] = p.seq + uint32(p.span())
	h.nEnds++
}

// answered reports whether a list of the last numbers has n.
func answered(list [8]uint32, count int, n uint32) bool {
	for _, v := range list[:min(count, len(list))] {
		if v == n {
			return true
		}
	}
	return false
}

// scale returns the window scale of what s sends, and whether it is known.
func (cn *conn) scale(s *half) (shift uint8, known bool) {
	a, b := &cn.h[0], &cn.h[1]
	switch {
	case !a.synSeen || !b.synSeen:
		return 0, false
	case !a.opts.hasWS || !b.opts.hasWS:
		return 0, true
	}
	return s.opts.wscale, true
}

// timestamps reports whether both ends have agreed on timestamps, and whether
// that is known.
func (cn *conn) timestamps() (on, known bool) {
	a, b := &cn.h[0], &cn.h[1]
	return a.opts.hasTS && b.opts.hasTS, a.synSeen && b.synSeen
}

// connOf returns the connection of a segment and the index of its sender.
func (c *Checker) connOf(p *segment) (*conn, int) {
	key, dir := connKey{p.src, p.dst}, 0
	if c := p.src.Addr().Compare(p.dst.Addr()); c > 0 || c == 0 && p.src.Port() > p.dst.Port() {
		key, dir = connKey{p.dst, p.src}, 1
	}
	cn := c.conns[key]
	if cn == nil {
		if len(c.conns) >= c.opt.MaxConnections {
			c.unknown["connections that made room for others before they ended"]++
			c.finish(c.oldest)
		}
		c.seen++
		cn = &conn{key: key, num: c.seen, lastAt: -1}
		for i, a := range [2]netip.AddrPort{key.a, key.b} {
			cn.h[i] = half{addr: a, near: c.opt.NearAll || c.near[a.Addr().Unmap()], fin: -1, acked: -1, edge: -1, last: -1, states: stClosed | stListen}
		}
		c.conns[key] = cn
	} else {
		c.unlink(cn)
	}
	c.link(cn)
	return cn, dir
}

// link puts a connection at the newest end of the list, unlink takes it out.
func (c *Checker) link(cn *conn) {
	cn.older, cn.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = cn
	} else {
		c.oldest = cn
	}
	c.newest = cn
}

func (c *Checker) unlink(cn *conn) {
	if cn.older != nil {
		cn.older.newer = cn.newer
	} else {
		c.oldest = cn.newer
	}
	if cn.newer != nil {
		cn.newer.older = cn.older
	} else {
		c.newest = cn.older
	}
}

// size is about how many octets a connection holds.
func (cn *conn) size() int {
	n := int(unsafe.Sizeof(*cn))
	for i := range cn.h {
		h := &cn.h[i]
		n += cap(h.content.buf) + (cap(h.seen)+cap(h.kept))*int(unsafe.Sizeof(span{})) + cap(h.soft.flight)*int(unsafe.Sizeof(sent{}))
	}
	return n
}

// account counts the memory of a connection that has had a segment. Others make
// room if there is too little.
func (c *Checker) account(cn *conn) {
	size := cn.size()
	c.memory += size - cn.counted
	cn.counted = size
	for c.memory > c.opt.MaxMemory && c.oldest != cn {
		c.unknown["connections that made room for others before they ended"]++
		c.finish(c.oldest)
	}
}

// finish ends a connection of which no more is followed.
func (c *Checker) finish(cn *conn) {
	c.endSoft(cn)
	c.memory -= cn.counted
	c.unlink(cn)
	delete(c.conns, cn.key)
}
