package recovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// model is Queue and RACK without a trick: a slice of records, and every answer by looking at all of them.
type model struct {
	recs []Segment
	mss  uint32
	rack struct {
		txSeq uint64
		rtt   time.Duration
		valid bool
	}
}

// chop cuts record i after n octets.
func (m *model) chop(i int, n uint32) {
	a, b := m.recs[i], m.recs[i]
	a.Len, b.Seq, b.Len = n, b.Seq+seq.Num(n), b.Len-n
	a.Flags &^= Fin
	m.recs = slices.Insert(m.recs, i+1, b)
	m.recs[i] = a
}

// sack marks every wire segment that [lo, hi) covers: the pieces of mss octets, counted from each record's start, and the rest.
func (m *model) sack(lo, hi seq.Num) (newly []seq.Num) {
	for i := 0; i < len(m.recs); i++ {
		s := m.recs[i]
		if s.Flags&Sacked != 0 || hi.Leq(s.Seq) || s.End().Leq(lo) {
			continue
		}
		first, last := s.End(), s.Seq // of what is covered
		pieces := 0
		for p := s.Seq; p.Less(s.End()); p += seq.Num(m.mss) {
			end := seq.Min(p+seq.Num(m.mss), s.End())
			if s.Segs <= 1 {
				end = s.End()
			}
			if lo.Leq(p) && end.Leq(hi) {
				first, last = seq.Min(first, p), end
				pieces++
			}
			if s.Segs <= 1 {
				break
			}
		}
		if pieces == 0 {
			continue
		}
		if first != s.Seq {
			m.chop(i, uint32(first.Sub(s.Seq)))
			m.fixSegs(i, i+1)
			i++
		}
		if last != m.recs[i].End() {
			m.chop(i, uint32(last.Sub(m.recs[i].Seq)))
			m.fixSegs(i, i+1)
		}
		m.recs[i].Flags = m.recs[i].Flags&^(Lost|Retrans) | Sacked
		newly = append(newly, m.recs[i].Seq)
	}
	return newly
}

// fixSegs shares the wire segments of a record that was cut between its parts.
func (m *model) fixSegs(a, b int) {
	whole := m.recs[a].Segs
	m.recs[a].Segs = uint16(min((m.recs[a].Len+m.mss-1)/m.mss, uint32(whole)))
	m.recs[b].Segs = max(whole-m.recs[a].Segs, 1)
}

func (m *model) ack(una seq.Num) {
	for len(m.recs) > 0 && m.recs[0].Seq.Less(una) {
		if una.Less(m.recs[0].End()) {
			m.chop(0, uint32(una.Sub(m.recs[0].Seq)))
			m.fixSegs(0, 1)
		}
		m.recs = m.recs[1:]
	}
}

func (m *model) bytes(f func(Flags) bool) (n uint64) {
	for _, s := range m.recs {
		if f(s.Flags) {
			n += uint64(s.Len)
		}
	}
	return n
}

func (m *model) inFlight() uint64 {
	return m.bytes(func(f Flags) bool { return f&(Sacked|Lost) == 0 }) + m.bytes(func(f Flags) bool { return f&Retrans != 0 })
}

// due is the index of the first record to be retransmitted, -1 if none.
func (m *model) due() int {
	return slices.IndexFunc(m.recs, func(s Segment) bool { return s.Flags&(Lost|Retrans) == Lost })
}

// edge is RFC 6675's IsLost: the highest octet below which all that is not SACKed is lost.
func (m *model) edge() (seq.Num, bool) {
	bytes, ranges, end := uint64(0), 0, seq.Num(0)
	for i := len(m.recs) - 1; i >= 0; i-- {
		s := m.recs[i]
		if s.Flags&Sacked == 0 {
			continue
		}
		if ranges == 0 || s.End() != end {
			ranges++
		}
		bytes += uint64(s.Len)
		end = s.Seq
		first := i == 0 || m.recs[i-1].Flags&Sacked == 0
		if first && (ranges >= DupThresh || bytes > uint64(DupThresh-1)*uint64(m.mss)) {
			return s.Seq, true
		}
	}
	return 0, false
}

// detect is RACK_detect_loss of RFC 8985 §6.2 step 5 to the letter, but for the answer: the shortest remaining time, not the longest.
func (m *model) detect(now congestion.Time, wnd time.Duration) (lost []seq.Num, left time.Duration) {
	for i := range m.recs {
		s := &m.recs[i]
		if !m.rack.valid || s.Flags&Sacked != 0 || s.Flags&(Lost|Retrans) == Lost || s.State.TxSeq >= m.rack.txSeq {
			continue
		}
		remaining := s.State.SentTime + m.rack.rtt + wnd - now
		if remaining <= 0 {
			s.Flags = s.Flags&^Retrans | Lost
			lost = append(lost, s.Seq)
		} else if left == 0 || remaining < left {
			left = remaining
		}
	}
	return lost, left
}

// lossLog collects what DetectLoss reports.
type lossLog []seq.Num

func (l *lossLog) SegmentLost(s *Segment) { *l = append(*l, s.Seq) }

// bench plays the same operations on a Queue and on its model.
type bench struct {
	q     Queue
	m     model
	r     RACK
	start seq.Num
	nxt   seq.Num
	now   congestion.Time
	tx    uint64
}

func newBench(start seq.Num, mss uint32) *bench {
	b := &bench{start: start, nxt: start, now: 1}
	b.q.Ordered = true
	b.m.mss = mss
	return b
}

// sent stamps a transmission on both sides.
func (b *bench) sent(s, m *Segment) {
	b.tx++
	s.State.SentTime, s.State.TxSeq, s.State.Size = b.now, b.tx, s.Len
	m.State = s.State
	b.q.Sent(s)
}

func (b *bench) push(n uint32, fl Flags) {
	segs := uint16((n + b.m.mss - 1) / b.m.mss)
	b.m.recs = append(b.m.recs, Segment{Seq: b.nxt, Len: n, Segs: segs, Flags: fl})
	b.sent(b.q.Push(b.nxt, n, segs, fl), &b.m.recs[len(b.m.recs)-1])
	b.nxt += seq.Num(n)
}

func (b *bench) una() seq.Num {
	if len(b.m.recs) == 0 {
		return b.nxt
	}
	return b.m.recs[0].Seq
}

func (b *bench) delivered(s *Segment, was Flags) {
	b.r.Delivered(s, was, b.now, 0, 0)
	if !b.m.rack.valid || s.State.TxSeq > b.m.rack.txSeq {
		b.m.rack.valid, b.m.rack.txSeq, b.m.rack.rtt = true, s.State.TxSeq, b.now-s.State.SentTime
	}
}

// step does one operation: what op says with the arguments x and y.
func (b *bench) step(op, x, y byte) error {
	mss, una := b.m.mss, b.una()
	at := func(x byte) seq.Num { // an octet of the queue, mostly at a segment's border
		n := int(b.nxt.Sub(una))
		if x&1 == 0 {
			return una.Add(n * int(x) / 256 / int(mss) * int(mss))
		}
		return una.Add(n * int(x) / 255)
	}
	switch op % 12 {
	case 0, 1:
		if b.nxt.Sub(b.una()) < 1<<20 {
			b.push(uint32(x)%8*mss+uint32(y)%mss+1, 0)
		}
	case 2:
		b.now += time.Duration(x) * time.Duration(y)
	case 3, 4, 5:
		lo, hi := at(x), at(y)
		if !lo.Less(hi) {
			return nil
		}
		want := b.m.sack(lo, hi)
		var got []seq.Num
		w := b.q.Sack(lo, hi, mss)
		for s, was := w.Next(); s != nil; s, was = w.Next() {
			got = append(got, s.Seq)
			b.delivered(s, was)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("SACK of [%d, %d) newly covers %v, want %v", lo, hi, got, want)
		}
	case 6:
		to := at(x)
		b.m.ack(to)
		for s, was := b.q.PopAcked(to, mss); s != nil; s, was = b.q.PopAcked(to, mss) {
			if was&Sacked == 0 {
				b.delivered(s, was)
			}
		}
		if b.q.Len() == 0 {
			b.q.Shrink()
		}
	case 7:
		if n := len(b.m.recs); n > 0 {
			i := n * int(x) / 256
			s := &b.m.recs[i]
			changed := s.Flags&Sacked == 0 && s.Flags&(Lost|Retrans) != Lost
			if changed {
				s.Flags = s.Flags&^Retrans | Lost
			}
			if got := b.q.MarkLost(i); got != changed {
				return fmt.Errorf("MarkLost(%d) is %v", i, got)
			}
		}
	case 8, 9:
		i := b.q.NextLost()
		if want := b.m.due(); i != want {
			return fmt.Errorf("NextLost is %d, want %d", i, want)
		}
		if i < 0 {
			return nil
		}
		if n := uint32(x)%4*mss + 1; b.m.recs[i].Len > n {
			b.m.chop(i, n)
			b.m.fixSegs(i, i+1)
			b.q.SplitFront(i, n, mss)
		}
		b.m.recs[i].Flags |= Retrans | EverRetrans
		b.sent(b.q.Retransmit(i), &b.m.recs[i])
	case 10:
		wnd := time.Duration(x)
		want, wantLeft := b.m.detect(b.now, wnd)
		var got lossLog
		left := b.r.DetectLoss(&b.q, b.now, wnd, &got)
		slices.Sort(got) // RACK reports in the order of transmission
		slices.Sort(want)
		if !slices.Equal(got, lossLog(want)) || left != wantLeft {
			return fmt.Errorf("RACK finds %v lost and waits %v, want %v and %v", got, left, want, wantLeft)
		}
	case 11:
		switch {
		case x < 16:
			for i := range b.m.recs {
				b.m.recs[i].Flags &^= Sacked
			}
			b.q.Renege()
		case x < 64:
			for i := range b.m.recs {
				b.m.recs[i].Flags &^= Lost | Retrans
			}
			b.q.ClearLost()
		}
	}
	return b.compare()
}

// compare checks every record and every sum.
func (b *bench) compare() error {
	if err := b.q.Verify(); err != nil {
		return err
	}
	if b.q.Len() != len(b.m.recs) {
		return fmt.Errorf("%d records, want %d", b.q.Len(), len(b.m.recs))
	}
	for i, want := range b.m.recs {
		got := *b.q.At(i)
		if got.State.Size != got.Len {
			return fmt.Errorf("record %d has %d octets, the sampler knows %d", i, got.Len, got.State.Size)
		}
		got.State.Size = want.State.Size
		if got != want {
			return fmt.Errorf("record %d is %+v, want %+v", i, got, want)
		}
	}
	if got, want := b.q.InFlight(), b.m.inFlight(); got != want {
		return fmt.Errorf("%d bytes in flight, want %d", got, want)
	}
	edge, ok := b.q.LossEdge(DupThresh, b.m.mss)
	if wantEdge, wantOK := b.m.edge(); edge != wantEdge || ok != wantOK {
		return fmt.Errorf("LossEdge is %d %v, want %d %v", edge, ok, wantEdge, wantOK)
	}
	last := -1
	for i, s := range b.m.recs {
		if s.Flags&Sacked == 0 {
			last = i
		}
	}
	if got := b.q.LastUnsacked(); got != last {
		return fmt.Errorf("LastUnsacked is %d, want %d", got, last)
	}
	return b.compareHoles()
}

func (b *bench) compareHoles() error {
	high := -1
	for i, s := range b.m.recs {
		if s.Flags&Sacked != 0 {
			high = i
		}
	}
	want := -1
	for i := high - 1; i >= 0; i-- {
		if b.m.recs[i].Flags&(Sacked|Retrans) == 0 {
			want = i
		}
	}
	if got := b.q.NextHole(b.una()); got != want {
		return fmt.Errorf("NextHole is %d, want %d", got, want)
	}
	return nil
}

// TestQueueAgainstModel plays random operations.
func TestQueueAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := newBench(seq.Num(rng.Uint32N(1<<16)-1<<15), []uint32{1, 10, 1000}[seed%3])
		for n := range 400 {
			op, x, y := byte(rng.UintN(12)), byte(rng.UintN(256)), byte(rng.UintN(256))
			if err := b.step(op, x, y); err != nil {
				t.Fatalf("seed %d, step %d (%d %d %d): %v", seed, n, op, x, y, err)
			}
		}
	}
}

// FuzzQueue searches for operations after which Queue and RACK differ from the model.
func FuzzQueue(f *testing.F) {
	f.Add(uint32(1<<32-2000), []byte{0, 7, 1, 0, 7, 1, 3, 64, 128, 10, 0, 0, 8, 1, 0, 6, 100, 0})
	f.Add(uint32(5), []byte{0, 3, 0, 2, 9, 9, 0, 3, 0, 7, 0, 0, 8, 0, 0, 3, 128, 255, 10, 1, 0, 11, 20, 0, 10, 0, 0})
	f.Add(uint32(0), []byte{0, 7, 9, 3, 100, 200, 11, 1, 0, 6, 51, 0, 3, 2, 254, 7, 0, 0, 6, 255, 0})
	f.Fuzz(func(t *testing.T, start uint32, ops []byte) {
		b := newBench(seq.Num(start), 10)
		for ops = ops[:min(len(ops), 900)]; len(ops) >= 3; ops = ops[3:] {
			if err := b.step(ops[0], ops[1], ops[2]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
