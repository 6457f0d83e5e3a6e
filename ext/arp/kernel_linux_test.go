package arp_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/plumbline/plumbline/ext/arp"
	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// patience is when the tests give up on something that has to happen.
const patience = 30 * time.Second

var (
	kernelIP = tcpip.AddrFrom4([4]byte{10, 9, 0, 1})
	ourIP    = tcpip.AddrFrom4([4]byte{10, 9, 0, 2})
)

// lab is a netstack on a TAP device whose other end is the kernel's.
type lab struct {
	*nstest.Namespace
	t      *testing.T
	device netlink.Link
	stack  *stack.Stack
	arp    *arp.Protocol
	own    tcpip.LinkAddress
	sink   net.PacketConn
	out    *gonet.UDPConn
}

func newLab(t *testing.T, gateway bool) *lab {
	l := &lab{Namespace: nstest.New(t), t: t}
	l.device = l.AddTAP(t, nstest.TAP{Name: "dev0", Addrs: []string{"10.9.0.1/24"}})
	l.Sysctl(t, "net.ipv4.conf.dev0.arp_notify", "1") // a new link address is announced
	var link *tap.Endpoint
	var err error
	l.Do(func() { link, err = tap.New(tap.Options{Name: "dev0"}) })
	if err != nil {
		t.Fatal(err)
	}
	l.SetUp(t, l.device)
	l.own = link.LinkAddress()
	l.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{udp.NewProtocol},
	})
	if err := l.stack.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.stack.RemoveNIC(1)
		l.stack.Destroy()
		link.Close()
	})
	own := tcpip.AddressWithPrefix{Address: ourIP, PrefixLen: 24}
	routes := []tcpip.Route{{Destination: own.Subnet(), NIC: 1}}
	if gateway {
		routes = append(routes, tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: kernelIP, NIC: 1})
	}
	l.stack.SetRouteTable(routes)
	l.arp, _ = arp.Of(l.stack)
	if err := l.arp.AddAddress(1, own, arp.AddressOptions{NoProbe: true}); err != nil {
		t.Fatal(err)
	}

	l.Do(func() { l.sink, err = net.ListenPacket("udp4", "10.9.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.sink.Close() })
	to := tcpip.FullAddress{NIC: 1, Addr: kernelIP, Port: uint16(l.sink.LocalAddr().(*net.UDPAddr).Port)}
	if l.out, err = gonet.DialUDP(l.stack, nil, &to, ipv4.ProtocolNumber); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.out.Close() })
	return l
}

// send sends a datagram to the kernel, and reports whether it arrives within d.
func (l *lab) send(what string, d time.Duration) bool {
	l.t.Helper()
	if _, err := l.out.Write([]byte(what)); err != nil {
		l.t.Fatal(err)
	}
	end := time.Now().Add(d)
	for b := make([]byte, 100); ; {
		l.sink.SetReadDeadline(end)
		n, _, err := l.sink.ReadFrom(b)
		if err != nil {
			return false
		}
		if string(b[:n]) == what {
			return true
		}
	}
}

// kernel returns the netstack's entry of the kernel.
func (l *lab) kernel() arp.Neighbor {
	l.t.Helper()
	all, err := l.arp.Neighbors(1)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range all {
		if n.Addr == kernelIP {
			return n
		}
	}
	return arp.Neighbor{}
}

// TestKernelFailOver: the kernel's link address changes, and the kernel announces that. A neighbour is believed at once, so that the next datagram arrives; a gateway
// after its old link address was asked. `ip neigh` of the kernel has our link address all the while.
func TestKernelFailOver(t *testing.T) {
	for _, gateway := range []bool{false, true} {
		name := map[bool]string{false: "neighbour", true: "gateway"}[gateway]
		t.Run(name, func(t *testing.T) {
			l := newLab(t, gateway)
			if !l.send("before", patience) {
				t.Fatal("nothing arrives")
			}
			await(t, "the route", func() bool { return l.kernel().Router == gateway })
			before := l.kernel()
			if before.LinkAddr != tcpip.LinkAddress(l.device.Attrs().HardwareAddr) || before.Router != gateway {
				t.Fatalf("the kernel is %v, its device has %v", before, l.device.Attrs().HardwareAddr)
			}
			l.agrees()

			moved := net.HardwareAddr{0x02, 0, 0, 0, 0x42, 0x42}
			if err := l.Netlink().LinkSetHardwareAddr(l.device, moved); err != nil {
				t.Fatalf("a new link address for the device: %v", err)
			}
			if gateway {
				await(t, "the gateway's new link address", func() bool { return l.send("after", 100*time.Millisecond) })
			} else {
				await(t, "the announcement", func() bool { return l.kernel().LinkAddr == tcpip.LinkAddress(moved) })
				if !l.send("after", patience) {
					t.Error("the first datagram after the announcement is lost")
				}
			}
			if after := l.kernel(); !bytes.Equal([]byte(after.LinkAddr), moved) {
				t.Errorf("the kernel is %v", after)
			}
			l.agrees()
		})
	}
}

// await waits until something is so.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s does not come", what)
		}
	}
}

// agrees checks what ip-neighbour(8) says of us, and that it would say the same of the kernel as Neighbors does.
func (l *lab) agrees() {
	l.t.Helper()
	fields := strings.Fields(l.Run(l.t, "ip", "-4", "neigh", "show", "to", "10.9.0.2", "dev", "dev0"))
	i := slices.Index(fields, "lladdr")
	if i < 0 || len(fields) < i+3 || fields[i+1] != l.own.String() {
		l.t.Errorf("ip neigh says %q of us, our link address is %v", fields, l.own)
		return
	}
	if state := fields[len(fields)-1]; state != "REACHABLE" && state != "STALE" && state != "DELAY" && state != "PROBE" {
		l.t.Errorf("ip neigh says %q of us", fields)
	}
	switch n := l.kernel(); n.State {
	case arp.Reachable, arp.Stale, arp.Delay, arp.Probing:
	default:
		l.t.Errorf("we say of the kernel: %v", n)
	}
}

// TestKernelDefendsItsAddress: the kernel answers our probe for an address that it has (RFC 5227 §2.1.1), and we do not take it.
func TestKernelDefendsItsAddress(t *testing.T) {
	l := newLab(t, false)
	done := make(chan arp.ProbeResult, 1)
	claim := tcpip.AddressWithPrefix{Address: kernelIP, PrefixLen: 24}
	if err := l.arp.AddAddress(1, claim, arp.AddressOptions{Done: func(r arp.ProbeResult) { done <- r }}); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-done:
		if _, dup := r.Err.(*tcpip.ErrDuplicateAddress); !dup || r.Holder != tcpip.LinkAddress(l.device.Attrs().HardwareAddr) {
			t.Errorf("result %+v, the kernel has the address at %v", r, l.device.Attrs().HardwareAddr)
		}
	case <-time.After(patience):
		t.Fatal("the probe has no end")
	}
	for _, a := range l.stack.AllAddresses()[1] {
		if a.AddressWithPrefix.Address == kernelIP {
			t.Error("the address was added")
		}
	}
}
