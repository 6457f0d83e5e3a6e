package tcpx

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// announced returns the MSS of each SYN or SYN-ACK that a wire has seen.
func (w *wire) announced() (all []uint16) {
	for i := range w.log {
		if w.log[i].flags().Has(tcb.SYN) {
			all = append(all, w.log[i].opts.MSS)
		}
	}
	return all
}

// openTo connects from to the other host, over IPv4 or IPv6.
func (h *host) openTo(to *host, port uint16, v6 bool) (c, s *socket) {
	h.t.Helper()
	net, at := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber), to.at(port)
	if v6 {
		net, at = header.IPv6ProtocolNumber, to.at6(port)
	}
	l := to.socket(net)
	l.must(l.Bind(tcpip.FullAddress{Port: port}))
	l.must(l.Listen(1))
	c = h.socket(net)
	c.Connect(at)
	s = l.accept()
	l.Close()
	return c, s
}

// TestPeersLargeSegmentsVanish: the peer knows nothing of black holes, and its first full segments vanish on the way to us. Whoever opens the next connection, we
// announce what ought to arrive everywhere, and that does; if even that vanishes, the least. After ten minutes the link's MTU gets another chance.
func TestPeersLargeSegmentsVanish(t *testing.T) {
	for _, tt := range []struct {
		mode pmtu.Mode
		v6   bool
		mtu  int
		want []uint16 // what we announce on one connection after the other
	}{
		{pmtu.OnBlackHole, false, 1300, []uint16{1460, 1160, 1160}},
		{pmtu.Always, false, 1300, []uint16{1460, 1160, 1160}},
		{pmtu.OnBlackHole, false, 600, []uint16{1460, 1160, 512}},
		{pmtu.OnBlackHole, true, 1300, []uint16{1440, 1220, 1220}},
		{pmtu.OnBlackHole, false, 1500, []uint16{1460, 1460, 1460}},
		{pmtu.Off, false, 1300, []uint16{1460, 1460, 1460}},
	} {
		for _, passive := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v, passive %v", tt, passive), func(t *testing.T) {
				w := newWorldOf(t, 1500, true, []Option{WithPMTU(pmtu.Config{Mode: tt.mode}, pmtu.Options{})}, nil)
				ip := header.IPv4MinimumSize
				if tt.v6 {
					ip = header.IPv6MinimumSize
				}
				w.b.wire.pass = func(p *packet) bool { return ip+len(p.tcp)+p.payload <= tt.mtu }
				// answer is a response of some full segments and a short one, which arrives.
				answer := strings.Repeat("x", 4*1448+100)
				connect := func(port uint16) (got int) {
					var c, s *socket // ours and the peer's
					if passive {
						s, c = w.b.openTo(w.a, port, tt.v6)
					} else {
						c, s = w.a.openTo(w.b, port, tt.v6)
					}
					c.write("request")
					w.run(100 * time.Millisecond)
					s.write(answer)
					w.run(30 * time.Second)
					var b bytes.Buffer
					for _, err := c.Read(&b, tcpip.ReadOptions{}); err == nil; _, err = c.Read(&b, tcpip.ReadOptions{}) {
					}
					got = b.Len()
					c.Abort() // the user has lost patience
					c.Close()
					s.Abort()
					s.Close()
					return got
				}
				for i, want := range tt.want {
					got := connect(uint16(100 + i))
					if fits := int(want)+ip+header.TCPMinimumSize <= tt.mtu; (got == len(answer)) != fits {
						t.Errorf("connection %d: %d octets of %d arrived", i, got, len(answer))
					}
				}
				if all := w.a.wire.announced(); fmt.Sprint(all) != fmt.Sprint(tt.want) {
					t.Errorf("announced %v, want %v", all, tt.want)
				}
				holes := uint64(0)
				for i := 1; i < len(tt.want); i++ {
					if tt.want[i] < tt.want[i-1] {
						holes++
					}
				}
				if n := StatsOf(w.a.stack).InboundBlackHoles.Value(); n != holes {
					t.Errorf("%d inbound black holes, want %d", n, holes)
				}
				w.a.wire.log = nil
				w.run(10 * time.Minute)
				connect(200)
				if all := w.a.wire.announced(); len(all) != 1 || all[0] != tt.want[0] {
					t.Errorf("announced %v after ten minutes, want %d", all, tt.want[0])
				}
			})
		}
	}
}

// TestSYNAgainAfterABlackHole: a black hole that is found while SYN or SYN-ACK are lost makes the next ones announce less, in the same connection.
func TestSYNAgainAfterABlackHole(t *testing.T) {
	for _, inbound := range []bool{false, true} {
		w := newWorld(t, WithPMTU(pmtu.Config{Mode: pmtu.OnBlackHole}, pmtu.Options{}))
		lost := true
		for _, wire := range []*wire{w.a.wire, w.b.wire} {
			wire.pass = func(p *packet) bool {
				return !lost || wire == w.a.wire && w.b.wire.log == nil && w.clock.Elapsed() > 2*time.Second
			}
		}
		l := w.b.socket(header.IPv4ProtocolNumber)
		l.must(l.Bind(tcpip.FullAddress{Port: 80}))
		l.must(l.Listen(1))
		c := w.a.dial(w.b.at(80))
		w.run(1500 * time.Millisecond) // two SYNs
		for _, h := range []*host{w.a, w.b} {
			path := pmtu.Path{NIC: 1, Remote: w.a.v4, Inbound: inbound}
			if h == w.a {
				path.Remote = w.b.v4
			}
			PMTUOf(h.stack).Vanished(path, 1500, 1200+100*uint32(boolInt(h == w.b)))
		}
		w.run(2 * time.Second) // the third arrives; SYN-ACK does not
		PMTUOf(w.b.stack).Vanished(pmtu.Path{NIC: 1, Remote: w.a.v4, Inbound: inbound}, 1500, 1100)
		lost = false
		w.run(10 * time.Second)
		s := l.accept()
		if got := fmt.Sprint(w.a.wire.announced()); got != "[1460 1460 1160]" {
			t.Errorf("SYNs announce %v", got)
		}
		if got := fmt.Sprint(w.b.wire.announced()); got != "[1260 1060]" {
			t.Errorf("SYN-ACKs announce %v", got)
		}
		// What was announced last is what the peer goes by.
		w.a.wire.log, w.b.wire.log = nil, nil
		c.write(strings.Repeat("x", 5000))
		w.run(time.Second)
		if n := w.a.wire.count(func(p *packet) bool { return p.payload+len(p.tcp)-header.TCPMinimumSize > 1060 }); n != 0 {
			t.Errorf("%d segments larger than announced", n)
		}
		c.Abort()
		s.Abort()
		c.Close()
		s.Close()
		l.Close()
	}
}

// TestBlackHoleOfAShortConnection: a connection falls into a black hole, climbs out and ends before the search does. The next one does not fall.
func TestBlackHoleOfAShortConnection(t *testing.T) {
	w := newWorld(t, WithPMTU(pmtu.Config{Mode: pmtu.OnBlackHole}, pmtu.Options{}))
	r := newRouter(w, 1300, false)
	for i := range 3 {
		c, s := r.open(false)
		r.tooBig = 0
		begin := r.clock.Elapsed()
		r.transfer(c, s, 12000, time.Minute, nil)
		took := r.clock.Elapsed() - begin
		if first := i == 0; (took > 500*time.Millisecond) != first {
			t.Errorf("connection %d: took %v, %d packets too big", i, took, r.tooBig)
		}
		c.Close()
		s.Close()
		r.run(2 * time.Minute)
	}
	if n := StatsOf(w.a.stack).BlackHoles.Value(); n != 1 {
		t.Errorf("%d black holes", n)
	}
	e := PMTUOf(w.a.stack).Entries()
	if len(e) != 1 || e[0].Origin != pmtu.FromBlackHole || e[0].MTU > 1300 {
		t.Errorf("cache %v", e)
	}
	c, s := r.open(false)
	c.ops.SetSendBufferSize(32<<10, true)
	r.transfer(c, s, 2<<20, time.Minute, nil)
	if e := PMTUOf(w.a.stack).Entries(); len(e) != 1 || e[0].Origin != pmtu.FromProbe || e[0].MTU <= 1300-16 || e[0].MTU > 1300 {
		t.Errorf("cache %v after a long connection", e)
	}
	c.Close()
	s.Close()
	r.run(2 * time.Minute)
}
