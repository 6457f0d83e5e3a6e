package tcb

import "github.com/plumbline/plumbline/tcpx/internal/seq"

// urgent is the sixth check (RFC 9293 §3.10.7.4): the pointer gives the octet after the urgent data (MUST-62).
func (t *TCB) urgent(s *Segment) {
	if !s.Flags.Has(URG) || !canReceive.has(t.state) {
		return
	}
	up := s.Seq.Add(int(s.Up))
	if t.has(flagReadShut) || up.Leq(t.consumed()) || t.has(flagUrgIn) && up.Leq(t.rcvUp) {
		return
	}
	t.rcvUp = up
	if !t.has(flagUrgIn) {
		// One signal for a continuous sequence of urgent data.
		t.set(flagUrgIn)
		t.events |= EventUrgent
	}
}

// consumed is the sequence number of the next octet that the user reads.
func (t *TCB) consumed() Seq {
	end := t.rcvNxt
	if t.has(flagPeerFin) {
		end = t.peerFin
	}
	return end.Add(-t.rcvBuf.len())
}

// passUrgent ends urgent mode once the user has consumed the urgent data, or will never see it.
func (t *TCB) passUrgent() {
	if t.has(flagUrgIn) && (t.rcvUp.Leq(t.consumed()) || t.has(flagReadShut)) {
		t.drop(flagUrgIn)
	}
}

// UrgentMark returns how many bytes of the read queue and of what is still to come lie before the end of urgent data (RFC 9293 MUST-33), and whether any
// urgent data is pending.
func (t *TCB) UrgentMark() (int, bool) {
	if !t.has(flagUrgIn) {
		return 0, false
	}
	return t.rcvUp.Sub(t.consumed()), true
}

// text is the seventh and eighth check: segment text and FIN of a segment that trim has cut to the window.
func (t *TCB) text(now Time, s *Segment) {
	if s.Len == 0 && !s.Flags.Has(FIN) || !canReceive.has(t.state) {
		return
	}
	if s.Len > 0 && t.dataAfterClose() {
		t.owner.Count(CountDataAfterClose, 1)
		// Its sequence number is the one that the peer expects, so that RFC 5961 §3.2 lets it through at once (RFC 9293 §3.5.2).
		t.sendReset(now, s)
		t.reason = ReasonAborted
		t.toClosed()
		return
	}
	if s.Len > 0 {
		t.noteArrival(now, s)
		if t.pressure == PressureExhausted {
			t.owner.Count(CountReceiveDropped, 1)
			t.set(flagAckNow)
			return
		}
	}
	if s.Seq != t.rcvNxt {
		t.outOfOrder(s)
		return
	}
	hole := len(t.reasm.pieces) > 0
	if hole {
		dup := t.reasm.overlap(s.Seq, s.Seq.Add(s.Len))
		t.noteDSACK(dup.Left, dup.Right)
	}
	t.deliver(s.Len, s)
	fin := s.Flags.Has(FIN)
	for !fin && hole {
		x, ok := t.reasm.next(t.rcvNxt)
		if !ok {
			break
		}
		fin = x.fin
		s.Payload, s.Len = x.buf, x.hi.Sub(x.lo)
		t.deliver(s.Len, s)
	}
	t.scheduleACK(now, hole)
	t.tune.arrived(t, now)
	if fin {
		t.fin(now)
	}
}

// dataAfterClose reports whether text can reach nobody any more: it is answered with RST so that the peer learns of the loss (RFC 9293 §3.6.1, RFC 2525 §2.17).
func (t *TCB) dataAfterClose() bool {
	return t.has(flagOrphan) || t.has(flagReadShut) && t.has(flagFinQueued)
}

// noteArrival keeps the estimate of the peer's segment size and the rhythm of its data.
func (t *TCB) noteArrival(now Time, s *Segment) {
	n := uint32(s.Len / max(s.Segs, 1))
	t.stats.dataIn += uint32(max(s.Segs, 1))
	if n > t.rcvMSS {
		t.rcvMSS = min(n, max(t.advMSS, t.rcvMSS))
	}
	if t.lastText != 0 && now-t.lastText > t.currentRTO() {
		// The peer starts anew, from slow start.
		t.drop(flagInteractive)
		t.quickAcks = uint8(min(max(t.space()/(2*int(t.rcvMSS)), 2), 16))
	}
	t.lastText = now
}

// deliver appends n octets of s.Payload at RCV.NXT.
func (t *TCB) deliver(n int, s *Segment) {
	t.rcvNxt = t.rcvNxt.Add(n)
	t.stats.bytesReceived += uint64(n)
	if n == 0 {
		return
	}
	t.holeSince = 0
	if t.has(flagReadShut) {
		s.Payload.Release()
		return
	}
	t.rcvBuf.put(&s.Payload)
	if t.rcvBuf.len() >= t.lowat() {
		t.events |= EventReadable
	}
}

// lowat is how much must be there for EventReadable: never so much that SWS avoidance on either side could keep it from ever arriving.
func (t *TCB) lowat() int { return min(max(t.RcvLowat, 1), max(windowSpace(t.RcvBuf)/2, 1)) }

// outOfOrder keeps text that does not start at RCV.NXT (SHLD-31) and asks for an immediate ACK (RFC 5681 §4.2).
func (t *TCB) outOfOrder(s *Segment) {
	t.set(flagAckNow)
	t.stats.outOfOrder++
	limit := 2 * windowSpace(t.RcvBuf)
	if t.pressure >= PressureHigh {
		limit /= 8
	}
	full := func() bool {
		return t.reasm.cost()+s.Len+partOverhead > limit || len(t.reasm.pieces) >= maxPieces
	}
	if full() {
		t.reasm.squeeze()
	}
	for full() && len(t.reasm.pieces) > 0 && s.Seq.Less(t.reasm.pieces[len(t.reasm.pieces)-1].lo) {
		t.dropLast()
	}
	if full() {
		t.owner.Count(CountOutOfOrderDropped, 1)
		return
	}
	compact(&s.Payload)
	if dup := t.reasm.insert(s.Seq, s.Seq.Add(s.Len), &s.Payload, s.Flags.Has(FIN)); dup.Left != dup.Right {
		t.noteDSACK(dup.Left, dup.Right)
	}
	if t.reasm.cost() > limit {
		t.reasm.squeeze() // a segment that lay across holes has become many parts
	}
	for t.reasm.cost() > limit {
		t.dropLast()
	}
}

// dropLast gives up the text furthest out of order, and does not report what is no longer there.
func (t *TCB) dropLast() {
	t.owner.Count(CountOutOfOrderDropped, 1)
	t.reasm.dropLast()
	if t.rcvNxt.Less(t.dsack.Right) {
		t.dsack = Block{}
	}
}

// scheduleACK decides between an ACK now and a delayed one (RFC 9293 §3.8.6.3, RFC 5681 §4.2). hole tells that text out of order was waiting.
func (t *TCB) scheduleACK(now Time, hole bool) {
	owed := t.rcvNxt.Sub(t.lastAckSent)
	quick := t.QuickAck == 1 || t.QuickAck == 0 && t.quickAcks > 0 && !t.has(flagInteractive)
	if hole || quick || owed > int(t.rcvMSS) {
		t.set(flagAckNow)
		return
	}
	t.set(flagAckDelayed)
	if !t.armed(timerDelayedACK) {
		t.arm(timerDelayedACK, now+t.cfg.DelayedACK)
	}
}

// fin is the eighth check: the peer's FIN is in order.
func (t *TCB) fin(now Time) {
	t.peerFin = t.rcvNxt
	t.rcvNxt++
	t.rcvAdv = seq.Max(t.rcvAdv, t.rcvNxt)
	t.set(flagPeerFin | flagAckNow)
	t.rcvUp = seq.Min(t.rcvUp, t.peerFin) // no urgent data comes after it
	t.passUrgent()
	t.reasm.release()
	t.events |= EventReadable | EventReadHangup
	switch t.state {
	case StateSynRecv, StateEstablished:
		t.setState(StateCloseWait)
	case StateFinWait1:
		// If the ACK in this segment covered our FIN the state would be FIN-WAIT-2 by now.
		t.setState(StateClosing)
	case StateFinWait2:
		t.timeWait(now)
	}
}

// timeWait enters TIME-WAIT: all other timers are turned off and 2MSL starts.
func (t *TCB) timeWait(now Time) {
	t.setState(StateTimeWait)
	t.stopTimers()
	t.sndBuf.release()
	t.sender = nil
	t.arm(timerWait, now+t.cfg.TimeWait)
	t.events |= EventHangup | EventReadable | EventWritable
}
