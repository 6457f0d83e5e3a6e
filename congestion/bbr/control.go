package bbr

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
)

// initPacingRate sets the rate before there is an estimate: the initial window in a round trip, taken for 1 ms until one is measured (§5.6.2).
//
// Draft: InitPacingRate runs once, at the start, but is to use the first round-trip time. It runs again when that comes; otherwise the rate of 1 ms would last for
// all of Startup, which only raises it.
func (b *bbr) initPacingRate(srtt time.Duration) {
	b.rttSeen = srtt > 0
	if srtt <= 0 {
		srtt = time.Millisecond
	}
	b.pacingRate = b.floorRate(pathmodel.MulDiv(pathmodel.Percent(b.initialCwnd, startupPacingGain), uint64(time.Second), uint64(srtt)))
}

// setPacingRate is SetPacingRateWithGain (§5.6.2).
//
// Draft: SetPacingRate passes C.pacing_gain, which is BBR.pacing_gain.
func (b *bbr) setPacingRate(gain uint64) {
	rate := pathmodel.MulDiv(b.bw, gain*(100-pacingMargin), 100*100)
	if b.fullBWReached || rate > b.pacingRate {
		b.pacingRate = b.floorRate(rate)
	}
}

// floorRate keeps a rate at one segment a second or more: a model without a single valid sample must not silence the connection.
func (b *bbr) floorRate(rate uint64) uint64 { return max(rate, b.mss) }

// setSendQuantum is §5.6.3.
func (b *bbr) setSendQuantum() {
	b.sendQuantum = congestion.SendQuantum(b.pacingRate, uint32(min(b.mss, 1<<31)))
}

func (b *bbr) minPipeCwnd() uint64 { return minPipeSegments * b.mss }

// quantizationBudget is §5.6.4.2, with the offload budget of TCP (§5.5.8.1).
func (b *bbr) quantizationBudget(inflightCap uint64) uint64 {
	inflightCap = max(inflightCap, 3*b.sendQuantum, b.minPipeCwnd())
	if b.state == probeBWUp {
		inflightCap += 2 * b.mss
	}
	return min(inflightCap, noVolume)
}

// inflight is Inflight(gain) at a bandwidth.
func (b *bbr) inflight(bw, gain uint64) uint64 { return b.quantizationBudget(b.bdpMultiple(bw, gain)) }

func (b *bbr) updateMaxInflight() {
	b.maxInflight = b.quantizationBudget(b.bdpMultiple(b.bw, b.cwndGain) + b.aggregation.Extra())
}

// setCwnd is §5.6.4.6.
func (b *bbr) setCwnd() {
	b.updateMaxInflight()
	if b.fullBWReached {
		b.cwnd = min(b.cwnd+b.newlyAcked, b.maxInflight)
	} else if b.cwnd < b.maxInflight || b.delivered < b.initialCwnd {
		b.cwnd += b.newlyAcked
	}
	b.boundCwnd()
}

// boundCwnd applies the floor, BoundCwndForProbeRTT and BoundCwndForModel (§5.6.4.5, §5.6.4.7).
func (b *bbr) boundCwnd() {
	b.cwnd = max(min(b.cwnd, congestion.MaxWindow), b.minPipeCwnd())
	if b.state == probeRTT {
		b.cwnd = min(b.cwnd, b.probeRTTCwnd())
	}
	limit := noVolume
	switch {
	case b.state == probeRTT || b.state == probeBWCruise:
		limit = b.inflightWithHeadroom()
	case b.inProbeBW():
		limit = b.inflightLongterm
	}
	limit = max(min(limit, b.inflightShortterm), b.minPipeCwnd())
	b.cwnd = min(b.cwnd, limit)
}

// probeRTTCwnd is half of the BDP.
//
// Draft: §5.6.4.5 says in prose that ProbeRTT bounds the window to MinPipeCwnd; its pseudocode, §2.16.2 and §5.3.4 say half of the BDP, no less than that.
func (b *bbr) probeRTTCwnd() uint64 {
	return max(b.bdpMultiple(b.bw, probeRTTCwndGain), b.minPipeCwnd())
}
