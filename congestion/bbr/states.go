package bbr

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
)

// fullPipe is the estimator of a full pipe (§5.3.1.2).
type fullPipe struct {
	fullBWReached, fullBWNow bool
	fullBW                   uint64
	fullBWCount              int
}

// probe is the state of bandwidth probing (§2.14).
type probe struct {
	ackPhase           ackPhase
	bwProbeSample      bool
	upAcked            uint64 // bw_probe_up_acked
	acksPerInc         uint64 // probe_up_acked_per_inc
	upRounds           uint
	roundsSinceProbeUp uint64
	probeWait          time.Duration
	cycleStamp         congestion.Time
	prevProbeTooHigh   bool
	prevPrecautionary  bool
}

// probeRTTState is the schedule of ProbeRTT (§2.16).
type probeRTTState struct {
	probeRTTMinDelay  time.Duration
	probeRTTMinStamp  congestion.Time
	probeRTTExpired   bool
	probeRTTTimed     bool // probe_rtt_done_stamp is set
	probeRTTDoneStamp congestion.Time
	probeRTTRoundDone bool
	idleRestart       bool
}

func (b *bbr) inProbeBW() bool { return b.state >= probeBWDown && b.state <= probeBWUp }

func (b *bbr) probingBW() bool {
	return b.state == startup || b.state == probeBWRefill || b.state == probeBWUp
}

// enter takes a state and its gains (§5.6.1).
//
// Draft: the pseudocode of the ProbeBW states sets no gains but cwnd_gain on entry to ProbeBW. The table of §5.6.1 does.
func (b *bbr) enter(s state, pacingGain, cwndGain uint64) {
	b.state, b.pacingGain, b.cwndGain = s, pacingGain, cwndGain
}

func (b *bbr) enterStartup() { b.enter(startup, startupPacingGain, defaultCwndGain) }

func (b *bbr) resetFullBW() { b.fullBW, b.fullBWCount, b.fullBWNow = 0, 0, false }

// checkFullBWReached looks for a plateau in the delivery rate, once a round (§5.3.1.2).
func (b *bbr) checkFullBWReached() {
	if b.fullBWNow || !b.roundStart || b.rs.AppLimited || !b.rs.Valid {
		return
	}
	if b.rs.DeliveryRate >= pathmodel.Percent(b.fullBW, fullBWGrowth) {
		b.resetFullBW()
		b.fullBW = b.rs.DeliveryRate
		return
	}
	b.fullBWCount++
	b.fullBWNow = b.fullBWCount >= fullBWRounds
	b.fullBWReached = b.fullBWReached || b.fullBWNow
}

func (b *bbr) checkStartupDone() {
	b.checkStartupHighLoss()
	if b.state == startup && b.fullBWReached {
		b.enterDrain()
	}
}

// checkStartupHighLoss is §5.3.1.3.
func (b *bbr) checkStartupHighLoss() {
	if b.fullBWReached {
		return
	}
	high := b.recovery == fastRecovery && b.noSACK && b.lossInRound
	if b.lossRoundStart {
		// A round of losses began with the first of them: at its end the recovery has lasted for a round.
		high = high || b.recovery == fastRecovery && b.lossEvents >= startupFullLossCnt && b.inflightTooHigh(b.rs.Lost, b.rs.TxInFlight)
		b.lossEvents = 0
	}
	if high {
		b.exitStartupOnLoss()
	}
}

func (b *bbr) exitStartupOnLoss() {
	b.undoState = startup
	b.fullBWNow, b.fullBWReached = true, true
	b.inflightLongterm = max(b.bdpMultiple(b.bw, 100), b.inflightLatest)
}

func (b *bbr) enterDrain() {
	b.enter(drain, drainPacingGain, defaultCwndGain)
	b.drainStartRound = b.roundCount
}

// checkDrainDone is §5.3.2.
//
// Draft: the pseudocode waits for more than three rounds; the prose and test A.4 say three.
func (b *bbr) checkDrainDone() {
	if b.state == drain && (b.inFlight <= b.inflight(b.bw, 100) || b.roundCount >= b.drainStartRound+drainRounds) {
		b.startProbeBWDown()
	}
}

func (b *bbr) startProbeBWDown() {
	b.resetCongestionSignals()
	b.acksPerInc = noVolume // not growing inflight_longterm
	b.pickProbeWait()
	b.cycleStamp = b.now
	b.ackPhase = acksProbeStopping
	b.startRound()
	b.enter(probeBWDown, probeDownPacingGain, defaultCwndGain)
}

func (b *bbr) startProbeBWCruise() { b.enter(probeBWCruise, cruisePacingGain, defaultCwndGain) }

func (b *bbr) startProbeBWRefill() {
	b.resetShortTermModel()
	b.upRounds, b.upAcked = 0, 0
	b.prevPrecautionary = false
	b.ackPhase = acksRefilling
	b.startRound()
	b.enter(probeBWRefill, cruisePacingGain, defaultCwndGain)
}

func (b *bbr) startProbeBWUp() {
	b.ackPhase = acksProbeStarting
	b.startRound()
	b.resetFullBW()
	b.fullBW = b.rs.DeliveryRate
	b.enter(probeBWUp, probeUpPacingGain, probeUpCwndGain)
	b.raiseInflightLongtermSlope()
}

// updateProbeBWCyclePhase is the core of the ProbeBW state machine (§5.3.3.9).
func (b *bbr) updateProbeBWCyclePhase() {
	if !b.fullBWReached || b.adaptLongTermModel() {
		return
	}
	switch b.state {
	case probeBWDown:
		if !b.startProbeIfTime() && b.timeToCruise() {
			b.startProbeBWCruise()
		}
	case probeBWCruise:
		b.startProbeIfTime()
	case probeBWRefill:
		if b.roundStart {
			b.bwProbeSample = true
			b.startProbeBWUp()
		}
	case probeBWUp:
		if b.timeToGoDown() {
			b.prevProbeTooHigh = false // no high loss yet
			b.startProbeBWDown()
		}
	}
}

// startProbeIfTime is IsTimeToProbeBW (§5.3.3.8).
func (b *bbr) startProbeIfTime() bool {
	if b.now <= b.cycleStamp+b.probeWait && !b.renoCoexistenceProbeTime() {
		return false
	}
	b.startProbeBWRefill()
	return true
}

// renoCoexistenceProbeTime reports that as many rounds have passed as Reno would need to come back to where it was.
//
// Draft: reno_rounds = TargetInflight() compares bytes with rounds. §5.3.3.8.2 counts the BDP in packets: Reno adds one a round.
func (b *bbr) renoCoexistenceProbeTime() bool {
	return b.roundsSinceProbeUp >= min(b.targetInflight()/b.mss, renoRoundsBound)
}

// pickProbeWait decides at random how long to wait until the next probe.
func (b *bbr) pickProbeWait() {
	b.roundsSinceProbeUp, b.probeWait = 0, probeWaitBase
	if b.rand != nil {
		b.roundsSinceProbeUp = b.rand.Uint64N(2)
		b.probeWait += time.Duration(b.rand.Int64N(int64(probeWaitRandom)))
	}
}

// targetInflight is how much to have in flight: the BDP, unless congestion cut cwnd.
func (b *bbr) targetInflight() uint64 { return min(b.bdpMultiple(b.bw, 100), b.cwnd) }

func (b *bbr) timeToCruise() bool {
	return b.inFlight <= b.inflightWithHeadroom() && b.inFlight <= b.inflight(b.maxBW, 100)
}

func (b *bbr) timeToGoDown() bool {
	if b.prevProbeTooHigh && b.inFlight >= b.inflightLongterm {
		b.prevPrecautionary = true // §5.3.3.6, deceleration
		return true
	}
	if b.cwndLimited && b.cwnd >= b.inflightLongterm {
		b.resetFullBW() // the rate is limited by inflight_longterm
		b.fullBW = b.rs.DeliveryRate
		return false
	}
	return b.fullBWNow
}

// inflightWithHeadroom leaves some of inflight_longterm to others.
func (b *bbr) inflightWithHeadroom() uint64 {
	if b.inflightLongterm == noVolume {
		return noVolume
	}
	room := max(b.mss, pathmodel.Percent(b.inflightLongterm, headroom))
	return max(b.inflightLongterm-min(room, b.inflightLongterm), b.minPipeCwnd())
}

func (b *bbr) raiseInflightLongtermSlope() {
	growth := uint64(1) << b.upRounds
	b.upRounds = min(b.upRounds+1, 30)
	b.acksPerInc = max(b.cwnd/growth, b.mss)
}

func (b *bbr) probeInflightLongtermUpward() {
	if !b.cwndLimited || b.cwnd < b.inflightLongterm {
		return // not fully using inflight_longterm, so don't grow it
	}
	b.upAcked += b.newlyAcked
	if b.upAcked >= b.acksPerInc {
		delta := b.upAcked / b.acksPerInc
		b.upAcked -= delta * b.acksPerInc
		b.inflightLongterm = min(b.inflightLongterm+delta*b.mss, noVolume)
	}
	if b.roundStart {
		b.raiseInflightLongtermSlope()
	}
}

// adaptLongTermModel tracks the phase of ACKs, advances the filter of max_bw and raises inflight_longterm. It reports whether it changed the state.
func (b *bbr) adaptLongTermModel() bool {
	if b.ackPhase == acksProbeStarting && b.roundStart {
		b.ackPhase = acksProbeFeedback
	}
	if b.ackPhase == acksProbeStopping && b.roundStart {
		b.bwProbeSample = false
		b.ackPhase = acksInit
		if b.inProbeBW() && !b.rs.AppLimited {
			b.advanceMaxBWFilter()
		}
		if b.inProbeBW() && b.prevPrecautionary && !b.prevProbeTooHigh {
			b.startProbeBWRefill() // §5.3.3.6, acceleration
			return true
		}
	}
	if b.inflightLongterm == noVolume || b.inflightTooHigh(b.rs.Lost, b.rs.TxInFlight) {
		return false
	}
	b.inflightLongterm = max(b.inflightLongterm, b.rs.TxInFlight)
	if b.state == probeBWUp {
		b.probeInflightLongtermUpward()
	}
	return false
}

// checkProbeRTT is §5.3.4.3.
func (b *bbr) checkProbeRTT() {
	if b.state != probeRTT && b.probeRTTExpired && !b.idleRestart {
		// Draft: SaveCwnd is called after the state has changed, which makes it keep an older and larger window.
		b.saveCwnd()
		b.enter(probeRTT, 100, probeRTTCwndGain)
		b.probeRTTTimed = false
		b.ackPhase = acksProbeStopping
		b.startRound()
	}
	if b.state == probeRTT {
		b.handleProbeRTT()
	}
	if b.rs.Delivered > 0 {
		b.idleRestart = false
	}
}

func (b *bbr) handleProbeRTT() {
	b.quiet.Mark(b.delivered, b.inFlight) // low rates in ProbeRTT say nothing
	switch {
	case !b.probeRTTTimed && b.inFlight <= b.probeRTTCwnd():
		b.probeRTTTimed, b.probeRTTDoneStamp = true, b.now+probeRTTDuration
		b.probeRTTRoundDone = false
		b.startRound()
	case b.probeRTTTimed:
		if b.roundStart {
			b.probeRTTRoundDone = true
		}
		if b.probeRTTRoundDone {
			b.checkProbeRTTDone()
		}
	}
}

func (b *bbr) checkProbeRTTDone() {
	if !b.probeRTTTimed || b.now <= b.probeRTTDoneStamp {
		return
	}
	b.probeRTTMinStamp = b.now // schedules the next one
	b.restoreCwnd()
	b.resetShortTermModel()
	if b.fullBWReached {
		b.startProbeBWDown()
		b.startProbeBWCruise() // the flight is below the BDP already
	} else {
		b.enterStartup()
	}
}
