package pathmodel

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// TestRoundMax compares with all values kept.
func TestRoundMax(t *testing.T) {
	type sample struct{ v, round uint64 }
	r := rand.New(rand.NewPCG(1, 1))
	var f RoundMax
	var all []sample
	round := uint64(0)
	for range 20000 {
		switch r.IntN(6) {
		case 0:
			round++
		case 1:
			round += r.Uint64N(15)
		}
		v := r.Uint64N(1000)
		all = append(all, sample{v, round})
		length := []uint64{1, MaxRounds}[r.IntN(2)]
		want := uint64(0)
		for i := len(all) - 1; i >= 0 && all[i].round+length > round; i-- {
			want = max(want, all[i].v)
		}
		if got := f.Update(v, round, length); got != want {
			t.Fatalf("round %d, length %d: %d, want %d", round, length, got, want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	if v := Volume(1_250_000, 40*time.Millisecond); v != 50_000 {
		t.Errorf("10 Mbit/s for 40 ms are %d bytes", v)
	}
	if v := Volume(congestion.MaxRate, time.Hour); v != congestion.MaxWindow {
		t.Errorf("no limit for an hour is %d", v)
	}
	if v := Volume(1000, -time.Second); v != 0 {
		t.Errorf("negative time gives %d", v)
	}
	if v := Percent(math.MaxUint64, 200); v != congestion.MaxWindow {
		t.Errorf("overflow of a percentage gives %d", v)
	}
	if v := MulDiv(math.MaxUint64, 3, 6); v != congestion.MaxWindow {
		t.Errorf("overflow of a quotient gives %d", v)
	}
	if v := MulDiv(1<<61, 12, 24); v != 1<<60 {
		t.Errorf("2^61·12/24 is %d", v)
	}
}

// TestQuiet checks that the samples of packets sent in a marked period are marked, and no others.
func TestQuiet(t *testing.T) {
	var q Quiet
	if q.Has(0) {
		t.Error("without a mark a packet is marked")
	}
	q.Mark(5000, 3000)
	q.Mark(6000, 2500) // until 8500
	for _, c := range []struct {
		prior uint64
		want  bool
	}{{4999, false}, {5000, true}, {8500, true}, {8501, false}, {8500, false}} {
		if got := q.Has(c.prior); got != c.want {
			t.Errorf("a packet that left at %d: %v, want %v", c.prior, got, c.want)
		}
	}
}
