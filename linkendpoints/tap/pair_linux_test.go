package tap

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// kernelAddress is the address of the kernel's end in tests without a kernel.
const kernelAddress = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\xfe")

// wire is the kernel's end of a device made of a socket pair, which keeps frame
// boundaries as a TAP does, and is full sooner. Its Peer sends and receives what
// a TAP descriptor gives and takes, virtio-net header included.
type wire struct {
	linklab.Peer
	vnetHdr bool
}

// newPair makes a device without a kernel behind it.
func newPair(t testing.TB, mode Mode, vnetHdr bool) (*device, *wire) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{fds: fds[:1], name: "pair", mode: mode, vnetHdr: vnetHdr, mtu: 1500}
	if mode == TAP {
		d.addr = kernelAddress
	}
	w := &wire{Peer: linklab.Peer{FD: fds[1]}, vnetHdr: vnetHdr}
	t.Cleanup(w.Close)
	return d, w
}

// Send implements linktest.Peer.
func (w *wire) Send(frame []byte) error {
	if w.vnetHdr {
		frame = append(make([]byte, vnet.HeaderSize), frame...)
	}
	return w.Peer.Send(frame)
}

// Recv implements linktest.Peer.
func (w *wire) Recv(ctx context.Context) ([]byte, error) {
	b, err := w.Peer.Recv(ctx)
	if err != nil || !w.vnetHdr {
		return b, err
	}
	return b[vnet.HeaderSize:], nil
}

// readOne reads what was written, without allocating.
func readOne(w *wire, b []byte) (int, error) { return unix.Read(w.FD, b) }
