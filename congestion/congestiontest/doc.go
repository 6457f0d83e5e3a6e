// Package congestiontest is the contract that any congestion.Controller must satisfy, as tests that an author runs on his own:
//
//	func TestContract(t *testing.T) { congestiontest.Run(t, New) }
//	func FuzzContract(f *testing.F) { congestiontest.Fuzz(f, New) }
//
// Run drives the controller through the events of a transport, in the order that the interface documents, and checks after each of them what every
// transport relies on: a window within its bounds that grows by no more than what was acknowledged, reductions that reduce, episodes that can be undone, no
// allocation per packet, the same answers for the same events at whatever instant a connection begins. It also runs it over simulated links.
package congestiontest
