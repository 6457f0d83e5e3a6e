// Package oracle judges TCP by its packets alone. It reads a trace, or is shown
// packets as they pass, follows every connection, and says which segments break
// a rule of the RFCs: with the time, the packet, the section and the reason.
//
//	report, err := oracle.Check(file, oracle.Options{})
//
// A checker that sees packets only cannot know what the application has called,
// what was lost behind the place where the capture was made, or what a host had
// received when it sent. A general analyser of everything has failed before (V.
// Paxson, "Automated Packet Trace Analysis of TCP Implementations", SIGCOMM
// 1997). This one therefore has two tiers:
//
//   - The hard tier has rules that the packets prove to be broken, whatever has
//     happened outside of them. It is meant to have no false positive.
//   - The soft tier has inferences about timers and windows, and advice that a
//     TCP may have reasons not to take. Each finding has a confidence.
//
// What cannot be judged is counted and named in the report, never guessed:
// segments that were not captured whole, connections whose beginning is missing,
// gaps in the capture. Options say what is known about a trace; the more, the
// more rules apply.
//
// # States
//
// Calls are invisible, and so is the moment at which a segment arrives. For each
// end the checker keeps the set of all states of RFC 9293 figure 5 that it may be
// in. A segment that no state of the set sends breaks the rule "state".
//
// # Where things are
//
//	rules.go          every rule with its section
//	oracle.go         Checker, Options, Finding
//	conn.go           connections, their two ends, and the memory that they use
//	hard.go states.go the hard tier
//	soft.go           the soft tier about senders, soft_receiver.go about receivers
//	decode.go link.go packets; pcap.go, file.go files
//	report.go ladder.go what people read
//
// It shares no code with any TCP, since it could not find the mistakes that it
// shares. Package live, below it, judges a link endpoint of a netstack while it
// is in use.
//
// A Checker holds no more memory than Options say, however long a trace is.
package oracle
