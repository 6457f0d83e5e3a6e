package pmtu_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/tap"
	"github.com/plumbline/plumbline/tcpx"
)

// patience is when the tests give up on something that has to happen.
const patience = 60 * time.Second

// lab is a netstack on a TAP device, a namespace that routes, and behind a link with a smaller MTU another with a server. All but the netstack is the kernel's.
type lab struct {
	router, server *nstest.Namespace
	stack          *stack.Stack
	// far are the server's addresses.
	far map[tcpip.NetworkProtocolNumber]string
}

func newLab(t *testing.T, mtu int, search pmtu.Config) *lab {
	l := &lab{router: nstest.New(t), server: nstest.New(t), far: map[tcpip.NetworkProtocolNumber]string{ipv4.ProtocolNumber: "10.8.0.2", ipv6.ProtocolNumber: "fd08::2"}}
	l.router.Sysctl(t, "net.ipv4.ip_forward", "1")
	l.router.Sysctl(t, "net.ipv6.conf.all.forwarding", "1")
	for _, ns := range []*nstest.Namespace{l.router, l.server} {
		ns.Sysctl(t, "net.ipv6.conf.default.accept_dad", "0") // or the first seconds go to that
	}
	near := l.router.AddTAP(t, nstest.TAP{Name: "near", Addrs: []string{"10.9.0.1/24", "fd09::1/64"}})
	l.narrowLink(t, mtu)

	var link *tap.Endpoint
	var err error
	l.router.Do(func() { link, err = tap.New(tap.Options{Name: "near"}) })
	if err != nil {
		t.Fatal(err)
	}
	l.router.SetUp(t, near)
	l.stack = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{DADConfigs: stack.DADConfigurations{}})},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.New(tcpx.WithPMTU(search, pmtu.Options{}))},
	})
	if err := l.stack.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.stack.RemoveNIC(1)
		l.stack.Destroy()
		link.Close()
	})
	var routes []tcpip.Route
	for _, a := range []struct {
		proto     tcpip.NetworkProtocolNumber
		own, next tcpip.Address
		prefix    int
		all       tcpip.Subnet
	}{
		{ipv4.ProtocolNumber, address("10.9.0.2"), address("10.9.0.1"), 24, tcpip.AddressWithPrefix{Address: address("0.0.0.0")}.Subnet()},
		{ipv6.ProtocolNumber, address("fd09::2"), address("fd09::1"), 64, tcpip.AddressWithPrefix{Address: address("::")}.Subnet()},
	} {
		own := tcpip.AddressWithPrefix{Address: a.own, PrefixLen: a.prefix}
		if err := l.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: a.proto, AddressWithPrefix: own}, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, tcpip.Route{Destination: own.Subnet(), NIC: 1}, tcpip.Route{Destination: a.all, Gateway: a.next, NIC: 1})
	}
	l.stack.SetRouteTable(routes)
	return l
}

// address parses a literal.
func address(s string) tcpip.Address {
	ip := net.ParseIP(s)
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return tcpip.AddrFromSlice(ip)
}

// narrowLink joins router and server.
func (l *lab) narrowLink(t *testing.T, mtu int) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "far", mtu
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "up"}
	if err := l.router.Netlink().LinkAdd(pair); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	up, err := l.router.Netlink().LinkByName("up")
	if err == nil {
		var ns netns.NsHandle
		if l.server.Do(func() { ns, err = netns.Get() }); err == nil {
			err = l.router.Netlink().LinkSetNsFd(up, int(ns))
			ns.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.router.Netlink().LinkByName("far")
	if err != nil {
		t.Fatal(err)
	}
	if up, err = l.server.Netlink().LinkByName("up"); err != nil {
		t.Fatal(err)
	}
	// The server knows nothing of the small MTU, or the MSS that it announces would tell.
	if err := l.server.Netlink().LinkSetMTU(up, 1500); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.8.0.1/24", "fd08::1/64"} {
		l.router.AddAddr(t, far, a)
	}
	for _, a := range []string{"10.8.0.2/24", "fd08::2/64"} {
		l.server.AddAddr(t, up, a)
	}
	l.router.SetUp(t, far)
	l.server.SetUp(t, up)
	for _, via := range []string{"10.8.0.1", "fd08::1"} {
		_, all, _ := net.ParseCIDR("0.0.0.0/0")
		if address(via).Len() == 16 {
			_, all, _ = net.ParseCIDR("::/0")
		}
		if err := l.server.Netlink().RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: all, Gw: net.ParseIP(via)}); err != nil {
			t.Fatalf("a route via %s: %v", via, err)
		}
	}
}

// filterICMP makes the router say nothing of its own: what it forwards still passes.
func (l *lab) filterICMP(t *testing.T) {
	for _, version := range []string{"-4", "-6"} {
		l.router.Run(t, "ip", version, "rule", "add", "iif", "lo", "to", map[string]string{"-4": "10.9.0.2", "-6": "fd09::2"}[version], "blackhole")
	}
}

// upload sends n octets from the netstack to the server, and returns when all have arrived.
func (l *lab) upload(t *testing.T, proto tcpip.NetworkProtocolNumber, n int64) {
	t.Helper()
	listener := l.server.Listen(t, "tcp", net.JoinHostPort(l.far[proto], "0"))
	got := make(chan int64, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		m, _ := io.Copy(io.Discard, c)
		got <- m
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to := tcpip.FullAddress{NIC: 1, Addr: address(l.far[proto]), Port: uint16(listener.Addr().(*net.TCPAddr).Port)}
	c, err := gonet.DialContextTCP(ctx, l.stack, to, proto)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.CopyN(c, zeros{}, n); err != nil {
		st, tcp := tcpx.StatsOf(l.stack), l.stack.Stats().TCP
		t.Fatalf("write: %v; cache %v; %d probes, %d lost, %d black holes, %d time-outs, %d sent again of %d, %d fast recoveries", err, tcpx.PMTUOf(l.stack).Entries(),
			st.PathProbes.Value(), st.PathProbesLost.Value(), st.BlackHoles.Value(), tcp.Timeouts.Value(), tcp.Retransmits.Value(), tcp.SegmentsSent.Value(), tcp.FastRecovery.Value())
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got:
		if m != n {
			t.Errorf("%d of %d octets arrived", m, n)
		}
	case <-time.After(patience):
		t.Fatalf("not all has arrived; cache %v", tcpx.PMTUOf(l.stack).Entries())
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestKernelRouter: a kernel routes to a link with a smaller MTU, and says so or is not heard. What the netstack uploads arrives, and the MTU found is the link's.
func TestKernelRouter(t *testing.T) {
	const mtu = 1300
	for _, tt := range []struct {
		mode     pmtu.Mode
		filtered bool
	}{{pmtu.Off, false}, {pmtu.OnBlackHole, false}, {pmtu.OnBlackHole, true}, {pmtu.Always, false}, {pmtu.Always, true}} {
		for _, proto := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
			t.Run(fmt.Sprintf("mode %d, filtered %v, %#x", tt.mode, tt.filtered, proto), func(t *testing.T) {
				l := newLab(t, mtu, pmtu.Config{Mode: tt.mode})
				if tt.filtered {
					l.filterICMP(t)
				}
				l.upload(t, proto, 1) // now the neighbours know each other, and no SYN of what follows is lost
				l.upload(t, proto, 8<<20)
				entries, st := tcpx.PMTUOf(l.stack).Entries(), tcpx.StatsOf(l.stack)
				if len(entries) != 1 || entries[0].MTU > mtu || entries[0].MTU <= mtu-16 {
					t.Fatalf("cache %v, %d probes, %d lost, %d black holes", entries, st.PathProbes.Value(), st.PathProbesLost.Value(), st.BlackHoles.Value())
				}
				if !tt.filtered && entries[0].MTU != mtu {
					t.Errorf("MTU %d, the router said %d", entries[0].MTU, mtu)
				}
				if heard := st.PMTUAccepted.Value() != 0; heard == tt.filtered {
					t.Errorf("%d errors accepted", st.PMTUAccepted.Value())
				}
				if fell := st.BlackHoles.Value() != 0; fell != (tt.filtered && tt.mode == pmtu.OnBlackHole) {
					t.Errorf("%d black holes", st.BlackHoles.Value())
				}
				before := st.PMTUAccepted.Value() + st.BlackHoles.Value()
				l.upload(t, proto, 1<<20) // another connection knows from the start
				if after := st.PMTUAccepted.Value() + st.BlackHoles.Value(); after != before {
					t.Errorf("the second connection had to learn again")
				}
			})
		}
	}
}
