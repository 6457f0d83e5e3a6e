package bbr

import (
	"math/bits"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// model is the network path model (§5.5).
type model struct {
	// Rounds (§5.5.1).
	nextRoundDelivered, roundCount uint64
	roundStart                     bool

	// Rates.
	maxBWFilter [2]uint64 // of the previous and of the present ProbeBW cycle
	maxBW       uint64
	bwShortterm uint64
	bw          uint64

	// Volumes and time.
	minRTT            time.Duration
	minRTTStamp       congestion.Time
	inflightLongterm  uint64
	inflightShortterm uint64

	// The present round as losses see it (§5.5.10.3).
	bwLatest, inflightLatest uint64
	lossRoundDelivered       uint64
	lossRoundStart           bool
	lossInRound              bool

	// Losses of Startup: the number of discontiguous ranges in the round, and the last transmission lost (§5.3.1.3).
	lossEvents  int
	lastLostSeq uint64

	// Aggregation (§5.5.9).
	extraAcked          uint64
	extraAckedStart     congestion.Time
	extraAckedDelivered uint64
	extraAckedFilter    roundMax

	// Samples of packets that left while delivered was in [quietFrom, quietTo] are held for application-limited (see markQuiet).
	quietOn            bool
	quietFrom, quietTo uint64
}

func newModel(now congestion.Time, srtt time.Duration) model {
	m := model{
		minRTT: noRTT, minRTTStamp: now,
		bwShortterm: noRate, inflightShortterm: noVolume, inflightLongterm: noVolume,
		extraAckedStart: now,
	}
	if srtt > 0 {
		m.minRTT = srtt
	}
	return m
}

// updateLatestDeliverySignals is run near the start of ACK processing (§5.5.10.3).
func (b *bbr) updateLatestDeliverySignals() {
	b.lossRoundStart = false
	b.bwLatest = max(b.bwLatest, b.rs.DeliveryRate)
	b.inflightLatest = max(b.inflightLatest, b.rs.Delivered)
	if b.rs.PriorDelivered >= b.lossRoundDelivered {
		b.lossRoundDelivered = b.delivered
		b.lossRoundStart = true
	}
}

// advanceLatestDeliverySignals is run near the end of ACK processing.
func (b *bbr) advanceLatestDeliverySignals() {
	if b.lossRoundStart {
		b.bwLatest = b.rs.DeliveryRate
		b.inflightLatest = b.rs.Delivered
	}
}

func (b *bbr) resetCongestionSignals() {
	b.lossInRound = false
	b.bwLatest, b.inflightLatest = 0, 0
}

func (b *bbr) updateCongestionSignals() {
	b.updateMaxBW()
	if !b.lossRoundStart {
		return
	}
	if b.lossInRound && !b.probingBW() {
		b.adaptLowerBounds()
	}
	b.lossInRound = false
}

// adaptLowerBounds slows down towards what was delivered in a round with losses, by no more than beta
// (AdaptLowerBoundsFromCongestion, InitLowerBounds, LossLowerBounds).
func (b *bbr) adaptLowerBounds() {
	if b.bwShortterm == noRate {
		b.bwShortterm = b.maxBW
	}
	if b.inflightShortterm == noVolume {
		b.inflightShortterm = b.cwnd
	}
	b.bwShortterm = max(b.bwLatest, percent(b.bwShortterm, beta))
	b.inflightShortterm = max(b.inflightLatest, percent(b.inflightShortterm, beta))
}

func (b *bbr) resetShortTermModel() {
	b.bwShortterm, b.inflightShortterm = noRate, noVolume
}

func (b *bbr) boundBWForModel() { b.bw = min(b.maxBW, b.bwShortterm) }

// updateMaxBW is §5.5.5, with UpdateRound of §5.5.1.
func (b *bbr) updateMaxBW() {
	b.roundStart = b.rs.PriorDelivered >= b.nextRoundDelivered
	if b.roundStart {
		b.startRound()
		b.roundCount++
		b.roundsSinceProbeUp++
	}
	if b.rs.DeliveryRate > 0 && (b.rs.DeliveryRate >= b.maxBW || !b.rs.AppLimited) {
		b.maxBWFilter[1] = max(b.maxBWFilter[1], b.rs.DeliveryRate)
		b.maxBW = max(b.maxBWFilter[0], b.maxBWFilter[1])
	}
}

func (b *bbr) startRound() { b.nextRoundDelivered = b.delivered }

// advanceMaxBWFilter begins a new cycle of the max filter (§5.5.6). A cycle without samples leaves the filter as it is.
func (b *bbr) advanceMaxBWFilter() {
	if b.maxBWFilter[1] != 0 {
		b.maxBWFilter[0], b.maxBWFilter[1] = b.maxBWFilter[1], 0
	}
}

// updateACKAggregation is §5.5.9.
func (b *bbr) updateACKAggregation() {
	expected := volume(b.bw, b.now-b.extraAckedStart)
	if b.extraAckedDelivered <= expected {
		b.extraAckedDelivered = 0
		b.extraAckedStart = b.now
		expected = 0
	}
	b.extraAckedDelivered += b.newlyAcked
	extra := min(b.extraAckedDelivered-expected, b.cwnd)
	length := uint64(1) // in Startup, just remember one round
	if b.fullBWReached {
		length = extraAckedRounds
	}
	b.extraAcked = b.extraAckedFilter.update(extra, b.roundCount, length)
}

// updateMinRTT is §5.3.4.3.
func (b *bbr) updateMinRTT() {
	b.probeRTTExpired = b.now > b.probeRTTMinStamp+probeRTTInterval
	if b.rs.RTT > 0 && (b.rs.RTT < b.probeRTTMinDelay || b.probeRTTExpired) {
		b.probeRTTMinDelay, b.probeRTTMinStamp = b.rs.RTT, b.now
	}
	if b.probeRTTMinDelay < b.minRTT || b.now > b.minRTTStamp+minRTTFilterLen {
		b.minRTT, b.minRTTStamp = b.probeRTTMinDelay, b.probeRTTMinStamp
	}
}

// markQuiet marks what is sent from now on as application-limited until all that is in flight now is delivered. The draft's MarkConnectionAppLimited (§5.3.4.3,
// §4.1.2.4) does so in the sampler, which belongs to the transport; the packets concerned are just those that left while C.delivered was
// between its value now and the mark, which each sample tells.
func (b *bbr) markQuiet() {
	if !b.quietOn {
		b.quietOn, b.quietFrom = true, b.delivered
	}
	b.quietTo = b.delivered + b.inFlight
}

// quiet reports whether a packet that left when priorDelivered had been delivered is marked.
func (b *bbr) quiet(priorDelivered uint64) bool {
	if !b.quietOn {
		return false
	}
	if priorDelivered > b.quietTo {
		b.quietOn = false
		return false
	}
	return priorDelivered >= b.quietFrom
}

// bdpMultiple returns gain percent of the estimated BDP (§5.6.4.2).
//
// Draft: Inflight and BDPMultiple are called with a bandwidth in places and without in others. Here it is always given.
func (b *bbr) bdpMultiple(bw, gain uint64) uint64 {
	if b.minRTT == noRTT {
		return b.initialCwnd
	}
	return percent(volume(bw, b.minRTT), gain)
}

// volume returns what bw bytes per second carry in d, at most noVolume.
func volume(bw uint64, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(bw, uint64(d))
	if hi == 0 {
		return lo / uint64(time.Second) // by a constant, which costs no division
	}
	return div(hi, lo, uint64(time.Second))
}

// percent returns p percent of n, at most noVolume.
func percent(n, p uint64) uint64 {
	hi, lo := bits.Mul64(n, p)
	if hi == 0 {
		return min(lo/100, noVolume)
	}
	return div(hi, lo, 100)
}

// mulDiv returns a·b/c, at most noVolume.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return div(hi, lo, c)
}

// div returns the quotient of a double-width number, at most noVolume.
func div(hi, lo, c uint64) uint64 {
	if hi >= c {
		return noVolume
	}
	q, _ := bits.Div64(hi, lo, c)
	return min(q, noVolume)
}

// roundMax is a maximum over a sliding window of rounds, exact for up to extraAckedRounds of them.
type roundMax struct {
	slots  [extraAckedRounds]uint64 // the maximum of each round, at its number modulo the length
	round  uint64
	length uint64
	older  uint64 // the maximum of the window's rounds before this one
}

// update adds a value of the given round and returns the maximum over it and the length-1 rounds before.
func (f *roundMax) update(v, round, length uint64) uint64 {
	if round != f.round || length != f.length {
		f.advance(round, length)
	}
	slot := &f.slots[round%extraAckedRounds]
	*slot = max(*slot, v)
	return max(*slot, f.older)
}

func (f *roundMax) advance(round, length uint64) {
	for range min(round-f.round, extraAckedRounds) {
		f.round++
		f.slots[f.round%extraAckedRounds] = 0
	}
	f.round = round // if it is further, all slots are empty by now
	f.length, f.older = length, 0
	for i := uint64(1); i < min(length, round+1); i++ {
		f.older = max(f.older, f.slots[(round-i)%extraAckedRounds])
	}
}
