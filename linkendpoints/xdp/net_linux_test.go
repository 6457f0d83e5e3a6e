//go:build amd64 || arm64

package xdp

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
)

// patience is when a test gives up on something that has to happen.
const patience = 20 * time.Second

// cable is where the tests run.
type cable struct{ *linklab.Cable }

// newCable makes a cable with so many queues; the addresses are for the kernel's
// end.
func newCable(t testing.TB, mtu, queues int, addrs ...string) *cable {
	t.Helper()
	return &cable{linklab.NewCable(t, mtu, queues, addrs...)}
}

// open opens an endpoint on our end and closes it with the test.
func (c *cable) open(t testing.TB, opts Options) *Endpoint {
	t.Helper()
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
	if len(opts.FDs) == 0 && opts.Name == "" {
		opts.Name = "ours"
	}
	c.NS.Do(func() { e, err = New(opts) })
	return e, err
}

// packetSocket is a linktest.Peer: a plain packet socket on the kernel's end.
type packetSocket struct{ linklab.Peer }

func newPacketSocket(t testing.TB, c *cable) *packetSocket {
	t.Helper()
	return newPacketSocketOn(t, c, c.Kernels)
}

// newPacketSocketOn opens a packet socket on either end.
func newPacketSocketOn(t testing.TB, c *cable, link netlink.Link) *packetSocket {
	t.Helper()
	var fd int
	var err error
	c.NS.Do(func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &packetSocket{linklab.Peer{FD: fd}}
	t.Cleanup(p.Close)
	for _, o := range [][3]int{
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16 << 20},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	return p
}

// htons returns v in network byte order, as the socket API wants protocols.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return *(*uint16)(unsafe.Pointer(&b))
}
