package cubic

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Constants of RFC 9406 §4.3.
const (
	minRTTThresh     = 4 * time.Millisecond
	maxRTTThresh     = 16 * time.Millisecond
	minRTTDivisor    = 8
	rttSamples       = 8 // N_RTT_SAMPLE
	cssGrowthDivisor = 4
	cssRounds        = 5
	hystartLimit     = 8 // L for a sender that may be unpaced
)

// noRTT stands for the infinite round-trip time of a round without samples.
const noRTT = time.Duration(1<<63 - 1)

// hystart is HyStart++ (RFC 9406 §4.2): when a round's smallest round-trip time rises, growth is slowed for a few rounds, in which the rise proves to be a queue or
// a passing disturbance.
type hystart struct {
	enabled bool
	inCSS   bool // conservative slow start
	rounds  int  // of conservative slow start so far

	measuring   bool   // a round is under way
	roundEnd    uint64 // the round ends when so many bytes are delivered: all that was in flight at its start
	samples     int
	current     time.Duration // currentRoundMinRTT
	last        time.Duration // lastRoundMinRTT
	cssBaseline time.Duration // cssBaselineMinRtt
}

// verdict is what an ACK says of slow start.
type verdict uint8

const (
	exponential verdict = iota
	conservative
	done
)

// onAck judges one ACK of the initial slow start.
func (h *hystart) onAck(ev *congestion.AckEvent) verdict {
	if !h.measuring {
		h.measuring = true
		h.current, h.last = noRTT, noRTT
		h.beginRound(ev)
	} else if ev.Delivered >= h.roundEnd {
		h.last = h.current
		h.current = noRTT
		h.beginRound(ev)
		if h.inCSS {
			if h.rounds++; h.rounds >= cssRounds {
				return done
			}
		}
	}
	if ev.RTT > 0 {
		h.current = min(h.current, ev.RTT)
		h.samples++
		h.judge()
	}
	if h.inCSS {
		return conservative
	}
	return exponential
}

func (h *hystart) beginRound(ev *congestion.AckEvent) {
	h.roundEnd = ev.Delivered + ev.InFlight
	h.samples = 0
}

func (h *hystart) judge() {
	switch {
	case h.samples < rttSamples:
	case h.inCSS:
		if h.current < h.cssBaseline { // the rise was a disturbance
			h.inCSS, h.rounds = false, 0
		}
	case h.last != noRTT:
		thresh := max(minRTTThresh, min(h.last/minRTTDivisor, maxRTTThresh))
		if h.current >= h.last+thresh {
			h.inCSS, h.rounds = true, 0
			h.cssBaseline = h.current
		}
	}
}
