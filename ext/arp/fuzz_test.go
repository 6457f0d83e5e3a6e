package arp

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// FuzzReceive feeds packets, 28 octets each behind one that says what else happens, to a stack that holds a permanent entry and a live router, and checks what no
// packet may change.
func FuzzReceive(f *testing.F) {
	seed := func(ps ...Packet) {
		var b []byte
		for _, p := range ps {
			b = append(b, byte(len(b)))
			b = p.AppendTo(b)
		}
		f.Add(b)
	}
	seed(Packet{Op: OpRequest, SenderLink: peerMAC, Sender: peerIP, Target: ourIP}, Packet{Op: OpReply, SenderLink: peerMAC, Sender: peerIP, TargetLink: ourMAC, Target: ourIP})
	seed(Packet{Op: OpRequest, SenderLink: evilMAC, Sender: gwIP, Target: gwIP}, Packet{Op: OpReply, SenderLink: evilMAC, Sender: gwIP, TargetLink: ourMAC, Target: ourIP})
	seed(Packet{Op: OpRequest, SenderLink: evilMAC, Sender: ourIP, Target: ourIP}, Packet{Op: OpRequest, SenderLink: evilMAC, Sender: header.IPv4Any, Target: wantedIP})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newRig(t, ours(Options{Accept: AcceptAny, RouterGuard: RefuseRouters, MaxPeers: 16}))
		if err := r.p.AddPermanent(nicID, peerIP, peerMAC); err != nil {
			t.Fatal(err)
		}
		r.resolve(gwIP, gwMAC)
		results := 0
		_ = r.p.Probe(nicID, wantedIP, func(ProbeResult) { results++ })
		for len(data) > 0 && r.clock.Elapsed() < 10*time.Second {
			how := data[0]
			n := min(1+header.ARPSize, len(data))
			b := data[1:n]
			data = data[n:]
			if p, why := Parse(b); why == WellFormed {
				if !bytes.Equal(p.AppendTo(nil), b) {
					t.Fatalf("%x parses as %+v, which is %x", b, p, p.AppendTo(nil))
				}
			}
			r.inject(b, []tcpip.PacketType{tcpip.PacketHost, tcpip.PacketBroadcast, tcpip.PacketMulticast, tcpip.PacketOtherHost}[how&3])
			if how&4 != 0 {
				r.run(time.Duration(how>>3) * 20 * time.Millisecond)
			}
			r.sent()
		}
		r.expect(peerIP, peerMAC, stack.Static)
		if n, ok := r.entry(gwIP); !ok || n.LinkAddr != gwMAC {
			t.Errorf("the router is %+v", n)
		}
		if _, ok := r.entry(ourIP); ok {
			t.Error("our own address became a neighbour")
		}
		r.run(20 * time.Second)
		if results != 1 {
			t.Errorf("%d results of one probe", results)
		}
		e, _ := r.p.endpoint(nicID)
		if n := len(e.peers.byAddr); n > 17 {
			t.Errorf("%d peers", n)
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	b.Run("request from a neighbour", func(b *testing.B) {
		r := newRig(b, ours(Options{Replies: Rate{PerSecond: -1}}))
		p := (&Packet{Op: OpRequest, SenderLink: peerMAC, Sender: peerIP, Target: ourIP}).AppendTo(nil)
		for b.Loop() {
			r.inject(p, tcpip.PacketBroadcast)
			for pkt := r.link.Read(); pkt != nil; pkt = r.link.Read() {
				pkt.DecRef()
			}
		}
	})
	b.Run("overheard", func(b *testing.B) {
		r := newRig(b, ours(Options{}))
		p := (&Packet{Op: OpRequest, SenderLink: peerMAC, Sender: peerIP, Target: gwIP}).AppendTo(nil)
		for b.Loop() {
			r.inject(p, tcpip.PacketBroadcast)
		}
	})
}
