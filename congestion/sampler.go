package congestion

import (
	"math/bits"
	"time"
)

// PacketState is what the sampler saves inside each sent packet, by value (draft-ietf-ccwg-bbr §4.1.2.1, "Per-packet (P) state").
// When a packet is split, both parts keep the state and share the size between them.
type PacketState struct {
	// SentTime is the instant of the last transmission, FirstSentTime the start of the sampling interval's send phase.
	SentTime, FirstSentTime Time
	// DeliveredTime is C.delivered_time at transmission.
	DeliveredTime Time
	// Delivered, DeliveredCE and Lost are the connection's totals in bytes at transmission.
	Delivered, DeliveredCE, Lost uint64
	// InFlight is the flight size in bytes at transmission, this packet included.
	InFlight uint64
	// TxSeq numbers transmissions and breaks ties among equal instants.
	TxSeq uint64
	// Size is the payload in bytes.
	Size uint32
	// AppLimited reports that sending was application-limited then; Retransmitted that this is not the first transmission.
	AppLimited, Retransmitted bool

	// outstanding is true from transmission to delivery, so that a second report of the same delivery counts nothing.
	// (The draft encodes it as delivered_time = 0, which is a legitimate instant on a clock that starts at zero.)
	outstanding bool
}

// Split takes the first n bytes off p and returns their state: both parts left at the same instant under the same circumstances.
// A transport calls it before a part of a packet is reported delivered or lost. n is at most p.Size.
func (p *PacketState) Split(n uint32) PacketState {
	head := *p
	head.Size = min(n, p.Size)
	p.Size -= head.Size
	return head
}

// RateSample is one delivery-rate sample (draft-ietf-ccwg-bbr §4.1.2.3).
type RateSample struct {
	// DeliveryRate is in bytes per second, 0 if not Valid.
	DeliveryRate uint64
	// Delivered, DeliveredCE and Lost are the bytes delivered, CE-marked and lost over the interval.
	Delivered, DeliveredCE, Lost uint64
	// PriorDelivered is the connection's delivered total when the sampled packet left.
	PriorDelivered uint64
	// PriorLost is the connection's lost total when the sampled packet left.
	PriorLost uint64
	// TxInFlight is the flight size when the sampled packet left, in bytes.
	TxInFlight uint64
	// Interval is the sampling interval, the longer of SendElapsed and AckElapsed.
	Interval, SendElapsed, AckElapsed time.Duration
	// RTT is the round-trip time of the sampled packet, 0 if it was retransmitted.
	RTT time.Duration
	// AppLimited reports that the sampled packet left while the application limited sending.
	AppLimited bool
	// Valid reports that DeliveryRate was computed.
	Valid bool
	// HasPacket reports that a packet was newly delivered by the ACK, so that the Prior fields are set.
	HasPacket bool
}

// Sampler estimates the delivery rate of one connection (draft-ietf-ccwg-bbr §4.1, which replaces draft-cheng-iccrg-delivery-rate-estimation).
//
// For each incoming ACK the transport calls Begin, OnDelivered for each packet that the ACK newly delivered, OnLost for each packet that it
// proved lost, and Finish. The zero value is ready for use. A Sampler is used by one goroutine at a time and allocates nothing.
type Sampler struct {
	delivered, deliveredCE, lost uint64     // C.delivered and C.lost, in bytes
	deliveredTime                Time       // C.delivered_time
	firstSentTime                Time       // C.first_send_time
	appLimited                   uint64     // C.app_limited: the bubble has left once delivered exceeds it; 0 without one
	txSeq                        uint64     // the last PacketState.TxSeq given out
	lastTxSeq                    uint64     // RS.last_acked_packet_id
	priorCE                      uint64     // deliveredCE when the packet of the sample under way left
	sample                       RateSample // under way
}

// OnSent snapshots the connection's delivery state into p when the packet is transmitted or retransmitted (draft §4.1.2.2). size is the payload in
// bytes and inFlight the flight size in bytes before this packet.
func (s *Sampler) OnSent(p *PacketState, now Time, size uint32, inFlight uint64, retransmission bool) {
	if inFlight == 0 {
		// Nothing is in flight: the time since the last ACK says nothing of the network, so that the interval starts here.
		s.firstSentTime, s.deliveredTime = now, now
	}
	s.txSeq++
	*p = PacketState{
		SentTime:      now,
		FirstSentTime: s.firstSentTime,
		DeliveredTime: s.deliveredTime,
		Delivered:     s.delivered,
		DeliveredCE:   s.deliveredCE,
		Lost:          s.lost,
		InFlight:      inFlight + uint64(size),
		TxSeq:         s.txSeq,
		Size:          size,
		AppLimited:    s.appLimited != 0,
		Retransmitted: retransmission,
		outstanding:   true,
	}
}

// Begin starts the rate sample of an incoming ACK (draft §4.1.2.3, InitRateSample).
func (s *Sampler) Begin(now Time) {
	s.sample = RateSample{}
}

// OnDelivered accounts a packet that was newly acknowledged, cumulatively or selectively (draft §4.1.2.3, UpdateRateSample). Only the first call for a
// transmission counts. If the ACK covers a part of the packet, the transport reports the part that PacketState.Split returns.
func (s *Sampler) OnDelivered(p *PacketState, now Time) {
	if !p.outstanding {
		return
	}
	p.outstanding = false
	s.delivered += uint64(p.Size)
	s.deliveredTime = now

	if s.sample.HasPacket && !s.isNewest(p) {
		return
	}
	s.lastTxSeq = p.TxSeq
	s.firstSentTime = p.SentTime
	s.priorCE = p.DeliveredCE
	s.sample.HasPacket = true
	s.sample.PriorDelivered = p.Delivered
	s.sample.PriorLost = p.Lost
	s.sample.TxInFlight = p.InFlight
	s.sample.AppLimited = p.AppLimited
	s.sample.SendElapsed = p.SentTime - p.FirstSentTime
	s.sample.AckElapsed = now - p.DeliveredTime
	s.sample.RTT = 0
	if !p.Retransmitted {
		s.sample.RTT = now - p.SentTime
	}
}

// isNewest reports whether p left after the packet that the sample is taken from so far. Packets of one burst share an instant: TxSeq decides.
func (s *Sampler) isNewest(p *PacketState) bool {
	return p.SentTime > s.firstSentTime || (p.SentTime == s.firstSentTime && p.TxSeq > s.lastTxSeq)
}

// OnLost accounts a packet that was marked lost. A packet that is lost, sent again and lost again counts twice.
func (s *Sampler) OnLost(p *PacketState) { s.lost += uint64(p.Size) }

// Finish completes the rate sample of the ACK (draft §4.1.2.3, GenerateRateSample). minRTT is the connection's minimum round-trip time, 0 if unknown; inFlight is the
// flight size in bytes after the ACK. A sample over less than minRTT is not Valid: it comes from an ACK for the original of a packet that was
// retransmitted without need.
func (s *Sampler) Finish(minRTT time.Duration, inFlight uint64) RateSample {
	if s.appLimited != 0 {
		// What was in flight ahead of the bubble and has been lost will be sent again behind it, hence the upper bound.
		s.appLimited = max(min(s.appLimited, s.delivered+inFlight), 1)
		if s.delivered > s.appLimited {
			s.appLimited = 0
		}
	}
	rs := &s.sample
	if !rs.HasPacket {
		return *rs
	}
	// The longer of the two filters out compressed ACKs (§4.1.1.2.4): data can't arrive faster than it was sent.
	rs.Interval = max(rs.SendElapsed, rs.AckElapsed)
	rs.Delivered = s.delivered - rs.PriorDelivered
	rs.DeliveredCE = s.deliveredCE - s.priorCE
	rs.Lost = s.lost - rs.PriorLost
	if rs.Interval > 0 && rs.Interval >= minRTT {
		rs.DeliveryRate = rate(rs.Delivered, rs.Interval)
		rs.Valid = true
	}
	return *rs
}

// MarkAppLimited marks what is sent from now on as limited by the application, until all that is in flight now has been delivered (draft §4.1.2.4,
// MarkConnectionAppLimited). The transport calls it when it has neither unsent data nor retransmissions to send while cwnd and pacing would
// allow some: before a write by the application, at the start of ACK and of timer processing.
func (s *Sampler) MarkAppLimited(inFlight uint64) {
	s.appLimited = max(s.delivered+inFlight, 1)
}

// AddCE accounts bytes newly reported as CE-marked (RFC 9768). It is called between Begin and Finish.
func (s *Sampler) AddCE(bytes uint64) { s.deliveredCE += bytes }

// Delivered returns the bytes delivered so far, each transmission counted once.
func (s *Sampler) Delivered() uint64 { return s.delivered }

// DeliveredCE returns the bytes reported as CE-marked so far.
func (s *Sampler) DeliveredCE() uint64 { return s.deliveredCE }

// Lost returns the bytes marked lost so far.
func (s *Sampler) Lost() uint64 { return s.lost }

// AppLimited reports whether what is sent now is limited by the application.
func (s *Sampler) AppLimited() bool { return s.appLimited != 0 }

// rate returns bytes per second, rounded down, without overflow. d is positive.
func rate(bytes uint64, d time.Duration) uint64 {
	hi, lo := bits.Mul64(bytes, uint64(time.Second))
	if hi >= uint64(d) {
		return MaxRate
	}
	q, _ := bits.Div64(hi, lo, uint64(d))
	return min(q, MaxRate)
}

// MaxRate stands for an unlimited rate, in bytes per second.
const MaxRate = uint64(1) << 62
