package arp

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// flood delivers n requests from random addresses of 10.0.0.0/8, and calls each after every one.
func (r *rig) flood(n int, each func(i int)) {
	b := (&Packet{Op: OpRequest, SenderLink: evilMAC, Sender: peerIP, Target: ourIP}).AppendTo(nil)
	x := uint32(1)
	for i := range n {
		x = x*1664525 + 1013904223
		binary.BigEndian.PutUint32(b[14:], 10<<24|x>>8)
		r.inject(b, tcpip.PacketBroadcast)
		r.link.Drain()
		if each != nil {
			each(i)
		}
	}
}

// scan has the stack look n random addresses of 10.0.0.0/8 up, as a port scanner or a router in front of one does, a thousand in a second.
func (r *rig) scan(n int) {
	x := uint32(1)
	var b [4]byte
	for range n {
		x = x*1664525 + 1013904223
		binary.BigEndian.PutUint32(b[:], 10<<24|x>>8)
		_ = r.s.GetLinkAddress(nicID, tcpip.AddrFrom4(b), ourIP, header.IPv4ProtocolNumber, func(stack.LinkResolutionResult) {})
		r.run(time.Millisecond)
		r.link.Drain()
	}
}

// attacked is a stack on a /8 that knows its gateway.
func attacked(t testing.TB, factory stack.NetworkProtocolFactory) *rig {
	r := newRig(t, factory)
	r.addr(ip(10, 200, 0, 1), 8)
	r.resolve(gwIP, gwMAC)
	return r
}

// unlimited lets every stranger into the cache, and every request out.
func unlimited() stack.NetworkProtocolFactory {
	return ours(Options{Learn: Rate{PerSecond: -1}, Requests: Rate{PerSecond: -1}, Replies: Rate{PerSecond: -1}})
}

// heap is the memory in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestCacheUnderAttack(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for _, tt := range []struct {
		name   string
		attack func(r *rig, n int)
	}{
		{"flood", func(r *rig, n int) { r.flood(n, nil) }},
		{"scan", (*rig).scan},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := attacked(t, unlimited())
			tt.attack(r, 2000) // fills what is bounded
			before := heap()
			tt.attack(r, n)
			if after := heap(); after > before+1<<20 {
				t.Errorf("%d neighbours took %d bytes more", n, after-before)
			}
			if e, ok := r.entry(gwIP); !ok || e.LinkAddr != gwMAC {
				t.Errorf("the gateway is %+v", e)
			}
			if all, _ := r.p.Neighbors(nicID); len(all) > stack.NeighborCacheSize {
				t.Errorf("%d entries", len(all))
			}
			e, _ := r.p.endpoint(nicID)
			e.mu.Lock()
			defer e.mu.Unlock()
			if len(e.peers.byAddr) > 1024 || len(e.peers.byAddr) != e.peers.size() {
				t.Errorf("%d neighbours remembered, %d listed", len(e.peers.byAddr), e.peers.size())
			}
		})
	}
}
