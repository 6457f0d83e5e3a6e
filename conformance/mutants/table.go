package main

import "slices"

// The files with most of the rules.
const (
	tcb      = "tcpx/internal/tcb/"
	rec      = "tcpx/internal/recovery/"
	openGo   = tcb + "open.go"
	arriveGo = tcb + "arrives.go"
	ackGo    = tcb + "ack.go"
	textGo   = tcb + "text.go"
	windowGo = tcb + "window.go"
	outputGo = tcb + "output.go"
	timeGo   = tcb + "timeouts.go"
	callsGo  = tcb + "calls.go"
	ecnGo    = tcb + "ecn.go"
	recGo    = tcb + "recover.go"
	rtoGo    = rec + "rto.go"
	rackGo   = rec + "rack.go"
)

// table returns every mutant.
func table() []mutant {
	return slices.Concat(handshake, arrivals, acknowledgments, windows, texts, closes, timers, recoveries, congestions, markings)
}
