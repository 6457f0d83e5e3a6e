// Package arp is an ARP for gVisor's netstack. It takes the place of gVisor's network/arp:
//
//	stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol}}
//
// The neighbour cache and its states stay netstack's; this package decides what reaches them, and adds what a host and a router need.
//
//   - A neighbour that moves to another link address is believed when it says so (RFC 5227 §3, RFC 5944 §4.6), and the next packet goes there. See [Accept] and
//     Options.LockTime.
//   - An address is probed for before it is used, announced, and defended (RFC 5227). See [Protocol.AddAddress], [Defence] and [Conflict].
//   - Replies for addresses behind us (RFC 1027), which requests are answered, where requests come from: see [Proxy], [Ignore] and [Source].
//   - What nobody asked for cannot change a permanent entry, nor a router's before the old link address has been asked; nor does it say first where a router
//     is. See [RouterGuard].
//   - Requests, replies and learning are limited in rate, memory is bounded, and a flood of new addresses pushes neither the routers out of the cache nor the
//     neighbours that we talk to.
//   - Every packet that is dropped is counted by its reason, in [Stats].
//
// # The life of an entry
//
//	        packet to send                answer
//	(none) ───────────────► INCOMPLETE ──────────► REACHABLE ◄────────────┐
//	  │                        │   ▲                   │ 30 s            │
//	  │ announcement,          │   │ packet            ▼                 │ answer, or
//	  │ request to us          │   │ to send  ┌───► STALE ◄── announced  │ ConfirmReachable
//	  └────────────────────────┼───┼──────────┘        │ packet          │
//	                 3 requests│   │                   ▼                 │
//	                 unanswered▼   │        5 s      DELAY ──────────────┤
//	                          FAILED ◄── PROBE ◄───────┘                 │
//	                                       └─────────────────────────────┘
//
// The times are those of stack.NUDConfigurations. The first reachability probe goes to the known link address, further ones to everybody (Options.UnicastProbes).
//
// # Time
//
// All time is the stack's clock, all chance the stack's random source; there are no goroutines. In virtual time a run repeats to the byte.
package arp
