package emulated

import (
	"math"
	"time"
)

// The parameters of RFC 9332 appendix A.1. The gains are those of a stable loop at round trips up to 100 ms.
const (
	DefaultDualPI2Target = 15 * time.Millisecond
	dualPI2Update        = 15 * time.Millisecond // Tupdate = min(target, RTT_max/3)
	dualPI2Alpha         = 0.15                  // per second of delay above the target: 0.1·Tupdate/RTT_max²
	dualPI2Beta          = 3.0                   // per second of change: 0.3/RTT_max
	dualPI2Coupling      = 2                     // k
	dualPI2MinTh         = 800 * time.Microsecond
	dualPI2Range         = 400 * time.Microsecond
	// dualPI2Classic is the part of the link that classic traffic gets at least: one in so many bytes (§2.5.1 asks for a conditional priority that cannot starve it).
	dualPI2Classic = 10
)

// DualPI2 is the queue discipline of RFC 9332: a queue of low latency for packets with ECT(1) or CE, marked from a millisecond of delay on, beside one for all others,
// whose PI controller holds its delay near Target; the square in the coupling of the two makes scalable and classic congestion control share the rate. Packets that do
// not allow marks are dropped in their place, and so are those of low latency under overload.
type DualPI2 struct {
	// Target is the delay aimed at in the classic queue; 0 means DefaultDualPI2Target.
	Target time.Duration
	// Packets bounds both queues together; 0 means DefaultQueuePackets.
	Packets int
}

func (p DualPI2) validate() error {
	if err := checkDelay("Target", p.Target); err != nil {
		return err
	}
	return checkRange("Packets", p.Packets, 0, math.MaxInt)
}

// String describes the queue in a few words.
func (DualPI2) String() string { return "DualPI2" }

func (p DualPI2) discipline(env *queueEnv) discipline {
	if p.Target == 0 {
		p.Target = DefaultDualPI2Target
	}
	if p.Packets == 0 {
		p.Packets = DefaultQueuePackets
	}
	return &dualPI2{DualPI2: p, env: env, nextUpdate: dualPI2Update}
}

// dualQueue is one of the two queues. Its count spreads marks evenly (appendix A.1, recur).
type dualQueue struct {
	backlog
	count float64
}

// recur reports every 1/likelihood-th time.
func (q *dualQueue) recur(likelihood float64) bool {
	if q.count += likelihood; q.count > 1 {
		q.count--
		return true
	}
	return false
}

// wait is how long the oldest packet has waited.
func (q *dualQueue) wait(now time.Duration) time.Duration {
	if q.len() == 0 {
		return 0
	}
	return now - q.ring.front().at
}

type dualPI2 struct {
	DualPI2
	env     *queueEnv
	low     dualQueue // L
	classic dualQueue // C

	base       float64       // p'
	prev       time.Duration // the classic delay at the last update
	nextUpdate time.Duration
	// credit is what low latency owes to classic traffic, in bytes. It changes only while both wait.
	credit int
}

func (d *dualPI2) packets() int { return d.low.len() + d.classic.len() }
func (d *dualPI2) bytes() int   { return d.low.size + d.classic.size }

func (d *dualPI2) enqueue(now time.Duration, p packet) {
	d.catchUp(now)
	if d.packets() >= d.Packets {
		d.env.drop(p, DropOverflow)
		return
	}
	p.at = now
	if p.ecn == ecnECT1 || p.ecn == ecnCE {
		d.low.push(p)
	} else {
		d.classic.push(p)
	}
}

func (d *dualPI2) dequeue(now time.Duration) (packet, bool) {
	d.catchUp(now)
	for d.packets() > 0 {
		var p packet
		var keep bool
		if d.lowFirst() {
			p, keep = d.takeLow(now)
		} else {
			p, keep = d.takeClassic()
		}
		if keep {
			return p, true
		}
		d.env.drop(p, DropAQM)
	}
	return packet{}, false
}

// lowFirst decides between the queues: low latency first, but for classic traffic's part.
func (d *dualPI2) lowFirst() bool {
	if d.low.len() == 0 || d.classic.len() == 0 {
		return d.low.len() > 0
	}
	return d.credit <= 0
}

// takeLow takes a packet of low latency and marks it by the larger of its own ramp and the coupled probability; under overload it is dropped as classic ones are
// (appendix A.2).
func (d *dualPI2) takeLow(now time.Duration) (packet, bool) {
	wait, alone := d.low.wait(now), d.low.len() <= 1
	p, _ := d.low.pop()
	coupled := dualPI2Coupling * d.base
	if coupled >= 1 && d.low.recur(d.base*d.base) {
		return p, false
	}
	if d.classic.len() > 0 {
		d.credit += int(p.size)
	}
	native := 0.0
	if !alone {
		native = min(max(float64(wait-dualPI2MinTh)/float64(dualPI2Range), 0), 1)
	}
	if d.low.recur(max(native, min(coupled, 1))) {
		d.env.mark(&p)
	}
	return p, true
}

// takeClassic takes a classic packet. It reports false if that is to be dropped.
func (d *dualPI2) takeClassic() (packet, bool) {
	p, _ := d.classic.pop()
	if d.classic.recur(d.base*d.base) && !d.env.mark(&p) {
		return p, false
	}
	if d.low.len() > 0 {
		d.credit -= int(p.size) * (dualPI2Classic - 1)
	}
	return p, true
}

// catchUp makes the updates that were due by now: meanwhile the oldest packet has grown older.
func (d *dualPI2) catchUp(now time.Duration) {
	for d.nextUpdate <= now {
		d.update(d.nextUpdate)
		d.nextUpdate += dualPI2Update
		if d.base == 0 && d.prev == 0 && d.classic.len() == 0 && d.nextUpdate <= now {
			d.nextUpdate += (now - d.nextUpdate) / dualPI2Update * dualPI2Update // at rest
		}
	}
}

// update adapts the probability. Its square drops and marks classic traffic, up to one in four; more than that is left to the limit of the queue (RFC 9332 §4.1).
func (d *dualPI2) update(now time.Duration) {
	wait := d.classic.wait(now)
	d.base += float64(dualPI2Alpha*(wait-d.Target).Seconds()) + float64(dualPI2Beta*(wait-d.prev).Seconds())
	d.base = min(max(d.base, 0), 1.0/dualPI2Coupling)
	d.prev = wait
}
