// Package mutants has TCPs that are wrong on purpose, to measure the oracle: a
// checker that has found nothing proves little until it is known what it finds.
//
// A mutant is tcpx as it is, with a fault around it. The fault stands between
// the stack and the place where the oracle looks, so that the oracle sees what a
// TCP with that fault would send, and tcpx has no switches for it:
//
//	application | tcpx | fault | oracle | path | tcpx | application
//
// A fault rewrites, withholds, delays or invents segments of the stack, or hides
// from it what has arrived. Faults of congestion control are controllers, which
// tcpx takes as plug-ins, and faults of timers are its own options, set to what
// no RFC allows. Some faults are mistakes of the application's side of the
// interface, such as a close that only shuts down: on the wire they are the same.
//
// All is in memory and in virtual time; the same mutant gives the same packets.
package mutants
