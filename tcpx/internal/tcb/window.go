package tcb

import (
	"time"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// windowSpace is how much of a receive buffer is offered as window: half, since memory is spent on more than text. Setting SO_RCVBUF doubles the
// value for the same reason, as in Linux.
func windowSpace(buf int) int { return buf / 2 }

// space is the window that could be offered now: RCV.BUFF less RCV.USER of RFC 9293 §3.8.6.2.2.
func (t *TCB) space() int {
	n := windowSpace(t.RcvBuf) - t.rcvBuf.len()
	if t.pressure >= PressureHigh {
		n = min(n, 4*int(t.advMSS)-t.rcvBuf.len())
	}
	if t.WindowClamp > 0 {
		n = min(n, t.WindowClamp)
	}
	return min(max(n, 0), 65535<<t.rcvWScale)
}

// selectWindow returns the window field to send and moves the advertised edge. The edge never moves left (SHLD-14), and moves right only by a
// worthwhile step (receiver SWS avoidance, RFC 9293 MUST-39).
func (t *TCB) selectWindow() uint16 {
	cur, free := t.rcvWnd(), t.space()
	step := min(windowSpace(t.RcvBuf)/2, int(t.rcvMSS))
	unit := 1 << t.rcvWScale
	var field int
	if free-cur >= step {
		field = free >> t.rcvWScale
	}
	// Rounding must not take back what was offered.
	field = min(max(field, (cur+unit-1)>>t.rcvWScale), 65535)
	t.rcvAdv = seq.Max(t.rcvAdv, t.rcvNxt.Add(field<<t.rcvWScale))
	return uint16(field)
}

// windowUpdateDue reports whether reading has opened the window so much that the peer should hear of it at once.
func (t *TCB) windowUpdateDue() bool {
	if !canReceive.has(t.state) {
		return false
	}
	cur, free := t.rcvWnd(), t.space()
	step := min(windowSpace(t.RcvBuf)/2, int(t.rcvMSS))
	return free-cur >= step && (free >= 2*cur || cur < 2*int(t.rcvMSS))
}

// updateWindow takes SEG.WND if the segment is newer than the last that did (RFC 9293 §3.10.7.4, fifth). It reports whether the window changed.
func (t *TCB) updateWindow(s *Segment) bool {
	if !(t.sndWl1.Less(s.Seq) || t.sndWl1 == s.Seq && t.sndWl2.Leq(s.Ack)) {
		return false
	}
	w := uint32(s.Wnd) << t.sndWScale
	t.sndWl1, t.sndWl2 = s.Seq, s.Ack
	if w == t.sndWnd {
		return false
	}
	t.sndWnd = w
	t.maxSndWnd = max(t.maxSndWnd, w)
	return true
}

// autotune sizes the receive buffer to twice what the user reads in one round trip, so that the window never limits the peer (dynamic right-sizing, Fisk
// and Feng 2001).
type autotune struct {
	// rtt is the receiver's estimate of the round-trip time.
	rtt time.Duration
	// Each measurement of the rate covers from since, when copied was 0; space is the largest so far, in bytes.
	since  Time
	copied int
	space  int
	// rttSeq and rttAt measure rtt without timestamps: one window takes one round trip.
	rttSeq Seq
	rttAt  Time
}

func (a *autotune) reset(now Time, nxt Seq, space int) {
	*a = autotune{since: now, space: space, rttSeq: nxt.Add(space), rttAt: now}
}

// arrived updates the round-trip estimate as data arrives.
func (a *autotune) arrived(t *TCB, now Time) {
	if t.rto.SRTT != 0 && a.rtt == 0 {
		a.rtt = t.rto.SRTT
	}
	if t.rcvNxt.Less(a.rttSeq) {
		return
	}
	if d := now - a.rttAt; a.rtt == 0 || d < a.rtt {
		a.rtt = max(d, 1)
	} else {
		a.rtt += (d - a.rtt) / 8
	}
	a.rttSeq, a.rttAt = t.rcvNxt.Add(t.rcvWnd()), now
}

// consumed notes n bytes read by the user and grows the buffer when a round trip's worth calls for it.
func (a *autotune) consumed(t *TCB, now Time, n int) {
	a.copied += n
	rtt := a.rtt
	if t.minRTT.Get() != 0 && t.minRTT.Get() < rtt {
		rtt = t.minRTT.Get()
	}
	if rtt == 0 || now-a.since < rtt {
		return
	}
	if a.copied > a.space {
		a.grow(t)
		a.space = a.copied
	}
	a.since, a.copied = now, 0
}

func (a *autotune) grow(t *TCB) {
	if t.RcvBufLocked || !t.cfg.Moderate || t.pressure != PressureNone {
		return
	}
	// The sender may double in the next round trip; the buffer holds twice its window.
	win := 2*a.copied + 16*int(t.rcvMSS)
	t.RcvBuf = max(t.RcvBuf, min(2*win, t.cfg.RcvBufMax))
}
