// Package pathmodel has what the versions of BBR build their models of a path from: exact arithmetic on integers that saturates, a maximum over rounds, and the mark of
// samples that say nothing of the path.
package pathmodel

import (
	"math/bits"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Volume returns what bw bytes per second carry in d, at most congestion.MaxWindow.
func Volume(bw uint64, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(bw, uint64(d))
	if hi == 0 {
		return lo / uint64(time.Second) // by a constant, which costs no division
	}
	return div(hi, lo, uint64(time.Second))
}

// Percent returns p percent of n, at most congestion.MaxWindow.
func Percent(n, p uint64) uint64 {
	hi, lo := bits.Mul64(n, p)
	if hi == 0 {
		return min(lo/100, congestion.MaxWindow)
	}
	return div(hi, lo, 100)
}

// MulDiv returns a·b/c, at most congestion.MaxWindow. c is not 0.
func MulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return div(hi, lo, c)
}

// div returns the quotient of a double-width number, at most congestion.MaxWindow.
func div(hi, lo, c uint64) uint64 {
	if hi >= c {
		return congestion.MaxWindow
	}
	q, _ := bits.Div64(hi, lo, c)
	return min(q, congestion.MaxWindow)
}
