package pathmodel

// MaxRounds is the longest window of a RoundMax.
const MaxRounds = 10

// RoundMax is a maximum over a sliding window of rounds, exact for up to MaxRounds of them. The zero value is ready for use.
type RoundMax struct {
	slots  [MaxRounds]uint64 // the maximum of each round, at its number modulo the length
	round  uint64
	length uint64
	older  uint64 // the maximum of the window's rounds before this one
}

// Update adds a value of the given round, which never decreases, and returns the maximum over it and the length-1 rounds before.
func (f *RoundMax) Update(v, round, length uint64) uint64 {
	if round != f.round || length != f.length {
		f.advance(round, length)
	}
	slot := &f.slots[round%MaxRounds]
	*slot = max(*slot, v)
	return max(*slot, f.older)
}

func (f *RoundMax) advance(round, length uint64) {
	for range min(round-f.round, MaxRounds) {
		f.round++
		f.slots[f.round%MaxRounds] = 0
	}
	f.round = round // if it is further, all slots are empty by now
	f.length, f.older = length, 0
	for i := uint64(1); i < min(length, round+1); i++ {
		f.older = max(f.older, f.slots[(round-i)%MaxRounds])
	}
}

// Quiet marks what a flow sends while it holds itself back, whose delivery rates say nothing of the path. BBR's MarkConnectionAppLimited (draft-ietf-ccwg-bbr §4.1.2.4)
// does so in the sampler, which belongs to the transport; the packets concerned are just those that left while C.delivered was between its value at the mark
// and that plus what was in flight, which each sample tells. The zero value marks nothing.
type Quiet struct {
	on       bool
	from, to uint64
}

// Mark marks what is sent from now on until all that is in flight now is delivered; volumes are in bytes.
func (q *Quiet) Mark(delivered, inFlight uint64) {
	if !q.on {
		q.on, q.from = true, delivered
	}
	q.to = delivered + inFlight
}

// Has reports whether a packet that left when priorDelivered bytes had been delivered is marked.
func (q *Quiet) Has(priorDelivered uint64) bool {
	if !q.on {
		return false
	}
	if priorDelivered > q.to {
		q.on = false
		return false
	}
	return priorDelivered >= q.from
}
