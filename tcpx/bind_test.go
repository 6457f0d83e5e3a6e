package tcpx

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

func TestBind(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	s.want(s.Bind(w.b.at(80)), &tcpip.ErrBadLocalAddress{})
	s.want(s.Bind(tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{224, 0, 0, 1}), Port: 80}), &tcpip.ErrBadLocalAddress{})
	s.want(s.Bind(w.a.at6(80)), &tcpip.ErrAddressFamilyNotSupported{})
	s.state(tcp.StateInitial)
	s.must(s.Bind(w.a.at(0)))
	s.state(tcp.StateBound)
	if a := s.local(); a.Addr != w.a.v4 || a.Port < 16000 {
		t.Errorf("bound to %v", a)
	}
	s.want(s.Bind(w.a.at(81)), &tcpip.ErrAlreadyBound{})
	other := w.a.socket(ipv4.ProtocolNumber)
	other.want(other.Bind(s.local()), &tcpip.ErrPortInUse{})
	port := s.local()
	s.Close()
	other.must(other.Bind(port))
	other.Close()
	if n := w.a.stack.Stats().TCP.FailedPortReservations.Value(); n != 1 {
		t.Errorf("%d failed reservations", n)
	}
}

// Everything that is reserved is given back: the same ports can be taken again, whatever the sockets went through.
func TestPortsAreGivenBack(t *testing.T) {
	w := newWorld(t)
	any := tcpip.FullAddress{Port: 5000}
	for _, tt := range []struct {
		name string
		net  tcpip.NetworkProtocolNumber
		use  func(s *socket)
	}{
		{"bound", ipv4.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)) }},
		{"bound dual", ipv6.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)) }},
		{"listening", ipv4.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)); s.must(s.Listen(1)) }},
		{"connected from any", ipv4.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)); s.Connect(w.b.at(80)) }},
		{"connected from dual to v6", ipv6.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)); s.Connect(w.b.at6(80)) }},
		{"connected from dual to v4", ipv6.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)); s.Connect(w.b.at(80)) }},
		{"refused", ipv4.ProtocolNumber, func(s *socket) { s.must(s.Bind(any)); s.Connect(w.b.at(1)) }},
		{"no route", ipv4.ProtocolNumber, func(s *socket) {
			s.must(s.Bind(any))
			s.want(s.Connect(tcpip.FullAddress{Addr: header.IPv4Broadcast, Port: 1}), &tcpip.ErrNetworkUnreachable{})
			s.state(tcp.StateBound)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := w.b.socket(ipv6.ProtocolNumber)
			l.must(l.Bind(tcpip.FullAddress{Port: 80}))
			l.must(l.Listen(5))
			s := w.a.socket(tt.net)
			tt.use(s)
			s.Abort()
			s.Close()
			l.Close()
			for _, net := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
				again := w.a.socket(net)
				again.ops.SetV6Only(true)
				again.must(again.Bind(any))
				again.Close()
			}
			if n := len(w.a.stack.RegisteredEndpoints()); n != 0 {
				t.Errorf("%d endpoints left", n)
			}
		})
	}
}

// A dual-stack socket that has connected over one protocol leaves its port to others over the other.
func TestDualStackPortAfterConnect(t *testing.T) {
	w := newWorld(t)
	l := w.b.socket(ipv6.ProtocolNumber)
	l.must(l.Bind(tcpip.FullAddress{Port: 80}))
	l.must(l.Listen(5))
	s := w.a.socket(ipv6.ProtocolNumber)
	s.must(s.Bind(tcpip.FullAddress{Port: 5000}))
	s.want(s.Connect(w.b.at6(80)), &tcpip.ErrConnectStarted{})
	four := w.a.socket(ipv4.ProtocolNumber)
	four.must(four.Bind(tcpip.FullAddress{Port: 5000}))
	six := w.a.socket(ipv6.ProtocolNumber)
	six.ops.SetV6Only(true)
	six.want(six.Bind(tcpip.FullAddress{Port: 5000}), &tcpip.ErrPortInUse{})
	for _, x := range []*socket{l, s, four, six} {
		x.Close()
	}
	w.run(5 * time.Minute)
}

func TestReuse(t *testing.T) {
	for _, tt := range []struct {
		name         string
		addr, port   bool // SO_REUSEADDR, SO_REUSEPORT
		bind, listen tcpip.Error
	}{
		{"none", false, false, &tcpip.ErrPortInUse{}, nil},
		{"address", true, false, &tcpip.ErrPortInUse{}, nil}, // Not beside a listener.
		{"port", false, true, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			var s [2]*socket
			for i := range s {
				s[i] = w.b.socket(ipv4.ProtocolNumber)
				s[i].ops.SetReuseAddress(tt.addr)
				s[i].ops.SetReusePort(tt.port)
			}
			s[0].must(s[0].Bind(tcpip.FullAddress{Port: 80}))
			s[0].must(s[0].Listen(50))
			s[1].want(s[1].Bind(tcpip.FullAddress{Port: 80}), tt.bind)
			if tt.bind == nil {
				s[1].want(s[1].Listen(50), tt.listen)
				for range 40 {
					w.a.dial(w.b.at(80)).Close()
				}
				if a, b := s[0].lst.ready.n, s[1].lst.ready.n; a == 0 || b == 0 || a+b != 40 {
					t.Errorf("connections were spread %d to %d", a, b)
				}
			}
			s[0].Close()
			s[1].Close()
			w.run(5 * time.Minute)
		})
	}
}

// A server that restarts with SO_REUSEADDR gets its port beside connections of the old one in TIME-WAIT; without it does not.
func TestRestart(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		w := newWorld(t)
		l := w.b.socket(ipv4.ProtocolNumber)
		l.ops.SetReuseAddress(reuse)
		l.must(l.Bind(tcpip.FullAddress{Port: 80}))
		l.must(l.Listen(5))
		c := w.a.dial(w.b.at(80))
		s := l.accept()
		s.Close()
		c.Close()
		s.state(tcp.StateTimeWait)
		l.Close()
		again := w.b.socket(ipv4.ProtocolNumber)
		again.ops.SetReuseAddress(reuse)
		err := again.Bind(tcpip.FullAddress{Port: 80})
		if (err == nil) != reuse {
			t.Errorf("SO_REUSEADDR %v: %v", reuse, err)
		}
		again.Close()
		w.run(5 * time.Minute)
	}
}

func TestBindToDevice(t *testing.T) {
	w := newWorld(t)
	s := w.a.socket(ipv4.ProtocolNumber)
	s.want(s.ops.SetBindToDevice(9), &tcpip.ErrUnknownDevice{})
	s.must(s.ops.SetBindToDevice(2)) // The loopback device does not lead to b.
	s.want(s.Connect(w.b.at(80)), &tcpip.ErrNetworkUnreachable{})
	s.must(s.ops.SetBindToDevice(1))
	s.want(s.Connect(w.b.at(80)), &tcpip.ErrConnectStarted{})
	s.Close()
	l := w.b.socket(ipv4.ProtocolNumber)
	l.must(l.ops.SetBindToDevice(2))
	l.must(l.Bind(tcpip.FullAddress{Port: 80}))
	l.must(l.Listen(1))
	c := w.a.dial(w.b.at(80))
	c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
	c.Close()
	l.Close()
}

// RFC 9293 MUST-46: no connection to what is not one peer.
func TestConnectToMany(t *testing.T) {
	w := newWorld(t)
	for _, a := range []tcpip.Address{
		header.IPv4Broadcast, tcpip.AddrFrom4([4]byte{224, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 255}),
	} {
		s := w.a.socket(ipv4.ProtocolNumber)
		s.want(s.Connect(tcpip.FullAddress{Addr: a, Port: 80}), &tcpip.ErrNetworkUnreachable{})
		s.state(tcp.StateInitial)
		s.Close()
	}
	s := w.a.socket(ipv6.ProtocolNumber)
	s.want(s.Connect(tcpip.FullAddress{Addr: header.IPv6AllNodesMulticastAddress, Port: 80}), &tcpip.ErrNetworkUnreachable{})
	s.Close()
	if n := len(w.a.wire.log); n != 0 {
		t.Logf("%d packets left (neighbour discovery)", n)
	}
}

// RFC 6191: an ephemeral port whose connection is in TIME-WAIT is used again if the protocol option allows, after a second.
func TestEphemeralPortFromTimeWait(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  tcpip.TCPTimeWaitReuseOption
		wait time.Duration
		want tcpip.Error
	}{
		{"disabled", tcpip.TCPTimeWaitReuseDisabled, 2 * time.Second, &tcpip.ErrNoPortAvailable{}},
		{"too early", tcpip.TCPTimeWaitReuseGlobal, 0, &tcpip.ErrNoPortAvailable{}},
		{"global", tcpip.TCPTimeWaitReuseGlobal, 2 * time.Second, &tcpip.ErrConnectStarted{}},
		{"loopback only", tcpip.TCPTimeWaitReuseLoopbackOnly, 2 * time.Second, &tcpip.ErrNoPortAvailable{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.a.stack.SetTransportProtocolOption(ProtocolNumber, &tt.how); err != nil {
				t.Fatal(err)
			}
			if err := w.a.stack.SetPortRange(20000, 20000); err != nil {
				t.Fatal(err)
			}
			l := w.b.listen(80, 10)
			c := w.a.dial(w.b.at(80))
			c.Close()
			l.accept().Close()
			c.state(tcp.StateTimeWait)
			w.run(tt.wait)
			d := w.a.socket(ipv4.ProtocolNumber)
			d.want(d.Connect(w.b.at(80)), tt.want)
			d.Close()
			l.Close()
			w.run(5 * time.Minute)
		})
	}
}
