package oracle

import "time"

// Times of the soft rules.
const (
	maxAckDelay  = 500 * time.Millisecond // RFC 9293 MUST-40
	ackSlack     = 20 * time.Millisecond  // for what lies between a host and a capture next to it
	longIdle     = 2 * time.Hour          // RFC 9293 MUST-28
	shortGivenUp = time.Minute
	// maxProbeGap is longer than any time between probes of a closed window
	// that a maximum of 2 minutes allows.
	maxProbeGap = 130 * time.Second
	shutFor     = 10 * time.Second
)

// arrivals follows data of s as r receives it.
func (x *exchange) arrivals(o *observation) {
	r := &x.r.soft
	if o.length == 0 || o.syn || x.s.fin >= 0 && o.end > x.s.fin+1 || !x.credible(o) {
		return
	}
	contig := x.s.seen.end()
	if o.length > x.mss() {
		r.joined = true
	}
	if o.seq > o.contig || len(x.s.seen) > 1 {
		r.disordered = true
	}
	if o.again && !o.isNew {
		x.retained(o, contig)
	}
	if contig <= o.contig || x.r.edge >= 0 && contig > x.r.edge {
		return
	}
	r.contigAt = o.at
	if !r.pending && contig > x.r.acked {
		r.pending, r.pendingAt = true, o.at
	}
}

// credible reports whether r takes a segment of s with that acknowledgment
// number for one of its connection (RFC 9293 section 3.10.7.4).
func (x *exchange) credible(o *observation) bool {
	return o.hasAck && o.ack >= x.s.acked && o.ack <= x.r.next
}

// retained judges a retransmission of what r has received above a gap that was
// filled since, when r acknowledges the filling alone.
func (x *exchange) retained(o *observation, contig int64) {
	r := &x.r.soft
	if o.seq != x.r.acked || o.end > contig || !r.disordered || r.lastAckAt <= r.contigAt || o.at-r.contigAt < ackSlack {
		return
	}
	sure := x.weigh(x.r, softRetain, 0.6)
	x.soft(x.r, softRetain, sure, "octets %d:%d had arrived out of order, but have to be sent again", o.seq, o.end)
}

// overdue judges what has not happened until at.
func (x *exchange) overdue(at time.Duration) {
	for _, pair := range [2][2]*half{{x.s, x.r}, {x.r, x.s}} {
		h, peer := pair[0], pair[1]
		s := &h.soft
		if s.pending && !x.cn.closed {
			sure := x.weigh(h, softDelayedAck, 0.8)
			if late := at - s.pendingAt; late > maxAckDelay+ackSlack {
				s.pending = false
				x.soft(h, softDelayedAck, sure, "data is not acknowledged after %v", late)
			}
		}
		if shut := peer.soft.windowShut; shut && h.next > peer.acked && s.everSent && !x.cn.closed {
			sure := x.weigh(h, softProbe, 0.5)
			if quiet := at - s.lastSent; quiet > maxProbeGap {
				x.soft(h, softProbe, sure, "a closed window is not probed for %v", quiet)
			}
		}
		if h.fin >= 0 && s.windowShut && at-s.closedAt > shutFor && !x.cn.closed {
			x.soft(h, softNoReset, x.weigh(h, softNoReset, 0.3), "the window closes behind the FIN and nobody reads what arrives")
		}
	}
}

// acknowledged follows an acknowledgment of s for data of r.
func (x *exchange) acknowledged(o *observation) {
	s, peer := &x.s.soft, &x.r.soft
	opts := &x.p.opts
	advance := o.ack - peer.acknowledgedUpTo()
	x.stretch(o, advance)
	if o.ack >= x.r.next {
		s.disordered = false
	}
	if o.ack >= x.r.seen.end() {
		s.pending = false
	} else if advance > 0 {
		s.pending, s.pendingAt = true, o.at
	}
	s.lastAckAt = o.at
	// Who takes more after a FIN has shut down and not closed.
	s.halfClosed = s.halfClosed || x.s.fin >= 0 && x.r.fin < 0 && advance > 0
	peer.pureAckUpTo, peer.pureAckAt = -1, 0
	if o.length == 0 && !o.syn && !o.fin && advance > 0 {
		peer.pureAckUpTo, peer.pureAckAt = o.ack, o.at
	}
	x.edges(o)
	// What it means to the other end.
	peer.sacked = opts.blocks > 0 && opts.sack[0].right != x.p.ack && x.r.offset(opts.sack[opts.blocks-1].right, o.ack) > o.ack
	if opts.blocks > 0 && x.r.offset(opts.sack[0].right, o.ack) <= o.ack {
		peer.dsacked = true
	}
	switch {
	case advance > 0:
		peer.dups = 0
		peer.measure(o.ack, o.at)
		if peer.loss.active && o.ack >= peer.loss.recover {
			peer.loss.active, peer.loss.over, peer.loss.endedAt = false, true, o.at
		}
	case o.length == 0 && !o.fin && x.r.next > o.ack:
		peer.dups++
	}
	peer.rto.acked = true
	peer.heardAt = o.at
	peer.keepalive = probes{}
}

// acknowledgedUpTo is what the oldest segment in flight begins with, or as much
// as can be.
func (s *softState) acknowledgedUpTo() int64 {
	if len(s.flight) == 0 {
		return 1<<63 - 1
	}
	lowest := s.flight[0].seq
	for _, f := range s.flight[1:] {
		lowest = min(lowest, f.seq)
	}
	return lowest
}

// stretch judges how much one acknowledgment covers.
func (x *exchange) stretch(o *observation, advance int64) {
	s := &x.s.soft
	if advance <= 0 || o.syn {
		return
	}
	full := x.s.announced() - 40
	switch {
	case s.disordered || s.joined || full <= 0:
		s.stretched = 0
	case advance > 2*x.s.announced():
		s.stretched++
	default:
		s.stretched = 0
	}
	s.joined = false
	sure := x.weigh(x.s, softStretchAck, 0.5)
	if s.stretched >= 3 {
		x.soft(x.s, softStretchAck, sure, "three acknowledgments in a row cover more than two segments, the last %d octets", advance)
	}
}

// edges follows the window that s offers.
func (x *exchange) edges(o *observation) {
	s := &x.s.soft
	if !s.haveEdge && !o.syn {
		s.haveEdge, s.firstEdge = true, x.s.edge
	}
	shut := x.p.window == 0
	switch peer := &x.r.soft; {
	case shut && !s.windowShut:
		s.closedAt = o.at
	case !shut && s.windowShut:
		peer.reopenedAt, peer.quiet = o.at, o.at-max(s.closedAt, peer.lastSent)
	}
	s.windowShut = shut
}

// keepalives judges probes of an idle connection (RFC 9293 section 3.8.4).
func (x *exchange) keepalives(o *observation) {
	s := &x.s.soft
	if o.rst {
		x.givenUp(o)
		return
	}
	if o.syn || o.fin || o.length > 1 || x.s.fin >= 0 || o.seq+1 != o.before || x.una() != o.before || x.probing(o) {
		return
	}
	if s.keepalive.count == 0 {
		s.keepalive.since = o.at
		sure := x.weigh(x.s, softKeepaliveIdle, 0.3)
		if idle := o.at - x.cn.lastAt; x.cn.lastAt >= 0 && idle < longIdle*99/100 {
			x.soft(x.s, softKeepaliveIdle, sure, "a keep-alive probe after %v", idle)
		}
	}
	s.keepalive.count++
}

// givenUp judges a RST behind keep-alive probes.
func (x *exchange) givenUp(o *observation) {
	k := x.s.soft.keepalive
	if k.count == 0 {
		return
	}
	sure := x.weigh(x.s, softKeepaliveLimit, 0.7)
	after := o.at - k.since
	switch {
	case k.count == 1:
		x.soft(x.s, softKeepaliveLimit, sure, "a connection is reset after one probe without an answer")
	case after < shortGivenUp:
		x.soft(x.s, softKeepaliveLimit, sure/2, "a connection is reset %v after the first of %d probes without an answer", after, k.count)
	}
}

// reopened judges what is sent at once when a window opens: it must have waited,
// so that there had to be probes.
func (x *exchange) reopened(o *observation) {
	s := &x.s.soft
	if s.quiet == 0 || o.length == 0 || !o.isNew {
		return
	}
	sure := x.weigh(x.s, softProbe, 0.6)
	if s.quiet > maxProbeGap && o.at-s.reopenedAt < ackSlack {
		x.soft(x.s, softProbe, sure, "data waits behind a closed window, which is not probed for %v", s.quiet)
	}
	s.quiet = 0
}

// closing judges when a FIN leaves.
func (x *exchange) closing(o *observation) {
	s := &x.s.soft
	if !o.fin || o.again || o.length > 0 {
		return
	}
	sure := x.weigh(x.s, softFinPrompt, 0.4)
	if s.pureAckUpTo == x.s.dataEnd && x.s.dataEnd > 1 && o.at-s.pureAckAt < 2*time.Millisecond && x.s.near {
		x.soft(x.s, softFinPrompt, sure, "the FIN leaves %v after the acknowledgment of the last data", o.at-s.pureAckAt)
	}
}

// endSoft judges a connection at its end.
func (c *Checker) endSoft(cn *conn) {
	if !cn.started || cn.gap || cn.reused {
		return
	}
	p := &segment{num: cn.lastNum, at: c.last - c.first}
	for i := range cn.h {
		x := &exchange{c: c, cn: cn, s: &cn.h[i], r: &cn.h[1-i], p: p}
		if i == 0 {
			x.overdue(p.at)
		}
		s := &x.s.soft
		if x.s.fin < 0 || x.r.fin < 0 || !s.haveEdge || x.r.dataEnd <= 1 {
			continue
		}
		sure := x.weigh(x.s, softPendingData, 0.3)
		if x.s.edge == s.firstEdge && x.s.acked > 1 && !cn.closed && !s.halfClosed {
			x.soft(x.s, softPendingData, sure, "a FIN is sent, but the window shows that nothing was read")
		}
	}
}
