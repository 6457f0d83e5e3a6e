package kernel

import (
	"errors"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Config says what runs.
type Config struct {
	// Forward is the direction in which data flows, Reverse that of the acknowledgments.
	Forward, Reverse emulated.Link
	// MTU is that of the path and the devices, in bytes.
	MTU uint32
	// Seed determines all that is random about the path.
	Seed uint64
	// Pairs has an element for each pair of hosts, at most MaxPairs: the delay of their access links in each direction.
	Pairs []time.Duration
	// Flows are the connections, at most MaxFlows, each from the left host of a pair to the right one.
	Flows []Flow
	// Buffer is the size of the socket buffers in bytes. Unsent is how much of its text an application keeps ready for the kernel to send, in bytes.
	Buffer, Unsent int
	// Capture, if set, wraps the path's endpoint of each left host.
	Capture func(stack.LinkEndpoint, tcpip.Clock) (stack.LinkEndpoint, error)
}

// The limits of a Config: how many flows and pairs of hosts there can be before descriptors run out and threads get into each other's way.
const (
	MaxFlows = 1000
	MaxPairs = 16
)

// Flow is one connection.
type Flow struct {
	// Pair is the number of the hosts.
	Pair int
	// Algorithm is one of Algorithms.
	Algorithm string
	// Start is when it connects.
	Start time.Duration
	// Bytes is how much it sends before it closes; 0 means that it sends until the end.
	Bytes int64
	// Rate is that at which the application has data; 0 means always.
	Rate emulated.BitRate
}

// State is what is known of a flow at some instant.
type State struct {
	// Received is how much the receiver has read, in bytes, and Finished when it had all of Flow.Bytes, 0 if it has not.
	Received int64
	Finished time.Duration
	// What the sender's kernel says of the connection: window and flight in bytes, round-trip times, the pacing rate in bytes a second (0 if it does not pace), segments
	// sent again and time-outs so far.
	Cwnd, InFlight        uint64
	SRTT, MinRTT          time.Duration
	Pacing                uint64
	Retransmits, Timeouts uint64
}

// bbr1 is what this module calls the version of BBR that is in the kernel under the name of "bbr".
const bbr1 = "bbr1"

// moduleName returns the kernel's name of an algorithm.
func moduleName(algorithm string) string {
	if algorithm == bbr1 {
		return "bbr"
	}
	return algorithm
}

// Algorithms returns the names of the kernel's algorithms, those that are loaded and those that most kernels have: Check knows whether they can be used. "bbr1" is
// another name of the kernel's "bbr", which is BBR's first version.
func Algorithms() []string {
	names := append(loaded(), "bbr", bbr1, "cubic", "reno")
	slices.Sort(names)
	return slices.Compact(names)
}

// ErrUnsupported says that this system is not Linux.
var ErrUnsupported = errors.New("the stack linux runs in the kernel's network namespaces, on Linux only")
