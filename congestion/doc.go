// Package congestion is a transport-agnostic home for congestion control: the Controller interface, a registry by name, the delivery-rate Sampler and the Pacer.
//
// It imports nothing of a network stack, so that a QUIC implementation can use it as well as this module's TCP. Sizes are bytes, rates bytes per second,
// instants nanoseconds since an origin that the transport chooses.
//
// The parts and who calls them:
//
//   - The transport keeps a PacketState inside each packet that it has sent, and tells one Sampler a connection of transmissions, deliveries and losses. The
//     Sampler turns each ACK into a RateSample.
//   - The transport detects losses, repairs them, and tells a Controller what happened: OnSent, OnLost, OnSignal, OnAck and the ends of episodes. The
//     Controller answers with a Control: how much may be in flight, how fast it may leave, in what bursts.
//   - The transport obeys. A Pacer spaces its packets; PRR (RFC 9937) shares out the reduction of a window in recovery, unless the Controller says that
//     its window holds there too.
//
// A Controller is one file that imports this package and registers a name; subpackages reno, cubic and bbr are those of this module. Package congestiontest is
// the contract that any of them must satisfy. docs/congestion.md shows how to write one.
package congestion
