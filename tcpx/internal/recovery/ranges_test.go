package recovery

import (
	"math/rand/v2"
	"testing"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// TestRangesAgainstModel enters, removes and trims at random around the wrap of sequence numbers and compares with a set of octets.
func TestRangesAgainstModel(t *testing.T) {
	const size = 64
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		base := seq.Num(rng.Uint32N(size)) - size
		var r ranges
		var set [size]bool
		for range 200 {
			a, b := rng.IntN(size), rng.IntN(size+1)
			lo, hi := base.Add(min(a, b)), base.Add(max(a, b))
			switch op := rng.IntN(5); {
			case lo == hi:
			case op < 2:
				r.add(lo, hi)
				for i := min(a, b); i < max(a, b); i++ {
					set[i] = true
				}
			case op < 4:
				any := false
				for i := min(a, b); i < max(a, b); i++ {
					any = any || set[i]
					set[i] = false
				}
				if got := r.overlaps(lo, hi); got != any {
					t.Fatalf("seed %d: overlaps(%d, %d) is %v in %v", seed, lo, hi, got, r.spans())
				}
				r.remove(lo, hi)
			default:
				r.trim(lo)
				for i := range min(a, b) {
					set[i] = false
				}
			}
			check(t, &r, base, set[:])
		}
	}
}

func check(t *testing.T, r *ranges, base seq.Num, set []bool) {
	t.Helper()
	got := make([]bool, len(set))
	for i, s := range r.spans() {
		if !s.lo.Less(s.hi) || i > 0 && !r.spans()[i-1].hi.Less(s.lo) {
			t.Fatalf("spans %v are empty, touch or are out of order", r.spans())
		}
		for q := s.lo; q != s.hi; q++ {
			got[q.Sub(base)] = true
		}
	}
	for i := range set {
		if got[i] != set[i] {
			t.Fatalf("octet %d is in the ranges: %v, want %v (%v)", i, got[i], set[i], r.spans())
		}
	}
	if r.empty() != (len(r.spans()) == 0) {
		t.Fatal("empty is wrong")
	}
}
