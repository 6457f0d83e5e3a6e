package recovery

import "fmt"

// Verify recomputes every count from the records and compares. It is for tests and fuzzing; it costs O(records).
func (q *Queue) Verify() error {
	var r Queue
	for i := range q.n {
		s := q.At(i)
		if s.Len == 0 {
			return fmt.Errorf("record %d at %d is empty", i, s.Seq)
		}
		if i > 0 && q.At(i-1).End() != s.Seq {
			return fmt.Errorf("record %d starts at %d, the one before ends at %d", i, s.Seq, q.At(i-1).End())
		}
		if s.Flags&Sacked != 0 && s.Flags&(Lost|Retrans) != 0 {
			return fmt.Errorf("record %d is SACKed and lost: flags %b", i, s.Flags)
		}
		r.out += uint64(s.Len)
		r.outSegs += uint32(s.Segs)
		if s.Flags&Sacked != 0 {
			r.sackedBytes += uint64(s.Len)
			r.sackedSegs += uint32(s.Segs)
			if j := q.sacked.index(s.Seq); j == len(q.sacked) || s.Seq.Less(q.sacked[j].lo) || q.sacked[j].hi.Less(s.End()) {
				return fmt.Errorf("record %d is SACKed but not in the ranges", i)
			}
		}
		if s.Flags&Lost != 0 {
			r.lost += uint64(s.Len)
			r.lostSegs += uint32(s.Segs)
		}
		if s.Flags&Retrans != 0 {
			r.retrans += uint64(s.Len)
			r.retransSegs += uint32(s.Segs)
		}
	}
	var ranged uint64
	for _, s := range q.sacked {
		ranged += uint64(s.hi - s.lo)
	}
	if ranged != r.sackedBytes {
		return fmt.Errorf("the ranges hold %d bytes, the records %d", ranged, r.sackedBytes)
	}
	got := [...]uint64{q.out, q.sackedBytes, q.lost, q.retrans, uint64(q.outSegs), uint64(q.sackedSegs), uint64(q.lostSegs), uint64(q.retransSegs)}
	want := [...]uint64{r.out, r.sackedBytes, r.lost, r.retrans, uint64(r.outSegs), uint64(r.sackedSegs), uint64(r.lostSegs), uint64(r.retransSegs)}
	if got != want {
		return fmt.Errorf("counts (bytes out, SACKed, lost, retransmitted, then segments) are %v, want %v", got, want)
	}
	return nil
}
