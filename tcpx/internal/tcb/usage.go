package tcb

import "github.com/plumbline/plumbline/tcpx/internal/seq"

// cwndUsage tells whether the congestion window is what limits sending (RFC 7661, RFC 9438 §5.8): growing it otherwise would prove nothing.
type cwndUsage struct {
	// isLimited and maxFlight, the largest flight size in bytes, hold until SND.UNA passes end.
	isLimited bool
	end       Seq
	maxFlight uint64
}

func (u *cwndUsage) reset(nxt Seq) { *u = cwndUsage{end: nxt} }

// blocked notes that the window kept something from leaving.
func (u *cwndUsage) blocked(t *TCB) {
	u.isLimited = true
	u.end = t.sndNxt
}

func (u *cwndUsage) update(t *TCB) {
	if u.end.Leq(t.sndUna) {
		u.isLimited, u.maxFlight, u.end = false, 0, seq.Max(t.sndNxt, t.sndUna)
	}
	u.maxFlight = max(u.maxFlight, t.rtx.InFlight())
}

// limited reports whether the window was exhausted in the last round trip or, in slow start, more than half used (RFC 7661 §4.2: such a window is validated).
func (u *cwndUsage) limited(t *TCB) bool {
	return u.isLimited || t.ctl.Cwnd < t.ctl.Ssthresh && t.ctl.Cwnd < 2*u.maxFlight
}
