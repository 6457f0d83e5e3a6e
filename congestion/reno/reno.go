// Package reno is standard TCP congestion control: slow start and congestion avoidance of RFC 5681 with byte counting (RFC 3465), for a transport that repairs
// losses by SACK, RACK or NewReno (RFC 6675, RFC 8985, RFC 6582) and reduces by PRR (RFC 9937).
//
// Importing the package registers it as "reno".
package reno

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/window"
)

// Name is the algorithm's registered name.
const Name = "reno"

func init() { congestion.Register(Name, New) }

// New returns a Controller, which needs Init before its first use.
func New() congestion.Controller { return &reno{} }

// reno is the state of one connection.
type reno struct {
	window.Window
	phase phase
	// credit is bytes_acked of RFC 3465 §2.1: what was acknowledged since congestion avoidance last added a segment.
	credit uint64
	undo   window.Undo[saved]
}

// phase tells for a Snapshot what the last events made of the connection.
type phase uint8

const (
	open phase = iota
	recovery
	loss
)

// saved is what a spurious episode restores.
type saved struct {
	cwnd, ssthresh, credit uint64
}

var _ congestion.Controller = (*reno)(nil)

// Init implements congestion.Controller.
func (r *reno) Init(cfg congestion.Config) {
	*r = reno{}
	r.Window.Init(cfg)
}

// OnSent implements congestion.Controller. Reno keeps no account of what was sent.
func (r *reno) OnSent(congestion.Time, uint64, uint64) {}

// OnLost implements congestion.Controller. Reno reacts to the episode, not to its packets.
func (r *reno) OnLost(*congestion.LossEvent) {}

// OnSignal implements congestion.Controller.
func (r *reno) OnSignal(ev *congestion.SignalEvent) {
	r.undo.Save(ev.Signal, saved{cwnd: r.Cwnd, ssthresh: r.Ssthresh, credit: r.credit})
	r.credit = 0
	switch ev.Signal {
	case congestion.RTO:
		r.Reduce(r.Flight(ev) / 2)
		r.Collapse()
		r.phase = loss
	case congestion.PersistentCongestion:
		// RFC 5681 §3.1: a segment that was sent again by the timer before leaves ssthresh alone.
		r.Collapse()
		r.phase = loss
	case congestion.ClassicECN:
		r.ReduceOnECN(r.afterECN(r.Flight(ev)))
	case congestion.FastRecovery:
		r.Reduce(r.Flight(ev) / 2)
		r.phase = recovery
	default:
		r.Reduce(r.Flight(ev) / 2)
	}
}

// afterECN returns the window after a classic CE mark: 0.8 of the flight (RFC 8511 §3, ABE), since marks come from short queues; half in slow start, whose
// overshoot is as large as the path (RFC 3168 §6.1.2).
func (r *reno) afterECN(flight uint64) uint64 {
	if r.InSlowStart() {
		return flight / 2
	}
	return flight - flight/5
}

// OnAck implements congestion.Controller.
func (r *reno) OnAck(ev *congestion.AckEvent) {
	if ev.InRecovery {
		return // PRR governs
	}
	if !ev.InLoss {
		r.phase = open
	}
	if !r.Validate(ev) && !ev.InLoss {
		return
	}
	acked := ev.CumAcked
	if r.InSlowStart() {
		acked = r.SlowStart(acked, window.SlowStartLimit)
	}
	if acked > 0 {
		r.avoid(acked)
	}
}

// avoid is congestion avoidance: one segment for each window acknowledged (RFC 3465 §2.1).
func (r *reno) avoid(acked uint64) {
	r.credit += min(acked, r.Cwnd)
	if r.credit >= r.Cwnd {
		r.credit -= r.Cwnd
		r.Grow(r.MSS)
	}
}

// OnRecoveryExit implements congestion.Controller.
func (r *reno) OnRecoveryExit(congestion.Time, uint64) {
	if r.phase == recovery {
		r.Deflate()
	}
	r.phase = open
}

// OnSpurious implements congestion.Controller.
func (r *reno) OnSpurious(_ congestion.Time, signal congestion.Signal, _ uint64) {
	before, ok := r.undo.Take(signal)
	if !ok {
		return
	}
	r.Restore(before.cwnd, before.ssthresh)
	r.credit = before.credit
	r.phase = open
}

// OnIdleRestart implements congestion.Controller.
func (r *reno) OnIdleRestart(congestion.Time, time.Duration) {
	r.IdleRestart()
	r.credit = 0
}

// OnMSS implements congestion.Controller.
func (r *reno) OnMSS(_ congestion.Time, mss uint32) {
	r.Rescale(mss)
	r.undo.Clear() // its sizes are of the old MSS
}

// Control implements congestion.Controller.
func (r *reno) Control() congestion.Control {
	return congestion.Control{Cwnd: r.Cwnd, Ssthresh: r.Ssthresh}
}

// Snapshot implements congestion.Controller.
func (r *reno) Snapshot(s *congestion.Snapshot) {
	*s = congestion.Snapshot{
		Algorithm: Name,
		State:     r.state(),
		Cwnd:      r.Cwnd,
		Ssthresh:  r.Ssthresh,
		Values:    append(s.Values[:0], congestion.NamedValue{Name: "bytes_acked", Value: float64(r.credit)}),
	}
}

func (r *reno) state() string {
	switch {
	case r.phase == loss:
		return "loss"
	case r.phase == recovery:
		return "recovery"
	case r.InSlowStart():
		return "slow-start"
	default:
		return "congestion-avoidance"
	}
}
