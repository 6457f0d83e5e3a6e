package oracle

import "time"

// header judges what a segment shows on its own.
func (x *exchange) header() {
	p := x.p
	if x.breaks(ruleOptionFormat, p.opts.malformed == "") {
		x.add(ruleOptionFormat, 1, "%s", p.opts.malformed)
	}
	if x.breaks(ruleReserved, p.reserved == 0) {
		x.add(ruleReserved, 1, "the reserved bits are %03b", p.reserved)
	}
	syn := p.has(flagSYN)
	if !syn {
		if x.breaks(ruleSynOptions, !p.opts.hasMSS && !p.opts.hasWS && !p.opts.sackOK) {
			x.add(ruleSynOptions, 1, "a segment without SYN has an option of a SYN: %s", p.opts.ofSYN())
		}
		if !p.has(flagRST) {
			if x.breaks(ruleAckFlag, p.has(flagACK)) {
				x.add(ruleAckFlag, 1, "the segment has neither ACK nor SYN nor RST")
			}
		}
	}
	if p.opts.hasTS && !p.has(flagACK) && !p.has(flagRST) {
		if x.breaks(softEchoWithoutAck, p.opts.tsecr == 0) {
			x.add(softEchoWithoutAck, 0.9, "the timestamp echo is %d in a segment without ACK", p.opts.tsecr)
		}
	}
}

// ofSYN names the options that belong into a SYN.
func (o *options) ofSYN() string {
	s := ""
	if o.hasMSS {
		s += " MSS"
	}
	if o.hasWS {
		s += " window scale"
	}
	if o.sackOK {
		s += " SACK-permitted"
	}
	return s[min(1, len(s)):]
}

// begin starts the numbering of the sender at its SYN.
func (x *exchange) begin(synAck bool) {
	x.s.begin(x.p.seq)
	x.s.synSeen, x.s.synAck, x.s.crossed, x.s.opts = true, synAck, false, x.p.opts
	x.s.acked, x.s.edge, x.s.last = -1, -1, -1
}

// syn follows a segment with SYN and without ACK.
func (x *exchange) syn() {
	s, r, cn := x.s, x.r, x.cn
	e := event{syn: true, again: s.synSeen && x.p.seq == s.isn}
	if !e.again {
		simultaneous := !s.haveISN && r.synSeen && !r.synAck && r.acked < 0
		if (s.haveISN || r.haveISN) && !simultaneous {
			x.c.endSoft(cn)
			cn.reused = r.haveISN
			x.forget(r)
		}
		cn.started, cn.gap, cn.closed = true, cn.gap && !x.c.opt.Complete, false
		x.begin(false)
	}
	s.edge = max(s.edge, 1+int64(x.p.window))
	x.states(e)
	x.observe(x.take(0))
}

// forget makes the other end one of which no SYN was seen.
func (x *exchange) forget(h *half) {
	if h.haveISN {
		h.oldISN, h.haveOld = h.isn, true
	}
	h.haveISN, h.synSeen, h.haveTS = false, false, false
	h.acked, h.edge, h.last, h.fin = -1, -1, -1, -1
	h.seen, h.kept, h.content = nil, nil, content{}
	h.soft.restart()
	h.states |= stClosed | stListen
}

// synAck follows a segment with SYN and ACK.
func (x *exchange) synAck() {
	s, r, p, cn := x.s, x.r, x.p, x.cn
	e := event{syn: true, ack: true, again: s.synSeen && s.synAck && p.seq == s.isn}
	if !r.haveISN {
		r.begin(p.ack - 1)
		r.next, r.known, r.dataEnd = 1, 1, 1
		r.seen = spans{{0, 1}}
	}
	if r.haveOld && p.ack == r.oldISN+1 && p.ack != r.isn+1 {
		x.c.unknown["answers to a SYN that was given up"]++
		return
	}
	ao := r.offset(p.ack, 1)
	switch sent := ao >= 1 && ao <= r.next; {
	case sent || x.c.opt.Complete:
		if x.breaks(ruleAckUnsent, sent) {
			x.add(ruleAckUnsent, 1, "the SYN-ACK acknowledges %d; the SYN ends at %d", ao, r.next)
		}
	default:
		x.gap()
	}
	if s.synSeen && p.seq != s.isn && r.acked > 0 && x.c.opt.Complete {
		// The connection is past its handshake and goes on without it.
		x.broke(ruleState, "a SYN-ACK with another initial sequence number than the connection has")
		return
	}
	if !s.synSeen || p.seq != s.isn {
		x.begin(true)
	}
	s.crossed = s.crossed || !s.synAck
	s.synAck, cn.reused = true, false
	// Where SYNs cross, what is offered is an end's own, and a SYN-ACK may repeat it.
	if r.synSeen && !s.crossed {
		if x.breaks(ruleNotOffered, (!p.opts.hasWS || r.opts.hasWS) && (!p.opts.hasTS || r.opts.hasTS)) {
			x.add(ruleNotOffered, 1, "the SYN-ACK has an option that the SYN had not")
		}
	}
	s.opts = p.opts
	s.acked = max(s.acked, ao)
	s.edge = max(s.edge, ao+int64(p.window))
	s.last = ao + int64(p.window)
	x.states(e)
	x.timestamps()
	seen := x.take(0)
	seen.ack, seen.hasAck = ao, true
	x.observe(seen)
}

// reset judges a RST. It may answer a segment, with the numbers of that, or
// come from a connection, with those of the connection.
func (x *exchange) reset() {
	s, r, p := x.s, x.r, x.p
	if !x.cn.started || x.cn.reused || !s.haveISN {
		x.resetBeforeSYN()
		return
	}
	so := s.offset(p.seq, s.next)
	limit := max(s.next, s.known, r.edge, 0) + 1
	ok := so >= 0 && so <= limit || answered(r.acks, r.nAcks, p.seq)
	if p.has(flagACK) && p.seq == 0 {
		ok = ok || answered(r.ends, r.nEnds, p.ack)
	}
	if ok || x.complete() {
		if x.breaks(ruleRST, ok) {
			x.add(ruleRST, 1, "sequence number %d is neither in the connection, which ends at %d, nor the acknowledgment number of what came", so, limit)
		}
	}
	x.cn.closed = x.cn.closed || ok
	x.states(event{rst: true})
	x.observe(observation{at: p.at, rst: true, seq: so, end: so})
}

// resetBeforeSYN judges the RST of an end that has sent no SYN: it can only
// answer.
func (x *exchange) resetBeforeSYN() {
	r, p := x.r, x.p
	if x.cn.started && !x.cn.reused && x.c.opt.Complete {
		ok := answered(r.acks, r.nAcks, p.seq) || p.has(flagACK) && p.seq == 0 && answered(r.ends, r.nEnds, p.ack)
		if x.breaks(ruleRST, ok) {
			x.add(ruleRST, 1, "the RST answers nothing that was sent")
		}
	} else {
		x.c.unknown["RSTs of connections whose beginning was not seen"]++
	}
	x.states(event{rst: true})
	x.cn.closed = true
}

// regular judges a segment without SYN and RST.
func (x *exchange) regular() {
	s, r, p, cn := x.s, x.r, x.p, x.cn
	if cn.reused && !s.synSeen {
		x.c.unknown["segments of a connection that a SYN has replaced"]++
		return
	}
	if !cn.started {
		x.c.unknown["segments of connections whose SYN was not seen: windows and options"]++
		s.assume(p.seq)
	}
	if !s.haveISN {
		x.states(event{ack: p.has(flagACK)})
		x.c.unknown["segments of an end that has sent no SYN"]++
		return
	}
	if p.has(flagACK) && !r.haveISN {
		if cn.started && r.nEnds > 0 || !x.c.opt.Complete {
			x.gap()
			r.assume(p.ack)
			cn.started = false
		}
	}
	e := event{ack: p.has(flagACK), fin: p.has(flagFIN)}
	so := s.offset(p.seq, max(s.next, s.known))
	ao := int64(-1)
	if p.has(flagACK) && r.haveISN {
		ao = x.acknowledgment()
		e.acksFin = r.fin >= 0 && ao > r.fin
		x.sackBlocks(ao)
	}
	e.again = e.fin && s.fin >= 0
	x.timestamps()
	x.sequence(so)
	x.states(e)
	seen := x.take(so)
	seen.ack, seen.hasAck = ao, ao >= 0
	x.observe(seen)
}

// acknowledgment judges the acknowledgment number and the window, and returns
// the offset of the former.
func (x *exchange) acknowledgment() int64 {
	s, r, p := x.s, x.r, x.p
	ao := r.offset(p.ack, max(r.next, s.acked))
	received := ao <= r.seen.end()
	switch {
	case received || x.c.opt.Complete:
		if x.breaks(ruleAckUnsent, received) {
			x.add(ruleAckUnsent, 1, "%d is acknowledged, but only what is before %d was sent", ao, r.seen.end())
		}
	default:
		x.gap()
		r.seen.add(0, ao)
		r.next = max(r.next, ao)
	}
	if s.ordered() {
		if x.breaks(ruleAckBack, ao >= s.acked) {
			x.add(ruleAckBack, 1, "the acknowledgment number went from %d back to %d", s.acked, ao)
		}
	}
	if received || !x.c.opt.Complete {
		x.window(ao)
		s.acked = max(s.acked, ao)
	}
	return ao
}

// window judges the right edge of the window that goes with acknowledgment
// number ao. It may seem to go back by less than the unit of the window.
func (x *exchange) window(ao int64) {
	s := x.s
	shift, known := x.cn.scale(s)
	if !known {
		return
	}
	edge := ao + int64(x.p.window)<<shift
	if ao > s.acked || s.ordered() {
		sure := x.weigh(s, softRightEdge, 0.9)
		if edge+1<<shift <= s.last {
			x.soft(s, softRightEdge, sure, "the right edge went from %d back to %d", s.last, edge)
		}
		s.last = edge
	}
	s.edge = max(s.edge, edge)
}

// sequence judges where the data and the FIN of a segment lie.
func (x *exchange) sequence(so int64) {
	s, r, p := x.s, x.r, x.p
	n := int64(p.length)
	end := so + n
	if s.near && x.c.opt.Complete && x.cn.started {
		if x.breaks(ruleSkipped, so <= max(s.next, s.known)) {
			x.add(ruleSkipped, 1, "the segment begins at %d; only what is before %d was sent", so, s.next)
		}
	}
	if p.has(flagFIN) || s.fin >= 0 && n > 0 {
		x.finPlace(end)
	}
	if n == 0 {
		return
	}
	if x.cn.started && r.edge >= 0 && end > r.acked && x.complete() {
		probe := n == 1 && so <= r.edge
		if x.breaks(ruleWindow, end <= r.edge || probe) {
			x.add(ruleWindow, 1, "octets %d:%d go beyond the right edge %d", so, end, r.edge)
		}
	}
	x.segmentSize()
	x.sameBytes(so)
}

// finPlace judges the place of the FIN against data that ends at end.
func (x *exchange) finPlace(end int64) {
	s := x.s
	switch {
	case !x.p.has(flagFIN):
		if x.breaks(ruleFIN, end <= s.fin) {
			x.add(ruleFIN, 1, "data ends at %d, behind the FIN at %d", end, s.fin)
		}
	case s.fin >= 0:
		if x.breaks(ruleFIN, end == s.fin) {
			x.add(ruleFIN, 1, "the FIN was at %d and is now at %d", s.fin, end)
		}
	default:
		if x.breaks(ruleFIN, end >= s.dataEnd) {
			x.add(ruleFIN, 1, "the FIN is at %d, but data was sent up to %d", end, s.dataEnd)
		}
	}
}

// leastMSS is what a segment may hold whatever the peer announces: with the IP
// header, the 68 octets that every network carries in one piece (RFC 791
// section 3.2).
const leastMSS = 48

// announced is the MSS of an end, or the default if it announces none (RFC 9293
// section 3.7.1, MUST-15).
func (h *half) announced() int64 {
	if h.opts.mss > 0 {
		return max(int64(h.opts.mss), leastMSS)
	}
	if h.addr.Addr().Is4() {
		return 536
	}
	return 1220
}

// segmentSize judges the length of a segment.
func (x *exchange) segmentSize() {
	if !x.r.synSeen {
		return
	}
	mss := x.r.announced()
	n := int64(x.p.length + x.p.opts.size)
	if !x.c.opt.Wire {
		if n > mss {
			x.c.unknown["segments beyond the MSS, which a device may have joined or is to cut up"]++
		}
		return
	}
	if x.breaks(ruleMSS, n <= mss) {
		x.add(ruleMSS, 1, "%d octets of data and %d of options are more than the MSS of %d", x.p.length, x.p.opts.size, mss)
	}
}

// sameBytes compares a retransmission with what was sent before. A keep-alive
// may send an octet of garbage (RFC 9293 MAY-6).
func (x *exchange) sameBytes(so int64) {
	s, p := x.s, x.p
	if len(p.payload) == 0 || so >= s.dataEnd || p.length == 1 && so+1 == s.dataEnd {
		return
	}
	at, differs := s.content.differs(s.kept, so, p.payload)
	if x.breaks(ruleSameBytes, !differs) {
		x.add(ruleSameBytes, 1, "octet %d is not what it was when it was sent first", at)
	}
}

// sackBlocks judges the blocks of a SACK option.
func (x *exchange) sackBlocks(ao int64) {
	r, o := x.r, &x.p.opts
	if !o.hasSACK {
		return
	}
	if x.cn.started && r.synSeen {
		if x.breaks(ruleSackPermitted, r.opts.sackOK) {
			x.add(ruleSackPermitted, 1, "SACK blocks go to a peer that has not permitted them")
		}
	}
	for i, b := range o.sack[:o.blocks] {
		lo := r.offset(b.left, ao)
		hi := r.offset(b.right, ao)
		duplicate := i == 0 && (hi <= ao || o.blocks > 1 && lo >= r.offset(o.sack[1].left, ao) && hi <= r.offset(o.sack[1].right, ao))
		if x.breaks(ruleSackEdges, hi > lo && (duplicate || lo > ao || hi <= ao)) {
			x.add(ruleSackEdges, 1, "block %d:%d beside acknowledgment number %d", lo, hi, ao)
		}
		if hi <= lo {
			continue
		}
		switch sent := r.seen.contains(lo, hi); {
		case sent || x.c.opt.Complete:
			if x.breaks(ruleSackUnsent, sent) {
				x.add(ruleSackUnsent, 1, "block %d:%d covers octets that were not sent", lo, hi)
			}
		default:
			x.gap()
		}
	}
}

// tsLife is for how long a timestamp says anything: less than half of the time
// in which a clock in microseconds wraps around.
const tsLife = 30 * time.Minute

// timestamps judges the timestamps option.
func (x *exchange) timestamps() {
	s, r, o := x.s, x.r, &x.p.opts
	on, known := x.cn.timestamps()
	if known && !x.p.has(flagSYN) && x.cn.started {
		if x.breaks(ruleTSMissing, o.hasTS == on) {
			x.add(ruleTSMissing, 1, "timestamps were negotiated: %v, but in the segment: %v", on, o.hasTS)
		}
	}
	if !o.hasTS {
		return
	}
	if s.haveTS && s.ordered() && x.p.at-s.tsAt < tsLife {
		if x.breaks(ruleTSMonotonic, int32(o.tsval-s.tsMax) >= 0) {
			x.add(ruleTSMonotonic, 1, "the timestamp went from %d back to %d", s.tsMax, o.tsval)
		}
	}
	if x.p.has(flagACK) && o.tsecr != 0 && r.haveTS {
		switch sent := int32(o.tsecr-r.tsMax) <= 0; {
		case sent || x.c.opt.Complete:
			if x.breaks(ruleTSEcho, sent) {
				x.add(ruleTSEcho, 1, "%d is echoed, but no timestamp beyond %d was sent", o.tsecr, r.tsMax)
			}
		default:
			x.gap()
		}
	}
}

// observation is a segment in the terms of the soft rules.
type observation struct {
	at       time.Duration
	seq, end int64 // of data and FIN, in the sender's numbers
	length   int64 // of data
	isNew    bool  // it has octets that were not seen before
	again    bool  // it has octets that were
	syn, rst bool
	fin      bool
	ack      int64
	hasAck   bool
	before   int64 // s.next before it
	contig   int64 // the end of what was seen without a gap, before it
}

// take notes that the segment at offset so was sent.
func (x *exchange) take(so int64) observation {
	s, p := x.s, x.p
	o := observation{at: p.at, seq: so, end: so + p.span(), length: int64(p.length), syn: p.has(flagSYN), fin: p.has(flagFIN), before: s.next, contig: s.seen.end()}
	if p.opts.hasTS {
		if !s.haveTS || int32(p.opts.tsval-s.tsMax) > 0 {
			s.tsMax = p.opts.tsval
		}
		s.haveTS, s.tsAt = true, p.at
	}
	s.known = max(s.known, so)
	if o.end == so || o.end <= 0 {
		return o // what lies before the SYN is not of the stream
	}
	o.isNew = !s.seen.contains(so, o.end)
	o.again = so < s.next
	if !s.seen.add(max(so, 0), o.end) {
		x.c.unknown["gaps beyond the number that is remembered"]++
	}
	data := so
	if p.has(flagSYN) {
		data++
	}
	if p.has(flagFIN) {
		s.fin = o.end - 1
	}
	s.next, s.dataEnd = max(s.next, o.end), max(s.dataEnd, data+int64(p.length))
	x.store(data)
	return o
}

// store keeps the data of a segment for comparison with retransmissions.
func (x *exchange) store(off int64) {
	s, data := x.s, x.p.payload
	if len(data) == 0 || x.p.sum == sumBad {
		return
	}
	if s.kept.contains(off, off+int64(len(data))) {
		return
	}
	s.content.forget(max(x.r.acked, 0) - keepAcked)
	// What was kept first stays, so that each difference is with the original.
	s.content.fill(&s.kept, off, data)
}
