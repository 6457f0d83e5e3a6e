package tcb

import (
	"math/rand/v2"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Time is a monotonic instant as congestion.Time: nanoseconds since the stack's origin. 0 means "unset" where an instant is optional, so
// the owner passes instants greater than 0.
type Time = congestion.Time

// Owner is what the core needs from outside. All calls are made inside a call into the core, by the same goroutine.
type Owner interface {
	// Transmit sends one segment. It returns false if the link refused it for lack of room: then the segment counts as not sent.
	Transmit(s *Out) bool
	// Count adds n to a counter.
	Count(c Counter, n uint64)
	// NewController returns a congestion controller that is not yet initialised. The core asks when the connection first sends.
	NewController() congestion.Controller
	// PathMTU returns what finds the path's MTU, nil for nothing but what ICMP tells. The core asks when the connection first sends. limit is the largest segment in
	// octets of text and options that the peer and the user allow; probing tells whether the loss of a probe would show (RFC 4821 §7.1), as it does with SACK.
	PathMTU(limit int, probing bool) PathMTU
	// AnnouncedMSS returns the largest MSS that a SYN or SYN-ACK should announce now. The core asks when it sends one again: what is known of the path may have
	// changed since OpenParams.
	AnnouncedMSS() uint16
	// Rand returns the connection's source of randomness (seeded from the stack).
	Rand() *rand.Rand
	// Budget reserves (n > 0) or returns (n < 0) octets of buffer memory of the stack and tells how scarce memory is afterwards. A reservation is
	// never refused: what Pressure asks for is up to the core.
	Budget(n int) Pressure
}

// Pressure is the state of the stack's memory budget.
type Pressure uint8

// The states of the memory budget.
const (
	// PressureNone: plenty.
	PressureNone Pressure = iota
	// PressureModerate: windows no longer grow.
	PressureModerate
	// PressureHigh: windows shrink towards the minimum, out-of-order data is dropped.
	PressureHigh
	// PressureExhausted: new data is refused.
	PressureExhausted
)

// Event is a set of things that the owner must tell others about.
type Event uint16

// The events.
const (
	// EventReadable: there is data, a FIN or an error to read.
	EventReadable Event = 1 << iota
	// EventWritable: there is room to write, or an error.
	EventWritable
	// EventEstablished: the handshake is complete.
	EventEstablished
	// EventReadHangup: the peer sent FIN.
	EventReadHangup
	// EventHangup: both directions are over.
	EventHangup
	// EventError: Err is set, or a soft error came in.
	EventError
	// EventUrgent: new urgent data was announced.
	EventUrgent
	// EventClosed: the state is CLOSED; the owner lets go of the address pair.
	EventClosed
	// EventTimeWaitSYN: the SYN just passed to SegmentArrives may start a new incarnation (RFC 6191, RFC 9293 §3.10.7.4): the TCB is CLOSED and the owner
	// hands the SYN to the listener.
	EventTimeWaitSYN
	// EventR1: R1 retransmissions in a row made no progress (RFC 9293 §3.8.3). The owner tells the network layer that the path or the
	// neighbour may be gone (MUST-20); the connection goes on until R2.
	EventR1
	// EventInboundHole: large segments of the peer vanish on their way while small ones arrive. The owner remembers that for the next connection, which had better
	// announce SmallMSS.
	EventInboundHole
	// EventFastOpen: FastOpen has news. Of a passive open: the user may have the connection, although the handshake goes on. Of an active one: the peer has answered the SYN.
	EventFastOpen
)

// Reason is why a connection failed.
type Reason uint8

// The reasons.
const (
	// ReasonNone: no failure.
	ReasonNone Reason = iota
	// ReasonReset: the peer sent RST.
	ReasonReset
	// ReasonRefused: the peer sent RST to our SYN.
	ReasonRefused
	// ReasonTimeout: R2, the user timeout or keep-alive ran out.
	ReasonTimeout
	// ReasonAborted: the user called ABORT.
	ReasonAborted
	// ReasonHostUnreachable, ReasonNetUnreachable, ReasonPortUnreachable, ReasonProtoUnreachable: an ICMP error ended the attempt to connect, or is reported with
	// a time-out.
	ReasonHostUnreachable
	ReasonNetUnreachable
	ReasonPortUnreachable
	ReasonProtoUnreachable
)

// Counter names what the core counts.
type Counter uint8

// The counters. The owner maps them to gVisor's statistics and to Plumbline's own.
const (
	CountRetransmit Counter = iota
	CountFastRetransmit
	CountTimeout
	CountRTOAbort
	CountFastRecovery
	CountSACKRecovery
	CountTLPRecovery
	CountSpuriousRecovery
	CountSpuriousRTO
	CountSlowStartRetransmit
	CountChallengeACK
	CountChallengeACKLimited
	CountPAWSRejected
	CountOutOfWindow
	CountOldDuplicate
	CountDSACKSent
	CountDSACKReceived
	CountSACKReneging
	CountResetSent
	CountResetReceived
	CountBadReset
	CountOutOfOrderDropped
	CountReceiveDropped
	CountKeepAliveProbe
	CountKeepAliveTimeout
	CountUserTimeout
	CountZeroWindowProbe
	CountDelayedACK
	CountLinkRefused
	CountDataAfterClose
	CountICMPIgnored
	CountICMPPMTU
	CountPathProbe
	CountPathProbeLost
	CountBlackHole
	CountAckInvalid
	CountEstablishedReset
	CountFailedConnection
	CountCE
	CountECNReduction
	numCounters
)

// Config holds what all connections of a stack share. It is not changed while a connection uses it.
type Config struct {
	// MinRTO floors the variance term of the RTO, MaxRTO caps the RTO and its back-off.
	MinRTO, MaxRTO time.Duration
	// InitialRTO is used before the first RTT sample (RFC 6298 §2.1: 1 s).
	InitialRTO time.Duration
	// MaxRetries is R2 in retransmissions of data (RFC 9293 §3.8.3).
	MaxRetries int
	// OrphanRetries is R2 for a connection that no user owns any more.
	OrphanRetries int
	// SACK, Timestamps and WindowScaling are offered and accepted if set.
	SACK, Timestamps, WindowScaling bool
	// RACK enables RFC 8985; without it RFC 6675 detects loss.
	RACK bool
	// TimeWait is 2MSL.
	TimeWait time.Duration
	// DelayedACK is the longest time an ACK is held back, below 500 ms (RFC 9293 MUST-40).
	DelayedACK time.Duration
	// InitialWindow is the initial congestion window in segments (RFC 6928: 10).
	InitialWindow int
	// RcvBufMax and SndBufMax bound auto-tuning, in bytes.
	RcvBufMax, SndBufMax int
	// ChallengeACKs limits challenge ACKs (RFC 5961 §7) for one connection: at most one per interval. 0 means no limit.
	ChallengeACKInterval time.Duration
	// Moderate enables receive buffer auto-tuning.
	Moderate bool
	// ECN tells whether ECN is asked for and agreed to.
	ECN ECNMode
	// Pacing spaces the segments of algorithms that set no rate as well, at a rate derived from their window.
	Pacing bool
}

// Settings are a socket's own options. The owner changes them between calls and then calls SettingsChanged.
type Settings struct {
	// NoDelay disables Nagle's algorithm (TCP_NODELAY); Cork holds partial segments (TCP_CORK).
	NoDelay, Cork bool
	// QuickAck: TCP_QUICKACK as set by the user: nothing set (0), on (1), off (2).
	QuickAck uint8
	// KeepAlive enables keep-alive (SO_KEEPALIVE) with Tuning's times and count.
	KeepAlive bool
	// RcvBuf and SndBuf are the buffer limits in bytes; RcvBufLocked and SndBufLocked stop auto-tuning, since the user chose.
	RcvBufLocked, SndBufLocked bool
	RcvBuf, SndBuf             int
	// Tuning is not nil. All sockets whose user left it alone share one, so that it costs them nothing: who changes it calls Tune.
	*Tuning
}

// Tune returns the Tuning to be changed: a copy that nobody shares.
func (s *Settings) Tune() *Tuning {
	own := *s.Tuning
	s.Tuning = &own
	return s.Tuning
}

// Tuning are the options that few sockets change.
type Tuning struct {
	// KeepIdle, KeepIntvl and KeepCount are the times and the count of keep-alive (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
	KeepIdle, KeepIntvl time.Duration
	KeepCount           int
	// UserTimeout is TCP_USER_TIMEOUT, 0 for none (RFC 5482).
	UserTimeout time.Duration
	// Linger2 is how long an orphan stays in FIN-WAIT-2 (TCP_LINGER2); negative: not at all.
	Linger2 time.Duration
	// SynRetries is R2 for SYN in retransmissions (TCP_SYNCNT).
	SynRetries int
	// MinRTO, MaxRTO and MaxRetries override the Config if not 0.
	MinRTO, MaxRTO time.Duration
	MaxRetries     int
	// WindowClamp bounds the advertised window in bytes (TCP_WINDOW_CLAMP), 0 for none.
	WindowClamp int
	// NotSentLowat: writable only while fewer unsent bytes are queued (TCP_NOTSENT_LOWAT), 0 for none.
	NotSentLowat int
	// RcvLowat is SO_RCVLOWAT, at least 1.
	RcvLowat int
	// MaxPacingRate in bytes per second, 0 for none.
	MaxPacingRate uint64
	// DeferAccept: the final ACK of a passive handshake is ignored until data comes or this time has passed (TCP_DEFER_ACCEPT).
	DeferAccept time.Duration
	// FastOpen is the connection's part in TCP Fast Open, nil if it has none. It is here, since few connections have one, and set before OPEN on a Tuning of its own.
	FastOpen *FastOpen
}

// OpenParams describe one connection to be opened.
type OpenParams struct {
	// ISS is the initial send sequence number (RFC 6528), TSOffset the random offset of the timestamp clock (RFC 7323 §5.4).
	ISS      Seq
	TSOffset uint32
	// MTUPayload is the largest TCP payload plus options that fits the path: MTU less IP header less 20. It bounds the send MSS.
	MTUPayload int
	// DefaultMSS is the send MSS if the peer announces none: 536 for IPv4, 1220 for IPv6 (MUST-15).
	DefaultMSS int
	// AdvertisedMSS is what our SYN announces.
	AdvertisedMSS uint16
	// Steps are smaller sizes that a later connection could announce should the peer's segments vanish, descending; zeros if nobody wants to know.
	Steps [2]uint16
	// UserMSS caps the send MSS (TCP_MAXSEG), 0 for none.
	UserMSS int
	// GSOMax is the largest payload that the link segments for us, 0 without GSO.
	GSOMax int
	// Cookie options: for OpenCookie only, what the SYN cookie remembered.
	CookieOpts Options
}

// State is a connection state. The values are gVisor's EndpointState numbers, so that the owner passes them on unchanged.
type State uint8
