package fuzz

import (
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// Case is one connection with a peer: all that decides what happens, so that it can be
// run again. It holds no pointers into a run and is not changed by one.
type Case struct {
	// Seed determines all that is random in the target.
	Seed uint64
	// IP is the version of IP.
	IP runner.IPVersion
	// Active says that the target opens the connection.
	Active bool
	// Settings configure the target, by the names of Linux's sysctls.
	Settings []script.Setting
	// Options are socket options that the application sets before it opens.
	Options []Call
	// SYN is what the peer has in its SYN.
	SYN SYN
	// Steps are what happens, in order.
	Steps []Step
	// Finish says that at the end the peer becomes a good one and the connection has to
	// come to its end.
	Finish bool
	// calm waits after each step until the target has surely answered.
	calm bool
}

// SYN is what the peer offers in its SYN or SYN-ACK.
type SYN struct {
	// ISN is its initial sequence number.
	ISN uint32
	// MSS is the value of the option, or 0 for none.
	MSS uint16
	// WScale is the shift count, or -1 for none.
	WScale int
	// SACK and Timestamps say whether those options are there.
	SACK, Timestamps bool
	// ECN asks for ECN (RFC 3168).
	ECN bool
	// Window is the window in it.
	Window uint16
}

// Step is one thing that the peer, the network or the application does.
type Step struct {
	// What says what kind of step it is, in a few words.
	What string
	// After is how long to wait before.
	After time.Duration
	// One of these is set, or none: then nothing happens but time.
	Segment *Segment
	ICMP    *ICMP
	Call    *Call
}

// Mark is a place in a stream that both sides know.
type Mark uint8

// The marks. Those of the peer's stream are for sequence numbers, those of the target's
// for acknowledgment numbers and SACK blocks.
const (
	// Next is behind the highest octet that the peer has sent.
	Next Mark = iota
	// Expected is what the target has acknowledged.
	Expected
	// Edge is the right edge of the window that the target has offered.
	Edge
	// First is the first octet of either stream.
	First
	// Initial is the initial sequence number.
	Initial
	// Seen is behind the highest octet that the target has sent.
	Seen
	// Acked is what the peer has acknowledged.
	Acked
)

// Place is a sequence number: a mark and a distance from it.
type Place struct {
	From Mark
	Plus int32
}

// Stamp is what a timestamps option says, if both sides have agreed on them.
type Stamp uint8

// The stamps.
const (
	StampRight  Stamp = iota // the time, and the echo of the target's latest
	StampNone                // no option, although it was agreed
	StampOld                 // a value of 30 seconds before
	StampFuture              // a value of 30 seconds ahead
	StampEcho                // an echo of what was never sent
	StampZero                // an echo of zero
)

// Segment is a segment of the peer.
type Segment struct {
	Flags script.Flags
	Seq   Place
	Len   uint16
	Ack   Place
	Win   uint16
	Urg   uint16
	Stamp Stamp
	// SACK are blocks of what the peer claims to hold.
	SACK []Block
	// Mark is the ECN field of the IP header.
	Mark script.ECN
	// BadChecksum spoils the checksum, Reserved sets reserved bits, and Raw are octets
	// at the end of the options.
	BadChecksum bool
	Reserved    uint8
	Raw         []byte
}

// Block is a SACK block.
type Block struct {
	Left Place
	Len  uint32
}

// ICMP is an ICMP error about a segment that the target has sent.
type ICMP struct {
	// Code is that of package script: "frag_needed", "host_unreachable" and so on.
	Code string
	MTU  uint32
	// Quote is the sequence number of the segment.
	Quote Place
}

// CallKind is a system call.
type CallKind uint8

// The calls.
const (
	Accept CallKind = iota
	Read
	Write
	ShutdownRead
	ShutdownWrite
	Close
	SetOption
)

// Call is a call of the application.
type Call struct {
	Kind CallKind
	// Size is that of Read and Write.
	Size int
	// Level, Name and Value are those of SetOption. A Value of -1 for SO_LINGER is
	// {onoff=1, linger=0}.
	Level, Name string
	Value       int
}
