package tcpx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// router joins a and b by a path with a round-trip time and an MTU for what a sends. It says what is too big, unless its errors are filtered.
type router struct {
	*world
	rtt  time.Duration
	mtu  int
	icmp bool
	// mute makes it name no MTU, as routers older than RFC 1191 do.
	mute bool
	// tooBig counts packets dropped for their size; since is when the first was, hole the number of its first octet.
	tooBig int
	since  time.Duration
	hole   int
	// largest is the size of the largest packet that passed.
	largest int
	port    uint16
}

func newRouter(w *world, mtu int, icmp bool) *router {
	r := &router{world: w, rtt: 40 * time.Millisecond, mtu: mtu, icmp: icmp}
	w.a.wire.forward = func(pkt *stack.PacketBuffer) {
		b := pkt.ToBuffer()
		if size := int(b.Size()); size > r.mtu {
			if b.Release(); r.tooBig == 0 {
				iss := w.a.wire.log[0].tcp.SequenceNumber()
				r.since, r.hole = w.clock.Elapsed(), int(header.TCP(pkt.TransportHeader().Slice()).SequenceNumber()-iss-1)
			}
			r.tooBig++
			if r.icmp {
				r.complain(pkt, size)
			}
			return
		} else {
			r.largest = max(r.largest, size)
		}
		r.later(w.a.wire, pkt.NetworkProtocolNumber, b, r.rtt/2)
	}
	w.b.wire.forward = func(pkt *stack.PacketBuffer) { r.later(w.b.wire, pkt.NetworkProtocolNumber, pkt.ToBuffer(), r.rtt/2) }
	return r
}

// later delivers a packet to the other end of a wire.
func (r *router) later(to *wire, net tcpip.NetworkProtocolNumber, b buffer.Buffer, d time.Duration) {
	r.clock.AfterFunc(d, func() {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
		defer pkt.DecRef()
		pkt.NetworkProtocolNumber = net
		var l stack.PacketBufferList
		l.PushBack(pkt)
		to.Endpoint.WritePackets(l)
	})
}

// complain sends "packet too big" back to a, from half way.
func (r *router) complain(pkt *stack.PacketBuffer, size int) {
	mtu := r.mtu
	if r.mute {
		mtu = 0
	}
	v := pkt.ToView()
	defer v.Release()
	var b []byte
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		quote := v.AsSlice()[:header.IPv4MinimumSize+8]
		b = make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize, 200)
		b = append(b, quote...)
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: r.b.v4, DstAddr: r.a.v4})
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
		i := header.ICMPv4(b[header.IPv4MinimumSize:])
		i.SetType(header.ICMPv4DstUnreachable)
		i.SetCode(header.ICMPv4FragmentationNeeded)
		i.SetMTU(uint16(mtu))
		i.SetChecksum(header.ICMPv4Checksum(i[:header.ICMPv4MinimumSize], checksum.Checksum(i.Payload(), 0)))
	} else {
		quote := v.AsSlice()[:header.IPv6MinimumSize+20]
		b = make([]byte, header.IPv6MinimumSize+header.ICMPv6PacketTooBigMinimumSize, 200)
		b = append(b, quote...)
		i := header.ICMPv6(b[header.IPv6MinimumSize:])
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(i)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 255, SrcAddr: r.b.v6, DstAddr: r.a.v6})
		i.SetType(header.ICMPv6PacketTooBig)
		binary.BigEndian.PutUint32(i[4:], uint32(mtu))
		sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, r.b.v6, r.a.v6, uint16(len(i)))
		i.SetChecksum(^checksum.Checksum(i, sum))
	}
	r.later(r.b.wire, pkt.NetworkProtocolNumber, buffer.MakeWithData(b), r.rtt/2)
}

// transfer sends n octets from c to s, and calls at with the number that have arrived after each step. It fails after limit.
func (r *router) transfer(c, s *socket, n int, limit time.Duration, at func(got int)) {
	r.t.Helper()
	data := bytes.NewReader(make([]byte, n))
	got := 0
	for end := r.clock.Elapsed() + limit; got < n; {
		if data.Len() > 0 {
			_, err := c.Write(data, tcpip.WriteOptions{})
			if _, wait := err.(*tcpip.ErrWouldBlock); err != nil && !wait {
				r.t.Fatalf("write: %v", err)
			}
		}
		if !r.clock.Step(end) {
			r.t.Fatalf("%d of %d octets in %v; %+v", got, n, limit, c.TCPInfo())
		}
		var b bytes.Buffer
		if _, err := s.Read(&b, tcpip.ReadOptions{}); err == nil {
			got += b.Len()
			if at != nil {
				at(got)
			}
		}
	}
}

// open connects a to b over IPv4 or IPv6.
func (r *router) open(v6 bool) (c, s *socket) {
	r.t.Helper()
	r.port++
	net, to := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber), r.b.at(r.port)
	if v6 {
		net, to = header.IPv6ProtocolNumber, r.b.at6(r.port)
	}
	l := r.b.socket(net)
	l.must(l.Bind(tcpip.FullAddress{Port: r.port}))
	l.must(l.Listen(1))
	c = r.a.socket(net)
	c.Connect(to)
	r.run(r.rtt * 2)
	s = l.accept()
	l.Close()
	return c, s
}

// pathMTUOf is the size of packet that a connection uses.
func pathMTUOf(c *socket) int {
	h := header.IPv4MinimumSize
	if c.netProto == header.IPv6ProtocolNumber {
		h = header.IPv6MinimumSize
	}
	return int(c.TCPInfo().PMTU) + h + header.TCPMinimumSize
}

// TestTransferOverAnyPath: whatever the path carries and whether routers say so, a transfer completes, and the MTU found is the path's less at most a step.
func TestTransferOverAnyPath(t *testing.T) {
	for _, mode := range []pmtu.Mode{pmtu.Off, pmtu.OnBlackHole, pmtu.Always} {
		for _, mtu := range []int{1500, 1400, 1280, 576} {
			for _, how := range []string{"icmp", "mute", "filtered"} {
				for _, v6 := range []bool{false, true} {
					if mode == pmtu.Off && how == "filtered" && mtu < 1500 || v6 && (mtu < 1280 || how == "mute") {
						continue
					}
					if testing.Short() && (v6 != (mtu == 1280) || mtu == 1500) {
						continue
					}
					t.Run(fmt.Sprintf("mode %d, MTU %d, %s, v6 %v", mode, mtu, how, v6), func(t *testing.T) {
						w := newWorld(t, WithPMTU(pmtu.Config{Mode: mode}, pmtu.Options{}))
						r := newRouter(w, mtu, how != "filtered")
						r.mute = how == "mute"
						c, s := r.open(v6)
						c.ops.SetSendBufferSize(32<<10, true) // so that it takes some round trips
						r.transfer(c, s, 2<<20, time.Minute, nil)
						found := pathMTUOf(c)
						step := 16
						switch {
						case how == "icmp":
							step = 1
						case how == "mute" && mode != pmtu.Always:
							step = 200 // plateaus
						}
						if found > mtu || found <= mtu-step {
							t.Errorf("found %d", found)
						}
						if r.largest > mtu || r.largest < found {
							t.Errorf("largest packet %d, found %d", r.largest, found)
						}
						c.Close()
						s.Close()
						r.run(2 * time.Minute)
					})
				}
			}
		}
	}
}

// TestRouterWithoutMTU: a connection that has no memory of paths, and a router that names no MTU: each time-out brings the next plateau until all arrives. One that forges
// such errors slows nobody down.
func TestRouterWithoutMTU(t *testing.T) {
	for _, tt := range []struct{ mtu, found int }{{1500, 1500}, {1492, 1492}, {1400, 1280}, {1006, 1006}, {1000, 576}, {552, 552}} {
		w := newWorld(t)
		r := newRouter(w, tt.mtu, true)
		r.mute = true
		c, s := r.open(false)
		r.transfer(c, s, 100<<10, time.Minute, nil)
		if got := pathMTUOf(c); got != tt.found {
			t.Errorf("path of %d: found %d, want %d", tt.mtu, got, tt.found)
		}
		c.Close()
		s.Close()
		r.run(2 * time.Minute)
	}
	w := newWorld(t)
	r := newRouter(w, 1500, true)
	c, s := r.open(false)
	r.transfer(c, s, 100<<10, time.Minute, func(int) {
		w.a.icmp(c, header.ICMPv4FragmentationNeeded, 0, w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber())
		w.a.icmp(c, header.ICMPv4FragmentationNeeded, 1, w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber())
	})
	if got := pathMTUOf(c); got != 1500 {
		t.Errorf("forged errors: MTU %d", got)
	}
	// The packet that is quoted would have fit.
	c.write("x")
	w.a.icmpQuoting(c, header.ICMPv4FragmentationNeeded, 1000, w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber(), func(q []byte) []byte {
		header.IPv4(q).SetTotalLength(53)
		return q
	})
	if got := pathMTUOf(c); got != 1500 {
		t.Errorf("an error about a packet of 53 octets: MTU %d", got)
	}
	c.Close()
	s.Close()
	r.run(2 * time.Minute)
}

// TestPathShrinks: what the path carries becomes less in the middle of a transfer. With ICMP what was too big is with the peer a round trip after it was dropped,
// without any loss of window; without ICMP the connection goes on within three RTOs, in segments that fit.
func TestPathShrinks(t *testing.T) {
	for _, mode := range []pmtu.Mode{pmtu.OnBlackHole, pmtu.Always} {
		for _, mtu := range []int{1400, 1280, 1000, 576} {
			for _, icmp := range []bool{true, false} {
				if testing.Short() && mtu != 1400 && mtu != 576 {
					continue
				}
				t.Run(fmt.Sprintf("mode %d, MTU %d, icmp %v", mode, mtu, icmp), func(t *testing.T) {
					w := newWorld(t, WithPMTU(pmtu.Config{Mode: mode}, pmtu.Options{}))
					r := newRouter(w, 1500, icmp)
					c, s := r.open(false)
					c.ops.SetSendBufferSize(32<<10, true)
					var rto, back time.Duration
					r.transfer(c, s, 2<<20, 5*time.Minute, func(got int) {
						switch {
						case got > 512<<10 && rto == 0:
							i := c.TCPInfo()
							if i.PMTU != 1460 || i.SndSsthresh < 1<<30 {
								t.Fatalf("before: %+v", i)
							}
							rto, r.mtu = i.RTO, mtu
						case r.tooBig > 0 && back == 0 && got > r.hole && pathMTUOf(c) <= mtu:
							back = r.clock.Elapsed() - r.since
						}
					})
					limit := 3 * rto
					if icmp {
						limit = r.rtt
					}
					t.Logf("RTO %v, went on after %v", rto, back)
					if back == 0 || back > limit {
						t.Errorf("went on after %v, want %v at most", back, limit)
					}
					if found := pathMTUOf(c); found > mtu || found <= mtu-16 || icmp && found != mtu {
						t.Errorf("found %d", found)
					}
					if i := c.TCPInfo(); icmp && i.SndSsthresh < 1<<30 {
						t.Errorf("a congestion response: %+v", i)
					}
					c.Close()
					s.Close()
					r.run(2 * time.Minute)
				})
			}
		}
	}
}

// TestPathIsRemembered: what one connection learned, the next starts with; after ten minutes a larger MTU is tried. Errors that quote nothing in flight
// teach nobody anything.
func TestPathIsRemembered(t *testing.T) {
	w := newWorld(t, WithPMTU(pmtu.Config{}, pmtu.Options{}))
	r := newRouter(w, 1300, true)
	c, s := r.open(false)
	c.write("x")
	w.a.icmp(c, header.ICMPv4FragmentationNeeded, 700, w.a.wire.log[0].tcp.SequenceNumber()+100000)
	w.a.icmp(c, header.ICMPv4FragmentationNeeded, 700, w.a.wire.log[0].tcp.SequenceNumber()-1)
	cache := PMTUOf(w.a.stack)
	if n := StatsOf(w.a.stack).ICMPIgnored.Value(); n != 2 || cache.Len() != 0 {
		t.Errorf("%d errors ignored, cache %v", n, cache.Entries())
	}
	r.transfer(c, s, 100<<10, time.Minute, nil)
	if e := cache.Entries(); len(e) != 1 || e[0].MTU != 1300 || e[0].Path.Remote != w.b.v4 || e[0].Origin != pmtu.FromICMP {
		t.Fatalf("cache %v", e)
	}
	d, p := r.open(false)
	r.tooBig = 0
	r.transfer(d, p, 100<<10, time.Minute, nil)
	if r.tooBig != 0 || pathMTUOf(d) != 1300 {
		t.Errorf("%d packets too big on the second connection, MTU %d", r.tooBig, pathMTUOf(d))
	}
	if syn := w.a.wire.count(func(p *packet) bool { return p.flags().Has(tcb.SYN) && p.opts.MSS == 1460 }); syn != 2 {
		t.Errorf("%d SYNs with the MSS of the link", syn)
	}
	r.mtu = 1500
	r.run(9 * time.Minute)
	r.transfer(c, s, 100<<10, time.Minute, nil)
	if pathMTUOf(c) != 1300 {
		t.Errorf("MTU %d before ten minutes have passed", pathMTUOf(c))
	}
	r.run(time.Minute)
	r.transfer(c, s, 100<<10, time.Minute, nil)
	if pathMTUOf(c) != 1500 || cache.Len() != 0 {
		t.Errorf("MTU %d after ten minutes, cache %v", pathMTUOf(c), cache.Entries())
	}
	for _, x := range []*socket{c, s, d, p} {
		x.Close()
	}
	r.run(2 * time.Minute)
}

// TestIdleConnectionSleeps: no timer runs for a search that is to begin anew; the first data after it is due begins it, and finds that the path has grown.
func TestIdleConnectionSleeps(t *testing.T) {
	w := newWorld(t, WithPMTU(pmtu.Config{Mode: pmtu.OnBlackHole}, pmtu.Options{}))
	r := newRouter(w, 1300, false)
	c, s := r.open(false)
	c.ops.SetSendBufferSize(32<<10, true)
	r.transfer(c, s, 1<<20, time.Minute, nil)
	r.run(time.Minute)
	r.mtu = 1500
	for _, x := range []*socket{c, s} {
		if x.timer != nil || x.armed != 0 {
			t.Errorf("a timer is armed for %v", x.armed)
		}
	}
	if end := r.clock.Elapsed() + time.Hour; r.clock.Step(end) {
		t.Errorf("something happens %v after the last data", r.clock.Elapsed()-end+time.Hour)
	}
	if got := pathMTUOf(c); got > 1300 || got <= 1300-16 {
		t.Errorf("MTU %d before anything is sent", got)
	}
	r.transfer(c, s, 200<<10, time.Minute, nil)
	if got := pathMTUOf(c); got != 1500 {
		t.Errorf("MTU %d on a path that has grown", got)
	}
	c.Close()
	s.Close()
	r.run(2 * time.Minute)
}

// TestBlackHoleIsRemembered: after one connection found out what ICMP does not tell, the next announces an MSS that fits.
func TestBlackHoleIsRemembered(t *testing.T) {
	w := newWorld(t, WithPMTU(pmtu.Config{Mode: pmtu.OnBlackHole}, pmtu.Options{}))
	r := newRouter(w, 1300, false)
	c, s := r.open(false)
	c.ops.SetSendBufferSize(32<<10, true)
	r.transfer(c, s, 2<<20, time.Minute, nil)
	st := StatsOf(w.a.stack)
	if st.BlackHoles.Value() != 1 || st.PathProbes.Value() == 0 || st.PathProbesLost.Value() == 0 {
		t.Errorf("%d black holes, %d probes, %d of them lost", st.BlackHoles.Value(), st.PathProbes.Value(), st.PathProbesLost.Value())
	}
	found := pathMTUOf(c)
	w.a.wire.log = w.a.wire.log[:0]
	d, p := r.open(false)
	if mss := int(w.a.wire.log[0].opts.MSS); mss != found-40 {
		t.Errorf("SYN with MSS %d, the path carries %d", mss, found)
	}
	r.tooBig = 0
	r.transfer(d, p, 100<<10, time.Minute, nil)
	if r.tooBig != 0 {
		t.Errorf("%d packets too big on the second connection", r.tooBig)
	}
	for _, x := range []*socket{c, s, d, p} {
		x.Close()
	}
	r.run(2 * time.Minute)
}

// TestPathBelowTheFloor: 552 octets are the least that an ICMP error brings about; what a link carries less, a router may fragment.
func TestPathBelowTheFloor(t *testing.T) {
	for _, opts := range [][]Option{nil, {WithPMTU(pmtu.Config{}, pmtu.Options{})}, {WithPMTU(pmtu.Config{Mode: pmtu.Always}, pmtu.Options{})}} {
		w := newWorld(t, opts...)
		c, s := w.connect()
		df := true
		w.a.wire.forward = func(pkt *stack.PacketBuffer) {
			df = header.IPv4(pkt.NetworkHeader().Slice()).Flags()&header.IPv4FlagDontFragment != 0
		}
		c.write(string(make([]byte, 500)))
		seq := w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber()
		w.a.icmp(c, header.ICMPv4FragmentationNeeded, 296, seq)
		if pathMTUOf(c) != 552 || !df {
			t.Errorf("MTU %d, DF %v", pathMTUOf(c), df)
		}
		w.run(2 * time.Second)
		if df {
			t.Error("sent again with DF")
		}
		c.Abort()
		s.Abort()
		c.Close()
		s.Close()
	}
}

// TestPathMTUDiscoveryOff: who asked for packets without DF has them fragmented.
func TestPathMTUDiscoveryOff(t *testing.T) {
	w := newWorld(t, WithPMTU(pmtu.Config{Mode: pmtu.Always}, pmtu.Options{}))
	c, s := w.connect()
	c.must(c.SetSockOptInt(tcpip.MTUDiscoverOption, int(tcpip.PMTUDiscoveryDont)))
	c.write(string(make([]byte, 5000)))
	if n := w.a.wire.count(func(p *packet) bool { return p.payload == 1448 }); n != 3 {
		t.Errorf("%d segments of the link's size", n)
	}
	c.Close()
	s.Close()
}

// TestForgedPacketTooBig: errors that quote something else than what is in flight leave MSS and cache alone, with WithPMTU and without.
func TestForgedPacketTooBig(t *testing.T) {
	whole := func(q []byte) []byte { return q }
	for _, tt := range []struct {
		name string
		mtu  uint16
		off  uint32 // of the quoted sequence number
		edit func([]byte) []byte
	}{
		{"not sent yet", 1000, 1460, whole},
		{"acknowledged", 1000, 1<<32 - 1, whole},
		{"far away", 68, 1 << 31, whole},
		{"larger than now", 1500, 0, whole},
		{"larger than the link", 9000, 0, whole},
		{"no port of ours", 1000, 0, func(q []byte) []byte { q[20]++; return q }},
		{"no port of the peer", 1000, 0, func(q []byte) []byte { q[22]++; return q }},
		{"another host", 1000, 0, func(q []byte) []byte { q[19]++; return q }},
		{"not our address", 1000, 0, func(q []byte) []byte { q[15]++; return q }},
		{"another protocol", 1000, 0, func(q []byte) []byte { q[9] = 17; return q }},
		{"a later fragment", 1000, 0, func(q []byte) []byte { q[7] = 1; return q }},
		{"no sequence number", 1000, 0, func(q []byte) []byte { return q[:24] }},
		{"no transport header", 1000, 0, func(q []byte) []byte { return q[:20] }},
		{"half an IP header", 1000, 0, func(q []byte) []byte { return q[:10] }},
		{"nothing", 1000, 0, func(q []byte) []byte { return nil }},
		{"an IP header longer than all", 1000, 0, func(q []byte) []byte { q[0] = 0x4f; return q }},
	} {
		for _, opts := range [][]Option{nil, {WithPMTU(pmtu.Config{}, pmtu.Options{})}} {
			w := newWorld(t, opts...)
			c, s := w.connect()
			w.a.wire.pass = func(*packet) bool { return false }
			c.write(string(make([]byte, 1448)))
			seq := w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber()
			w.a.icmpQuoting(c, header.ICMPv4FragmentationNeeded, tt.mtu, seq+tt.off, tt.edit)
			if got := pathMTUOf(c); got != 1500 {
				t.Errorf("%s: MTU %d", tt.name, got)
			}
			if cache := PMTUOf(w.a.stack); cache != nil && cache.Len() != 0 {
				t.Errorf("%s: cache %v", tt.name, cache.Entries())
			}
			c.Abort()
			s.Abort()
			c.Close()
			s.Close()
		}
	}
}
