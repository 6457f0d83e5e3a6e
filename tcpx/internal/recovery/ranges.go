package recovery

import (
	"slices"
	"sort"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// span is the sequence numbers from lo up to, not including, hi.
type span struct{ lo, hi seq.Num }

// ranges is a sorted list of disjoint spans that do not touch: what the peer has SACKed, what was retransmitted. What is dropped at the front is made room of
// now and then only, so that a list of any length costs O(1) for each ACK that moves past its first span.
type ranges struct {
	all  []span
	head int
}

// spans returns the list. It is valid until the next change.
func (r *ranges) spans() []span { return r.all[r.head:] }

// empty reports whether nothing is in r.
func (r *ranges) empty() bool { return r.head == len(r.all) }

// clear forgets everything and keeps the memory.
func (r *ranges) clear() { r.all, r.head = r.all[:0], 0 }

// index returns the first of the spans whose end lies after s.
func (r *ranges) index(s seq.Num) int {
	l := r.spans()
	return sort.Search(len(l), func(i int) bool { return s.Less(l[i].hi) })
}

// overlaps reports whether any of [lo, hi) is in r.
func (r *ranges) overlaps(lo, hi seq.Num) bool {
	l := r.spans()
	i := r.index(lo)
	return i < len(l) && l[i].lo.Less(hi)
}

// add enters [lo, hi), merging with what it touches.
func (r *ranges) add(lo, hi seq.Num) {
	l := r.spans()
	i := sort.Search(len(l), func(i int) bool { return lo.Leq(l[i].hi) })
	j := i
	for j < len(l) && l[j].lo.Leq(hi) {
		lo, hi = seq.Min(lo, l[j].lo), seq.Max(hi, l[j].hi)
		j++
	}
	switch {
	case i < j:
		l[i] = span{lo, hi}
		r.all = slices.Delete(r.all, r.head+i+1, r.head+j)
	case i == 0 && r.head > 0:
		r.head--
		r.all[r.head] = span{lo, hi}
	default:
		r.all = slices.Insert(r.all, r.head+i, span{lo, hi})
	}
}

// remove takes [lo, hi) out.
func (r *ranges) remove(lo, hi seq.Num) {
	l := r.spans()
	i := r.index(lo)
	if i == len(l) || hi.Leq(l[i].lo) {
		return
	}
	if l[i].lo.Less(lo) {
		if hi.Less(l[i].hi) {
			tail := span{hi, l[i].hi}
			l[i].hi = lo
			r.all = slices.Insert(r.all, r.head+i+1, tail)
			return
		}
		l[i].hi = lo
		i++
	}
	j := i
	for j < len(l) && l[j].hi.Leq(hi) {
		j++
	}
	if j < len(l) && l[j].lo.Less(hi) {
		l[j].lo = hi
	}
	r.all = slices.Delete(r.all, r.head+i, r.head+j)
}

// trim removes everything before una.
func (r *ranges) trim(una seq.Num) {
	if l := r.spans(); len(l) == 0 || una.Leq(l[0].lo) {
		return
	}
	r.head += r.index(una)
	if l := r.spans(); len(l) > 0 && l[0].lo.Less(una) {
		l[0].lo = una
	}
	if r.head > len(r.all)/2 {
		r.all, r.head = slices.Delete(r.all, 0, r.head), 0
	}
}
