package target_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
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

// eachKind runs a test on every kind of target.
func eachKind(t *testing.T, test func(*testing.T, target.Kind)) {
	for _, k := range target.Kinds() {
		t.Run(k.Name, func(t *testing.T) { test(t, k) })
	}
}

// open opens a target.
func open(t *testing.T, k target.Kind, v6 bool) *host {
	t.Helper()
	tg, err := k.Open(target.Config{Seed: 1})
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
	eachKind(t, func(t *testing.T, k target.Kind) {
		for _, v6 := range []bool{false, true} {
			h := open(t, k, v6)
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
	})
}

func TestBlockingConnectCompletesWhenTheHandshakeDoes(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

func TestRunUntilStopsAtAPacket(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

func TestTimeouts(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

func TestEpoll(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

func TestWhatIsUnsupportedSaysSo(t *testing.T) {
	h := open(t, target.GVisor(), false)
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
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

func TestBadDescriptor(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
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
	})
}

// synACKOptions returns the options of the SYN-ACK that a target sends.
func synACKOptions(t *testing.T, h *host) []script.TCPOption {
	t.Helper()
	h.listen()
	syn := script.EncodeOptions([]script.TCPOption{
		{Kind: script.KindMSS, MSS: 1000}, {Kind: script.KindSACKOK},
		{Kind: script.KindTimestamp, TSVal: 1}, {Kind: script.KindWScale, Shift: 7},
	})
	p := wire.Packet{
		IP:  wire.IP{Src: h.peer, Dst: h.local},
		TCP: &wire.TCP{SrcPort: peerPort, DstPort: localPort, Seq: 1, Flags: wire.SYN, Window: 9000, Options: syn},
	}
	if err := h.Inject(p.Encode(wire.Spoil{})); err != nil {
		t.Fatal(err)
	}
	return script.DecodeOptions(h.expect(wire.SYN | wire.ACK).Options)
}

// has reports whether there is an option of a kind.
func has(options []script.TCPOption, kind script.OptionKind) bool {
	return slices.ContainsFunc(options, func(o script.TCPOption) bool { return o.Kind == kind })
}

func TestSettingsOfTCPX(t *testing.T) {
	tests := []struct {
		name     string
		settings [][2]string
		kind     script.OptionKind
	}{
		{"timestamps", [][2]string{{"net.ipv4.tcp_timestamps", "0"}}, script.KindTimestamp},
		{"window scaling", [][2]string{{"net.ipv4.tcp_window_scaling", "0"}}, script.KindWScale},
		{"SACK, then a setting that makes the stack anew", [][2]string{{"net.ipv4.tcp_sack", "0"}, {"net.ipv4.tcp_delack_ms", "10"}}, script.KindSACKOK},
		{"back to the default", [][2]string{{"net.ipv4.tcp_sack", "1"}, {"net.ipv4.tcp_timestamps", "0"}, {"net.ipv4.tcp_timestamps", "1"}}, 0},
	}
	for _, tt := range tests {
		h := open(t, target.TCPX(), false)
		for _, s := range tt.settings {
			if err := h.Configure(s[0], s[1]); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		options := synACKOptions(t, h)
		for _, kind := range []script.OptionKind{script.KindSACKOK, script.KindTimestamp, script.KindWScale} {
			if has(options, kind) == (kind == tt.kind) {
				t.Errorf("%s: options %s", tt.name, script.OptionsString(options))
			}
		}
		if err := h.Configure("net.ipv4.tcp_timestamps", "0"); err != nil {
			t.Errorf("%s: a setting in use: %v", tt.name, err)
		}
		if err := h.Configure("net.ipv4.tcp_mtu_probing", "2"); target.IsUnsupported(err) == nil {
			t.Errorf("%s: a setting that comes too late: %v", tt.name, err)
		}
	}
}

func TestInfoOfTCPX(t *testing.T) {
	h := open(t, target.TCPX(), false)
	fd := h.establish()
	info, err := h.Info(fd)
	if err != nil {
		t.Fatal(err)
	}
	if info["state"] != 1 || info["snd_cwnd"] != 10 || info["ca_state"] != 0 {
		t.Errorf("Info = %v", info)
	}
	if _, err := h.Info(99); target.IsUnsupported(err) == nil {
		t.Errorf("Info of no socket: %v", err)
	}
}

func TestUrgentDataOfTCPX(t *testing.T) {
	h := open(t, target.TCPX(), false)
	fd := h.establish()
	h.ok(target.Write{FD: fd, Data: []byte("abc"), Flags: target.MsgOOB})
	if seg := h.expect(wire.ACK | wire.PSH | wire.URG); seg.Urgent != 3 {
		t.Errorf("urgent pointer %d, want 3: the octet behind the urgent one (RFC 9293 MUST-62)", seg.Urgent)
	}
	if r := h.ok(target.QueueSize{FD: fd, Queue: target.AtMark}); r.Option != 0 {
		t.Errorf("at the mark without urgent data: %v", r.Option)
	}
}

func TestLingeringClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
		fd := h.establish()
		h.ok(target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_LINGER", Value: target.Linger{On: true, Seconds: 5}})
		if r := h.ok(target.GetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_LINGER"}); r.Option != (target.Linger{On: true, Seconds: 5}) {
			t.Errorf("SO_LINGER = %v", r.Option)
		}
		closing := h.start(target.Close{FD: fd})
		h.expect(wire.FIN | wire.ACK)
		if _, done := closing.Result(); done {
			t.Error("close returned before its FIN was acknowledged")
		}
		h.send(wire.ACK, "")
		if r, done := closing.Result(); !done || r.Errno != "" {
			t.Errorf("close = %+v, %v", r, done)
		}
	})
}

func TestSocketOptions(t *testing.T) {
	eachKind(t, func(t *testing.T, k target.Kind) {
		h := open(t, k, false)
		fd := target.FD(h.ok(target.Socket{}).Value)
		for _, o := range []struct {
			level, name string
			value, want any
		}{
			{"SOL_SOCKET", "SO_REUSEADDR", 1, 1},
			{"SOL_SOCKET", "SO_KEEPALIVE", 1, 1},
			{"SOL_SOCKET", "SO_SNDBUF", 20000, 40000}, // Linux doubles it.
			{"SOL_SOCKET", "SO_RCVBUF", 30000, 60000},
			{"SOL_SOCKET", "SO_RCVTIMEO", time.Second, time.Second},
			{"IPPROTO_TCP", "TCP_NODELAY", 1, 1},
			{"IPPROTO_TCP", "TCP_CORK", 1, 1},
			{"IPPROTO_TCP", "TCP_MAXSEG", 1000, 1000},
			{"IPPROTO_TCP", "TCP_KEEPIDLE", 60, 60},
			{"IPPROTO_TCP", "TCP_KEEPINTVL", 7, 7},
			{"IPPROTO_TCP", "TCP_KEEPCNT", 3, 3},
			{"IPPROTO_TCP", "TCP_USER_TIMEOUT", 1500, 1500},
			{"IPPROTO_TCP", "TCP_SYNCNT", 2, 2},
			{"IPPROTO_TCP", "TCP_CONGESTION", "reno", "reno"},
			{"IPPROTO_IP", "IP_TOS", 0x20, 0x20},
			{"IPPROTO_IP", "IP_TTL", 9, 9},
		} {
			h.ok(target.SetOption{FD: fd, Level: o.level, Name: o.name, Value: o.value})
			if r := h.ok(target.GetOption{FD: fd, Level: o.level, Name: o.name}); r.Option != o.want {
				t.Errorf("%s = %v, want %v", o.name, r.Option, o.want)
			}
		}
		if r := h.ok(target.GetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_ERROR"}); r.Option != target.Errno("") {
			t.Errorf("SO_ERROR = %v", r.Option)
		}
		for _, c := range []target.Call{
			target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_REUSEADDR", Value: "yes"},
			target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_LINGER", Value: 1},
			target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_RCVTIMEO", Value: 1},
			target.SetOption{FD: fd, Level: "IPPROTO_TCP", Name: "TCP_CONGESTION", Value: 1},
		} {
			if r := h.call(c); r.Errno != "EINVAL" {
				t.Errorf("%v = %+v, want EINVAL", c, r)
			}
		}
		if r := h.call(target.SetOption{FD: fd, Level: "IPPROTO_TCP", Name: "TCP_CONGESTION", Value: "none such"}); r.Errno != "ENOENT" {
			t.Errorf("unknown congestion control: %+v", r)
		}
	})
}
