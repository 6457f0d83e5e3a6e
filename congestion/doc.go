// Package congestion is a transport-agnostic home for congestion control: the Controller interface, a registry by name, the delivery-rate sampler and the pacer.
//
// It imports nothing of a network stack. Sizes are bytes, rates bytes per second, instants nanoseconds since an origin that the transport chooses.
package congestion
