package recovery

import "github.com/plumbline/plumbline/tcpx/internal/seq"

// SackWalk visits the records that a SACK block newly covers.
type SackWalk struct {
	q        *Queue
	i        int
	lo, hi   seq.Num
	mss      uint32
	covered  span
	anything bool
}

// Sack starts a walk over the records newly covered by the block [lo, hi), which the caller has clipped to SND.UNA and SND.NXT. A record of several wire
// segments is split at their borders; a wire segment that is covered in part stays unSACKed, so that a hostile peer cannot shred the queue.
func (q *Queue) Sack(lo, hi seq.Num, mss uint32) SackWalk {
	return SackWalk{q: q, i: q.find(lo), lo: lo, hi: hi, mss: mss}
}

// Next returns the next newly covered record, marked as Sacked and with its Lost and Retrans marks still set in was; nil at the end.
func (w *SackWalk) Next() (s *Segment, was Flags) {
	q := w.q
	for w.i < q.n {
		s := q.At(w.i)
		if w.hi.Leq(s.Seq) {
			break
		}
		if s.Flags&Sacked != 0 {
			w.i = q.skipSacked(w.i)
			continue
		}
		if !w.fit(s) {
			w.i++
			continue
		}
		s = q.At(w.i)
		w.i++
		was := s.Flags
		q.setFlags(s, s.Flags&^(Lost|Retrans)|Sacked)
		w.note(s)
		return s, was
	}
	w.flush()
	return nil, 0
}

// fit splits the record at w.i so that it lies within the block; false if no whole wire segment of it does.
func (w *SackWalk) fit(s *Segment) bool {
	before, n := uint32(0), s.Len
	if s.Seq.Less(w.lo) {
		before = (uint32(w.lo.Sub(s.Seq)) + w.mss - 1) / w.mss * w.mss
	}
	if w.hi.Less(s.End()) {
		n = uint32(w.hi.Sub(s.Seq)) / w.mss * w.mss
	}
	if before >= n || s.Segs <= 1 && (before > 0 || n < s.Len) {
		return false
	}
	if n < s.Len {
		w.q.split(w.i, n, w.mss)
	}
	if before > 0 {
		w.q.split(w.i, before, w.mss)
		w.i++
	}
	return true
}

func (w *SackWalk) note(s *Segment) {
	if w.anything && w.covered.hi == s.Seq {
		w.covered.hi = s.End()
		return
	}
	w.flush()
	w.covered, w.anything = span{s.Seq, s.End()}, true
}

func (w *SackWalk) flush() {
	if w.anything {
		w.q.sacked.add(w.covered.lo, w.covered.hi)
		w.anything = false
	}
}

// skipSacked returns the index of the first record after the SACKed range that record i lies in.
func (q *Queue) skipSacked(i int) int {
	s := q.At(i)
	l := q.sacked.spans()
	j := q.sacked.index(s.Seq)
	if j == len(l) || s.Seq.Less(l[j].lo) {
		return i + 1 // not entered yet: the walk that found it is still under way
	}
	return max(i+1, q.find(l[j].hi))
}

// HighestSacked returns the end of the highest SACKed range, ok if there is one.
func (q *Queue) HighestSacked() (end seq.Num, ok bool) {
	l := q.sacked.spans()
	if len(l) == 0 {
		return 0, false
	}
	return l[len(l)-1].hi, true
}

// LossEdge returns the sequence number below which RFC 6675's IsLost holds for whatever is not SACKed: more than (DupThresh-1)*SMSS octets, or DupThresh
// discontiguous ranges, are SACKed above it.
func (q *Queue) LossEdge(dupThresh int, mss uint32) (edge seq.Num, ok bool) {
	var bytes uint64
	l := q.sacked.spans()
	for i := len(l) - 1; i >= 0; i-- {
		r := l[i]
		bytes += uint64(r.hi - r.lo)
		if bytes > uint64(dupThresh-1)*uint64(mss) || len(l)-i >= dupThresh {
			return r.lo, true
		}
	}
	return 0, false
}

// Find returns the index of the record that holds s.
func (q *Queue) Find(s seq.Num) int { return q.find(s) }
