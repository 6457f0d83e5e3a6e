package emulated

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// bench drives a discipline on its own: packets have no buffers, and drops are recorded.
type bench struct {
	q       discipline
	now     time.Duration
	dropped []time.Duration
	causes  [NumDropCauses]int
	marked  int
	seq     uint64
}

func newBench(q Queue) *bench {
	b := new(bench)
	b.q = q.discipline(&queueEnv{
		drop: func(p packet, c DropCause) {
			b.dropped = append(b.dropped, b.now)
			b.causes[c]++
		},
		mark: func(p *packet) bool {
			if p.ecn == ecnNotECT {
				return false
			}
			b.marked++
			p.ecn = ecnCE
			return true
		},
		rng: rand.New(rand.NewPCG(1, 2)),
		mtu: 1500,
	})
	return b
}

// offer enqueues a packet of a flow.
func (b *bench) offer(flow uint32, size int32, ecn uint8) {
	b.seq++
	b.q.enqueue(b.now, packet{flow: flow, size: size, ecn: ecn, seq: b.seq})
}

// The drops of CoDel under a standing queue come an interval after the delay went above the target, and then at distances of interval/√n (RFC 8289 §5.6).
func TestCoDelControlLaw(t *testing.T) {
	for _, ecn := range []uint8{ecnNotECT, ecnECT1} {
		b := newBench(CoDel{Packets: 1 << 20, ECN: true})
		var marks []time.Duration
		for range 20_000 { // Each has waited for 10 ms or more when it is served.
			b.offer(0, 1500, ecn)
			b.offer(0, 1500, ecn)
			if b.now >= 10*ms {
				before := b.marked
				b.q.dequeue(b.now)
				if b.marked > before {
					marks = append(marks, b.now)
				}
			}
			b.now += 50 * time.Microsecond
		}
		got := b.dropped
		if ecn != ecnNotECT {
			got = marks
		}
		next := 110 * ms
		for n := 1; n <= 25; n++ {
			if d := got[n-1] - next; d < 0 || d > 51*time.Microsecond {
				t.Fatalf("drop %d at %v, want at %v or the next packet", n, got[n-1], next)
			}
			if n == 1 {
				next = got[0] // The law starts at the packet.
			}
			next += time.Duration(float64(100*ms) / math.Sqrt(float64(n)))
		}
		if b.causes[DropOverflow] != 0 || (ecn != ecnNotECT) != (len(b.dropped) == 0) {
			t.Errorf("drops by cause %v, %d marks", b.causes, b.marked)
		}
	}
}

// A burst that drains within an interval, and a queue of one packet however old, are left alone.
func TestCoDelSpares(t *testing.T) {
	b := newBench(CoDel{})
	for range 90 {
		b.offer(0, 1500, 0)
	}
	for range 90 {
		b.now += ms
		b.q.dequeue(b.now)
	}
	for range 1000 {
		b.offer(0, 1500, 0)
		b.now += 50 * ms
		b.q.dequeue(b.now)
	}
	if len(b.dropped) > 0 {
		t.Errorf("%d drops, the first at %v", len(b.dropped), b.dropped[0])
	}
}

// CoDel holds the delay of a load that it can shape near its target: a load that falls by a hundredth at each drop and rises otherwise.
func TestCoDelHoldsTarget(t *testing.T) {
	b := newBench(CoDel{})
	load, credit, rate := 1.0, 0.0, 1.0
	var waits []time.Duration
	for i := range 200_000 { // a packet each 0.1 ms
		b.now += 100 * time.Microsecond
		before := len(b.dropped)
		for credit += load; credit >= 1; credit-- {
			b.offer(0, 1500, 0)
		}
		if p, ok := b.q.dequeue(b.now); ok && i > 50_000 {
			waits = append(waits, b.now-p.at)
		}
		load += 0.00001 * rate
		load -= 0.01 * float64(len(b.dropped)-before)
	}
	slices.Sort(waits)
	if median := waits[len(waits)/2]; median > 10*ms {
		t.Errorf("median delay %v, want about 5 ms", median)
	}
}

// Flows share by bytes, whatever the size of their packets; a sparse flow does not wait for the rest.
func TestFQCoDelShares(t *testing.T) {
	b := newBench(FQCoDel{Packets: 1 << 20})
	served := map[uint32]int{}
	var worst time.Duration
	for i := range 10_000 {
		for range 5 {
			b.offer(1, 300, 0)
		}
		b.offer(2, 1500, 0)
		if i%50 == 0 {
			b.offer(3, 100, 0)
		}
		p, _ := b.q.dequeue(b.now)
		served[p.flow] += int(p.size)
		if p.flow == 3 && i > 50 { // At first all are new.
			worst = max(worst, b.now-p.at)
		}
		b.now += ms
	}
	if ratio := float64(served[1]) / float64(served[2]); math.Abs(ratio-1) > 0.02 {
		t.Errorf("small packets got %d bytes, large ones %d", served[1], served[2])
	}
	if worst > ms {
		t.Errorf("the sparse flow waited for up to %v", worst)
	}
}

// A flow that floods the queue pays for it.
func TestFQCoDelOverflow(t *testing.T) {
	b := newBench(FQCoDel{Packets: 100})
	for range 20 {
		b.offer(1, 1500, 0)
	}
	for range 500 {
		b.offer(2, 1500, 0)
	}
	left := map[uint32]int{}
	for b.q.packets() > 0 {
		p, _ := b.q.dequeue(b.now)
		left[p.flow]++
	}
	if left[1] != 20 || b.causes[DropOverflow] != 520-left[1]-left[2] || b.q.bytes() != 0 {
		t.Errorf("left %v, dropped %v, %d bytes", left, b.causes, b.q.bytes())
	}
}

// Under a load that does not yield, a controller finds the probability that leaves the capacity, and so brings the delay to its target.
func holdsTarget(t *testing.T, q Queue, loads []float64, low, high time.Duration) {
	t.Helper()
	for _, load := range loads {
		b := newBench(q)
		credit := 0.0
		var sum time.Duration
		var n int
		const slots = 600_000 // of 0.2 ms, two minutes
		for i := range slots {
			b.now += 200 * time.Microsecond
			for credit += load; credit >= 1; credit-- {
				b.offer(0, 1500, ecnNotECT)
			}
			if p, ok := b.q.dequeue(b.now); ok && i > slots/2 {
				sum += b.now - p.at
				n++
			}
		}
		if mean := sum / time.Duration(n); mean < low || mean > high {
			t.Errorf("load %v: mean delay %v, want 15 ms", load, mean)
		}
		if got, want := b.lateDrops()/(load*slots/2), 1-1/load; math.Abs(got-want) > 0.01 {
			t.Errorf("load %v: dropped %v, want %v", load, got, want)
		}
	}
}

// lateDrops counts the drops of the second half.
func (b *bench) lateDrops() (n float64) {
	for _, at := range b.dropped {
		if at > b.now/2 {
			n++
		}
	}
	return n
}

func TestPIEHoldsTarget(t *testing.T) {
	holdsTarget(t, PIE{Packets: 1 << 20}, []float64{1.05, 1.2, 1.5}, 12*ms, 18*ms)
}

// A burst of 100 ms after silence passes, and ECN spares packets while the probability is low.
func TestPIEBurstAndECN(t *testing.T) {
	b := newBench(PIE{})
	b.now = time.Hour
	for range 500 {
		b.offer(0, 1500, 0)
	}
	for b.q.packets() > 0 {
		b.now += 200 * time.Microsecond
		b.q.dequeue(b.now)
	}
	if len(b.dropped) > 0 {
		t.Errorf("%d of a burst of 100 ms dropped", len(b.dropped))
	}

	b = newBench(PIE{ECN: true})
	credit := 0.0
	for range 300_000 {
		b.now += 200 * time.Microsecond
		dropped, prob := len(b.dropped), b.q.(*pie).prob
		for credit += 1.04; credit >= 1; credit-- {
			b.offer(0, 1500, 2)
		}
		if len(b.dropped) > dropped && prob < pieMarkLimit-0.02 {
			t.Fatalf("a packet that could be marked was dropped at a probability of %v", prob)
		}
		b.q.dequeue(b.now)
	}
	if b.marked == 0 {
		t.Error("no marks")
	}
}
