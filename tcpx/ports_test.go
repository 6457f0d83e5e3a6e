package tcpx

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

func TestHeldPorts(t *testing.T) {
	a, b := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
	plain, reuse, balanced := ports.Flags{}, ports.Flags{TupleOnly: true}, ports.Flags{LoadBalanced: true}
	var h heldPorts
	h.add(netV4, a, 80, 0, plain)
	h.add(netV4, a, 80, 0, plain)
	h.add(netV4, a, 81, 0, reuse)
	h.add(netV4, a, 82, 1, plain)
	h.add(netV4, b, 83, 0, plain)
	h.add(netV4, a, 83, 0, reuse)
	for _, tt := range []struct {
		name   string
		nets   netSet
		addr   tcpip.Address
		port   uint16
		device tcpip.NICID
		flags  ports.Flags
		want   bool
	}{
		{"same address", netV4, a, 80, 0, plain, true},
		{"any address", netV4, tcpip.Address{}, 80, 0, plain, true},
		{"dual-stack", netV4 | netV6, tcpip.Address{}, 80, 0, plain, true},
		{"another address", netV4, b, 80, 0, plain, false},
		{"another port", netV4, a, 79, 0, plain, false},
		{"another protocol", netV6, tcpip.Address{}, 80, 0, plain, false},
		{"SO_REUSEADDR on one side", netV4, a, 80, 0, reuse, true},
		{"SO_REUSEADDR on the other", netV4, a, 81, 0, plain, true},
		{"SO_REUSEADDR on both", netV4, a, 81, 0, reuse, false},
		{"SO_REUSEPORT", netV4, a, 80, 0, balanced, false},
		{"same device", netV4, a, 82, 1, plain, true},
		{"another device", netV4, a, 82, 2, plain, false},
		{"all devices", netV4, a, 82, 0, plain, true},
		{"two addresses, strict", netV4, b, 83, 0, reuse, true},
		{"two addresses, not strict", netV4, a, 83, 0, reuse, false},
		{"two addresses, any", netV4, tcpip.Address{}, 83, 0, reuse, true},
	} {
		if got := h.conflict(tt.nets, tt.addr, tt.port, tt.device, tt.flags); got != tt.want {
			t.Errorf("%s: conflict %v", tt.name, got)
		}
	}
	h.remove(netV4, a, 80, 0, plain)
	if !h.conflict(netV4, a, 80, 0, plain) {
		t.Error("one of two removed: no conflict")
	}
	h.remove(netV4, a, 80, 0, plain)
	h.remove(netV4, a, 81, 0, reuse)
	h.remove(netV4, a, 82, 1, plain)
	h.remove(netV4, b, 83, 0, plain)
	if h.conflict(netV4, tcpip.Address{}, 83, 0, reuse) {
		t.Error("the strict holder is gone: conflict")
	}
	h.remove(netV4, a, 83, 0, reuse)
	if len(h.ports) != 0 {
		t.Errorf("%d ports left", len(h.ports))
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
