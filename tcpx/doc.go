// Package tcpx is TCP for gVisor's netstack: a stack.TransportProtocol that takes the place of gvisor.dev/gvisor/pkg/tcpip/transport/tcp.
//
// To switch, change the import: tcpx.NewProtocol has the signature of stock's tcp.NewProtocol, and gonet, the forwarder and all socket and protocol options work as before.
//
//	s := stack.New(stack.Options{
//		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
//		TransportProtocols: []stack.TransportProtocolFactory{tcpx.NewProtocol},
//	})
//
// New configures it: congestion control, buffers, the memory budget. What tcpip has no type for is a method of Endpoint: TCPInfo, SetTCPOptionInt, SetMaxPacingRate,
// WriteUrgent and others; a tcpip.Endpoint of a stack with this TCP is an *Endpoint.
//
// # How it is built
//
// The rules of TCP are in internal/tcb: one connection as a state machine that knows no lock, clock or stack. This package is what connects it to netstack: it owns the
// addresses and ports (bind.go, connect.go), takes packets in and hands them to the core (receive.go), sends what the core produces (transmit.go), keeps one timer an endpoint
// (timer.go), and plays LISTEN, with its two queues and SYN cookies (listen.go, accept.go, cookie.go). Fast Open, which is off unless WithFastOpen turns it on, has its
// cookies and listeners in fastopen.go, its clients in fastopen_client.go and what they remember in fastopen_cache.go.
//
// A checkpoint, made with gVisor's state package, keeps sockets, what they are set to and what they listen on, and ends connections in the copy (state.go).
//
// There is no goroutine, neither per connection nor per stack. Who delivers a packet processes it; if the endpoint is busy the packet waits in a backlog that
// the holder empties before it lets go. lock.go has the rules. All time comes from the stack's clock and all randomness from the stack, so that a stack
// with a manual clock behaves the same each time.
//
// # Differences from stock
//
//   - The state ERROR or CLOSED is reached before the call that causes it returns; nothing happens later in another goroutine.
//   - An option that has no effect is an error (ErrUnknownProtocolOption) instead of being accepted.
//   - SO_ERROR holds soft ICMP errors only for sockets with IP_RECVERR, as on Linux; Endpoint.SoftError has them for all.
//   - SYNs are retried 7 times, so that an attempt lasts more than three minutes (RFC 9293 MUST-23).
//   - Buffers may grow to 64 MiB by auto-tuning.
package tcpx
