package tcb

import (
	"slices"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
)

// ackNews is what one ACK told.
type ackNews struct {
	// una is SND.UNA before the ACK; advanced tells that it moved.
	una      Seq
	advanced bool
	// dup tells that the ACK is a duplicate in the sense of RFC 5681 §2.
	dup bool
	// delivered and lost are bytes newly delivered and newly marked lost.
	delivered, lost uint64
	// prior, outstanding and priorDelivered are the bytes in flight, outstanding and of these known to be delivered before the ACK.
	prior, outstanding, priorDelivered uint64
	// sacked tells that SACK blocks covered something new.
	sacked bool
	// duplicates tells that all the episode's retransmissions are known to have arrived twice, probeTwice that the loss probe has.
	duplicates, probeTwice bool
	// original tells that data sent before the last RTO and never retransmitted was delivered, beyond that data sent after it was (F-RTO).
	original, beyond bool
	// state is that of recovery when the ACK came; ended and undone tell that an episode is over, undone that it was mistaken.
	state         caState
	ended, undone bool
	// largest is the text and options of the largest segment newly delivered, for PathMTU.
	largest uint32
	// cumulative is the number of bytes acknowledged cumulatively.
	cumulative int
	// rtt is the round-trip sample for the RTO, 0 if none.
	rtt time.Duration
}

// ackArrives is the fifth check, the ACK field (RFC 9293 §3.10.7.4, RFC 5961 §5.2). It reports whether the segment is to be processed further.
func (t *TCB) ackArrives(now Time, s *Segment) bool {
	if t.has(flagProbe) && s.Ack == t.sndNxt+1 {
		t.probeAccepted(now)
	}
	if t.state == StateSynRecv {
		if !t.synAcked(now, s) {
			return false
		}
	}
	if !t.ackInRange(s) {
		// Neither something sent nor recent: maybe injected.
		t.owner.Count(CountAckInvalid, 1)
		t.challenge(now)
		return false
	}
	t.noteTimestamp(now, s)
	t.lastAck = now
	t.processACK(now, s)
	if t.state == StateClosed {
		return false
	}
	return t.finAcked(now)
}

// ackInRange is RFC 5961 §5.2: neither more than what was sent nor older than the largest window.
func (t *TCB) ackInRange(s *Segment) bool {
	return s.Ack.Leq(t.sndNxt) && t.sndUna.Add(-int(min(t.maxSndWnd, 1<<30))).Leq(s.Ack)
}

// synAcked is the SYN-RECEIVED part of the fifth check. It reports whether the segment is to be processed further.
func (t *TCB) synAcked(now Time, s *Segment) bool {
	if s.Ack.Leq(t.sndUna) || t.sndNxt.Less(s.Ack) {
		t.sendReset(now, s)
		return false
	}
	if !t.has(flagDeferred) {
		t.sampleSYN(now, s)
	}
	t.synAckFeedback(s)
	t.firstWindow(s)
	if s.Len == 0 && !s.Flags.Has(FIN) && t.deferred(now) {
		return false
	}
	early := t.has(flagEarly)
	s.completes = true
	t.sndUna = t.iss + 1
	t.becomeEstablished(now)
	switch {
	case early:
		t.earlyAcked(now, s)
	case t.FastOpen != nil && !t.has(flagPassive):
		t.sndUna = t.iss.Add(1 + min(s.Ack.Sub(t.iss+1), t.FastOpen.SynText)) // a FIN that has left is for the rules of any ACK
		t.synAnswered(now, s)
	}
	return true
}

// deferred reports whether TCP_DEFER_ACCEPT holds back a connection whose handshake is complete: until data comes, but not for ever.
func (t *TCB) deferred(now Time) bool {
	if t.has(flagDeferred) {
		return t.armed(timerWait)
	}
	if t.DeferAccept <= 0 || !t.has(flagPassive) || t.flags&(flagFinQueued|flagEarly) != 0 {
		return false
	}
	t.set(flagDeferred)
	t.arm(timerWait, now+t.DeferAccept)
	t.disarm(timerRTO)
	return true
}

// becomeEstablished leaves SYN-RECEIVED for ESTABLISHED, or for FIN-WAIT-1 if the user has called CLOSE meanwhile.
func (t *TCB) becomeEstablished(now Time) {
	next := StateEstablished
	if t.has(flagFinQueued) {
		next = StateFinWait1
	}
	t.setState(next)
	t.established(now)
	if t.outstanding() {
		t.retransSince = now
		t.arm(timerRTO, t.rtoAt(now)) // FIN, or early text, has left already
	}
}

// finAcked moves on when our FIN has been acknowledged. It reports whether the segment is to be processed further.
func (t *TCB) finAcked(now Time) bool {
	if !t.has(flagFinAcked) {
		return true
	}
	switch t.state {
	case StateFinWait1:
		t.setState(StateFinWait2)
		if t.has(flagOrphan) {
			t.armFinWait2(now)
			return t.state != StateClosed
		}
	case StateClosing:
		t.timeWait(now)
	case StateLastAck:
		t.toClosed()
		return false
	}
	return true
}

// processACK takes the news out of an acceptable ACK, runs loss detection and tells the congestion controller.
func (t *TCB) processACK(now Time, s *Segment) {
	old := s.Ack.Less(t.sndUna)
	if t.sender == nil {
		if !old {
			t.updateWindow(s)
		}
		t.probes = 0
		t.windowNews(now)
		return
	}
	n := t.news()
	windowChanged := !old && t.updateWindow(s)
	t.probes = 0

	if s.Ack == t.sndUna && n.outstanding == 0 && s.Opts.NumSACK == 0 && !t.rec.tlpOut {
		// Nothing outstanding, nothing new: a window update or plain data. The quick way for the receiving side of a transfer.
		t.windowNews(now)
		return
	}
	t.smp.Begin(now)
	if !old && s.Ack != t.sndUna {
		t.cumulative(now, s, &n)
	}
	n.dup = s.Ack == t.sndUna && !n.advanced && !s.completes && s.Len == 0 && !s.Flags.Any(FIN|SYN) && !windowChanged && t.rtx.Len() > 0
	if t.has(flagSACK) {
		t.selective(now, s, &n)
	} else {
		t.countDuplicates(&n)
	}
	t.sampleRTT(now, s, &n)
	t.detectLoss(now, &n)
	t.recover(now, s, &n)
	t.congestionEcho(now, s, &n)
	t.tellController(now, &n)
	t.concluded(now, &n)
	if t.path != nil {
		t.tellPath(now, &n)
	}
	t.windowNews(now)
	if n.advanced {
		t.progress(now)
	} else if n.sacked {
		t.scheduleProbe(now)
	}
}

// news starts an ackNews with the state before the ACK.
func (t *TCB) news() ackNews {
	return ackNews{una: t.sndUna, prior: t.rtx.InFlight(), outstanding: t.rtx.Outstanding(), priorDelivered: t.rtx.Delivered()}
}

// cumulative advances SND.UNA to SEG.ACK.
func (t *TCB) cumulative(now Time, s *Segment, n *ackNews) {
	n.advanced = true
	n.cumulative = s.Ack.Sub(t.sndUna)
	t.sndUna = s.Ack
	echo := t.echoTime(now, s)
	var oldest Time
	var again recovery.Flags
	for {
		seg, was := t.rtx.PopAcked(s.Ack, t.mss)
		if seg == nil {
			break
		}
		again |= was & recovery.EverRetrans
		if was&recovery.EverRetrans == 0 && oldest == 0 && was&recovery.Sacked == 0 {
			oldest = seg.State.SentTime
		}
		if was&recovery.Sacked == 0 {
			t.delivered(now, seg, was, n, echo)
		}
		if was&recovery.Fin != 0 {
			t.set(flagFinAcked)
			n.cumulative--
		}
	}
	if oldest != 0 && again == 0 {
		// With a retransmission among them the others may have waited at the peer for the hole to be filled.
		n.rtt = max(now-oldest, 1)
	}
	if again != 0 && !t.has(flagSACK) {
		n.original = false // the rest may have waited behind the hole that the retransmission filled
	}
	t.rec.advanced(t.sndUna)
	t.sndBuf.ack(t.sndUna)
	t.stats.bytesAcked += uint64(max(n.cumulative, 0))
	if t.has(flagUrgOut) && t.sndUp.Leq(t.sndUna) {
		t.drop(flagUrgOut)
	}
}

// delivered counts a record that has reached the peer.
func (t *TCB) delivered(now Time, seg *recovery.Segment, was recovery.Flags, n *ackNews, echo Time) {
	n.delivered += uint64(seg.Len)
	t.stats.delivered += uint32(seg.Segs)
	if t.path != nil {
		n.largest = max(n.largest, t.wireSize(seg))
		if t.probe.is(seg) {
			t.probe.out = false // tellPath reports it
		}
	}
	if was&recovery.EverRetrans == 0 {
		t.minRTT.Update(max(now-seg.State.SentTime, 1), now)
		if seg.Seq.Less(t.rec.rtoHigh) {
			n.original = true
		}
	}
	n.beyond = n.beyond || t.rec.rtoHigh.Less(seg.End())
	t.smp.OnDelivered(&seg.State, now)
	if t.rtx.Ordered {
		t.rack.Delivered(seg, was, now, t.minRTT.Get(), echo)
	}
}

// echoTime is when the echoed timestamp left, rounded up to its clock's next tick so that it is never taken to be too old; 0 if there is none.
func (t *TCB) echoTime(now Time, s *Segment) Time {
	if !t.has(flagTS) {
		return 0
	}
	d := t.echoRTT(now, s)
	if d < 0 {
		return 0
	}
	return now.Truncate(time.Millisecond) - d.Truncate(time.Millisecond) + time.Millisecond
}

// selective takes the SACK option (RFC 2018, RFC 2883 §5).
func (t *TCB) selective(now Time, s *Segment, n *ackNews) {
	blocks := s.Opts.SACK[:s.Opts.NumSACK]
	if len(blocks) == 0 {
		if t.rtx.SackedBytes() == 0 {
			t.countDuplicates(n) // gVisor's TCP sends no SACK blocks outside of ESTABLISHED
		}
		return
	}
	if d, ok := t.isDSACK(s.Ack, blocks); ok {
		t.reportedTwice(d, n)
		blocks = blocks[1:]
	}
	// From the lowest to the highest: the order in the option is one of age, and what it lists after higher ones is not reordered for that.
	slices.SortFunc(blocks, func(a, b Block) int { return a.Left.Sub(b.Left) })
	echo := t.echoTime(now, s)
	for _, b := range blocks {
		if !b.Left.Less(b.Right) || b.Right.Leq(t.sndUna) || b.Left.Less(t.sndUna) || t.sndNxt.Less(b.Right) {
			continue // nonsense, or old (RFC 2018 §4: the peer must not, so that nothing is lost)
		}
		w := t.rtx.Sack(b.Left, b.Right, t.mss)
		for seg, was := w.Next(); seg != nil; seg, was = w.Next() {
			n.sacked = true
			if was&recovery.EverRetrans == 0 && n.rtt == 0 && !n.advanced {
				n.rtt = max(now-seg.State.SentTime, 1)
			}
			t.delivered(now, seg, was, n, echo)
		}
	}
	if n.sacked || n.advanced {
		n.recount(t.rtx.DupAckReset(0, t.mss)) // blocks tell better than duplicates without any did
		t.dupAcks = 0
	}
}

// reportedTwice takes a DSACK (RFC 2883, RFC 3708, RFC 8985).
func (t *TCB) reportedTwice(d Block, n *ackNews) {
	t.stats.dsackDups++
	t.owner.Count(CountDSACKReceived, 1)
	n.duplicates = t.rec.undo.DSACK(d.Left, d.Right)
	if n.probeTwice = t.rec.isProbe(d); n.probeTwice || !t.rtx.Ordered || t.stats.totalRetrans == 0 {
		return // neither a probe nor what the network doubled tells of reordering
	}
	t.rack.DSACK(t.sndUna, t.sndNxt)
}

// isDSACK reports whether the first block is a DSACK: it lies below the cumulative ACK or within the second (RFC 2883 §4).
func (t *TCB) isDSACK(ack Seq, b []Block) (Block, bool) {
	if !b[0].Left.Less(b[0].Right) {
		return b[0], false
	}
	if b[0].Left.Less(ack) {
		// Believe it only of data that was really sent lately.
		return b[0], b[0].Right.Leq(ack) && ack.Sub(b[0].Left) <= int(max(t.maxSndWnd, 65535))
	}
	return b[0], len(b) > 1 && b[1].Left.Leq(b[0].Left) && b[0].Right.Leq(b[1].Right)
}

// recount takes back what duplicates had counted as delivered before.
func (n *ackNews) recount(before uint64) { n.delivered -= min(n.delivered, before) }

// countDuplicates is loss detection's input from a peer without SACK (RFC 5681 §3.2, RFC 6582).
func (t *TCB) countDuplicates(n *ackNews) {
	switch {
	case n.advanced:
		t.dupAcks = 0
		if t.rec.state != caRecovery {
			n.recount(t.rtx.DupAckReset(0, t.mss))
			return
		}
		// A partial ACK: the segments that it covers beyond the first were among those counted by duplicates (RFC 6582 §3.2 step 3, RFC 9937 §6).
		n.recount(t.rtx.DupAckReset(uint64(max(n.cumulative-int(t.mss), 1)), t.mss))
	case n.dup:
		if t.dupAcks < 255 {
			t.dupAcks++
		}
		if t.rec.state != caLoss || t.sndNxt != t.rec.rtoHigh {
			// What was sent before a time-out is counted as lost, and not in flight, already.
			n.delivered += t.rtx.DupAck(t.mss)
		}
	}
}

// sampleRTT feeds the estimator (RFC 6298 §3, RFC 7323 §4).
func (t *TCB) sampleRTT(now Time, s *Segment, n *ackNews) {
	rtt := n.rtt
	if rtt == 0 && n.advanced && t.has(flagTS) && s.Opts.TS {
		// Something was retransmitted: the echo tells which transmission this is about, to a tick of the clock.
		if d := t.echoRTT(now, s); d >= 0 {
			rtt = max(d, time.Millisecond)
		}
	}
	if rtt == 0 {
		return
	}
	t.rto.Sample(rtt, int((t.rtx.Outstanding()+uint64(n.cumulative))/(2*uint64(t.mss))))
	t.backoff = 0
}

// tellController passes the ACK on to congestion control.
func (t *TCB) tellController(now Time, n *ackNews) {
	if n.delivered == 0 && n.lost == 0 && !n.advanced {
		return
	}
	e := &t.ack
	e.Now = now
	e.Sample = t.smp.Finish(t.minRTT.Get(), t.rtx.InFlight())
	e.Acked, e.CumAcked, e.Lost = n.delivered, uint64(max(n.cumulative, 0)), n.lost
	e.PriorInFlight, e.InFlight = n.prior, t.rtx.InFlight()
	e.Delivered, e.TotalLost = t.smp.Delivered(), t.smp.Lost()
	e.RTT, e.SRTT, e.MinRTT = n.rtt, t.rto.SRTT, t.minRTT.Get()
	e.CwndLimited = t.usage.limited(t)
	// The ACK that ends recovery belongs to it: the window becomes ssthresh and grows from the next on (RFC 5681 §3.2 step 6, RFC 9937 §6).
	e.InRecovery = n.state == caRecovery || t.rec.state == caRecovery
	e.InLoss = n.state == caLoss || t.rec.state == caLoss
	if e.Sample.Valid {
		t.stats.rate = e.Sample.DeliveryRate
		t.drop(flagRateAppLimited)
		if e.Sample.AppLimited {
			t.set(flagRateAppLimited)
		}
	}
	t.cc.OnAck(e)
	t.readControl()
	t.tuneSendBuffer()
}

// readControl caches what the controller wants.
func (t *TCB) readControl() {
	t.ctl = t.cc.Control()
	rate, quantum := uint64(0), t.ctl.SendQuantum
	switch {
	case t.ctl.Capabilities.Has(congestion.NeedsPacing):
		rate = t.ctl.PacingRate
	case t.cfg.Pacing:
		// What is under way may exceed a window that was just reduced; the pacer spreads it out and PRR decides how much of it is replaced.
		c := t.ctl
		c.Cwnd = max(c.Cwnd, t.rtx.InFlight())
		rate = congestion.PacingRate(c, t.rto.SRTT)
		quantum = congestion.SendQuantum(rate, uint32(t.mss))
	}
	t.pacer.SetRate(rate)
	t.pacer.SetMaxRate(t.MaxPacingRate)
	t.pacer.SetQuantum(max(quantum, 2*uint64(t.mss)))
}

// cwnd is the congestion window in force, in bytes.
func (t *TCB) cwnd() uint64 {
	if t.reducing() && !t.ctl.Capabilities.Has(congestion.OwnsRecovery) {
		return t.rec.cwnd
	}
	return t.ctl.Cwnd
}

// progress is called when SND.UNA advanced: the retransmission timer starts again (RFC 6298 §5.2, §5.3) and writers may go on.
func (t *TCB) progress(now Time) {
	t.retries, t.retransSince = 0, 0
	// MSG_MORE holds text back for the next write, not longer than until an ACK would send it, as in Linux.
	t.drop(flagProbe | flagMore)
	if t.rtx.Len() == 0 {
		t.disarm(timerRTO)
		t.disarm(timerProbe)
		t.disarm(timerReorder)
		t.restartKeepAlive(now)
		if t.sndBuf.len == 0 {
			t.rtx.Shrink()
			t.sndBuf.shrink()
		}
	} else {
		t.retransSince = now
		t.arm(timerRTO, t.rtoAt(now))
		t.scheduleProbe(now)
	}
	t.wakeWriter()
}

// WriteSpace returns how many bytes Write takes at present; 0 means that the user must wait for EventWritable.
func (t *TCB) WriteSpace() int {
	if t.has(flagFinQueued) || t.state == StateClosed {
		return 0
	}
	room := max(t.SndBuf-t.sndBuf.len, 0)
	if t.NotSentLowat > 0 {
		room = min(room, max(t.NotSentLowat-t.unsent(), 0))
	}
	return room
}

// wakeWriter tells a waiting writer of room, once there is enough of it to be worth a wake-up.
func (t *TCB) wakeWriter() {
	if !t.has(flagWantWrite) {
		return
	}
	if n := t.WriteSpace(); n > 0 && n >= t.SndBuf/3 || t.NotSentLowat > 0 && n > 0 {
		t.drop(flagWantWrite)
		t.events |= EventWritable
	}
}

// tuneSendBuffer lets the send buffer hold what the congestion window allows twice over, so that it never limits sending.
func (t *TCB) tuneSendBuffer() {
	if t.SndBufLocked || t.pressure != PressureNone || t.ctl.Cwnd >= congestion.MaxWindow/4 {
		return
	}
	if want := int(2*t.ctl.Cwnd) + 64<<10; t.SndBuf < want && t.has(flagWantWrite) {
		t.SndBuf = min(want, max(t.cfg.SndBufMax, t.SndBuf))
	}
}
