package pathmodel

import (
	"testing"
	"time"
)

// TestAggregation follows draft-ietf-ccwg-bbr §5.5.9 ACK by ACK, at 1000 byte/ms and a window of 50,000 bytes.
func TestAggregation(t *testing.T) {
	const (
		ms     = time.Millisecond
		bw     = 1_000_000
		window = 50_000
	)
	var a Aggregation
	a.Restart(0)
	for i, x := range []struct {
		at                         time.Duration
		acked, round, length, want uint64
	}{
		{10 * ms, 2000, 0, 10, 2000},     // expected 10,000, nothing came: a new interval, of which all is in excess
		{11 * ms, 2000, 0, 10, 3000},     // 4000 in 1 ms that could have brought 1000
		{13 * ms, 1000, 0, 10, 3000},     // 5000 in 3 ms: less than before
		{18 * ms, 500, 0, 10, 3000},      // behind: a new interval
		{18 * ms, 90_000, 1, 10, window}, // no more than the window
		{300 * ms, 1000, 2, 10, window},  // what was is remembered ...
		{400 * ms, 1000, 10, 10, window}, // ... for ten rounds
		{500 * ms, 1000, 11, 10, 1000},   // and no longer
		{600 * ms, 4000, 12, 10, 4000},   //
		{700 * ms, 1000, 14, 2, 1000},    // or as long as is asked for
		{800 * ms, 3000, 15, 2, 3000},    //
		{800*ms + 1, 1000, 15, 2, 4000},  // a nanosecond brings nothing
	} {
		a.Update(x.at, bw, x.acked, window, x.round, x.length)
		if a.Extra() != x.want {
			t.Errorf("ACK %d: %d, want %d", i, a.Extra(), x.want)
		}
	}
	a.Restart(time.Second)
	if a.Update(time.Second+2*ms, bw, 1000, window, 40, 10); a.Extra() != 1000 {
		t.Errorf("after a restart %d, want the one ACK that came", a.Extra())
	}
}
