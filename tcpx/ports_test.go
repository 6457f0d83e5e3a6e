package tcpx

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

func TestPortTable(t *testing.T) {
	a, b := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
	var none tcpip.Address
	plain, reuse, balanced := ports.Flags{}, ports.Flags{TupleOnly: true}, ports.Flags{LoadBalanced: true}
	held := []portUse{
		{netV4, a, 80, 0, plain}, {netV4, a, 80, 0, plain}, {netV4, a, 81, 0, reuse}, {netV4, a, 82, 1, plain}, {netV4, b, 83, 0, plain}, {netV4, a, 83, 0, reuse},
	}
	for _, tt := range []struct {
		name string
		use  portUse
		want bool
	}{
		{"same address", portUse{netV4, a, 80, 0, plain}, true},
		{"any address", portUse{netV4, none, 80, 0, plain}, true},
		{"dual-stack", portUse{netV4 | netV6, none, 80, 0, plain}, true},
		{"another address", portUse{netV4, b, 80, 0, plain}, false},
		{"another port", portUse{netV4, a, 79, 0, plain}, false},
		{"another protocol", portUse{netV6, none, 80, 0, plain}, false},
		{"SO_REUSEADDR on one side", portUse{netV4, a, 80, 0, reuse}, true},
		{"SO_REUSEADDR on the other", portUse{netV4, a, 81, 0, plain}, true},
		{"SO_REUSEADDR on both", portUse{netV4, a, 81, 0, reuse}, false},
		{"SO_REUSEPORT", portUse{netV4, a, 80, 0, balanced}, false},
		{"same device", portUse{netV4, a, 82, 1, plain}, true},
		{"another device", portUse{netV4, a, 82, 2, plain}, false},
		{"all devices", portUse{netV4, a, 82, 0, plain}, true},
		{"two addresses, strict", portUse{netV4, b, 83, 0, reuse}, true},
		{"two addresses, not strict", portUse{netV4, a, 83, 0, reuse}, false},
		{"two addresses, any", portUse{netV4, none, 83, 0, reuse}, true},
	} {
		var p portTable
		for _, u := range held {
			p.share(&u)
		}
		if ok := p.bind(&tt.use); ok == tt.want {
			t.Errorf("%s: binding beside connections %v", tt.name, ok)
		} else if ok {
			p.unbind(&tt.use)
		}
		// What rules out binding beside a connection rules out connecting beside a bound socket.
		var q portTable
		for _, u := range held {
			if !q.bind(&u) {
				t.Fatal("bound sockets conflict; that is the port manager's business")
			}
		}
		if ok := q.hold(&tt.use); ok == tt.want {
			t.Errorf("%s: connecting beside bound sockets %v", tt.name, ok)
		} else if ok {
			q.unhold(&tt.use)
		}
		for i := range held { // In another order than they came.
			u := held[(i*5+3)%len(held)]
			p.unhold(&u)
			q.unbind(&u)
		}
		if n := len(p.held) + len(p.bound) + len(q.held) + len(q.bound); n != 0 {
			t.Fatalf("%s: %d ports left", tt.name, n)
		}
	}
	var p portTable
	p.bind(&portUse{netV4 | netV6, none, 80, 0, plain})
	if p.hold(&portUse{netV6, a, 80, 0, plain}) || p.hold(&portUse{netV4, a, 80, 1, plain}) {
		t.Error("connected from a port that is bound for all addresses")
	}
}

// A port that a connection got by itself cannot be bound by others while it lasts.
func TestEphemeralPortIsHeld(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	x := w.a.socket(0x800)
	x.want(x.Bind(c.local()), &tcpip.ErrPortInUse{})
	any := tcpip.FullAddress{Port: c.local().Port}
	x.want(x.Bind(any), &tcpip.ErrPortInUse{})
	c.Abort()
	x.must(x.Bind(any))
	// And an ephemeral port is none that somebody has bound.
	if err := w.a.stack.SetPortRange(any.Port, any.Port); err != nil {
		t.Fatal(err)
	}
	y := w.a.socket(0x800)
	y.want(y.Connect(w.b.at(80)), &tcpip.ErrNoPortAvailable{})
	for _, e := range []*socket{c, s, x, y} {
		e.Close()
	}
}
