package afpacket

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// cable is a veth pair in a namespace of its own: the endpoint's end has no IP
// address, so that the kernel does not answer on it.
type cable struct {
	ns            *nstest.Namespace
	ours, kernels netlink.Link
}

// newCable makes a pair of the given MTU; the addresses are for the kernel's
// end.
func newCable(t testing.TB, mtu int, addrs ...string) *cable {
	t.Helper()
	c := &cable{ns: nstest.New(t)}
	// What the kernel says on its own would disturb those who count.
	c.ns.Sysctl(t, "net.ipv6.conf.default.accept_ra", "0")
	c.ns.Sysctl(t, "net.ipv6.conf.default.router_solicitations", "0")
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "ours", mtu
	h := c.ns.Netlink()
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "kernels"}); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	c.ours, c.kernels = c.link(t, "ours"), c.link(t, "kernels")
	c.ns.Sysctl(t, "net.ipv6.conf.ours.disable_ipv6", "1")
	for _, l := range []netlink.Link{c.ours, c.kernels} {
		if err := h.LinkSetMTU(l, mtu); err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	// Until the kernel has noticed that the other end is up, it loses what is
	// sent.
	deadline := time.Now().Add(10 * time.Second)
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
	c.ns.Do(func() { e, err = New(opts) })
	return e, err
}

// socket opens a packet socket on a device.
func (c *cable) socket(t testing.TB, link netlink.Link) int {
	t.Helper()
	fd := -1
	var err error
	c.ns.Do(func() {
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
	fd    int
	super int // sends with virtio-net headers, and receives nothing
}

func newPacketSocket(t testing.TB, c *cable) *packetSocket {
	t.Helper()
	p := &packetSocket{fd: c.socket(t, c.kernels)}
	t.Cleanup(func() { unix.Close(p.fd) })
	if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		t.Fatal(err)
	}
	var err error
	c.ns.Do(func() { p.super, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	if err == nil {
		err = unix.Bind(p.super, &unix.SockaddrLinklayer{Ifindex: c.kernels.Attrs().Index})
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
	h := vnet.Header{Flags: vnet.FlagNeedsCsum, CsumStart: uint16(headers - header.TCPMinimumSize), CsumOffset: header.TCPChecksumOffset}
	if len(frame)-headers > mss {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOTCPv4, uint16(mss), uint16(headers)
	}
	b := make([]byte, vnet.HeaderSize, vnet.HeaderSize+len(frame))
	h.Put(b)
	_, err := unix.Write(p.super, append(b, frame...))
	return err
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
	const milliseconds = 20
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: events}}, milliseconds)
}
