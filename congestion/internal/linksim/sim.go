// Package linksim is a small simulator in virtual time for tests of congestion control algorithms: flows over one bottleneck link, with a sender that is
// clocked by acknowledgments, detects losses by packet threshold and by a timer, and numbers each transmission anew, as QUIC does.
//
// It is exact where closed forms need it to be: serialisation carries fractions of a nanosecond, and nothing is random unless a test's function is.
package linksim

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Time is an instant of the simulation, which starts at 0.
type Time = congestion.Time

// Sim is one simulation.
type Sim struct {
	// Link is the bottleneck that all flows share.
	Link Link

	now    Time
	seq    uint64
	events eventHeap
	flows  []*Flow
}

// New returns a simulation of a link with a rate in bytes per second, 0 for infinite, and a buffer in bytes, 0 for unlimited. The packet on the wire takes no
// place in the buffer.
func New(rate, buffer uint64) *Sim {
	s := &Sim{}
	s.Link = Link{sim: s, rate: rate, buffer: buffer}
	return s
}

// Now returns the present instant.
func (s *Sim) Now() Time { return s.now }

// At calls f at the instant t.
func (s *Sim) At(t Time, f func()) { s.schedule(event{at: t, kind: callback, call: f}) }

// Run processes all events up to and including the instant until.
func (s *Sim) Run(until Time) {
	for len(s.events) > 0 && s.events[0].at <= until {
		e := s.events.pop()
		s.now = e.at
		switch e.kind {
		case departure:
			s.Link.depart()
		case ackArrival:
			e.flow.onAck(e.tx)
		case paceTimer:
			e.flow.onPaceTimer(e.tx)
		case lossTimer:
			e.flow.onLossTimer()
		case callback:
			e.call()
		}
	}
	s.now = max(s.now, until)
}

func (s *Sim) schedule(e event) {
	s.seq++
	e.seq = s.seq
	s.events.push(e)
}

type eventKind uint8

const (
	departure eventKind = iota
	ackArrival
	paceTimer
	lossTimer
	callback
)

// event is one entry of the queue. Events of one instant happen in the order in which they were scheduled.
type event struct {
	at   Time
	seq  uint64
	flow *Flow
	call func()
	tx   uint64
	kind eventKind
}

func (e *event) before(o *event) bool { return e.at < o.at || (e.at == o.at && e.seq < o.seq) }

// eventHeap is a binary heap, earliest first.
type eventHeap []event

func (h *eventHeap) push(e event) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q[i].before(&q[parent]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
}

func (h *eventHeap) pop() event {
	q := *h
	top := q[0]
	last := len(q) - 1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	*h = q
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if r := child + 1; r < last && q[r].before(&q[child]) {
			child = r
		}
		if !q[child].before(&q[i]) {
			return top
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// Link is a serialising link with a drop-tail queue.
type Link struct {
	// Police, if set, may drop a packet of size bytes before it is queued, as a token bucket policer does.
	Police func(now Time, size uint64) bool
	// Release, if set, returns when a packet that left the link at the instant t reaches the receiver's side, as an aggregating link layer does; not before t.
	Release func(t Time) Time

	sim          *Sim
	rate, buffer uint64
	rem          uint64 // of the last serialisation, in 1/rate ns
	queue        []queued
	head         int
	waiting      uint64 // bytes in the queue, without the packet on the wire
	delivered    uint64
	dropped      uint64
	maxWaiting   uint64
	area         float64 // integral of waiting bytes over seconds
	areaAt       Time
}

type queued struct {
	flow *Flow
	tx   uint64
	size uint64
}

// SetRate changes the rate, in bytes per second, from the next packet on.
func (l *Link) SetRate(rate uint64) { l.rate, l.rem = rate, 0 }

// Waiting returns the bytes in the queue.
func (l *Link) Waiting() uint64 { return l.waiting }

// MaxWaiting returns the largest number of bytes in the queue since the last call.
func (l *Link) MaxWaiting() uint64 {
	m := l.maxWaiting
	l.maxWaiting = l.waiting
	return m
}

// Delivered returns the bytes that left the link so far, Dropped those that found no place.
func (l *Link) Delivered() uint64 { return l.delivered }

// Dropped returns the bytes that found no place in the queue or were policed.
func (l *Link) Dropped() uint64 { return l.dropped }

// MeanWaiting returns the mean number of bytes in the queue since the last call.
func (l *Link) MeanWaiting(since Time) float64 {
	l.account()
	mean := l.area / float64(max(l.sim.now-since, 1)) * float64(time.Second)
	l.area = 0
	return mean
}

func (l *Link) account() {
	l.area += float64(l.waiting) * (l.sim.now - l.areaAt).Seconds()
	l.areaAt = l.sim.now
}

// enqueue accepts a packet or drops it.
func (l *Link) enqueue(f *Flow, tx, size uint64) {
	if l.Police != nil && l.Police(l.sim.now, size) {
		l.dropped += size
		return
	}
	if l.rate == 0 {
		l.delivered += size
		l.sim.schedule(event{at: l.released(l.sim.now) + f.cfg.RTT, kind: ackArrival, flow: f, tx: tx})
		return
	}
	if idle := l.head == len(l.queue); !idle {
		if l.buffer != 0 && l.waiting+size > l.buffer {
			l.dropped += size
			return
		}
		l.account()
		l.waiting += size
		l.maxWaiting = max(l.maxWaiting, l.waiting)
		l.queue = append(l.queue, queued{f, tx, size})
		return
	}
	l.rem = 0
	l.queue = append(l.queue[:0], queued{f, tx, size})
	l.head = 0
	l.serialise(size)
}

// serialise starts the packet at the head of the queue.
func (l *Link) serialise(size uint64) {
	n := size*uint64(time.Second) + l.rem
	l.rem = n % l.rate
	l.sim.schedule(event{at: l.sim.now + Time(n/l.rate), kind: departure})
}

// depart ends the serialisation of the head.
func (l *Link) depart() {
	p := l.queue[l.head]
	l.head++
	l.delivered += p.size
	l.sim.schedule(event{at: l.released(l.sim.now) + p.flow.cfg.RTT, kind: ackArrival, flow: p.flow, tx: p.tx})
	if l.head == len(l.queue) {
		return
	}
	next := l.queue[l.head]
	l.account()
	l.waiting -= next.size
	l.serialise(next.size)
	if l.head > 1024 && l.head*2 > len(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		l.queue, l.head = l.queue[:n], 0
	}
}

func (l *Link) released(t Time) Time {
	if l.Release == nil {
		return t
	}
	return max(l.Release(t), t)
}
