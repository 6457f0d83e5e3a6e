package tcb

import (
	"io"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
)

// Write queues up to n bytes read from r (RFC 9293 §3.10.2 SEND) and sends what may be sent. It takes no more than WriteSpace; it returns the
// number taken and r's error. more tells that the user will write more at once (MSG_MORE). urgent marks the last byte as urgent (URG).
func (t *TCB) Write(now Time, r io.Reader, n int, more, urgent bool) (int, error) {
	total := 0
	for {
		k, err := t.writeOnce(now, r, n-total, more, urgent)
		total += k
		// With TCP_NOTSENT_LOWAT there may be room again for what has just been sent.
		if k == 0 || err != nil || total == n || t.NotSentLowat == 0 {
			t.account()
			return total, err
		}
	}
}

func (t *TCB) writeOnce(now Time, r io.Reader, n int, more, urgent bool) (int, error) {
	room := t.WriteSpace()
	if n > room {
		t.set(flagWantWrite)
		more, urgent = more && room == 0, false
		n = room
	}
	if n <= 0 {
		return 0, nil
	}
	n, err := t.sndBuf.write(r, n, t.sndNxt)
	if more {
		t.set(flagMore)
	} else {
		t.drop(flagMore)
	}
	if urgent && n > 0 {
		t.sndUp = t.sndBuf.next
		t.set(flagUrgOut)
	}
	t.output(now)
	return n, err
}

// SendQueueSize returns how many bytes were written and are not acknowledged.
func (t *TCB) SendQueueSize() int { return t.sndBuf.len }

// ReadSize returns how many bytes Read can deliver now.
func (t *TCB) ReadSize() int { return t.rcvBuf.len() }

// ReadEOF reports that the peer's FIN, or a local shutdown of the read side, has been reached once ReadSize is 0.
func (t *TCB) ReadEOF() bool {
	return t.flags&(flagPeerFin|flagReadShut) != 0 || t.state == StateClosed
}

// Read copies up to n bytes of received data to w (RFC 9293 §3.10.3 RECEIVE), leaving them in place if peek is set. It may send a window update.
func (t *TCB) Read(now Time, w io.Writer, n int, peek bool) (int, error) {
	n, err := t.rcvBuf.read(w, n, peek)
	if n == 0 || peek {
		return n, err
	}
	t.passUrgent()
	t.tune.consumed(t, now, n)
	if t.windowUpdateDue() {
		t.set(flagAckNow)
		t.output(now)
	}
	t.account()
	return n, err
}

// ShutdownWrite performs CLOSE (RFC 9293 §3.10.4): FIN follows the queued data. The read side stays open.
func (t *TCB) ShutdownWrite(now Time) {
	if t.has(flagFinQueued) {
		return
	}
	switch t.state {
	case StateSynSent:
		if t.TextOnSYN() {
			t.queueFIN() // the state becomes FIN-WAIT-1 when the SYN is acknowledged
			return
		}
		t.toClosed()
		return
	case StateSynRecv:
		if t.has(flagDeferred) {
			t.endDeferral(now) // the handshake is complete, so that this is a CLOSE in ESTABLISHED
			t.ShutdownWrite(now)
			return
		}
		t.queueFIN()
		switch {
		case t.has(flagEarly):
			t.output(now)
			t.account()
		case t.unsent() == 0 && (t.FastOpen == nil || t.FastOpen.SynText == 0):
			t.earlyFIN(now)
		}
		return // the state becomes FIN-WAIT-1 when the SYN is acknowledged
	case StateEstablished:
		t.queueFIN()
		t.setState(StateFinWait1)
	case StateCloseWait:
		t.queueFIN()
		t.setState(StateLastAck)
	default:
		return
	}
	t.output(now)
	t.account()
}

func (t *TCB) queueFIN() {
	t.set(flagFinQueued)
	t.drop(flagMore)
	t.finSeq = t.sndBuf.next
}

// earlyFIN sends the FIN of a CLOSE in SYN-RECEIVED without waiting for ESTABLISHED, since nothing is to be sent before it (RFC 9293 §3.10.4). SYN-ACK stays
// what the timer retransmits; FIN follows when the peer has answered it.
func (t *TCB) earlyFIN(now Time) {
	if !t.transmit(now, t.segment(now, t.sndNxt, ACK|FIN)) {
		return
	}
	t.startSender(now)
	r := t.rtx.Push(t.sndNxt, 1, 1, recovery.Fin)
	t.smp.OnSent(&r.State, now, 1, 0, false)
	t.rtx.Sent(r)
	t.sndNxt++
	t.set(flagFinSent)
}

// ShutdownRead discards what arrives from now on. What has arrived can still be read.
func (t *TCB) ShutdownRead() {
	t.set(flagReadShut)
	t.events |= EventReadable
}

// Release performs the close of a socket that nobody owns afterwards. Unread data, or data that arrives later, is answered with RST (RFC 9293 §3.6.1,
// RFC 2525 §2.17); FIN-WAIT-2 lasts at most Settings.Linger2.
func (t *TCB) Release(now Time) {
	if t.has(flagOrphan) {
		return
	}
	unread := t.rcvBuf.len() > 0
	t.set(flagOrphan)
	t.rcvBuf.release()
	if unread && (canReceive.has(t.state) || t.state == StateCloseWait || t.Early()) {
		t.owner.Count(CountDataAfterClose, 1)
		t.Abort(now, ReasonAborted)
		return
	}
	t.ShutdownWrite(now)
	if t.state == StateFinWait2 {
		t.armFinWait2(now)
	}
	t.account()
}

// armFinWait2 bounds an orphan's stay in FIN-WAIT-2.
func (t *TCB) armFinWait2(now Time) {
	if t.Linger2 < 0 {
		t.Abort(now, ReasonAborted)
		return
	}
	t.arm(timerWait, now+max(t.Linger2, time.Millisecond))
}

// Abort performs ABORT (RFC 9293 §3.10.5): RST is sent where the RFC says so and the state becomes CLOSED.
func (t *TCB) Abort(now Time, r Reason) {
	switch t.state {
	case StateClosed:
		t.rcvBuf.release()
		t.account()
		return
	case StateSynRecv, StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait:
		t.sendAbort(now)
	}
	t.rcvBuf.release()
	t.fail(r)
}

// Lost makes a CLOSED core the end of a connection that it knows nothing else of: one that a checkpoint did not keep, for reason r.
func (t *TCB) Lost(r Reason) { t.fail(r) }

// icmpMatches reports whether an ICMP message quotes something in flight (RFC 5927 §4.1): others may be forged.
func (t *TCB) icmpMatches(q Seq) bool {
	if t.state == StateClosed || !q.In(t.sndUna, t.sndNxt) {
		t.owner.Count(CountICMPIgnored, 1)
		return false
	}
	return true
}

// ICMPError reports an ICMP error that quotes a segment of this connection with sequence number q. hard marks Destination Unreachable codes 2 to 4 and their
// IPv6 counterparts, which abort an attempt to connect (SHLD-26, as RFC 5927 §5.2 narrows it); on a synchronized connection every error is soft
// (MUST-56). It reports whether the error was accepted.
func (t *TCB) ICMPError(now Time, q Seq, r Reason, hard bool) bool {
	if !t.icmpMatches(q) {
		return false
	}
	if hard && (t.state == StateSynSent || t.state == StateSynRecv && !t.has(flagPassive)) {
		t.owner.Count(CountFailedConnection, 1)
		t.fail(r)
		return true
	}
	t.soft = r
	t.events |= EventError
	return true
}

// SettingsChanged makes changed Settings take effect, e.g. NoDelay or Cork off sends what was held back.
func (t *TCB) SettingsChanged(now Time) {
	if t.state == StateClosed {
		return
	}
	if t.probes == 0 || t.KeepAlive != t.armed(timerKeepAlive) {
		t.restartKeepAlive(now)
	}
	if t.sender != nil {
		t.pacer.SetMaxRate(t.MaxPacingRate)
	}
	// A larger buffer may open a window that has closed; one that is open is announced with the next segment anyway.
	reopened := t.rcvWnd() < 2*int(t.rcvMSS) && t.windowUpdateDue()
	if reopened || t.QuickAck == 1 && t.has(flagAckDelayed) {
		t.set(flagAckNow)
	}
	t.drop(flagMore)
	t.output(now)
	t.wakeWriter()
	t.account()
}

// Push sends what Nagle's algorithm, TCP_CORK or MSG_MORE holds back, this once: what setting TCP_NODELAY does.
func (t *TCB) Push(now Time) {
	if t.state == StateClosed {
		return
	}
	t.set(flagPushNow)
	t.output(now)
	t.drop(flagPushNow)
	t.account()
}

// SetController replaces the congestion controller of a live connection; the new one starts from the present window. Before the connection has sent anything there
// is none to replace: Owner.NewController is asked for one in time.
func (t *TCB) SetController(now Time, c congestion.Controller) {
	if t.sender == nil {
		return
	}
	t.cc = c
	c.Init(congestion.Config{
		MSS: t.mss, InitialWindow: t.ctl.Cwnd, Ssthresh: t.ctl.Ssthresh, Now: now, SRTT: t.rto.SRTT, Rand: t.owner.Rand(),
		NoSelectiveAcks: !t.has(flagSACK),
	})
	t.readControl()
}
