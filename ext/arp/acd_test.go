package arp

import (
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var wantedIP = ip(10, 0, 0, 42)

func wanted() tcpip.AddressWithPrefix {
	return tcpip.AddressWithPrefix{Address: wantedIP, PrefixLen: 24}
}

// timeline lets d pass and lists when which packets of address conflict detection were sent.
func (r *rig) timeline(d time.Duration) (kinds []string, at []time.Duration) {
	r.t.Helper()
	start := r.clock.Elapsed()
	for limit := start + d; ; {
		more := r.clock.Step(limit)
		for _, f := range r.sent() {
			switch {
			case f.to != broadcast || f.arp.Op != OpRequest:
				continue
			case f.arp.Probe():
				kinds = append(kinds, "probe")
			case f.arp.Gratuitous():
				kinds = append(kinds, "announce")
			}
			at = append(at, r.clock.Elapsed()-start)
		}
		if !more {
			return kinds, at
		}
	}
}

func TestAddAddress(t *testing.T) {
	r := newRig(t, ours(Options{}))
	var result *ProbeResult
	if err := r.p.AddAddress(nicID, wanted(), AddressOptions{Done: func(res ProbeResult) { result = &res }}); err != nil {
		t.Fatal(err)
	}
	kinds, at := r.timeline(time.Minute)
	if want := []string{"probe", "probe", "probe", "announce", "announce"}; !slices.Equal(kinds, want) {
		t.Fatalf("sent %v, want %v", kinds, want)
	}
	// RFC 5227 §1.1: PROBE_WAIT, then PROBE_MIN to PROBE_MAX, ANNOUNCE_WAIT, ANNOUNCE_INTERVAL.
	between := func(d, low, high time.Duration) bool { return low <= d && d <= high }
	if !between(at[0], 0, time.Second) || !between(at[1]-at[0], time.Second, 2*time.Second) || !between(at[2]-at[1], time.Second, 2*time.Second) ||
		at[3]-at[2] != 2*time.Second || at[4]-at[3] != 2*time.Second {
		t.Errorf("sent at %v", at)
	}
	if result == nil || result.Err != nil {
		t.Errorf("result %+v", result)
	}
	if r.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, wantedIP) != nicID {
		t.Error("the address was not added")
	}
}

func TestProbeFindsAConflict(t *testing.T) {
	tests := []struct {
		name   string
		packet Packet
		want   bool
	}{
		{"its holder answers", Packet{Op: OpReply, SenderLink: peerMAC, Sender: wantedIP, TargetLink: ourMAC}, true},
		{"its holder asks for something else", Packet{Op: OpRequest, SenderLink: peerMAC, Sender: wantedIP, Target: gwIP}, true},
		{"another host probes for it", Packet{Op: OpRequest, SenderLink: peerMAC, Target: wantedIP}, true},
		{"our own probe comes back", Packet{Op: OpRequest, SenderLink: ourMAC, Target: wantedIP}, false},
		{"somebody asks for it", Packet{Op: OpRequest, SenderLink: peerMAC, Sender: peerIP, Target: wantedIP}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(Options{}))
			var got []ProbeResult
			_ = r.p.AddAddress(nicID, wanted(), AddressOptions{Done: func(res ProbeResult) { got = append(got, res) }})
			r.run(1500 * time.Millisecond)
			if tt.packet.Sender.BitLen() == 0 {
				tt.packet.Sender = header.IPv4Any
			}
			if tt.packet.Target.BitLen() == 0 {
				tt.packet.Target = header.IPv4Any
			}
			r.recv(tt.packet, tcpip.PacketBroadcast)
			r.run(time.Minute)
			added := r.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, wantedIP) == nicID
			if added == tt.want || len(got) != 1 {
				t.Fatalf("added %v, results %+v", added, got)
			}
			if _, dup := got[0].Err.(*tcpip.ErrDuplicateAddress); dup != tt.want || dup && got[0].Holder != peerMAC {
				t.Errorf("result %+v", got[0])
			}
		})
	}
}

func TestManyConflictsSlowDown(t *testing.T) {
	r := newRig(t, ours(Options{}))
	for i := range 11 {
		start := r.clock.Elapsed()
		failed := false
		_ = r.p.Probe(nicID, wantedIP, func(res ProbeResult) { failed = res.Err != nil })
		for len(r.sent()) == 0 {
			r.run(100 * time.Millisecond)
		}
		took := r.clock.Elapsed() - start
		if slow := took > 50*time.Second; slow != (i == 10) {
			t.Errorf("attempt %d began after %v", i+1, took)
		}
		r.gratuitous(OpRequest, wantedIP, peerMAC)
		if !failed {
			t.Fatal("no conflict")
		}
	}
}

func TestDefence(t *testing.T) {
	tests := []struct {
		name    string
		defence Defence
		// what happens at conflicts at 0, 5 and 20 seconds, and whether the address is ours at the end.
		announced int
		events    []Action
		kept      bool
	}{
		{"always", DefendAlways, 2, []Action{Defended, Defended}, true},
		{"once", DefendOnce, 1, []Action{Defended, Lost}, false},
		{"give up", GiveUp, 0, []Action{Lost}, false},
		{"observe", Observe, 0, []Action{Observed, Observed}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var events []Action
			r := newRig(t, ours(Options{Defence: tt.defence, OnConflict: func(c Conflict) {
				if c.NIC != nicID || c.Addr != ourIP || c.Holder != evilMAC {
					t.Errorf("event %+v", c)
				}
				events = append(events, c.Action)
			}}))
			announced := 0
			for _, wait := range []time.Duration{5 * time.Second, 15 * time.Second, time.Second} {
				r.gratuitous(OpRequest, ourIP, evilMAC)
				kinds, _ := r.timeline(wait)
				announced += len(kinds)
			}
			kept := r.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, ourIP) == nicID
			if announced != tt.announced || !slices.Equal(events, tt.events) || kept != tt.kept {
				t.Errorf("announced %d, events %v, kept %v; want %d, %v, %v", announced, events, kept, tt.announced, tt.events, tt.kept)
			}
			if _, ok := r.entry(ourIP); ok {
				t.Error("our own address became a neighbour")
			}
		})
	}
}

func TestDefendOnceForgetsAfterTheInterval(t *testing.T) {
	r := newRig(t, ours(Options{}))
	once := DefendOnce
	_ = r.p.AddAddress(nicID, wanted(), AddressOptions{NoProbe: true, Defence: &once})
	r.run(10 * time.Second)
	for range 3 {
		r.gratuitous(OpReply, wantedIP, evilMAC)
		r.run(11 * time.Second)
	}
	if r.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, wantedIP) != nicID {
		t.Error("lost, though no two conflicts came within ten seconds")
	}
}

func TestAnnounceWhenTheLinkComesUpAndAnAddressIsAdded(t *testing.T) {
	r := newRig(t, NewProtocol)
	r.run(10 * time.Second)
	r.sent()
	if err := r.s.DisableNIC(nicID); err != nil {
		t.Fatal(err)
	}
	if err := r.s.EnableNIC(nicID); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := r.timeline(10 * time.Second); !slices.Equal(kinds, []string{"announce", "announce"}) {
		t.Errorf("link up: sent %v", kinds)
	}
	pa := tcpip.ProtocolAddress{Protocol: header.IPv4ProtocolNumber, AddressWithPrefix: wanted()}
	if err := r.s.AddProtocolAddress(nicID, pa, stack.AddressProperties{Disp: r.p.Announcer(nicID, wantedIP)}); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := r.timeline(10 * time.Second); !slices.Equal(kinds, []string{"announce", "announce"}) {
		t.Errorf("address added: sent %v", kinds)
	}
	if err := r.p.Announce(nicID, peerIP); err == nil {
		t.Error("announced an address that is not ours")
	}
}

func TestLinkDownAbortsProbing(t *testing.T) {
	r := newRig(t, ours(Options{}))
	var got tcpip.Error
	_ = r.p.Probe(nicID, wantedIP, func(res ProbeResult) { got = res.Err })
	r.run(time.Second)
	if err := r.s.DisableNIC(nicID); err != nil {
		t.Fatal(err)
	}
	r.run(time.Minute)
	if _, ok := got.(*tcpip.ErrAborted); !ok {
		t.Errorf("result %v, want aborted", got)
	}
}

func TestStackDuplicateAddressDetection(t *testing.T) {
	for _, taken := range []bool{false, true} {
		r := newRig(t, ours(Options{}))
		var got stack.DADResult
		d, err := r.s.CheckDuplicateAddress(nicID, header.IPv4ProtocolNumber, wantedIP, func(res stack.DADResult) { got = res })
		if err != nil || d != stack.DADStarting {
			t.Fatal(d, err)
		}
		if d, _ := r.s.CheckDuplicateAddress(nicID, header.IPv4ProtocolNumber, wantedIP, func(stack.DADResult) {}); d != stack.DADAlreadyRunning {
			t.Errorf("second check: %v", d)
		}
		r.run(time.Second)
		if taken {
			r.gratuitous(OpReply, wantedIP, peerMAC)
		}
		r.run(time.Minute)
		switch res := got.(type) {
		case *stack.DADSucceeded:
			if taken {
				t.Error("succeeded")
			}
		case *stack.DADDupAddrDetected:
			if !taken || res.HolderLinkAddress != peerMAC {
				t.Errorf("%+v", res)
			}
		default:
			t.Errorf("result %T", got)
		}
	}
}

// RFC 5227 compares with the link addresses of all interfaces of the host: two of them may be on the same link.
func TestOurOtherInterfaceIsNoConflict(t *testing.T) {
	conflicts := 0
	r := newRig(t, ours(Options{OnConflict: func(Conflict) { conflicts++ }}))
	r.second() // it has gwMAC
	r.gratuitous(OpRequest, ourIP, gwMAC)
	var got []ProbeResult
	_ = r.p.Probe(nicID, wantedIP, func(res ProbeResult) { got = append(got, res) })
	r.run(time.Second)
	r.recv(Packet{Op: OpRequest, SenderLink: gwMAC, Sender: header.IPv4Any, Target: wantedIP}, tcpip.PacketBroadcast)
	r.run(time.Minute)
	if conflicts != 0 || len(got) != 1 || got[0].Err != nil {
		t.Errorf("%d conflicts, results %+v", conflicts, got)
	}
	if n := r.p.Stats(nicID).Echoes.Value(); n != 2 {
		t.Errorf("%d echoes, want 2", n)
	}
}

// To ask whether an address is in use that we have already must not cost its defence.
func TestProbingForOurOwnAddress(t *testing.T) {
	var events []Action
	r := newRig(t, ours(Options{OnConflict: func(c Conflict) { events = append(events, c.Action) }}))
	give := GiveUp
	if err := r.p.AddAddress(nicID, wanted(), AddressOptions{NoProbe: true, Defence: &give}); err != nil {
		t.Fatal(err)
	}
	if _, dup := r.p.Probe(nicID, wantedIP, func(ProbeResult) { t.Error("probed") }).(*tcpip.ErrDuplicateAddress); !dup {
		t.Error("probing for our own address is no error")
	}
	if _, dup := r.p.AddAddress(nicID, wanted(), AddressOptions{}).(*tcpip.ErrDuplicateAddress); !dup {
		t.Error("adding it again is no error")
	}
	var res stack.DADResult
	if _, err := r.s.CheckDuplicateAddress(nicID, header.IPv4ProtocolNumber, wantedIP, func(x stack.DADResult) { res = x }); err != nil {
		t.Fatal(err)
	}
	r.run(time.Second)
	r.gratuitous(OpReply, wantedIP, evilMAC)
	r.gratuitous(OpReply, wantedIP, evilMAC) // before the address is gone
	r.run(time.Minute)
	if _, dup := res.(*stack.DADDupAddrDetected); !dup || !slices.Equal(events, []Action{Lost}) {
		t.Errorf("result %T, events %v; want a duplicate, and the address lost once", res, events)
	}
	if r.s.CheckLocalAddress(0, header.IPv4ProtocolNumber, wantedIP) != 0 {
		t.Error("the address was kept")
	}
	e, _ := r.p.endpoint(nicID)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.holds) != 0 {
		t.Errorf("%d addresses are remembered", len(e.holds))
	}
}

// Addresses are announced in the same order in every run, though netstack keeps them in a map.
func TestAnnouncementOrder(t *testing.T) {
	for range 10 {
		r := newRig(t, NewProtocol)
		for i := range 20 {
			r.addr(ip(10, 0, 0, byte(200-i)), 24)
		}
		r.run(10 * time.Second)
		r.sent()
		_ = r.s.DisableNIC(nicID)
		_ = r.s.EnableNIC(nicID)
		r.run(0)
		got := r.sent()
		if len(got) != 21 {
			t.Fatalf("sent %d announcements, want 21", len(got))
		}
		if !slices.IsSortedFunc(got, func(a, b frame) int { return compare(a.arp.Sender, b.arp.Sender) }) {
			t.Fatalf("announced out of order: %+v", got)
		}
	}
}

// Where there are no link addresses there is nobody to ask, and no ARP packet is sent.
func TestLinkWithoutAddresses(t *testing.T) {
	r := newRig(t, ours(Options{}))
	tun := channel.New(16, 1500, "")
	if err := r.s.CreateNIC(3, tun); err != nil {
		t.Fatal(err)
	}
	if err := r.p.Probe(3, wantedIP, func(ProbeResult) {}); err == nil {
		t.Error("probed")
	}
	done := false
	if err := r.p.AddAddress(3, wanted(), AddressOptions{Done: func(res ProbeResult) { done = res.Err == nil }}); err != nil || !done {
		t.Errorf("AddAddress: %v, done %v", err, done)
	}
	if err := r.p.Announce(3, wantedIP); err == nil {
		t.Error("announced")
	}
	if d, _ := r.s.CheckDuplicateAddress(3, header.IPv4ProtocolNumber, peerIP, func(stack.DADResult) {}); d != stack.DADDisabled {
		t.Errorf("CheckDuplicateAddress: %v", d)
	}
	r.run(time.Minute)
	if n := tun.NumQueued(); n != 0 {
		t.Errorf("%d packets were sent", n)
	}
}

// Nothing is left that waits, once the stack is gone.
func TestNoTimerIsLeft(t *testing.T) {
	r := newRig(t, NewProtocol)
	r.resolve(gwIP, gwMAC)
	r.run(5 * time.Second)
	r.gratuitous(OpRequest, gwIP, evilMAC)
	_ = r.p.Probe(nicID, wantedIP, func(ProbeResult) {})
	r.gratuitous(OpRequest, ourIP, evilMAC)
	if err := r.s.RemoveNIC(nicID); err != nil {
		t.Fatal(err)
	}
	r.run(0)
	if n := r.clock.Armed(); n != 0 {
		t.Errorf("%d timers are armed", n)
	}
	if _, err := r.p.Neighbors(nicID); err == nil {
		t.Error("the interface is still known")
	}
}
