package target_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/target"
)

const localPort, peerPort = 8080, 49152

// host is an open target with a peer that speaks to it in raw segments.
type host struct {
	*testing.T
	target.Target
	local, peer netip.Addr
	// seq and ack are the peer's next sequence and acknowledgment number.
	seq, ack uint32
}

// open opens a stock target.
func open(t *testing.T, v6 bool) *host {
	t.Helper()
	tg, err := target.GVisor().Open(target.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tg.Close)
	a := target.DefaultAddrs()
	h := &host{T: t, Target: tg, local: a.Local4, peer: a.Remote4, seq: 1000}
	if v6 {
		h.local, h.peer = a.Local6, a.Remote6
	}
	return h
}

// call makes a call that must return at once.
func (h *host) call(c target.Call) target.Result {
	h.Helper()
	p := h.start(c)
	r, done := p.Result()
	if !done {
		h.Fatalf("%v blocks", c)
	}
	return r
}

// start makes a call.
func (h *host) start(c target.Call) target.Pending {
	h.Helper()
	p, err := h.Syscall(c)
	if err != nil {
		h.Fatalf("%v: %v", c, err)
	}
	return p
}

// ok makes a call that must succeed at once.
func (h *host) ok(c target.Call) target.Result {
	h.Helper()
	r := h.call(c)
	if r.Errno != "" {
		h.Fatalf("%v = %v", c, r.Errno)
	}
	return r
}

// send injects a segment from the peer.
func (h *host) send(flags uint16, payload string) {
	h.Helper()
	seg := &wire.TCP{SrcPort: peerPort, DstPort: localPort, Seq: h.seq, Ack: h.ack, Flags: flags, Window: 65535, Payload: []byte(payload)}
	p := wire.Packet{IP: wire.IP{Src: h.peer, Dst: h.local}, TCP: seg}
	if err := h.Inject(p.Encode(wire.Spoil{})); err != nil {
		h.Fatal(err)
	}
	h.seq += seg.Len()
}

// expect drains exactly one segment with the given flags.
func (h *host) expect(flags uint16) *wire.TCP {
	h.Helper()
	out := h.Drain()
	if len(out) != 1 {
		h.Fatalf("%d packets, want 1", len(out))
	}
	p, err := wire.Decode(out[0].Data)
	if err != nil || len(p.Faults) > 0 || p.TCP == nil {
		h.Fatalf("bad packet %+v: %v", p, err)
	}
	if p.TCP.Flags != flags {
		h.Fatalf("flags %#x, want %#x", p.TCP.Flags, flags)
	}
	h.ack = p.TCP.Seq + p.TCP.Len()
	return p.TCP
}

// listen opens a listener.
func (h *host) listen() target.FD {
	h.Helper()
	fd := target.FD(h.ok(target.Socket{IPv6: h.local.Is6()}).Value)
	any := netip.IPv4Unspecified()
	if h.local.Is6() {
		any = netip.IPv6Unspecified()
	}
	h.ok(target.Bind{FD: fd, Addr: netip.AddrPortFrom(any, localPort)})
	h.ok(target.Listen{FD: fd, Backlog: 8})
	return fd
}

// establish shakes hands and returns the accepted socket.
func (h *host) establish() target.FD {
	h.Helper()
	l := h.listen()
	h.send(wire.SYN, "")
	h.expect(wire.SYN | wire.ACK)
	h.send(wire.ACK, "")
	r := h.ok(target.Accept{FD: l})
	if r.Addr != netip.AddrPortFrom(h.peer, peerPort) {
		h.Errorf("accept says the peer is %v", r.Addr)
	}
	return target.FD(r.Value)
}

func TestPassiveOpenReadWriteClose(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		h := open(t, v6)
		fd := h.establish()

		read := h.start(target.Read{FD: fd, Max: 100})
		if _, done := read.Result(); done {
			t.Fatal("read returned before there was data")
		}
		h.send(wire.ACK|wire.PSH, "hello")
		if r, done := read.Result(); !done || string(r.Data) != "hello" {
			t.Errorf("read = %q, %v", r.Data, done)
		}
		h.expect(wire.ACK)

		h.ok(target.Write{FD: fd, Data: []byte("bye")})
		if seg := h.expect(wire.ACK | wire.PSH); string(seg.Payload) != "bye" {
			t.Errorf("sent %q", seg.Payload)
		}
		h.send(wire.FIN|wire.ACK, "")
		h.expect(wire.ACK)
		if r := h.ok(target.Read{FD: fd, Max: 1}); r.Value != 0 {
			t.Errorf("read at the end = %d", r.Value)
		}
		h.ok(target.Close{FD: fd})
		h.expect(wire.FIN | wire.ACK)
	}
}

func TestBlockingConnectCompletesWhenTheHandshakeDoes(t *testing.T) {
	h := open(t, false)
	fd := target.FD(h.ok(target.Socket{}).Value)
	h.ok(target.Bind{FD: fd, Addr: netip.AddrPortFrom(h.local, localPort)})
	connect := h.start(target.Connect{FD: fd, Addr: netip.AddrPortFrom(h.peer, peerPort)})
	h.expect(wire.SYN)
	if at := h.RunUntil(100 * time.Millisecond); at != 100*time.Millisecond {
		t.Errorf("RunUntil stopped at %v with nothing to tell", at)
	}
	h.send(wire.SYN|wire.ACK, "")
	r, done := connect.Result()
	if !done || r.Errno != "" || r.At != 100*time.Millisecond {
		t.Errorf("connect = %+v, %v", r, done)
	}
	if info, err := h.Info(fd); err != nil || info["state"] != 1 {
		t.Errorf("Info = %v, %v, want state 1 (ESTABLISHED)", info, err)
	}
}

func TestRunUntilStopsAtAPacket(t *testing.T) {
	h := open(t, false)
	fd := target.FD(h.ok(target.Socket{Nonblock: true}).Value)
	if r := h.call(target.Connect{FD: fd, Addr: netip.AddrPortFrom(h.peer, peerPort)}); r.Errno != "EINPROGRESS" {
		t.Errorf("nonblocking connect = %+v", r)
	}
	h.expect(wire.SYN)
	at := h.RunUntil(time.Hour)
	out := h.Drain()
	if len(out) != 1 || out[0].At != at || at < 500*time.Millisecond || at > 2*time.Second {
		t.Errorf("retransmission: %d packets, stopped at %v", len(out), at)
	}
}

func TestTimeouts(t *testing.T) {
	h := open(t, false)
	l := h.listen()
	h.ok(target.SetOption{FD: l, Level: "SOL_SOCKET", Name: "SO_RCVTIMEO", Value: time.Second})
	accept := h.start(target.Accept{FD: l})
	poll := h.start(target.Poll{FDs: []target.Ready{{FD: l, Events: target.PollIn}}, Timeout: 2 * time.Second})
	for h.RunUntil(time.Minute) < time.Minute {
	}
	if r, done := accept.Result(); !done || r.Errno != "EAGAIN" || r.At != time.Second {
		t.Errorf("accept = %+v, %v", r, done)
	}
	if r, done := poll.Result(); !done || r.Value != 0 || r.At != 2*time.Second {
		t.Errorf("poll = %+v, %v", r, done)
	}
}

func TestEpoll(t *testing.T) {
	h := open(t, false)
	fd := h.establish()
	ep := target.FD(h.ok(target.EpollCreate{}).Value)
	watch := target.Ready{FD: fd, Events: target.PollIn | target.EpollET, Data: 42}
	h.ok(target.EpollCtl{FD: ep, Op: target.EpollAdd, Target: watch})
	if r := h.call(target.EpollCtl{FD: ep, Op: target.EpollAdd, Target: watch}); r.Errno != "EEXIST" {
		t.Errorf("second add = %+v", r)
	}
	wait := func() target.Result { return h.call(target.EpollWait{FD: ep, Max: 4}) }
	if r := wait(); r.Value != 0 {
		t.Errorf("events before there is data: %+v", r)
	}
	h.send(wire.ACK|wire.PSH, "x")
	want := []target.Ready{{FD: fd, Events: target.PollIn, Data: 42}}
	if r := wait(); !slices.Equal(r.Ready, want) {
		t.Errorf("events = %+v, want %+v", r.Ready, want)
	}
	if r := wait(); r.Value != 0 {
		t.Errorf("an edge was reported twice: %+v", r)
	}
	h.send(wire.ACK|wire.PSH, "y")
	if r := wait(); r.Value != 1 {
		t.Errorf("new data is no new edge: %+v", r)
	}
}

func TestWhatIsUnsupportedSaysSo(t *testing.T) {
	h := open(t, false)
	fd := target.FD(h.ok(target.Socket{}).Value)
	for _, c := range []target.Call{
		target.SetOption{FD: fd, Level: "IPPROTO_TCP", Name: "TCP_MD5SIG", Value: 1},
		target.GetOption{FD: fd, Level: "IPPROTO_TCP", Name: "TCP_FASTOPEN"},
		target.Write{FD: fd, Flags: target.MsgFastOpen},
		target.Read{FD: fd, Max: 1, Flags: target.MsgErrQueue},
		target.Read{FD: fd, Max: 1, Flags: target.MsgOOB},
		target.QueueSize{FD: fd, Queue: target.UnsentQueue},
	} {
		if _, err := h.Syscall(c); target.IsUnsupported(err) == nil {
			t.Errorf("%v: error %v, want unsupported", c, err)
		}
	}
	for name, value := range map[string]string{
		"net.ipv4.tcp_timestamps":         "0",
		"net.ipv4.tcp_congestion_control": "no-such",
		"net.ipv4.tcp_rmem":               "1 2",
		"net.ipv4.tcp_sack":               "x",
		"kernel.panic":                    "1",
	} {
		if err := h.Configure(name, value); target.IsUnsupported(err) == nil {
			t.Errorf("%s=%s: error %v, want unsupported", name, value, err)
		}
	}
}

func TestConfigure(t *testing.T) {
	h := open(t, false)
	for name, value := range map[string]string{
		"net.ipv4.tcp_sack":               "0",
		"net.ipv4.tcp_congestion_control": "reno",
		"net.ipv4.tcp_rmem":               "4096	540000   15728640",
		"net.ipv4.tcp_ecn":                "0",
		"net.ipv4.ip_default_ttl":         "77",
	} {
		if err := h.Configure(name, value); err != nil {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	h.listen()
	h.send(wire.SYN, "")
	out := h.Drain()
	p, err := wire.Decode(out[0].Data)
	if err != nil || p.IP.TTL != 77 {
		t.Errorf("SYN-ACK %+v, %v, want TTL 77", p, err)
	}
}

func TestBadDescriptor(t *testing.T) {
	h := open(t, false)
	for _, c := range []target.Call{
		target.Read{FD: 99, Max: 1}, target.Close{FD: -1}, target.EpollWait{FD: 99, Max: 1}, target.Listen{FD: 0},
	} {
		if r := h.call(c); r.Errno != "EBADF" || r.Value != -1 {
			t.Errorf("%v = %+v, want EBADF", c, r)
		}
	}
	if err := h.Inject([]byte{0xff}); err == nil {
		t.Error("Inject took what is no IP packet")
	}
}
