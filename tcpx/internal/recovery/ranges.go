package recovery

import (
	"slices"
	"sort"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// span is the sequence numbers from lo up to, not including, hi.
type span struct{ lo, hi seq.Num }

// ranges is a sorted list of disjoint spans that do not touch: what the peer has SACKed.
type ranges []span

// index returns the first span whose end lies after s.
func (r ranges) index(s seq.Num) int {
	return sort.Search(len(r), func(i int) bool { return s.Less(r[i].hi) })
}

// add enters [lo, hi), merging with what it touches.
func (r *ranges) add(lo, hi seq.Num) {
	i := sort.Search(len(*r), func(i int) bool { return lo.Leq((*r)[i].hi) })
	j := i
	for j < len(*r) && (*r)[j].lo.Leq(hi) {
		lo, hi = seq.Min(lo, (*r)[j].lo), seq.Max(hi, (*r)[j].hi)
		j++
	}
	if i == j {
		*r = slices.Insert(*r, i, span{lo, hi})
		return
	}
	(*r)[i] = span{lo, hi}
	*r = slices.Delete(*r, i+1, j)
}

// trim removes everything before una.
func (r *ranges) trim(una seq.Num) {
	if len(*r) == 0 || una.Leq((*r)[0].lo) {
		return
	}
	i := r.index(una)
	*r = slices.Delete(*r, 0, i)
	if len(*r) > 0 && (*r)[0].lo.Less(una) {
		(*r)[0].lo = una
	}
}
