package tap

import (
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
	"github.com/plumbline/plumbline/linkendpoints/linktest"
)

// The contract holds without a kernel behind the descriptor, so that it can be
// tested without privileges.
func TestContractPair(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mode    Mode
		vnetHdr bool
		opts    Options
	}{
		{"tap", TAP, true, Options{}},
		{"tun", TUN, true, Options{}},
		{"tap without offload", TAP, true, Options{NoOffload: true}},
		{"tap without virtio-net header", TAP, false, Options{}},
		{"tap with jumbo frames", TAP, true, Options{MTU: 9000}},
		{"tun with the largest MTU", TUN, true, Options{MTU: 65535}},
		{"promiscuous tap", TAP, true, Options{Promiscuous: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
				d, w := newPair(t, tt.mode, tt.vnetHdr)
				return newEndpoint(d, tt.opts), w
			})
		})
	}
}

// The contract holds on the kernel's devices.
func TestContractKernel(t *testing.T) {
	for _, tt := range []struct {
		name string
		dev  nstest.TAP
		opts Options
	}{
		{"tap", nstest.TAP{}, Options{}},
		{"tap without offload", nstest.TAP{}, Options{NoOffload: true}},
		{"tap with jumbo frames", nstest.TAP{MTU: 9000}, Options{}},
		{"tap with two queues", nstest.TAP{MultiQueue: true}, Options{Queues: 2}},
		{"one queue of a multi-queue tap", nstest.TAP{MultiQueue: true}, Options{}},
		{"tun", nstest.TAP{TUN: true}, Options{Mode: TUN}},
		{"tun with the largest MTU", nstest.TAP{TUN: true, MTU: 65535}, Options{Mode: TUN}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			linktest.Run(t, func(t *testing.T) (stack.LinkEndpoint, linktest.Peer) {
				ns := nstest.New(t)
				tt.dev.Name, tt.opts.Name = "tap0", "tap0"
				link := ns.AddTAP(t, tt.dev)
				var ep *Endpoint
				var err error
				ns.Do(func() { ep, err = New(tt.opts) })
				if err != nil {
					t.Fatal(err)
				}
				ns.SetUp(t, link)
				return ep, newPacketSocket(t, ns, link.Attrs().Index, tt.dev.TUN)
			})
		})
	}
}

// packetSocket is a linktest.Peer: an AF_PACKET socket on the kernel's end of a
// device.
type packetSocket struct {
	linklab.Peer
	to    unix.SockaddrLinklayer
	super int // sends with virtio-net headers, and receives nothing
}

func newPacketSocket(t *testing.T, ns *nstest.Namespace, ifindex int, tun bool) *packetSocket {
	t.Helper()
	p := &packetSocket{}
	var err error
	ns.Do(func() {
		p.FD, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := unix.SetsockoptInt(p.FD, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(p.FD, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		t.Fatal(err)
	}
	p.to = unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}
	if err := unix.Bind(p.FD, &p.to); err != nil {
		t.Fatal(err)
	}
	if tun {
		// Without a link header the kernel has to be told the protocol.
		p.to.Protocol = htons(unix.ETH_P_IP)
	}
	ns.Do(func() { p.super, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
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
	to := p.to
	if to.Protocol == htons(unix.ETH_P_ALL) {
		to.Protocol = htons(unix.ETH_P_IP)
	}
	return unix.Sendto(p.super, linklab.Super(frame, headers, mss), 0, &to)
}

// Send implements linktest.Peer.
func (p *packetSocket) Send(frame []byte) error {
	for range 5 {
		err := unix.Sendto(p.FD, frame, 0, &p.to)
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		p.Poll(unix.POLLOUT)
	}
	return unix.ENOBUFS
}

// htons returns v in network byte order, as the socket API wants protocols.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return *(*uint16)(unsafe.Pointer(&b))
}
