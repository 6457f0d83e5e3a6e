package cubic

import (
	"math"
	"testing"
)

func TestCbrt(t *testing.T) {
	for x := 1e-12; x < 1e30; x *= 1.7 {
		if got, want := cbrt(x), math.Cbrt(x); math.Abs(got/want-1) > 1e-15 {
			t.Errorf("cbrt(%g) = %.17g, want %.17g", x, got, want)
		}
	}
	if cbrt(0) != 0 || cbrt(-1) != 0 || cbrt(8) != 2 || cbrt(27) != 3 {
		t.Error("the cube roots of 0, -1, 8 and 27")
	}
}

func TestPercent(t *testing.T) {
	for _, n := range []uint64{0, 1, 99, 100, 833_000, 1 << 62} {
		if got, want := percent(n, 70), uint64(float64(n)*0.7); n < 1<<50 && got != want && got != want+1 {
			t.Errorf("70 %% of %d is %d, want %d", n, got, want)
		}
	}
}
