package seeded_test

import (
	"io"
	"slices"
	"testing"

	"github.com/plumbline/plumbline/internal/seeded"
)

func bytesOf(t *testing.T, seed uint64) []byte {
	t.Helper()
	b := make([]byte, 64)
	if _, err := io.ReadFull(seeded.Reader(seed), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func numbersOf(seed uint64) []int64 {
	s := seeded.Source(seed)
	out := make([]int64, 8)
	for i := range out {
		out[i] = s.Int63()
	}
	return out
}

func TestSeedDeterminesAll(t *testing.T) {
	// The last two differ only in the highest bits.
	seeds := []uint64{0, 1, 2, 1 << 40, 1 << 63}
	for i, a := range seeds {
		for j, b := range seeds {
			if same := slices.Equal(bytesOf(t, a), bytesOf(t, b)); same != (i == j) {
				t.Errorf("bytes of seeds %#x and %#x are equal: %v", a, b, same)
			}
		}
		if !slices.Equal(numbersOf(a), numbersOf(a)) {
			t.Errorf("numbers of seed %#x do not repeat", a)
		}
	}
	if slices.Equal(numbersOf(1), numbersOf(2)) {
		t.Error("seeds 1 and 2 give the same numbers")
	}
	s := seeded.Source(1)
	first := s.Int63()
	s.Seed(1)
	if again := s.Int63(); again != first {
		t.Errorf("after Seed(1) again: %d, want %d", again, first)
	}
}
