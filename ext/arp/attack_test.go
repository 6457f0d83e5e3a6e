package arp

import (
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Once known, an attacker's addresses cost nothing to repeat, and each repetition may put one of them back into netstack's cache.
func TestKnownStrangersDoNotEvictTheRouter(t *testing.T) {
	r := newRig(t, ours(Options{Learn: Rate{PerSecond: -1}}))
	r.addr(ip(10, 200, 0, 1), 8)
	r.resolve(gwIP, gwMAC)
	r.resolve(peerIP, peerMAC)
	for range 3 {
		for i := range 900 {
			r.request(ip(10, 66, byte(i>>8), byte(i)), evilMAC, ourIP)
			r.sent()
		}
	}
	r.expect(gwIP, gwMAC, stack.Reachable)
	r.expect(peerIP, peerMAC, stack.Reachable)
}

// The neighbours that we talk to stay while strangers come and go, and while we scan.
func TestNeighboursInUseSurviveAFlood(t *testing.T) {
	r := newRig(t, ours(Options{Learn: Rate{PerSecond: -1}, Requests: Rate{PerSecond: -1}, MaxPeers: 600}))
	r.addr(ip(10, 200, 0, 1), 8)
	for i := range 100 {
		r.resolve(ip(10, 0, 0, byte(100+i)), peerMAC)
	}
	e, _ := r.p.endpoint(nicID)
	r.flood(5000, func(i int) {
		_ = e.LinkAddressRequest(ip(10, 77, byte(i>>8), byte(i)), ourIP, "")
	})
	r.sent()
	for i := range 100 {
		addr := ip(10, 0, 0, byte(100+i))
		r.expect(addr, peerMAC, stack.Reachable)
		r.gratuitous(OpRequest, addr, newMAC) // and is still known well enough to be believed
	}
	r.run(time.Second)
	for i := range 100 {
		addr := ip(10, 0, 0, byte(100+i))
		r.gratuitous(OpRequest, addr, newMAC)
		if n, ok := r.entry(addr); !ok || n.LinkAddr != newMAC {
			t.Fatalf("%s is %+v after its announcement", addr, n)
		}
	}
}

func TestEvictionOrder(t *testing.T) {
	none := func(tcpip.Address) bool { return false }
	p := newPeers(30)
	for i := range 10 {
		q := p.use(ip(10, 0, 0, byte(i)), none)
		p.setLink(q, peerMAC, tcpip.MonotonicTime{})
		p.reclass(q, talking)
		p.setLink(p.use(ip(10, 0, 1, byte(i)), none), peerMAC, tcpip.MonotonicTime{})
		p.use(ip(10, 0, 2, byte(i)), none)
	}
	count := func() (n [3]int) {
		for addr := range p.byAddr {
			if b := addr.As4(); b[1] == 0 {
				n[b[2]]++
			}
		}
		return n
	}
	if got := count(); got != [3]int{10, 10, 10} {
		t.Fatal(got)
	}
	for i := range 15 { // strangers that introduce themselves
		p.setLink(p.use(ip(10, 9, 0, byte(i)), none), evilMAC, tcpip.MonotonicTime{})
	}
	if got := count(); got != [3]int{10, 5, 0} {
		t.Errorf("left of those that talk, were heard, were asked for: %v, want 10, 5, 0", got)
	}
	if p.size() != 30 || len(p.byAddr) != 30 {
		t.Errorf("%d listed, %d known, want 30", p.size(), len(p.byAddr))
	}
	all := func(tcpip.Address) bool { return true }
	p.use(ip(10, 8, 0, 1), all) // the bound holds even if everything is guarded
	if p.size() != 30 || len(p.byAddr) != 30 {
		t.Errorf("%d listed, %d known, want 30", p.size(), len(p.byAddr))
	}
}

// A scan uses up the tokens for addresses that nobody has, not those for a neighbour that is known and has to be found again.
func TestScanDoesNotSilenceReachabilityProbes(t *testing.T) {
	r := newRig(t, ours(Options{Requests: Rate{10, 10}}))
	r.resolve(peerIP, peerMAC)
	r.run(time.Minute)
	e, _ := r.p.endpoint(nicID)
	for i := range 100 {
		_ = e.LinkAddressRequest(ip(10, 0, 1, byte(i)), ourIP, "")
	}
	if got := len(r.sent()); got != 10 {
		t.Fatalf("sent %d requests, want 10", got)
	}
	_ = e.LinkAddressRequest(peerIP, ourIP, "")
	if got := r.sent(); len(got) != 1 || got[0].to != broadcast {
		t.Errorf("sent %+v, want a request for the known neighbour", got)
	}
}

// Who is first to claim the gateway's address must not have it.
func TestUnknownRouterDoesNotIntroduceItself(t *testing.T) {
	r := newRig(t, ours(Options{Accept: AcceptAny}))
	r.request(gwIP, evilMAC, ourIP)
	r.gratuitous(OpRequest, gwIP, evilMAC)
	r.gratuitous(OpReply, gwIP, evilMAC)
	if n, ok := r.entry(gwIP); ok {
		t.Fatalf("learned %+v", n)
	}
	if n := r.p.Stats(nicID).Refused[RefusedRouter].Value(); n != 3 {
		t.Errorf("refused %d, want 3", n)
	}
	r.sent()
	r.resolve(gwIP, gwMAC)
}

// A forged announcement costs the router a request at most every VerifyTime, however many come.
func TestVerificationIsLimited(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.resolve(gwIP, gwMAC)
	r.run(5 * time.Second)
	asked := 0
	for range 1000 {
		r.gratuitous(OpRequest, gwIP, evilMAC)
		for _, f := range r.sent() {
			if f.to != gwMAC {
				t.Fatalf("sent %+v", f)
			}
			asked++
			r.reply(gwIP, gwMAC)
		}
		r.run(time.Millisecond)
	}
	if asked != 5 {
		t.Errorf("asked the router %d times in a second, want 5", asked)
	}
	r.expect(gwIP, gwMAC, stack.Reachable)
}

// A fail-over within the lock time is found by asking the old link address, which is silent.
func TestFailOverWithinTheLockTime(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.resolve(peerIP, peerMAC)
	r.run(100 * time.Millisecond)
	r.gratuitous(OpRequest, peerIP, newMAC)
	if got := r.sent(); len(got) != 1 || got[0].to != peerMAC {
		t.Fatalf("sent %+v, want a request to the old link address", got)
	}
	r.run(200 * time.Millisecond)
	if got := r.sent(); len(got) != 1 || got[0].to != broadcast {
		t.Fatalf("sent %+v, want a broadcast request", got)
	}
	for _, ok := r.watch.Next(); ok; _, ok = r.watch.Next() {
	}
	r.reply(peerIP, newMAC)
	r.expect(peerIP, newMAC, stack.Reachable)
	if ev, ok := r.watch.Next(); !ok || ev.Kind != Changed || ev.Neighbor.LinkAddr != newMAC {
		t.Errorf("event %+v (any: %v), want the new link address", ev, ok)
	}
}

func TestOverheardUnicastIsNotOurs(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.resolve(peerIP, peerMAC)
	r.run(5 * time.Second)
	r.recv(Packet{Op: OpRequest, SenderLink: evilMAC, Sender: peerIP, Target: ourIP}, tcpip.PacketOtherHost)
	r.recv(Packet{Op: OpReply, SenderLink: evilMAC, Sender: peerIP, Target: peerIP}, tcpip.PacketOtherHost)
	r.expect(peerIP, peerMAC, stack.Reachable)
	if got := r.sent(); len(got) != 0 {
		t.Errorf("answered %+v", got)
	}
	if n := r.p.Stats(nicID).OtherHost.Value(); n != 2 {
		t.Errorf("counted %d, want 2", n)
	}
}

// An interface that may send from any address has not got them all.
func TestSpoofingInterface(t *testing.T) {
	victim := ip(10, 0, 0, 99)
	for _, tt := range []struct {
		name    string
		factory stack.NetworkProtocolFactory
		want    int
		sender  tcpip.Address
	}{
		{"ours", ours(Options{}), 0, ourIP},
		{"stock", stock.NewProtocol, 1, farIP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.factory)
			if err := r.s.SetSpoofing(nicID, true); err != nil {
				t.Fatal(err)
			}
			r.request(peerIP, peerMAC, victim)
			if got := r.sent(); len(got) != tt.want {
				t.Errorf("answered %+v for an address that is not ours", got)
			}
			_ = r.s.GetLinkAddress(nicID, ip(10, 0, 0, 98), farIP, header.IPv4ProtocolNumber, func(stack.LinkResolutionResult) {})
			r.run(0)
			got := r.sent()
			if len(got) == 0 || got[len(got)-1].arp.Sender != tt.sender {
				t.Errorf("asked %+v, want a request from %s", got, tt.sender)
			}
		})
	}
}

// The broadcast address of the subnet is no station's.
func TestBroadcastAddressIsNobodys(t *testing.T) {
	r := newRig(t, ours(Options{Accept: AcceptAny}))
	all := ip(10, 0, 0, 255)
	r.request(all, evilMAC, ourIP)
	r.gratuitous(OpReply, all, evilMAC)
	if n, ok := r.entry(all); ok {
		t.Errorf("learned %+v", n)
	}
	if got := r.sent(); len(got) != 0 {
		t.Errorf("answered %+v", got)
	}
	if n := r.p.Stats(nicID).Malformed[SenderProtocol].Value(); n != 2 {
		t.Errorf("counted %d, want 2", n)
	}
}

func TestBadArguments(t *testing.T) {
	r := newRig(t, ours(Options{}))
	six := tcpip.AddrFrom16([16]byte{0xfd, 15: 1})
	for _, addr := range []tcpip.Address{{}, six, header.IPv4Any, header.IPv4Broadcast, ip(224, 0, 0, 1)} {
		if err := r.p.AddPermanent(nicID, addr, peerMAC); err == nil {
			t.Errorf("a permanent entry for %q", addr)
		}
		if err := r.p.Probe(nicID, addr, func(ProbeResult) {}); err == nil {
			t.Errorf("probed for %q", addr)
		}
		if err := r.p.Announce(nicID, addr); err == nil {
			t.Errorf("announced %q", addr)
		}
		if err := r.p.AddAddress(nicID, tcpip.AddressWithPrefix{Address: addr, PrefixLen: 8}, AddressOptions{}); err == nil {
			t.Errorf("added %q", addr)
		}
	}
	for _, mac := range []tcpip.LinkAddress{"", "\x02\x00", broadcast, "\x01\x00\x00\x00\x00\x01", peerMAC + "\x00\x00"} {
		if err := r.p.AddPermanent(nicID, peerIP, mac); err == nil {
			t.Errorf("a permanent entry at %q", mac)
		}
	}
	if err := r.s.AddStaticNeighbor(nicID, header.IPv4ProtocolNumber, six, peerMAC); err != nil {
		t.Fatal(err)
	}
	if list, err := r.p.Neighbors(nicID); err != nil || len(list) != 1 {
		t.Errorf("Neighbors = %v, %v", list, err)
	}
}

// Packets that come at once on several queues leave what we believe and what netstack uses the same.
func TestConcurrentClaims(t *testing.T) {
	r := newRig(t, ours(Options{LockTime: -1, Learn: Rate{PerSecond: -1}}))
	r.resolve(peerIP, peerMAC)
	e, _ := r.p.endpoint(nicID)
	for range 200 {
		var wg sync.WaitGroup
		for _, mac := range []tcpip.LinkAddress{peerMAC, newMAC, gwMAC, evilMAC} {
			wg.Go(func() { r.gratuitous(OpRequest, peerIP, mac) })
		}
		wg.Go(func() { e.refresh(tcpip.Address{}) })
		wg.Go(func() { _, _ = r.p.Neighbors(nicID) })
		wg.Wait()
		e.mu.Lock()
		link := e.peers.byAddr[peerIP].link
		e.mu.Unlock()
		if n, ok := r.entry(peerIP); !ok || n.LinkAddr != link {
			t.Fatalf("we believe in %s, netstack in %s", link, n.LinkAddr)
		}
	}
}

// Everything that the API offers at once, with packets, against a stack that comes and goes: for the race detector, and to find a deadlock.
func TestConcurrentUse(t *testing.T) {
	r := newRig(t, ours(Options{Accept: AcceptAny, RouterGuard: VerifyRouters, Defence: DefendOnce}))
	const rounds = 100
	var wg sync.WaitGroup
	each := func(f func(i int)) {
		wg.Go(func() {
			for i := range rounds {
				f(i)
			}
		})
	}
	each(func(i int) { r.gratuitous(OpRequest, ip(10, 0, 0, byte(10+i)), peerMAC) })
	each(func(i int) { r.request(gwIP, evilMAC, ourIP) })
	each(func(i int) { r.reply(ip(10, 0, 0, byte(10+i)), newMAC) })
	each(func(i int) { r.gratuitous(OpReply, wantedIP, evilMAC) })
	each(func(i int) { _ = r.p.AddPermanent(nicID, ip(10, 0, 0, byte(10+i)), peerMAC) })
	each(func(i int) { _ = r.p.Delete(nicID, ip(10, 0, 0, byte(10+i))) })
	each(func(i int) { _, _ = r.p.Flush(nicID, nil) })
	each(func(i int) { _ = r.p.AddAddress(nicID, wanted(), AddressOptions{NoProbe: i%2 == 0}) })
	each(func(i int) { _ = r.s.RemoveAddress(nicID, wantedIP) })
	each(func(i int) {
		_ = r.s.GetLinkAddress(nicID, ip(10, 0, 0, byte(i)), ourIP, header.IPv4ProtocolNumber, func(stack.LinkResolutionResult) {})
	})
	each(func(i int) {
		_ = r.s.DisableNIC(nicID)
		_ = r.s.EnableNIC(nicID)
	})
	each(func(i int) {
		r.s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: ip(10, 0, 0, byte(i)), NIC: nicID}})
	})
	each(func(int) { r.run(50 * time.Millisecond) })
	wg.Wait()
	r.run(time.Minute)
	r.link.Drain()
}

// An announcement that overtakes the answer to our request does not spend it.
func TestAnswerAfterAnnouncement(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.datagram(peerIP)
	r.gratuitous(OpRequest, peerIP, peerMAC)
	r.expect(peerIP, peerMAC, stack.Stale)
	r.reply(peerIP, peerMAC)
	r.expect(peerIP, peerMAC, stack.Reachable)
	r.gratuitous(OpRequest, peerIP, evilMAC)
	r.reply(peerIP, evilMAC)
	r.expect(peerIP, peerMAC, stack.Reachable)
}
