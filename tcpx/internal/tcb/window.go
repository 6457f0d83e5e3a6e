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

// step is by how much the window must be able to open for the peer to hear of it (receiver SWS avoidance, RFC 9293 MUST-39).
func (t *TCB) step() int { return min(windowSpace(t.RcvBuf)/2, int(t.rcvMSS)) }

// seenWnd is RCV.WND as the peer knows it: what scaling rounded off, it has never seen.
func (t *TCB) seenWnd() int { return t.rcvWnd() >> t.rcvWScale << t.rcvWScale }

// selectWindow returns the window field to send and moves the advertised edge. The edge moves right only by a worthwhile step, and never left (SHLD-14): whatever
// was offered once is accepted for good. With scaling the field cannot say every edge. It is rounded up if there is room, so that the peer sees no
// retraction either; rounding up without room would move the edge a little with each segment, and a peer of tiny segments would never meet a
// closed window. There it is rounded down, as RFC 7323 §2.4 expects.
func (t *TCB) selectWindow() uint16 {
	cur, free := t.rcvWnd(), t.space()
	unit := 1 << t.rcvWScale
	field := cur >> t.rcvWScale
	if up := cur + unit - 1; up&^(unit-1) <= free {
		field = up >> t.rcvWScale
	}
	if free-t.seenWnd() >= t.step() {
		field = max(field, free>>t.rcvWScale)
		if field == 0 && free > 0 && free >= windowSpace(t.RcvBuf)/2 {
			field = 1 // the buffer has become smaller than a unit, and the window must be able to open
		}
	}
	field = min(field, 65535)
	t.rcvAdv = seq.Max(t.rcvAdv, t.rcvNxt.Add(field<<t.rcvWScale))
	return uint16(field)
}

// windowUpdateDue reports whether reading has opened the window so much that the peer should hear of it at once.
func (t *TCB) windowUpdateDue() bool {
	if !canReceive.has(t.state) {
		return false
	}
	cur, free := t.seenWnd(), t.space()
	return free-cur >= max(t.step(), 1) && (free >= 2*cur || cur < 2*int(t.rcvMSS))
}

// updateWindow takes SEG.WND if the segment is newer than the last that did (RFC 9293 §3.10.7.4, fifth). It reports whether the window changed.
func (t *TCB) updateWindow(s *Segment) bool {
	if !(t.sndWl1.Less(s.Seq) || t.sndWl1 == s.Seq && t.sndWl2.Leq(s.Ack)) {
		// SND.WND counts from SND.UNA, which may move now; what the peer has offered ends where it did.
		t.sndWnd -= min(t.sndWnd, uint32(max(0, s.Ack.Sub(t.sndUna))))
		return false
	}
	w := t.segWnd(s)
	t.sndWl1, t.sndWl2 = s.Seq, s.Ack
	if w == t.sndWnd {
		return false
	}
	t.sndWnd = w
	t.maxSndWnd = max(t.maxSndWnd, w)
	return true
}

// segWnd is SEG.WND in octets.
func (t *TCB) segWnd(s *Segment) uint32 {
	if s.unscaled {
		return uint32(s.Wnd)
	}
	return uint32(s.Wnd) << t.sndWScale
}

// firstWindow takes SEG.WND from the ACK of our SYN, whatever came before (RFC 9293 §3.10.7.4, fifth, SYN-RECEIVED).
func (t *TCB) firstWindow(s *Segment) {
	t.sndWl1, t.sndWl2 = s.Seq, s.Ack
	t.sndWnd = t.segWnd(s)
	t.maxSndWnd = max(t.maxSndWnd, t.sndWnd)
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

// reset starts measuring: the first round trip brings no more than the peer's initial window of ten segments, so that more than that calls for growth.
func (a *autotune) reset(t *TCB, now Time) {
	space := t.space()
	*a = autotune{since: now, space: min(space, 10*int(t.advMSS)), rttSeq: t.rcvNxt.Add(space), rttAt: now}
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
