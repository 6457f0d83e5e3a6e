package recovery

import "fmt"

// Verify recomputes every count from the records and compares. It is for tests and fuzzing; it costs O(records).
func (q *Queue) Verify() error {
	var want counts
	firstDue := -1
	for i := range q.n {
		s := q.At(i)
		switch {
		case s.Len == 0 || s.Segs == 0:
			return fmt.Errorf("record %d at %d is empty", i, s.Seq)
		case i > 0 && q.At(i-1).End() != s.Seq:
			return fmt.Errorf("record %d starts at %d, the one before ends at %d", i, s.Seq, q.At(i-1).End())
		case s.Flags&Sacked != 0 && s.Flags&(Lost|Retrans) != 0:
			return fmt.Errorf("record %d is SACKed and lost: flags %b", i, s.Flags)
		case s.Flags&Sacked != 0 != q.sacked.overlaps(s.Seq, s.End()):
			return fmt.Errorf("record %d from %d to %d has flags %b, the ranges are %v", i, s.Seq, s.End(), s.Flags, q.sacked.spans())
		}
		want.add(s, 1)
		if firstDue < 0 && s.Flags&(Lost|Retrans) == Lost {
			firstDue = i
		}
	}
	var ranged uint64
	for i, s := range q.sacked.spans() {
		ranged += uint64(s.hi - s.lo)
		if i > 0 && !q.sacked.spans()[i-1].hi.Less(s.lo) {
			return fmt.Errorf("the ranges %v touch", q.sacked.spans())
		}
	}
	if ranged != want.sacked.bytes {
		return fmt.Errorf("the ranges hold %d bytes, the records %d", ranged, want.sacked.bytes)
	}
	if q.sum != want {
		return fmt.Errorf("the counts (out, SACKed, lost, retransmitted, due) are %v, want %v", q.sum, want)
	}
	if q.dupAcked.bytes > 0 && q.dupAcked.bytes >= q.sum.out.bytes {
		return fmt.Errorf("duplicate ACKs are worth %d of %d bytes", q.dupAcked.bytes, q.sum.out.bytes)
	}
	if got := q.NextLost(); got != firstDue {
		return fmt.Errorf("NextLost is %d, want %d", got, firstDue)
	}
	return q.verifyOrder()
}

// verifyOrder checks that RACK will visit every record that it may have to mark.
func (q *Queue) verifyOrder() error {
	if !q.Ordered {
		return nil
	}
	entered := make(map[uint64]bool)
	last := uint64(0)
	for i := range q.tx.n {
		t := q.tx.ring[(q.tx.head+i)&(len(q.tx.ring)-1)]
		if t.txSeq < last {
			return fmt.Errorf("transmission %d comes after %d", t.txSeq, last)
		}
		last = t.txSeq
		entered[t.txSeq] = true
	}
	for i := range q.n {
		s := q.At(i)
		if s.Flags&Sacked == 0 && s.Flags&(Lost|Retrans) != Lost && !entered[s.State.TxSeq] {
			return fmt.Errorf("record %d, transmission %d with flags %b, is not in the order of transmissions", i, s.State.TxSeq, s.Flags)
		}
	}
	return nil
}
