package linktest_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// stockKnown is what gVisor's endpoint is known to fail, whatever its descriptor
// is.
var stockKnown = []linktest.KnownFailure{
	{Case: "Properties", Reason: "goroutines that New started stay if it is never attached"},
	{Case: "Headers", Reason: "goroutines that New started stay if it is never attached"},
	{Case: "CloseUnattached", Reason: "goroutines that New started stay if it is never attached"},
	{Case: "ReceiveBroadcast", Reason: "broadcast and multicast are not told from unicast"},
	{Case: "ReceiveOtherHost", Reason: "a unicast frame for another address ends receiving for ever"},
	{Case: "ReceiveBadFrames", Reason: "a frame that is too short ends receiving for ever"},
	{Case: "DetachUnderLoad", Reason: "what was handed to its processors may be delivered after Wait"},
	{Case: "Reattach", Reason: "panics: buffers were released by the first Attach(nil)"},
	{Case: "Close", Reason: "sends packets after Close; attaching again panics"},
	{Case: "CloseUnderLoad", Reason: "Close does nothing, so that Wait does not return"},
	{Case: "CloseWithoutDetach", Reason: "Close does nothing, so that Wait does not return"},
}

// gVisor's own endpoint, as a third party would test it, with what it is known
// to fail. With PacketDispatchMode RecvMMsg it fails every case: the goroutines of
// a dispatcher that New makes first and does not use are never stopped.
func TestStockFdbased(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
		return newStockPair(t, fdbased.Options{EthernetHeader: true, Address: "\x02\x00\x5e\x00\x53\x03"})
	}, stockKnown...)
}

// The same with generic receive offload, which works without link headers only.
func TestStockGRO(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
		return newStockPair(t, fdbased.Options{GRO: true, ProcessorsPerChannel: 2})
	}, append(slices.Clone(stockKnown),
		linktest.KnownFailure{Case: "ReceiveFlows", Reason: "of the flows that share a bucket only the first is delivered when a batch ends"},
		linktest.KnownFailure{Case: "ReceiveSegments", Reason: "the same; what is left waits for other packets"},
	)...)
}

// newStockPair makes gVisor's endpoint on a socket pair.
func newStockPair(t *testing.T, o fdbased.Options) (stack.LinkEndpoint, linktest.Peer) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	o.FDs = fds[:1]
	return newStock(t, o), &linklab.Peer{FD: fds[1]}
}
