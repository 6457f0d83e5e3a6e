package linkbench

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	stockxdp "gvisor.dev/gvisor/pkg/tcpip/link/xdp"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/linkendpoints/afpacket"
	"github.com/plumbline/plumbline/linkendpoints/tap"
	"github.com/plumbline/plumbline/linkendpoints/xdp"
)

// kind says how an endpoint can be made to receive.
type kind int

const (
	packetSocket kind = iota // sees what arrives at a veth device
	tapDevice                // is given what the kernel sends
	expressPath              // is given what reaches a veth device by XDP
	kernelStack              // no endpoint, but another namespace
)

// contestant is how to make a contender.
type contestant struct {
	name, doc, against string
	kind               kind
	open               func(w *world) (stack.LinkEndpoint, error) // in the namespace
}

// contestants are all contenders. What is compared stands after what it is
// compared to.
var contestants = []contestant{
	{"kernel", "the kernel's TCP, over veth", "", kernelStack, nil},
	{"stock-recvmmsg", "gVisor's fdbased on a packet socket, RecvMMsg", "", packetSocket,
		func(w *world) (stack.LinkEndpoint, error) { return openStockSocket(w, fdbased.RecvMMsg) }},
	{"stock-mmap", "gVisor's fdbased on a packet socket, PacketMMap", "", packetSocket,
		func(w *world) (stack.LinkEndpoint, error) { return openStockSocket(w, fdbased.PacketMMap) }},
	{"afpacket", "linkendpoints/afpacket", "stock-recvmmsg", packetSocket,
		func(*world) (stack.LinkEndpoint, error) { return afpacket.New(afpacket.Options{Name: "ours"}) }},
	{"stock-tap", "gVisor's fdbased on a TAP device, Readv", "", tapDevice, openStockTAP},
	{"tap", "linkendpoints/tap", "stock-tap", tapDevice,
		func(*world) (stack.LinkEndpoint, error) { return tap.New(tap.Options{Name: "ours"}) }},
	{"stock-xdp", "gVisor's link/xdp", "", expressPath, openStockXDP},
	{"xdp", "linkendpoints/xdp", "stock-xdp", expressPath,
		func(*world) (stack.LinkEndpoint, error) { return xdp.New(xdp.Options{Name: "ours"}) }},
}

// Names returns the names of all contenders.
func Names() []string {
	var names []string
	for _, c := range contestants {
		names = append(names, c.name)
	}
	return names
}

// openStockSocket opens gVisor's endpoint on a packet socket as runsc does. The
// ring of PacketMMap has no place for a virtio-net header, so that nothing is
// offloaded there.
func openStockSocket(w *world, mode fdbased.PacketDispatchMode) (stack.LinkEndpoint, error) {
	const protocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocols)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	opts := fdbased.Options{
		FDs:                []int{fd},
		MTU:                mtu,
		EthernetHeader:     true,
		Address:            tcpip.LinkAddress(w.ours.Attrs().HardwareAddr),
		PacketDispatchMode: mode,
		RXChecksumOffload:  true,
		InterfaceIndex:     w.ours.Attrs().Index,
	}
	if mode == fdbased.RecvMMsg {
		opts.GSOMaxSize = 65535
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return nil, fmt.Errorf("PACKET_VNET_HDR: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocols, Ifindex: w.ours.Attrs().Index}); err != nil {
		return nil, fmt.Errorf("binding a packet socket: %w", err)
	}
	return fdbased.New(&opts)
}

// openStockTAP opens gVisor's endpoint on a TAP device. It cannot be told of a
// virtio-net header there.
func openStockTAP(*world) (stack.LinkEndpoint, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq("ours")
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	return fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: mtu, EthernetHeader: true, Address: "\x02\x00\x5e\x00\x53\x02",
	})
}

// openStockXDP opens gVisor's endpoint on an AF_XDP socket. It has no program
// of its own, so the veth device gets one that sends all to the socket.
func openStockXDP(w *world) (stack.LinkEndpoint, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening an AF_XDP socket: %w", err)
	}
	ep, err := stockxdp.New(&stockxdp.Options{
		FD: fd, Address: tcpip.LinkAddress(w.ours.Attrs().HardwareAddr), InterfaceIndex: w.ours.Attrs().Index, Bind: true,
		RXChecksumOffload: true, // or it drops what the kernel has not given a checksum
	})
	if err != nil {
		return nil, err
	}
	return ep, redirectTo(w.ours.Attrs().Index, fd)
}

// gate is a link between an endpoint and its stack. While it counts, frames go
// no further.
type gate struct {
	stack.LinkEndpoint
	above    stack.NetworkDispatcher
	counting atomic.Bool
	counted  atomic.Uint64
}

// Attach implements stack.LinkEndpoint.
func (g *gate) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		g.LinkEndpoint.Attach(nil)
		return
	}
	g.above = d
	g.LinkEndpoint.Attach(g)
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (g *gate) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if g.counting.Load() {
		if proto == header.IPv4ProtocolNumber {
			g.counted.Add(1)
		}
		return
	}
	g.above.DeliverNetworkPacket(proto, pkt)
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*gate) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// SupportedGSO implements stack.GSOEndpoint.
func (g *gate) SupportedGSO() stack.SupportedGSO {
	if gso, ok := g.LinkEndpoint.(stack.GSOEndpoint); ok {
		return gso.SupportedGSO()
	}
	return stack.GSONotSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (g *gate) GSOMaxSize() uint32 {
	if gso, ok := g.LinkEndpoint.(stack.GSOEndpoint); ok {
		return gso.GSOMaxSize()
	}
	return 0
}

// netstack makes a stack with gVisor's TCP on the gate: the links are compared,
// not the transports.
func (g *gate) netstack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := s.CreateNIC(1, g); err != nil {
		return nil, fmt.Errorf("creating a NIC: %v", err)
	}
	address := tcpip.ProtocolAddress{
		Protocol: header.IPv4ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(net.ParseIP(stackAddress).To4()), PrefixLen: prefixLength,
		},
	}
	if err := s.AddProtocolAddress(1, address, stack.AddressProperties{}); err != nil {
		return nil, fmt.Errorf("adding an address: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: address.AddressWithPrefix.Subnet(), NIC: 1}})
	return s, nil
}

// dialStack connects from a netstack to the kernel's end.
func dialStack(s *stack.Stack, port int) (net.Conn, error) {
	to := tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(net.ParseIP(kernelAddress).To4()), Port: uint16(port)}
	ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
	defer cancel()
	return gonet.DialContextTCP(ctx, s, to, header.IPv4ProtocolNumber)
}
