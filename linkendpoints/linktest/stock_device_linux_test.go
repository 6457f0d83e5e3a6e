package linktest_test

import (
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// allProtocols is ETH_P_ALL in network byte order, on machines that are
// little-endian.
const allProtocols = unix.ETH_P_ALL << 8

// packetSocket is the far end of a device: a plain packet socket, and one whose
// frames have virtio-net headers.
type packetSocket struct {
	socket
	super int
}

// newPacketSocket opens the far end at the device link in ns.
func newPacketSocket(t *testing.T, ns *nstest.Namespace, link netlink.Link) packetSocket {
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
	p := packetSocket{socket(open(allProtocols)), open(0)}
	err := unix.SetsockoptInt(int(p.socket), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err == nil {
		err = unix.SetsockoptInt(int(p.socket), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}
	if err == nil {
		err = unix.SetsockoptInt(p.super, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Send implements linktest.Peer.
func (p packetSocket) Send(frame []byte) error {
	for range 5 {
		err := p.socket.Send(frame)
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		p.poll(unix.POLLOUT)
	}
	return unix.ENOBUFS
}

// SendSuper implements linktest.SuperSender.
func (p packetSocket) SendSuper(frame []byte, headers, mss int) error {
	h := vnet.Header{Flags: vnet.FlagNeedsCsum, CsumStart: uint16(headers - header.TCPMinimumSize), CsumOffset: header.TCPChecksumOffset}
	if len(frame)-headers > mss {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOTCPv4, uint16(mss), uint16(headers)
	}
	b := make([]byte, vnet.HeaderSize, vnet.HeaderSize+len(frame))
	h.Put(b)
	_, err := unix.Write(p.super, append(b, frame...))
	return err
}

// gVisor's endpoint on a packet socket, as runsc sets it up: with a virtio-net
// header, which it reads and throws away.
func TestStockPacketSocket(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
		ns := nstest.New(t)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "ours"
		if err := ns.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
			t.Fatal(err)
		}
		ours, far := up(t, ns, "ours"), up(t, ns, "far")
		for _, name := range []string{"ours", "far"} {
			// Until the kernel has noticed that the other end is up, it loses what
			// is sent.
			for link(t, ns, name).Attrs().OperState != netlink.OperUp {
				runtime.Gosched()
			}
		}
		peer := newPacketSocket(t, ns, far)
		fd := int(newPacketSocket(t, ns, ours).socket)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			t.Fatal(err)
		}
		return newStock(t, fdbased.Options{
			FDs: []int{fd}, Address: tcpip.LinkAddress(ours.Attrs().HardwareAddr), GSOMaxSize: 65535, RXChecksumOffload: true,
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
		return newStock(t, fdbased.Options{FDs: []int{fd}, Address: "\x02\x00\x5e\x00\x53\x03"}), peer
	}, stockKnown...)
}

// newStock makes gVisor's endpoint of MTU 1500.
func newStock(t *testing.T, o fdbased.Options) stack.LinkEndpoint {
	t.Helper()
	o.MTU, o.EthernetHeader = 1500, true
	ep, err := fdbased.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// link looks a device up.
func link(t *testing.T, ns *nstest.Namespace, name string) netlink.Link {
	t.Helper()
	l, err := ns.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// up sets a device up, whose IPv6 keeps quiet.
func up(t *testing.T, ns *nstest.Namespace, name string) netlink.Link {
	t.Helper()
	ns.Sysctl(t, "net.ipv6.conf."+name+".disable_ipv6", "1")
	l := link(t, ns, name)
	ns.SetUp(t, l)
	return l
}
