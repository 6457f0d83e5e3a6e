package emulated

import (
	"math"
	"time"
)

// The defaults of RFC 8033 §4 and §5.
const (
	DefaultPIETarget = 15 * time.Millisecond // QDELAY_REF
	pieUpdate        = 15 * time.Millisecond // T_UPDATE
	pieMaxBurst      = 150 * time.Millisecond
	pieAlpha         = 0.125 // per second of delay above the target
	pieBeta          = 1.25  // per second of change
	pieMarkLimit     = 0.1   // marks are drops above this probability (§5.1)
	pieAccuLow       = 0.85  // no drop below this sum of probabilities since the last (§5.3)
	pieAccuHigh      = 8.5   // a drop for sure above this one
)

// PIE is the queue discipline of RFC 8033. Its delay estimate is the time that the packet last served has waited.
type PIE struct {
	// Target is the delay aimed at; 0 means DefaultPIETarget.
	Target time.Duration
	// Packets bounds the queue; 0 means DefaultQueuePackets.
	Packets int
	// ECN marks packets that allow it in place of dropping them, while the probability is below 10 %.
	ECN bool
}

func (p PIE) validate() error {
	if err := checkDelay("Target", p.Target); err != nil {
		return err
	}
	return checkRange("Packets", p.Packets, 0, math.MaxInt)
}

// String describes the queue in a few words.
func (PIE) String() string { return "PIE" }

func (p PIE) discipline(env *queueEnv) discipline {
	if p.Target == 0 {
		p.Target = DefaultPIETarget
	}
	if p.Packets == 0 {
		p.Packets = DefaultQueuePackets
	}
	return &pie{PIE: p, env: env, burst: pieMaxBurst, nextUpdate: pieUpdate}
}

type pie struct {
	PIE
	env *queueEnv
	q   backlog

	prob       float64       // drop_prob_
	accu       float64       // accu_prob_
	burst      time.Duration // burst_allowance_
	delay, old time.Duration // current_qdelay_ and qdelay_old_
	nextUpdate time.Duration
}

func (p *pie) packets() int { return p.q.len() }
func (p *pie) bytes() int   { return p.q.size }

func (p *pie) enqueue(now time.Duration, pkt packet) {
	p.catchUp(now)
	switch {
	case p.q.len() >= p.Packets:
		p.accu = 0
		p.env.drop(pkt, DropOverflow)
		return
	case p.burst == 0 && p.dropEarly():
		if !(p.ECN && p.prob <= pieMarkLimit && p.env.mark(&pkt)) {
			p.env.drop(pkt, DropAQM)
			return
		}
	}
	if p.prob == 0 {
		p.accu = 0
	}
	pkt.at = now
	p.q.push(pkt)
}

// dropEarly decides at random, but neither too soon after the last drop nor too late (RFC 8033 §5.1, §5.3).
func (p *pie) dropEarly() bool {
	if p.old < p.Target/2 && p.prob < 0.2 || p.q.size <= 2*p.env.mtu {
		return false
	}
	p.accu += p.prob
	if p.accu < pieAccuLow {
		return false
	}
	if p.accu >= pieAccuHigh || p.env.rng.Float64() < p.prob {
		p.accu = 0
		return true
	}
	return false
}

func (p *pie) dequeue(now time.Duration) (packet, bool) {
	p.catchUp(now)
	pkt, ok := p.q.pop()
	if ok {
		p.delay = now - pkt.at
	}
	if p.q.len() == 0 {
		p.delay = 0
	}
	return pkt, ok
}

// catchUp makes the updates that were due by now. Between two calls nothing that they look at changes.
func (p *pie) catchUp(now time.Duration) {
	for p.nextUpdate <= now {
		p.update()
		p.nextUpdate += pieUpdate
		if p.prob == 0 && p.burst == pieMaxBurst && p.delay == 0 && p.old == 0 && p.nextUpdate <= now {
			// At rest: the updates left change nothing.
			p.nextUpdate += (now - p.nextUpdate) / pieUpdate * pieUpdate
		}
	}
}

// update adapts the probability (RFC 8033 §4.2, §5.2).
func (p *pie) update() {
	delta := float64(pieAlpha*(p.delay-p.Target).Seconds()) + float64(pieBeta*(p.delay-p.old).Seconds())
	delta *= pieScale(p.prob)
	if p.prob >= 0.1 && delta > 0.02 {
		delta = 0.02
	}
	p.prob += delta
	if p.delay == 0 && p.old == 0 {
		p.prob *= 0.98
	}
	p.prob = min(max(p.prob, 0), 1)
	p.burst = max(p.burst-pieUpdate, 0)
	if p.prob == 0 && p.delay < p.Target/2 && p.old < p.Target/2 {
		p.burst = pieMaxBurst // There is no congestion: the next burst passes (§4.4).
	}
	p.old = p.delay
}

// pieScale makes small probabilities change slowly (RFC 8033 §4.2).
func pieScale(prob float64) float64 {
	switch {
	case prob < 0.000001:
		return 1.0 / 2048
	case prob < 0.00001:
		return 1.0 / 512
	case prob < 0.0001:
		return 1.0 / 128
	case prob < 0.001:
		return 1.0 / 32
	case prob < 0.01:
		return 1.0 / 8
	case prob < 0.1:
		return 1.0 / 2
	}
	return 1
}
