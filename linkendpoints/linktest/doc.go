// Package linktest is the contract of stack.LinkEndpoint as a test. Anybody
// who writes an endpoint runs it from a test of their own:
//
//	func TestContract(t *testing.T) {
//		linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
//			ep, wire := newMyEndpoint(t)
//			return ep, wire
//		})
//	}
//
// The factory makes a fresh endpoint for each case and a Peer: the far end of its
// wire, where the case sees what the endpoint sends and puts frames for it to
// receive, well-formed or not.
//
// A Peer on a medium that carries segments longer than the MTU implements
// SuperSender as well. Cases that an endpoint is known to fail are named with a
// reason as the last arguments of Run and skipped. The names of cases are part of
// this package's interface.
//
// The interface's own documentation is short. The cases also demand what a
// stack relies on in practice: that no frame from outside ends an endpoint, that
// the checksums of what it delivers hold if it says so, that Attach(nil), Close and
// Wait may be called in any state and any number of times, and that nothing is
// left afterwards, neither a goroutine nor a packet buffer.
package linktest
