// Package seq is arithmetic on TCP sequence numbers, modulo 2**32 (RFC 9293 §3.4).
package seq

// Num is a sequence number.
type Num uint32

// Less reports s < o: o lies less than 2**31 ahead of s.
func (s Num) Less(o Num) bool { return int32(s-o) < 0 }

// Leq reports s =< o.
func (s Num) Leq(o Num) bool { return int32(s-o) <= 0 }

// Add returns the number n octets after s.
func (s Num) Add(n int) Num { return s + Num(uint32(n)) }

// Sub returns the octets from o to s, negative if s is before o.
func (s Num) Sub(o Num) int { return int(int32(s - o)) }

// In reports a =< s < b.
func (s Num) In(a, b Num) bool { return uint32(s-a) < uint32(b-a) }

// Max returns the later of a and b.
func Max(a, b Num) Num {
	if a.Less(b) {
		return b
	}
	return a
}

// Min returns the earlier of a and b.
func Min(a, b Num) Num {
	if a.Less(b) {
		return a
	}
	return b
}
