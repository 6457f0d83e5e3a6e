package tcb

import (
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

// episode is the state of one recovery and of what may prove it mistaken.
type episode struct {
	state caState
	// high is RecoveryPoint: SND.NXT when the episode began (RFC 6675 §5, RFC 6582 recover).
	high Seq
	prr  recovery.PRR
	// cwnd is the window that PRR allows, in bytes.
	cwnd uint64
	// blind: the episode began without SACK information, so that partial ACKs must show the holes (RFC 6582).
	blind bool

	// Undo: SND.UNA at the start, how many retransmitted segments no DSACK has come back for, and the timestamp of the first retransmission
	// (RFC 4015, RFC 3708, RFC 3522).
	undoUna     Seq
	undoRetrans int
	undoTS      uint32
	// undoSeq is the first retransmission's sequence number.
	undoSeq       Seq
	canUndo       bool
	retransmitted bool
	signal        congestion.Signal

	// F-RTO (RFC 5682): under way, and whether new data was sent in place of retransmissions. rtoHigh is SND.NXT at the time-out.
	frto, frtoNew bool
	rtoHigh       Seq

	// TLP (RFC 8985 §7): a probe is outstanding up to tlpEnd.
	tlpOut, tlpRetrans bool
	tlpEnd             Seq

	// scanned is up to where IsLost has been applied (RFC 6675).
	scanned Seq
}

// dsackSeen takes note of a DSACK: one retransmission less that was needed.
func (e *episode) dsackSeen(t *TCB, b Block) {
	if e.canUndo && e.undoRetrans > 0 && e.undoUna.Leq(b.Left) {
		segs := (b.Right.Sub(b.Left) + int(t.mss) - 1) / int(t.mss)
		e.undoRetrans = max(e.undoRetrans-segs, 0)
	}
}

// SegmentLost implements recovery.LossHandler: it counts one record that RACK has marked.
func (t *TCB) SegmentLost(s *recovery.Segment) {
	t.smp.OnLost(&s.State)
	t.ack.Lost += uint64(s.Len)
	ev := congestion.LossEvent{
		Now: t.ack.Now, Size: uint64(s.Len), Packet: &s.State, InFlight: t.rtx.InFlight(), TotalLost: t.smp.Lost(), Delivered: t.smp.Delivered(),
	}
	t.lossEv = ev
	t.cc.OnLost(&t.lossEv)
}

// markLost marks record i and counts it.
func (t *TCB) markLost(i int) {
	if t.rtx.MarkLost(i) {
		t.SegmentLost(t.rtx.At(i))
	}
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
		if t.rec.high.Less(t.sndUna) || t.rec.high == t.iss {
			t.markLost(0)
		}
	case t.rec.state == caRecovery && t.rec.blind && n.advanced && t.sndUna.Less(t.rec.high) && t.rtx.Len() > 0:
		// A partial ACK names the next hole.
		t.markLost(0)
	}
	n.lost = t.ack.Lost
}

func (t *TCB) detectRACK(now Time) {
	inRecovery := t.rec.state == caRecovery || t.rec.state == caLoss
	_, sacked, _, _ := t.rtx.Counts()
	wnd := t.rack.ReoWnd(t.sndUna, t.minRTT.Get(), t.rto.SRTT, inRecovery, sacked)
	if left := t.rack.DetectLoss(&t.rtx, now, wnd, t); left > 0 {
		t.arm(timerReorder, now+left)
	} else {
		t.disarm(timerReorder)
	}
}

// detectByEdge is RFC 6675's IsLost for everything below the edge.
func (t *TCB) detectByEdge() {
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
	t.rec.scanned = edge
}

// recover is the state machine of loss recovery, run once for each ACK.
func (t *TCB) recover(now Time, s *Segment, n *ackNews, prior, outstanding, priorSacked uint64) {
	t.processTLP(now, s, n)
	if t.tryUndo(now, s, n) {
		return
	}
	r := &t.rec
	switch r.state {
	case caLoss:
		t.inLoss(now, n)
	case caRecovery:
		if r.high.Leq(t.sndUna) {
			t.exitRecovery(now)
		}
	}
	switch r.state {
	case caRecovery:
		if n.delivered > 0 || n.lost > 0 {
			safe := n.advanced && n.lost == 0
			r.cwnd = r.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), safe)
		}
	case caOpen, caDisorder:
		if t.rtx.LostBytes() > t.rtx.RetransBytes() || n.lost > 0 {
			t.enterRecovery(now, n, prior, outstanding, priorSacked)
			return
		}
		r.state = caOpen
		if t.rtx.SackedBytes() > 0 || t.dupAcks > 0 {
			r.state = caDisorder
		}
	}
}

// enterRecovery starts fast recovery (RFC 5681 §3.2, RFC 6675 §5, RFC 9937 §6).
func (t *TCB) enterRecovery(now Time, n *ackNews, prior, outstanding, priorSacked uint64) {
	t.owner.Count(CountFastRecovery, 1)
	if t.has(flagSACK) {
		t.owner.Count(CountSACKRecovery, 1)
	}
	t.beginEpisode(caRecovery, congestion.FastRecovery)
	t.rec.blind = t.rtx.SackedBytes() == 0 && t.dupAcks >= recovery.DupThresh
	t.signal(now, congestion.FastRecovery, outstanding, n.lost)
	fs := outstanding - min(outstanding, priorSacked)
	t.rec.prr.Begin(fs, t.ctl.Ssthresh)
	t.rec.cwnd = t.rec.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), n.advanced && n.lost == 0)
}

// beginEpisode remembers what undoing needs.
func (t *TCB) beginEpisode(s caState, sig congestion.Signal) {
	r := &t.rec
	r.state, r.signal = s, sig
	r.high = t.sndNxt
	r.undoUna, r.undoRetrans, r.canUndo, r.retransmitted = t.sndUna, 0, true, false
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
func (t *TCB) exitRecovery(now Time) {
	t.rec.state = caOpen
	t.rec.frto = false
	t.dupAcks = 0
	t.rack.RecoveryExit()
	t.cc.OnRecoveryExit(now, t.rtx.InFlight())
	t.readControl()
}

// inLoss is the recovery after an RTO, with F-RTO's second and third step (RFC 5682 §2.1, §3.1).
func (t *TCB) inLoss(now Time, n *ackNews) {
	r := &t.rec
	if r.high.Leq(t.sndUna) {
		t.exitRecovery(now)
		return
	}
	if !r.frto {
		return
	}
	switch {
	case n.advanced && !r.frtoNew && t.unsent() > 0 && t.windowRoom() > 0:
		// Step 2b: new data, rather than more retransmissions, will show whether the originals arrive.
		r.frtoNew = true
	case n.advanced && r.frtoNew, n.dup, n.sacked:
		// Step 3a: not proven spurious.
		r.frto, r.frtoNew = false, false
	}
}

// tryUndo looks for proof that the episode was mistaken and then takes it back. It reports whether it did.
func (t *TCB) tryUndo(now Time, s *Segment, n *ackNews) bool {
	r := &t.rec
	if !r.canUndo || !r.retransmitted {
		return false
	}
	switch {
	case r.state == caLoss && r.frto && n.original:
		// F-RTO step 3b: what was sent before the time-out, and not again, arrives.
	case n.advanced && r.undoSeq.Less(t.sndUna) && t.has(flagTS) && s.Opts.TS && s.Opts.TSEcr != 0 && int32(s.Opts.TSEcr-r.undoTS) < 0:
		// Eifel (RFC 3522 §3.2): the ACK answers a segment sent before the first retransmission.
	case n.dsack && r.undoRetrans == 0:
		// Every retransmission has arrived twice (RFC 3708).
	default:
		return false
	}
	t.undo(now)
	return true
}

// undo withdraws the loss marks and restores the controller's state (RFC 4015, RFC 9438 §4.9).
func (t *TCB) undo(now Time) {
	r := &t.rec
	if r.signal == congestion.RTO {
		t.owner.Count(CountSpuriousRTO, 1)
	}
	t.owner.Count(CountSpuriousRecovery, 1)
	t.rtx.ClearLost()
	t.cc.OnSpurious(now, r.signal, t.rtx.InFlight())
	r.canUndo, r.frto, r.frtoNew = false, false, false
	r.state = caOpen
	if t.rtx.SackedBytes() > 0 {
		r.state = caDisorder
	}
	t.backoff, t.retries = 0, 0
	t.readControl()
}

// scheduleProbe arms the loss probe (RFC 8985 §7.2).
func (t *TCB) scheduleProbe(now Time) {
	if !t.rtx.Ordered || t.rec.tlpOut || t.rec.state == caRecovery || t.rec.state == caLoss || t.rtx.Len() == 0 || t.rtx.SackedBytes() > 0 {
		t.disarm(timerProbe)
		return
	}
	pto := 2 * t.rto.SRTT
	if t.rto.SRTT == 0 {
		pto = t.cfg.InitialRTO
	} else if t.rtx.InFlight() <= uint64(t.mss) {
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
	t.disarm(timerProbe)
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
		i := t.rtx.Len() - 1
		if last := t.rtx.At(i); last.Len > t.mss {
			t.rtx.SplitFront(i, last.Len-min(last.Len-1, t.mss), t.mss)
			i = t.rtx.Len() - 1
		}
		sent = t.retransmit(now, i)
		r.tlpRetrans = true
	}
	if sent {
		r.tlpOut, r.tlpEnd = true, t.sndNxt
		t.disarm(timerProbe) // one probe at a time; sending new text has just armed the next
	}
	t.arm(timerRTO, t.rtoAt(now))
}

// processTLP decides what became of a loss probe (RFC 8985 §7.4.2).
func (t *TCB) processTLP(now Time, s *Segment, n *ackNews) {
	r := &t.rec
	if !r.tlpOut || s.Ack.Less(r.tlpEnd) {
		return
	}
	switch {
	case !r.tlpRetrans, n.dsack:
		r.tlpOut = false
	case r.tlpEnd.Less(s.Ack):
		// The probe repaired a loss that nothing else would have shown.
		r.tlpOut = false
		t.owner.Count(CountTLPRecovery, 1)
		t.signal(now, congestion.TLP, t.rtx.InFlight(), 0)
		t.cc.OnRecoveryExit(now, t.rtx.InFlight())
		t.readControl()
	case n.dup && s.Opts.NumSACK == 0:
		r.tlpOut = false
	}
}
