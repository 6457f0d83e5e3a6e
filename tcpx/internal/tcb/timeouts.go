package tcb

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
)

// OnTimer processes every timeout that is due at now (RFC 9293 §3.10.8). Calling it too early is harmless.
func (t *TCB) OnTimer(now Time) {
	for k := timer(0); k < numTimers && t.state != StateClosed; k++ {
		if t.due(k, now) {
			t.disarm(k)
			t.timeout(now, k)
		}
	}
	if t.state != StateClosed {
		t.output(now)
	}
	t.account()
}

func (t *TCB) timeout(now Time, k timer) {
	switch k {
	case timerRTO:
		t.rtoExpired(now)
	case timerProbe:
		t.sendProbe(now)
	case timerReorder:
		t.reorderExpired(now)
	case timerPersist:
		t.persistExpired(now)
	case timerDelayedACK:
		t.owner.Count(CountDelayedACK, 1)
		t.set(flagAckNow)
	case timerKeepAlive:
		t.keepAliveExpired(now)
	case timerWait:
		t.waitExpired(now)
	case timerLink:
		if t.has(flagSynPending) {
			t.sendSYN(now)
		}
	}
	// timerPace, and timerLink otherwise, only make output run.
}

// rtoExpired is the retransmission timeout (RFC 9293 §3.10.8, RFC 6298 §5.4 to §5.7).
func (t *TCB) rtoExpired(now Time) {
	if t.state == StateSynSent || t.state == StateSynRecv {
		t.synExpired(now)
		return
	}
	if !t.outstanding() {
		return
	}
	if t.givenUp(now) {
		return
	}
	t.countRetry()
	if t.path != nil {
		t.forgetProbe()
	}
	t.enterLoss(now)
	if t.path != nil {
		t.pathLost = 0 // lost to time: that is another question
		t.pathTimedOut(now)
	}
	t.takeHint(now)
	t.backoff = min(t.backoff+1, 30)
	t.rec.owed = true
	t.sendOwed(now)
	t.arm(timerRTO, t.rtoAt(now))
}

// sendOwed sends the first segment again, whatever the window says; also past a window that shrank (SHLD-16) or closed, where it serves as the probe.
func (t *TCB) sendOwed(now Time) {
	if i := t.rtx.NextLost(); i == 0 {
		n := t.mss
		if t.path != nil {
			n = min(n, max(uint32(t.path.Fallback()), minPeerMSS)-t.segmentOptions())
		}
		t.rtx.SplitFront(i, n, n)
		t.retransmit(now, i)
	}
}

// givenUp ends a connection that makes no progress: R2 in retransmissions (RFC 9293 §3.8.3) or the user timeout (RFC 5482). A peer that keeps answering with a
// closed window is not given up (MUST-37, SHLD-17).
func (t *TCB) givenUp(now Time) bool {
	if t.UserTimeout > 0 && t.retransSince != 0 && now-t.retransSince >= t.UserTimeout {
		t.owner.Count(CountUserTimeout, 1)
		t.timedOut()
		return true
	}
	n := t.retries
	if t.sndWnd == 0 && !t.has(flagOrphan) {
		// What is retransmitted serves as a probe: only those count that got no answer at all.
		n = t.probes
		t.probes = min(t.probes+1, 254)
	}
	if t.UserTimeout == 0 && int(n) >= t.maxRetries() {
		t.timedOut()
		return true
	}
	return false
}

// timedOut ends the connection with a time-out, or with the soft error that explains it (RFC 9293 §3.9.2.2).
func (t *TCB) timedOut() {
	t.owner.Count(CountRTOAbort, 1)
	r := ReasonTimeout
	if t.soft != ReasonNone {
		r = t.soft
	}
	t.fail(r)
}

// synExpired retransmits SYN or SYN-ACK (MUST-22, MUST-23).
func (t *TCB) synExpired(now Time) {
	limit := t.SynRetries
	if t.has(flagPassive) {
		limit = synAckRetries
	}
	expired := t.UserTimeout > 0 && now-t.retransSince >= t.UserTimeout && !t.has(flagPassive)
	if int(t.retries) >= limit || expired {
		t.owner.Count(CountFailedConnection, 1)
		if t.has(flagPassive) && !t.has(flagEarly) {
			t.toClosed()
			return
		}
		t.timedOut()
		return
	}
	t.countRetry()
	t.resendSYN(now)
}

// r1 is R1, the retransmissions without progress after which the path is in doubt (SHLD-10).
const r1 = 3

// countRetry counts a time-out in a row.
func (t *TCB) countRetry() {
	t.owner.Count(CountTimeout, 1)
	if t.retries = min(t.retries+1, 254); t.retries == r1 {
		t.events |= EventR1
	}
}

// synAckRetries is how often SYN-ACK is sent again: fewer times than SYN, since nobody waits for it and spoofed SYNs must not hold memory for minutes.
const synAckRetries = 5

// enterLoss starts RTO recovery (RFC 5681 §3.1, RFC 8985 §6.3) and, where it may help, F-RTO (RFC 5682 §2.1 step 1).
func (t *TCB) enterLoss(now Time) {
	r := &t.rec
	prior := t.rtx.Outstanding()
	again := r.state == caLoss && t.retries > 1
	if t.rtx.At(0).Flags&recovery.Sacked != 0 {
		// The first segment is SACKed and not acknowledged: the peer has dropped it (RFC 2018 §8).
		t.owner.Count(CountSACKReneging, 1)
		t.rtx.Renege()
	}
	t.rtx.DupAckReset(0, t.mss)
	t.dupAcks = 0
	t.ack.Now, t.ack.Lost = now, 0
	wnd := t.rack.ReoWnd(t.sndUna, t.minRTT.Get(), t.rto.SRTT, true, 0)
	for i := range t.rtx.Len() {
		if s := t.rtx.At(i); s.Flags&recovery.Sacked == 0 && (i == 0 || !t.rtx.Ordered || t.rack.Expired(s, now, wnd)) {
			t.markLost(i)
		}
	}
	r.scanned = t.sndUna
	lost := t.ack.Lost
	switch {
	case !again:
		// F-RTO starts unless a recovery is under way: an ACK of what was sent twice proves nothing.
		r.frto = frtoWait
		if r.state == caRecovery || r.state == caLoss {
			r.frto = frtoOff
		}
		t.beginEpisode(caLoss, congestion.RTO)
		r.rtoHigh = t.sndNxt
		t.signal(now, congestion.RTO, prior, lost)
		t.reduced()
	case t.retries == 2:
		t.signal(now, congestion.PersistentCongestion, prior, lost)
	}
	t.disarm(timerProbe)
	t.disarm(timerReorder)
}

// reorderExpired is RACK's reordering timer (RFC 8985 §6.3).
func (t *TCB) reorderExpired(now Time) {
	if !t.outstanding() {
		return
	}
	n := t.news()
	t.ack.Now, t.ack.Lost = now, 0
	t.detectRACK(now)
	if n.lost = t.ack.Lost; t.path != nil {
		t.tellPath(now, &n)
	}
	if n.lost == 0 {
		return
	}
	switch r := &t.rec; {
	case r.state == caOpen, r.state == caDisorder, r.state == caCWR, r.state == caRecovery && r.twice:
		t.enterRecovery(now, &n)
	case r.state == caRecovery:
		r.cwnd = r.prr.Cwnd(0, t.rtx.InFlight(), uint64(t.mss), false)
	}
	// What is sent again now has its own time-out.
	t.arm(timerRTO, t.rtoAt(now))
}

// persistExpired probes a closed window (RFC 9293 §3.8.6.1), or lets go of a small segment that SWS avoidance or TCP_CORK held back.
func (t *TCB) persistExpired(now Time) {
	avail, room := t.unsent(), t.windowRoom()
	switch {
	case t.outstanding() || avail == 0 && !t.finDue():
		return
	case room > 0:
		t.backoff = 0
		t.drop(flagMore)
		t.sendNew(now, min(avail, room, int(t.mss)), avail)
		return
	case t.probingFailed(now):
		t.timedOut()
		return
	}
	if t.probes == 0 {
		t.retransSince = now
	}
	t.owner.Count(CountZeroWindowProbe, 1)
	if avail == 0 {
		t.sendNew(now, 0, 0) // FIN is the probe; from now on the retransmission timer repeats it
		return
	}
	t.sendWindowProbe(now)
	t.arm(timerPersist, t.rtoAt(now))
}

// probingFailed reports that a closed window is not to be probed any more: no probe of late was answered, or nobody owns the connection, so that a peer which
// never opens the window must not hold it for ever (RFC 6429 §3).
func (t *TCB) probingFailed(now Time) bool {
	switch {
	case t.has(flagOrphan) && int(t.backoff) >= t.maxRetries():
		return true
	case t.probes == 0:
		return false
	case t.UserTimeout > 0:
		return now-t.retransSince >= t.UserTimeout
	default:
		return int(t.probes) >= t.maxRetries()
	}
}

// sendWindowProbe sends the first unsent octet beyond the window. It does not count as sent: whether the peer takes it, its ACK tells.
func (t *TCB) sendWindowProbe(now Time) {
	s := t.segment(now, t.sndNxt, ACK)
	s.Payload = t.sndBuf.slice(t.sndNxt, 1)
	if t.transmit(now, s) {
		t.set(flagProbe)
		t.probes = min(t.probes+1, 254)
		t.backoff = min(t.backoff+1, 30)
	}
}

// probeAccepted takes the octet of a window probe for sent, since the peer has acknowledged it.
func (t *TCB) probeAccepted(now Time) {
	t.drop(flagProbe)
	if t.unsent() == 0 {
		return
	}
	t.startSender(now)
	r := t.rtx.Push(t.sndNxt, 1, 1, recovery.EverRetrans) // no round trip can be measured on it
	t.smp.OnSent(&r.State, now, 1, t.rtx.InFlight()-1, true)
	t.rtx.Sent(r)
	t.sndNxt++
}

// restartKeepAlive sets the keep-alive timer to when the connection will have been idle for KeepIdle.
func (t *TCB) restartKeepAlive(now Time) {
	t.disarm(timerKeepAlive)
	if t.KeepAlive && synchronized.has(t.state) && t.state != StateTimeWait {
		t.arm(timerKeepAlive, max(t.lastHeard()+t.keepIdle(), now+time.Millisecond))
	}
}

// keepIdle is Settings.KeepIdle, but long enough for time to pass.
func (t *TCB) keepIdle() time.Duration { return max(t.KeepIdle, time.Millisecond) }

// lastHeard is when the peer last sent something acceptable.
func (t *TCB) lastHeard() Time { return max(t.lastRecv, t.lastAck) }

// keepAliveExpired sends a keep-alive (RFC 9293 §3.8.4): no data (SHLD-12), a sequence number that the peer must answer, and only on an idle
// connection (MUST-26).
func (t *TCB) keepAliveExpired(now Time) {
	if !t.KeepAlive || !synchronized.has(t.state) || t.state == StateTimeWait {
		return
	}
	if t.outstanding() || t.armed(timerPersist) {
		t.arm(timerKeepAlive, now+t.keepIdle())
		return
	}
	idle := now - t.lastHeard()
	if t.probes == 0 && idle < t.keepIdle() {
		t.arm(timerKeepAlive, now-idle+t.keepIdle())
		return
	}
	dead := int(t.probes) >= max(t.KeepCount, 1)
	if t.UserTimeout > 0 {
		dead = t.probes > 0 && idle >= t.UserTimeout
	}
	if dead {
		t.owner.Count(CountKeepAliveTimeout, 1)
		t.sendAbort(now)
		t.timedOut()
		return
	}
	t.owner.Count(CountKeepAliveProbe, 1)
	t.probes = min(t.probes+1, 254)
	t.transmit(now, t.segment(now, t.sndNxt-1, ACK))
	t.arm(timerKeepAlive, now+max(t.KeepIntvl, time.Millisecond))
}

// waitExpired ends TIME-WAIT, an orphan's FIN-WAIT-2, or the wait of TCP_DEFER_ACCEPT.
func (t *TCB) waitExpired(now Time) {
	switch t.state {
	case StateTimeWait, StateFinWait2:
		t.toClosed()
	case StateSynRecv:
		t.endDeferral(now) // accept without data now
	}
}

// endDeferral enters ESTABLISHED on the strength of the ACK that TCP_DEFER_ACCEPT has held back.
func (t *TCB) endDeferral(now Time) {
	t.drop(flagDeferred)
	t.sndUna = t.iss + 1
	t.becomeEstablished(now)
}
