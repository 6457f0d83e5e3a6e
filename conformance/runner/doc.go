// Package runner runs conformance scripts (package script) against targets
// (package target) and judges what they do, packet by packet.
//
// [Run] performs one script on a fresh instance of one target. A [Suite] runs
// many on many, in parallel, with results in a fixed order. The same seed gives
// the same results to the byte.
//
// # What a script says, and what is on the wire
//
// A script numbers octets from the initial sequence number of either side, as
// packetdrill does, and calls timestamps by values of its own; the runner keeps
// both worlds apart for each connection. A SYN of the target tells its initial
// sequence number, the first timestamp that the script names tells the offset
// of its clock. A SYN that begins another incarnation of a connection, and is
// answered as one, begins the numbering anew.
//
// The octets of both streams are a function of their place in the stream. So
// the runner notices data that is wrong, or at the wrong place, in any segment
// and in any read, although the script speaks about lengths only.
//
// # Levels
//
// At level [Strict] packets are compared as packetdrill compares them:
// everything that the script gives, options in order. Segments that follow each
// other are joined to the length that the script gives; PSH is not compared in
// what was joined.
//
// At level [RFC] what the specifications leave open does not count. PSH is
// ignored. Options are a set without padding, timestamps are compared by what
// they echo. Segments are joined and cut to the ranges that the script gives,
// with FIN on the last or behind it, and a retransmission may be shorter than
// the script has it, by no more than half. With the option line
// --strict_segments a segment may not be longer than the script has it, for
// scripts about segment sizes.
//
// At both levels a window is compared if the script gives one, checksums have
// to be right, and packets left over at the end are a failure.
//
// # Time
//
// An event may happen 4 ms or an eighth of the time since the event before it
// early or late, whichever is more. The option lines --tolerance_usecs and
// --tolerance_percent change that. What must not happen, "> none", has no
// tolerance. A system call without a span of time has to return at once.
//
// On a target in real time the machine adds delays of its own. Such runs are done
// one at a time; Options.Tolerance widens every window; a run that fails because
// something came late, early or not in time is done a second time, which its
// result says; and Options.MaxRealTime leaves out what would last too long.
//
// # Tests in Go
//
// What no script can say is a [Case]: a function with a [Peer] in its hands, which
// sends segments to the target, receives what it answers, and makes calls. It is
// judged and reported as scripts are.
//
// # Verdicts
//
// The first thing that goes wrong ends a script with [Fail]. What the target
// or the runner cannot do ends it with [Unsupported]; an assertion about a
// value that the target does not tell does so in the end, if nothing else went
// wrong. An expect tag turns an expected failure into [XFail], and makes an
// unexpected success an [XPass], which fails the suite: the tag is out of date.
package runner
