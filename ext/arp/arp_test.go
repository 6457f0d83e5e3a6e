package arp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func TestResolve(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.datagram(peerIP)
	r.expect(peerIP, "", stack.Incomplete)
	got := r.sent()
	if len(got) != 1 || got[0].to != broadcast || got[0].arp != (Packet{Op: OpRequest, SenderLink: ourMAC, Sender: ourIP, TargetLink: tcpip.LinkAddress(make([]byte, 6)), Target: peerIP}) {
		t.Fatalf("sent %+v, want one broadcast request", got)
	}
	r.reply(peerIP, peerMAC)
	r.run(0)
	r.expect(peerIP, peerMAC, stack.Reachable)
	if got := r.sent(); len(got) != 1 || got[0].to != peerMAC || got[0].ip != peerIP {
		t.Fatalf("sent %+v, want the datagram that waited", got)
	}
}

func TestUnansweredRequestFails(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.datagram(peerIP)
	r.run(4 * time.Second)
	if got := r.sent(); len(got) != 3 {
		t.Errorf("sent %d requests, want 3", len(got))
	}
	r.expect(peerIP, "", stack.Unreachable)
	// A late answer to a request revives the entry; stock drops it.
	r.reply(peerIP, peerMAC)
	r.run(0)
	r.expect(peerIP, peerMAC, stack.Reachable)
}

// The stack may be more or less patient than by default.
func TestLateAnswer(t *testing.T) {
	for _, tt := range []struct {
		name        string
		probes      uint32
		retransmit  time.Duration
		after       time.Duration
		wantRequest int
	}{
		{"one request", 1, time.Second, 2 * time.Second, 1},
		{"six requests", 6, time.Second, 5500 * time.Millisecond, 6},
		{"slow requests", 2, 10 * time.Second, 9 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(Options{}))
			c := stack.DefaultNUDConfigurations()
			c.MaxMulticastProbes, c.MaxUnicastProbes, c.RetransmitTimer = tt.probes, tt.probes, tt.retransmit
			if err := r.s.SetNUDConfigurations(nicID, header.IPv4ProtocolNumber, c); err != nil {
				t.Fatal(err)
			}
			r.run(time.Second)
			r.datagram(peerIP)
			r.run(tt.after)
			if got := r.sent(); len(got) != tt.wantRequest {
				t.Errorf("sent %d requests, want %d", len(got), tt.wantRequest)
			}
			r.reply(peerIP, peerMAC)
			r.run(0)
			r.expect(peerIP, peerMAC, stack.Reachable)
		})
	}
}

// failOver moves a REACHABLE neighbour to newMAC, which it announces with op, and sends a datagram each 100 ms. It returns how long datagrams went to the old
// link address, and how often.
func failOver(t *testing.T, factory stack.NetworkProtocolFactory, addr tcpip.Address, op Op) (time.Duration, int) {
	r := newRig(t, factory)
	r.resolve(addr, peerMAC)
	r.run(2 * time.Second)
	start := r.clock.Elapsed()
	r.gratuitous(op, addr, newMAC)
	r.run(0)
	lost := 0
	for r.clock.Elapsed() < start+time.Minute {
		r.datagram(addr)
		for _, f := range r.sent() {
			switch {
			case f.ip == addr && f.to == newMAC:
				return r.clock.Elapsed() - start, lost
			case f.ip == addr:
				lost++
			case f.arp.Op == OpRequest && f.arp.Target == addr && (f.to == broadcast || f.to == newMAC):
				r.reply(addr, newMAC) // whoever has the address now answers
			}
		}
		r.run(100 * time.Millisecond)
	}
	t.Fatal("never recovered")
	return 0, 0
}

func TestFailOver(t *testing.T) {
	tests := []struct {
		name    string
		factory stack.NetworkProtocolFactory
		addr    tcpip.Address
		op      Op
		within  time.Duration
		atLeast time.Duration
	}{
		{name: "gratuitous request", factory: ours(Options{}), addr: peerIP, op: OpRequest},
		{name: "gratuitous reply", factory: ours(Options{}), addr: peerIP, op: OpReply},
		{name: "router, verified", factory: ours(Options{}), addr: gwIP, op: OpRequest, within: 300 * time.Millisecond},
		{name: "router, trusted", factory: ours(Options{RouterGuard: TrustRouters}), addr: gwIP, op: OpRequest},
		{name: "policy never, found by probing", factory: ours(Options{Accept: AcceptNever}), addr: peerIP, op: OpRequest, within: time.Minute, atLeast: 5 * time.Second},
		{name: "stock, gratuitous request", factory: stock.NewProtocol, addr: peerIP, op: OpRequest, within: time.Minute, atLeast: 8 * time.Second},
		{name: "stock, gratuitous reply", factory: stock.NewProtocol, addr: peerIP, op: OpReply, within: time.Minute, atLeast: 8 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			took, lost := failOver(t, tt.factory, tt.addr, tt.op)
			t.Logf("recovered after %v, %d datagrams lost", took, lost)
			if took > tt.within || took < tt.atLeast {
				t.Errorf("recovered after %v, want between %v and %v", took, tt.atLeast, tt.within)
			}
			if tt.within == 0 && lost != 0 {
				t.Errorf("%d datagrams went to the old link address, want none", lost)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	t.Run("permanent", func(t *testing.T) {
		r := newRig(t, ours(Options{}))
		if err := r.p.AddPermanent(nicID, peerIP, peerMAC); err != nil {
			t.Fatal(err)
		}
		r.gratuitous(OpRequest, peerIP, evilMAC)
		r.gratuitous(OpReply, peerIP, evilMAC)
		r.reply(peerIP, evilMAC)
		r.request(peerIP, evilMAC, ourIP)
		r.expect(peerIP, peerMAC, stack.Static)
		if n := r.p.Stats(nicID).Refused[RefusedPermanent].Value(); n != 4 {
			t.Errorf("refused %d, want 4", n)
		}
	})
	t.Run("a live router answers for itself", func(t *testing.T) {
		r := newRig(t, ours(Options{}))
		r.resolve(gwIP, gwMAC)
		r.run(5 * time.Second)
		r.gratuitous(OpRequest, gwIP, evilMAC)
		got := r.sent()
		if len(got) != 1 || got[0].to != gwMAC || got[0].arp.Op != OpRequest {
			t.Fatalf("sent %+v, want a request to the router alone", got)
		}
		r.reply(gwIP, evilMAC) // it was not asked
		r.reply(gwIP, gwMAC)
		r.run(time.Second)
		r.expect(gwIP, gwMAC, stack.Reachable)
		if got := r.sent(); len(got) != 0 {
			t.Errorf("sent %+v after the router answered", got)
		}
		st := r.p.Stats(nicID)
		if a, b, c := st.Refused[RefusedRouter].Value(), st.Refused[RefusedUnsolicited].Value(), st.Displaced.Value(); a != 1 || b != 1 || c != 0 {
			t.Errorf("refused %d for a router, %d unsolicited, displaced %d; want 1, 1, 0", a, b, c)
		}
	})
	t.Run("a router that nobody may move", func(t *testing.T) {
		r := newRig(t, ours(Options{RouterGuard: RefuseRouters}))
		r.resolve(gwIP, gwMAC)
		r.run(5 * time.Second)
		r.gratuitous(OpReply, gwIP, evilMAC)
		r.run(time.Second)
		r.expect(gwIP, gwMAC, stack.Reachable)
		if got := r.sent(); len(got) != 0 {
			t.Errorf("sent %+v", got)
		}
	})
	t.Run("an unsolicited reply", func(t *testing.T) {
		r := newRig(t, ours(Options{}))
		r.resolve(peerIP, peerMAC)
		r.run(5 * time.Second)
		r.reply(peerIP, evilMAC)
		r.expect(peerIP, peerMAC, stack.Reachable)
		r.reply(ip(10, 0, 0, 77), evilMAC)
		if _, ok := r.entry(ip(10, 0, 0, 77)); ok {
			t.Error("an unsolicited reply made an entry")
		}
	})
	t.Run("lock time", func(t *testing.T) {
		r := newRig(t, ours(Options{}))
		r.resolve(peerIP, peerMAC)
		r.gratuitous(OpRequest, peerIP, evilMAC) // the second of two who answer
		r.expect(peerIP, peerMAC, stack.Reachable)
		r.run(time.Second)
		r.gratuitous(OpRequest, peerIP, newMAC)
		r.expect(peerIP, newMAC, stack.Stale)
		r.gratuitous(OpRequest, peerIP, peerMAC)
		r.expect(peerIP, newMAC, stack.Stale)
		if n := r.p.Stats(nicID).Refused[RefusedLocked].Value(); n != 2 {
			t.Errorf("refused %d, want 2", n)
		}
	})
}

func TestMalformedChangesNothing(t *testing.T) {
	good := Packet{Op: OpRequest, SenderLink: newMAC, Sender: peerIP, Target: ourIP}
	edit := func(f func(b []byte)) []byte {
		b := good.AppendTo(nil)
		f(b)
		return b
	}
	tests := []struct {
		why Malformed
		b   []byte
	}{
		{TooShort, nil},
		{TooShort, good.AppendTo(nil)[:27]},
		{HardwareType, edit(func(b []byte) { b[1] = 6 })},
		{ProtocolType, edit(func(b []byte) { b[2] = 0x86 })},
		{HardwareLength, edit(func(b []byte) { b[4] = 8 })},
		{ProtocolLength, edit(func(b []byte) { b[5] = 16 })},
		{Operation, edit(func(b []byte) { b[7] = 0 })},
		{Operation, edit(func(b []byte) { b[7] = 3 })},
		{Operation, edit(func(b []byte) { b[6] = 1 })},
		{SenderHardware, edit(func(b []byte) { b[8] = 1 })},
		{SenderHardware, edit(func(b []byte) { clear(b[8:14]) })},
		{SenderProtocol, edit(func(b []byte) { b[14] = 224 })},
		{SenderProtocol, edit(func(b []byte) { b[14] = 127 })},
		{SenderProtocol, edit(func(b []byte) { copy(b[14:], "\xff\xff\xff\xff") })},
		{SenderProtocol, edit(func(b []byte) { b[7] = 2; clear(b[14:18]) })},
		{SenderProtocol, edit(func(b []byte) { copy(b[14:], "\x00\x00\x00\x01") })},
		{TargetProtocol, edit(func(b []byte) { clear(b[24:28]) })},
		{TargetProtocol, edit(func(b []byte) { b[24] = 239 })},
		{TargetProtocol, edit(func(b []byte) { b[24] = 127 })},
	}
	r := newRig(t, ours(Options{Accept: AcceptAny}))
	r.resolve(peerIP, peerMAC)
	r.run(2 * time.Second)
	var want [numMalformed]uint64
	for _, tt := range tests {
		r.inject(tt.b, tcpip.PacketHost)
		want[tt.why]++
	}
	r.run(0)
	r.expect(peerIP, peerMAC, stack.Reachable)
	if got := r.sent(); len(got) != 0 {
		t.Errorf("answered %+v", got)
	}
	for why := range numMalformed {
		if got := r.p.Stats(nicID).Malformed[why].Value(); got != want[why] {
			t.Errorf("counted %d for %q, want %d", got, why, want[why])
		}
	}
	if got := r.s.Stats().ARP.MalformedPacketsReceived.Value(); got != uint64(len(tests)) {
		t.Errorf("the stack counted %d malformed packets, want %d", got, len(tests))
	}
	r.inject(append(good.AppendTo(nil), make([]byte, 18)...), tcpip.PacketHost) // Ethernet's padding
	if got := r.sent(); len(got) != 1 {
		t.Errorf("sent %+v, want a reply to a padded request", got)
	}
}

func TestAcceptWhoIsUnknown(t *testing.T) {
	stranger, foreign := ip(10, 0, 0, 50), ip(172, 16, 0, 1)
	tests := []struct {
		name             string
		accept           Accept
		local, offSubnet bool
	}{
		{"known", AcceptKnown, false, false},
		{"never", AcceptNever, false, false},
		{"subnet", AcceptSubnet, true, false},
		{"any", AcceptAny, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(Options{Accept: tt.accept}))
			r.gratuitous(OpRequest, stranger, peerMAC)
			r.gratuitous(OpReply, foreign, peerMAC)
			_, a := r.entry(stranger)
			_, b := r.entry(foreign)
			if a != tt.local || b != tt.offSubnet {
				t.Errorf("learned on-link %v, off-link %v; want %v, %v", a, b, tt.local, tt.offSubnet)
			}
			st := r.p.Stats(nicID)
			if st.Unknown.Value()+st.Learned.Value() != 2 || (st.Unknown.Value() == 2) == tt.local {
				t.Errorf("counted %d unknown, %d learned", st.Unknown.Value(), st.Learned.Value())
			}
		})
	}
}

func TestNeighborAPI(t *testing.T) {
	r := newRig(t, ours(Options{}))
	r.resolve(gwIP, gwMAC)
	r.datagram(ip(10, 0, 0, 9))
	if err := r.p.AddPermanent(nicID, peerIP, peerMAC); err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		list, err := r.p.Neighbors(nicID)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range list {
			if i >= len(want) || n.String() != want[i] {
				t.Errorf("entry %d is %q", i, n)
			}
		}
		if len(list) != len(want) {
			t.Errorf("%d entries, want %d", len(list), len(want))
		}
	}
	permanent := "10.0.0.2 dev 1 lladdr 02:00:00:00:00:02 PERMANENT"
	check(permanent, "10.0.0.9 dev 1 INCOMPLETE", "10.0.0.254 dev 1 lladdr 02:00:00:00:00:fe router REACHABLE")
	r.run(3 * time.Second)
	check(permanent, "10.0.0.9 dev 1 FAILED", "10.0.0.254 dev 1 lladdr 02:00:00:00:00:fe router REACHABLE")
	r.run(time.Minute)
	check(permanent, "10.0.0.9 dev 1 FAILED", "10.0.0.254 dev 1 lladdr 02:00:00:00:00:fe router STALE")
	r.datagram(gwIP)
	check(permanent, "10.0.0.9 dev 1 FAILED", "10.0.0.254 dev 1 lladdr 02:00:00:00:00:fe router DELAY")
	r.run(5 * time.Second)
	check(permanent, "10.0.0.9 dev 1 FAILED", "10.0.0.254 dev 1 lladdr 02:00:00:00:00:fe router PROBE")
	if n, err := r.p.Flush(nicID, nil); n != 2 || err != nil {
		t.Errorf("Flush = %d, %v; want 2", n, err)
	}
	check(permanent)
	if err := r.p.Delete(nicID, peerIP); err != nil {
		t.Error(err)
	}
	if err := r.p.Delete(nicID, peerIP); err == nil {
		t.Error("deleted what is not there")
	}
	check()
	if _, err := r.p.Neighbors(7); err == nil {
		t.Error("listed an interface that does not exist")
	}
	kinds := map[EventKind]int{}
	for ev, ok := r.watch.Next(); ok; ev, ok = r.watch.Next() {
		kinds[ev.Kind]++
	}
	if kinds[Added] != 3 || kinds[Removed] != 3 || kinds[Changed] != 5 {
		t.Errorf("events %v, want 3 added, 5 changed, 3 removed", kinds)
	}
}

func TestBroadcastsAndMulticastsNeedNoRequest(t *testing.T) {
	e := &endpoint{}
	if mac, ok := e.ResolveStaticAddress(header.IPv4Broadcast); !ok || mac != broadcast {
		t.Error(mac, ok)
	}
	if mac, ok := e.ResolveStaticAddress(ip(224, 0, 0, 251)); !ok || mac != "\x01\x00\x5e\x00\x00\xfb" {
		t.Error(mac, ok)
	}
	if _, ok := e.ResolveStaticAddress(peerIP); ok {
		t.Error("a host's address resolved by itself")
	}
}
