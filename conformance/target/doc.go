// Package target puts a TCP under test behind one small interface, [Target]:
// a host whose system calls never block, whose network interface the caller
// holds in its hands, and whose time the caller moves.
//
// Two kinds come with it, which differ in the transport protocol only: [GVisor]
// and, by [Netstack], any other [stack.TransportProtocolFactory]. They run in
// memory and in virtual time (package vclock): an hour of retransmissions
// takes milliseconds, and the same seed gives the same bytes.
//
// # Another stack
//
// To test a stack of your own, implement [Target] and describe it with a
// [Kind]. For a transport for gVisor's netstack that is one line:
//
//	mine := target.Netstack("mine", "my TCP", target.Capabilities{}, mytcp.NewProtocol)
//
// For anything else:
//
//   - Inject takes an IP packet that arrives; Drain returns what was sent, with
//     the time at which it left.
//   - Syscall gets one of the structs of this package that implement [Call]. It
//     returns at once. A call that has to wait returns a [Pending] that is
//     completed while time passes in RunUntil.
//   - RunUntil stops early when there is something to tell, so that a packet is
//     answered at the instant at which it left.
//   - What the stack cannot do is an [UnsupportedError], never a pretence.
//
// Package runner then runs scripts against it.
package target
