package tcb

import (
	"math"
	"testing"
	"time"
)

// TestDerivedPacing: an algorithm that sets no rate is paced on demand, at twice its window in a round trip in slow start and 1.2 times after it.
func TestDerivedPacing(t *testing.T) {
	pacing := func(r *rig) { r.cfg.Pacing = true }
	s := newScripted(t, 100*time.Millisecond, pacing)
	s.play(`
		write 8 > 0 1             // 10 segments of 1000 octets in 100 ms, twice: 200,000 octets a second
		timer 10ms > 2 3
		timer 10ms > 4 5
		timer 10ms > 6 7
		after 70ms
		ack 0 sack 5-8 > 0 1      // the second burst waits for the pacer
		has state=3 lost=5 ssthresh=4
	`)
	if rate, want := float64(s.pacer.Rate()), 1.2*4*segSize/s.rto.SRTT.Seconds(); math.Abs(rate-want) > 2 {
		t.Errorf("in recovery %v octets a second, want %v: 1.2 times half of the flight", rate, want)
	}
	free := newScripted(t, 100*time.Millisecond)
	free.play("write 8 > 0 1 2 3 4 5 6 7")
	if rate := free.pacer.Rate(); rate != 0 {
		t.Errorf("%d octets a second although nobody asked for pacing", rate)
	}
}
