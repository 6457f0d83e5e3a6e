// Package fuzz looks for faults of a TCP with peers that are random but know what
// they do, and with the oracle as the judge.
//
//	report, err := fuzz.Run(ctx, fuzz.Options{Kind: target.TCPX(), Cases: 10_000, Seed: 1})
//
// A [Case] is a connection: how it is opened and what the peer and the application
// do on it, step by step. What a step sends is relative to what was sent before: an
// ACK of what was seen, data at the right edge of the window, a SACK block above a
// hole. So a case means the same to every TCP, and still means something after a
// step was taken out of it.
//
// The generator makes each step when it sees what the target has answered to the
// step before. It knows the state of the connection and mostly does what a peer in
// that state may do, with losses, overlaps, silence, closed windows and all, and
// sometimes what it may not.
//
// # What is a failure
//
//   - oracle: what the target sends breaks a rule of the hard tier of package oracle;
//   - payload, read: it sends octets that the application has not written, or
//     delivers octets that the peer has not sent at that place;
//   - panic, hang, storm: it panics, stops answering, or sends without end;
//   - gave-up: it ends a connection of which both sides are sound;
//   - stuck: a peer that from now on does everything right does not get all that was
//     written, or the target does not take what the peer has to send, or the
//     connection does not close;
//   - leftover: a connection that was reset still answers as if it was there.
//
// The last three are found at the end of each case, where the peer becomes a good one.
//
// # From a failure to a script
//
// A failure is made smaller: steps are removed and made simpler for as long as the
// same thing goes wrong. What is left is recorded as a script of package script, which
// package runner runs: with Options.Oracle it fails in the same way.
//
// The same seed makes the same cases, in virtual time the same packets to the octet.
//
// # Differences
//
// [Differ] runs the same case on two targets and reports the first step that they
// answer differently. A difference is no failure: RFC 9293 leaves choices. Those that
// are known are named with the reason.
package fuzz
