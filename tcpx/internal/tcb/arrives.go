package tcb

import (
	"time"
)

// SegmentArrives processes one incoming segment (RFC 9293 §3.10.7). What it keeps of s.Payload it takes; the caller releases the rest. In CLOSED nothing is
// done: answering is up to the owner (Reset), who also plays LISTEN.
func (t *TCB) SegmentArrives(now Time, s *Segment) {
	t.stats.segsIn += uint32(max(s.Segs, 1))
	switch t.state {
	case StateClosed, StateListen:
		return
	case StateSynSent:
		t.arrivesSynSent(now, s)
	case StateTimeWait:
		t.arrivesTimeWait(now, s)
	default:
		t.arrivesSynchronized(now, s)
	}
	if t.state != StateClosed && !(s.More && len(t.reasm.pieces) == 0) {
		t.output(now)
	}
	t.account()
}

// Flush sends what segments with More have put off.
func (t *TCB) Flush(now Time) {
	if t.state != StateClosed {
		t.output(now)
	}
	t.account()
}

// Reset describes the RST that answers a segment for which there is no connection (RFC 9293 §3.10.7.1); ok is false if none must be sent.
func Reset(s *Segment) (o Out, ok bool) {
	if s.Flags.Has(RST) {
		return o, false
	}
	if s.Flags.Has(ACK) {
		return Out{Seq: s.Ack, Flags: RST}, true
	}
	return Out{Ack: s.Seq.Add(s.SegLen()), Flags: RST | ACK}, true
}

// arrivesSynSent is RFC 9293 §3.10.7.3.
func (t *TCB) arrivesSynSent(now Time, s *Segment) {
	// First, check the ACK bit.
	if s.Flags.Has(ACK) && (s.Ack.Leq(t.iss) || t.sndNxt.Less(s.Ack)) {
		t.sendReset(now, s)
		return
	}
	// Second, check the RST bit. Without an acceptable ACK it is ignored (RFC 5961 §3.2).
	if s.Flags.Has(RST) {
		if s.Flags.Has(ACK) {
			t.owner.Count(CountResetReceived, 1)
			t.fail(ReasonRefused)
		}
		return
	}
	// Fourth, check the SYN bit (the third, security, is not supported). Fifth: neither SYN nor RST, drop.
	if !s.Flags.Has(SYN) {
		return
	}
	t.lastRecv = now
	t.learnSYN(now, s)
	if !s.Flags.Has(ACK) {
		// Simultaneous open (RFC 9293 figure 7).
		t.setState(StateSynRecv)
		t.sndWnd, t.maxSndWnd = uint32(s.Wnd), uint32(s.Wnd)
		t.retries = 0
		t.sendSYN(now)
		return
	}
	t.sndUna = s.Ack
	t.sampleSYN(now, s)
	t.setState(StateEstablished)
	t.sndWnd, t.maxSndWnd = uint32(s.Wnd), uint32(s.Wnd)
	t.sndWl1, t.sndWl2 = s.Seq, s.Ack
	t.established(now)
	if t.FastOpen != nil {
		t.synAnswered(now, s)
	}
	if t.has(flagFinQueued) {
		t.setState(StateFinWait1)
	}
	if t.has(flagAccECN) {
		t.ackSYN(now)
	} else {
		t.set(flagAckNow)
	}
	if s.Len > 0 || s.Flags.Any(FIN|URG) {
		// Text beside SYN-ACK is processed as in the sixth step onward.
		s.Seq++
		s.Flags &^= SYN
		t.acceptTail(now, s)
	}
}

// acceptTail queues the text and FIN of a handshake segment.
func (t *TCB) acceptTail(now Time, s *Segment) {
	t.urgent(s)
	if t.trim(s) {
		t.text(now, s)
	}
}

// sampleSYN measures the round trip of the handshake (RFC 6298 §2.2, Karn's algorithm).
func (t *TCB) sampleSYN(now Time, s *Segment) {
	var rtt time.Duration
	switch {
	case !t.has(flagSynRetrans):
		rtt = now - t.retransSince
	case t.has(flagTS) && s.Opts.TS:
		if rtt = t.echoRTT(now, s); rtt < 0 {
			return
		}
		rtt = max(rtt, time.Millisecond) // a tick of the clock
	default:
		return
	}
	t.rto.Sample(rtt, 1)
	t.minRTT.Update(max(rtt, 1), now)
}

// echoRTT is the time since the echoed timestamp was sent, negative if the echo makes no sense.
func (t *TCB) echoRTT(now Time, s *Segment) time.Duration {
	d := int32(t.tsNow(now) - s.Opts.TSEcr)
	if s.Opts.TSEcr == 0 || d < 0 || time.Duration(d)*time.Millisecond > now {
		return -1
	}
	return max(time.Duration(d)*time.Millisecond, 1)
}

// arrivesSynchronized is RFC 9293 §3.10.7.4 for every state from SYN-RECEIVED to LAST-ACK.
func (t *TCB) arrivesSynchronized(now Time, s *Segment) {
	if t.state == StateSynRecv && t.repeatedSYN(now, s) {
		return
	}
	// First, check the sequence number, timestamps before (RFC 7323 §5.3).
	if !t.checkTimestamps(now, s) || !t.checkSequence(now, s) {
		return
	}
	// Second, check the RST bit.
	if s.Flags.Has(RST) {
		t.reset(now, s)
		return
	}
	// Fourth, check the SYN bit: back to LISTEN from SYN-RECEIVED, otherwise a challenge ACK (RFC 5961 §4.2).
	if s.Flags.Has(SYN) {
		if t.state == StateSynRecv && t.has(flagPassive) && !t.has(flagEarly) {
			t.toClosed()
			return
		}
		t.challenge(now)
		return
	}
	// Fifth, check the ACK field.
	if !s.Flags.Has(ACK) || !t.ackArrives(now, s) {
		return
	}
	t.ecnArrives(s)
	t.lastRecv = now
	t.watchPeer(now, s)
	if t.timers[timerKeepAlive] != 0 {
		t.probes = 0
	}
	// Sixth, check the URG bit, before trim moves SEG.SEQ and also of what a closed window makes it discard (MUST-66).
	t.urgent(s)
	// Seventh, eighth: text and FIN.
	if t.trim(s) {
		t.text(now, s)
	}
}

// repeatedSYN handles what a peer may send before it has our SYN-ACK or while both sides open. It reports whether the segment is done with.
func (t *TCB) repeatedSYN(now Time, s *Segment) bool {
	if !s.Flags.Has(SYN) || s.Flags.Has(RST) || s.Seq != t.irs {
		return false
	}
	if !s.Flags.Has(ACK) {
		if !t.relearnECN(s) {
			t.sendReset(now, s)
			if t.has(flagPassive) {
				t.toClosed()
			} else {
				t.fail(ReasonRefused)
			}
			return true
		}
		// The SYN again: our SYN-ACK was lost. The timer runs on, so that no flood of SYNs keeps the attempt alive.
		if now-t.lastSend >= minSynAckGap {
			at := t.timers[timerRTO]
			t.resendSYN(now)
			t.timers[timerRTO] = at
		}
		return true
	}
	// SYN-ACK of a simultaneous open: what counts is its ACK, and its window, which is not scaled (RFC 7323 §2.2).
	s.Seq++
	s.Flags &^= SYN
	s.unscaled = true
	return false
}

// minSynAckGap keeps repeated SYNs from being answered at their own rate.
const minSynAckGap = 500 * time.Millisecond

// rcvWnd is RCV.WND, the window that the peer knows of.
func (t *TCB) rcvWnd() int { return max(t.rcvAdv.Sub(t.rcvNxt), 0) }

// acceptable is the segment acceptability test (RFC 9293 table 6). A segment without text may also start at the right edge: it is the ACK of a peer that has
// filled the window while some of its text is lost or late, and nothing else would bring us its news (appendix A.2).
func (t *TCB) acceptable(s *Segment) bool {
	wnd, n := uint32(t.rcvWnd()), s.SegLen()
	switch {
	case wnd == 0:
		return s.Seq == t.rcvNxt // with text: the text is dropped, but a valid ACK, URG or RST counts (MUST-66)
	case n == 0 && !s.Flags.Has(RST):
		return uint32(s.Seq-t.rcvNxt) <= wnd
	case n == 0:
		return uint32(s.Seq-t.rcvNxt) < wnd
	default:
		return uint32(s.Seq-t.rcvNxt) < wnd || uint32(s.Seq.Add(n-1)-t.rcvNxt) < wnd
	}
}

// checkSequence is the first check.
func (t *TCB) checkSequence(now Time, s *Segment) bool {
	if t.acceptable(s) {
		return true
	}
	if s.Flags.Has(RST) {
		t.owner.Count(CountBadReset, 1)
		return false
	}
	if s.SegLen() > 0 && s.Seq.Add(s.SegLen()).Leq(t.rcvNxt) {
		t.owner.Count(CountOldDuplicate, 1)
	} else {
		t.owner.Count(CountOutOfWindow, 1)
	}
	t.refuse(now, s)
	return false
}

// refuse answers a segment that is not acceptable with an ACK. Text and FIN may be a retransmission whose ACK was lost, so that their answers know no limit; what
// could make two confused ends answer each other for ever is limited.
func (t *TCB) refuse(now Time, s *Segment) {
	if s.Flags.Has(SYN) || s.Len == 0 && !s.Flags.Has(FIN) {
		t.challenge(now)
		if t.has(flagAccECN) && t.has(flagAckNow) && s.Flags.Has(SYN|ACK) && s.Seq == t.irs {
			if s.Flags&ecnBits != 0 {
				t.accurate.syn = s.ECN & 3
			}
			t.ackSYN(now) // as the first time, about the latest (RFC 9768 §3.2.2.1, §3.1.5)
		}
		return
	}
	if end := s.Seq.Add(s.Len); end.Leq(t.rcvNxt) && uint32(t.rcvNxt-s.Seq) <= 1<<30 {
		t.noteDSACK(s.Seq, end) // of what was received only, in the last window: any other block would be a false SACK
	}
	t.set(flagAckNow)
}

// pawsIdle is after how long without an update TS.Recent is no longer believed (RFC 7323 §5.5).
const pawsIdle = 24 * 24 * time.Hour

func (t *TCB) tsRecentOld(now Time) bool {
	return time.Duration(seconds(now)-t.tsRecentAt)*time.Second > pawsIdle
}

// seconds and millis are instants in less memory; differences of them count, across a wrap.
func seconds(now Time) uint32 { return uint32(now / time.Second) }
func millis(now Time) uint32  { return uint32(now / time.Millisecond) }

// checkTimestamps is PAWS (RFC 7323 §5.3, R1).
func (t *TCB) checkTimestamps(now Time, s *Segment) bool {
	if !t.has(flagTS) {
		return true
	}
	if !s.Opts.TS {
		// RFC 7323 §3.2: dropped, unless RST.
		return s.Flags.Has(RST)
	}
	if t.has(flagTSRecent) && int32(s.Opts.TSVal-t.tsRecent) < 0 {
		if s.Flags.Has(RST) {
			return true // R1 exempts RST
		}
		if !t.tsRecentOld(now) {
			t.owner.Count(CountPAWSRejected, 1)
			t.refuse(now, s)
			return false
		}
	}
	return true
}

// noteTimestamp is rule R3 of RFC 7323 §5.3, the update of TS.Recent. It comes after the check of the ACK field, so that a segment with a wrong ACK, which may be
// forged, cannot make PAWS reject the peer's own.
func (t *TCB) noteTimestamp(now Time, s *Segment) {
	if t.has(flagTS) && s.Opts.TS && s.Seq.Leq(t.lastAckSent) && (!t.has(flagTSRecent) || int32(s.Opts.TSVal-t.tsRecent) >= 0 || t.tsRecentOld(now)) {
		t.tsRecent, t.tsRecentAt = s.Opts.TSVal, seconds(now)
		t.set(flagTSRecent)
	}
}

// reset is the second check (RFC 9293 §3.10.7.4, RFC 5961 §3.2): only an exact match resets.
func (t *TCB) reset(now Time, s *Segment) {
	if s.Seq != t.rcvNxt {
		t.owner.Count(CountBadReset, 1)
		t.challenge(now)
		return
	}
	t.owner.Count(CountResetReceived, 1)
	switch t.state {
	case StateSynRecv:
		if t.has(flagEarly) {
			t.fail(ReasonReset) // the user has the connection already
			return
		}
		if t.has(flagPassive) {
			t.reason = ReasonReset
			t.toClosed() // back to LISTEN: the user need not be told (MUST-11)
			return
		}
		t.fail(ReasonRefused)
	case StateClosing, StateLastAck:
		t.toClosed()
	default:
		t.owner.Count(CountEstablishedReset, 1)
		t.fail(ReasonReset)
	}
}

// challenge sends a challenge ACK, subject to a limit (RFC 5961 §7).
func (t *TCB) challenge(now Time) {
	if t.challengeAt != 0 && time.Duration(millis(now)-t.challengeAt)*time.Millisecond < t.cfg.ChallengeACKInterval {
		t.owner.Count(CountChallengeACKLimited, 1)
		return
	}
	t.challengeAt = max(millis(now), 1)
	t.owner.Count(CountChallengeACK, 1)
	t.set(flagAckNow)
}

// arrivesTimeWait is RFC 9293 §3.10.7.4 for TIME-WAIT. RST is ignored (RFC 1337 §2), a new SYN may start the next incarnation (RFC 6191 §2), and a
// retransmitted FIN starts 2MSL again.
func (t *TCB) arrivesTimeWait(now Time, s *Segment) {
	if s.Flags.Has(RST) {
		return
	}
	if s.Flags.Has(SYN) && !s.Flags.Has(ACK) && t.newIncarnation(s) {
		t.events |= EventTimeWaitSYN
		t.toClosed()
		return
	}
	if !t.checkTimestamps(now, s) {
		return
	}
	if s.Flags.Has(FIN) && s.Seq.Add(s.SegLen()) == t.rcvNxt {
		t.noteTimestamp(now, s)
		t.arm(timerWait, now+t.cfg.TimeWait)
		t.set(flagAckNow)
		return
	}
	// Text and FIN behind the FIN that ended the stream are of a peer that has lost its place: our ACK tells it where we are.
	if !t.acceptable(s) || s.Flags.Has(SYN) || s.Flags.Has(ACK) && (s.SegLen() > 0 || !t.ackInRange(s)) {
		t.challenge(now)
	}
}

// newIncarnation reports whether a SYN is surely newer than the connection in TIME-WAIT (RFC 6191 §2).
func (t *TCB) newIncarnation(s *Segment) bool {
	if s.Opts.TS && t.cfg.Timestamps {
		if !t.has(flagTS) {
			return true // old segments have no timestamps and would be dropped
		}
		if d := int32(s.Opts.TSVal - t.tsRecent); d != 0 {
			return d > 0
		}
	}
	return t.rcvNxt.Less(s.Seq)
}

// trim cuts a segment to the receive window. It reports whether anything is left to process; what was cut off is acknowledged.
func (t *TCB) trim(s *Segment) bool {
	if s.Len == 0 && !s.Flags.Has(FIN) {
		return true
	}
	if d := t.rcvNxt.Sub(s.Seq); d > 0 {
		t.noteDSACK(s.Seq, s.Seq.Add(min(d, s.Len)))
		t.set(flagAckNow)
		if d > s.Len || d == s.Len && !s.Flags.Has(FIN) {
			return false
		}
		s.Payload.TrimFront(int64(d))
		s.Seq, s.Len = t.rcvNxt, s.Len-d
	}
	if over := s.Seq.Add(s.Len).Sub(t.rcvAdv); over > 0 || t.rcvWnd() == 0 && s.Len > 0 {
		t.owner.Count(CountOutOfWindow, 1)
		t.set(flagAckNow)
		over = min(max(over, 0), s.Len)
		s.Flags &^= FIN
		s.Len -= over
		s.Payload.Truncate(int64(s.Len))
		return s.Len > 0
	}
	return true
}

// noteDSACK remembers a duplicate to be reported (RFC 2883 §4), the first since the last ACK.
func (t *TCB) noteDSACK(lo, hi Seq) {
	if t.has(flagSACK) && lo.Less(hi) && t.dsack.Left == t.dsack.Right {
		t.dsack = Block{lo, hi}
	}
}
