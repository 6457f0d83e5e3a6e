package emulated

import (
	"math"
	"time"
)

// The parameters that RFC 8289 recommends for the Internet (§4.3, §4.4).
const (
	DefaultCoDelTarget   = 5 * time.Millisecond
	DefaultCoDelInterval = 100 * time.Millisecond
)

// CoDel is the queue discipline of RFC 8289.
type CoDel struct {
	// Target is the acceptable standing delay and Interval the time in which it has to come about; 0 means the default of each.
	Target, Interval time.Duration
	// Packets bounds the queue; 0 means DefaultQueuePackets.
	Packets int
	// ECN marks packets that allow it in place of dropping them.
	ECN bool
}

func (c CoDel) validate() error { return validateCoDel(c.Target, c.Interval, c.Packets) }

func validateCoDel(target, interval time.Duration, packets int) error {
	for _, err := range []error{
		checkDelay("Target", target),
		checkDelay("Interval", interval),
		checkRange("Packets", packets, 0, math.MaxInt),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// String describes the queue in a few words.
func (CoDel) String() string { return "CoDel" }

func (c CoDel) discipline(env *queueEnv) discipline {
	if c.Packets == 0 {
		c.Packets = DefaultQueuePackets
	}
	return &codelQueue{limit: c.Packets, env: env, params: newCodelParams(c.Target, c.Interval, c.ECN, env)}
}

// codelQueue is one queue under one controller.
type codelQueue struct {
	limit  int
	env    *queueEnv
	params codelParams
	q      backlog
	state  codelState
}

func (c *codelQueue) enqueue(now time.Duration, p packet) {
	if c.q.len() >= c.limit {
		c.env.drop(p, DropOverflow)
		return
	}
	p.at = now
	c.q.push(p)
}

func (c *codelQueue) dequeue(now time.Duration) (packet, bool) {
	return c.state.dequeue(now, &c.q, &c.params)
}

func (c *codelQueue) packets() int { return c.q.len() }
func (c *codelQueue) bytes() int   { return c.q.size }

// codelParams is what all controllers of one direction share.
type codelParams struct {
	target, interval time.Duration
	ecn              bool
	env              *queueEnv
}

func newCodelParams(target, interval time.Duration, ecn bool, env *queueEnv) codelParams {
	if target == 0 {
		target = DefaultCoDelTarget
	}
	if interval == 0 {
		interval = DefaultCoDelInterval
	}
	return codelParams{target: target, interval: interval, ecn: ecn, env: env}
}

// codelState is the controller of one queue (RFC 8289 §5.3: the variables of codel_queue_t).
type codelState struct {
	firstAbove time.Duration // when the delay will have been above the target for an interval; 0 if it is below
	dropNext   time.Duration
	count      uint32 // drops since the dropping state was entered
	lastCount  uint32 // count when it was entered last
	dropping   bool
}

// controlLaw returns when the next drop is due after one at t (RFC 8289 §5.6).
func (p *codelParams) controlLaw(t time.Duration, count uint32) time.Duration {
	return t + time.Duration(float64(p.interval)/math.Sqrt(float64(count)))
}

// take removes the oldest packet and tells whether it may be dropped: whether the delay has been above the target for an interval (RFC 8289 §5.5, dodequeue).
func (s *codelState) take(now time.Duration, q *backlog, p *codelParams) (pkt packet, ok, mayDrop bool) {
	pkt, ok = q.pop()
	if !ok {
		s.firstAbove = 0
		return pkt, false, false
	}
	if now-pkt.at < p.target || q.size <= p.env.mtu {
		s.firstAbove = 0 // Down to the target, or less than a packet is left.
		return pkt, true, false
	}
	if s.firstAbove == 0 {
		s.firstAbove = now + p.interval
		return pkt, true, false
	}
	return pkt, true, now >= s.firstAbove
}

// dequeue returns the next packet that is to be sent (RFC 8289 §5.5).
func (s *codelState) dequeue(now time.Duration, q *backlog, p *codelParams) (packet, bool) {
	pkt, ok, mayDrop := s.take(now, q, p)
	if !ok {
		s.dropping = false
		return pkt, false
	}
	if !s.dropping {
		if mayDrop {
			return s.enter(now, q, p, pkt)
		}
		return pkt, true
	}
	if !mayDrop {
		s.dropping = false
		return pkt, true
	}
	for s.dropping && now >= s.dropNext {
		s.count++
		if p.ecn && p.env.mark(&pkt) {
			s.dropNext = p.controlLaw(s.dropNext, s.count)
			return pkt, true
		}
		p.env.drop(pkt, DropAQM)
		pkt, ok, mayDrop = s.take(now, q, p)
		if !ok || !mayDrop {
			s.dropping = false
		} else {
			s.dropNext = p.controlLaw(s.dropNext, s.count)
		}
	}
	return pkt, ok
}

// enter drops the first packet of a dropping state. If the last one is not long gone, it starts at that one's rate (RFC 8289 §5.5).
func (s *codelState) enter(now time.Duration, q *backlog, p *codelParams, pkt packet) (packet, bool) {
	const recently = 16 // intervals
	s.dropping = true
	delta := s.count - s.lastCount
	s.count = 1
	if delta > 1 && now-s.dropNext < recently*p.interval {
		s.count = delta
	}
	s.dropNext = p.controlLaw(now, s.count)
	s.lastCount = s.count
	if p.ecn && p.env.mark(&pkt) {
		return pkt, true
	}
	p.env.drop(pkt, DropAQM)
	pkt, ok, _ := s.take(now, q, p)
	return pkt, ok
}
