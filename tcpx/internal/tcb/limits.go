package tcb

import "time"

// limit is what a sender waits for.
type limit uint8

const (
	// limitNone: there is nothing to send and nothing outstanding.
	limitNone limit = iota
	// limitPath: the congestion window, the pacer, or ACKs on their way.
	limitPath
	// limitPeer: the peer's window.
	limitPeer
	// limitBuffer: the send buffer, which is too small for what the path would take.
	limitBuffer
	numLimits
)

// limitTimes tells how long each of the limits held (tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited).
type limitTimes struct {
	kind  limit
	since Time
	total [numLimits]time.Duration
}

// enter says what the sender waits for from now on.
func (l *limitTimes) enter(now Time, kind limit) {
	if l.kind != kind {
		l.total[l.kind] += now - l.since
		l.kind, l.since = kind, now
	}
}

// at is how long one of the limits has held by now.
func (l *limitTimes) at(now Time, kind limit) time.Duration {
	d := l.total[kind]
	if l.kind == kind {
		d += now - l.since
	}
	return d
}

// noteLimit finds out what the sender waits for, after all that may leave has left. windowLimited tells that it is the peer's window.
func (t *TCB) noteLimit(now Time, windowLimited bool) {
	kind := limitPath
	switch {
	case windowLimited:
		kind = limitPeer
	case t.rtx.Len() == 0 && t.unsent() == 0:
		kind = limitNone
	case t.has(flagWantWrite) && t.unsent() == 0 && t.rtx.InFlight() < t.cwnd():
		kind = limitBuffer
	}
	t.limits.enter(now, kind)
}
