package bbr1

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
)

// path is the model of the network path (§4.1).
type path struct {
	nextRoundDelivered, roundCount uint64
	roundStart                     bool

	btlBw       uint64
	btlBwFilter pathmodel.RoundMax

	rtProp        time.Duration
	rtPropStamp   congestion.Time
	rtPropExpired bool

	aggregation pathmodel.Aggregation

	quiet pathmodel.Quiet // what ProbeRTT sends says nothing of the bandwidth
}

// updateRound counts packet-timed round trips (§4.1.1.3).
func (b *bbr) updateRound() {
	b.roundStart = b.rs.PriorDelivered >= b.nextRoundDelivered
	if b.roundStart {
		b.nextRoundDelivered = b.delivered
		b.roundCount++
	}
}

// updateBtlBw takes the delivery rate into the filter, unless the application made it low (§4.1.1.4).
func (b *bbr) updateBtlBw() {
	b.updateRound()
	if b.rs.Valid && (b.rs.DeliveryRate >= b.btlBw || !b.rs.AppLimited) {
		b.btlBw = b.btlBwFilter.Update(b.rs.DeliveryRate, b.roundCount, btlBwFilterLen)
	}
}

// updateAggregation notes by how much ACKs run ahead of BtlBw.
func (b *bbr) updateAggregation() {
	b.aggregation.Update(b.now, b.btlBw, b.acked, b.cwnd, b.roundCount, extraAckedSlot+1+b.roundCount%extraAckedSlot)
}

// aggregationCwnd is what the window has for it. Startup has three BDP anyway.
func (b *bbr) aggregationCwnd() uint64 {
	if !b.filledPipe {
		return 0
	}
	return min(b.aggregation.Extra(), pathmodel.Volume(b.btlBw, extraAckedMost))
}

// updateRTprop is §4.1.2.3.
func (b *bbr) updateRTprop() {
	b.rtPropExpired = b.now > b.rtPropStamp+rtPropFilterLen
	if b.rs.RTT > 0 && (b.rs.RTT <= b.rtProp || b.rtPropExpired) {
		b.rtProp, b.rtPropStamp = b.rs.RTT, b.now
	}
}

// inflight is BBRInflight (§4.2.3.2): so many BDP, and room for bursts at the sender, on the way, and at the receiver.
func (b *bbr) inflight(gain uint64) uint64 {
	if b.rtProp == unknownRTT {
		return b.initialCwnd
	}
	bdp := pathmodel.Volume(b.btlBw, b.rtProp)
	return min(pathmodel.MulDiv(bdp, gain, unity)+3*b.sendQuantum, congestion.MaxWindow)
}

// initPacingRate sets the rate before there is an estimate: the initial window in a round trip, taken for 1 ms until one is measured (§4.2.1). It runs again when the first
// round-trip time comes; otherwise the rate of 1 ms would last for all of Startup, which only raises it.
func (b *bbr) initPacingRate(srtt time.Duration) {
	b.rttSeen = srtt > 0
	if srtt <= 0 {
		srtt = time.Millisecond
	}
	nominal := pathmodel.MulDiv(b.initialCwnd, uint64(time.Second), uint64(srtt))
	b.pacingRate = b.floorRate(pathmodel.MulDiv(nominal, highGain, unity))
}

// setPacingRateWithGain is §4.2.1: until the pipe is full the rate does not fall.
func (b *bbr) setPacingRateWithGain(gain uint64) {
	rate := pathmodel.MulDiv(b.btlBw, gain, unity)
	if b.filledPipe || rate > b.pacingRate {
		b.pacingRate = b.floorRate(rate)
	}
}

// floorRate keeps a rate at one segment a second or more: a model without a single valid sample must not silence the connection.
func (b *bbr) floorRate(rate uint64) uint64 { return max(rate, b.mss) }

// setSendQuantum is BBRSetSendQuantum (§4.2.2).
func (b *bbr) setSendQuantum() {
	const mbit = 1_000_000 / 8
	switch {
	case b.pacingRate < mbit*12/10:
		b.sendQuantum = b.mss
	case b.pacingRate < 24*mbit:
		b.sendQuantum = 2 * b.mss
	default:
		b.sendQuantum = congestion.SendQuantum(b.pacingRate, uint32(min(b.mss, 1<<31)))
	}
}

// setCwnd is BBRSetCwnd (§4.2.3.6).
func (b *bbr) setCwnd() {
	b.targetCwnd = min(b.inflight(b.cwndGain)+b.aggregationCwnd(), congestion.MaxWindow)
	b.modulateForRecovery()
	if !b.packetConservation {
		if b.filledPipe {
			b.cwnd = min(b.cwnd+b.acked, b.targetCwnd)
		} else if b.cwnd < b.targetCwnd || b.delivered < b.initialCwnd {
			b.cwnd += b.acked
		}
		b.cwnd = max(b.cwnd, b.minPipeCwnd())
	}
	b.modulateForProbeRTT()
	b.cwnd = min(b.cwnd, congestion.MaxWindow)
}

// modulateForProbeRTT is §4.2.3.5.
func (b *bbr) modulateForProbeRTT() {
	if b.state == probeRTT {
		b.cwnd = min(b.cwnd, b.minPipeCwnd())
	}
}

func (b *bbr) minPipeCwnd() uint64 { return minPipeSegments * b.mss }
