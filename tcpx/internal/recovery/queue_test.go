package recovery

import (
	"slices"
	"testing"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// fill returns a queue of n segments of one MSS from start, in records of per segments.
func fill(start seq.Num, n, per, mss int) *Queue {
	q := &Queue{Ordered: true}
	for i := 0; i < n; i += per {
		s := q.Push(start.Add(i*mss), uint32(per*mss), uint16(per), 0)
		s.State.TxSeq, s.State.Size = uint64(i/per+1), s.Len
		q.Sent(s)
	}
	return q
}

func sack(q *Queue, lo, hi seq.Num, mss uint32) (newly []seq.Num) {
	w := q.Sack(lo, hi, mss)
	for s, _ := w.Next(); s != nil; s, _ = w.Next() {
		newly = append(newly, s.Seq, s.End())
	}
	return newly
}

// TestSackOfLongRecords: a block splits a record that left as one unit at the borders of its segments. What it covers in part stays.
func TestSackOfLongRecords(t *testing.T) {
	const start = seq.Num(1<<32 - 1500)
	at := func(n int) seq.Num { return start.Add(n) }
	for _, c := range []struct {
		name    string
		lo, hi  int
		newly   []int
		records int
	}{
		{"the whole", 0, 4000, []int{0, 4000}, 2},
		{"the front", 0, 2000, []int{0, 2000}, 3},
		{"the back", 1000, 4000, []int{1000, 4000}, 3},
		{"the middle", 1000, 3000, []int{1000, 3000}, 4},
		{"unaligned: the whole segments within", 500, 3500, []int{1000, 3000}, 4},
		{"less than a segment", 1100, 1900, nil, 2},
		{"two parts of segments", 1100, 2900, nil, 2},
		{"across records", 3000, 5500, []int{3000, 4000, 4000, 5000}, 4},
		{"everything", 0, 8000, []int{0, 4000, 4000, 8000}, 2},
	} {
		q := fill(start, 8, 4, 1000)
		got := sack(q, at(c.lo), at(c.hi), 1000)
		var want []seq.Num
		for _, n := range c.newly {
			want = append(want, at(n))
		}
		if !slices.Equal(got, want) || q.Len() != c.records {
			t.Errorf("%s: newly %v in %d records, want %v in %d", c.name, got, q.Len(), want, c.records)
		}
		if again := sack(q, at(c.lo), at(c.hi), 1000); again != nil {
			t.Errorf("%s: the second time newly %v", c.name, again)
		}
		if err := q.Verify(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestNextLostBesideProbe: a loss probe is in flight, not lost and sent again, while another segment of the same size is lost: that one is due.
func TestNextLostBesideProbe(t *testing.T) {
	q := fill(1, 5, 1, 1000)
	q.Retransmit(4)
	q.MarkLost(0)
	if got := q.NextLost(); got != 0 {
		t.Fatalf("NextLost is %d, want 0", got)
	}
	if got := q.DueBytes(); got != 1000 {
		t.Errorf("%d bytes due", got)
	}
	if got := q.InFlight(); got != 5000 {
		t.Errorf("%d in flight, want four segments and the probe", got)
	}
}

// TestLossEdge is RFC 6675's IsLost: more than two segments' worth, or three ranges, above.
func TestLossEdge(t *testing.T) {
	for _, c := range []struct {
		name   string
		blocks [][2]int
		edge   int
	}{
		{"nothing", nil, -1},
		{"two segments", [][2]int{{1, 3}}, -1},
		{"a little more than two", [][2]int{{1, 4}}, 1},
		{"two ranges of one", [][2]int{{1, 2}, {3, 4}}, -1},
		{"three ranges", [][2]int{{1, 2}, {3, 4}, {5, 6}}, 1},
		{"the third range from above", [][2]int{{1, 2}, {3, 4}, {5, 6}, {7, 8}}, 3},
		{"bytes above a range", [][2]int{{1, 2}, {5, 8}}, 5},
		{"together more than two", [][2]int{{1, 2}, {3, 5}}, 1},
	} {
		q := fill(0, 10, 1, 100)
		for _, b := range c.blocks {
			sack(q, seq.Num(b[0]*100), seq.Num(b[1]*100), 100)
		}
		edge, ok := q.LossEdge(DupThresh, 100)
		if ok != (c.edge >= 0) || ok && edge != seq.Num(c.edge*100) {
			t.Errorf("%s: %d %v", c.name, edge, ok)
		}
	}
}

// TestDuplicates counts duplicate ACKs without SACK: never more than the segments that can cause them, whatever their sizes.
func TestDuplicates(t *testing.T) {
	q := fill(0, 5, 1, 1000)
	for i, want := range []uint64{1000, 1000, 1000, 1000, 0, 0} {
		if got := q.DupAck(1000); got != want {
			t.Errorf("duplicate %d is worth %d, want %d", i+1, got, want)
		}
	}
	if got := q.InFlight(); got != 1000 {
		t.Errorf("%d in flight", got)
	}
	if got := q.DupAckReset(1500, 1000); got != 1500 || q.Delivered() != 2500 {
		t.Errorf("took back %d, left %d", got, q.Delivered())
	}
	if got := q.DupAckReset(0, 1000); got != 2500 || q.Delivered() != 0 {
		t.Errorf("took back %d, left %d", got, q.Delivered())
	}
	q = fill(0, 4, 1, 100) // segments far below the MSS
	for i, want := range []uint64{100, 100, 100, 0} {
		if got := q.DupAck(1000); got != want {
			t.Errorf("small duplicate %d is worth %d, want %d", i+1, got, want)
		}
	}
}

// TestShrink: an empty queue gives its memory back.
func TestShrink(t *testing.T) {
	q := fill(0, 1000, 1, 1000)
	q.Shrink()
	if q.Len() != 1000 {
		t.Fatal("shrunk while in use")
	}
	for s, _ := q.PopAcked(1000*1000, 1000); s != nil; s, _ = q.PopAcked(1000*1000, 1000) {
	}
	q.Shrink()
	if cap(q.ring) != 0 || cap(q.tx.ring) != 0 {
		t.Errorf("%d records and %d transmissions of memory left", cap(q.ring), cap(q.tx.ring))
	}
	q.Push(1000*1000, 1, 1, 0)
	if err := (&Queue{}).Verify(); err != nil {
		t.Error(err)
	}
}

// steady is a queue with n records in flight to which ack and send are done without end.
type steady struct {
	*Queue
	una, nxt seq.Num
	tx       uint64
	per      int
}

func newSteady(n, per int) *steady {
	return &steady{Queue: fill(0, n*per, per, 1000), nxt: seq.Num(n * per * 1000), tx: uint64(n), per: per}
}

func (s *steady) send() {
	s.tx++
	r := s.Push(s.nxt, uint32(s.per*1000), uint16(s.per), 0)
	r.State.TxSeq, r.State.Size = s.tx, r.Len
	s.Sent(r)
	s.nxt += seq.Num(s.per * 1000)
}

func (s *steady) ack(n seq.Num, r *RACK, h LossHandler) {
	s.una += n
	for x, was := s.PopAcked(s.una, 1000); x != nil; x, was = s.PopAcked(s.una, 1000) {
		if was&Sacked == 0 {
			r.Delivered(x, was, 1, 1, 0)
		}
	}
	r.DetectLoss(s.Queue, 1, 1, h)
}

// TestNoAllocations: acknowledging, SACKing, marking and retransmitting in a steady state allocate nothing.
func TestNoAllocations(t *testing.T) {
	const n = 1000
	var lost lossLog
	s, r := newSteady(n, 1), RACK{}
	round := func() {
		for range 2 {
			s.send()
			s.ack(1000, &r, &lost)
		}
		for i := range seq.Num(8) {
			sackQuietly(s.Queue, s.una+(2*i+1)*1000, s.una+(2*i+2)*1000, &r)
		}
		for i := range 8 {
			s.MarkLost(2 * i)
		}
		for i := s.NextLost(); i >= 0; i = s.NextLost() {
			s.tx++
			x := s.Retransmit(i)
			x.State.TxSeq = s.tx
			s.Sent(x)
		}
		for range 16 {
			s.send()
		}
		s.ack(16000, &r, &lost)
	}
	for range 2 * n {
		round()
	}
	lost = make(lossLog, 0, 1<<20)
	if a := testing.AllocsPerRun(1000, round); a != 0 {
		t.Errorf("a round allocates %v times", a)
	}
}

func sackQuietly(q *Queue, lo, hi seq.Num, r *RACK) {
	w := q.Sack(lo, hi, 1000)
	for x, was := w.Next(); x != nil; x, was = w.Next() {
		r.Delivered(x, was, 1, 1, 0)
	}
}

// BenchmarkQueueACK is the cost of an ACK of two segments with 100,000 in flight.
func BenchmarkQueueACK(b *testing.B) {
	var lost lossLog
	s, r := newSteady(100_000, 1), RACK{}
	b.ReportAllocs()
	for b.Loop() {
		s.send()
		s.send()
		s.ack(2000, &r, &lost)
	}
}

// BenchmarkQueueACKCutsRecord is the same where the ACKs cut the oldest of records of 40 segments.
func BenchmarkQueueACKCutsRecord(b *testing.B) {
	var lost lossLog
	s, r := newSteady(100_000, 40), RACK{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%20 == 0 {
			s.send()
		}
		s.ack(2000, &r, &lost)
	}
}

// BenchmarkQueueSACK is the cost of an ACK with three blocks while every second of 100,000 segments is missing, so that 50,000 ranges are SACKed.
func BenchmarkQueueSACK(b *testing.B) {
	const n = 100_000
	var q *Queue
	var r RACK
	next := seq.Num(n)
	b.ReportAllocs()
	for b.Loop() {
		if next >= n {
			b.StopTimer()
			q, r, next = fill(0, n, 1, 1000), RACK{}, 1
			b.StartTimer()
		}
		for i := range seq.Num(3) { // the newest block and two that are known
			if p := next - 2*i; p < n {
				sackQuietly(q, p*1000, (p+1)*1000, &r)
			}
		}
		q.LossEdge(DupThresh, 1000)
		next += 2
	}
}
