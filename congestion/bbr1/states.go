package bbr1

import "github.com/plumbline/plumbline/congestion/internal/pathmodel"

func (b *bbr) enter(s state, pacingGain, cwndGain uint64) {
	b.state, b.pacingGain, b.cwndGain = s, pacingGain, cwndGain
}

func (b *bbr) enterStartup() { b.enter(startup, highGain, highGain) }

// checkFullPipe looks for a plateau of BtlBw, once a round (§4.3.2.2).
func (b *bbr) checkFullPipe() {
	if b.filledPipe || !b.roundStart || b.rs.AppLimited {
		return
	}
	if b.btlBw >= pathmodel.MulDiv(b.fullBW, fullPipeBar, unity) {
		b.fullBW, b.fullBWCount = b.btlBw, 0
		return
	}
	b.fullBWCount++
	b.filledPipe = b.fullBWCount >= fullPipeRounds
}

// checkDrain is §4.3.3: Drain lasts until no more is in flight than the path without a queue holds.
func (b *bbr) checkDrain() {
	if b.state == startup && b.filledPipe {
		b.enter(drain, drainGain, highGain)
	}
	if b.state == drain && b.inFlight <= b.inflight(unity) {
		b.enterProbeBW()
	}
}

// enterProbeBW starts the cycle in any phase but the second, which gives back what has not been taken (§4.3.4.3).
func (b *bbr) enterProbeBW() {
	b.enter(probeBW, unity, steadyCwnd)
	n := 0
	if b.rand != nil {
		n = b.rand.IntN(len(pacingGainCycle) - 1)
	}
	b.cycleIndex = len(pacingGainCycle) - 1 - n
	b.advanceCyclePhase()
}

func (b *bbr) advanceCyclePhase() {
	b.cycleStamp = b.now
	b.cycleIndex = (b.cycleIndex + 1) % len(pacingGainCycle)
	b.pacingGain = pacingGainCycle[b.cycleIndex]
}

func (b *bbr) checkCyclePhase() {
	if b.state == probeBW && b.isNextCyclePhase() {
		b.advanceCyclePhase()
	}
}

// isNextCyclePhase is §4.3.4.3: a phase lasts for RTprop; a probe until it has put its surplus in flight, or lost some of it; giving back ends early once there is nothing left
// to give.
func (b *bbr) isNextCyclePhase() bool {
	full := b.now-b.cycleStamp > b.rtProp
	switch {
	case b.pacingGain > unity:
		return full && (b.lost > 0 || b.priorInFlight >= b.inflight(b.pacingGain))
	case b.pacingGain < unity:
		return full || b.priorInFlight <= b.inflight(unity)
	}
	return full
}

// checkProbeRTT is §4.3.5.
func (b *bbr) checkProbeRTT() {
	if b.state != probeRTT && b.rtPropExpired && !b.idleRestart {
		b.saveCwnd() // before the state changes: it keeps an older window in ProbeRTT
		b.enter(probeRTT, unity, unity)
		b.probeRTTTimed = false
	}
	if b.state == probeRTT {
		b.handleProbeRTT()
	}
	b.idleRestart = false
}

// handleProbeRTT waits for the flight to fall to four segments, and from then on 200 ms and a round trip.
func (b *bbr) handleProbeRTT() {
	b.quiet.Mark(b.delivered, b.inFlight)
	switch {
	case !b.probeRTTTimed && b.inFlight <= b.minPipeCwnd():
		b.probeRTTTimed, b.probeRTTDoneStamp = true, b.now+probeRTTDuration
		b.probeRTTRoundDone = false
		b.nextRoundDelivered = b.delivered
	case b.probeRTTTimed:
		if b.roundStart {
			b.probeRTTRoundDone = true
		}
		if b.probeRTTRoundDone && b.now > b.probeRTTDoneStamp {
			b.rtPropStamp = b.now
			b.restoreCwnd()
			b.exitProbeRTT()
		}
	}
}

func (b *bbr) exitProbeRTT() {
	if b.filledPipe {
		b.enterProbeBW()
	} else {
		b.enterStartup()
	}
}
