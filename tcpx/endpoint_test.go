package tcpx

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// A connection from SYN to CLOSED, in one goroutine: each side's state after each step.
func TestConnectionLifetime(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	l.state(tcp.StateListen)
	c := w.a.socket(ipv4.ProtocolNumber)
	c.state(tcp.StateInitial)
	if got := c.Readiness(waiter.AllEvents); got != waiter.EventHUp {
		t.Errorf("a new socket is ready for %#x", got)
	}
	c.want(c.Connect(w.b.at(80)), &tcpip.ErrConnectStarted{})
	c.state(tcp.StateEstablished)
	if c.seen()&waiter.WritableEvents == 0 || l.seen()&waiter.ReadableEvents == 0 {
		t.Errorf("events: connecting %#x, listening %#x", c.seen(), l.seen())
	}
	c.must(c.Connect(w.b.at(80)))
	c.want(c.Connect(w.b.at(80)), &tcpip.ErrAlreadyConnected{})
	if got := l.Readiness(waiter.AllEvents); got != waiter.ReadableEvents {
		t.Errorf("a listener with a connection is ready for %#x", got)
	}
	s := l.accept()
	s.state(tcp.StateEstablished)
	_, _, err := l.Accept(nil)
	l.want(err, &tcpip.ErrWouldBlock{})

	c.wantReadError(&tcpip.ErrWouldBlock{})
	c.write("request")
	s.wantRead("request")
	s.write("reply")
	c.wantRead("reply")

	c.must(c.Shutdown(tcpip.ShutdownWrite))
	c.state(tcp.StateFinWait2)
	s.state(tcp.StateCloseWait)
	if got := s.Readiness(waiter.AllEvents); got&(waiter.EventRdHUp|waiter.EventIn) != waiter.EventRdHUp|waiter.EventIn {
		t.Errorf("after the peer's FIN: ready for %#x", got)
	}
	s.wantReadError(&tcpip.ErrClosedForReceive{})
	_, err = c.Write(strings.NewReader("x"), tcpip.WriteOptions{})
	c.want(err, &tcpip.ErrClosedForSend{})
	s.write("last words")
	c.wantRead("last words")
	s.Close()
	s.state(tcp.StateClose)
	c.state(tcp.StateTimeWait)
	c.wantReadError(&tcpip.ErrClosedForReceive{})
	c.Close()
	w.run(59 * time.Second)
	c.state(tcp.StateTimeWait)
	w.run(2 * time.Second)
	c.state(tcp.StateClose)
	l.Close()
	l.state(tcp.StateClose)
	for _, h := range []*host{w.a, w.b} {
		if n := len(h.stack.RegisteredEndpoints()); n != 0 {
			t.Errorf("%d endpoints left", n)
		}
		st := h.stack.Stats().TCP
		if st.CurrentEstablished.Value() != 0 || st.CurrentConnected.Value() != 0 {
			t.Errorf("gauges: %d established, %d connected", st.CurrentEstablished.Value(), st.CurrentConnected.Value())
		}
	}
	if n := w.clock.Armed(); n != 0 {
		t.Logf("%d timers left in the stacks", n)
	}
}

func TestStatesWithoutConnection(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	s.wantReadError(&tcpip.ErrNotConnected{})
	_, err := s.Write(strings.NewReader("x"), tcpip.WriteOptions{})
	s.want(err, &tcpip.ErrClosedForSend{})
	s.want(s.Shutdown(tcpip.ShutdownRead), &tcpip.ErrNotConnected{})
	_, _, err = s.Accept(nil)
	s.want(err, &tcpip.ErrInvalidEndpointState{})
	_, err = s.GetRemoteAddress()
	s.want(err, &tcpip.ErrNotConnected{})
	s.want(s.Disconnect(), &tcpip.ErrNotSupported{})
	s.Close()
	s.Close()
	s.state(tcp.StateClose)
	s.want(s.Connect(w.b.at(80)), &tcpip.ErrInvalidEndpointState{})
	s.want(s.Listen(1), &tcpip.ErrInvalidEndpointState{})
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	c := w.a.dial(w.b.at(81))
	c.state(tcp.StateError)
	if c.seen()&waiter.WritableEvents == 0 || c.seen()&waiter.EventHUp == 0 {
		t.Errorf("events %#x", c.seen())
	}
	c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
	if err := c.LastError(); err != nil {
		t.Errorf("the error is reported twice: %v", err)
	}
	c.wantReadError(&tcpip.ErrClosedForReceive{})
	c.Close()
	if got := w.b.stack.Stats().TCP.ResetsSent.Value(); got != 1 {
		t.Errorf("%d resets sent", got)
	}
	if got := w.a.stack.Stats().TCP.FailedConnectionAttempts.Value(); got != 1 {
		t.Errorf("%d failed attempts", got)
	}
}

func TestConnectTimesOut(t *testing.T) {
	w := newWorld(t)
	w.a.wire.pass = func(*packet) bool { return false }
	c := w.a.dial(w.b.at(80))
	c.state(tcp.StateSynSent)
	c.want(c.Connect(w.b.at(80)), &tcpip.ErrAlreadyConnecting{})
	c.wantReadError(&tcpip.ErrWouldBlock{})
	if got := c.Readiness(waiter.AllEvents); got != 0 {
		t.Errorf("connecting: ready for %#x", got)
	}
	w.run(3 * time.Minute)
	c.state(tcp.StateSynSent) // MUST-23
	w.run(3 * time.Minute)
	c.state(tcp.StateError)
	c.want(c.LastError(), &tcpip.ErrTimeout{})
	if n := len(w.a.wire.log); n != 8 {
		t.Errorf("%d SYNs sent, want 8", n)
	}
	c.Close()
}

func TestShutdownWhileConnecting(t *testing.T) {
	w := newWorld(t)
	w.a.wire.pass = func(*packet) bool { return false }
	c := w.a.dial(w.b.at(80))
	c.must(c.Shutdown(tcpip.ShutdownWrite))
	c.state(tcp.StateError)
	c.want(c.LastError(), &tcpip.ErrConnectionReset{})
	c.Close()
}

func TestReset(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	// SO_LINGER with 0: close aborts.
	s.ops.SetLinger(tcpip.LingerOption{Enabled: true})
	s.Close()
	c.state(tcp.StateError)
	if got := c.seen() & (waiter.EventHUp | waiter.EventErr | waiter.EventIn); got != waiter.EventHUp|waiter.EventErr|waiter.EventIn {
		t.Errorf("events %#x", c.seen())
	}
	c.wantReadError(&tcpip.ErrConnectionReset{})
	c.wantReadError(&tcpip.ErrClosedForReceive{})
	_, err := c.Write(strings.NewReader("x"), tcpip.WriteOptions{})
	c.want(err, &tcpip.ErrClosedForSend{})
	c.Close()
}

func TestCloseWithUnreadData(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.write("unread")
	s.Close() // RFC 2525 §2.17
	c.state(tcp.StateError)
	c.Close()
}

func TestAbort(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	s.Abort()
	s.state(tcp.StateError)
	s.wantReadError(&tcpip.ErrAborted{})
	c.wantReadError(&tcpip.ErrConnectionReset{})
	s.Close()
	c.Close()
}

func TestPeek(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.write("data")
	for range 2 {
		var b bytes.Buffer
		r, err := s.Read(&b, tcpip.ReadOptions{Peek: true, NeedRemoteAddr: true})
		s.must(err)
		if b.String() != "data" || r.Count != 4 || r.Total != 4 || r.RemoteAddr.Addr != w.a.v4 {
			t.Fatalf("peek %q, %+v", b.String(), r)
		}
	}
	if n, err := s.GetSockOptInt(tcpip.ReceiveQueueSizeOption); n != 4 || err != nil {
		t.Errorf("ReceiveQueueSize %d, %v", n, err)
	}
	s.wantRead("data")
	s.wantReadError(&tcpip.ErrWouldBlock{})
	c.Close()
	s.Close()
}

// failing is a writer or reader that fails at once.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (failing) Read([]byte) (int, error)  { return 0, io.ErrClosedPipe }
func (failing) Len() int                  { return 10 }

func TestBadBuffer(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.write("data")
	_, err := s.Read(failing{}, tcpip.ReadOptions{})
	s.want(err, &tcpip.ErrBadBuffer{})
	s.wantRead("data")
	_, err = c.Write(failing{}, tcpip.WriteOptions{})
	c.want(err, &tcpip.ErrBadBuffer{})
	if n, err := c.Write(strings.NewReader(""), tcpip.WriteOptions{}); n != 0 || err != nil {
		t.Errorf("empty write: %d, %v", n, err)
	}
	c.Close()
	s.Close()
}

// A full send buffer: would block, and an event when there is room again.
func TestWritableAgain(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.ops.SetSendBufferSize(10000, true)
	s.ops.SetReceiveBufferSize(8000, true)
	chunk := make([]byte, 20000)
	total := 0
	for {
		n, err := c.Write(bytes.NewReader(chunk), tcpip.WriteOptions{})
		total += int(n)
		if err != nil {
			c.want(err, &tcpip.ErrWouldBlock{})
			break
		}
	}
	if c.Readiness(waiter.WritableEvents) != 0 {
		t.Error("writable though full")
	}
	c.forget()
	var b bytes.Buffer
	for b.Len() < total {
		_, err := s.Read(&b, tcpip.ReadOptions{})
		if err != nil {
			s.want(err, &tcpip.ErrWouldBlock{})
			w.run(time.Second)
		}
	}
	if c.seen()&waiter.WritableEvents == 0 || c.Readiness(waiter.WritableEvents) == 0 {
		t.Errorf("not writable again: %#x", c.seen())
	}
	c.Close()
	s.Close()
}

// Whoever polls without having tried to write must be told of room as well.
func TestWritableAfterExactFill(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	s.ops.SetReceiveBufferSize(4096, true)
	for {
		room := c.tcb.WriteSpace()
		if room == 0 {
			break
		}
		c.write(strings.Repeat("x", room))
	}
	c.forget()
	for c.Readiness(waiter.WritableEvents) == 0 {
		if _, err := s.Read(io.Discard, tcpip.ReadOptions{}); err != nil {
			w.run(time.Second)
		}
	}
	if c.seen()&waiter.WritableEvents == 0 {
		t.Error("no event")
	}
	c.Abort()
	s.Abort()
	c.Close()
	s.Close()
}

func TestRcvLowat(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	s.SetRcvLowat(5)
	c.write("1234")
	if s.Readiness(waiter.ReadableEvents) != 0 {
		t.Error("readable below the mark")
	}
	c.write("5")
	if s.Readiness(waiter.ReadableEvents) == 0 {
		t.Error("not readable at the mark")
	}
	s.wantRead("12345")
	c.Close()
	if s.Readiness(waiter.ReadableEvents) == 0 {
		t.Error("not readable at the end of the stream")
	}
	s.Close()
}

func TestUrgent(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	if n, err := c.WriteUrgent([]byte("ab!")); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if s.seen()&waiter.EventPri == 0 {
		t.Errorf("events %#x", s.seen())
	}
	if n, pending := s.UrgentMark(); !pending || n == 0 {
		t.Errorf("UrgentMark %d, %v", n, pending)
	}
	s.wantRead("ab!")
	c.Close()
	s.Close()
}

// Both ends in one stack: packets come back under the sender's own lock.
func TestLoopback(t *testing.T) {
	for _, tt := range []struct {
		name string
		net  tcpip.NetworkProtocolNumber
		to   func(h *host) tcpip.Address
	}{
		{"127.0.0.1", ipv4.ProtocolNumber, func(*host) tcpip.Address { return tcpip.AddrFrom4([4]byte{127, 0, 0, 1}) }},
		{"::1", ipv6.ProtocolNumber, func(*host) tcpip.Address { return tcpip.AddrFrom16([16]byte{15: 1}) }},
		{"own address", ipv4.ProtocolNumber, func(h *host) tcpip.Address { return h.v4 }},
		{"unspecified", ipv4.ProtocolNumber, func(*host) tcpip.Address { return tcpip.Address{} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			l := w.a.socket(tt.net)
			l.must(l.Bind(tcpip.FullAddress{Port: 80}))
			l.must(l.Listen(1))
			c := w.a.socket(tt.net)
			c.want(c.Connect(tcpip.FullAddress{Addr: tt.to(w.a), Port: 80}), &tcpip.ErrConnectStarted{})
			c.state(tcp.StateEstablished)
			s := l.accept()
			c.write(strings.Repeat("x", 100000))
			if got := len(s.read()); got != 100000 {
				w.run(time.Second)
				got += len(s.read())
				if got != 100000 {
					t.Errorf("read %d bytes", got)
				}
			}
			c.Close()
			s.Close()
			l.Close()
			w.run(2 * time.Minute)
		})
	}
}

// RFC 9293 §3.5, figure 7, with one socket as both peers.
func TestSelfConnect(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	lo := tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), Port: 4000}
	s.must(s.Bind(lo))
	s.want(s.Connect(lo), &tcpip.ErrConnectStarted{})
	s.state(tcp.StateEstablished)
	s.write("to myself")
	s.wantRead("to myself")
	s.Close()
	w.run(5 * time.Minute)
}

func TestSimultaneousOpen(t *testing.T) {
	w := newWorld(t)
	held := true
	w.a.wire.pass = func(*packet) bool { return !held }
	a, b := w.a.socket(ipv4.ProtocolNumber), w.b.socket(ipv4.ProtocolNumber)
	a.must(a.Bind(w.a.at(1000)))
	b.must(b.Bind(w.b.at(2000)))
	a.want(a.Connect(w.b.at(2000)), &tcpip.ErrConnectStarted{})
	a.state(tcp.StateSynSent)
	b.want(b.Connect(w.a.at(1000)), &tcpip.ErrConnectStarted{})
	a.state(tcp.StateSynRecv)
	b.state(tcp.StateSynSent)
	held = false
	w.run(2 * time.Second)
	a.state(tcp.StateEstablished)
	b.state(tcp.StateEstablished)
	a.write("hello")
	b.wantRead("hello")
	a.Close()
	b.Close()
	w.run(2 * time.Minute)
}

// A refused packet was not sent: it leaves when the link has room, without a retransmission.
func TestLinkRefuses(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	w.a.wire.full = true
	c.write("patience")
	w.run(10 * time.Millisecond)
	s.wantReadError(&tcpip.ErrWouldBlock{})
	w.a.wire.full = false
	w.run(time.Second)
	s.wantRead("patience")
	if n := StatsOf(w.a.stack).LinkRefused.Value(); n == 0 {
		t.Error("nothing counted")
	}
	if n := w.a.stack.Stats().TCP.Retransmits.Value(); n != 0 {
		t.Errorf("%d retransmissions", n)
	}
	c.Close()
	s.Close()
}

func TestTimeWaitReusedBySYN(t *testing.T) {
	w := newWorld(t)
	l := w.b.listen(80, 10)
	c := w.a.socket(ipv4.ProtocolNumber)
	c.must(c.Bind(w.a.at(5000)))
	c.want(c.Connect(w.b.at(80)), &tcpip.ErrConnectStarted{})
	s := l.accept()
	s.Close()
	c.Close()
	s.state(tcp.StateTimeWait)
	w.run(2 * time.Second)
	d := w.a.socket(ipv4.ProtocolNumber)
	d.must(d.Bind(w.a.at(5000)))
	d.want(d.Connect(w.b.at(80)), &tcpip.ErrConnectStarted{})
	d.state(tcp.StateEstablished)
	s.state(tcp.StateClose)
	if n := StatsOf(w.b.stack).TimeWaitReused.Value(); n != 1 {
		t.Errorf("counted %d", n)
	}
	d.write("new")
	l.accept().wantRead("new")
	d.Close()
	l.Close()
	w.run(5 * time.Minute)
}

func TestTimeWaitLimit(t *testing.T) {
	w := newWorld(t, WithTimeWaitLimit(3))
	l := w.b.listen(80, 10)
	for range 10 {
		c := w.a.dial(w.b.at(80))
		s := l.accept()
		c.Close()
		s.Close()
		c.state(tcp.StateTimeWait)
	}
	if n := w.a.protocol().timeWait.n; n != 3 {
		t.Errorf("%d in TIME-WAIT, want 3", n)
	}
	if n := StatsOf(w.a.stack).TimeWaitRecycled.Value(); n != 7 {
		t.Errorf("%d recycled, want 7", n)
	}
	l.Close()
}

func TestOrphanLimit(t *testing.T) {
	w := newWorld(t, WithOrphanLimit(1))
	l := w.b.listen(80, 10)
	one, two := w.a.dial(w.b.at(80)), w.a.dial(w.b.at(80))
	one.Close()
	one.state(tcp.StateFinWait2)
	two.Close()
	two.state(tcp.StateError)
	if n := StatsOf(w.a.stack).OrphansReset.Value(); n != 1 {
		t.Errorf("counted %d", n)
	}
	w.run(2 * time.Minute) // TCP_LINGER2
	one.state(tcp.StateClose)
	if n := w.a.protocol().orphans.Load(); n != 0 {
		t.Errorf("%d orphans left", n)
	}
	l.Close()
	w.run(time.Minute)
}

func TestPause(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	p := w.b.stack.TransportProtocolInstance(ProtocolNumber)
	p.Pause()
	c.write("wait")
	s.wantReadError(&tcpip.ErrWouldBlock{})
	p.Resume()
	s.wantRead("wait")
	p.Pause()
	p.Resume()
	c.write("go")
	s.wantRead("go")
	c.Close()
	s.Close()
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.write("x")
	st := c.Stats().(*tcp.Stats)
	if st.SegmentsSent.Value() != 3 || st.SegmentsReceived.Value() == 0 {
		t.Errorf("sent %d, received %d", st.SegmentsSent.Value(), st.SegmentsReceived.Value())
	}
	c.write("y")
	c.Stats()
	if st.SegmentsSent.Value() != 4 {
		t.Errorf("sent %d", st.SegmentsSent.Value())
	}
	if info, ok := c.Info().(*stack.TransportEndpointInfo); !ok || info.ID.RemotePort != 80 {
		t.Errorf("Info %+v", info)
	}
	i := c.TCPInfo()
	if i.State != tcb.StateEstablished || i.BytesSent != 2 || i.Congestion != "cubic" {
		t.Errorf("TCPInfo %+v", i)
	}
	var o tcpip.TCPInfoOption
	c.must(c.GetSockOpt(&o))
	if o.State != tcpip.EndpointState(tcp.StateEstablished) || o.SndCwnd == 0 {
		t.Errorf("TCPInfoOption %+v", o)
	}
	c.Close()
	s.Close()
}
