package oracle

import "time"

// sent is a segment in flight.
type sent struct {
	seq, end int64
	at       time.Duration
	again    bool
}

// leastTimeout is less than any retransmission time-out that is in use.
const leastTimeout = 5 * time.Millisecond

// duplicateWithin is how much later the copy of a segment may come that the
// network has made.
const duplicateWithin = 10 * time.Millisecond

// maxFlight is how many segments in flight are remembered with their times.
const maxFlight = 1024

// softState is what the soft rules keep of one end.
type softState struct {
	// As a sender.
	flight    []sent
	minRTT    time.Duration // 0 if none was measured
	srtt      time.Duration
	dups      int           // acknowledgments in a row that acknowledge nothing new
	heardAt   time.Duration // when the last acknowledgment came, or an ICMP error
	icmp      bool          // an ICMP error came, so that anything may be sent again
	sacked    bool          // the other end reports data above a gap
	dsacked   bool
	lastSent  time.Duration
	everSent  bool
	synAt     time.Duration // when the last SYN left
	synCount  int
	synTS     uint32 // its timestamp
	rto       timeout
	loss      episode
	keepalive probes
	// reopenedAt is when a window that was closed has opened, and quiet for how
	// long nothing was sent before, or 0.
	reopenedAt time.Duration
	quiet      time.Duration

	// As a receiver.
	pendingAt   time.Duration // since when data waits for its acknowledgment
	pending     bool
	stretched   int // acknowledgments in a row that cover more than two segments
	joined      bool
	disordered  bool
	contigAt    time.Duration // when the last gap was filled, or the stream grew
	lastAckAt   time.Duration
	firstEdge   int64
	halfClosed  bool // data was acknowledged after the FIN: it was a shutdown
	haveEdge    bool
	closedAt    time.Duration // since when the window is closed
	windowShut  bool
	pureAckAt   time.Duration // when the last pure ACK of the other end's data left
	pureAckUpTo int64

	told [ruleCount - firstSoft]bool
}

// restart forgets what belongs to one connection.
func (s *softState) restart() { *s = softState{} }

// timeout is what a sender did since a retransmission time-out.
type timeout struct {
	active  bool
	acked   bool // something came back since
	at      time.Duration
	una     int64 // what was unacknowledged, and what was sent, at the time-out
	next    int64
	sent    int64 // octets since, retransmissions included
	count   int   // time-outs in a row
	lastGap time.Duration
}

// episode is a loss that was repaired by fast retransmit.
type episode struct {
	active, over bool
	recover      int64
	flight       int64 // before it
	endedAt      time.Duration
	exceeded     int
	judged       int64 // up to where the flight was judged
}

// probes are keep-alives without an answer.
type probes struct {
	count int
	since time.Duration
}

// soft adds a finding of the soft tier, once for an end of a connection.
func (x *exchange) soft(h *half, rule ruleID, confidence float64, format string, args ...any) {
	told := &h.soft.told[rule-firstSoft]
	if *told || confidence <= 0 {
		return
	}
	*told = true
	y := *x
	if h != x.s {
		y.s, y.r = x.r, x.s
	}
	y.add(rule, confidence, format, args...)
}

// weigh counts that a soft rule was applied to h and scales a confidence that
// needs the capture to be next to h: 0 if it is known not to be so.
func (x *exchange) weigh(h *half, rule ruleID, confidence float64) float64 {
	switch {
	case !rules[rule].Near || h.near:
	case x.cn.nearGuess() == h:
		confidence *= 0.7
	default:
		return 0
	}
	x.c.judged[rule]++
	return confidence
}

// nearGuess returns the end that the capture seems to be next to: the one with
// the much shorter part of the first round trip.
func (cn *conn) nearGuess() *half {
	a, b := &cn.h[0], &cn.h[1]
	switch {
	case a.soft.minRTT == 0 || b.soft.minRTT == 0:
		return nil
	case a.soft.minRTT > 8*b.soft.minRTT && a.soft.minRTT > time.Millisecond:
		return a
	case b.soft.minRTT > 8*a.soft.minRTT && b.soft.minRTT > time.Millisecond:
		return b
	}
	return nil
}

// observe runs the soft rules on a segment that the hard rules have followed.
func (x *exchange) observe(o observation) {
	cn := x.cn
	if !cn.gap && cn.started && !cn.reused {
		x.overdue(o.at)
		x.retransmissions(&o)
		x.flightRules(&o)
		x.reopened(&o)
		x.keepalives(&o)
		x.arrivals(&o)
		x.closing(&o)
		if o.hasAck {
			x.acknowledged(&o)
		}
		x.remember(&o)
	}
	cn.lastAt = o.at
	x.s.soft.lastSent, x.s.soft.everSent = o.at, true
}

// una is the first octet of s that is not acknowledged.
func (x *exchange) una() int64 { return max(x.r.acked, 0) }

// mss is the most data in one segment of s.
func (x *exchange) mss() int64 { return x.r.announced() }

// initialWindow is the upper bound of RFC 6928 section 2, in octets.
func initialWindow(mss int64) int64 { return min(10*mss, max(2*mss, 14600)) }

// inFlight is how much data of s is not acknowledged.
func (x *exchange) inFlight() int64 { return x.s.dataEnd - max(x.una(), 1) }

// flightRules judges how much is in flight.
func (x *exchange) flightRules(o *observation) {
	if o.length == 0 || !x.r.synSeen {
		return
	}
	s := &x.s.soft
	mss, una, flight := x.mss(), x.una(), x.inFlight()
	if una <= 1 {
		iw := initialWindow(mss)
		sure := x.weigh(x.s, softInitialWindow, 0.9)
		if flight <= 11*mss {
			sure = 0.5 // ten segments, however long they are, and a probe for tail loss
		}
		// A duplicate says that a segment has left the network, and a probe for
		// tail loss may be one more.
		iw += int64(s.dups) * mss
		if s.everSent && o.at-s.lastSent > s.minRTT && s.minRTT > 0 {
			iw += mss
		}
		if flight > iw && !s.sacked {
			x.soft(x.s, softInitialWindow, sure, "%d octets are sent before the first acknowledgment; the initial window is %d", flight, iw)
		}
	}
	limit := 10*mss + una + int64(s.dups+3)*mss
	sure := x.weigh(x.s, softSlowStart, 0.8)
	if una > 1 && flight > limit && !x.s.soft.sacked && !x.s.soft.loss.active {
		x.soft(x.s, softSlowStart, sure, "%d octets are in flight after %d were acknowledged", flight, una-1)
	}
	x.afterLoss(o, flight)
}

// afterLoss judges the flight after fast recovery.
func (x *exchange) afterLoss(o *observation, flight int64) {
	l, mss := &x.s.soft.loss, x.mss()
	if !l.over || x.s.soft.dsacked || l.flight < 5*mss {
		return
	}
	rtt := x.s.soft.srtt
	if rtt <= 0 {
		return
	}
	since := o.at - l.endedAt
	if since < rtt {
		sure := x.weigh(x.s, softDeflate, 0.4)
		if flight > l.flight*9/10+2*mss {
			x.soft(x.s, softDeflate, sure, "%d octets are in flight after recovery; before the loss it were %d", flight, l.flight)
		}
		return
	}
	limit := lossLimit(float64(l.flight)/float64(mss), since, rtt)
	sure := x.weigh(x.s, softAvoidance, 0.4)
	if float64(flight)/float64(mss) > 1.25*limit+2 && o.before > l.judged {
		l.judged = x.s.next
		if l.exceeded++; l.exceeded >= 3 {
			x.soft(x.s, softAvoidance, sure, "%.0f segments are in flight %.1f s after a loss at %.0f", float64(flight)/float64(mss), since.Seconds(), float64(l.flight)/float64(mss))
		}
	}
}

// lossLimit is the larger of the windows of Reno and CUBIC, in segments, some
// time after a loss at window w (RFC 5681 section 3.1, RFC 9438 section 4.2).
func lossLimit(w float64, since, rtt time.Duration) float64 {
	reno := 0.7*w + since.Seconds()/rtt.Seconds()
	k := cbrt(w * 0.3 / 0.4)
	t := since.Seconds() + rtt.Seconds() - k
	return max(reno, 0.4*t*t*t+w)
}

// cbrt is the cube root of v, by Newton's method: exact arithmetic on every
// machine matters more than the last digit.
func cbrt(v float64) float64 {
	if v <= 0 {
		return 0
	}
	r := max(v, 1)
	for range 60 {
		r -= (r - v/(r*r)) / 3
	}
	return r
}

// retransmissions judges when and why segments are sent again.
func (x *exchange) retransmissions(o *observation) {
	s := &x.s.soft
	if o.syn {
		x.synAgain(o)
		return
	}
	x.sinceTimeout(o)
	if !o.again || o.isNew || o.end == o.seq || o.seq != max(x.una(), 1) || x.probing(o) {
		return
	}
	first, known := s.lastTime(o.seq)
	noSign := s.dups == 0 && !s.sacked && !s.icmp
	if known && noSign && s.minRTT > 0 && !s.rto.active && !s.loss.active {
		sure := x.weigh(x.s, softTooEarly, 0.6)
		if gap := o.at - first; gap < s.minRTT*9/10 {
			x.soft(x.s, softTooEarly, sure, "a retransmission after %v, when no acknowledgment came back in less than %v", gap, s.minRTT)
		}
	}
	switch {
	case noSign && o.at-s.heardAt >= max(s.minRTT, leastTimeout):
		x.timedOut(o)
	case noSign: // what slow start sends after a time-out
	case !s.loss.active && (s.dups >= 3 || s.sacked):
		s.loss = episode{active: true, recover: x.s.dataEnd, flight: x.inFlight()}
	}
}

// probing reports whether a segment is a probe of a closed window.
func (x *exchange) probing(o *observation) bool {
	return x.r.soft.windowShut && o.length <= 1
}

// synAgain judges the time between SYNs.
func (x *exchange) synAgain(o *observation) {
	s := &x.s.soft
	again := o.again && o.at-s.synAt > duplicateWithin && (!x.p.opts.hasTS || x.p.opts.tsval != s.synTS)
	answer := x.r.soft.everSent && x.r.soft.lastSent >= s.synAt
	if s.synCount == 1 && again && !answer {
		sure := x.weigh(x.s, softInitialRTO, 0.8)
		if gap := o.at - s.synAt; gap < 900*time.Millisecond {
			x.soft(x.s, softInitialRTO, sure, "a SYN is retransmitted after %v", gap)
		}
	}
	if !o.again {
		s.synCount, s.rto = 0, timeout{}
	} else if !answer && again && s.synCount > 0 {
		x.backoff(o.at, o.at-s.synAt, 0.5)
	}
	if o.again && !again {
		return // the network has duplicated it
	}
	s.synAt, s.synTS = o.at, x.p.opts.tsval
	s.synCount++
}

// timedOut notes a retransmission time-out.
func (x *exchange) timedOut(o *observation) {
	t := &x.s.soft.rto
	if t.active && t.una == o.seq && !t.acked {
		x.backoff(o.at, o.at-t.at, 0.8)
	} else {
		*t = timeout{}
	}
	// One segment alone may have been a probe for tail loss, which does not
	// reduce the window (RFC 8985 section 7).
	t.active = t.count > 0 || x.s.next > o.end
	t.count++
	t.una, t.next, t.at, t.acked, t.sent = o.seq, x.s.next, o.at, false, o.length
	if !t.active {
		t.active = true
		t.next = 0 // nothing to judge but the times
	}
}

// backoff judges the time since the time-out before.
func (x *exchange) backoff(at, gap time.Duration, confidence float64) {
	t := &x.s.soft.rto
	if t.lastGap > 0 && gap < 55*time.Second {
		sure := x.weigh(x.s, softBackoff, confidence)
		if gap < t.lastGap*3/2 {
			x.soft(x.s, softBackoff, sure, "two time-outs in a row after %v and %v", t.lastGap, gap)
		}
	}
	t.lastGap = gap
}

// sinceTimeout judges how much is sent after a time-out.
func (x *exchange) sinceTimeout(o *observation) {
	t := &x.s.soft.rto
	if !t.active || t.next == 0 || o.length == 0 {
		return
	}
	t.sent += o.length
	mss, una := x.mss(), x.una()
	if una >= t.next {
		t.active = false
		return
	}
	if !t.acked {
		sure := x.weigh(x.s, softRTOFlight, 0.6)
		if o.seq != t.una && t.sent > mss {
			x.soft(x.s, softRTOFlight, sure, "%d octets are sent after a time-out before anything is acknowledged", t.sent)
		}
		return
	}
	sure := x.weigh(x.s, softRTORestart, 0.6)
	if acked := una - t.una; t.sent > 4*mss+2*acked {
		x.soft(x.s, softRTORestart, sure, "%d octets are sent after a time-out, when %d were acknowledged", t.sent, acked)
	}
}

// lastTime returns when the octet at seq was sent last.
func (s *softState) lastTime(seq int64) (time.Duration, bool) {
	for i := len(s.flight) - 1; i >= 0; i-- {
		if f := &s.flight[i]; f.seq <= seq && seq < f.end {
			return f.at, true
		}
	}
	return 0, false
}

// remember keeps a segment in flight.
func (x *exchange) remember(o *observation) {
	s := &x.s.soft
	if o.end == o.seq || o.rst || len(s.flight) >= maxFlight {
		return
	}
	s.flight = append(s.flight, sent{o.seq, o.end, o.at, o.again})
}

// measure takes a round-trip time from what ack acknowledges for the first time,
// unless it was sent twice (RFC 6298 section 3), and forgets it.
func (s *softState) measure(ack int64, at time.Duration) {
	kept, again := s.flight[:0], false
	var sample time.Duration = -1
	for _, f := range s.flight {
		if f.end > ack {
			kept = append(kept, f)
			continue
		}
		again = again || f.again
		sample = at - f.at
	}
	s.flight = kept
	if sample < 0 || again {
		return
	}
	if s.minRTT == 0 || sample < s.minRTT {
		s.minRTT = max(sample, 1)
	}
	if s.srtt == 0 {
		s.srtt = sample
	}
	s.srtt += (sample - s.srtt) / 8
}
