package bbr1

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
)

// TestAggregationFillsTheLink holds ACKs back for 200 ms, five round trips: a window of two BDP would keep the link busy for two of them. What ACKs bring in excess of the
// bandwidth is added to it, up to what 100 ms bring.
func TestAggregationFillsTheLink(t *testing.T) {
	const slot = 200 * time.Millisecond
	s := alone(rate, rtt, 16*bdp, nil)
	s.Link.Release = func(t congestion.Time) congestion.Time { return (t + slot - 1) / slot * slot }
	s.until(t, probeBW)
	if got, want := s.aggregationCwnd(), pathmodel.Volume(s.btlBw, extraAckedMost); got != want {
		t.Errorf("%d bytes for aggregation, want the most, %d", got, want)
	}
	if got, want := s.targetCwnd, s.inflight(2*unity)+s.aggregationCwnd(); got != want {
		t.Errorf("the window aims at %d, want two BDP and the excess, %d", got, want)
	}
}

// TestAggregationIsForgotten checks that the excess of one burst counts for this slot of five rounds and for the next, and for no third.
func TestAggregationIsForgotten(t *testing.T) {
	for first := uint64(0); first < 2*extraAckedSlot; first++ {
		b := New().(*bbr)
		b.Init(congestion.Config{MSS: mss, InitialWindow: 100 * mss})
		b.btlBw, b.roundCount, b.acked = rate, first, 40*mss
		b.now = time.Second
		b.updateAggregation()
		b.acked = mss
		for b.aggregation.Extra() == 40*mss {
			b.roundCount++
			b.now += time.Second
			b.updateAggregation()
		}
		if want := (first/extraAckedSlot + 2) * extraAckedSlot; b.roundCount != want {
			t.Errorf("the excess of round %d is forgotten in round %d, want %d", first, b.roundCount, want)
		}
	}
}

// TestAggregationNotInStartup checks that Startup's window, nearly three BDP, takes nothing for it.
func TestAggregationNotInStartup(t *testing.T) {
	s := alone(rate, rtt, 4*bdp, nil)
	s.Run(3 * rtt)
	if s.state != startup || s.aggregation.Extra() == 0 || s.aggregationCwnd() != 0 {
		t.Errorf("in %v the window has %d of %d bytes", s.state, s.aggregationCwnd(), s.aggregation.Extra())
	}
}
