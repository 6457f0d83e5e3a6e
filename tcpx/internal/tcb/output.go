package tcb

import (
	"time"

	"github.com/plumbline/plumbline/tcpx/internal/recovery"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// mayTransmit are the states in which text or FIN may still have to leave.
var mayTransmit = of(StateEstablished, StateCloseWait, StateFinWait1, StateClosing, StateLastAck)

// linkRetry is how long to wait before a segment that the link refused is tried again. It doubles with each refusal in a row, maxLinkDoublings times at most: a link that is
// full for long is not to be asked by each connection every millisecond, and one that has room again not to wait for long.
const (
	linkRetry        = time.Millisecond
	maxLinkDoublings = 4
)

// maxPeerDelay is the longest delay of a peer's ACK that is reckoned with (RFC 8985 §7.2, WCDelAckT).
const maxPeerDelay = 200 * time.Millisecond

// output sends all that may leave now: retransmissions first, then new text and FIN, then an ACK if one is still owed.
func (t *TCB) output(now Time) {
	if (mayTransmit.has(t.state) || t.has(flagEarly)) && !t.armed(timerLink) && (t.sender != nil || t.unsent() > 0 || t.finDue()) {
		t.startSender(now)
		t.outputData(now)
	}
	if t.has(flagAckNow) && t.state != StateClosed && t.state != StateSynSent {
		t.sendACK(now)
	}
}

func (t *TCB) outputData(now Time) {
	if t.path != nil {
		t.followPath(now)
	}
	if t.has(flagEarly) {
		t.outputNew(now) // until the handshake is complete SYN-ACK is what is sent again
		return
	}
	if r := &t.rec; r.frto == frtoForward {
		// F-RTO step 2b: the window of two segments goes to new text.
		t.outputNew(now)
		switch {
		case t.sndNxt != r.rtoHigh:
			r.frto = frtoSent
		case !t.armed(timerLink) && t.pacer.NextSend(now) <= now:
			r.frto = frtoOff // it cannot: recovery goes on as usual
		}
	}
	if t.rec.frto != frtoForward && t.rec.frto != frtoSent && t.outputLost(now) {
		return
	}
	if !t.armed(timerLink) {
		t.outputNew(now)
		t.outputLastResort(now)
	}
}

// outputLost retransmits what is lost, as far as the congestion window and the pacer let it. It reports whether something lost had to wait.
func (t *TCB) outputLost(now Time) bool {
	for {
		i := t.rtx.NextLost()
		if i < 0 {
			return false
		}
		if i == 0 && t.rec.owed {
			if t.sendOwed(now); t.rec.owed {
				return true
			}
			continue
		}
		if q := t.rtx.At(i).Seq; q != t.sndUna && t.sndUna.Add(int(min(t.sndWnd, 1<<30))).Leq(q) {
			return true // the window has shrunk (SHLD-16): the first segment alone goes out, at the time-out, and serves as the probe
		}
		flight, cwnd := t.rtx.InFlight(), t.cwnd()
		room := sub64(cwnd, flight)
		if room < min(uint64(t.rtx.At(i).Len), uint64(t.mss)) && flight > 0 {
			t.usage.blocked(t)
			return true
		}
		if t.paced(now) {
			return true
		}
		if n := t.quantum(t.rtx.At(i).Seq, int(room)); t.rtx.At(i).Len > uint32(n) {
			t.rtx.SplitFront(i, uint32(n), t.mss)
		}
		if !t.retransmit(now, i) {
			return true
		}
	}
}

// outputLastResort is NextSeg of RFC 6675 §4 from rule 3 on, for a recovery with room in the window and nothing left to send: first what is missing below the
// highest SACKed octet though not known to be lost, then once the last segment, whose loss no SACK would show. RACK and TLP have better means.
func (t *TCB) outputLastResort(now Time) {
	r := &t.rec
	if r.state != caRecovery || r.blind || t.rtx.Ordered || t.unsent() > 0 && t.windowRoom() > 0 {
		return
	}
	for sub64(t.cwnd(), t.rtx.InFlight()) >= uint64(t.mss) && !t.paced(now) {
		i := t.rtx.NextHole(seq.Max(t.sndUna, r.highRxt))
		switch {
		case i >= 0:
			t.rtx.SplitFront(i, t.mss, t.mss)
		case r.rescued:
			return
		default:
			if i = t.rtx.LastUnsacked(); i < 0 || t.rtx.At(i).Flags&recovery.Retrans != 0 {
				return
			}
			i = t.lastSegment(i)
			r.rescued = true
		}
		if high := r.highRxt; !t.retransmit(now, i) {
			return
		} else if r.rescued {
			r.highRxt = high
		}
	}
}

// paced reports that the pacer wants the next segment to wait, and arms its timer.
func (t *TCB) paced(now Time) bool {
	at := t.pacer.NextSend(now)
	if at <= now {
		return false
	}
	t.arm(timerPace, at)
	return true
}

// unitMax is the largest unit that the link may cut into segments, at q. The urgent pointer counts from each segment's own sequence number, which a link that
// copies headers does not know: urgent data leaves segment by segment.
func (t *TCB) unitMax(q Seq) uint32 {
	if t.has(flagUrgOut) && q.Less(t.sndUp) {
		return 0
	}
	return t.gsoMax
}

// quantum is how much may leave at q as one unit: whole segments within room, at least one.
func (t *TCB) quantum(q Seq, room int) int {
	n := int(t.mss)
	if t.has(flagCWR) && q == t.sndNxt {
		return n // CWR belongs on one segment alone, which a link that copies headers does not know
	}
	if unit := t.unitMax(q); unit > t.mss {
		q := int(unit)
		if t.ctl.SendQuantum > 0 {
			q = min(q, int(t.ctl.SendQuantum))
		}
		n = max(n, min(room, q)/int(t.mss)*int(t.mss))
	}
	return n
}

// retransmit sends record i again. It reports whether the link took it.
func (t *TCB) retransmit(now Time, i int) bool {
	r := t.rtx.At(i)
	if r.Len > t.mss && t.unitMax(r.Seq) < r.Len {
		t.rtx.SplitFront(i, t.mss, t.mss)
		r = t.rtx.At(i)
	}
	text, fl := int(r.Len), ACK
	if r.Flags&recovery.Fin != 0 {
		text, fl = text-1, ACK|FIN
	}
	if text > 0 && r.Seq.Add(text) == t.sndBuf.next {
		fl |= PSH
	}
	s := t.segment(now, r.Seq, fl)
	if t.optionRoom(s) < min(text, int(t.mss)) {
		t.dropBlocks(now, s) // the segment was cut for the MSS and leaves no room
	}
	s.Retransmit = true
	if text > 0 {
		s.Payload = t.sndBuf.slice(r.Seq, text)
	}
	if !t.transmit(now, s) {
		return false
	}
	flight := t.rtx.InFlight()
	t.rtx.Cut(i, t.mss)
	r = t.rtx.Retransmit(i)
	t.smp.OnSent(&r.State, now, r.Len, flight, true)
	t.rtx.Sent(r)
	t.pacer.OnSent(now, uint64(r.Len))
	t.cc.OnSent(now, uint64(r.Len), t.rtx.InFlight())
	t.rec.sentAgain(r, text, t.tsNow(now))
	t.stats.totalRetrans += uint32(r.Segs)
	t.stats.bytesRetrans += uint64(text)
	t.stats.bytesSent += uint64(text)
	t.stats.dataOut += uint32(r.Segs)
	t.owner.Count(CountRetransmit, uint64(r.Segs))
	switch t.rec.state {
	case caRecovery:
		t.owner.Count(CountFastRetransmit, uint64(r.Segs))
	case caLoss:
		t.owner.Count(CountSlowStartRetransmit, uint64(r.Segs))
	}
	t.noteSent(now)
	if !t.armed(timerRTO) || t.rec.state == caRecovery && r.Seq == t.sndUna {
		// The fast retransmit of the first segment starts the timer anew (RFC 6675 §5.1), or it would strike before the repair is acknowledged.
		t.arm(timerRTO, t.rtoAt(now))
	}
	return true
}

// sentAgain remembers the retransmission of a record with text octets and the timestamp ts.
func (e *episode) sentAgain(r *recovery.Segment, text int, ts uint32) {
	e.owed = false
	e.prr.Sent(uint64(r.Len))
	e.undo.Retransmitted(r.Seq, r.Seq.Add(text), ts)
	e.highRxt = seq.Max(e.highRxt, r.End())
	if e.firstTx == 0 && (e.state == caRecovery || e.state == caLoss) {
		e.firstTx = r.State.TxSeq
	}
}

// unsent is the number of octets written and not yet sent.
func (t *TCB) unsent() int { return max(t.sndBuf.next.Sub(t.sndNxt), 0) }

// windowRoom is the usable window: SND.UNA + SND.WND - SND.NXT.
func (t *TCB) windowRoom() int {
	room := t.sndUna.Add(int(min(t.sndWnd, 1<<30))).Sub(t.sndNxt)
	if t.has(flagEarly) {
		room++ // SND.UNA is our SYN, which takes nothing of the window
	}
	return room
}

// idleRestart tells the controller that sending starts again after a pause (RFC 5681 §4.1), be it that the user had nothing to send or that the peer's window was closed.
func (t *TCB) idleRestart(now Time) {
	if t.rtx.Len() > 0 || t.stats.dataOut == 0 || t.unsent() == 0 || t.windowRoom() <= 0 {
		return
	}
	if idle := now - t.lastSend; idle > t.baseRTO() {
		t.cc.OnIdleRestart(now, idle)
		t.readControl()
	}
}

// outputNew sends new text, and FIN behind it.
func (t *TCB) outputNew(now Time) {
	t.idleRestart(now)
	windowLimited := false
	for {
		avail := t.unsent()
		flight, cwnd := t.rtx.InFlight(), t.cwnd()
		full := flight >= cwnd || sub64(cwnd, flight) < uint64(min(avail, int(t.mss))) && flight > 0
		switch {
		case full:
			t.usage.blocked(t)
		case avail < int(t.mss):
			t.smp.MarkAppLimited(flight)
		}
		// A bare FIN waits for neither the congestion window nor the pacer: it carries no text.
		if avail > 0 && (full || t.paced(now)) || avail == 0 && !t.finDue() {
			break
		}
		if t.path != nil && avail > int(t.mss) {
			sent, wait := t.outputProbe(now, avail, flight, cwnd)
			if sent {
				continue
			}
			if wait {
				t.usage.blocked(t)
				break
			}
		}
		n, limited := t.sendable(avail, int(min(sub64(cwnd, flight), 1<<30)))
		if n == 0 && (avail > 0 || limited) {
			t.heldBack(now, limited)
			windowLimited = limited
			break
		}
		if !t.sendNew(now, n, avail) {
			break
		}
	}
	t.usage.update(t)
	t.noteLimit(now, windowLimited)
}

// sendable applies the peer's window, sender SWS avoidance and Nagle's algorithm (RFC 9293 §3.8.6.2.1, §3.7.4) to avail octets. It returns how many to send in one
// unit, and whether the window is what limits.
func (t *TCB) sendable(avail, room int) (n int, limited bool) {
	wnd := t.windowRoom()
	if wnd <= 0 {
		return 0, true
	}
	n = min(avail, wnd, t.quantum(t.sndNxt, room))
	mss := int(t.mss)
	if n >= mss {
		if part := n % mss; part > 0 && !t.mayFinish(n, avail) {
			n -= part
		}
		return n, false
	}
	if n < avail {
		// The window cuts the segment: only if that is a good part of what the peer ever offered.
		return n * boolInt(uint32(n) >= t.maxSndWnd/2 && t.maxSndWnd > 0), true
	}
	return n * boolInt(t.mayFinish(n, avail)), false
}

// mayFinish reports whether a segment smaller than the MSS that ends n of avail octets may leave.
func (t *TCB) mayFinish(n, avail int) bool {
	switch {
	case n < avail:
		return false
	case t.has(flagFinQueued) && t.finSeq == t.sndBuf.next, t.has(flagUrgOut):
		return true
	case t.Cork || t.has(flagMore):
		return t.has(flagPushNow)
	case t.NoDelay:
		return true
	default:
		// Nagle with Minshall's change: at most one small segment may be unacknowledged.
		return t.smallEnd.Leq(t.sndUna)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sub64(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// heldBack arms the persist timer if nothing else will make the connection go on: a closed window, which holds back FIN as well as text, or a small segment without
// anything in flight.
func (t *TCB) heldBack(now Time, limited bool) {
	if t.rtx.Len() == 0 && !t.armed(timerPersist) && !t.has(flagEarly) && (limited || t.Cork || t.has(flagMore)) {
		t.backoff = 0
		t.arm(timerPersist, now+t.persistTime(limited))
	}
}

// corkTime is how long TCP_CORK and MSG_MORE hold a partial segment, as in Linux.
const corkTime = 200 * time.Millisecond

// The bounds of the time after which sender SWS avoidance is overridden (RFC 9293 §3.8.6.2.1).
const (
	minOverride = 100 * time.Millisecond
	maxOverride = time.Second
)

func (t *TCB) persistTime(limited bool) time.Duration {
	switch {
	case !limited:
		return corkTime
	case t.windowRoom() > 0:
		return min(max(t.baseRTO(), minOverride), maxOverride)
	default:
		return t.currentRTO()
	}
}

// windowNews starts or stops the persist timer as the window closed or opened.
func (t *TCB) windowNews(now Time) {
	if !t.armed(timerPersist) {
		return
	}
	want, room := t.unsent(), t.windowRoom()
	if t.finDue() {
		want++
	}
	switch {
	case t.outstanding() || want == 0:
		t.disarm(timerPersist)
	case room >= min(int(t.mss), want):
		t.disarm(timerPersist)
		t.backoff = 0 // of the probes
	case room > 0 && t.backoff > 0:
		// Probing is over; what may leave now is held back by SWS avoidance only, which waits less long.
		t.backoff = 0
		t.arm(timerPersist, now+t.persistTime(true))
	}
}

// finDue reports that FIN is still to be sent.
func (t *TCB) finDue() bool { return t.has(flagFinQueued) && !t.has(flagFinSent) }

// sendNew sends n of avail unsent octets, and FIN if it is due behind them. It reports whether the link took the segment.
func (t *TCB) sendNew(now Time, n, avail int) bool {
	fl := ACK
	if n == avail && n > 0 && !t.has(flagMore) {
		fl |= PSH
	}
	seqLen, rf := n, recovery.Flags(0)
	if t.finDue() && n == avail && (n == 0 || n < t.windowRoom()) {
		fl |= FIN
		seqLen, rf = n+1, recovery.Fin
	}
	s := t.segment(now, t.sndNxt, fl)
	full := int(t.mss)
	if room := t.optionRoom(s); room < full && n > room {
		// SACK blocks leave less room than the MSS: one segment at a time while there are any.
		n, seqLen, rf, full = room, room, 0, room
		s.Flags &^= PSH | FIN
	}
	cwr := t.has(flagCWR)
	if n > 0 {
		s.Payload = t.sndBuf.slice(t.sndNxt, n)
		t.markText(s)
	}
	if !t.transmit(now, s) {
		if cwr {
			t.set(flagCWR)
		}
		return false
	}
	if n%full != 0 {
		t.smallEnd = t.sndNxt.Add(seqLen)
	}
	t.pushed(now, n, seqLen, uint16(max((n+int(t.mss)-1)/int(t.mss), 1)), rf)
	return true
}

// pushed notes that n octets of new text have left, seqLen with FIN, as segs segments.
func (t *TCB) pushed(now Time, n, seqLen int, segs uint16, rf recovery.Flags) {
	flight := t.rtx.InFlight()
	r := t.rtx.Push(t.sndNxt, uint32(seqLen), segs, rf)
	r.MSS = uint16(min(max(int(t.mss), n*boolInt(segs == 1)), 65535))
	t.smp.OnSent(&r.State, now, uint32(seqLen), flight, false)
	t.rtx.Sent(r)
	t.pacer.OnSent(now, uint64(seqLen))
	t.cc.OnSent(now, uint64(seqLen), t.rtx.InFlight())
	if t.rec.state == caRecovery || t.rec.state == caCWR {
		t.rec.prr.Sent(uint64(seqLen))
	}
	t.sndNxt = t.sndNxt.Add(seqLen)
	if t.smallEnd.Leq(t.sndUna) {
		t.smallEnd = t.sndUna // never so far behind that it seems ahead
	}
	if rf != 0 {
		t.set(flagFinSent)
	}
	t.stats.bytesSent += uint64(n)
	t.stats.dataOut += uint32(segs)
	t.noteSent(now)
	t.drop(flagProbe) // the octet is now among what was sent
	t.disarm(timerPersist)
	if !t.armed(timerRTO) {
		t.arm(timerRTO, t.rtoAt(now))
	}
	if t.rec.state != caRecovery && t.rec.state != caLoss {
		t.scheduleProbe(now)
	}
}

// optionRoom is how much text fits beside the options of s.
func (t *TCB) optionRoom(s *Out) int {
	m := min(t.peerMSS, t.mtuPayload)
	if t.userMSS > 0 {
		m = min(m, t.userMSS)
	}
	return max(int(m)-s.OptLen, 8)
}

// noteSent keeps what depends on data having left.
func (t *TCB) noteSent(now Time) {
	if t.retransSince == 0 {
		t.retransSince = now
	}
	if t.lastText != 0 && now-t.lastText < t.cfg.DelayedACK {
		t.set(flagInteractive)
	}
	t.lastSend = now
}

// segment prepares t.out with the present acknowledgment, window and options.
func (t *TCB) segment(now Time, q Seq, fl Flags) *Out {
	s := &t.out
	*s = Out{Seq: q, Ack: t.rcvNxt, Flags: fl | t.feedback(), MSS: int(t.mss)}
	s.Wnd = t.selectWindow()
	var o Options
	if t.has(flagTS) {
		o.TS, o.TSVal, o.TSEcr = true, t.tsNow(now), t.tsRecent
	}
	if t.has(flagSACK) && (t.dsack.Left != t.dsack.Right || len(t.reasm.pieces) > 0) {
		t.sackBlocks(&o)
	}
	if o.TS || o.NumSACK > 0 {
		s.OptLen = PutOptions(&s.Opts, &o)
	}
	if t.has(flagUrgOut) && q.Less(t.sndUp) {
		if d := t.sndUp.Sub(q); d <= 65535 {
			s.Flags |= URG
			s.Up = uint16(d)
		} else {
			s.Flags |= URG
			s.Up = 65535
		}
	}
	return s
}

// dropBlocks takes SACK blocks out of a segment.
func (t *TCB) dropBlocks(now Time, s *Out) {
	s.OptLen = 0
	if t.has(flagTS) {
		o := Options{TS: true, TSVal: t.tsNow(now), TSEcr: t.tsRecent}
		s.OptLen = PutOptions(&s.Opts, &o)
	}
}

// sackBlocks fills in the SACK option: a DSACK first (RFC 2883 §4), then the latest pieces.
func (t *TCB) sackBlocks(o *Options) {
	room := len(o.SACK)
	if o.TS {
		room--
	}
	k := 0
	if t.dsack.Left != t.dsack.Right {
		o.SACK[0] = t.dsack
		k = 1
	}
	k += t.reasm.blocks(o.SACK[k:room])
	o.NumSACK = uint8(k)
}

// transmit hands s to the owner. If the link refuses, nothing was sent: a timer tries again.
func (t *TCB) transmit(now Time, s *Out) bool {
	if !t.owner.Transmit(s) {
		s.Payload.Release()
		t.owner.Count(CountLinkRefused, 1)
		if !t.armed(timerLink) { // what is refused meanwhile does not put it off
			t.arm(timerLink, now+linkRetry<<min(t.refusals, maxLinkDoublings))
			t.refusals = min(t.refusals+1, maxLinkDoublings)
		}
		return false
	}
	t.refusals = 0
	segs := 1
	t.stats.segsOut += uint32(segs)
	if s.Flags.Has(ACK) && t.state != StateSynSent {
		t.ackSent(s.Ack)
	}
	return true
}

// ackSent notes that everything received so far has been acknowledged.
func (t *TCB) ackSent(ack Seq) {
	t.lastAckSent = ack
	if a := t.accurate; a != nil {
		a.reported = a.cep
	}
	t.dsack = Block{}
	t.drop(flagAckNow | flagAckDelayed)
	t.disarm(timerDelayedACK)
	if t.quickAcks > 0 {
		t.quickAcks--
	}
}

// sendACK sends a segment without text.
func (t *TCB) sendACK(now Time) {
	if dup := t.dsack; dup.Left != dup.Right {
		t.owner.Count(CountDSACKSent, 1)
	}
	t.transmit(now, t.segment(now, t.sndNxt, ACK))
}

// sendAbort sends the RST of ABORT (RFC 9293 §3.10.5).
func (t *TCB) sendAbort(now Time) {
	s := &t.out
	*s = Out{Seq: t.sndNxt, Ack: t.rcvNxt, Flags: RST | ACK, MSS: int(t.mss)}
	t.dropBlocks(now, s) // RFC 7323 §3.2: timestamps should be sent
	t.owner.Count(CountResetSent, 1)
	t.transmit(now, s)
}

// sendReset answers a segment that does not belong to the connection (RFC 9293 §3.5.2, groups 1 and 2).
func (t *TCB) sendReset(now Time, in *Segment) {
	if o, ok := Reset(in); ok {
		t.out = o
		t.owner.Count(CountResetSent, 1)
		if !t.owner.Transmit(&t.out) {
			t.owner.Count(CountLinkRefused, 1)
		}
	}
}
