package tcb

import "gvisor.dev/gvisor/pkg/buffer"

// Flags are the control bits of a TCP header (RFC 9293 §3.1), with AE (RFC 9768 §3.1) above them.
type Flags uint16

// The control bits.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE
)

// Has reports whether all bits of x are set.
func (f Flags) Has(x Flags) bool { return f&x == x }

// Any reports whether any bit of x is set.
func (f Flags) Any(x Flags) bool { return f&x != 0 }

// Segment is one incoming segment as the core sees it: header fields in host order, options parsed, checksum already verified by the caller.
type Segment struct {
	Seq, Ack Seq
	Flags    Flags
	// Wnd is the window field as sent, not scaled.
	Wnd uint16
	// Up is the urgent pointer field.
	Up uint16
	// Opts are the parsed options.
	Opts Options
	// Payload is the segment text. SegmentArrives takes what it keeps and leaves the rest for the caller to Release.
	Payload buffer.Buffer
	// Len is the number of octets of Payload.
	Len int
	// ECN holds the two ECN bits of the network header.
	ECN uint8
	// Segs is the number of segments a receive offload merged into this one, at least 1.
	Segs int
	// More tells that the owner passes another segment before it does anything else, or else calls Flush: what is to be sent waits, so that one ACK answers
	// a series of queued segments (RFC 9293 MUST-58, MUST-59). While text is missing each segment is still answered alone, for the peer counts
	// duplicate ACKs.
	More bool

	// unscaled tells that the segment came with SYN: Wnd is not to be scaled.
	unscaled bool
	// completes tells that the segment has just completed the handshake: what it acknowledges beside our SYN, if anything, is no duplicate.
	completes bool
}

// SegLen is SEG.LEN: the octets of text plus SYN and FIN (RFC 9293 §3.3.1).
func (s *Segment) SegLen() int {
	n := s.Len
	if s.Flags.Has(SYN) {
		n++
	}
	if s.Flags.Has(FIN) {
		n++
	}
	return n
}

// Out is one outgoing segment. The core reuses a single value: Transmit keeps no reference to it.
type Out struct {
	Seq, Ack Seq
	Flags    Flags
	// Wnd is the window field, already scaled.
	Wnd uint16
	// Up is the urgent pointer field.
	Up uint16
	// Opts holds OptLen octets of options, padded to a multiple of 4.
	Opts   [MaxOptionLen]byte
	OptLen int
	// Payload is the text; Transmit takes ownership.
	Payload buffer.Buffer
	// MSS is the payload of each wire segment. If Payload is longer, the link is to segment it (GSO).
	MSS int
	// ECN holds the ECN bits for the network header.
	ECN uint8
	// Retransmit tells that the text has been sent before.
	Retransmit bool
}
