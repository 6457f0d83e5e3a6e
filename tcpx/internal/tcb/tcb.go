package tcb

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
)

// TCB is a transmission control block: one connection from SYN to CLOSED (RFC 9293 §3.3.1). It is used by one goroutine at a time; its zero value must be
// prepared with Init.
type TCB struct {
	// Settings are the socket's options; SettingsChanged must follow a change.
	Settings

	cfg   *Config
	owner Owner

	state    State
	reason   Reason
	soft     Reason
	pressure Pressure
	events   Event
	illegal  uint16
	flags    flags
	// holeSince is when text of the peer was first seen to be missing, in milliseconds, 0 if none is (see watchPeer). steps are OpenParams.Steps.
	holeSince uint32
	timers    timers

	// Send sequence variables (RFC 9293 §3.3.1).
	iss, sndUna, sndNxt, sndUp Seq
	sndWl1, sndWl2             Seq
	sndWnd, maxSndWnd          uint32
	// sndBuf holds what was written and is not acknowledged.
	sndBuf sendBuffer
	// finSeq is the sequence number of our FIN, meaningful with flagFinQueued.
	finSeq Seq
	// smallEnd is the end of the last segment sent that was smaller than the MSS (Minshall's variant of Nagle's algorithm).
	smallEnd Seq

	// Receive sequence variables.
	irs, rcvNxt, rcvUp Seq
	// rcvAdv is the right edge that was advertised, RCV.NXT+RCV.WND of the RFC. It never moves left (SHLD-14).
	rcvAdv Seq
	// lastAckSent is RFC 7323's Last.ACK.sent.
	lastAckSent Seq
	steps       [2]uint16
	rcvBuf      recvBuffer
	reasm       reassembly
	// dsack is the block to report with the next ACK (RFC 2883), empty if Left equals Right.
	dsack Block
	// peerFin is the sequence number of the peer's FIN, meaningful with flagPeerFin.
	peerFin Seq

	sndWScale, rcvWScale uint8
	dupAcks              uint8
	quickAcks            uint8
	retries              uint8
	probes               uint8
	backoff              uint8
	// refusals counts those of the link in a row.
	refusals uint8
	// peerMSS is the peer's MSS option or the default; mss the effective send MSS without SACK blocks (RFC 9293 §3.7.1).
	peerMSS, mss, mtuPayload, userMSS, gsoMax uint32
	// advMSS is what we announced, rcvMSS the largest segment seen, which a delayed ACK counts in.
	advMSS, rcvMSS uint32

	// Timestamps (RFC 7323): TS.Recent with the instant of its update in seconds, and our clock's offset.
	tsRecent, tsRecentAt, tsOffset uint32
	// challengeAt is when the last challenge ACK was sent, in milliseconds, 0 if none was.
	challengeAt uint32

	rto    recovery.RTO
	minRTT recovery.MinRTT
	// sender is nil until there is something to send, and again in TIME-WAIT.
	*sender
	// Scratch is lent by the owner for the time of a call.
	*Scratch

	tune autotune
	// accurate is what accurate ECN counts, nil without it.
	accurate *accurate
	// memory is the buffer memory in use, reserved what the owner's budget holds for it.
	reserved int

	// Instants of the last data sent, segment received, ACK received, and of the first of the retransmissions in a row.
	lastSend, lastRecv, lastText, lastAck, retransSince Time

	stats totals
}

// sender is what a connection needs for loss recovery and congestion control once it sends text or FIN. A connection that only listens to its peer, or that has
// not spoken yet, does without.
type sender struct {
	rtx   recovery.Queue
	rack  recovery.RACK
	rec   episode
	cc    congestion.Controller
	ctl   congestion.Control
	smp   congestion.Sampler
	pacer congestion.Pacer
	usage cwndUsage
	// limits accounts for what sending waited for.
	limits limitTimes
	// cep is s.cep, the peer's count of CE marks (RFC 9768 §3.2.1), of which the wire carries three bits.
	cep uint8

	// path finds the path's MTU, nil if nobody does; probe is a probe on its way, pathLost the largest segment that this ACK shows to be lost.
	path     PathMTU
	probe    pathProbe
	pathLost uint32
	// hint is what a "packet too big" without an MTU suggests (see HintTooBig).
	hint tooBigHint
}

// Scratch is memory that the core needs during a call and not between calls, so that an owner may lend the same to many connections. Its content is nobody's.
type Scratch struct {
	out Out
	// The events for the congestion controller are here so that reporting allocates nothing.
	ack      congestion.AckEvent
	lossEv   congestion.LossEvent
	signalEv congestion.SignalEvent
}

// Lend gives the core the scratch memory for the calls that follow, until Reclaim. Without a loan Init makes the core keep memory of its own.
func (t *TCB) Lend(s *Scratch) { t.Scratch = s }

// Reclaim takes back what Lend gave.
func (t *TCB) Reclaim() *Scratch {
	s := t.Scratch
	t.Scratch = nil
	return s
}

// totals are running counts for Info.
type totals struct {
	bytesAcked, bytesReceived, bytesSent, bytesRetrans uint64
	segsOut, segsIn, dataOut, dataIn                   uint32
	totalRetrans, delivered, dsackDups, outOfOrder     uint32
	rate                                               uint64
}

// flags are one-bit facts about a connection.
type flags uint32

const (
	flagTS flags = 1 << iota
	flagSACK
	flagWScale
	// flagPassive: the connection came from a listener (MUST-11).
	flagPassive
	// flagFinQueued: CLOSE was called; the FIN follows the data. flagFinSent: it has left. flagFinAcked: and is acknowledged.
	flagFinQueued
	flagFinSent
	flagFinAcked
	// flagPeerFin: the peer's FIN was reached.
	flagPeerFin
	// flagReadShut: the user reads no more. flagOrphan: nobody owns the connection any more.
	flagReadShut
	flagOrphan
	// flagAckNow: an ACK must leave with the next output. flagAckDelayed: one is owed.
	flagAckNow
	flagAckDelayed
	// flagUrgOut: urgent data is on its way out, up to sndUp. flagUrgIn: RCV.UP is valid.
	flagUrgOut
	flagUrgIn
	// flagProbe: an octet beyond the window was sent as a probe.
	flagProbe
	// flagMore: the user promised more data (MSG_MORE).
	flagMore
	// flagWantWrite: a writer waits for room.
	flagWantWrite
	// flagInteractive: data flows both ways, so that an ACK is likely to ride on a reply.
	flagInteractive
	// flagSynRetrans: the SYN or SYN-ACK was retransmitted.
	flagSynRetrans
	// flagDeferred: TCP_DEFER_ACCEPT still holds the connection back.
	flagDeferred
	// flagTSRecent: TS.Recent is set.
	flagTSRecent
	// flagPushNow: what is held back goes out, this once.
	flagPushNow
	// flagSynPending: the link refused SYN or SYN-ACK.
	flagSynPending
	// flagECNAsked: our last SYN asked for ECN. flagECN: classic ECN is in use (RFC 3168). flagAccECN: accurate ECN is (RFC 9768).
	flagECNAsked
	flagECN
	flagAccECN
	// flagNoECT: the path mangles ECN, what we send goes without (RFC 9768 §3.2.2.3).
	flagNoECT
	// flagECNEcho: ACKs carry ECE until CWR comes. flagCWR: the next new text carries CWR.
	flagECNEcho
	flagCWR
	// flagRateAppLimited: the last delivery rate was taken while the application limited sending.
	flagRateAppLimited
	// flagEarly: the state is SYN-RECEIVED, and a good Fast Open cookie lets the user read and write all the same (RFC 7413 §4.2).
	flagEarly
)

func (t *TCB) has(f flags) bool { return t.flags&f != 0 }
func (t *TCB) set(f flags)      { t.flags |= f }
func (t *TCB) drop(f flags)     { t.flags &^= f }

// Init prepares a TCB in state CLOSED.
func (t *TCB) Init(cfg *Config, o Owner, s Settings) {
	scratch := t.Scratch
	if scratch == nil {
		scratch = new(Scratch)
	}
	*t = TCB{Settings: s, cfg: cfg, owner: o, state: StateClosed, Scratch: scratch}
}

// State returns the connection's state.
func (t *TCB) State() State { return t.state }

// Err returns why the connection failed, ReasonNone while it has not.
func (t *TCB) Err() Reason { return t.reason }

// IllegalTransitions counts state changes that figure 5 does not have: always 0, unless the core has a bug.
func (t *TCB) IllegalTransitions() int { return int(t.illegal) }

// TakeEvents returns and clears what happened since the last call.
func (t *TCB) TakeEvents() Event {
	e := t.events
	t.events = 0
	return e
}

// SoftError returns and clears the last soft error that ICMP reported (RFC 9293 MUST-47, MUST-56).
func (t *TCB) SoftError() Reason {
	r := t.soft
	t.soft = ReasonNone
	return r
}

// fail ends the connection for a reason that the user must hear of (MUST-12).
func (t *TCB) fail(r Reason) {
	if t.reason == ReasonNone {
		t.reason = r
	}
	t.events |= EventError
	t.toClosed()
}

// toClosed enters CLOSED and lets go of everything but received data, which the user may still read before hearing of the end.
func (t *TCB) toClosed() {
	t.setState(StateClosed)
	t.sndBuf.release()
	t.reasm.release()
	if t.has(flagOrphan) {
		t.rcvBuf.release()
	}
	t.sender = nil
	t.account()
}

// minRTO, maxRTO and maxRetries are the socket's values or the stack's.
func (t *TCB) minRTO() time.Duration {
	if t.MinRTO > 0 {
		return t.MinRTO
	}
	return t.cfg.MinRTO
}

func (t *TCB) maxRTO() time.Duration {
	if t.MaxRTO > 0 {
		return t.MaxRTO
	}
	return t.cfg.MaxRTO
}

func (t *TCB) maxRetries() int {
	n := t.cfg.MaxRetries
	if t.MaxRetries > 0 {
		n = t.MaxRetries
	}
	if t.has(flagOrphan) {
		n = min(n, t.cfg.OrphanRetries)
	}
	return n
}

// rtoAfterSYN is the RTO that data starts with if the timer expired on the SYN and there is no sample yet (RFC 6298 §5.7).
const rtoAfterSYN = 3 * time.Second

// baseRTO is the time-out without back-off.
func (t *TCB) baseRTO() time.Duration {
	initial := t.cfg.InitialRTO
	if t.has(flagSynRetrans) {
		initial = max(initial, rtoAfterSYN)
	}
	return t.rto.Timeout(initial, t.minRTO(), t.maxRTO())
}

// currentRTO is the time-out with back-off in force (RFC 6298 §5.5).
func (t *TCB) currentRTO() time.Duration {
	return t.backedOff(t.backoff)
}

// rtoAt is when the retransmission or the persist timer expires if it starts now: at the latest when the user timeout is reached (RFC 5482 §3), so that
// the connection ends then and not at the next time-out.
func (t *TCB) rtoAt(now Time) Time {
	at := max(now+t.currentRTO(), t.timers[timerReorder]) // RACK decides first
	if end := t.retransSince + t.UserTimeout; t.UserTimeout > 0 && t.retransSince != 0 && now < end {
		at = min(at, end)
	}
	return at
}

func (t *TCB) backedOff(n uint8) time.Duration {
	r := t.baseRTO()
	for ; n > 0 && r < t.maxRTO(); n-- {
		r *= 2
	}
	return min(r, t.maxRTO())
}

// tsNow is our timestamp clock: milliseconds plus a random offset (RFC 7323 §5.4).
func (t *TCB) tsNow(now Time) uint32 { return t.tsOffset + uint32(now/time.Millisecond) }

// budgetQuantum is how much memory is reserved or returned at a time, so that the stack's account is not touched for every segment.
const budgetQuantum = 16 << 10

// account brings the reservation in line with the memory in use.
func (t *TCB) account() {
	used := t.sndBuf.len + t.rcvBuf.len() + t.reasm.cost()
	want := (used + budgetQuantum - 1) / budgetQuantum * budgetQuantum
	if want <= t.reserved && t.reserved-want <= 2*budgetQuantum && want != 0 {
		want = t.reserved
	}
	// Under pressure the budget is asked each time: nothing else tells that the pressure is over.
	if want != t.reserved || t.pressure != PressureNone {
		t.pressure = t.owner.Budget(want - t.reserved)
		t.reserved = want
	}
}
