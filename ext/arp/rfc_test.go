package arp

import (
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// step is a line of a script: what comes in, what has to come out, what has to be believed.
type step func(r *rig)

// in delivers a broadcast packet, toUs one that was sent to us alone.
func in(p Packet) step   { return func(r *rig) { r.recv(p, tcpip.PacketBroadcast) } }
func toUs(p Packet) step { return func(r *rig) { r.recv(p, tcpip.PacketHost) } }

// out expects exactly these packets since the last out; those of IPv4 are given by their destination.
func out(want ...frame) step {
	return func(r *rig) {
		r.t.Helper()
		if got := r.sent(); !slices.Equal(got, want) {
			r.t.Fatalf("sent %+v\nwant %+v", got, want)
		}
	}
}

// pass lets time pass, discard forgets what was sent.
func pass(d time.Duration) step { return func(r *rig) { r.run(d) } }
func discard(r *rig)            { r.sent() }

// write sends a datagram.
func write(to tcpip.Address) step { return func(r *rig) { r.datagram(to) } }

// at expects a neighbour, nowhere expects none.
func at(addr tcpip.Address, mac tcpip.LinkAddress, s stack.NeighborState) step {
	return func(r *rig) { r.t.Helper(); r.expect(addr, mac, s) }
}

func nowhere(addr tcpip.Address) step {
	return func(r *rig) {
		r.t.Helper()
		if n, ok := r.entry(addr); ok {
			r.t.Fatalf("there is a neighbour %+v", n)
		}
	}
}

// resolved makes peerIP reachable, and lets more than the lock time pass.
func resolved(r *rig) {
	r.resolve(peerIP, peerMAC)
	r.run(2 * time.Second)
}

var zeroMAC = tcpip.LinkAddress("\x00\x00\x00\x00\x00\x00")

func ask(mac tcpip.LinkAddress, from, target tcpip.Address) Packet {
	return Packet{Op: OpRequest, SenderLink: mac, Sender: from, TargetLink: zeroMAC, Target: target}
}

func tells(mac tcpip.LinkAddress, from tcpip.Address) Packet {
	return Packet{Op: OpReply, SenderLink: mac, Sender: from, TargetLink: ourMAC, Target: ourIP}
}

func TestRequirements(t *testing.T) {
	stranger := ip(10, 0, 0, 33)
	local, localPeer := ip(169, 254, 7, 7), ip(169, 254, 1, 1)
	behind := tcpip.AddressWithPrefix{Address: ip(10, 9, 0, 0), PrefixLen: 16}.Subnet()
	weAsk := frame{to: broadcast, arp: ask(ourMAC, ourIP, peerIP)}
	weAnswer := func(from, to tcpip.Address) frame {
		return frame{to: peerMAC, arp: Packet{Op: OpReply, SenderLink: ourMAC, Sender: from, TargetLink: peerMAC, Target: to}}
	}
	claim := func(r *rig) { _ = r.p.AddAddress(nicID, wanted(), AddressOptions{}) }
	probe := frame{to: broadcast, arp: ask(ourMAC, header.IPv4Any, wantedIP)}
	announcement := frame{to: broadcast, arp: ask(ourMAC, wantedIP, wantedIP)}

	for _, tt := range []struct {
		name  string
		opts  Options
		steps []step
	}{
		{"RFC 826, packet generation: a request is broadcast, and names us and the target", Options{}, []step{
			write(peerIP), out(weAsk), toUs(tells(peerMAC, peerIP)), pass(0), out(frame{to: peerMAC, ip: peerIP}), at(peerIP, peerMAC, stack.Reachable),
		}},
		{"RFC 826, packet reception: who asks for us is learned, and answered to its address alone", Options{}, []step{
			in(ask(peerMAC, peerIP, ourIP)), out(weAnswer(ourIP, peerIP)), at(peerIP, peerMAC, stack.Stale),
		}},
		{"RFC 826, packet reception: who asks for another is not learned", Options{}, []step{
			in(ask(peerMAC, peerIP, stranger)), out(), nowhere(peerIP),
		}},
		{"RFC 826, packet reception: but updated if known, whomever it asks for", Options{}, []step{
			resolved, in(ask(newMAC, peerIP, stranger)), out(), at(peerIP, newMAC, stack.Stale),
		}},
		{"RFC 826, packet reception: a reply is never answered", Options{}, []step{
			toUs(tells(peerMAC, peerIP)), out(), nowhere(peerIP),
		}},
		{"RFC 1122 2.3.2.1: a doubtful neighbour is asked at its link address first", Options{}, []step{
			resolved, pass(time.Minute), write(peerIP), discard, pass(5 * time.Second),
			out(frame{to: peerMAC, arp: ask(ourMAC, ourIP, peerIP)}), toUs(tells(peerMAC, peerIP)), at(peerIP, peerMAC, stack.Reachable),
		}},
		{"RFC 1122 2.3.2.1: requests for one address are at most one in a second", Options{}, []step{
			write(peerIP), write(peerIP), write(peerIP), out(weAsk), pass(999 * time.Millisecond), out(), pass(time.Millisecond), out(weAsk),
		}},
		{"RFC 1122 2.3.2.2: the packet that has to wait is not lost", Options{}, []step{
			write(peerIP), discard, pass(2500 * time.Millisecond), discard, toUs(tells(peerMAC, peerIP)), pass(0), out(frame{to: peerMAC, ip: peerIP}),
		}},
		{"RFC 3927 2.5: from a link-local address everything is broadcast", Options{}, []step{
			func(r *rig) { r.addr(local, 16); r.sent() }, in(ask(peerMAC, localPeer, local)),
			out(frame{to: broadcast, arp: Packet{Op: OpReply, SenderLink: ourMAC, Sender: local, TargetLink: peerMAC, Target: localPeer}}),
		}},
		{"RFC 3927 2.5: a broadcast answer to us is an answer", Options{}, []step{
			write(peerIP), in(tells(peerMAC, peerIP)), at(peerIP, peerMAC, stack.Reachable),
		}},
		{"RFC 1027: who is behind us is answered for", Options{Proxy: []Proxy{{Prefix: behind}}}, []step{
			func(r *rig) { r.second() }, in(ask(peerMAC, peerIP, ip(10, 9, 3, 4))), out(weAnswer(ip(10, 9, 3, 4), peerIP)),
		}},
		{"RFC 5227 2.1.1: a probe is a broadcast request from nobody", Options{}, []step{
			claim, pass(time.Second), out(probe),
		}},
		{"RFC 5227 2.1: an address that is being probed for is not used", Options{}, []step{
			claim, pass(time.Second), discard, in(ask(peerMAC, peerIP, wantedIP)), out(),
		}},
		{"RFC 5227 2.1: the probe of another teaches nothing", Options{Accept: AcceptAny}, []step{
			in(ask(peerMAC, header.IPv4Any, stranger)), out(), nowhere(stranger), nowhere(header.IPv4Any),
		}},
		{"RFC 5227 2.1.1: a packet from the address, request or reply, ends the attempt", Options{}, []step{
			claim, pass(time.Second), discard, in(ask(peerMAC, wantedIP, stranger)), pass(time.Minute), out(), nowhere(wantedIP),
		}},
		{"RFC 5227 2.1.1: so does the probe of another", Options{}, []step{
			claim, pass(time.Second), discard, in(ask(peerMAC, header.IPv4Any, wantedIP)), pass(time.Minute), out(),
		}},
		{"RFC 5227 2.1.1: but not our own, heard again", Options{}, []step{
			claim, pass(time.Second), discard, in(ask(ourMAC, header.IPv4Any, wantedIP)), pass(10 * time.Second), out(probe, probe, announcement, announcement),
		}},
		{"RFC 5227 2.1.1: a request for the address is no conflict", Options{}, []step{
			claim, pass(time.Second), discard, in(ask(peerMAC, peerIP, wantedIP)), pass(10 * time.Second), out(probe, probe, announcement, announcement),
		}},
		{"RFC 5227 2.1.1: a conflict counts until ANNOUNCE_WAIT is over", Options{}, []step{
			claim, pass(5 * time.Second), discard, in(tells(peerMAC, wantedIP)), pass(time.Minute), out(),
		}},
		{"RFC 5227 2.3: an announcement is a broadcast request from the address for itself", Options{}, []step{
			claim, pass(10 * time.Second), out(probe, probe, probe, announcement, announcement),
		}},
		{"RFC 5227 2.4: a claim to our address does not change what we believe", Options{Accept: AcceptAny}, []step{
			in(ask(peerMAC, ourIP, peerIP)), out(frame{to: broadcast, arp: ask(ourMAC, ourIP, ourIP)}), nowhere(ourIP),
		}},
		{"RFC 5227 2.4 (c): defended at most once in DEFEND_INTERVAL", Options{}, []step{
			in(ask(peerMAC, ourIP, ourIP)), discard, pass(9 * time.Second), in(ask(peerMAC, ourIP, ourIP)), out(),
			pass(time.Second), in(ask(peerMAC, ourIP, ourIP)), out(frame{to: broadcast, arp: ask(ourMAC, ourIP, ourIP)}),
		}},
		{"RFC 5227 2.5: a probe for our address is answered", Options{Ignore: IgnoreOtherSubnets}, []step{
			in(ask(peerMAC, header.IPv4Any, ourIP)), out(weAnswer(ourIP, header.IPv4Any)),
		}},
		{"RFC 5227 3: an announcement replaces what is stale", Options{}, []step{
			resolved, in(ask(newMAC, peerIP, peerIP)), write(peerIP), out(frame{to: newMAC, ip: peerIP}),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(tt.opts))
			for _, s := range tt.steps {
				s(r)
			}
		})
	}
}
