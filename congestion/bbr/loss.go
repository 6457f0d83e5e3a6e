package bbr

import (
	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/pathmodel"
)

// undo is what a spurious loss recovery restores (§5.5.11).
type undo struct {
	undoState                                   state
	undoBWShortterm                             uint64
	undoInflightShortterm, undoInflightLongterm uint64
	undoValid                                   bool
	savedNow                                    bool // by a loss of the event under way, before the transport signalled the episode
}

// OnLost implements congestion.Controller (§5.5.10.2, HandleLostPacket).
func (b *bbr) OnLost(ev *congestion.LossEvent) {
	b.now, b.delivered, b.inFlight = ev.Now, ev.Delivered, ev.InFlight
	b.noteLoss()
	p := ev.Packet
	// Transmissions are numbered as they leave, so that a gap between the numbers of lost ones is a gap between the ranges of data.
	if p.TxSeq != b.lastLostSeq+1 {
		b.lossEvents++
	}
	b.lastLostSeq = p.TxSeq
	if !b.bwProbeSample {
		return
	}
	if lost := ev.TotalLost - p.Lost; b.inflightTooHigh(lost, p.InFlight) {
		b.handleInflightTooHigh(inflightAtLoss(ev.Size, p.InFlight, lost), p.AppLimited)
	}
}

// inflightAtLoss returns the flight size at which losses crossed the threshold, somewhere in a packet that may be a burst of many.
func inflightAtLoss(size, txInFlight, lost uint64) uint64 {
	inflightPrev := txInFlight - min(size, txInFlight)
	lostPrev := lost - min(size, lost)
	allowed := pathmodel.Percent(inflightPrev, lossThresh)
	if allowed <= lostPrev {
		return inflightPrev // crossed before this packet
	}
	return inflightPrev + pathmodel.MulDiv(allowed-lostPrev, 100, 100-lossThresh)
}

// OnSignal implements congestion.Controller (§5.6.4.4).
func (b *bbr) OnSignal(ev *congestion.SignalEvent) {
	b.now, b.delivered, b.inFlight = ev.Now, ev.Delivered, ev.InFlight
	switch ev.Signal {
	case congestion.FastRecovery:
		b.beginEpisode()
		b.recovery = fastRecovery
	case congestion.RTO:
		b.beginEpisode()
		b.recovery = rtoRecovery
		b.cwnd = b.oneMore()
	case congestion.PersistentCongestion:
		b.recovery = rtoRecovery
		b.cwnd = b.oneMore()
	case congestion.TLP:
		b.noteLoss() // what the probe repaired was never marked lost
	case congestion.ClassicECN:
		b.handleECN(ev)
	}
}

// oneMore is a window that lets one segment out.
//
// Draft: OnEnterRTO says C.inflight + 1; §5.6.4.4 says that the one is a C.SMSS.
func (b *bbr) oneMore() uint64 { return min(b.inFlight, noVolume-b.mss) + b.mss }

// handleECN takes a classic CE mark for what it is, congestion (§3.7 asks for that and leaves the response open): like a loss while cruising, and like too much
// loss while probing for bandwidth.
func (b *bbr) handleECN(ev *congestion.SignalEvent) {
	b.noteLoss()
	switch {
	case b.state == startup && !b.fullBWReached:
		b.exitStartupOnLoss()
	case b.bwProbeSample:
		b.handleInflightTooHigh(ev.PriorInFlight, false)
	}
}

// beginEpisode saves the state at the start of a loss recovery.
//
// Draft: the losses that start an episode are processed before the transport signals it, so that SaveStateUponLoss in OnEnterFastRecovery would save what
// they have changed already, and forget undo_state. The first of NoteLoss and the signal saves.
func (b *bbr) beginEpisode() {
	if !b.savedNow {
		b.saveState()
	}
}

// noteLoss records a loss in this round.
//
// Draft: NoteLoss saves the state once each round with losses, also in the middle of a recovery, where the state is reduced already, and once more after
// StartProbeBW_DOWN has reset is_loss_in_round. §5.5.11.1 says "when a loss recovery episode starts".
func (b *bbr) noteLoss() {
	if !b.lossInRound {
		b.lossRoundDelivered = b.delivered
		if b.recovery == noRecovery && !b.savedNow {
			b.saveState()
		}
	}
	b.lossInRound = true
}

func (b *bbr) saveState() {
	b.saveCwnd()
	b.undo = undo{
		undoBWShortterm: b.bwShortterm, undoInflightShortterm: b.inflightShortterm, undoInflightLongterm: b.inflightLongterm,
		undoValid: true,
		savedNow:  true,
	}
}

// inflightTooHigh reports whether losses suggest that the flight was too large (§5.5.10.2).
func (b *bbr) inflightTooHigh(lost, txInFlight uint64) bool {
	return lost > pathmodel.Percent(txInFlight, lossThresh) || (lost > 0 && b.noSACK)
}

func (b *bbr) handleInflightTooHigh(txInFlight uint64, appLimited bool) {
	b.prevProbeTooHigh = true
	b.bwProbeSample = false // only react once per probe
	if !appLimited {
		b.inflightLongterm = max(txInFlight, pathmodel.Percent(b.targetInflight(), beta))
	}
	if b.state == probeBWUp {
		b.undoState = probeBWUp
		b.startProbeBWDown()
	}
}

// OnRecoveryExit implements congestion.Controller: the window is the last known good one, as far as the model allows (§5.6.4.4).
func (b *bbr) OnRecoveryExit(now congestion.Time, inFlight uint64) {
	b.now, b.inFlight = now, inFlight
	if b.recovery == noRecovery {
		return
	}
	b.recovery = noRecovery
	b.restoreCwnd()
	b.boundCwnd()
}

// OnSpurious implements congestion.Controller (§5.5.11.2, HandleSpuriousLossDetection).
func (b *bbr) OnSpurious(now congestion.Time, _ congestion.Signal, inFlight uint64) {
	if !b.undoValid {
		return
	}
	b.now, b.inFlight = now, inFlight
	b.recovery = noRecovery
	b.restoreCwnd()
	b.lossInRound = false
	b.resetFullBW()
	b.bwShortterm = max(b.bwShortterm, b.undoBWShortterm)
	b.inflightShortterm = max(b.inflightShortterm, b.undoInflightShortterm)
	b.inflightLongterm = max(b.inflightLongterm, b.undoInflightLongterm)
	switch {
	case b.undoState == startup && b.state != startup:
		b.fullBWReached = false
		if b.state != probeRTT {
			b.enterStartup()
		}
	case b.undoState == probeBWUp && b.state != probeBWUp:
		if b.state != probeRTT {
			b.startProbeBWRefill()
		}
	}
	b.undo = undo{}
}

func (b *bbr) saveCwnd() {
	if b.recovery == noRecovery && b.state != probeRTT {
		b.priorCwnd = b.cwnd
	} else {
		b.priorCwnd = max(b.priorCwnd, b.cwnd)
	}
}

func (b *bbr) restoreCwnd() { b.cwnd = max(b.cwnd, b.priorCwnd) }
