// Package conformance tests a TCP, packet by packet, from go test.
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, target.Netstack("mine", "my TCP", target.Capabilities{}, mytcp.NewProtocol))
//	}
//
// Every test of the suite becomes a subtest, once for each version of IP, so
// that -run selects among them:
//
//	go test -run 'TestConformance/open/active.pkt/ipv6'
//	go test -run 'TestConformance/matrix/FIN-WAIT-2'
//
// Package target tells how to put another stack behind its interface; package
// runner is the machinery for programs that want results rather than tests.
package conformance
