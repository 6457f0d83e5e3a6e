//go:build amd64 || arm64

package xdp

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/internal/nstest"
)

// patience is when a test gives up on something that has to happen.
const patience = 20 * time.Second

// pollInterval is how long a packetSocket waits at a time.
const pollInterval = 20 * time.Millisecond

// cable is a veth pair in a namespace of its own: the endpoint's end has no IP
// address, so that the kernel does not answer on it.
type cable struct {
	ns            *nstest.Namespace
	ours, kernels netlink.Link
}

// newCable makes a pair with so many queues; the addresses are for the kernel's
// end.
func newCable(t testing.TB, mtu, queues int, addrs ...string) *cable {
	t.Helper()
	c := &cable{ns: nstest.New(t)}
	// What the kernel says on its own would disturb those who count.
	c.ns.Sysctl(t, "net.ipv6.conf.default.accept_ra", "0")
	c.ns.Sysctl(t, "net.ipv6.conf.default.router_solicitations", "0")
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumRxQueues, attrs.NumTxQueues = "ours", mtu, queues, queues
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "kernels", PeerMTU: uint32(mtu),
		PeerNumRxQueues: uint32(queues), PeerNumTxQueues: uint32(queues),
	}
	h := c.ns.Netlink()
	if err := h.LinkAdd(veth); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	c.ours, c.kernels = c.link(t, "ours"), c.link(t, "kernels")
	c.ns.Sysctl(t, "net.ipv6.conf.ours.disable_ipv6", "1")
	c.ns.SetUp(t, c.ours)
	c.ns.SetUp(t, c.kernels)
	// Until the kernel has noticed that the other end is up, it loses what is
	// sent.
	deadline := time.Now().Add(patience)
	for _, name := range []string{"ours", "kernels"} {
		for c.link(t, name).Attrs().OperState != netlink.OperUp {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come up", name)
			}
			runtime.Gosched()
		}
	}
	for _, a := range addrs {
		c.ns.AddAddr(t, c.kernels, a)
	}
	return c
}

// link looks a device up.
func (c *cable) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := c.ns.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
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
	c.ns.Do(func() { e, err = New(opts) })
	return e, err
}

// packetSocket is a linktest.Peer: a plain packet socket on the kernel's end.
type packetSocket struct{ fd int }

func newPacketSocket(t testing.TB, c *cable) *packetSocket {
	t.Helper()
	return newPacketSocketOn(t, c, c.kernels)
}

// newPacketSocketOn opens a packet socket on either end.
func newPacketSocketOn(t testing.TB, c *cable, link netlink.Link) *packetSocket {
	t.Helper()
	var fd int
	var err error
	c.ns.Do(func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &packetSocket{fd}
	t.Cleanup(p.close)
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

// close closes the socket, which nobody may be using.
func (p *packetSocket) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

// Send implements linktest.Peer.
func (p *packetSocket) Send(frame []byte) error {
	for range 5 {
		_, err := unix.Write(p.fd, frame)
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		p.poll(unix.POLLOUT)
	}
	return unix.ENOBUFS
}

// Recv implements linktest.Peer.
func (p *packetSocket) Recv(ctx context.Context) ([]byte, error) {
	b := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, err := unix.Read(p.fd, b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		p.poll(unix.POLLIN)
	}
	return nil, ctx.Err()
}

// poll waits for events, but not so long that the end of a context goes
// unnoticed.
func (p *packetSocket) poll(events int16) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: events}}, int(pollInterval.Milliseconds()))
}

// htons returns v in network byte order, as the socket API wants protocols.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return *(*uint16)(unsafe.Pointer(&b))
}
