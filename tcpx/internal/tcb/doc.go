// Package tcb is TCP without IO: one connection as a state machine after RFC 9293. Segments, user calls and due timers go in; segments and events come out. It
// knows no lock, clock, goroutine or network stack: the owner passes the time with every call, sends what Owner.Transmit is given, and calls OnTimer
// at Deadline.
//
// # Where to find what
//
// The files follow RFC 9293 §3.10. To find what happens when, say, a FIN arrives in FIN-WAIT-2: SegmentArrives in arrives.go goes through the eight checks in the
// RFC's order, the eighth is fin in text.go, and its case for FIN-WAIT-2 calls timeWait.
//
//	OPEN               §3.10.1          open.go
//	SEND … STATUS      §3.10.2–3.10.6   calls.go, info.go
//	SEGMENT ARRIVES    §3.10.7          arrives.go (checks 1 to 4), ack.go (5), text.go (6 to 8)
//	timeouts           §3.10.8          timeouts.go, timers.go
//	figure 5           §3.3.2           state.go
//	sending            §3.8.6.2, 3.7.4  output.go; what is written: sendbuf.go
//	receiving          §3.8.6           window.go; what is read or out of order: recvbuf.go
//	loss recovery                       recover.go, on package recovery
//	options            §3.2, RFC 7323   options.go
//	Fast Open          RFC 7413         fastopen.go
//
// # Rules
//
// The state changes in setState only, which refuses what figure 5 does not have. A hostile segment may change counters, and what RFC 9293 and RFC 5961 allow,
// nothing else. Steady state allocates nothing: t.out, t.ack and the ring of sent segments are reused, and text is shared with the send buffer's memory.
package tcb
