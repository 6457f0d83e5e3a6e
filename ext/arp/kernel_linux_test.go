package arp

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The kernel's end moves to another link address and announces it: the first packet after the announcement goes there, and arrives. Stock's goes to the old one.
func TestKernelFailOver(t *testing.T) {
	byKernel := func(l *lab) { l.move(spareMAC) } // arp_notify is 1
	by := func(op Op) func(l *lab) {
		return func(l *lab) {
			l.ns.Sysctl(l.t, "net.ipv4.conf.dev0.arp_notify", "0")
			l.move(spareMAC)
			l.announce(op, kernelIP, spareMAC)
		}
	}
	// Two moves within a second are for the tests in virtual time.
	prompt := NewProtocolWithOptions(Options{LockTime: -1})
	tests := []struct {
		name    string
		factory stack.NetworkProtocolFactory
		move    func(*lab)
		want    tcpip.LinkAddress
	}{
		{"arp_notify", prompt, byKernel, spareMAC},
		{"arping -U", prompt, by(OpRequest), spareMAC},
		{"arping -A", prompt, by(OpReply), spareMAC},
		{"stock, arp_notify", stock.NewProtocol, byKernel, kernelMAC},
		{"stock, arping -U", stock.NewProtocol, by(OpRequest), kernelMAC},
		{"stock, arping -A", stock.NewProtocol, by(OpReply), kernelMAC},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, tt.factory)
			toKernel := func(f frame) bool { return f.ip == kernelIP }
			l.datagram(kernelIP)
			l.received()
			if f := await(t, "the first datagram", l.seen.sent, toKernel); f.to != kernelMAC {
				t.Fatalf("sent to %s before the move", f.to)
			}
			tt.move(l)
			await(t, "the announcement", l.seen.handled, func(p Packet) bool { return p.Gratuitous() && p.SenderLink == spareMAC })
			l.datagram(kernelIP)
			if f := await(t, "the second datagram", l.seen.sent, toKernel); f.to != tt.want {
				t.Errorf("sent to %s after the move, want %s", f.to, tt.want)
			}
			if tt.want == spareMAC {
				l.received()
				l.event("the kernel's end is known at its new link address", func(n Neighbor) bool { return n.Addr == kernelIP && n.LinkAddr == spareMAC })
			}
		})
	}
}

// The same for the default gateway: its old link address is asked first, and is silent.
func TestKernelRouterFailOver(t *testing.T) {
	l := newLab(t, NewProtocolWithOptions(Options{VerifyTime: 50 * time.Millisecond}))
	l.s.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: kernelIP, NIC: nicID})
	l.datagram(kernelIP)
	l.received()
	l.event("the gateway is resolved", func(n Neighbor) bool { return n.LinkAddr == kernelMAC && n.State == Reachable })
	await(t, "the request for the gateway", l.seen.sent, func(f frame) bool { return f.arp.Target == kernelIP })

	// A forged announcement is not believed as long as the gateway answers.
	l.announce(OpRequest, kernelIP, evilMAC)
	await(t, "the question to the gateway", l.seen.sent, func(f frame) bool { return f.arp.Target == kernelIP && f.to == kernelMAC })
	await(t, "the gateway's answer", l.seen.handled, func(p Packet) bool { return p.Op == OpReply && p.SenderLink == kernelMAC })
	if n := l.p.Stats(nicID).Displaced.Value(); n != 0 {
		t.Errorf("displaced %d times", n)
	}
	list, err := l.p.Neighbors(nicID)
	if err != nil || len(list) != 1 || list[0].LinkAddr != kernelMAC {
		t.Errorf("after the forged announcement: %v, %v", list, err)
	}

	l.ns.Sysctl(t, "net.ipv4.conf.dev0.arp_notify", "0")
	l.move(spareMAC)
	for moved := false; !moved; { // the question may have been asked just now: announce again, as gateways do
		l.announce(OpRequest, kernelIP, spareMAC)
		await(t, "the announcement", l.seen.handled, func(p Packet) bool { return p.Gratuitous() && p.SenderLink == spareMAC })
		select {
		case <-l.watch.Ready():
			for ev, more := l.watch.Next(); more; ev, more = l.watch.Next() {
				moved = moved || ev.Neighbor.LinkAddr == spareMAC
			}
		case <-time.After(200 * time.Millisecond):
		}
	}
	l.datagram(kernelIP)
	l.received()
}

// What the kernel believes of us and we of the kernel is the truth, as `ip neigh` has it, and our announcements move what the kernel believes.
func TestKernelNeighboursAgree(t *testing.T) {
	l := newLab(t, NewProtocolWithOptions(Options{Timing: quick}))
	l.datagram(kernelIP)
	l.received()
	l.event("the kernel is reachable", func(n Neighbor) bool { return n.Addr == kernelIP && n.LinkAddr == kernelMAC && n.State == Reachable })
	l.kernelBelieves(stackIP, ourMAC, known)

	// Nobody has this one: both sides come to the same end.
	nobody := ip(10, 9, 0, 77)
	l.datagram(nobody)
	l.event("nobody is unreachable", func(n Neighbor) bool { return n.Addr == nobody && n.State == Failed })

	// The kernel holds another host for the owner of an address that we take over.
	second := ip(10, 9, 0, 3)
	entry := &netlink.Neigh{LinkIndex: l.dev.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_STALE, IP: net.IP(second.AsSlice()), HardwareAddr: net.HardwareAddr(peerMAC)}
	if err := l.ns.Netlink().NeighAdd(entry); err != nil {
		t.Fatal(err)
	}
	l.kernelBelieves(second, peerMAC, known)
	done := make(chan ProbeResult, 1)
	if err := l.p.AddAddress(nicID, tcpip.AddressWithPrefix{Address: second, PrefixLen: 24}, AddressOptions{Done: func(r ProbeResult) { done <- r }}); err != nil {
		t.Fatal(err)
	}
	if r := await(t, "the end of probing", done, func(ProbeResult) bool { return true }); r.Err != nil {
		t.Fatalf("the address is not ours: %v", r.Err)
	}
	l.kernelBelieves(second, ourMAC, known)

	// A permanent entry of ours keeps the kernel where it is, whatever it announces.
	if err := l.p.AddPermanent(nicID, kernelIP, kernelMAC); err != nil {
		t.Fatal(err)
	}
	l.move(spareMAC)
	await(t, "the announcement", l.seen.handled, func(p Packet) bool { return p.Gratuitous() && p.SenderLink == spareMAC })
	list, err := l.p.Neighbors(nicID)
	if err != nil || len(list) == 0 || list[0].String() != "10.9.0.1 dev 1 lladdr 02:00:00:00:09:01 PERMANENT" {
		t.Errorf("neighbours %v, %v", list, err)
	}
}

// The kernel owns an address that we want, and takes one that we have.
func TestKernelConflict(t *testing.T) {
	conflicts := make(chan Conflict, 16)
	l := newLab(t, NewProtocolWithOptions(Options{Timing: quick, OnConflict: func(c Conflict) { conflicts <- c }}))
	done := make(chan ProbeResult, 1)
	want := tcpip.AddressWithPrefix{Address: kernelIP, PrefixLen: 24}
	if err := l.p.AddAddress(nicID, want, AddressOptions{Done: func(r ProbeResult) { done <- r }}); err != nil {
		t.Fatal(err)
	}
	r := await(t, "the end of probing", done, func(ProbeResult) bool { return true })
	if _, dup := r.Err.(*tcpip.ErrDuplicateAddress); !dup || r.Holder != kernelMAC {
		t.Errorf("probing for the kernel's address: %+v", r)
	}
	if l.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, kernelIP) != 0 {
		t.Error("the kernel's address was added")
	}

	l.ns.AddAddr(t, l.dev, "10.9.0.2/24")
	l.move(spareMAC) // the kernel announces its addresses
	c := await(t, "the conflict", conflicts, func(c Conflict) bool { return c.Holder == spareMAC })
	if c != (Conflict{NIC: nicID, Addr: stackIP, Holder: spareMAC, Action: Defended}) {
		t.Errorf("conflict %+v", c)
	}
	await(t, "our defence", l.seen.sent, func(f frame) bool { return f.to == broadcast && f.arp.Gratuitous() && f.arp.Sender == stackIP })
}

// The kernel reaches a subnet behind us without a route through us.
func TestKernelProxy(t *testing.T) {
	behind := tcpip.AddressWithPrefix{Address: ip(198, 51, 100, 1), PrefixLen: 24}
	l := newLab(t, NewProtocolWithOptions(Options{Proxy: []Proxy{{Prefix: behind.Subnet(), NIC: nicID}}}))
	far := channel.New(64, 1500, gwMAC)
	far.LinkEPCapabilities |= stack.CapabilityResolutionRequired
	if err := l.s.CreateNIC(2, far); err != nil {
		t.Fatal(err)
	}
	l.addr(2, behind.Address)
	l.s.AddRoute(tcpip.Route{Destination: behind.Subnet(), NIC: 2})
	if err := l.s.SetForwardingDefaultAndAllNICs(ipv4.ProtocolNumber, true); err != nil {
		t.Fatal(err)
	}
	host := ip(198, 51, 100, 7)
	if err := l.p.AddPermanent(2, host, peerMAC); err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{LinkIndex: l.dev.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0), Mask: net.CIDRMask(24, 32)}, Scope: netlink.SCOPE_LINK}
	if err := l.ns.Netlink().RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	l.ask(host)
	l.kernelBelieves(host, ourMAC, netlink.NUD_REACHABLE)
	for {
		pkt := far.ReadContext(t.Context())
		if pkt == nil {
			t.Fatal("the datagram was not forwarded")
		}
		dst, to := tcpip.Address{}, pkt.EgressRoute.RemoteLinkAddress
		if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
			dst = header.IPv4(pkt.NetworkHeader().Slice()).DestinationAddress()
		}
		pkt.DecRef()
		if dst == host {
			if to != peerMAC {
				t.Errorf("forwarded to %s", to)
			}
			break
		}
	}
	if n := l.p.Stats(nicID).ProxyReplies.Value(); n == 0 {
		t.Error("no reply by proxy was counted")
	}
}
