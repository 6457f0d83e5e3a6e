package congestion

import (
	"math/rand/v2"
	"time"
)

// Time is a monotonic instant: nanoseconds since an origin that the transport chooses once for a connection. Controllers compare and
// subtract instants; they never read a clock.
type Time = time.Duration

// Controller is one congestion control algorithm for one connection. The transport owns loss detection, retransmission, PRR, pacing and the delivery-rate
// sampler; a Controller decides how much may be in flight and how fast it may leave.
//
// The order of calls for one incoming ACK is: OnLost for every packet that the ACK proved lost, OnSignal if an episode starts, OnAck
// once, OnRecoveryExit or OnSpurious if an episode ended. A Controller is used by one goroutine at a time and must not allocate in OnSent, OnLost and OnAck.
type Controller interface {
	// Init prepares the controller for a connection, or for taking over a live one (Config.InitialWindow then is the present cwnd).
	Init(cfg Config)
	// OnSent reports a segment handed to the link: size is its payload in bytes, inFlight the bytes in flight including it.
	OnSent(now Time, size, inFlight uint64)
	// OnLost reports one packet marked lost, before the OnAck of the ACK that revealed it (BBR, draft-ietf-ccwg-bbr §5.5.10).
	OnLost(ev *LossEvent)
	// OnSignal reports the start of a congestion episode, at most once an episode. The controller saves what OnSpurious must restore.
	OnSignal(ev *SignalEvent)
	// OnAck reports an ACK that delivered data or carried other news. It is called after loss detection has run on the ACK.
	OnAck(ev *AckEvent)
	// OnRecoveryExit reports that everything outstanding at the start of the episode is acknowledged.
	OnRecoveryExit(now Time, inFlight uint64)
	// OnSpurious reports that the last signal was mistaken (Eifel, DSACK or F-RTO): the state before it is to be restored (RFC 4015, RFC 9438 §4.9).
	OnSpurious(now Time, signal Signal, inFlight uint64)
	// OnIdleRestart reports that the connection starts to send again after more than one RTO of silence (RFC 5681 §4.1, RFC 7661).
	OnIdleRestart(now Time, idle time.Duration)
	// OnMSS reports that the effective send MSS changed, in bytes.
	OnMSS(now Time, mss uint32)
	// Control returns what the transport must obey from now on.
	Control() Control
	// Snapshot fills s with the algorithm's inner state for logs and plots. It may be slow.
	Snapshot(s *Snapshot)
}

// Config is what a Controller needs to know of its connection.
type Config struct {
	// MSS is the effective send maximum segment size in bytes (payload, options deducted).
	MSS uint32
	// InitialWindow is the congestion window to start with, in bytes (RFC 6928: 10 segments).
	InitialWindow uint64
	// RestartWindow is the window after idle in bytes (RFC 5681 §4.1); 0 means the smaller of InitialWindow and what RFC 6928 allows.
	RestartWindow uint64
	// Ssthresh is the slow start threshold to start with, in bytes; 0 means "unlimited".
	Ssthresh uint64
	// Now is the present instant.
	Now Time
	// SRTT is the smoothed round-trip time known so far, 0 if none.
	SRTT time.Duration
	// NoSelectiveAcks tells that the transport detects no more than one loss in a round trip (TCP without SACK).
	NoSelectiveAcks bool
	// Rand is the connection's seeded source of randomness. It is nil only in tests of deterministic algorithms.
	Rand *rand.Rand
}

// InitialWindow returns the initial congestion window that RFC 6928 §2 allows for an MSS in bytes: ten segments, but no more than the larger of 14600 bytes and
// two segments.
func InitialWindow(mss uint32) uint64 {
	m := uint64(mss)
	return min(10*m, max(2*m, 14600))
}

// Control is what a controller tells the transport.
type Control struct {
	// Cwnd is the congestion window in bytes. It is never below one MSS.
	Cwnd uint64
	// Ssthresh is the slow start threshold in bytes, MaxWindow while no loss was seen. PRR (RFC 9937) reduces towards it.
	Ssthresh uint64
	// PacingRate is the sending rate in bytes per second; 0 means that the algorithm sets none (the transport may derive one).
	PacingRate uint64
	// SendQuantum is the largest burst in bytes that may leave at one instant when paced; 0 means that the transport chooses.
	SendQuantum uint64
	// Capabilities are the algorithm's needs.
	Capabilities Capabilities
}

// Capabilities are flags of what an algorithm needs from the transport.
type Capabilities uint8

const (
	// NeedsPacing asks the transport to pace at Control.PacingRate.
	NeedsPacing Capabilities = 1 << iota
	// OwnsRecovery tells that cwnd is meant during recovery as well: the transport skips PRR.
	OwnsRecovery
	// WantsECT1 asks for ECT(1) in place of ECT(0) (RFC 9331).
	WantsECT1
	// WantsAccECN asks for accurate ECN feedback (RFC 9768).
	WantsAccECN
)

// Has reports whether all capabilities of f are in c.
func (c Capabilities) Has(f Capabilities) bool { return c&f == f }

// MaxWindow stands for an unlimited window or threshold, in bytes.
const MaxWindow = uint64(1) << 62

// Signal is the reason for a congestion episode.
type Signal uint8

const (
	// FastRecovery is loss detected by acknowledgments (RFC 5681 §3.2, RFC 6675, RFC 8985).
	FastRecovery Signal = iota + 1
	// RTO is an expired retransmission timer (RFC 5681 §3.1). It is signalled for the first expiry in a row only.
	RTO
	// TLP is a tail loss repaired by a probe (RFC 8985 §7.4).
	TLP
	// ClassicECN is an ECE that starts a reduction (RFC 3168 §6.1.2).
	ClassicECN
	// PersistentCongestion is a second RTO in a row without an ACK between.
	PersistentCongestion
)

// LossEvent describes one packet that was marked lost.
type LossEvent struct {
	// Now is the instant of detection.
	Now Time
	// Size is the lost payload in bytes.
	Size uint64
	// Packet is the state that was saved when the packet was sent.
	Packet *PacketState
	// InFlight is the flight size in bytes after the loss was deducted.
	InFlight uint64
	// TotalLost is the number of bytes marked lost on this connection, this one included.
	TotalLost uint64
	// Delivered is the connection's delivered bytes so far.
	Delivered uint64
}

// SignalEvent describes the start of an episode.
type SignalEvent struct {
	// Now is the instant.
	Now Time
	// Signal is the reason.
	Signal Signal
	// PriorInFlight is the flight size in bytes before the event (RFC 5681's FlightSize).
	PriorInFlight uint64
	// InFlight is the flight size in bytes after lost packets were deducted.
	InFlight uint64
	// NewlyLost is the number of bytes marked lost by the event.
	NewlyLost uint64
	// Delivered is the connection's delivered bytes so far.
	Delivered uint64
}

// AckEvent describes one incoming ACK. The transport reuses one value per connection: a Controller keeps no pointer to it.
type AckEvent struct {
	// Now is the arrival instant.
	Now Time
	// Sample is the delivery-rate sample of this ACK; Sample.Valid tells whether a rate could be taken.
	Sample RateSample
	// Acked is the number of bytes newly acknowledged cumulatively or by SACK.
	Acked uint64
	// CumAcked is the number of bytes by which SND.UNA advanced.
	CumAcked uint64
	// Lost is the number of bytes newly marked lost.
	Lost uint64
	// CE is the number of bytes newly reported as CE-marked (AccECN), 0 without ECN.
	CE uint64
	// ECE reports a classic ECN-Echo on this ACK.
	ECE bool
	// PriorInFlight and InFlight are the flight size in bytes before and after the ACK.
	PriorInFlight, InFlight uint64
	// Delivered and TotalLost are the connection's running totals in bytes.
	Delivered, TotalLost uint64
	// RTT is this ACK's round-trip sample, 0 if it has none (Karn). SRTT and MinRTT are the transport's estimates, 0 if unknown.
	RTT, SRTT, MinRTT time.Duration
	// CwndLimited reports that the congestion window, not the application or the peer's window, limited sending at some time in the last round trip, that is, since
	// the newest acknowledged packet left (RFC 7661, RFC 9438 §5.8). (Since the last ACK would be too narrow for a paced sender, which meets
	// its window only now and then.)
	CwndLimited bool
	// InRecovery reports that fast recovery is under way; InLoss that RTO recovery is.
	InRecovery, InLoss bool
}

// Snapshot is an algorithm's inner state for people: plots, logs, TCP_INFO-like dumps.
type Snapshot struct {
	// Algorithm is the registered name.
	Algorithm string
	// State names the algorithm's phase, as "slow-start" or "ProbeBW_UP".
	State string
	// Cwnd and Ssthresh are in bytes, PacingRate and Bandwidth in bytes per second.
	Cwnd, Ssthresh, PacingRate, Bandwidth uint64
	// MinRTT is the algorithm's own minimum, 0 if it keeps none.
	MinRTT time.Duration
	// Values holds further named numbers.
	Values []NamedValue
}

// NamedValue is one further number of a Snapshot.
type NamedValue struct {
	// Name is the variable's name in the algorithm's specification.
	Name string
	// Value is its value in the specification's unit.
	Value float64
}
