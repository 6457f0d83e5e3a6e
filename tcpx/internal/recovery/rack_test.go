package recovery

import (
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// flight is a queue of segments of one octet, P1 at sequence number 1, as the examples of RFC 8985 have them.
type flight struct {
	tb testing.TB
	q  Queue
	r  RACK
	tx uint64
}

func newFlight(tb testing.TB) *flight { return &flight{tb: tb, q: Queue{Ordered: true}} }

// send sends the next n segments at an instant.
func (f *flight) send(at congestion.Time, n int) {
	for range n {
		s := seq.Num(1)
		if f.q.Len() > 0 {
			s = f.q.At(f.q.Len() - 1).End()
		}
		f.stamp(f.q.Push(s, 1, 1, 0), at)
	}
}

// resend retransmits segment p.
func (f *flight) resend(at congestion.Time, p seq.Num) { f.stamp(f.q.Retransmit(f.q.Find(p)), at) }

func (f *flight) stamp(s *Segment, at congestion.Time) {
	f.tx++
	s.State.SentTime, s.State.TxSeq, s.State.Size = at, f.tx, s.Len
	f.q.Sent(s)
}

// sack delivers segments lo to hi, and then runs the detection with the window that RFC 8985 prescribes.
func (f *flight) sack(now congestion.Time, lo, hi seq.Num, minRTT time.Duration, echo congestion.Time) {
	w := f.q.Sack(lo, hi+1, 1)
	for s, was := w.Next(); s != nil; s, was = w.Next() {
		f.r.Delivered(s, was, now, minRTT, echo)
	}
}

// detect runs the detection and compares what it finds and how long it waits.
func (f *flight) detect(now congestion.Time, wnd, left time.Duration, want ...seq.Num) {
	f.tb.Helper()
	var lost lossLog
	got := f.r.DetectLoss(&f.q, now, wnd, &lost)
	if got != left || !slices.Equal(lost, lossLog(want)) {
		f.tb.Fatalf("at %v lost %v and waiting %v, want %v and %v", now, lost, got, want, left)
	}
	if err := f.q.Verify(); err != nil {
		f.tb.Fatal(err)
	}
}

// TestRACKTailDrop is RFC 8985 §3.3 and §8.1, first example: P1, P2, P3 of one flight, the probe repeats P3 and its SACK shows P1 and P2 lost.
func TestRACKTailDrop(t *testing.T) {
	f := newFlight(t)
	f.send(1*ms, 3)
	f.resend(101*ms, 3)
	f.sack(151*ms, 3, 3, 50*ms, 0)
	f.detect(151*ms, 12*ms, 0, 1, 2)
}

// TestRACKLostRetransmission: P1 is lost, sent again, and lost again; what left after the retransmission and is delivered shows it (RFC 8985 §3.2).
func TestRACKLostRetransmission(t *testing.T) {
	f := newFlight(t)
	f.send(0, 4)
	f.sack(50*ms, 2, 4, 50*ms, 0)
	f.detect(50*ms, 0, 0, 1)
	f.resend(50*ms, 1)
	f.send(51*ms, 1)
	f.sack(101*ms, 5, 5, 50*ms, 0)
	f.detect(101*ms, 0, 0, 1)
	if s := f.q.At(0); s.Flags&(Lost|Retrans) != Lost {
		t.Errorf("flags %b", s.Flags)
	}
}

// TestRACKBurstTie: segments of one burst share an instant. Only those before the delivered one are behind it: TxSeq stands in for RACK.end_seq.
func TestRACKBurstTie(t *testing.T) {
	f := newFlight(t)
	f.send(0, 10)
	f.sack(50*ms, 5, 7, 50*ms, 0)
	f.detect(50*ms, 0, 0, 1, 2, 3, 4)
}

// TestRACKReordering: a segment that is late by less than the window is not lost, and the wait ends at the exact instant (RFC 8985 §6.2 step 5).
func TestRACKReordering(t *testing.T) {
	f := newFlight(t)
	f.send(1*ms, 1)
	f.send(3*ms, 1)
	f.send(5*ms, 3)
	f.sack(55*ms, 4, 4, 50*ms, 0) // RACK.rtt is 50 ms, sent at 5 ms
	wnd := 50 * ms / 4
	f.detect(55*ms, wnd, 1*ms+50*ms+wnd-55*ms)
	f.detect(63*ms, wnd, 500*time.Microsecond)
	f.detect(63500*time.Microsecond, wnd, 2*ms, 1)
	f.detect(65500*time.Microsecond, wnd, 2*ms, 2)
	f.sack(66*ms, 3, 3, 50*ms, 0)
	f.detect(67500*time.Microsecond, wnd, 0)
}

// TestRACKAmbiguity: an ACK of a retransmitted segment may be about the original; it is not believed if the echo or the time speaks against it (step 2).
func TestRACKAmbiguity(t *testing.T) {
	for _, c := range []struct {
		name  string
		now   congestion.Time
		echo  congestion.Time
		found bool
	}{
		{"a full round trip after the retransmission", 160 * ms, 0, true},
		{"too soon for the retransmission", 120 * ms, 0, false},
		{"the echo is of the original", 160 * ms, 99 * ms, false},
		{"the echo is of the retransmission", 160 * ms, 101 * ms, true},
	} {
		f := newFlight(t)
		f.send(0, 3)
		f.q.MarkLost(2)
		f.resend(100*ms, 3)
		f.sack(c.now, 3, 3, 50*ms, c.echo)
		var lost lossLog
		f.r.DetectLoss(&f.q, c.now, 0, &lost)
		if found := len(lost) == 2; found != c.found {
			t.Errorf("%s: lost %v", c.name, lost)
		}
	}
}

// TestRACKReorderingSeen is step 3: a segment below the highest delivered arrives late, and was not sent twice.
func TestRACKReorderingSeen(t *testing.T) {
	f := newFlight(t)
	f.send(0, 5)
	f.sack(50*ms, 2, 3, 50*ms, 0)
	f.sack(50*ms, 5, 5, 50*ms, 0)
	if f.r.ReorderingSeen {
		t.Error("seen in order")
	}
	f.resend(51*ms, 1)
	f.sack(101*ms, 1, 1, 50*ms, 0)
	if f.r.ReorderingSeen {
		t.Error("a retransmission counts as reordering")
	}
	f.sack(102*ms, 4, 4, 50*ms, 0)
	if !f.r.ReorderingSeen || f.r.Reorderings != 1 {
		t.Error("not seen")
	}
}

// TestRACKReoWnd is RACK_update_reo_wnd of §6.2 step 4.
func TestRACKReoWnd(t *testing.T) {
	const minRTT, srtt = 40 * ms, 45 * ms
	wnd := func(r *RACK, una seq.Num) time.Duration { return r.ReoWnd(una, minRTT, srtt, false, 0) }
	var r RACK
	for _, c := range []struct {
		name       string
		seen, in   bool
		sackedSegs uint32
		want       time.Duration
	}{
		{"no reordering so far, not in recovery", false, false, 2, 10 * ms},
		{"three segments SACKed", false, false, 3, 0},
		{"in recovery", false, true, 1, 0},
		{"reordering was seen", true, true, 9, 10 * ms},
	} {
		r.ReorderingSeen = c.seen
		if got := r.ReoWnd(1, minRTT, srtt, c.in, c.sackedSegs); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	una := seq.Num(1<<32 - 10)
	r.DSACK(una, una+100)
	if got := wnd(&r, una); got != 20*ms {
		t.Errorf("after a DSACK: %v, want minRTT/2", got)
	}
	r.DSACK(una+99, una+200)
	if got := wnd(&r, una); got != 20*ms {
		t.Errorf("a second DSACK of the same round counts: %v", got)
	}
	r.DSACK(una+100, una+200)
	if got := wnd(&r, una); got != 30*ms {
		t.Errorf("a DSACK of the next round: %v, want 3*minRTT/4", got)
	}
	for range 300 {
		una += 200
		r.DSACK(una, una+1)
	}
	if got := wnd(&r, una); got != srtt {
		t.Errorf("the window is %v, at most SRTT", got)
	}
	for range 15 {
		r.RecoveryExit()
	}
	if got := wnd(&r, una); got != srtt {
		t.Errorf("forgotten after 15 recoveries: %v", got)
	}
	r.RecoveryExit()
	if got := wnd(&r, una); got != 10*ms {
		t.Errorf("after 16 recoveries without a DSACK: %v, want minRTT/4", got)
	}
	r.RecoveryExit()
}

// TestRACKDSACKRoundWraps: a round that ended 3 GB ago does not hide the next DSACK.
func TestRACKDSACKRoundWraps(t *testing.T) {
	var r RACK
	r.DSACK(0, 100)
	for una := seq.Num(0); una < 3<<30; una += 1 << 28 {
		r.ReoWnd(una, 40*ms, time.Second, false, 0)
	}
	r.DSACK(3<<30, 3<<30+5)
	if got := r.ReoWnd(3<<30, 40*ms, time.Second, false, 0); got != 30*ms {
		t.Errorf("%v, want 3*minRTT/4", got)
	}
}

// TestRACKAfterUndo: what an undo takes the loss marks from is watched again. It would stay lost until the RTO otherwise.
func TestRACKAfterUndo(t *testing.T) {
	f := newFlight(t)
	f.send(0, 6)
	f.sack(50*ms, 4, 6, 50*ms, 0)
	f.detect(50*ms, 0, 0, 1, 2, 3)
	f.resend(51*ms, 1)
	f.q.ClearLost()
	f.detect(52*ms, 10*ms, 8*ms)
	f.detect(60*ms, 10*ms, 0, 2, 3)
}
