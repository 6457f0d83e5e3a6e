package arp

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
)

// kernelHost is a namespace with an interface on the bridge of a lab.
type kernelHost struct {
	t       *testing.T
	name    string
	ns      *nstest.Namespace
	dev     netlink.Link
	mac     tcpip.LinkAddress
	updates <-chan netlink.NeighUpdate
}

// newBridge returns a lab whose TAP device is a port of a bridge.
func newBridge(t *testing.T, factory stack.NetworkProtocolFactory) *lab {
	t.Helper()
	l := &lab{t: t, ns: nstest.New(t), watch: NewWatcher(0)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	if err := l.ns.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatalf("adding a bridge: %v", err)
	}
	bridge, err := l.ns.Netlink().LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	l.dev = l.ns.AddTAP(t, nstest.TAP{Name: "dev0"})
	if err := l.ns.Netlink().LinkSetMaster(l.dev, bridge); err != nil {
		t.Fatal(err)
	}
	l.ns.SetUp(t, bridge)
	l.attach(factory)
	return l
}

// host adds a host to the bridge, with an address of its own.
func (l *lab) host(name string, n byte) *kernelHost {
	t := l.t
	t.Helper()
	h := &kernelHost{t: t, name: name, ns: nstest.New(t), mac: tcpip.LinkAddress([]byte{2, 0, 0, 0, 8, n})}
	var fd netns.NsHandle
	var err error
	if h.ns.Do(func() { fd, err = netns.Get() }); err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "to-" + name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: net.HardwareAddr(h.mac), PeerNamespace: netlink.NsFd(fd)}
	if err := l.ns.Netlink().LinkAdd(pair); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	port, err := l.ns.Netlink().LinkByName(attrs.Name)
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := l.ns.Netlink().LinkByName("br0")
	if err == nil {
		err = l.ns.Netlink().LinkSetMaster(port, bridge)
	}
	if err != nil {
		t.Fatal(err)
	}
	if h.dev, err = h.ns.Netlink().LinkByName("eth0"); err != nil {
		t.Fatal(err)
	}
	h.ns.Sysctl(t, "net.ipv4.neigh.eth0.locktime", "0")
	h.updates = subscribe(t, h.ns)
	h.ns.AddAddr(t, h.dev, fmt.Sprintf("10.9.0.%d/24", n))
	l.ns.SetUp(t, port)
	h.ns.SetUp(t, h.dev)
	return h
}

// serve answers each datagram to one of its addresses: the host's name, and what was asked.
func (h *kernelHost) serve(addr string) {
	h.t.Helper()
	var c net.PacketConn
	var err error
	if h.ns.Do(func() { c, err = net.ListenPacket("udp4", addr) }); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(h.name+" "+string(b[:n])), from)
		}
	}()
	h.t.Cleanup(func() { c.Close(); <-done })
}

// asker is a client of whoever has the service address.
type asker struct {
	t *testing.T
	net.Conn
	n int
}

// ask sends one datagram, and returns who answers it within the time given, "" for nobody.
func (a *asker) ask(wait time.Duration) string {
	a.t.Helper()
	a.n++
	question := fmt.Sprint("question ", a.n)
	if _, err := a.Write([]byte(question)); err != nil {
		a.t.Fatal(err)
	}
	_ = a.SetReadDeadline(time.Now().Add(wait))
	for b := make([]byte, 100); ; {
		n, err := a.Read(b)
		if err != nil {
			return ""
		}
		if who, what, _ := strings.Cut(string(b[:n]), " "); what == question {
			return who
		}
	}
}

// find asks until somebody answers: a bridge does not forward at once what is sent to a new port.
func (a *asker) find() (who string) {
	a.t.Helper()
	for end := time.Now().Add(patience); who == ""; {
		if who = a.ask(200 * time.Millisecond); time.Now().After(end) {
			a.t.Fatal("nobody has the service address")
		}
	}
	return who
}

// TestKernelHostsFailOver: two Linux hosts on a bridge share a service address, as with VRRP or keepalived's virtual addresses. The one that takes it over announces it as
// arping -U or -A does. The first datagram of the netstack after that goes to the new host and is answered; a third Linux host beside it, with `ip neigh`, and the
// netstack agree on who has what, before and after. Stock's first datagram goes to the host that has the address no more.
func TestKernelHostsFailOver(t *testing.T) {
	const service = "10.9.0.100"
	virtual := ip(10, 9, 0, 100)
	prompt := NewProtocolWithOptions(Options{LockTime: -1}) // the test does not wait a second for the fail-over
	for _, tt := range []struct {
		name    string
		factory stack.NetworkProtocolFactory
		op      Op
		moves   bool
	}{
		{"arping -U", prompt, OpRequest, true},
		{"arping -A", prompt, OpReply, true},
		{"stock, arping -U", stock.NewProtocol, OpRequest, false},
		{"stock, arping -A", stock.NewProtocol, OpReply, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newBridge(t, tt.factory)
			first, second, other := l.host("first", 11), l.host("second", 12), l.host("other", 13)
			other.ns.Sysctl(t, "net.ipv4.conf.eth0.arp_accept", "1")
			first.ns.AddAddr(t, first.dev, service+"/32")
			first.serve(service + ":9")
			ours, err := gonet.DialUDP(l.s, nil, &tcpip.FullAddress{Addr: virtual, Port: 9}, header.IPv4ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			kernels, err := other.ns.Dial("udp4", service+":9", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer kernels.Close()
			client, neighbour := &asker{t: t, Conn: ours}, &asker{t: t, Conn: kernels}
			agree := func(owner *kernelHost) {
				t.Helper()
				believes(t, other.ns, other.dev, other.updates, virtual, owner.mac, known)
				believes(t, owner.ns, owner.dev, owner.updates, stackIP, ourMAC, known)
				shown := strings.Fields(other.ns.Run(t, "ip", "neigh", "show", service))
				if len(shown) < 5 || shown[4] != owner.mac.String() || l.believed(virtual) != owner.mac {
					t.Errorf("`ip neigh` says %v, the netstack %v, it is %v", shown, l.believed(virtual), owner.mac)
				}
			}
			for _, c := range []*asker{client, neighbour} {
				if got := c.find(); got != first.name {
					t.Fatalf("%s answers", got)
				}
			}
			agree(first)

			addr, err := netlink.ParseAddr(service + "/32")
			if err == nil {
				err = first.ns.Netlink().AddrDel(first.dev, addr)
			}
			if err != nil {
				t.Fatal(err)
			}
			second.ns.AddAddr(t, second.dev, service+"/32")
			second.serve(service + ":9")
			announceOn(t, second.ns, second.dev, tt.op, virtual, second.mac)
			await(t, "the announcement", l.seen.handled, func(p Packet) bool { return p.Gratuitous() && p.SenderLink == second.mac })
			l.seen.forget()
			if !tt.moves {
				if _, err := client.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if f := await(t, "the datagram", l.seen.sent, func(f frame) bool { return f.ip == virtual }); f.to != first.mac {
					t.Errorf("sent to %s, stock's ARP was thought to keep %s", f.to, first.mac)
				}
				return
			}
			if got := client.ask(patience); got != second.name {
				t.Errorf("%s answers the first datagram after the announcement", got)
			}
			if f := await(t, "the datagram", l.seen.sent, func(f frame) bool { return f.ip == virtual }); f.to != second.mac {
				t.Errorf("the first datagram after the announcement went to %s", f.to)
			}
			if got := neighbour.ask(patience); got != second.name {
				t.Errorf("%s answers the other Linux host", got)
			}
			agree(second)
		})
	}
}

// believed is the link address that the netstack's neighbour cache has for an address.
func (l *lab) believed(addr tcpip.Address) tcpip.LinkAddress {
	l.t.Helper()
	all, err := l.s.Neighbors(nicID, header.IPv4ProtocolNumber)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range all {
		if n.Addr == addr {
			return n.LinkAddr
		}
	}
	return ""
}
