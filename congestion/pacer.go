package congestion

import (
	"math/bits"
	"time"
)

// Pacer spaces transmissions so that they leave at a rate. It keeps the schedule to the nanosecond: the fraction that a gap of size/rate leaves over is carried into the
// next, so that the long-term rate is exact.
//
// The transport asks NextSend before it sends. If the answer is not later than now it sends and reports OnSent; otherwise it arms a timer for that instant. At
// one instant the Pacer lets no more than a quantum leave. A timer that fires late is made up for by as much as one quantum; time in which there was
// nothing to send is not.
//
// The zero value does not pace. A Pacer is used by one goroutine at a time and allocates nothing.
type Pacer struct {
	rate, maxRate uint64 // bytes per second, 0 without a limit
	quantum       uint64

	// The present burst began at the instant started with sent bytes since. Its place in the schedule is base + baseRem/effective-rate ns, which is earlier
	// than started if the burst made up for a late timer.
	started, base Time
	baseRem       uint64
	sent, last    uint64 // bytes of the burst and of its last packet
	active        bool   // a burst was sent: the fields above hold
	waiting       bool   // NextSend told the transport to wait: what it sends next has been due
}

// SetRate sets the rate in bytes per second; 0 means no limit. It applies to the gap under way as well.
func (p *Pacer) SetRate(bytesPerSec uint64) { p.setRates(min(bytesPerSec, MaxRate), p.maxRate) }

// SetMaxRate sets an upper bound of the rate in bytes per second (SO_MAX_PACING_RATE); 0 means none.
func (p *Pacer) SetMaxRate(bytesPerSec uint64) { p.setRates(p.rate, min(bytesPerSec, MaxRate)) }

// SetQuantum sets how many bytes may leave at one instant. One packet always may.
func (p *Pacer) SetQuantum(bytes uint64) { p.quantum = min(bytes, MaxWindow) }

// Rate returns the rate in force in bytes per second, 0 if there is no limit.
func (p *Pacer) Rate() uint64 {
	if p.maxRate != 0 && (p.rate == 0 || p.rate > p.maxRate) {
		return p.maxRate
	}
	return p.rate
}

// NextSend returns the earliest instant at which the next packet may leave; not later than now if it may leave at once.
func (p *Pacer) NextSend(now Time) Time {
	if p.Rate() == 0 || !p.active || p.continues(now) {
		return now
	}
	due, _ := p.due()
	// However late this burst was, the next one does not share its instant.
	if due = max(due, p.started+1); due > now {
		p.waiting = true
		return due
	}
	return now
}

// OnSent reports that size bytes left at the instant now.
func (p *Pacer) OnSent(now Time, size uint64) {
	size = min(size, MaxWindow)
	if p.continues(now) {
		p.sent, p.last = min(p.sent+size, MaxWindow), size
		return
	}
	base, rem := now, uint64(0)
	if p.active && p.Rate() != 0 {
		due, dueRem := p.due()
		switch late := now - due; {
		case late <= 0: // sent ahead of the schedule, as retransmissions may be: they are paid for later
			base, rem = due, dueRem
		case p.waiting:
			credit, _ := span(max(p.quantum, size), 0, p.Rate())
			if late <= credit {
				base, rem = due, dueRem
			} else {
				base = now - credit
			}
		}
	}
	p.started, p.base, p.baseRem = now, base, rem
	p.sent, p.last = size, size
	p.active, p.waiting = true, false
}

// continues reports whether another packet of the same size may join the present burst.
func (p *Pacer) continues(now Time) bool {
	return p.active && now == p.started && p.sent+p.last <= p.quantum
}

// due returns the instant at which the present burst has been paid for, and its remainder. The rate is not 0.
func (p *Pacer) due() (Time, uint64) {
	d, rem := span(p.sent, p.baseRem, p.Rate())
	return p.base + d, rem
}

func (p *Pacer) setRates(rate, maxRate uint64) {
	before := p.Rate()
	p.rate, p.maxRate = rate, maxRate
	if after := p.Rate(); after != before {
		// The remainder is in units of 1/rate ns.
		if before == 0 || after == 0 {
			p.baseRem = 0
		} else {
			hi, lo := bits.Mul64(p.baseRem, after)
			p.baseRem, _ = bits.Div64(hi, lo, before)
		}
	}
}

// maxSpan bounds a gap, so that no rate, however low, overflows an instant.
const maxSpan = 24 * time.Hour

// span returns how long bytes take at rate, and the remainder in units of 1/rate ns; rem is the remainder brought forward, less than rate.
func span(bytes, rem, rate uint64) (time.Duration, uint64) {
	hi, lo := bits.Mul64(bytes, uint64(time.Second))
	lo, carry := bits.Add64(lo, rem, 0)
	hi += carry
	if hi >= rate {
		return maxSpan, 0
	}
	q, r := bits.Div64(hi, lo, rate)
	if q > uint64(maxSpan) {
		return maxSpan, 0
	}
	return time.Duration(q), r
}

// PacingRate returns the rate in bytes per second at which a transport paces under c: the algorithm's own, or else one derived from the window, twice cwnd/SRTT in
// slow start, where the window doubles each round trip, and 1.2 times after that. It is 0, no pacing, while SRTT is unknown.
func PacingRate(c Control, srtt time.Duration) uint64 {
	if c.PacingRate != 0 {
		return min(c.PacingRate, MaxRate)
	}
	if srtt <= 0 {
		return 0
	}
	r := rate(c.Cwnd, srtt)
	if c.Cwnd < c.Ssthresh {
		return min(2*r, MaxRate)
	}
	return min(r+r/5, MaxRate)
}

// SendQuantum returns the burst in bytes that suits a pacing rate (draft-ietf-ccwg-bbr §5.6.3): what the rate carries in a millisecond, at most 64 KiB and at least
// two segments.
func SendQuantum(pacingRate uint64, mss uint32) uint64 {
	return max(min(pacingRate/1000, 64<<10), 2*uint64(mss))
}
