// Package cubic is CUBIC congestion control (RFC 9438) with HyStart++ (RFC 9406).
//
// The window is kept to a fraction of a byte, so that it follows the curve however many ACKs share a segment of growth. Importing the package registers it as
// "cubic".
package cubic

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/window"
)

// Name is the algorithm's registered name.
const Name = "cubic"

func init() { congestion.Register(Name, New) }

// Options change what RFC 9438 and RFC 9406 leave to choice. The zero value is what New takes.
type Options struct {
	// DisableFastConvergence keeps W_max at the window before each reduction: for a path that no other flow shares (RFC 9438 §4.7).
	DisableFastConvergence bool
	// DisableHyStart keeps to standard slow start with byte counting (RFC 5681, RFC 3465).
	DisableHyStart bool
}

// New returns a Controller, which needs Init before its first use.
func New() congestion.Controller { return Options{}.New() }

// New returns a Controller with the options o, which needs Init before its first use.
func (o Options) New() congestion.Controller { return &cubic{opts: o} }

// The factors of a reduction, in percent so that windows stay integers: β_cubic after loss (RFC 9438 §4.6), and what a CE mark asks for in congestion avoidance
// (RFC 8511 §3.1), since marks come from short queues.
const (
	betaLoss = 70
	betaECN  = 85
)

// cubic is the state of one connection.
type cubic struct {
	opts Options
	window.Window
	curve
	hystart hystart
	phase   phase
	undo    window.Undo[saved]
}

// phase tells for a Snapshot what the last events made of the connection.
type phase uint8

const (
	open phase = iota
	recovery
	loss
)

// saved is what a spurious episode restores (RFC 9438 §4.9).
type saved struct {
	cwnd, ssthresh uint64
	curve          curve
	hystart        hystart
}

var _ congestion.Controller = (*cubic)(nil)

// Init implements congestion.Controller.
func (c *cubic) Init(cfg congestion.Config) {
	*c = cubic{opts: c.opts}
	c.Window.Init(cfg)
	c.hystart.enabled = c.Ssthresh == congestion.MaxWindow && !c.opts.DisableHyStart
}

// OnSent implements congestion.Controller. CUBIC keeps no account of what was sent.
func (c *cubic) OnSent(congestion.Time, uint64, uint64) {}

// OnLost implements congestion.Controller. CUBIC reacts to the episode, not to its packets.
func (c *cubic) OnLost(*congestion.LossEvent) {}

// OnSignal implements congestion.Controller.
func (c *cubic) OnSignal(ev *congestion.SignalEvent) {
	c.undo.Save(ev.Signal, saved{c.Cwnd, c.Ssthresh, c.curve, c.hystart})
	c.hystart.enabled = false // RFC 9406 §4.3: only in the initial slow start
	flight := c.Flight(ev)
	switch ev.Signal {
	case congestion.PersistentCongestion:
		// RFC 5681 §3.1: a segment that was sent again by the timer before leaves ssthresh alone.
		c.Collapse()
		c.phase = loss
	case congestion.RTO:
		c.remember(true)
		c.Reduce(percent(flight, betaLoss))
		c.Collapse()
		c.phase = loss
	case congestion.ClassicECN:
		beta := uint64(betaECN)
		if c.InSlowStart() {
			beta = betaLoss // its overshoot is no short queue
		}
		c.remember(false)
		c.ReduceOnECN(percent(flight, beta))
	default:
		c.remember(false)
		c.Reduce(percent(flight, betaLoss))
		if ev.Signal == congestion.FastRecovery {
			c.phase = recovery
		}
	}
	c.frac = 0
}

// remember saves the window before a reduction in the curve.
func (c *cubic) remember(timeout bool) {
	c.reduce(float64(c.Cwnd), !c.opts.DisableFastConvergence, timeout)
}

// OnAck implements congestion.Controller.
func (c *cubic) OnAck(ev *congestion.AckEvent) {
	if ev.InRecovery {
		return // PRR governs
	}
	if !ev.InLoss {
		c.phase = open
	}
	grow := c.Validate(ev) || ev.InLoss
	acked := ev.CumAcked
	if c.InSlowStart() {
		if acked = c.slowStart(ev, grow); acked == 0 {
			return
		}
	}
	if !grow {
		c.pause(ev.Now)
		return
	}
	if acked > 0 {
		c.avoid(ev.Now, ev.SRTT, acked)
	}
}

// slowStart handles an ACK in slow start and returns the bytes left for congestion avoidance.
func (c *cubic) slowStart(ev *congestion.AckEvent, grow bool) (left uint64) {
	limit, acked := uint64(window.SlowStartLimit), ev.CumAcked
	if c.hystart.enabled {
		limit = hystartLimit
		switch c.hystart.onAck(ev) {
		case conservative:
			acked = min(acked, limit*c.MSS) / cssGrowthDivisor
		case done:
			// RFC 9406 §4.2; RFC 9438 §4.10 for a slow start that ends without loss.
			c.hystart.enabled = false
			c.Ssthresh = c.Cwnd
			return ev.CumAcked
		}
	}
	if !grow {
		return 0
	}
	return c.SlowStart(acked, limit)
}

// avoid is congestion avoidance.
func (c *cubic) avoid(now congestion.Time, srtt time.Duration, acked uint64) {
	cwnd := float64(c.Cwnd) + c.frac
	c.resume(now)
	if !c.started {
		c.start(now, cwnd, float64(c.MSS))
	}
	next := c.next(now, srtt, cwnd, float64(min(acked, c.Cwnd)), float64(c.MSS))
	// The sum keeps the fraction of a byte apart from a window that may be large.
	growth := next - float64(c.Cwnd)
	if growth <= 0 || c.Cwnd >= congestion.MaxWindow {
		return
	}
	whole := uint64(growth)
	c.Grow(whole)
	c.frac = growth - float64(whole)
}

// OnRecoveryExit implements congestion.Controller.
func (c *cubic) OnRecoveryExit(congestion.Time, uint64) {
	if c.phase == recovery {
		c.Deflate()
	}
	c.phase = open
}

// OnSpurious implements congestion.Controller. A window that has outgrown the one before the episode keeps its own curve (RFC 9438 §4.9.2).
func (c *cubic) OnSpurious(_ congestion.Time, signal congestion.Signal, _ uint64) {
	before, ok := c.undo.Take(signal)
	if !ok {
		return
	}
	if c.Cwnd < before.cwnd {
		c.curve, c.hystart = before.curve, before.hystart
	}
	c.Restore(before.cwnd, before.ssthresh)
	c.phase = open
}

// OnIdleRestart implements congestion.Controller.
func (c *cubic) OnIdleRestart(now congestion.Time, idle time.Duration) {
	c.IdleRestart()
	c.frac = 0
	// Slow start ends in a new stage; without one the curve goes on where it stopped (RFC 9438 §5.8).
	if c.InSlowStart() {
		c.started, c.paused = false, false
		return
	}
	c.pause(now - idle)
}

// OnMSS implements congestion.Controller.
func (c *cubic) OnMSS(_ congestion.Time, mss uint32) {
	before := c.MSS
	c.Rescale(mss)
	if c.MSS < before { // the window keeps its segments, and so does the curve
		c.curve.scale(float64(c.MSS) / float64(before))
	}
	c.undo.Clear() // its sizes are of the old MSS
}

// Control implements congestion.Controller.
func (c *cubic) Control() congestion.Control {
	return congestion.Control{Cwnd: c.Cwnd, Ssthresh: c.Ssthresh}
}

// Snapshot implements congestion.Controller. Windows among the values are in segments, K is in seconds.
func (c *cubic) Snapshot(s *congestion.Snapshot) {
	mss := float64(c.MSS)
	*s = congestion.Snapshot{
		Algorithm: Name,
		State:     c.state(),
		Cwnd:      c.Cwnd,
		Ssthresh:  c.Ssthresh,
		Values: append(s.Values[:0],
			congestion.NamedValue{Name: "W_max", Value: c.wMax / mss},
			congestion.NamedValue{Name: "K", Value: c.k},
			congestion.NamedValue{Name: "W_est", Value: c.wEst / mss},
			congestion.NamedValue{Name: "cwnd_prior", Value: c.cwndPrior / mss},
		),
	}
}

func (c *cubic) state() string {
	switch {
	case c.phase == loss:
		return "loss"
	case c.phase == recovery:
		return "recovery"
	case c.InSlowStart() && c.hystart.enabled && c.hystart.inCSS:
		return "conservative-slow-start"
	case c.InSlowStart():
		return "slow-start"
	case c.friendly:
		return "reno-friendly"
	case float64(c.Cwnd) < c.wMax:
		return "concave"
	default:
		return "convex"
	}
}

// percent returns p percent of n, for n up to congestion.MaxWindow.
func percent(n, p uint64) uint64 { return n/100*p + n%100*p/100 }
