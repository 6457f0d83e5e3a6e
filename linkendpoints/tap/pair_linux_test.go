package tap

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// kernelAddress is the address of the kernel's end in tests without a kernel.
const kernelAddress = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\xfe")

// wire is the kernel's end of a device made of a socket pair, which keeps frame
// boundaries as a TAP does, and is full sooner.
type wire struct {
	fd      int
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
	w := &wire{fd: fds[1], vnetHdr: vnetHdr}
	t.Cleanup(w.close)
	return d, w
}

// close closes the kernel's end.
func (w *wire) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
		w.fd = -1
	}
}

// sendRaw sends what a TAP descriptor would give, virtio-net header included.
func (w *wire) sendRaw(b []byte) error {
	for range 5 {
		_, err := unix.Write(w.fd, b)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		w.poll(unix.POLLOUT)
	}
	return unix.EAGAIN
}

// Send implements linktest.Peer.
func (w *wire) Send(frame []byte) error {
	if w.vnetHdr {
		frame = append(make([]byte, vnet.HeaderSize), frame...)
	}
	return w.sendRaw(frame)
}

// recvRaw receives what was written to the TAP descriptor.
func (w *wire) recvRaw(ctx context.Context) ([]byte, error) {
	b := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, err := unix.Read(w.fd, b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		w.poll(unix.POLLIN)
	}
	return nil, ctx.Err()
}

// Recv implements linktest.Peer.
func (w *wire) Recv(ctx context.Context) ([]byte, error) {
	b, err := w.recvRaw(ctx)
	if err != nil || !w.vnetHdr {
		return b, err
	}
	return b[vnet.HeaderSize:], nil
}

// poll waits for events, but not so long that the end of a context goes
// unnoticed.
func (w *wire) poll(events int16) {
	const milliseconds = 20
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: events}}, milliseconds)
}

// readOne reads what was written, without allocating.
func readOne(w *wire, b []byte) (int, error) { return unix.Read(w.fd, b) }
