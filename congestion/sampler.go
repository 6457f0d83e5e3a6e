package congestion

import "time"

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
