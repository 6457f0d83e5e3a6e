package tcpx

import (
	"math/rand"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

func isSYN(p *packet) bool    { return p.flags()&(tcb.SYN|tcb.ACK) == tcb.SYN }
func isSYNACK(p *packet) bool { return p.flags()&(tcb.SYN|tcb.ACK) == tcb.SYN|tcb.ACK }
func isRST(p *packet) bool    { return p.flags().Has(tcb.RST) }

// With a full accept queue SYNs are dropped, and the peer gets through when there is room again.
func TestAcceptQueueFull(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 2)
	var c []*socket
	for range 3 {
		c = append(c, w.a.dial(w.b.at(80)))
	}
	c[0].state(tcp.StateEstablished)
	c[1].state(tcp.StateEstablished)
	c[2].state(tcp.StateSynSent)
	if n := w.b.stack.Stats().TCP.ListenOverflowSynDrop.Value(); n != 1 {
		t.Errorf("%d SYNs dropped", n)
	}
	w.run(4 * time.Second)
	c[2].state(tcp.StateSynSent)
	l.accept().Close()
	w.run(5 * time.Second)
	c[2].state(tcp.StateEstablished)
	for _, s := range c {
		s.Close()
	}
	l.Close()
	w.run(5 * time.Minute)
}

// A handshake that ends when the accept queue is full waits: its ACK is dropped and the SYN-ACK's retransmission brings it again (as on Linux).
func TestFinalACKHeld(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 1)
	w.a.wire.pass = isSYN // The final ACK is lost.
	c := w.a.dial(w.b.at(80))
	c.state(tcp.StateEstablished)
	w.a.wire.pass = nil
	d := w.a.dial(w.b.at(80))
	d.state(tcp.StateEstablished)
	c.write("early")
	if n := w.b.stack.Stats().TCP.ListenOverflowAckDrop.Value(); n == 0 {
		t.Error("no ACK was held")
	}
	first := l.accept()
	if peer, err := first.GetRemoteAddress(); err != nil || peer.Port != d.local().Port {
		t.Errorf("accepted %v, %v", peer, err)
	}
	w.run(5 * time.Second)
	l.accept().wantRead("early")
	c.Close()
	d.Close()
	first.Close()
	l.Close()
	w.run(5 * time.Minute)
}

func (s *socket) local() tcpip.FullAddress {
	a, err := s.GetLocalAddress()
	s.must(err)
	return a
}

func TestListenerCloseResets(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	ready := w.a.dial(w.b.at(80))
	w.a.wire.pass = isSYN
	half := w.a.dial(w.b.at(80))
	w.a.wire.pass = nil
	if n := l.lst.syn.n; n != 1 {
		t.Fatalf("%d in the SYN queue", n)
	}
	l.Close()
	ready.wantReadError(&tcpip.ErrConnectionReset{})
	half.wantReadError(&tcpip.ErrConnectionReset{})
	if n := len(w.b.stack.RegisteredEndpoints()); n != 0 {
		t.Errorf("%d endpoints left", n)
	}
	// The port is free at once.
	w.b.listen(80, 1).Close()
	ready.Close()
	half.Close()
}

func TestListenerShutdown(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	c := w.a.dial(w.b.at(80))
	l.must(l.Shutdown(tcpip.ShutdownRead))
	c.wantReadError(&tcpip.ErrConnectionReset{})
	_, _, err := l.Accept(nil)
	l.want(err, &tcpip.ErrInvalidEndpointState{})
	d := w.a.dial(w.b.at(80))
	d.want(d.LastError(), &tcpip.ErrConnectionRefused{})
	// As on Linux, the port stays taken, and listening again revives it.
	other := w.b.socket(ipv4.ProtocolNumber)
	other.want(other.Bind(tcpip.FullAddress{Port: 80}), &tcpip.ErrPortInUse{})
	l.must(l.Listen(5))
	e := w.a.dial(w.b.at(80))
	e.state(tcp.StateEstablished)
	for _, s := range []*socket{c, d, e, l, other} {
		s.Close()
	}
	w.run(5 * time.Minute)
}

func TestSYNQueueTimesOut(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	w.a.wire.pass = isSYN
	c := w.a.dial(w.b.at(80))
	c.Abort()
	w.run(5 * time.Minute)
	if n := l.lst.syn.n; n != 0 {
		t.Errorf("%d left in the SYN queue", n)
	}
	if n := w.b.stack.Stats().TCP.FailedConnectionAttempts.Value(); n != 1 {
		t.Errorf("%d failed attempts", n)
	}
	l.Close()
	c.Close()
}

func TestDeferAccept(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	d := tcpip.TCPDeferAcceptOption(10 * time.Second)
	l.must(l.SetSockOpt(&d))
	c := w.a.dial(w.b.at(80))
	c.state(tcp.StateEstablished)
	_, _, err := l.Accept(nil)
	l.want(err, &tcpip.ErrWouldBlock{})
	c.write("data")
	l.accept().wantRead("data")
	c.Close()
	l.Close()
	w.run(5 * time.Minute)
}

// SYN cookies, forced or since the SYN queue is full: the connection has the options of the SYN, with and without timestamps.
func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		name       string
		forced     bool
		timestamps bool
	}{
		{"forced", true, true},
		{"queue full", false, true},
		{"forced without timestamps", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, WithTimestamps(tt.timestamps), WithSYNQueue(1))
			l := w.b.listen(80, 10)
			if tt.forced {
				on := tcpip.TCPAlwaysUseSynCookies(true)
				if err := w.b.stack.SetTransportProtocolOption(ProtocolNumber, &on); err != nil {
					t.Fatal(err)
				}
			} else {
				w.a.wire.pass = isSYN
				w.a.dial(w.b.at(80)).Close() // Half-open for ever.
				w.a.wire.pass = nil
			}
			c := w.a.dial(w.b.at(80))
			c.state(tcp.StateEstablished)
			s := l.accept()
			i := s.TCPInfo()
			if !i.OptSACK || !i.OptWindowScale || i.OptTimestamps != tt.timestamps || i.SndWScale != c.TCPInfo().RcvWScale {
				t.Errorf("options lost: %+v", i)
			}
			if want := uint32(1460); i.SndMSS != want && i.SndMSS != want-12 {
				t.Errorf("MSS %d", i.SndMSS)
			}
			c.write(strings.Repeat("x", 50000))
			w.run(time.Second)
			if n := len(s.read()); n != 50000 {
				t.Errorf("read %d bytes", n)
			}
			st := w.b.stack.Stats().TCP
			if st.ListenOverflowSynCookieSent.Value() != 1 || st.ListenOverflowSynCookieRcvd.Value() != 1 {
				t.Errorf("cookies sent %d, received %d", st.ListenOverflowSynCookieSent.Value(), st.ListenOverflowSynCookieRcvd.Value())
			}
			c.Close()
			s.Close()
			l.Close()
			w.run(5 * time.Minute)
		})
	}
}

func TestCookiePacking(t *testing.T) {
	for _, mss := range []uint16{0, 1, 48, 100, 216, 535, 536, 1219, 1220, 1459, 1460, 1461, 9000, 65535} {
		for scale := range uint8(16) {
			in := tcb.Options{MSS: mss, SACKPermitted: scale%2 == 0, WScale: scale}
			out := unpackCookie(packCookie(&in))
			if out.WScale != in.WScale || out.SACKPermitted != in.SACKPermitted {
				t.Errorf("%+v became %+v", in, out)
			}
			announced := max(in.MSS, 48) // what is less is not believed
			if in.MSS == 0 {
				announced = 536 // RFC 9293 MUST-15
			}
			if out.MSS > announced {
				t.Errorf("MSS %d became %d", in.MSS, out.MSS)
			}
		}
	}
}

func TestCookieIsHardToForge(t *testing.T) {
	w := newWorld(t)
	p := w.a.protocol()
	id := stack.TransportEndpointID{LocalPort: 80, LocalAddress: w.a.v4, RemotePort: 1000, RemoteAddress: w.b.v4}
	s := &inbound{id: id}
	s.seg.Seq, s.seg.Flags = 1001, tcb.ACK
	now := 10 * time.Hour
	c := p.cookie(s, 1000, 0x35, cookiePeriodOf(now))
	s.seg.Ack = c + 1
	for _, tt := range []struct {
		name string
		at   tcb.Time
		good bool
	}{{"at once", now, true}, {"next period", now + cookiePeriod, true}, {"too late", now + 2*cookiePeriod, false}, {"from the future", now - cookiePeriod, false}} {
		if o, ok := p.checkCookie(s, tt.at); ok != tt.good || ok && o.WScale != 6 {
			t.Errorf("%s: %v, %+v", tt.name, ok, o)
		}
	}
	other := *s
	other.id.RemotePort++
	if _, ok := p.checkCookie(&other, now); ok {
		t.Error("good for another port")
	}
	other = *s
	other.seg.Seq++
	if _, ok := p.checkCookie(&other, now); ok {
		t.Error("good for another ISN")
	}
	rng := rand.New(rand.NewSource(1))
	hits := 0
	for range 20000 {
		s.seg.Ack = tcb.Seq(rng.Uint32())
		if _, ok := p.checkCookie(s, now); ok {
			hits++
		}
	}
	if hits > 1 {
		t.Errorf("%d of 20000 guesses were right", hits)
	}
}

// Without cookies out, an ACK to a listener is refused without being tried.
func TestACKToListener(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	c, s := w.a.dial(w.b.at(80)), l.accept()
	s.Abort()
	s.Close()
	c.Close()
	w.a.wire.log, w.b.wire.log = nil, nil
	w.a.inject(w.b, control{seq: 1, ack: 77, flags: tcb.ACK})
	w.a.inject(w.b, control{seq: 1, ack: 78, flags: tcb.SYN | tcb.ACK})
	w.a.inject(w.b, control{seq: 1, flags: tcb.RST})
	w.a.inject(w.b, control{seq: 1, flags: tcb.FIN})
	if n := len(w.b.wire.log); n != 2 {
		t.Fatalf("%d answers, want 2", n)
	}
	for i, want := range []uint32{77, 78} {
		p := &w.b.wire.log[i]
		if !isRST(p) || p.tcp.SequenceNumber() != want || p.flags().Has(tcb.ACK) {
			t.Errorf("answer %d: flags %#x, seq %d", i, p.flags(), p.tcp.SequenceNumber())
		}
	}
	if n := w.b.stack.Stats().TCP.ListenOverflowInvalidSynCookieRcvd.Value(); n != 0 {
		t.Errorf("%d invalid cookies", n)
	}
	l.Close()
}

// inject sends a segment from port 999 of h to port 80 of the other.
func (h *host) inject(to *host, c control) {
	s := &inbound{net: ipv4.ProtocolNumber, nic: 1}
	s.id = stack.TransportEndpointID{LocalAddress: h.v4, LocalPort: 999, RemoteAddress: to.v4, RemotePort: 80}
	c.id = s.id
	h.protocol().sendControl(s, &c)
}

func TestUnknownDestination(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   control
		want *control
	}{
		{"SYN", control{seq: 100, flags: tcb.SYN}, &control{ack: 101, flags: tcb.RST | tcb.ACK}},
		{"FIN", control{seq: 100, flags: tcb.FIN}, &control{ack: 101, flags: tcb.RST | tcb.ACK}},
		{"ACK", control{seq: 100, ack: 5, flags: tcb.ACK}, &control{seq: 5, flags: tcb.RST}},
		{"RST", control{seq: 100, flags: tcb.RST}, nil},
		{"RST and ACK", control{seq: 100, ack: 5, flags: tcb.RST | tcb.ACK}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.a.inject(w.b, tt.in)
			log := w.b.wire.log
			if tt.want == nil {
				if len(log) != 0 {
					t.Errorf("%d answers", len(log))
				}
				return
			}
			if len(log) != 1 {
				t.Fatalf("%d answers", len(log))
			}
			p := &log[0]
			if p.flags() != tt.want.flags || p.tcp.SequenceNumber() != uint32(tt.want.seq) || p.tcp.AckNumber() != uint32(tt.want.ack) {
				t.Errorf("flags %#x, seq %d, ack %d", p.flags(), p.tcp.SequenceNumber(), p.tcp.AckNumber())
			}
		})
	}
}

// Dual-stack listeners and sockets (RFC 3493 §3.7).
func TestDualStack(t *testing.T) {
	mapped := func(a tcpip.Address) tcpip.Address {
		b := [16]byte{10: 0xff, 11: 0xff}
		v := a.As4()
		copy(b[12:], v[:])
		return tcpip.AddrFrom16(b)
	}
	for _, tt := range []struct {
		name     string
		listen   tcpip.NetworkProtocolNumber
		v6only   bool
		dial     tcpip.NetworkProtocolNumber
		to       func(h *host) tcpip.Address
		want     tcpip.Error
		accepted bool
	}{
		{"v4 to dual", ipv6.ProtocolNumber, false, ipv4.ProtocolNumber, func(h *host) tcpip.Address { return h.v4 }, &tcpip.ErrConnectStarted{}, true},
		{"v6 to dual", ipv6.ProtocolNumber, false, ipv6.ProtocolNumber, func(h *host) tcpip.Address { return h.v6 }, &tcpip.ErrConnectStarted{}, true},
		{"mapped to dual", ipv6.ProtocolNumber, false, ipv6.ProtocolNumber, func(h *host) tcpip.Address { return mapped(h.v4) }, &tcpip.ErrConnectStarted{}, true},
		{"mapped to v4", ipv4.ProtocolNumber, false, ipv6.ProtocolNumber, func(h *host) tcpip.Address { return mapped(h.v4) }, &tcpip.ErrConnectStarted{}, true},
		{"v4 to v6 only", ipv6.ProtocolNumber, true, ipv4.ProtocolNumber, func(h *host) tcpip.Address { return h.v4 }, &tcpip.ErrConnectStarted{}, false},
		{"v6 to v4", ipv4.ProtocolNumber, false, ipv6.ProtocolNumber, func(h *host) tcpip.Address { return h.v6 }, &tcpip.ErrConnectStarted{}, false},
		{"v4 socket to v6", ipv6.ProtocolNumber, false, ipv4.ProtocolNumber, func(h *host) tcpip.Address { return h.v6 }, &tcpip.ErrAddressFamilyNotSupported{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			l := w.b.socket(tt.listen)
			l.ops.SetV6Only(tt.v6only)
			l.must(l.Bind(tcpip.FullAddress{Port: 80}))
			l.must(l.Listen(1))
			c := w.a.socket(tt.dial)
			c.want(c.Connect(tcpip.FullAddress{Addr: tt.to(w.b), Port: 80}), tt.want)
			if _, started := tt.want.(*tcpip.ErrConnectStarted); started {
				if got := c.EndpointState() == tcp.StateEstablished; got != tt.accepted {
					t.Errorf("state %v", c.EndpointState())
				}
			}
			if tt.accepted {
				s := l.accept()
				s.write("hello")
				c.wantRead("hello")
				s.Close()
			}
			c.Close()
			l.Close()
			w.run(5 * time.Minute)
			if n := len(w.a.stack.RegisteredEndpoints()) + len(w.b.stack.RegisteredEndpoints()); n != 0 {
				t.Errorf("%d endpoints left", n)
			}
		})
	}
}

func TestListenerRetransmittedSYN(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	w.b.wire.pass = func(*packet) bool { return false } // SYN-ACKs are lost.
	c := w.a.dial(w.b.at(80))
	w.run(1500 * time.Millisecond)
	if n := w.a.wire.count(isSYN); n != 2 {
		t.Fatalf("%d SYNs", n)
	}
	if n := l.lst.syn.n; n != 1 {
		t.Errorf("%d in the SYN queue", n)
	}
	w.b.wire.pass = nil
	w.run(3 * time.Second)
	c.state(tcp.StateEstablished)
	c.Close()
	l.accept().Close()
	l.Close()
	w.run(5 * time.Minute)
}

func TestInheritance(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	l.ops.SetKeepAlive(true)
	l.ops.SetDelayOption(true)
	l.ops.SetReceiveBufferSize(50000, true)
	l.ops.SetMark(7)
	l.must(l.SetSockOptInt(tcpip.IPv4TTLOption, 33))
	l.must(l.SetSockOptInt(tcpip.IPv4TOSOption, 0x20))
	l.must(l.SetSockOptInt(tcpip.MaxSegOption, 900))
	cc := tcpip.CongestionControlOption("reno")
	l.must(l.SetSockOpt(&cc))
	ut := tcpip.TCPUserTimeoutOption(5 * time.Second)
	l.must(l.SetSockOpt(&ut))
	c := w.a.dial(w.b.at(80))
	s := l.accept()
	if !s.ops.GetKeepAlive() || !s.ops.GetDelayOption() || s.ops.GetReceiveBufferSize() != 50000 || s.ops.GetMark() != 7 {
		t.Error("socket options are not inherited")
	}
	if s.tcb.NoDelay || !s.tcb.KeepAlive || s.tcb.UserTimeout != 5*time.Second || s.congestion.Value() != "reno" {
		t.Errorf("settings %+v, %s", s.tcb.Settings, s.congestion.Value())
	}
	for i := range w.b.wire.log {
		if p := &w.b.wire.log[i]; p.ttl != 33 || p.tos != 0x20 || isSYNACK(p) && p.opts.MSS != 900 {
			t.Errorf("packet %d: TTL %d, TOS %#x, MSS %d", i, p.ttl, p.tos, p.opts.MSS)
		}
	}
	c.Close()
	s.Close()
	l.Close()
	w.run(5 * time.Minute)
}
