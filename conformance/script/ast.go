package script

import (
	"fmt"
	"net/netip"
	"time"
)

// Position is a place in a script's source text.
type Position struct {
	// File is the name that was given to Parse.
	File string
	// Line counts from 1.
	Line int
	// Column counts bytes from 1.
	Column int
}

// String returns the position as file:line:column.
func (p Position) String() string {
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Script is one parsed packetdrill script. It is never changed after Parse
// returned it, so several goroutines may run it at once.
type Script struct {
	// Name is the file name that was given to Parse.
	Name string
	// Description is the text of the comment that opens the file, its lines
	// joined with newlines, comment marks and tags removed.
	Description string
	// Source is the text of the file.
	Source string
	// Tags are what the //@ comments say.
	Tags Tags
	// Options are the --name=value lines at the top, in order.
	Options []Setting
	// Init are the commands in backquotes before the first event.
	Init []*Command
	// Events are what happens, in the order of the file.
	Events []*Event
	// Cleanup are the commands in backquotes, without a time, after the last
	// event. They run whether or not the script failed.
	Cleanup []*Command
}

// Option returns the value of the last --name option, and whether the script
// has one. An option without a value has the value "".
func (s *Script) Option(name string) (value string, ok bool) {
	for _, o := range s.Options {
		if o.Name == name {
			value, ok = o.Value, true
		}
	}
	return value, ok
}

// Setting is a name with a value: an option line of packetdrill or an
// "option" tag.
type Setting struct {
	Pos Position
	// Name is without leading dashes.
	Name string
	// Value is without quotes around it; "" if the setting has no value.
	Value string
}

// Tags are what a script says about itself in comments that begin with //@.
// packetdrill ignores them.
type Tags struct {
	// Title is the line to show to a reader; "" if the script has none.
	Title string
	// Section is the part of a specification that the script proves, as in
	// "RFC 9293 3.10.7.4"; "" if the script has none.
	Section string
	// Requirements are the IDs of the requirements that the script proves,
	// as in "MUST-13", in the order in which they were given.
	Requirements []string
	// Profile says what the script judges: the specification, or the
	// behaviour of Linux where the specification leaves a choice.
	Profile Profile
	// Expectations are the verdicts that are known beforehand.
	Expectations []Expectation
	// IP are the versions of IP that the script runs over. Parse sets it to
	// BothIP if the script does not say.
	IP IPVersions
	// TargetOptions configure the target, as in "syncookies=on".
	TargetOptions []Setting
}

// Expectation returns what the script expects of a target, and whether it
// says anything other than the default, which is to pass.
func (t *Tags) Expectation(target string) (Expectation, bool) {
	for _, e := range t.Expectations {
		if e.Target == target {
			return e, true
		}
	}
	return Expectation{Target: target, Verdict: ExpectPass}, false
}

// Profile is the measure that a script applies.
type Profile string

// The profiles.
const (
	// ProfileRFC scripts hold for every TCP that follows the RFCs. It is the
	// profile of a script that names none.
	ProfileRFC Profile = "rfc"
	// ProfileLinux scripts hold for Linux, and for a TCP that does as Linux
	// does where the RFCs leave a choice.
	ProfileLinux Profile = "linux"
)

// IPVersions is a set of versions of IP.
type IPVersions uint8

// The sets of versions of IP.
const (
	IPv4   IPVersions    = 1 << iota // IP version 4
	IPv6                             // IP version 6
	BothIP = IPv4 | IPv6             // either version
)

// Verdict is a verdict that a script can expect.
type Verdict string

// The verdicts that a script can expect of a target.
const (
	ExpectPass        Verdict = "pass"
	ExpectFail        Verdict = "fail"
	ExpectUnsupported Verdict = "unsupported"
)

// Expectation is the verdict that a script expects of one target.
type Expectation struct {
	Pos Position
	// Target is the name of a target, as in "gvisor".
	Target string
	// Verdict is what the run should end in.
	Verdict Verdict
	// Reason says why, in one line. Parse insists on one unless the verdict
	// is ExpectPass.
	Reason string
}

// Event is something that happens, or must happen, at some time.
type Event struct {
	// Pos is where the time of the event begins.
	Pos Position
	// Time says when.
	Time Time
	// Action says what: a *Packet, *NoPacket, *Alternatives, *Syscall,
	// *Command or *Code.
	Action Action
	// Comment is the text of the comment lines directly above the event,
	// or, if there are none, of the comment behind it.
	Comment string
	// Source is the source text of the event, time and action, with every
	// run of white space reduced to one space. It is meant for reports.
	Source string
}

// TimeKind says how to read a Time.
type TimeKind uint8

// The kinds of time.
const (
	// Relative is "+t": t after the event before.
	Relative TimeKind = iota
	// Absolute is "t": t after the start of the script.
	Absolute
	// AnyTime is "*": some time, for outbound packets only.
	AnyTime
	// RelativeRange is "+a~+b": at one moment no earlier than a and no later
	// than b after the event before, for outbound packets only.
	RelativeRange
	// AbsoluteRange is "a~b", counted from the start of the script, for
	// outbound packets only.
	AbsoluteRange
	// RelativeSpan is "+a...b": from a until b after the event before. The
	// system call starts at a, blocks, and returns at b; for NoPacket, no
	// packet leaves in between.
	RelativeSpan
	// AbsoluteSpan is "a...b", counted from the start of the script.
	AbsoluteSpan
)

// Time says when an event happens.
type Time struct {
	Kind TimeKind
	// At is the moment, or the beginning of the range or span. It is 0 for
	// AnyTime. Never negative.
	At time.Duration
	// End is the end of a range or span, counted from the same moment as At,
	// and never before At. It is 0 for the other kinds.
	End time.Duration
}

// IsRelative reports whether At and End count from the event before.
func (t Time) IsRelative() bool {
	return t.Kind == Relative || t.Kind == RelativeRange || t.Kind == RelativeSpan
}

// IsRange reports whether the event happens at one moment between At and End.
func (t Time) IsRange() bool { return t.Kind == RelativeRange || t.Kind == AbsoluteRange }

// IsSpan reports whether the event lasts from At until End.
func (t Time) IsSpan() bool { return t.Kind == RelativeSpan || t.Kind == AbsoluteSpan }

// Action is what happens in an event: a *Packet, *NoPacket, *Alternatives,
// *Syscall, *Command or *Code. String returns it in the notation of scripts.
type Action interface {
	fmt.Stringer
	// Unsupported returns why no runner of this project can perform the
	// action, or "" if one can.
	Unsupported() string
	action()
}

// NoPacket says that no packet leaves during the span of its event. The
// event is over at the end of the span: the next event counts from there.
type NoPacket struct {
	Pos Position
}

// Alternatives is an outbound packet that may take several forms, as where
// a specification says SHOULD or MAY.
type Alternatives struct {
	Pos Position
	// Packets are the forms, at least one. All are outbound.
	Packets []*Packet
	// OrNone says that the packet may as well not be there at all: if the
	// next packet matches none of Packets, or no packet leaves in time, the
	// event is satisfied and the next packet is left for the next event.
	OrNone bool
}

// Command is a command for the shell, in backquotes.
type Command struct {
	Pos Position
	// Text is what stands between the backquotes.
	Text string
}

// Code is a %{ }% block. Parse understands a small grammar; what lies
// outside it is kept as text, and Reason says so.
type Code struct {
	Pos Position
	// Text is what stands between the braces, spaces at its ends removed.
	Text string
	// Statements are what Text says, nil if Reason is not "".
	Statements []Statement
	// Reason says why Text is outside the grammar, or "".
	Reason string
}

// Syscall is a system call and what it must return.
type Syscall struct {
	Pos Position
	// Name is the name of the call, as in "setsockopt".
	Name string
	// Args are the arguments, those that the call fills in included.
	Args []Expr
	// Result is the value that the call returns. An *Ellipsis stands for any
	// value that is not an error.
	Result Expr
	// Errno is the name of the error, as in "EAGAIN", or "".
	Errno string
	// Note is the text in parentheses behind the result, or "".
	Note string
	// Reason says why no runner can make the call, or "".
	Reason string
}

// Direction says which way a packet goes, as seen from the TCP under test.
type Direction uint8

// The directions.
const (
	// Inbound packets ("<") are injected.
	Inbound Direction = iota
	// Outbound packets (">") are expected.
	Outbound
)

// String returns "<" or ">".
func (d Direction) String() string {
	if d == Inbound {
		return "<"
	}
	return ">"
}

// Opt is a value that a script may leave out.
type Opt[T any] struct {
	// Set says whether the script gives a value.
	Set bool
	// Value is the value, the zero value if Set is false.
	Value T
}

// Some returns an Opt that is set to v.
func Some[T any](v T) Opt[T] { return Opt[T]{Set: true, Value: v} }

// Packet is one packet, injected or expected. Exactly one of TCP, UDP and
// ICMP is not nil, except in a packet that is unsupported.
type Packet struct {
	Pos Position
	Dir Direction
	// IP is what the script says about the IP header.
	IP IP
	// Ports are the ports, if the script gives them; otherwise they are
	// those of the connection.
	Ports Opt[Ports]
	TCP   *TCP
	UDP   *UDP
	ICMP  *ICMP
	// Reason says why no runner can handle the packet, or "".
	Reason string
	// Text is the source text of the packet, without the direction, if
	// Reason is not "".
	Text string
}

// Ports are the ports of a TCP or UDP packet.
type Ports struct {
	Src, Dst uint16
}

// ECN is the ECN field of an IP header (RFC 3168 section 5).
type ECN uint8

// The values of the ECN field. The zero value leaves it open: it is not
// checked in outbound packets and is 0 in inbound ones.
const (
	ECNUnset ECN = iota
	NotECT       // [noecn]: not capable of ECN, 00
	ECT0         // [ect0]: capable of ECN, 10
	ECT1         // [ect1]: capable of ECN, 01
	CE           // [ce]: congestion experienced, 11
	AnyECT       // [ect01]: ECT(0) or ECT(1), in outbound packets only
)

// IP is what a script says about the IP header of a packet. What it leaves
// out is not checked in outbound packets, and is a default in inbound ones.
type IP struct {
	ECN ECN
	// TOS is the whole traffic class octet, ECN included.
	TOS Opt[uint8]
	// TTL is the time to live, or the hop limit of IPv6.
	TTL Opt[uint8]
	// FlowLabel is the flow label of IPv6, 20 bits.
	FlowLabel Opt[uint32]
	// Src and Dst replace the addresses of the connection. Not valid if the
	// script does not give them.
	Src, Dst netip.Addr
}

// Flags are the flags of a TCP header, in the bits of its 13th and 14th
// octet.
type Flags uint16

// The flags (RFC 9293 section 3.1; AE is RFC 9768 section 3.1).
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

// TCP is a TCP segment.
//
// Sequence and acknowledgment numbers, SACK blocks included, are those of
// the wire in segments with the SYN flag, except that the TCP under test is
// taken to have chosen 0 as its initial sequence number, whatever it really
// chose. In all other segments they count from the initial sequence number of
// the side that sends the octets, so that the first octet of data is 1. This
// is how tcpdump prints them. Where no SYN was seen, they are those of the
// wire.
type TCP struct {
	Flags Flags
	// ACE is the field of AccECN (RFC 9768), given as a digit among the
	// flags; Flags then has neither AE, CWR nor ECE.
	ACE Opt[uint8]
	// Seq is the sequence number of the segment, or what to add to the
	// right edge of the receive window to get it.
	Seq uint32
	// FromEdge says that Seq counts from the right edge of the window that
	// the target has offered: "edge+100:edge+200(100)". In inbound segments
	// only.
	FromEdge bool
	// AnySeq says that the sequence number is not compared: "0:0(0)!". In
	// outbound segments only.
	AnySeq bool
	// Len is the length of the payload in octets.
	Len uint16
	// Ack is the acknowledgment number. The ACK flag is in Flags: a segment
	// may have one without the other.
	Ack Opt[uint32]
	// Win is the window field as it is on the wire, not scaled. Inbound
	// segments always have one; in outbound segments it is not checked
	// unless set.
	Win Opt[uint16]
	// WinOp says how the window compares with Win: "win >= 1000". It is
	// not Equal in outbound segments only.
	WinOp Comparison
	// Urg is the urgent pointer, 0 if not set.
	Urg Opt[uint16]
	// Options are the options, in the order of the wire.
	Options []TCPOption
	// AnyOptions says that there may be more options than are listed:
	// <mss 1460,...>. Their order does not count then. In outbound segments
	// only.
	AnyOptions bool
	// DataOffset forces the data offset field, in units of 4 octets, to a
	// value that need not be right. In inbound segments only.
	DataOffset Opt[uint8]
	// Reserved sets the three reserved bits that are left beside AE. In
	// inbound segments only.
	Reserved Opt[uint8]
	// BadChecksum says to spoil the checksum. In inbound segments only.
	BadChecksum bool
	// Payload is the content of the payload, of length Len; nil if the
	// script does not give it.
	Payload []byte
}

// End returns the sequence number behind the payload. It does not count SYN
// or FIN.
func (t *TCP) End() uint32 { return t.Seq + uint32(t.Len) }

// OptionKind is the kind octet of a TCP option, or KindRaw.
type OptionKind uint16

// The kinds of TCP options that have a notation.
const (
	KindEOL        OptionKind = 0   // eol
	KindNOP        OptionKind = 1   // nop
	KindMSS        OptionKind = 2   // mss N
	KindWScale     OptionKind = 3   // wscale N
	KindSACKOK     OptionKind = 4   // sackOK
	KindSACK       OptionKind = 5   // sack L:R ...
	KindTimestamp  OptionKind = 8   // TS val N ecr N
	KindMD5        OptionKind = 19  // md5 HEX
	KindFastOpen   OptionKind = 34  // FO [HEX]
	KindAccECN0    OptionKind = 172 // ECN e0b N [ceb N [e1b N]]
	KindAccECN1    OptionKind = 174 // ECN e1b N [ceb N [e0b N]]
	KindExperiment OptionKind = 254 // FOEXP [HEX]: kind 254 with the magic F9 89 (RFC 7413 appendix A)

	// KindRaw is not a kind of TCP: the option is the octets in Data, kind
	// and length included, right or wrong.
	KindRaw OptionKind = 256
)

// SACKBlock is one block of a SACK option: Left is the first octet, Right
// the one behind the last.
type SACKBlock struct {
	Left, Right uint32
}

// Comparison is how a value of a packet compares with that of a script.
type Comparison uint8

// The comparisons.
const (
	Equal          Comparison = iota // N
	NotEqual                         // != N
	Less                             // < N
	LessOrEqual                      // <= N
	Greater                          // > N
	GreaterOrEqual                   // >= N
)

// Holds reports whether got compares with want as c says.
func (c Comparison) Holds(got, want uint64) bool {
	switch c {
	case NotEqual:
		return got != want
	case Less:
		return got < want
	case LessOrEqual:
		return got <= want
	case Greater:
		return got > want
	case GreaterOrEqual:
		return got >= want
	}
	return got == want
}

// TCPOption is one option of a TCP header. Which fields have a meaning
// depends on Kind; the others are zero.
type TCPOption struct {
	Kind OptionKind
	// Any leaves open the value of KindMSS, KindWScale and KindSACK, and
	// TSVal of KindTimestamp: "mss *". AnyEcr leaves TSEcr open: "ecr *". In
	// outbound segments only.
	Any, AnyEcr bool
	// MSS is the value of KindMSS.
	MSS uint16
	// Shift is the shift count of KindWScale.
	Shift uint8
	// TSVal and TSEcr are the values of KindTimestamp.
	TSVal, TSEcr uint32
	// Blocks are the blocks of KindSACK.
	Blocks []SACKBlock
	// Counters are the one to three 24-bit counters of KindAccECN0 and
	// KindAccECN1, in the order of the wire.
	Counters []uint32
	// Data is the digest of KindMD5, the cookie of KindFastOpen and
	// KindExperiment, or the whole option of KindRaw.
	Data []byte
}

// UDP is a UDP datagram.
type UDP struct {
	// Len is the length of the payload in octets.
	Len uint16
}

// ICMP is a message of ICMP or ICMPv6. Its names are resolved by Numbers, so
// that one script serves both.
type ICMP struct {
	// Type is the name of the type, as in "unreachable".
	Type string
	// Code is the name of the code, as in "frag_needed", or "" for code 0.
	Code string
	// MTU is the next-hop MTU.
	MTU Opt[uint32]
	// ID is the identifier of an echo message.
	ID Opt[uint16]
	// Quote is the packet that the message quotes. If it is not set, the
	// message quotes the start of a TCP segment with sequence number 0.
	Quote Opt[Quote]
}

// QuoteKind is the protocol of the packet that an ICMP message quotes.
type QuoteKind uint8

// The protocols of quoted packets.
const (
	QuoteTCP QuoteKind = iota // [1:1001(1000)]
	QuoteUDP                  // [udp (1000)]
	QuoteRaw                  // [raw (1000)]
)

// Quote is the packet that an ICMP message quotes: one that the TCP under
// test is supposed to have sent.
type Quote struct {
	Kind QuoteKind
	// Seq is the sequence number of a quoted TCP segment, numbered as in
	// outbound segments.
	Seq uint32
	// Len is the length of the payload of the quoted packet.
	Len uint16
	// Cut is how many octets of the packet are quoted. If it is not set, those
	// are that a router has to quote: the IP header and 8 octets.
	Cut Opt[uint16]
}
