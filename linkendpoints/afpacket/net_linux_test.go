package afpacket

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
)

// cable is where the tests run.
type cable struct{ *linklab.Cable }

// newCable makes a cable of the given MTU; the addresses are for the kernel's
// end.
func newCable(t testing.TB, mtu int, addrs ...string) *cable {
	t.Helper()
	return &cable{linklab.NewCable(t, mtu, 1, addrs...)}
}

// open opens an endpoint on our end and closes it with the test.
func (c *cable) open(t testing.TB, opts Options) *Endpoint {
	t.Helper()
	if len(opts.FDs) == 0 {
		opts.Name = "ours"
	}
	e, err := c.tryOpen(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		e.Wait()
	})
	return e
}

// tryOpen opens an endpoint in the namespace.
func (c *cable) tryOpen(opts Options) (e *Endpoint, err error) {
	c.NS.Do(func() { e, err = New(opts) })
	return e, err
}

// socket opens a packet socket on a device.
func (c *cable) socket(t testing.TB, link netlink.Link) int {
	t.Helper()
	fd := -1
	var err error
	c.NS.Do(func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// packetSocket is a linktest.Peer: a plain packet socket on the kernel's end.
type packetSocket struct {
	linklab.Peer
	super int // sends with virtio-net headers, and receives nothing
}

func newPacketSocket(t testing.TB, c *cable) *packetSocket {
	t.Helper()
	p := &packetSocket{Peer: linklab.Peer{FD: c.socket(t, c.Kernels)}}
	t.Cleanup(p.Close)
	if err := unix.SetsockoptInt(p.FD, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(p.FD, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		t.Fatal(err)
	}
	var err error
	c.NS.Do(func() { p.super, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	if err == nil {
		err = unix.Bind(p.super, &unix.SockaddrLinklayer{Ifindex: c.Kernels.Attrs().Index})
	}
	if err == nil {
		err = unix.SetsockoptInt(p.super, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.super) })
	return p
}

// SendSuper implements linktest.SuperSender.
func (p *packetSocket) SendSuper(frame []byte, headers, mss int) error {
	_, err := unix.Write(p.super, linklab.Super(frame, headers, mss))
	return err
}
