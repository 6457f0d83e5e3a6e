package arp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// second adds an interface with 10.9.0.1/16, and an address in another subnet to the first.
func (r *rig) second() {
	r.t.Helper()
	l := channel.New(16, 1500, gwMAC)
	l.LinkEPCapabilities |= stack.CapabilityResolutionRequired
	if err := r.s.CreateNIC(2, l); err != nil {
		r.t.Fatal(err)
	}
	far := tcpip.AddressWithPrefix{Address: ip(10, 9, 0, 1), PrefixLen: 16}
	if err := r.s.AddProtocolAddress(2, tcpip.ProtocolAddress{Protocol: header.IPv4ProtocolNumber, AddressWithPrefix: far}, stack.AddressProperties{}); err != nil {
		r.t.Fatal(err)
	}
	r.addr(ip(10, 1, 0, 1), 24)
	r.s.SetRouteTable(append([]tcpip.Route{{Destination: far.Subnet(), NIC: 2}}, r.s.GetRouteTable()...))
	r.run(0)
	r.sent()
}

func TestWhichRequestsAreAnswered(t *testing.T) {
	foreign := ip(172, 16, 0, 9)
	proxied := tcpip.AddressWithPrefix{Address: ip(10, 9, 0, 0), PrefixLen: 16}.Subnet()
	local := tcpip.AddressWithPrefix{Address: ip(10, 0, 0, 128), PrefixLen: 25}.Subnet()
	tests := []struct {
		name   string
		opts   Options
		from   tcpip.Address
		target tcpip.Address
		want   bool
	}{
		{"ours", Options{}, peerIP, ourIP, true},
		{"ours, asked from anywhere", Options{}, foreign, ourIP, true},
		{"ours, probed for", Options{}, header.IPv4Any, ourIP, true},
		{"nobody's", Options{}, peerIP, ip(10, 0, 0, 33), false},
		{"another interface's", Options{}, peerIP, ip(10, 9, 0, 1), false},
		{"another interface's, ignore none", Options{Ignore: IgnoreNone}, peerIP, ip(10, 9, 0, 1), true},
		{"same subnet only", Options{Ignore: IgnoreOtherSubnets}, peerIP, ourIP, true},
		{"same subnet only, from another", Options{Ignore: IgnoreOtherSubnets}, foreign, ourIP, false},
		{"same subnet only, for the other address", Options{Ignore: IgnoreOtherSubnets}, peerIP, ip(10, 1, 0, 1), false},
		{"same subnet only, probed for", Options{Ignore: IgnoreOtherSubnets}, header.IPv4Any, ourIP, true},
		{"ignore all", Options{Ignore: IgnoreAll}, peerIP, ourIP, false},
		{"proxy", Options{Proxy: []Proxy{{Prefix: proxied}}}, peerIP, ip(10, 9, 3, 4), true},
		{"proxy, this interface", Options{Proxy: []Proxy{{Prefix: proxied, NIC: nicID}}}, peerIP, ip(10, 9, 3, 4), true},
		{"proxy, other interface", Options{Proxy: []Proxy{{Prefix: proxied, NIC: 2}}}, peerIP, ip(10, 9, 3, 4), false},
		{"proxy, outside the prefix", Options{Proxy: []Proxy{{Prefix: proxied}}}, peerIP, ip(10, 8, 3, 4), false},
		{"proxy, probed for", Options{Proxy: []Proxy{{Prefix: proxied}}}, header.IPv4Any, ip(10, 9, 3, 4), false},
		{"proxy, on the same link", Options{Proxy: []Proxy{{Prefix: local}}}, peerIP, ip(10, 0, 0, 200), false},
		{"proxy, on the same link by a rule", Options{Proxy: []Proxy{{Prefix: local, SameLink: true}}}, peerIP, ip(10, 0, 0, 200), true},
		{"proxy, announced", Options{Proxy: []Proxy{{Prefix: local, SameLink: true}}}, ip(10, 0, 0, 200), ip(10, 0, 0, 200), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(tt.opts))
			r.second()
			r.request(tt.from, peerMAC, tt.target)
			got := r.sent()
			if !tt.want {
				if len(got) != 0 {
					t.Errorf("sent %+v", got)
				}
				return
			}
			want := Packet{Op: OpReply, SenderLink: ourMAC, Sender: tt.target, TargetLink: peerMAC, Target: tt.from}
			if len(got) != 1 || got[0].to != peerMAC || got[0].arp != want {
				t.Errorf("sent %+v, want %+v", got, want)
			}
		})
	}
}

func TestSourceOfRequests(t *testing.T) {
	other := ip(10, 1, 0, 1)
	tests := []struct {
		name  string
		mode  Source
		local tcpip.Address
		want  tcpip.Address
	}{
		{"any", SourceAny, other, other},
		{"any, without a hint", SourceAny, tcpip.Address{}, ourIP},
		{"subnet", SourceSubnet, other, ourIP},
		{"subnet, the right one", SourceSubnet, ourIP, ourIP},
		{"best", SourceBest, other, ourIP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, ours(Options{Source: tt.mode}))
			r.second()
			e, _ := r.p.endpoint(nicID)
			if err := e.LinkAddressRequest(peerIP, tt.local, ""); err != nil {
				t.Fatal(err)
			}
			if got := r.sent(); len(got) != 1 || got[0].arp.Sender != tt.want {
				t.Errorf("sent %+v, want one from %s", got, tt.want)
			}
			if err := e.LinkAddressRequest(peerIP, farIP, ""); tt.mode != SourceBest && err == nil {
				t.Error("asked from an address that is not ours")
			}
		})
	}
}

func TestLinkLocalAddressesAreBroadcast(t *testing.T) {
	r := newRig(t, ours(Options{}))
	a := ip(169, 254, 7, 7)
	r.addr(a, 16)
	r.request(ip(169, 254, 1, 1), peerMAC, a)
	if got := r.sent(); len(got) != 1 || got[0].to != broadcast || got[0].arp.Op != OpReply {
		t.Errorf("sent %+v, want a broadcast reply (RFC 3927 §2.5)", got)
	}
}

func TestRateLimits(t *testing.T) {
	r := newRig(t, ours(Options{Requests: Rate{10, 20}, Replies: Rate{10, 20}, Learn: Rate{10, 20}}))
	r.resolve(gwIP, gwMAC)
	for i := range 200 {
		r.request(ip(10, 0, 0, byte(20+i)), peerMAC, ourIP)
	}
	st := r.p.Stats(nicID)
	if got := len(r.sent()); got != 40 || st.RepliesLimited.Value() != 160 || st.NotLearned.Value() != 180 {
		// Twenty are learned and then known: their replies have a limit of their own.
		t.Errorf("sent %d replies, held back %d, did not learn %d; want 40, 160, 180", got, st.RepliesLimited.Value(), st.NotLearned.Value())
	}
	r.request(gwIP, gwMAC, ourIP)
	r.run(time.Second)
	r.sent()
	e, _ := r.p.endpoint(nicID)
	for i := range 100 {
		_ = e.LinkAddressRequest(ip(10, 0, 1, byte(i)), ourIP, "")
	}
	if got := len(r.sent()); got != 20 {
		t.Errorf("sent %d requests, want 20", got)
	}
	_ = e.LinkAddressRequest(gwIP, ourIP, "")
	if got := r.sent(); len(got) != 1 {
		t.Error("a router's request was held back")
	}
	r.run(time.Second)
	for i := range 100 {
		_ = e.LinkAddressRequest(ip(10, 0, 1, byte(i)), ourIP, "")
	}
	if got := len(r.sent()); got != 10 {
		t.Errorf("sent %d requests a second later, want 10", got)
	}
}

func TestFloodDoesNotEvictTheRouter(t *testing.T) {
	const n = 20000
	r := newRig(t, ours(Options{Learn: Rate{PerSecond: -1}, Requests: Rate{PerSecond: -1}, MaxPeers: 600}))
	r.addr(ip(10, 200, 0, 1), 8)
	r.resolve(gwIP, gwMAC)
	r.resolve(peerIP, peerMAC)
	e, _ := r.p.endpoint(nicID)
	r.flood(n, func(i int) {
		if i%4 == 0 { // and we scan as well
			_ = r.s.GetLinkAddress(nicID, ip(10, 77, byte(i>>8), byte(i)), ourIP, header.IPv4ProtocolNumber, func(stack.LinkResolutionResult) {})
			r.run(time.Millisecond)
		}
	})
	r.expect(gwIP, gwMAC, stack.Reachable)
	if all, _ := r.p.Neighbors(nicID); len(all) > stack.NeighborCacheSize {
		t.Errorf("%d entries", len(all))
	}
	e.mu.Lock()
	if got := len(e.peers.byAddr); got > 600 || got != e.peers.size() {
		t.Errorf("%d peers remembered, want at most 600", got)
	}
	e.mu.Unlock()
}

func TestScanLeavesNeighboursInUse(t *testing.T) {
	p := newPeers(100)
	none := func(tcpip.Address) bool { return false }
	for i := range 50 {
		p.setLink(p.use(ip(10, 0, 0, byte(i)), none), peerMAC, tcpip.MonotonicTime{})
	}
	for i := range 100000 {
		p.use(ip(10, 1, byte(i>>8), byte(i)), none)
	}
	for i := range 50 {
		if p.byAddr[ip(10, 0, 0, byte(i))] == nil {
			t.Fatalf("neighbour %d was evicted by a scan", i)
		}
	}
	if len(p.byAddr) != 100 {
		t.Errorf("%d peers, want 100", len(p.byAddr))
	}
}

// Stock, for comparison: six hundred requests from strangers drive the default gateway out of the cache.
func TestStockFloodEvictsTheRouter(t *testing.T) {
	r := newRig(t, stock.NewProtocol)
	r.resolve(gwIP, gwMAC)
	r.flood(600, nil)
	if n, ok := r.entry(gwIP); ok {
		t.Errorf("stock kept the gateway: %+v", n)
	}
}
