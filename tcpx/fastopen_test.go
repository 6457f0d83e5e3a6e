package tcpx

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// fastBoth lets every socket be client and every listener be server.
var fastBoth = FastOpenConfig{Client: true, Server: true, Backlog: -1}

// fastWorld is two hosts with Fast Open, of which a has b's cookie for port 80.
func fastWorld(t *testing.T, c FastOpenConfig) (w *world, l *socket) {
	t.Helper()
	w = newWorld(t, WithFastOpen(c))
	l = w.b.listen(80, 10)
	s, n := w.a.fastDial(w.b.at(80), "too early")
	if n != 0 {
		t.Fatalf("%d octets went without a cookie", n)
	}
	s.state(tcp.StateEstablished)
	s.Close()
	l.accept().Close()
	w.run(time.Minute * 3)
	w.a.wire.log = nil
	w.b.wire.log = nil
	return w, l
}

// fastDial connects with data and returns how much was taken.
func (h *host) fastDial(to tcpip.FullAddress, data string) (*socket, int) {
	h.t.Helper()
	s := h.socket(ipv4.ProtocolNumber)
	n, err := s.ConnectWithData(to, bytes.NewReader([]byte(data)))
	if n == 0 {
		s.want(err, &tcpip.ErrConnectStarted{})
	} else {
		s.must(err)
	}
	return s, int(n)
}

// TestFastOpenCookieIsLinuxs: servers of both kinds behind one address can share a key. The cookies are those that Linux makes of these keys and addresses, which scripts of
// packetdrill name.
func TestFastOpenCookieIsLinuxs(t *testing.T) {
	key := func(w ...uint32) (k FastOpenKey) {
		for i, x := range w {
			k[4*i], k[4*i+1], k[4*i+2], k[4*i+3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
		}
		return k
	}
	for _, tt := range []struct {
		key         FastOpenKey
		local, peer tcpip.Address
		want        string
	}{
		{key(0xa1a1a1a1, 0xb2b2b2b2, 0xc3c3c3c3, 0xd4d4d4d4), tcpip.AddrFrom4([4]byte{192, 168, 0, 1}), tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), "3021b9d889017eeb"},
		{key(0xa0bf63f7, 0xed803d81, 0xcd641d30, 0xcebc4a90), tcpip.AddrFrom4([4]byte{192, 168, 0, 2}), tcpip.AddrFrom4([4]byte{10, 248, 0, 2}), "00abaaabe8e954c2"},
		{key(0xa0bf63f7, 0xed803d81, 0xcd641d30, 0xcebc4a90), tcpip.AddrFrom4([4]byte{192, 168, 0, 3}), tcpip.AddrFrom4([4]byte{10, 248, 0, 3}), "76d2c1c530f51f79"},
	} {
		c := fastOpenCookie(&tt.key, &stack.TransportEndpointID{LocalAddress: tt.local, RemoteAddress: tt.peer})
		if got := hex.EncodeToString(c[:]); got != tt.want {
			t.Errorf("%v to %v: %s, want %s", tt.peer, tt.local, got, tt.want)
		}
	}
}

// TestFastOpenSavesARoundTrip: the server has the request, and the client the answer, before the handshake's last packet.
func TestFastOpenSavesARoundTrip(t *testing.T) {
	w, l := fastWorld(t, fastBoth)
	// What answers SYN-ACK is held back: the server is in SYN-RECEIVED all the while.
	w.a.wire.pass = func(p *packet) bool { return p.flags().Has(tcb.SYN) }
	c, n := w.a.fastDial(w.b.at(80), "request")
	if n != 7 {
		t.Fatalf("%d octets went with the SYN", n)
	}
	if l.seen()&waiter.ReadableEvents == 0 {
		t.Error("the listener was not told")
	}
	s := l.accept()
	s.state(tcp.StateSynRecv)
	if s.Readiness(waiter.ReadableEvents|waiter.WritableEvents) != waiter.ReadableEvents|waiter.WritableEvents {
		t.Error("the connection is not ready")
	}
	s.wantRead("request")
	s.wantReadError(&tcpip.ErrWouldBlock{})
	if addr, err := s.GetRemoteAddress(); err != nil || addr.Addr != w.a.v4 {
		t.Errorf("the peer is %v, %v", addr, err)
	}
	s.write("answer")
	c.wantRead("answer")
	w.a.wire.pass = nil
	c.write("thanks")
	s.wantRead("thanks")
	s.state(tcp.StateEstablished)
	if i := s.TCPInfo(); !i.OptSynData || !i.OptFastOpenChild {
		t.Error("the server's Info does not tell")
	}
	if i := c.TCPInfo(); !i.OptSynData || i.OptFastOpenChild {
		t.Error("the client's Info does not tell")
	}
	a, b := StatsOf(w.a.stack), StatsOf(w.b.stack)
	if a.FastOpenActive.Value() != 1 || a.FastOpenActiveAccepted.Value() != 1 || b.FastOpenPassive.Value() != 1 || b.FastOpenCookiesGiven.Value() != 1 {
		t.Errorf("counted %d %d %d %d", a.FastOpenActive.Value(), a.FastOpenActiveAccepted.Value(), b.FastOpenPassive.Value(), b.FastOpenCookiesGiven.Value())
	}
	if got := w.b.stack.Stats().TCP.PassiveConnectionOpenings.Value(); got != 2 {
		t.Errorf("%d passive openings, want 2", got)
	}
}

// TestFastOpenOff: neither side does anything of its own accord.
func TestFastOpenOff(t *testing.T) {
	w := newWorld(t)
	w.b.listen(80, 10)
	s := w.a.socket(ipv4.ProtocolNumber)
	_, err := s.ConnectWithData(w.b.at(80), bytes.NewReader([]byte("x")))
	s.want(err, &tcpip.ErrNotSupported{})
	s.want(s.SetTCPOptionInt(OptFastOpenConnect, 1), &tcpip.ErrNotSupported{})
	w.a.dial(w.b.at(80)).state(tcp.StateEstablished)
	if n := w.a.wire.count(func(p *packet) bool { return p.opts.FastOpen.Present }); n != 0 {
		t.Errorf("%d packets have the option", n)
	}
}

// TestFastOpenConnectIsDeferred: with TCP_FASTOPEN_CONNECT the SYN leaves with the first write.
func TestFastOpenConnectIsDeferred(t *testing.T) {
	dial := func(w *world) *socket {
		s := w.a.socket(ipv4.ProtocolNumber)
		s.must(s.SetTCPOptionInt(OptFastOpenConnect, 1))
		s.must(s.Connect(w.b.at(80)))
		if len(w.a.wire.log) != 0 {
			t.Fatal("a packet left with Connect")
		}
		return s
	}
	t.Run("write", func(t *testing.T) {
		w, l := fastWorld(t, fastBoth)
		s := dial(w)
		if s.Readiness(waiter.WritableEvents) == 0 {
			t.Error("not writable")
		}
		s.want(s.Connect(w.b.at(80)), &tcpip.ErrAlreadyConnected{})
		s.write("request")
		if p := w.a.wire.log[0]; p.flags() != tcb.SYN|p.flags()&(tcb.ECE|tcb.CWR) || p.payload != 7 {
			t.Errorf("sent %v with %d octets", p.flags(), p.payload)
		}
		l.accept().wantRead("request")
	})
	t.Run("read", func(t *testing.T) {
		w, l := fastWorld(t, fastBoth)
		s := dial(w)
		s.wantReadError(&tcpip.ErrWouldBlock{})
		w.run(deferLimit)
		s.state(tcp.StateEstablished)
		l.accept().write("hello")
		s.wantRead("hello")
	})
	t.Run("close", func(t *testing.T) {
		w, _ := fastWorld(t, fastBoth)
		s := dial(w)
		s.Close()
		w.run(time.Second)
		if len(w.a.wire.log) != 0 {
			t.Error("a packet left")
		}
		s.state(tcp.StateClose)
	})
	t.Run("shutdown", func(t *testing.T) {
		w, _ := fastWorld(t, fastBoth)
		s := dial(w)
		s.must(s.Shutdown(tcpip.ShutdownWrite))
		_, err := s.Write(bytes.NewReader([]byte("x")), tcpip.WriteOptions{})
		s.want(err, &tcpip.ErrClosedForSend{})
	})
	t.Run("every socket", func(t *testing.T) {
		c := fastBoth
		c.Deferred = true
		w, l := fastWorld(t, c)
		s := w.a.socket(ipv4.ProtocolNumber)
		s.must(s.Connect(w.b.at(80)))
		s.write("request")
		l.accept().wantRead("request")
		// Without a cookie Connect is the usual one.
		FlushFastOpen(w.a.stack)
		w.a.dial(w.b.at(80)).state(tcp.StateEstablished)
	})
}

// TestFastOpenEndsAtOnce: a program that has all it wants to say on the SYN may end there; what it was told is taken arrives, with the end behind it.
func TestFastOpenEndsAtOnce(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(s *socket)
	}{
		{"shutdown", func(s *socket) { s.must(s.Shutdown(tcpip.ShutdownWrite)) }},
		{"shutdown of both", func(s *socket) { s.must(s.Shutdown(tcpip.ShutdownWrite | tcpip.ShutdownRead)) }},
		{"close", func(s *socket) { s.Close() }},
	} {
		for _, net := range []struct {
			name  string
			spoil func(w *world)
		}{
			{"the cookie is good", func(*world) {}},
			{"the cookie is not", func(w *world) {
				c := fastBoth
				c.Keys = []FastOpenKey{{1}}
				if err := Configure(w.b.stack, WithFastOpen(c)); err != nil {
					t.Fatal(err)
				}
			}},
			{"the SYN is lost", func(w *world) {
				lost := false
				w.a.wire.pass = func(*packet) bool { defer func() { lost = true }(); return lost }
			}},
		} {
			t.Run(how.name+"/"+net.name, func(t *testing.T) {
				w, l := fastWorld(t, fastBoth)
				net.spoil(w)
				held := w.a.wire.pass
				if held == nil {
					// The answer to SYN is late, so that the end comes before it.
					w.b.wire.pass = func(*packet) bool { return false }
				}
				c, n := w.a.fastDial(w.b.at(80), "request")
				if n != 7 {
					t.Fatalf("%d octets were taken", n)
				}
				c.state(tcp.StateSynSent)
				how.end(c)
				_, err := c.Write(bytes.NewReader([]byte("x")), tcpip.WriteOptions{})
				c.want(err, &tcpip.ErrClosedForSend{})
				w.b.wire.pass = nil
				w.run(10 * time.Second)
				s := l.accept()
				s.wantRead("request")
				s.wantReadError(&tcpip.ErrClosedForReceive{})
				s.Close()
				w.run(5 * time.Minute)
				c.state(tcp.StateClose)
				if n := len(w.a.stack.RegisteredEndpoints()); n != 0 {
					t.Errorf("%d endpoints are left", n)
				}
			})
		}
	}
}

// TestFastOpenListener: the listener's own options.
func TestFastOpenListener(t *testing.T) {
	c := fastBoth
	c.Backlog = 0
	taken := func(w *world) bool { // the SYN's data, by the SYN-ACK
		w.b.wire.log = nil
		s, _ := w.a.fastDial(w.b.at(80), "request")
		defer s.Close()
		return s.TCPInfo().OptSynData
	}
	w := newWorld(t, WithFastOpen(c))
	l := w.b.listen(80, 10)
	if taken(w); w.b.wire.log[0].opts.FastOpen.Present {
		t.Error("a listener that did not ask gave a cookie")
	}
	l.must(l.SetTCPOptionInt(OptFastOpen, 2))
	if n, err := l.GetTCPOptionInt(OptFastOpen); n != 2 || err != nil {
		t.Errorf("TCP_FASTOPEN reads as %d, %v", n, err)
	}
	taken(w)
	if !taken(w) {
		t.Error("a listener that asked took nothing")
	}
	l.must(l.SetFastOpenKeys(FastOpenKey{1}))
	if taken(w) {
		t.Error("a cookie of another key was taken")
	}
	if !taken(w) {
		t.Error("the new cookie was not taken")
	}
	// The key before is good as long as it is named, and brings a cookie of the new one.
	l.must(l.SetFastOpenKeys(FastOpenKey{2}, FastOpenKey{1}))
	if !taken(w) || w.b.wire.log[0].opts.FastOpen.Len == 0 {
		t.Error("a cookie of the key before was not taken, or not replaced")
	}
	l.want(l.SetFastOpenKeys(make([]FastOpenKey, 3)...), &tcpip.ErrInvalidOptionValue{})
	l.want(l.SetTCPOptionInt(OptFastOpen, -1), &tcpip.ErrInvalidOptionValue{})
	l.must(l.SetTCPOptionInt(OptFastOpen, 0))
	if taken(w) {
		t.Error("a listener that asked no more took data")
	}
}

// TestFastOpenKeyRotation: a cookie is good for one lifetime of a key at least, and two at most.
func TestFastOpenKeyRotation(t *testing.T) {
	c := fastBoth
	c.KeyLifetime = time.Hour
	for _, tt := range []struct {
		age  time.Duration
		good bool
	}{{59 * time.Minute, true}, {61 * time.Minute, true}, {119 * time.Minute, true}, {3 * time.Hour, false}} {
		w, l := fastWorld(t, c)
		w.run(tt.age - 3*time.Minute)
		s, _ := w.a.fastDial(w.b.at(80), "request")
		if got := s.TCPInfo().OptSynData; got != tt.good {
			t.Errorf("a cookie %v old is good: %v, want %v", tt.age, got, tt.good)
		}
		l.accept().wantRead("request")
	}
}

// TestFastOpenPending: connections with incomplete handshakes are counted, and no longer when those are complete.
func TestFastOpenPending(t *testing.T) {
	w, l := fastWorld(t, fastBoth)
	l.must(l.SetTCPOptionInt(OptFastOpen, 2))
	held := true
	w.a.wire.pass = func(p *packet) bool { return !held || p.flags().Has(tcb.SYN) }
	var got []bool
	for range 3 {
		s, _ := w.a.fastDial(w.b.at(80), "request")
		got = append(got, s.TCPInfo().OptSynData)
	}
	held = false
	if fmt.Sprint(got) != "[true true false]" || StatsOf(w.b.stack).FastOpenOverflows.Value() != 1 {
		t.Errorf("taken: %v, overflows %d", got, StatsOf(w.b.stack).FastOpenOverflows.Value())
	}
	w.run(2 * time.Minute) // SYN-ACKs are sent again, and answered now; the client forgives
	if s, _ := w.a.fastDial(w.b.at(80), "request"); !s.TCPInfo().OptSynData {
		t.Error("the limit holds on when the handshakes are complete")
	}
}

// TestFastOpenCloseListener: closing the listener resets connections that nobody has accepted, and leaves those alone that somebody has.
func TestFastOpenCloseListener(t *testing.T) {
	w, l := fastWorld(t, fastBoth)
	w.a.wire.pass = func(p *packet) bool { return p.flags().Has(tcb.SYN) }
	first, _ := w.a.fastDial(w.b.at(80), "one")
	s := l.accept()
	second, _ := w.a.fastDial(w.b.at(80), "two")
	l.Close()
	second.state(tcp.StateError)
	first.state(tcp.StateEstablished)
	w.a.wire.pass = nil
	first.write("more")
	s.wantRead("onemore")
	s.Close()
}

// TestFastOpenWithSYNCookies: a listener that forgets what it is asked takes no data early, and the connection comes about all the same.
func TestFastOpenWithSYNCookies(t *testing.T) {
	w, l := fastWorld(t, fastBoth)
	always := tcpip.TCPAlwaysUseSynCookies(true)
	if err := w.b.stack.SetTransportProtocolOption(ProtocolNumber, &always); err != nil {
		t.Fatal(err)
	}
	c, n := w.a.fastDial(w.b.at(80), "request")
	if n != 7 || c.TCPInfo().OptSynData {
		t.Error("the data was taken")
	}
	l.accept().wantRead("request")
}

// TestFastOpenCache: what a client remembers is bounded, what failed is left alone for longer and longer, and what works again is forgiven.
func TestFastOpenCache(t *testing.T) {
	id := func(n byte) *stack.TransportEndpointID {
		return &stack.TransportEndpointID{RemoteAddress: tcpip.AddrFrom4([4]byte{10, 0, 0, n}), RemotePort: 80}
	}
	given := &tcb.FastOpen{Answered: true, AnswerMSS: 1000}
	given.Offer.Present = true
	given.Answer.SetCookie([]byte("cookie"))
	var c fastOpenCache
	for n := range byte(4) {
		c.lookup(id(0), 1) // in use
		c.answered(id(n), given, 1, 3)
	}
	for n, want := range []bool{true, false, true, true} {
		if e, _ := c.lookup(id(byte(n)), 1); e.cookie.Present != want || want && e.mss != 1000 {
			t.Errorf("server %d of 4 is known: %v, want %v", n, e.cookie.Present, want)
		}
	}
	if c.recent.Len() != 3 || len(c.entries) != 3 {
		t.Errorf("%d entries, %d in the map", c.recent.Len(), len(c.entries))
	}
	refused := &tcb.FastOpen{Answered: true, SynText: 10}
	refused.Offer = given.Answer
	now := tcb.Time(time.Hour)
	for _, rest := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		c.answered(id(0), refused, now, 3)
		if _, a := c.lookup(id(0), now+rest-1); !a.text {
			t.Errorf("tried again before %v", rest)
		}
		if _, a := c.lookup(id(0), now+rest); a.text {
			t.Errorf("not tried again after %v", rest)
		}
		now += rest
	}
	for range 100 {
		c.answered(id(0), refused, now, 3)
	}
	if _, a := c.lookup(id(0), now+maxFastOpenRest); a.text {
		t.Error("a rest of more than a day")
	}
	c.answered(id(0), &tcb.FastOpen{Answered: true, SynText: 10, Taken: 10}, now, 3)
	if _, a := c.lookup(id(0), now); a.text {
		t.Error("what works is not forgiven")
	}
	// One lost wish for a cookie is the network's fault, two are not.
	lost := &tcb.FastOpen{Answered: true, Lost: true}
	lost.Offer.Present = true
	for i, want := range []bool{false, true} {
		c.answered(id(9), lost, now, 3)
		if _, a := c.lookup(id(9), now); a.request != want {
			t.Errorf("after %d lost wishes there is a rest: %v", i+1, a.request)
		}
	}
	c.failed(id(8), true, now, 3)
	if _, a := c.lookup(id(8), now); !a.text {
		t.Error("a server that does not answer is asked again")
	}
	c.flush()
	if _, a := c.lookup(id(8), now); a.text || len(c.entries) != 0 {
		t.Error("flush has left something")
	}
}

// TestConfigure: options change in use, but for those that belong to the making.
func TestConfigure(t *testing.T) {
	w := newWorld(t)
	if err := Configure(w.a.stack, WithFastOpen(FastOpenConfig{Client: true}), WithTimestamps(false)); err != nil {
		t.Fatal(err)
	}
	w.b.listen(80, 10)
	w.a.fastDial(w.b.at(80), "")
	if p := w.a.wire.log[0]; !p.opts.FastOpen.Present || p.opts.TS {
		t.Errorf("the SYN has options %+v", p.opts)
	}
	if Configure(w.a.stack, WithMemoryBudget(1)) == nil {
		t.Error("the memory budget changed in use")
	}
}
