package arp

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// patience is when a test gives up on something that has to happen.
const patience = 60 * time.Second

var (
	kernelIP  = ip(10, 9, 0, 1)
	kernelMAC = tcpip.LinkAddress("\x02\x00\x00\x00\x09\x01")
	spareMAC  = tcpip.LinkAddress("\x02\x00\x00\x00\x09\x02")
	stackIP   = ip(10, 9, 0, 2)
)

// quick is address conflict detection in a fraction of a second.
var quick = Timing{ProbeWait: -1, ProbeMin: 20 * time.Millisecond, ProbeMax: 20 * time.Millisecond, AnnounceWait: 20 * time.Millisecond, AnnounceInterval: 20 * time.Millisecond}

// lab is a TAP device in a namespace: the kernel has kernelIP on one end, a stack in real time has stackIP on the other.
type lab struct {
	t   *testing.T
	ns  *nstest.Namespace
	dev netlink.Link
	s   *stack.Stack
	p   *Protocol // nil with stock's ARP
	// watch has what happens in the stack's neighbour cache, kernel in the kernel's.
	watch  *Watcher
	kernel <-chan netlink.NeighUpdate
	seen   *observer
	server net.PacketConn
}

func newLab(t *testing.T, factory stack.NetworkProtocolFactory) *lab {
	t.Helper()
	l := &lab{t: t, ns: nstest.New(t), watch: NewWatcher(0)}
	l.dev = l.ns.AddTAP(t, nstest.TAP{Name: "dev0"})
	l.move(kernelMAC)
	l.ns.AddAddr(t, l.dev, "10.9.0.1/24")
	for name, value := range map[string]string{"arp_notify": "1", "arp_accept": "1"} {
		l.ns.Sysctl(t, "net.ipv4.conf.dev0."+name, value)
	}
	l.ns.Sysctl(t, "net.ipv4.neigh.dev0.locktime", "0")
	l.subscribe()
	l.attach(factory)
	var err error
	l.ns.Do(func() { l.server, err = net.ListenPacket("udp4", "0.0.0.0:9") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.server.Close() })
	_ = l.server.SetDeadline(time.Now().Add(patience)) // a hang becomes an error
	return l
}

// attach makes the stack, with stackIP on the TAP device, and sets the device up.
func (l *lab) attach(factory stack.NetworkProtocolFactory) {
	t := l.t
	t.Helper()
	var link *tap.Endpoint
	var err error
	l.ns.Do(func() { link, err = tap.New(tap.Options{Name: "dev0", LinkAddress: ourMAC, NoOffload: true}) })
	if err != nil {
		t.Fatal(err)
	}
	l.seen = newObserver(link)
	nud := stack.DefaultNUDConfigurations()
	nud.RetransmitTimer = 200 * time.Millisecond // of three requests that nobody answers
	l.s = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, factory},
		TransportProtocols: []stack.TransportProtocolFactory{udp.NewProtocol},
		NUDDisp:            l.watch,
		NUDConfigs:         nud,
	})
	t.Cleanup(func() {
		l.s.Destroy()
		link.Close()
		link.Wait()
	})
	l.p, _ = Of(l.s)
	if err := l.s.CreateNIC(nicID, l.seen); err != nil {
		t.Fatal(err)
	}
	l.addr(nicID, stackIP)
	subnet := tcpip.AddressWithPrefix{Address: stackIP, PrefixLen: 24}.Subnet()
	l.s.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nicID}})
	l.ns.SetUp(t, l.dev)
}

func (l *lab) addr(nic tcpip.NICID, a tcpip.Address) {
	l.t.Helper()
	pa := tcpip.ProtocolAddress{Protocol: header.IPv4ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: 24}}
	if err := l.s.AddProtocolAddress(nic, pa, stack.AddressProperties{}); err != nil {
		l.t.Fatal(err)
	}
}

// subscribe follows the kernel's neighbour table.
func (l *lab) subscribe() {
	l.t.Helper()
	l.kernel = subscribe(l.t, l.ns)
}

// subscribe follows the neighbour table of a namespace.
func subscribe(t *testing.T, ns *nstest.Namespace) <-chan netlink.NeighUpdate {
	t.Helper()
	updates, done := make(chan netlink.NeighUpdate, 64), make(chan struct{})
	var err error
	ns.Do(func() { err = netlink.NeighSubscribe(updates, done) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(done)
		for range updates { // until the subscription has ended
		}
	})
	return updates
}

// move gives the kernel's end another link address, which the kernel announces if it is up.
func (l *lab) move(mac tcpip.LinkAddress) {
	l.t.Helper()
	if err := l.ns.Netlink().LinkSetHardwareAddr(l.dev, net.HardwareAddr(mac)); err != nil {
		l.t.Fatal(err)
	}
}

// datagram sends one from the stack to the kernel's end.
func (l *lab) datagram(to tcpip.Address) {
	l.t.Helper()
	var wq waiter.Queue
	ep, err := l.s.NewEndpoint(udp.ProtocolNumber, header.IPv4ProtocolNumber, &wq)
	if err != nil {
		l.t.Fatal(err)
	}
	defer ep.Close()
	var p payload
	if _, err := ep.Write(&p, tcpip.WriteOptions{To: &tcpip.FullAddress{Addr: to, Port: 9}}); err != nil {
		l.t.Fatalf("write to %s: %v", to, err)
	}
}

// received waits for a datagram at the kernel's end.
func (l *lab) received() {
	l.t.Helper()
	if _, _, err := l.server.ReadFrom(make([]byte, 100)); err != nil {
		l.t.Fatalf("the kernel did not get the datagram: %v", err)
	}
}

// ask sends a datagram from the kernel, which has it ask who has the address.
func (l *lab) ask(addr tcpip.Address) {
	l.t.Helper()
	if _, err := l.server.WriteTo([]byte("x"), &net.UDPAddr{IP: addr.AsSlice(), Port: 9}); err != nil {
		l.t.Fatalf("datagram to %s: %v", addr, err)
	}
}

// announce sends an announcement on the kernel's end, as arping -U (request) and -A (reply) do.
func (l *lab) announce(op Op, addr tcpip.Address, mac tcpip.LinkAddress) {
	l.t.Helper()
	announceOn(l.t, l.ns, l.dev, op, addr, mac)
}

// announceOn is announce on a device of a namespace.
func announceOn(t *testing.T, ns *nstest.Namespace, dev netlink.Link, op Op, addr tcpip.Address, mac tcpip.LinkAddress) {
	t.Helper()
	frame := append([]byte(broadcast), mac...)
	frame = binary.BigEndian.AppendUint16(frame, uint16(ProtocolNumber))
	frame = (&Packet{Op: op, SenderLink: mac, Sender: addr, TargetLink: broadcast, Target: addr}).AppendTo(frame)
	var err error
	ns.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Attrs().Index})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// event waits for an entry of the stack's neighbour cache that satisfies ok.
func (l *lab) event(what string, ok func(Neighbor) bool) {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		for ev, more := l.watch.Next(); more; ev, more = l.watch.Next() {
			if ok(ev.Neighbor) {
				return
			}
		}
		select {
		case <-l.watch.Ready():
		case <-timeout:
			l.t.Fatalf("it never came to pass that %s", what)
		}
	}
}

// kernelBelieves waits until the kernel has an entry with a link address, in one of the states.
func (l *lab) kernelBelieves(addr tcpip.Address, mac tcpip.LinkAddress, states int) {
	l.t.Helper()
	believes(l.t, l.ns, l.dev, l.kernel, addr, mac, states)
}

// believes is kernelBelieves for a device of a namespace.
func believes(t *testing.T, ns *nstest.Namespace, dev netlink.Link, updates <-chan netlink.NeighUpdate, addr tcpip.Address, mac tcpip.LinkAddress, states int) {
	t.Helper()
	match := func(n *netlink.Neigh) bool {
		return n.IP.Equal(addr.AsSlice()) && tcpip.LinkAddress(n.HardwareAddr) == mac && n.State&states != 0
	}
	list := func() []netlink.Neigh {
		all, err := ns.Netlink().NeighList(dev.Attrs().Index, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	timeout := time.After(patience)
	for {
		if slices.ContainsFunc(list(), func(n netlink.Neigh) bool { return match(&n) }) {
			return
		}
		select {
		case <-updates:
		case <-timeout:
			t.Fatalf("the kernel does not believe that %s is at %s: %v", addr, mac, list())
		}
	}
}

// known is every state of a kernel's entry in which its link address is used.
const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE

// observer is a link endpoint that tells of the ARP packets that the stack has handled, and of where IPv4 packets were sent.
type observer struct {
	nested.Endpoint
	child   stack.LinkEndpoint
	handled chan Packet
	sent    chan frame
}

func newObserver(child stack.LinkEndpoint) *observer {
	o := &observer{child: child, handled: make(chan Packet, 256), sent: make(chan frame, 256)}
	o.Init(child, o)
	return o
}

// forget lets go of what was sent until now.
func (o *observer) forget() {
	for {
		select {
		case <-o.sent:
		default:
			return
		}
	}
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (o *observer) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	var p Packet
	why := TooShort
	if protocol == ProtocolNumber {
		p, why = Parse(pkt.Data().AsRange().ToSlice())
	}
	o.Endpoint.DeliverNetworkPacket(protocol, pkt)
	if why == WellFormed {
		select {
		case o.handled <- p:
		default: // nobody looks
		}
	}
}

// WritePackets implements stack.LinkEndpoint.
func (o *observer) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		f := frame{to: pkt.EgressRoute.RemoteLinkAddress}
		switch b := pkt.NetworkHeader().Slice(); pkt.NetworkProtocolNumber {
		case ProtocolNumber:
			f.arp, _ = Parse(b)
		case header.IPv4ProtocolNumber:
			f.ip = header.IPv4(b).DestinationAddress()
		}
		select {
		case o.sent <- f:
		default:
		}
	}
	return o.child.WritePackets(pkts)
}

// await returns the next value that satisfies ok.
func await[T any](t *testing.T, what string, from <-chan T, ok func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case v := <-from:
			if ok(v) {
				return v
			}
		case <-ctx.Done():
			t.Fatalf("nobody saw %s", what)
		}
	}
}
