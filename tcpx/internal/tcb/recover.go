package tcb

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// caState is the state of loss recovery, with Linux's numbers.
type caState uint8

const (
	caOpen caState = iota
	caDisorder
	caCWR
	caRecovery
	caLoss
)

// frtoStep is how far F-RTO has come (RFC 5682).
type frtoStep uint8

const (
	// frtoOff: conventional recovery.
	frtoOff frtoStep = iota
	// frtoWait is step 2: waiting for the ACK of the first segment, which the time-out sent again.
	frtoWait
	// frtoForward is step 2b: up to two new segments are to leave before anything else is sent again.
	frtoForward
	// frtoSent is step 3: they have left, the next ACK decides.
	frtoSent
)

// episode is the state of one recovery and of what may prove it mistaken.
type episode struct {
	state caState
	// signal is what the controller was told at its start.
	signal congestion.Signal
	// high is RecoveryPoint: SND.NXT when the episode began (RFC 6675 §5, RFC 6582 recover). Afterwards it stays just below SND.UNA.
	high Seq
	prr  recovery.PRR
	// cwnd is the window that PRR allows, in bytes.
	cwnd uint64
	undo recovery.Undo

	// blind: the episode began without SACK information, so that partial ACKs must show the holes (RFC 6582).
	blind bool
	// owed: the first segment is to leave again whatever the window says: after a time-out (until the link takes it) or a partial ACK.
	owed bool
	// tooBig: what is due for retransmission outside of recovery did not fit the path, or was refused with our SYN, which is no sign of congestion (RFC 8201 §5.4).
	tooBig bool
	// marked: the window had been reduced by a mark when the episode began, which is no mistake even if the episode is one.
	marked bool
	// firstTx is the number of the episode's first retransmission, 0 before; twice tells that one of them was lost.
	firstTx uint64
	twice   bool
	// highRxt is the end of the highest retransmission, rescued that the last resort was used (RFC 6675 §4); scanned is up to where IsLost was applied.
	highRxt, scanned Seq
	rescued          bool

	// frto is F-RTO's step; rtoHigh is SND.NXT at the time-out.
	frto    frtoStep
	rtoHigh Seq

	// TLP (RFC 8985 §7): a probe is outstanding up to tlpEnd.
	tlpOut, tlpRetrans bool
	tlpEnd             Seq
}

// advanced keeps what an episode has left behind from falling so far behind SND.UNA that it would seem to be ahead.
func (e *episode) advanced(una Seq) {
	e.owed = false
	e.scanned = seq.Max(e.scanned, una)
	e.highRxt = seq.Max(e.highRxt, una)
	if e.high.Less(una) {
		e.high = una - 1
	}
	if e.rtoHigh.Less(una) {
		e.rtoHigh = una - 1
	}
	e.undo.Advanced(una)
}

// SegmentLost implements recovery.LossHandler: it counts one record that RACK has marked.
func (t *TCB) SegmentLost(s *recovery.Segment) {
	if t.path != nil {
		if t.probe.is(s) {
			t.probeLost(t.ack.Now)
			return
		}
		t.pathLost = max(t.pathLost, t.wireSize(s))
	}
	t.smp.OnLost(&s.State)
	t.ack.Lost += uint64(s.Len)
	ev := congestion.LossEvent{
		Now: t.ack.Now, Size: uint64(s.Len), Packet: &s.State, InFlight: t.rtx.InFlight(), TotalLost: t.smp.Lost(), Delivered: t.smp.Delivered(),
	}
	t.lossEv = ev
	t.cc.OnLost(&t.lossEv)
	if r := &t.rec; r.firstTx != 0 && s.State.TxSeq >= r.firstTx && s.Flags&recovery.EverRetrans != 0 {
		r.twice = true
	}
}

// markLost marks record i and counts it.
func (t *TCB) markLost(i int) {
	if t.rtx.MarkLost(i) {
		t.SegmentLost(t.rtx.At(i))
	}
}

// markHead marks the first segment: what followed it in one unit is not known to be lost.
func (t *TCB) markHead() {
	t.rtx.SplitFront(0, t.mss, t.mss)
	t.markLost(0)
}

// detectLoss marks what the ACK shows to be lost: RACK (RFC 8985), IsLost (RFC 6675) or duplicate ACKs (RFC 6582).
func (t *TCB) detectLoss(now Time, n *ackNews) {
	t.ack.Now, t.ack.Lost = now, 0
	switch {
	case t.rtx.Ordered:
		t.detectRACK(now)
	case t.has(flagSACK):
		t.detectByEdge()
	}
	switch {
	case t.has(flagSACK) && t.rtx.SackedBytes() > 0:
		// The blocks tell all; duplicate ACKs without any (see selective) are taken as those of a peer without SACK.
	case t.dupAcks >= recovery.DupThresh && t.rec.state != caRecovery && t.rec.state != caLoss && n.dup:
		// RFC 6582 §3.2 step 2: not again for losses of the window that was just recovered.
		if t.rec.high.Less(t.sndUna) || t.rec.state == caCWR {
			t.markHead()
		}
	case t.rec.state == caRecovery && t.rec.blind && n.advanced && t.sndUna.Less(t.rec.high) && t.rtx.Len() > 0:
		// A partial ACK names the next hole, which is repaired at once, whatever the window says (§3.2 step 3).
		t.markHead()
		t.rec.owed = true
	}
	n.lost = t.ack.Lost
}

func (t *TCB) detectRACK(now Time) {
	inRecovery := t.rec.state == caRecovery || t.rec.state == caLoss
	_, sacked, _, _ := t.rtx.Counts()
	wnd := t.rack.ReoWnd(t.sndUna, t.minRTT.Get(), t.rto.SRTT, inRecovery, sacked)
	if left := t.rack.DetectLoss(&t.rtx, now, wnd, t); left > 0 {
		t.armReorder(now + left)
	} else {
		t.disarm(timerReorder)
	}
}

// armReorder arms RACK's timer. The time-out does not come before it (RFC 8985 §8: the one cancels the other).
func (t *TCB) armReorder(at Time) {
	t.arm(timerReorder, at)
	if t.armed(timerRTO) {
		t.arm(timerRTO, max(t.timers[timerRTO], at))
	}
}

// detectByEdge is RFC 6675's IsLost for everything below the edge.
func (t *TCB) detectByEdge() {
	if _, sacked, _, _ := t.rtx.Counts(); sacked >= recovery.DupThresh && t.rec.state != caRecovery && t.rec.state != caLoss {
		// Three segments, however small, are three duplicate ACKs (RFC 6675 §5 step 1).
		if t.rec.scanned.Leq(t.sndUna) && t.rtx.At(0).Flags == 0 {
			t.markHead()
		}
	}
	edge, ok := t.rtx.LossEdge(recovery.DupThresh, t.mss)
	if !ok {
		return
	}
	for i := t.rtx.Find(seq.Max(t.sndUna, t.rec.scanned)); i < t.rtx.Len(); i++ {
		s := t.rtx.At(i)
		if edge.Less(s.End()) {
			break
		}
		if s.Flags&(recovery.Sacked|recovery.Lost) == 0 {
			t.markLost(i)
		}
	}
	t.rec.scanned = seq.Max(edge, t.rec.scanned)
}

// recover is the state machine of loss recovery, run once for each ACK. What it ends, concluded tells the controller after OnAck.
func (t *TCB) recover(now Time, s *Segment, n *ackNews) {
	r := &t.rec
	n.state = r.state
	t.processTLP(now, s, n)
	if t.spurious(s, n) {
		t.undo(now, n)
		return
	}
	switch {
	case r.state == caLoss:
		t.inLoss(n)
	case r.state == caRecovery && r.high.Leq(t.sndUna):
		t.exitRecovery(n)
	}
	switch {
	case r.state == caRecovery && r.twice:
		// Losing a retransmission is a second indication of congestion (RFC 5681 §4.3, RFC 8985 §3.2).
		t.enterRecovery(now, n)
	case r.state == caRecovery && (n.delivered > 0 || n.lost > 0):
		safe := n.advanced && n.lost == 0
		r.cwnd = r.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), safe)
	case r.state == caOpen || r.state == caDisorder || r.state == caCWR:
		due := t.rtx.DueBytes() > 0
		if due && !r.tooBig || n.lost > 0 {
			t.enterRecovery(now, n)
			return
		}
		r.tooBig = r.tooBig && due
		if r.state == caCWR {
			t.inCWR(now, n)
			return
		}
		t.open()
	}
}

// open enters the state in which nothing is known to be lost.
func (t *TCB) open() {
	t.rec.state = caOpen
	if t.rtx.SackedBytes() > 0 || t.dupAcks > 0 {
		t.rec.state = caDisorder
	}
}

// enterRecovery starts fast recovery (RFC 5681 §3.2, RFC 6675 §5, RFC 9937 §6).
func (t *TCB) enterRecovery(now Time, n *ackNews) {
	t.owner.Count(CountFastRecovery, 1)
	if t.has(flagSACK) {
		t.owner.Count(CountSACKRecovery, 1)
	}
	if n.ended { // by the same ACK
		t.reportExit(now, n)
	}
	// The window is reduced once for each window of data, whether by a mark or by a loss (RFC 3168 §6.1.2).
	marked := t.rec.state == caCWR
	t.beginEpisode(caRecovery, congestion.FastRecovery)
	t.rec.marked = marked
	t.rec.blind = t.rtx.SackedBytes() == 0 && t.dupAcks >= recovery.DupThresh
	if !marked {
		t.signal(now, congestion.FastRecovery, n.outstanding, n.lost)
		t.reduced()
	}
	t.rec.prr.Begin(sub64(n.outstanding, n.priorDelivered), t.ctl.Ssthresh)
	t.rec.cwnd = t.rec.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), n.advanced && n.lost == 0)
}

// beginEpisode starts an episode and gathers the proof against it from here on.
func (t *TCB) beginEpisode(s caState, sig congestion.Signal) {
	r := &t.rec
	r.state, r.signal = s, sig
	r.high, r.highRxt = t.sndNxt, t.sndUna
	r.firstTx, r.twice, r.rescued, r.tooBig, r.marked = 0, false, false, false, false
	r.undo.Begin()
	t.disarm(timerProbe)
	r.tlpOut = false
}

// signal tells the controller of an episode.
func (t *TCB) signal(now Time, sig congestion.Signal, prior, lost uint64) {
	ev := congestion.SignalEvent{
		Now: now, Signal: sig, PriorInFlight: prior, InFlight: t.rtx.InFlight(), NewlyLost: lost, Delivered: t.smp.Delivered(),
	}
	t.signalEv = ev
	t.cc.OnSignal(&t.signalEv)
	t.readControl()
}

// exitRecovery ends fast or RTO recovery: everything outstanding at its start is acknowledged.
func (t *TCB) exitRecovery(n *ackNews) {
	r := &t.rec
	r.state, r.frto, r.firstTx = caOpen, frtoOff, 0
	r.undo.End(t.sndNxt)
	t.dupAcks = 0
	t.rack.RecoveryExit()
	n.ended = true
}

// concluded tells the controller of what the ACK has ended, after OnAck.
func (t *TCB) concluded(now Time, n *ackNews) {
	switch {
	case n.undone:
		t.cc.OnSpurious(now, t.rec.signal, t.rtx.InFlight())
		t.readControl()
	case n.ended:
		t.reportExit(now, n)
	}
}

func (t *TCB) reportExit(now Time, n *ackNews) {
	n.ended = false
	t.cc.OnRecoveryExit(now, t.rtx.InFlight())
	t.readControl()
}

// inLoss is the recovery after an RTO, with F-RTO's second and third step (RFC 5682 §2.1, §3.1).
func (t *TCB) inLoss(n *ackNews) {
	r := &t.rec
	if r.high.Leq(t.sndUna) {
		t.exitRecovery(n)
		return
	}
	switch r.frto {
	case frtoWait:
		switch {
		case n.advanced && t.rtx.At(0).Flags&recovery.Retrans == 0 && t.unsent() > 0 && t.windowRoom() > 0:
			r.frto = frtoForward // step 2b
		case n.advanced, n.dup && !t.has(flagSACK):
			r.frto = frtoOff // step 2a, or nothing new to send
		}
	case frtoForward, frtoSent:
		if n.advanced || n.dup || n.sacked {
			r.frto = frtoOff // step 3a; step 3b, the proof, was looked for before
		}
	}
}

// spurious looks for proof that the episode was mistaken.
func (t *TCB) spurious(s *Segment, n *ackNews) bool {
	r := &t.rec
	ecr := uint32(0)
	if t.has(flagTS) && s.Opts.TS {
		ecr = s.Opts.TSEcr
	}
	switch {
	case n.advanced && r.undo.Original(t.sndUna, ecr):
		return true
	case n.duplicates:
		return true
	default:
		// F-RTO step 3b: what was sent before the time-out, and not again, arrives; and nothing of what was sent after it.
		return r.state == caLoss && r.frto == frtoSent && n.original && !n.beyond
	}
}

// undo withdraws the loss marks; concluded makes the controller restore its state (RFC 4015, RFC 9438 §4.9).
func (t *TCB) undo(now Time, n *ackNews) {
	r := &t.rec
	inEpisode := r.state == caRecovery || r.state == caLoss
	switch r.signal {
	case congestion.RTO:
		t.owner.Count(CountSpuriousRTO, 1)
	case congestion.FastRecovery:
		t.rack.Reordered()
	}
	t.owner.Count(CountSpuriousRecovery, 1)
	t.rtx.ClearLost()
	r.undo.Forget()
	r.frto, r.firstTx, r.owed = frtoOff, 0, false
	t.open()
	if t.rtx.Ordered && t.rtx.SackedBytes() > 0 {
		// What is still missing gets another reordering window before RACK judges it again.
		t.armReorder(now + max(t.rack.ReoWnd(t.sndUna, t.minRTT.Get(), t.rto.SRTT, false, 0), 1))
	}
	t.backoff, t.retries = 0, 0
	if t.rtx.Len() > 0 {
		t.arm(timerRTO, t.rtoAt(now))
	}
	if r.marked {
		n.ended = inEpisode // what the controller heard of is the mark
	} else {
		n.undone = true
	}
}

// scheduleProbe arms the loss probe (RFC 8985 §7.2).
func (t *TCB) scheduleProbe(now Time) {
	if !t.rtx.Ordered || t.rec.tlpOut || t.rec.state == caRecovery || t.rec.state == caLoss || t.rtx.Len() == 0 || t.rtx.SackedBytes() > 0 || t.has(flagEarly) {
		t.disarm(timerProbe)
		return
	}
	pto := 2 * t.rto.SRTT
	if t.rto.SRTT == 0 {
		pto = time.Second
	} else if out, _, _, _ := t.rtx.Counts(); out == 1 {
		pto += maxPeerDelay
	}
	at := now + pto
	if t.armed(timerRTO) {
		at = min(at, t.timers[timerRTO])
	}
	t.arm(timerProbe, at)
}

// sendProbe is the loss probe (RFC 8985 §7.3): one new segment if there is one and the window allows it, else the last one again.
func (t *TCB) sendProbe(now Time) {
	if t.rtx.Len() == 0 {
		return
	}
	r := &t.rec
	sent := false
	if n := min(t.unsent(), int(t.mss)); n > 0 && t.windowRoom() >= n {
		sent = t.sendNew(now, n, t.unsent())
		r.tlpRetrans = false
	}
	if !sent {
		sent = t.retransmit(now, t.lastSegment(t.rtx.Len()-1))
		r.tlpRetrans = true
	}
	if sent {
		r.tlpOut, r.tlpEnd = true, t.sndNxt
		t.disarm(timerProbe) // one probe at a time; sending new text has just armed the next
	}
	t.arm(timerRTO, t.rtoAt(now))
}

// lastSegment splits the last segment off record i and returns its index.
func (t *TCB) lastSegment(i int) int {
	last := t.rtx.At(i)
	text := last.Len
	if last.Flags&recovery.Fin != 0 {
		text--
	}
	if text <= t.mss {
		return i
	}
	t.rtx.SplitFront(i, (text-1)/t.mss*t.mss, t.mss)
	return i + 1
}

// isProbe reports whether a DSACK is about the loss probe.
func (e *episode) isProbe(b Block) bool {
	return e.tlpOut && e.tlpRetrans && (b.Right == e.tlpEnd || b.Right+1 == e.tlpEnd) // FIN may not count
}

// processTLP decides what became of a loss probe (RFC 8985 §7.4.2).
func (t *TCB) processTLP(now Time, s *Segment, n *ackNews) {
	r := &t.rec
	if !r.tlpOut || s.Ack.Less(r.tlpEnd) {
		return
	}
	switch {
	case !r.tlpRetrans, n.probeTwice:
		r.tlpOut = false
	case r.tlpEnd.Less(s.Ack):
		// The probe repaired a loss that nothing else would have shown.
		r.tlpOut = false
		t.owner.Count(CountTLPRecovery, 1)
		if r.state != caCWR {
			t.signal(now, congestion.TLP, n.outstanding, 0)
			t.reduced()
		}
		n.ended = true
	case s.Ack == n.una && s.Len == 0 && s.Opts.NumSACK == 0 && !s.Flags.Any(SYN|FIN):
		r.tlpOut = false
	}
}
