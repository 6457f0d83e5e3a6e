package tcpx

import (
	"reflect"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

func ptr[T any](v T) *T { return &v }

// Every protocol option of stock's is set and read back.
func TestProtocolOptions(t *testing.T) {
	invalid := &tcpip.ErrInvalidOptionValue{}
	for _, tt := range []struct {
		set  tcpip.SettableTransportProtocolOption
		want tcpip.Error
		get  tcpip.GettableTransportProtocolOption
		got  any
	}{
		{ptr(tcpip.TCPSACKEnabled(false)), nil, new(tcpip.TCPSACKEnabled), tcpip.TCPSACKEnabled(false)},
		{ptr(tcpip.TCPRecovery(0)), nil, new(tcpip.TCPRecovery), tcpip.TCPRecovery(0)},
		{ptr(tcpip.TCPDelayEnabled(true)), nil, new(tcpip.TCPDelayEnabled), tcpip.TCPDelayEnabled(true)},
		{&tcpip.TCPSendBufferSizeRangeOption{Min: 1, Default: 2, Max: 3}, nil, new(tcpip.TCPSendBufferSizeRangeOption), tcpip.TCPSendBufferSizeRangeOption{Min: 1, Default: 2, Max: 3}},
		{&tcpip.TCPSendBufferSizeRangeOption{Min: 0, Default: 2, Max: 3}, invalid, new(tcpip.TCPSendBufferSizeRangeOption), tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 64 << 20}},
		{&tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: 2, Max: 3}, nil, new(tcpip.TCPReceiveBufferSizeRangeOption), tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: 2, Max: 3}},
		{&tcpip.TCPReceiveBufferSizeRangeOption{Min: 3, Default: 2, Max: 3}, invalid, new(tcpip.TCPReceiveBufferSizeRangeOption), tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 64 << 20}},
		{ptr(tcpip.CongestionControlOption("reno")), nil, new(tcpip.CongestionControlOption), tcpip.CongestionControlOption("reno")},
		{ptr(tcpip.CongestionControlOption("nonesuch")), &tcpip.ErrNoSuchFile{}, new(tcpip.CongestionControlOption), tcpip.CongestionControlOption("cubic")},
		{ptr(tcpip.TCPModerateReceiveBufferOption(false)), nil, new(tcpip.TCPModerateReceiveBufferOption), tcpip.TCPModerateReceiveBufferOption(false)},
		{ptr(tcpip.TCPLingerTimeoutOption(time.Second)), nil, new(tcpip.TCPLingerTimeoutOption), tcpip.TCPLingerTimeoutOption(time.Second)},
		{ptr(tcpip.TCPLingerTimeoutOption(-1)), nil, new(tcpip.TCPLingerTimeoutOption), tcpip.TCPLingerTimeoutOption(0)},
		{ptr(tcpip.TCPTimeWaitTimeoutOption(time.Second)), nil, new(tcpip.TCPTimeWaitTimeoutOption), tcpip.TCPTimeWaitTimeoutOption(time.Second)},
		{ptr(tcpip.TCPTimeWaitTimeoutOption(-1)), nil, new(tcpip.TCPTimeWaitTimeoutOption), tcpip.TCPTimeWaitTimeoutOption(0)},
		{ptr(tcpip.TCPTimeWaitReuseGlobal), nil, new(tcpip.TCPTimeWaitReuseOption), tcpip.TCPTimeWaitReuseGlobal},
		{ptr(tcpip.TCPTimeWaitReuseOption(7)), invalid, new(tcpip.TCPTimeWaitReuseOption), tcpip.TCPTimeWaitReuseLoopbackOnly},
		{ptr(tcpip.TCPMinRTOOption(time.Second)), nil, new(tcpip.TCPMinRTOOption), tcpip.TCPMinRTOOption(time.Second)},
		{ptr(tcpip.TCPMinRTOOption(-1)), nil, new(tcpip.TCPMinRTOOption), tcpip.TCPMinRTOOption(200 * time.Millisecond)},
		{ptr(tcpip.TCPMinRTOOption(time.Hour)), invalid, new(tcpip.TCPMinRTOOption), tcpip.TCPMinRTOOption(200 * time.Millisecond)},
		{ptr(tcpip.TCPMaxRTOOption(time.Second)), nil, new(tcpip.TCPMaxRTOOption), tcpip.TCPMaxRTOOption(time.Second)},
		{ptr(tcpip.TCPMaxRTOOption(-1)), nil, new(tcpip.TCPMaxRTOOption), tcpip.TCPMaxRTOOption(120 * time.Second)},
		{ptr(tcpip.TCPMaxRTOOption(1)), invalid, new(tcpip.TCPMaxRTOOption), tcpip.TCPMaxRTOOption(120 * time.Second)},
		{ptr(tcpip.TCPMaxRetriesOption(3)), nil, new(tcpip.TCPMaxRetriesOption), tcpip.TCPMaxRetriesOption(3)},
		{ptr(tcpip.TCPAlwaysUseSynCookies(true)), nil, new(tcpip.TCPAlwaysUseSynCookies), tcpip.TCPAlwaysUseSynCookies(true)},
		{ptr(tcpip.TCPSynRetriesOption(3)), nil, new(tcpip.TCPSynRetriesOption), tcpip.TCPSynRetriesOption(3)},
		{ptr(tcpip.TCPSynRetriesOption(0)), invalid, new(tcpip.TCPSynRetriesOption), tcpip.TCPSynRetriesOption(7)},
		{new(tcpip.TCPAvailableCongestionControlOption), &tcpip.ErrUnknownProtocolOption{}, new(tcpip.TCPAvailableCongestionControlOption), tcpip.TCPAvailableCongestionControlOption("cubic reno")},
	} {
		w := newWorld(t)
		s := w.a.stack
		if err := s.SetTransportProtocolOption(ProtocolNumber, tt.set); reflect.TypeOf(err) != reflect.TypeOf(tt.want) {
			t.Errorf("set %T: %v, want %v", tt.set, err, tt.want)
		}
		if err := s.TransportProtocolOption(ProtocolNumber, tt.get); err != nil {
			t.Errorf("get %T: %v", tt.get, err)
		}
		if got := reflect.ValueOf(tt.get).Elem().Interface(); got != tt.got {
			t.Errorf("%T is %v, want %v", tt.get, got, tt.got)
		}
	}
}

// The stack's own ways to the options go through interfaces that the protocol must have.
func TestStackBufferLimits(t *testing.T) {
	w := newWorld(t, WithSendBuffer(100, 200, 300), WithReceiveBuffer(400, 500, 600))
	if got := w.a.stack.TCPSendBufferLimits(); got != (tcpip.TCPSendBufferSizeRangeOption{Min: 100, Default: 200, Max: 300}) {
		t.Errorf("send limits %+v", got)
	}
	s := w.a.socket(ipv4.ProtocolNumber)
	if least, most := s.ops.SendBufferLimits(); least != 100 || most != 300 {
		t.Errorf("send limits %d, %d", least, most)
	}
	if least, most := s.ops.ReceiveBufferLimits(); least != 400 || most != 600 {
		t.Errorf("receive limits %d, %d", least, most)
	}
	if s.ops.GetSendBufferSize() != 200 || s.ops.GetReceiveBufferSize() != 500 || s.tcb.SndBuf != 200 || s.tcb.RcvBuf != 500 {
		t.Error("defaults are not used")
	}
	s.Close()
}

func TestImpossibleOptionsPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"congestion": func() { New(WithCongestion("nonesuch")) },
		"send":       func() { WithSendBuffer(3, 2, 1) },
		"receive":    func() { WithReceiveBuffer(0, 1, 2) },
		"delay":      func() { WithDelayedACK(500 * time.Millisecond) },
		"window":     func() { WithInitialWindow(0) },
		"rto":        func() { WithInitialRTO(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// Every option of SetSockOptInt and its values.
func TestSockOptInt(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	invalid := &tcpip.ErrInvalidOptionValue{}
	for _, tt := range []struct {
		name string
		opt  tcpip.SockOptInt
		set  int
		want tcpip.Error
		get  int
	}{
		{"KeepaliveCount", tcpip.KeepaliveCountOption, 3, nil, 3},
		{"TOS", tcpip.IPv4TOSOption, 0xff, nil, 0xfc}, // The ECN bits are not the user's.
		{"traffic class", tcpip.IPv6TrafficClassOption, 0x21, nil, 0x20},
		{"MSS", tcpip.MaxSegOption, 1000, nil, 1000},
		{"MSS too small", tcpip.MaxSegOption, 87, invalid, 1000},
		{"MSS too large", tcpip.MaxSegOption, 65536, invalid, 1000},
		{"PMTU discovery", tcpip.MTUDiscoverOption, int(tcpip.PMTUDiscoveryDont), nil, int(tcpip.PMTUDiscoveryDont)},
		{"PMTU discovery unknown", tcpip.MTUDiscoverOption, 77, &tcpip.ErrNotSupported{}, int(tcpip.PMTUDiscoveryDont)},
		{"TTL", tcpip.IPv4TTLOption, 9, nil, 9},
		{"hop limit", tcpip.IPv6HopLimitOption, 8, nil, 8},
		{"SYN count", tcpip.TCPSynCountOption, 2, nil, 2},
		{"SYN count 0", tcpip.TCPSynCountOption, 0, invalid, 2},
		{"SYN count 256", tcpip.TCPSynCountOption, 256, invalid, 2},
		{"window clamp", tcpip.TCPWindowClampOption, 5000, nil, 5000},
		{"window clamp small", tcpip.TCPWindowClampOption, 1, nil, 2048},
		{"window clamp off", tcpip.TCPWindowClampOption, 0, nil, 0},
		{"multicast TTL", tcpip.MulticastTTLOption, 4, nil, 1},
		{"IPv6 checksum", tcpip.IPv6Checksum, 1, &tcpip.ErrUnknownProtocolOption{}, -1},
	} {
		s.want(s.SetSockOptInt(tt.opt, tt.set), tt.want)
		if got, _ := s.GetSockOptInt(tt.opt); got != tt.get {
			t.Errorf("%s is %d, want %d", tt.name, got, tt.get)
		}
	}
	s.Close()
}

func TestSockOpt(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	for _, tt := range []struct {
		set  tcpip.SettableSocketOption
		want tcpip.Error
		get  tcpip.GettableSocketOption
		got  any
	}{
		{ptr(tcpip.KeepaliveIdleOption(time.Second)), nil, new(tcpip.KeepaliveIdleOption), tcpip.KeepaliveIdleOption(time.Second)},
		{ptr(tcpip.KeepaliveIntervalOption(time.Second)), nil, new(tcpip.KeepaliveIntervalOption), tcpip.KeepaliveIntervalOption(time.Second)},
		{ptr(tcpip.TCPUserTimeoutOption(time.Second)), nil, new(tcpip.TCPUserTimeoutOption), tcpip.TCPUserTimeoutOption(time.Second)},
		{ptr(tcpip.CongestionControlOption("reno")), nil, new(tcpip.CongestionControlOption), tcpip.CongestionControlOption("reno")},
		{ptr(tcpip.CongestionControlOption("x")), &tcpip.ErrNoSuchFile{}, new(tcpip.CongestionControlOption), tcpip.CongestionControlOption("reno")},
		{ptr(tcpip.TCPLingerTimeoutOption(-5)), nil, new(tcpip.TCPLingerTimeoutOption), tcpip.TCPLingerTimeoutOption(-1)},
		{ptr(tcpip.TCPLingerTimeoutOption(0)), nil, new(tcpip.TCPLingerTimeoutOption), tcpip.TCPLingerTimeoutOption(time.Minute)},
		{ptr(tcpip.TCPLingerTimeoutOption(time.Hour)), nil, new(tcpip.TCPLingerTimeoutOption), tcpip.TCPLingerTimeoutOption(2 * time.Minute)},
		{ptr(tcpip.TCPDeferAcceptOption(time.Hour)), nil, new(tcpip.TCPDeferAcceptOption), tcpip.TCPDeferAcceptOption(2 * time.Minute)},
		{ptr(tcpip.TCPMinRTOOption(time.Second)), nil, new(tcpip.TCPMinRTOOption), tcpip.TCPMinRTOOption(time.Second)},
		{ptr(tcpip.TCPMaxRTOOption(time.Second)), nil, new(tcpip.TCPMaxRTOOption), tcpip.TCPMaxRTOOption(time.Second)},
		{ptr(tcpip.TCPMaxRetriesOption(4)), nil, new(tcpip.TCPMaxRetriesOption), tcpip.TCPMaxRetriesOption(4)},
		{ptr(tcpip.TCPSynRetriesOption(4)), nil, new(tcpip.TCPSynRetriesOption), tcpip.TCPSynRetriesOption(4)},
		{ptr(tcpip.TCPTimeWaitTimeoutOption(time.Second)), nil, new(tcpip.TCPTimeWaitTimeoutOption), tcpip.TCPTimeWaitTimeoutOption(time.Second)},
	} {
		s.want(s.SetSockOpt(tt.set), tt.want)
		s.must(s.GetSockOpt(tt.get))
		if got := reflect.ValueOf(tt.get).Elem().Interface(); got != tt.got {
			t.Errorf("%T is %v, want %v", tt.get, got, tt.got)
		}
	}
	s.must(s.SetSockOpt(new(tcpip.SocketDetachFilterOption)))
	s.want(s.SetSockOpt(new(tcpip.ICMPv6Filter)), &tcpip.ErrUnknownProtocolOption{})
	s.want(s.GetSockOpt(new(tcpip.ICMPv6Filter)), &tcpip.ErrUnknownProtocolOption{})
	s.Close()
}

func TestTCPOptionInt(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	invalid := &tcpip.ErrInvalidOptionValue{}
	for _, tt := range []struct {
		opt, set int
		want     tcpip.Error
		get      int
	}{
		{OptNoDelay, 0, nil, 0}, {OptNoDelay, 1, nil, 1},
		{OptMaxSeg, 1200, nil, 1200},
		{OptCork, 1, nil, 1}, {OptCork, 0, nil, 0},
		{OptKeepIdle, 7, nil, 7}, {OptKeepIdle, 0, invalid, 7},
		{OptKeepIntvl, 8, nil, 8}, {OptKeepIntvl, 32768, invalid, 8},
		{OptKeepCnt, 9, nil, 9}, {OptKeepCnt, 128, invalid, 9},
		{OptSynCnt, 4, nil, 4},
		{OptLinger2, 30, nil, 30}, {OptLinger2, -1, nil, -1},
		{OptDeferAccept, 5, nil, 5}, {OptDeferAccept, -5, nil, 0},
		{OptWindowClamp, 9000, nil, 9000},
		{OptQuickAck, 0, nil, 0}, {OptQuickAck, 1, nil, 1},
		{OptUserTimeout, 1234, nil, 1234}, {OptUserTimeout, -1, invalid, 1234},
		{OptNotSentLowat, 16384, nil, 16384}, {OptNotSentLowat, -1, nil, 0},
		{OptRTOMaxMs, 2000, nil, 2000}, {OptRTOMaxMs, 1, invalid, 2000},
		{OptRTOMinUs, 5000, nil, 5000}, {OptRTOMinUs, 0, invalid, 5000},
		{OptInq, 1, &tcpip.ErrUnknownProtocolOption{}, 0},
		{999, 1, &tcpip.ErrUnknownProtocolOption{}, 0},
	} {
		s.want(s.SetTCPOptionInt(tt.opt, tt.set), tt.want)
		if got, _ := s.GetTCPOptionInt(tt.opt); got != tt.get {
			t.Errorf("option %d is %d, want %d", tt.opt, got, tt.get)
		}
	}
	s.Close()
}

// IP options of a socket are in its packets, SYN and RST included.
func TestIPOptionsOnTheWire(t *testing.T) {
	w := newWorld(t)
	l := w.b.socket(ipv6.ProtocolNumber)
	l.must(l.Bind(tcpip.FullAddress{Port: 80}))
	l.must(l.Listen(1))
	c := w.a.socket(ipv6.ProtocolNumber)
	c.must(c.SetSockOptInt(tcpip.IPv6HopLimitOption, 5))
	c.must(c.SetSockOptInt(tcpip.IPv6TrafficClassOption, 0x40))
	w.run(5 * time.Second) // Duplicate address detection.
	w.a.wire.log = nil
	c.want(c.Connect(w.b.at6(80)), &tcpip.ErrConnectStarted{})
	c.Abort()
	c.Close()
	l.Close()
	n := 0
	for i := range w.a.wire.log {
		if p := &w.a.wire.log[i]; p.flags() != 0 {
			n++
			if p.ttl != 5 || p.tos != 0x40 {
				t.Errorf("packet %d: hop limit %d, traffic class %#x", i, p.ttl, p.tos)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d packets, want SYN, ACK, RST", n)
	}
}

func TestQuickAckThroughSocketOptions(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	s.ops.SetQuickAck(false)
	c.write("x")
	if s.tcb.QuickAck != 2 {
		t.Errorf("QuickAck %d", s.tcb.QuickAck)
	}
	s.ops.SetQuickAck(true)
	c.write("x")
	if s.tcb.QuickAck != 1 {
		t.Errorf("QuickAck %d", s.tcb.QuickAck)
	}
	c.Abort()
	c.Close()
	s.Close()
}

func TestCongestionOfLiveConnection(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.must(c.SetSockOpt(ptr(tcpip.CongestionControlOption("reno"))))
	c.write("x")
	if got := c.TCPInfo().Congestion; got != "reno" {
		t.Errorf("congestion %q", got)
	}
	s.read()
	c.Close()
	s.Close()
}
