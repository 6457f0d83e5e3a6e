// Package pmtu knows how large a packet may be on its way to a destination, and finds out.
//
//   - [Cache] remembers the path MTU of destinations (RFC 1191, RFC 8201). It believes a router only when what it says can be true: see [Cache.TooBig].
//   - [Machine] is RFC 8899 (DPLPMTUD): it says which probe to send next, and is told what became of packets. It also finds black holes, where large packets
//     vanish without an ICMP error (RFC 2923), and needs no ICMP at all. It does no input or output and reads no clock.
//   - [Flow] joins the two for one connection, or one UDP peer.
//   - [ParseICMP] reads "packet too big" errors; [ClampMSS] lowers the MSS in SYNs that are forwarded.
//
// # Units
//
// An MTU is the size of an IP packet in octets, its headers included. netstack tells transports an MTU without the IP header: see [FromTransport].
//
// # The states of RFC 8899
//
//	              Start                     probe of Base acknowledged
//	Disabled ───────────────► Base ───────────────────────────────────► Searching ──────────┐
//	    (until a black hole,   │ ▲ ▲                                      │    ▲            │ nothing left
//	     with OnBlackHole)     │ │ └──── black hole, or too big ──────────┤    │ raise      │ to find
//	 Base unanswered MaxProbes │ │                                        │    │ timer      ▼
//	       times, or too big   ▼ └──────── black hole, or too big ────────┼────┴───── SearchComplete
//	                         Error ───────────────────────────────────────┘
//	                                a probe of Base acknowledged
//
// # Time
//
// Times are a [tcpip.MonotonicTime] that the caller passes or the clock of the cache. The package has no goroutines, no timers and no randomness: a run in
// virtual time repeats exactly.
package pmtu
