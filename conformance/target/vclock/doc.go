// Package vclock is a clock in virtual time: a [tcpip.Clock] that stands still
// until it is told to move, and then fires timers one at a time.
//
// Two properties make runs of a netstack on it reproducible to the byte.
//
// Timers that fall due at the same instant fire in the order in which they
// were armed, never in the order of a map.
//
// [Clock.Step] fires at most one timer and returns, so that its caller can let
// the stack come to rest before the next one. A stack that hands work to
// goroutines of its own (as gVisor's TCP does) would otherwise have two
// timers' work in flight together, and their order would be the scheduler's.
//
// Timer functions run on the goroutine that called Step, with no lock of the
// clock held: they may arm, stop and reset timers.
package vclock
