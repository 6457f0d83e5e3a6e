// Package breeze is an example of a congestion control algorithm that lives outside of Plumbline's module.
package breeze

import "github.com/plumbline/plumbline/congestion"

func init() { congestion.Register("breeze", New) }

// New returns a controller that adds a segment a round trip while the queue is short, takes one away while it is long, and gives up 30 % on loss.
func New() congestion.Controller { return &breeze{} }

type breeze struct {
	congestion.Base
	mss, cwnd, ssthresh, credit uint64
	before                      struct{ cwnd, ssthresh uint64 } // the last episode
}

func (b *breeze) Init(cfg congestion.Config) {
	mss := uint64(cfg.MSS)
	*b = breeze{mss: mss, cwnd: max(cfg.InitialWindow, mss), ssthresh: congestion.MaxWindow}
}

func (b *breeze) OnAck(ev *congestion.AckEvent) {
	queued := ev.RTT > ev.MinRTT+ev.MinRTT/4
	switch {
	case ev.InRecovery || !ev.CwndLimited: // nothing to learn
	case b.cwnd < b.ssthresh && !queued: // slow start
		b.cwnd = min(b.cwnd+ev.CumAcked, b.ssthresh)
	case b.cwnd < b.ssthresh: // the queue has begun: slow start is over
		b.ssthresh = b.cwnd
	default:
		if b.credit += ev.CumAcked; b.credit < b.cwnd {
			return // once a round trip
		}
		b.credit = 0
		if !queued {
			b.cwnd = min(b.cwnd+b.mss, congestion.MaxWindow)
		} else if b.cwnd > 4*b.mss {
			b.cwnd -= b.mss
		}
	}
}

func (b *breeze) OnSignal(ev *congestion.SignalEvent) {
	b.before.cwnd, b.before.ssthresh = b.cwnd, b.ssthresh
	b.ssthresh = max(min(ev.PriorInFlight, b.cwnd)/10*7, 2*b.mss)
	b.cwnd = min(b.cwnd, b.ssthresh)
	if ev.Signal == congestion.RTO || ev.Signal == congestion.PersistentCongestion {
		b.cwnd = b.mss
	}
}

func (b *breeze) OnSpurious(congestion.Time, congestion.Signal, uint64) {
	b.cwnd, b.ssthresh = max(b.cwnd, b.before.cwnd), max(b.ssthresh, b.before.ssthresh)
	b.before.cwnd, b.before.ssthresh = 0, 0
}

func (b *breeze) OnRecoveryExit(congestion.Time, uint64) {}

func (b *breeze) OnMSS(_ congestion.Time, mss uint32) {
	b.mss = uint64(mss)
	b.cwnd = max(b.cwnd, b.mss)
}

func (b *breeze) Control() congestion.Control {
	return congestion.Control{Cwnd: b.cwnd, Ssthresh: b.ssthresh}
}

func (b *breeze) Snapshot(s *congestion.Snapshot) {
	*s = congestion.Snapshot{Algorithm: "breeze", State: "steady", Cwnd: b.cwnd, Ssthresh: b.ssthresh, Values: s.Values[:0]}
	if b.cwnd < b.ssthresh {
		s.State = "slow-start"
	}
}
