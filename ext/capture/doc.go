// Package capture records what crosses a link: it wraps any stack.LinkEndpoint
// and writes both directions as pcapng, which tcpdump, tshark and Wireshark
// read.
//
//	f, err := os.Create("trace.pcapng")
//	...
//	ep, err := capture.New(link, f, capture.Options{Name: "tap0"})
//	...
//	s.CreateNIC(1, ep)
//
// NewFiles records to a row of files instead, each of a limited size or time, and
// keeps the last ones:
//
//	ep, err := capture.NewFiles(link, capture.Files{Path: "trace.pcapng", Size: 100e6, Count: 10}, capture.Options{})
//
// Times have nanoseconds and come from a tcpip.Clock, so that a stack in virtual
// time writes the same bytes every time. Each packet says its direction.
//
// What the wrapped endpoint offloads is seen as it is: segments of more than an
// MTU, and TCP checksums that the link is still to compute. Wireshark calls such
// checksums wrong; they are not on the wire.
//
// Packets are copied and written by a goroutine, so that a slow disk does not
// slow the link down. If it falls behind by more than Options.QueueBytes, packets
// are left out and counted, in Stats and in the file, unless Options.Lossless
// makes the link wait.
package capture
