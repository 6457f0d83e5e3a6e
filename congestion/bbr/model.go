package bbr

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
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

	aggregation pathmodel.Aggregation // §5.5.9

	// Samples of packets that left in ProbeRTT are held for application-limited (§5.3.4.3, MarkConnectionAppLimited).
	quiet pathmodel.Quiet
}

func newModel(now congestion.Time, srtt time.Duration) model {
	m := model{
		minRTT: noRTT, minRTTStamp: now,
		bwShortterm: noRate, inflightShortterm: noVolume, inflightLongterm: noVolume,
	}
	m.aggregation.Restart(now)
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
	b.bwShortterm = max(b.bwLatest, pathmodel.Percent(b.bwShortterm, beta))
	b.inflightShortterm = max(b.inflightLatest, pathmodel.Percent(b.inflightShortterm, beta))
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
	length := uint64(1) // in Startup, just remember one round
	if b.fullBWReached {
		length = extraAckedRounds
	}
	b.aggregation.Update(b.now, b.bw, b.newlyAcked, b.cwnd, b.roundCount, length)
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

// bdpMultiple returns gain percent of the estimated BDP (§5.6.4.2).
//
// Draft: Inflight and BDPMultiple are called with a bandwidth in places and without in others. Here it is always given.
func (b *bbr) bdpMultiple(bw, gain uint64) uint64 {
	if b.minRTT == noRTT {
		return b.initialCwnd
	}
	return pathmodel.Percent(pathmodel.Volume(bw, b.minRTT), gain)
}
