// Package window is what the loss-based algorithms share: a congestion window with slow start by byte counting (RFC 5681 §3.1, RFC 3465), congestion
// window validation (RFC 7661), the restart after idle (RFC 5681 §4.1), the change of MSS, and the saved states that a spurious episode restores.
package window

import (
	"math/bits"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// NonValidatedPeriod is how long a window that the application does not use is kept (RFC 7661 §4.4.2, NVP: 5 minutes).
const NonValidatedPeriod = 5 * time.Minute

// SlowStartLimit is the usual L of RFC 3465 §2.3: how many segments one ACK may add in slow start.
const SlowStartLimit = 2

// Window is the congestion window of one connection. All sizes are bytes. Cwnd is at least one MSS and at most congestion.MaxWindow.
type Window struct {
	MSS, Cwnd, Ssthresh uint64
	restart             uint64 // the restart window, RW of RFC 5681 §4.1
	afterRTO            bool   // the slow start under way follows a timeout
	unused              bool   // the window is in the non-validated phase ...
	unusedSince         congestion.Time
}

// Init sets the window as cfg asks.
func (w *Window) Init(cfg congestion.Config) {
	mss := max(uint64(cfg.MSS), 1)
	*w = Window{MSS: mss, Cwnd: clamp(cfg.InitialWindow, mss), Ssthresh: congestion.MaxWindow, restart: cfg.RestartWindow}
	if cfg.Ssthresh != 0 {
		w.Ssthresh = min(cfg.Ssthresh, congestion.MaxWindow)
	}
	if w.restart == 0 {
		// A controller that takes over a live connection gets its present window as the initial one.
		w.restart = min(w.Cwnd, congestion.InitialWindow(uint32(mss)))
	}
}

// InSlowStart reports whether the window grows exponentially.
func (w *Window) InSlowStart() bool { return w.Cwnd < w.Ssthresh }

// SlowStart grows the window by the bytes that one ACK acknowledged cumulatively, but no more than limit segments and no further than to ssthresh, and returns
// those that are left for congestion avoidance. After a timeout the limit is one segment, since a cumulative ACK may then cover much that
// had reached the receiver long before (RFC 3465 §2.3).
func (w *Window) SlowStart(acked, limit uint64) (left uint64) {
	if w.afterRTO {
		limit = 1
	}
	limit *= w.MSS
	growth := min(acked, limit, w.Ssthresh-w.Cwnd)
	w.Cwnd = clamp(w.Cwnd+growth, w.MSS)
	if w.InSlowStart() {
		return 0
	}
	w.afterRTO = false
	return min(acked, limit) - growth
}

// Grow adds n bytes.
func (w *Window) Grow(n uint64) {
	w.Cwnd = clamp(w.Cwnd+min(n, congestion.MaxWindow), w.MSS)
}

// Flight returns the flight size that a reduction starts from: RFC 5681 §3.2 leaves out what limited transmit sent beyond cwnd, and RFC 5681 §3.1 what cwnd
// would have allowed but was not sent.
func (w *Window) Flight(ev *congestion.SignalEvent) uint64 { return min(ev.PriorInFlight, w.Cwnd) }

// Reduce sets ssthresh, not below two segments, and cwnd to it (RFC 5681 equation 4).
func (w *Window) Reduce(ssthresh uint64) {
	w.Ssthresh = clamp(max(ssthresh, 2*w.MSS), w.MSS)
	w.Cwnd = min(w.Cwnd, w.Ssthresh)
	w.unused = false
}

// ReduceOnECN sets ssthresh like Reduce, but lets cwnd fall to one segment: marks that persist must go on to slow the sender down (RFC 3168 §6.1.2,
// RFC 9438 §4.6).
func (w *Window) ReduceOnECN(ssthresh uint64) {
	cwnd := min(w.Cwnd, clamp(ssthresh, w.MSS))
	w.Reduce(ssthresh)
	w.Cwnd = cwnd
}

// Collapse sets cwnd to the loss window of one segment (RFC 5681 §3.1).
func (w *Window) Collapse() {
	w.Cwnd = w.MSS
	w.afterRTO = true
	w.unused = false
}

// Restore undoes a reduction: the window is what it was, or what it has become since if that is more (RFC 4015 §3.2).
func (w *Window) Restore(cwnd, ssthresh uint64) {
	w.Cwnd = clamp(max(w.Cwnd, cwnd), w.MSS)
	w.Ssthresh = max(w.Ssthresh, ssthresh)
	w.afterRTO = false
}

// Deflate sets cwnd to ssthresh, when fast recovery ends (RFC 5681 §3.2 step 6).
func (w *Window) Deflate() { w.Cwnd = clamp(min(w.Ssthresh, congestion.MaxWindow), w.MSS) }

// Validate runs the decay of RFC 7661 §4.4.2 at the arrival of an ACK and reports whether the window may grow: only one that limits the sender has proved that the
// path carries it. In slow start half of the window will do (RFC 7661 §4.4), since a paced sender lags behind a window that doubles. An ACK with an ECN-Echo is
// no reason to grow either (RFC 3168 §6.1.2).
func (w *Window) Validate(ev *congestion.AckEvent) bool {
	if ev.CwndLimited || ev.PriorInFlight >= w.Cwnd/2 {
		w.unused = false
		return (ev.CwndLimited || w.InSlowStart()) && !ev.ECE
	}
	if !w.unused {
		w.unused, w.unusedSince = true, ev.Now
		return false
	}
	if ev.Now-w.unusedSince > NonValidatedPeriod && w.Cwnd > w.restart {
		w.keepSsthresh()
		w.Cwnd = clamp(max(w.Cwnd/2, w.restart), w.MSS)
		w.unusedSince = ev.Now
	}
	return false
}

// IdleRestart takes the restart window after more than one RTO of silence (RFC 5681 §4.1). ssthresh keeps the memory of the window, so that slow start returns
// quickly to where it was (RFC 7661 §4.4.2).
func (w *Window) IdleRestart() {
	if w.Cwnd > w.restart {
		w.keepSsthresh()
		w.Cwnd = clamp(w.restart, w.MSS)
	}
	w.unused = false
}

func (w *Window) keepSsthresh() { w.Ssthresh = max(w.Ssthresh, w.Cwnd-w.Cwnd/4) }

// Rescale takes a new MSS. A smaller one keeps the number of segments, since that is what queues on the path count; a larger one keeps the bytes.
func (w *Window) Rescale(mss uint32) {
	n := max(uint64(mss), 1)
	if n < w.MSS {
		w.Cwnd = scale(w.Cwnd, n, w.MSS)
		w.restart = scale(w.restart, n, w.MSS)
		if w.Ssthresh != congestion.MaxWindow {
			w.Ssthresh = scale(w.Ssthresh, n, w.MSS)
		}
	}
	w.MSS = n
	w.Cwnd = clamp(w.Cwnd, n)
	w.Ssthresh = max(w.Ssthresh, 2*n)
}

func clamp(cwnd, mss uint64) uint64 { return max(min(cwnd, congestion.MaxWindow), mss) }

// scale returns v*num/den without overflow, for num <= den.
func scale(v, num, den uint64) uint64 {
	hi, lo := bits.Mul64(v, num)
	q, _ := bits.Div64(hi, lo, den)
	return q
}
