package kernel

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/namespace"
	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// host is a kernel in a namespace, with its TAP device.
type host struct {
	ns     *namespace.Namespace
	device *tap.Endpoint
	addr   [4]byte
	// index and linkAddr are those of the kernel's end of the device.
	index    int
	linkAddr tcpip.LinkAddress
	// refused counts the packets that the device or the path did not take.
	refused atomic.Uint64
	// up is the path's endpoint of this host.
	up stack.LinkEndpoint
}

const (
	deviceName = "emulated"
	// deviceQueue is how many frames a device holds for this process: some tenths of a second at a gigabit.
	deviceQueue = 20_000
)

// pathAddress is what the hosts take for the link address of each other. Behind it is the path.
const pathAddress = tcpip.LinkAddress("\x02plumb")

// address returns the address of a host: side is 0 on the left and 1 on the right.
func address(side, pair int) [4]byte { return [4]byte{10, byte(side), 0, byte(1 + pair)} }

// newHost makes a namespace with a device that can reach the host peer.
func newHost(addr, peer [4]byte, cfg *Config) (h *host, err error) {
	h = &host{addr: addr}
	if h.ns, err = namespace.New(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if err := h.configure(cfg); err != nil {
		return nil, err
	}
	err = h.ns.Do(func() (err error) {
		h.device, err = tap.New(tap.Options{Name: deviceName, MTU: cfg.MTU, LinkAddress: pathAddress, NoOffload: true})
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, h.join(peer, cfg.MTU)
}

// configure sets what a namespace of its own has for a TCP whose buffers limit nothing and whose connections know nothing of each other. All else is as the
// kernel has it.
func (h *host) configure(cfg *Config) error {
	buffers := fmt.Sprintf("4096 %d %d", cfg.Buffer, cfg.Buffer)
	for _, s := range []struct{ name, value string }{
		{"net.ipv4.tcp_rmem", buffers},
		{"net.ipv4.tcp_wmem", buffers},
		{"net.ipv4.tcp_no_metrics_save", "1"},
		{"net.ipv6.conf.default.disable_ipv6", "1"},
		{"net.ipv4.ip_local_port_range", "60000 60999"},
		{"net.ipv4.tcp_max_syn_backlog", strconv.Itoa(2 * MaxFlows)},
		{"net.core.somaxconn", strconv.Itoa(2 * MaxFlows)},
	} {
		if err := h.ns.Sysctl(s.name, s.value); err != nil {
			return fmt.Errorf("setting %s to %q: %w", s.name, s.value, err)
		}
	}
	return nil
}

// join gives the device its address and sets it up.
func (h *host) join(peer [4]byte, mtu uint32) error {
	nl := h.ns.Netlink()
	link, err := nl.LinkByName(deviceName)
	if err != nil {
		return err
	}
	h.index, h.linkAddr = link.Attrs().Index, tcpip.LinkAddress(link.Attrs().HardwareAddr)
	own := &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(h.addr[:]), Mask: net.CIDRMask(8, 32)}}
	neighbour := &netlink.Neigh{
		LinkIndex: h.index, State: netlink.NUD_PERMANENT, IP: net.IP(peer[:]), HardwareAddr: net.HardwareAddr(pathAddress),
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"setting the MTU", func() error { return nl.LinkSetMTU(link, int(mtu)) }},
		{"setting the length of the queue", func() error { return nl.LinkSetTxQLen(link, deviceQueue) }},
		{"adding an address", func() error { return nl.AddrAdd(link, own) }},
		{"setting the device up", func() error { return nl.LinkSetUp(link) }},
		{"adding the neighbour", func() error { return nl.NeighAdd(neighbour) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// connect joins the device to the path's endpoint of this host: what one delivers is written to the other.
func (h *host) connect(up stack.LinkEndpoint) {
	h.up = up
	up.Attach(downlink{h})
	h.device.Attach(uplink{h})
}

// uplink takes what the kernel sends to the path.
type uplink struct{ *host }

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (u uplink) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if proto != header.IPv4ProtocolNumber {
		return // The path is no Ethernet.
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.Data().ToBuffer()})
	p.NetworkProtocolNumber = proto
	u.write(u.up, p)
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (uplink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// downlink takes what the path delivers to the kernel.
type downlink struct{ *host }

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (d downlink) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: int(d.device.MaxHeaderLength()), Payload: pkt.ToBuffer()})
	p.NetworkProtocolNumber = proto
	p.EgressRoute.LocalLinkAddress = pathAddress
	p.EgressRoute.RemoteLinkAddress = d.linkAddr
	d.device.AddHeader(p)
	d.write(d.device, p)
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (downlink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// write hands over one packet, and counts it if it is refused.
func (h *host) write(to stack.LinkEndpoint, p *stack.PacketBuffer) {
	var list stack.PacketBufferList
	list.PushBack(p)
	if _, err := to.WritePackets(list); err != nil {
		h.refused.Add(1)
	}
	p.DecRef()
}

// missed returns how many packets were lost at the device, on their way in or out.
func (h *host) missed() (uint64, error) {
	link, err := h.ns.Netlink().LinkByIndex(h.index)
	if err != nil {
		return 0, err
	}
	n := h.refused.Load()
	if s := link.Attrs().Statistics; s != nil {
		n += s.TxDropped + s.RxDropped + s.RxErrors
	}
	return n, nil
}

// close takes everything down. Nothing is delivered any more when it returns.
func (h *host) close() {
	if h.up != nil {
		h.up.Attach(nil)
		h.up.Wait()
	}
	if h.device != nil {
		h.device.Close()
		h.device.Wait()
	}
	h.ns.Close()
}
