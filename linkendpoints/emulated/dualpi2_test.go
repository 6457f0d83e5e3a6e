package emulated

import (
	"math"
	"testing"
	"time"
)

// The classic queue's load may exceed the link by a third: its probability ends at a quarter.
func TestDualPI2HoldsTarget(t *testing.T) {
	holdsTarget(t, DualPI2{Packets: 1 << 20}, []float64{1.05, 1.2, 1.3}, 13*ms, 17*ms)
}

// Low latency is marked at twice the root of what drops classic traffic (RFC 9332 §2.1: p_CL = k·p', p_C = p'²), and does not wait behind it.
func TestDualPI2Couples(t *testing.T) {
	b := newBench(DualPI2{Packets: 1 << 20})
	classic, low := 0.0, 0.0
	const slots = 300_000
	var worst time.Duration
	taken, marked, total := 0, 0, 0
	for i := range slots {
		b.now += 200 * time.Microsecond
		for classic += 0.75; classic >= 1; classic-- {
			b.offer(1, 1500, 0)
		}
		for low += 0.3; low >= 1; low-- {
			b.offer(2, 1500, ecnECT1)
		}
		p, ok := b.q.dequeue(b.now)
		if !ok || i < slots/2 {
			continue
		}
		total++
		if p.flow == 2 {
			taken++
			worst = max(worst, b.now-p.at)
			if p.ecn == ecnCE {
				marked++
			}
		}
	}
	pc := b.lateDrops() / (0.75 * slots / 2)
	pl := float64(marked) / float64(taken)
	if want := 2 * math.Sqrt(pc); math.Abs(pl-want) > 0.03 {
		t.Errorf("marked %.3f of low latency where %.3f of classic traffic was dropped, want %.3f", pl, pc, want)
	}
	if worst > time.Millisecond {
		t.Errorf("low latency waited for %v", worst)
	}
	if want := 0.3 * slots / 2; math.Abs(float64(taken)-want) > 2 {
		t.Errorf("%d packets of low latency came through of %v", taken, want)
	}
}

// The ramp of the low-latency queue marks nothing below 0.8 ms and everything above 1.2 ms, and never a packet that waits alone.
func TestDualPI2Ramp(t *testing.T) {
	for _, tc := range []struct {
		wait  time.Duration
		alone bool
		want  int
	}{
		{700 * time.Microsecond, false, 0},
		{time.Millisecond, false, 50},
		{1300 * time.Microsecond, false, 100},
		{10 * ms, true, 0},
	} {
		b := newBench(DualPI2{})
		for range 100 {
			b.offer(1, 1500, ecnECT1)
			if !tc.alone {
				b.offer(1, 1500, ecnECT1)
			}
			b.now += tc.wait
			before := b.marked
			b.q.dequeue(b.now)
			if got := b.marked - before; got > 1 {
				t.Fatal("one packet marked twice")
			}
			for q := b.q.(*dualPI2); q.packets() > 0; {
				q.low.pop() // the second is not what the case is about
			}
		}
		if b.marked < tc.want-1 || b.marked > tc.want+1 {
			t.Errorf("%d of 100 marked after %v (alone: %v), want %d", b.marked, tc.wait, tc.alone, tc.want)
		}
	}
}

// A flood of low latency leaves classic traffic a tenth of the link.
func TestDualPI2DoesNotStarveClassic(t *testing.T) {
	b := newBench(DualPI2{Packets: 1 << 20})
	got := map[uint32]int{}
	for range 20_000 {
		b.now += 200 * time.Microsecond
		b.offer(1, 1500, ecnECT1)
		b.offer(1, 1500, ecnECT1)
		b.offer(2, 1500, 2)
		p, _ := b.q.dequeue(b.now)
		got[p.flow] += int(p.size)
	}
	if share := float64(got[2]) / float64(got[1]+got[2]); math.Abs(share-0.1) > 0.005 {
		t.Errorf("classic traffic got %.3f of the link, want 0.1", share)
	}
	if b.marked == 0 {
		t.Error("nothing was marked")
	}
	// Overload: what allows marks is dropped too.
	if len(b.dropped) == 0 {
		t.Error("nothing was dropped under overload")
	}
}

// Who had the link alone neither owes nor has saved anything when the other comes.
func TestDualPI2CountsOnlyWhileBothWait(t *testing.T) {
	b := newBench(DualPI2{})
	for range 1000 {
		b.now += 200 * time.Microsecond
		b.offer(1, 1500, ecnECT1)
		b.q.dequeue(b.now)
	}
	for range 10 {
		b.offer(1, 1500, ecnECT1)
		b.offer(2, 1500, ecnNotECT)
	}
	if p, _ := b.q.dequeue(b.now); p.flow != 1 {
		t.Error("classic traffic went first")
	}
	b = newBench(DualPI2{})
	for range 1000 {
		b.now += 200 * time.Microsecond
		b.offer(2, 1500, ecnNotECT)
		b.q.dequeue(b.now)
	}
	for range 30 {
		b.offer(1, 1500, ecnECT1)
		b.offer(2, 1500, ecnNotECT)
	}
	classic := 0
	for range 20 {
		if p, _ := b.q.dequeue(b.now); p.flow == 2 {
			classic++
		}
	}
	if classic < 1 || classic > 3 {
		t.Errorf("%d of 20 packets were classic, want a tenth", classic)
	}
}

// What allows marks is marked in place of a drop; CE waits with ECT(1), since a mark does not tell which of the two it was (RFC 9332 §2.5.1.1).
func TestDualPI2Classes(t *testing.T) {
	b := newBench(DualPI2{Packets: 1 << 20})
	credit := 0.0
	for range 20_000 {
		b.now += 200 * time.Microsecond
		for credit += 1.02; credit >= 1; credit-- {
			b.offer(1, 1500, 2)
		}
		b.q.dequeue(b.now)
	}
	if b.marked == 0 || len(b.dropped) > 0 {
		t.Errorf("of ECT(0) %d were marked and %d dropped", b.marked, len(b.dropped))
	}
	b = newBench(DualPI2{})
	for _, ecn := range []uint8{ecnNotECT, ecnECT1, 2, ecnCE} {
		b.offer(1, 1500, ecn)
	}
	if d := b.q.(*dualPI2); d.low.len() != 2 || d.classic.len() != 2 {
		t.Errorf("%d packets of low latency, %d classic, want 2 and 2", d.low.len(), d.classic.len())
	}
}

func TestDualPI2Limit(t *testing.T) {
	b := newBench(DualPI2{Packets: 10})
	for i := range 20 {
		b.offer(1, 1500, uint8(i%2))
	}
	if b.q.packets() != 10 || b.causes[DropOverflow] != 10 {
		t.Errorf("%d packets wait, %d dropped, want 10 and 10", b.q.packets(), b.causes[DropOverflow])
	}
}
