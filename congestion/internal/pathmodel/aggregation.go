package pathmodel

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Aggregation estimates by how much ACKs run ahead of the estimated bandwidth: paths and receivers hold them back and release them in bunches, and a sender needs that much more in
// flight to have something to send until the next bunch (draft-ietf-ccwg-bbr §5.5.9). The zero value begins at the instant 0.
type Aggregation struct {
	start  congestion.Time // extra_acked_interval_start
	acked  uint64          // extra_acked_delivered: what was delivered since then
	extra  uint64          // extra_acked
	filter RoundMax
}

// Restart begins a new interval, as after a time without anything in flight.
func (a *Aggregation) Restart(now congestion.Time) { a.start, a.acked = now, 0 }

// Extra returns the estimate in bytes: the most of the last rounds.
func (a *Aggregation) Extra() uint64 { return a.extra }

// Update takes an ACK for so many bytes at a bandwidth in bytes per second. The excess of a single interval is bounded by the window; the estimate is the most of this round
// and the length-1 before, and length is at most MaxRounds.
func (a *Aggregation) Update(now congestion.Time, bw, acked, window, round, length uint64) {
	expected := Volume(bw, time.Duration(now-a.start))
	if a.acked <= expected {
		a.Restart(now)
		expected = 0
	}
	a.acked += acked
	a.extra = a.filter.Update(min(a.acked-expected, window), round, length)
}
