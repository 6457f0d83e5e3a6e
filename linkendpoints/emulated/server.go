package emulated

import (
	"math/bits"
	"time"
)

// bitNanoseconds is the work of one byte at one bit a second, in bits times nanoseconds a second.
const bitNanoseconds = 8 * uint64(time.Second)

// server serialises one packet after the other at a rate or by a trace.
type server struct {
	rate  uint64 // bits per second
	trace *cursor
	// departs is when the packet in service has left, rounded down, and carry what is left of its last nanosecond, in bits times nanoseconds a second. The next
	// packet starts with it, so that a packet more in a busy period takes exactly its time in the long run.
	departs time.Duration
	carry   uint64
	// down stops the server. left then is the work left of the packet in service.
	down bool
	left workload
}

// workload is an amount of work in bits times nanoseconds a second, in 128 bits: a packet that takes days at a low rate exceeds 64.
type workload struct{ hi, lo uint64 }

func newServer(l *Link) server {
	s := server{rate: uint64(l.Rate)}
	if l.Trace != nil {
		s.trace = &cursor{trace: l.Trace}
	}
	return s
}

// idle says that there is nothing to serve: the next packet starts at a full nanosecond.
func (s *server) idle() { s.carry = 0 }

// start begins to serve size bytes at t.
func (s *server) start(t time.Duration, size int) {
	if s.trace != nil {
		s.departs = s.trace.serve(t, size+traceOverhead)
		return
	}
	work := uint64(size)*bitNanoseconds + s.carry
	s.departs = t + time.Duration(work/s.rate)
	s.carry = work % s.rate
}

// change puts a step into force at now. A packet that is being served goes on with what is left of it.
func (s *server) change(now time.Duration, step Step, busy bool) {
	if s.trace != nil {
		// A trace knows its own times; only packets that have not begun wait.
		s.down = step.Down
		return
	}
	if busy && !s.down {
		hi, lo := bits.Mul64(uint64(s.departs-now), s.rate)
		lo, c := bits.Add64(lo, s.carry, 0)
		s.left = workload{hi + c, lo}
	}
	s.down = step.Down
	if step.Rate != 0 {
		s.rate = uint64(step.Rate)
	}
	if !busy {
		s.carry = 0
		return
	}
	if s.down {
		s.departs = maxTime
		return
	}
	if s.left.hi >= s.rate {
		s.departs, s.carry = maxTime, 0 // In centuries.
		return
	}
	d, rem := bits.Div64(s.left.hi, s.left.lo, s.rate)
	s.departs, s.carry = maxTime, 0
	if d < uint64(maxTime-now) {
		s.departs, s.carry = now+time.Duration(d), rem
	}
}

// maxTime stands for "never". It leaves room to add delays to.
const maxTime = time.Duration(1) << 62

// bucket is a policer at work. Tokens are in bits times nanoseconds a second, so that nothing is lost to rounding.
type bucket struct {
	rate, tokens, full uint64
	last               time.Duration
}

func newBucket(p *Policer) *bucket {
	full := uint64(p.Burst) * bitNanoseconds
	return &bucket{rate: uint64(p.Rate), tokens: full, full: full}
}

// take takes tokens for size bytes, and reports false if there are too few.
func (b *bucket) take(now time.Duration, size int32) bool {
	hi, lo := bits.Mul64(uint64(now-b.last), b.rate)
	b.last = now
	sum, carry := bits.Add64(b.tokens, lo, 0)
	if hi > 0 || carry > 0 || sum > b.full {
		sum = b.full
	}
	b.tokens = sum
	cost := uint64(size) * bitNanoseconds
	if b.tokens < cost {
		return false
	}
	b.tokens -= cost
	return true
}
