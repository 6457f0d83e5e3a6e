// Package backpressure says what link endpoints do with a packet for which the device has no room. The endpoints export its names as their own.
package backpressure

import "fmt"

// Policy says what becomes of a packet for which there is no room.
type Policy int

const (
	// Refuse makes WritePackets return *tcpip.ErrNoBufferSpace at once. The
	// packet was not sent, so a transport should neither count it as in flight
	// nor as lost.
	Refuse Policy = iota
	// Block makes WritePackets wait until there is room, the device goes down
	// or the endpoint is closed. The waiting goroutine may be one that
	// delivers, which then receives nothing meanwhile.
	Block
	// Drop drops the packet, counts it and reports success, as a wire does.
	Drop
)

// Valid reports whether p is one of the policies.
func (p Policy) Valid() bool { return p >= Refuse && p <= Drop }

// String returns "refuse", "block" or "drop".
func (p Policy) String() string {
	switch p {
	case Refuse:
		return "refuse"
	case Block:
		return "block"
	case Drop:
		return "drop"
	}
	return fmt.Sprintf("Backpressure(%d)", int(p))
}
