package bbr1

import "github.com/plumbline/plumbline/congestion"

// recovery is the state of loss recovery (§4.2.3.4).
type recovery struct {
	inRecovery         bool
	priorCwnd          uint64
	packetConservation bool
	conservationEnd    uint64 // it ends with a packet that left when at least so much had been delivered
	undoable           bool   // priorCwnd is of an episode that may still prove a mistake
}

// OnLost implements congestion.Controller.
func (b *bbr) OnLost(ev *congestion.LossEvent) {
	b.now, b.delivered, b.inFlight = ev.Now, ev.Delivered, ev.InFlight
	b.lost += ev.Size
}

// OnSignal implements congestion.Controller (§4.2.3.4).
//
// The draft says nothing of ECN. A mark is taken for a loss, without which a flow must not ask for marks (RFC 3168 §6.1.2): the flight does not grow for a round trip. What a
// probe repaired was never marked lost, and needs nothing.
func (b *bbr) OnSignal(ev *congestion.SignalEvent) {
	b.now, b.delivered, b.inFlight = ev.Now, ev.Delivered, ev.InFlight
	switch ev.Signal {
	case congestion.FastRecovery:
		b.beginEpisode(true)
		b.conserve(b.inFlight + b.mss) // at least one retransmission; what this ACK delivers is added when it is processed
	case congestion.ClassicECN:
		b.beginEpisode(b.inRecovery)
		b.conserve(b.inFlight)
	case congestion.RTO, congestion.PersistentCongestion:
		if ev.Signal == congestion.RTO {
			b.beginEpisode(true)
		}
		b.packetConservation = false
		b.cwnd = b.mss
	}
	b.cwnd = max(b.cwnd, b.mss)
}

// conserve starts a round trip in which a segment leaves for each that is delivered.
func (b *bbr) conserve(cwnd uint64) {
	b.cwnd = min(b.cwnd, cwnd)
	b.packetConservation, b.conservationEnd = true, b.delivered
}

func (b *bbr) beginEpisode(recovering bool) {
	b.saveCwnd()
	b.inRecovery = recovering
	b.undoable = true
}

// modulateForRecovery takes lost packets out of the window, and in the first round trip of fast recovery sends a packet for each that was delivered
// (§4.2.3.4, BBRModulateCwndForRecovery). After that round the window grows as in slow start, up to its target.
func (b *bbr) modulateForRecovery() {
	if b.lost > 0 {
		b.cwnd = max(b.cwnd-min(b.cwnd, b.lost), b.mss)
	}
	if !b.packetConservation {
		return
	}
	if b.rs.PriorDelivered >= b.conservationEnd {
		b.packetConservation = false
		if !b.inRecovery {
			b.restoreCwnd() // the round after a mark is over
		}
		return
	}
	b.cwnd = max(b.cwnd, b.inFlight+b.acked)
}

// OnRecoveryExit implements congestion.Controller: the window is the last known good one. In the draft the ACK that ends a recovery restores it and then bounds it by the target;
// here that ACK has been processed already.
func (b *bbr) OnRecoveryExit(now congestion.Time, inFlight uint64) {
	b.now, b.inFlight = now, inFlight
	if !b.inRecovery {
		return
	}
	b.inRecovery, b.packetConservation = false, false
	b.restoreCwnd()
	if b.filledPipe {
		b.cwnd = max(min(b.cwnd, b.targetCwnd), b.minPipeCwnd())
	}
	b.modulateForProbeRTT()
}

// OnSpurious implements congestion.Controller. What was taken for lost was not: nothing had to be recovered.
func (b *bbr) OnSpurious(now congestion.Time, _ congestion.Signal, inFlight uint64) {
	if !b.undoable {
		return
	}
	b.now, b.inFlight = now, inFlight
	b.inRecovery, b.packetConservation, b.undoable = false, false, false
	b.restoreCwnd()
}

// saveCwnd keeps the last known good window (BBRSaveCwnd).
func (b *bbr) saveCwnd() {
	if !b.inRecovery && !b.packetConservation && b.state != probeRTT {
		b.priorCwnd = b.cwnd
	} else {
		b.priorCwnd = max(b.priorCwnd, b.cwnd)
	}
}

// restoreCwnd brings it back (BBRRestoreCwnd).
func (b *bbr) restoreCwnd() { b.cwnd = max(b.cwnd, b.priorCwnd) }
