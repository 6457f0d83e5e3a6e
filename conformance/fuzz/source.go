package fuzz

import "math/rand/v2"

// Source makes the choices of the generator.
type Source interface {
	// IntN returns a number from 0 to n-1.
	IntN(n int) int
	// More reports whether there is anything left to choose from.
	More() bool
}

// seeded is a Source from a seed.
type seeded struct{ *rand.Rand }

// Seeded returns a Source that depends on nothing but two numbers, and never ends.
func Seeded(seed, n uint64) Source { return seeded{rand.New(rand.NewPCG(seed, n))} }

// More implements Source.
func (seeded) More() bool { return true }

// octets is a Source from given octets, as a fuzzer makes them. It yields zeros when
// they are used up.
type octets struct{ b []byte }

// Octets returns a Source that takes its choices from b, so that a fuzzer which
// changes b changes the choices.
func Octets(b []byte) Source { return &octets{b} }

// IntN implements Source. Small ranges take one octet, others three.
func (o *octets) IntN(n int) int {
	v, take := 0, 1
	if n > 256 {
		take = 3
	}
	for range take {
		v <<= 8
		if len(o.b) > 0 {
			v |= int(o.b[0])
			o.b = o.b[1:]
		}
	}
	return v % n
}

// More implements Source.
func (o *octets) More() bool { return len(o.b) > 0 }

// chance reports true once in n times.
func chance(s Source, n int) bool { return s.IntN(n) == n-1 }

// pick returns one of several.
func pick[T any](s Source, of ...T) T { return of[s.IntN(len(of))] }

// weighted is a choice with a weight.
type weighted[T any] struct {
	weight int
	value  T
}

// choose returns one of several by their weights.
func choose[T any](s Source, of []weighted[T]) T {
	total := 0
	for _, w := range of {
		total += w.weight
	}
	n := s.IntN(total)
	for _, w := range of {
		if n < w.weight {
			return w.value
		}
		n -= w.weight
	}
	return of[len(of)-1].value
}
