package linktest_test

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// allProtocols is ETH_P_ALL in network byte order, on machines that are
// little-endian.
const allProtocols = unix.ETH_P_ALL << 8

// packetSocket is the far end of a device: a plain packet socket, and one whose
// frames have virtio-net headers.
type packetSocket struct {
	linklab.Peer
	super int
}

// newPacketSocket opens the far end at the device link in ns.
func newPacketSocket(t *testing.T, ns *nstest.Namespace, link netlink.Link) *packetSocket {
	t.Helper()
	open := func(protocol uint16) int {
		fd := -1
		var err error
		ns.Do(func() { fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0) })
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Attrs().Index})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	p := &packetSocket{linklab.Peer{FD: open(allProtocols)}, open(0)}
	err := unix.SetsockoptInt(p.FD, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err == nil {
		err = unix.SetsockoptInt(p.FD, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}
	if err == nil {
		err = unix.SetsockoptInt(p.super, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// SendSuper implements linktest.SuperSender.
func (p *packetSocket) SendSuper(frame []byte, headers, mss int) error {
	_, err := unix.Write(p.super, linklab.Super(frame, headers, mss))
	return err
}

// gVisor's endpoint on a packet socket, as runsc sets it up: with a virtio-net
// header, which it reads and throws away.
func TestStockPacketSocket(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
		c := linklab.NewCable(t, 1500, 1)
		peer := newPacketSocket(t, c.NS, c.Kernels)
		fd := newPacketSocket(t, c.NS, c.Ours).FD
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			t.Fatal(err)
		}
		return newStock(t, fdbased.Options{
			FDs: []int{fd}, EthernetHeader: true, Address: tcpip.LinkAddress(c.Ours.Attrs().HardwareAddr), GSOMaxSize: 65535, RXChecksumOffload: true,
		}), peer
	}, append(slices.Clone(stockKnown),
		linktest.KnownFailure{Case: "ReceiveBadChecksums", Reason: "says that checksums are good which it has not looked at"},
		linktest.KnownFailure{Case: "ReceiveVLAN", Reason: "tags that the kernel took out of a frame are ignored, so that every VLAN is the untagged one"},
	)...)
}

// gVisor's endpoint on a TAP device.
func TestStockTAP(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
		ns := nstest.New(t)
		fd := -1
		ifr, err := unix.NewIfreq("tap0")
		if err != nil {
			t.Fatal(err)
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		ns.Do(func() {
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
			}
		})
		if err != nil {
			nstest.Missing(t, "no TAP devices: %v", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		peer := newPacketSocket(t, ns, up(t, ns, "tap0"))
		return newStock(t, fdbased.Options{FDs: []int{fd}, EthernetHeader: true, Address: "\x02\x00\x5e\x00\x53\x03"}), peer
	}, stockKnown...)
}

// newStock makes gVisor's endpoint of MTU 1500.
func newStock(t *testing.T, o fdbased.Options) stack.LinkEndpoint {
	t.Helper()
	o.MTU = 1500
	ep, err := fdbased.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// up sets a device up, whose IPv6 keeps quiet.
func up(t *testing.T, ns *nstest.Namespace, name string) netlink.Link {
	t.Helper()
	ns.Sysctl(t, "net.ipv6.conf."+name+".disable_ipv6", "1")
	l, err := ns.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	ns.SetUp(t, l)
	return l
}
