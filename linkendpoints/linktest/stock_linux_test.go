package linktest_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// socket is the far end of a pair that an endpoint has the other end of.
type socket int

// Send implements linktest.Peer.
func (s socket) Send(frame []byte) error {
	for range 5 {
		if _, err := unix.Write(int(s), frame); !errors.Is(err, unix.EAGAIN) {
			return err
		}
		s.poll(unix.POLLOUT)
	}
	return unix.EAGAIN
}

// Recv implements linktest.Peer.
func (s socket) Recv(ctx context.Context) ([]byte, error) {
	b := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, err := unix.Read(int(s), b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		s.poll(unix.POLLIN)
	}
	return nil, ctx.Err()
}

// poll waits for events for a moment.
func (s socket) poll(events int16) {
	const milliseconds = 20
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s), Events: events}}, milliseconds)
}

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
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			unix.Close(fds[0])
			unix.Close(fds[1])
		})
		ep, err := fdbased.New(&fdbased.Options{
			FDs:            []int{fds[0]},
			MTU:            1500,
			EthernetHeader: true,
			Address:        tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x03"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return ep, socket(fds[1])
	}, stockKnown...)
}
