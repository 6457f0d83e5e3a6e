package tcpx

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// portTable knows who uses which local port. Sockets that bind reserve their port in the stack's port manager as well; connections that got their port otherwise, an
// ephemeral one or their listener's, are counted here only, since the port manager would spend three maps on each.
type portTable struct {
	mu sync.Mutex
	// bound are the ports of sockets that called Bind, held those of connections that did not; guarded by mu.
	bound, held map[portKey]holders
}

type portKey struct {
	net  netSet
	port uint16
}

// portUse is a way to use a port: with a local address, none for all, on a device, 0 for all.
type portUse struct {
	nets   netSet
	addr   tcpip.Address
	port   uint16
	device tcpip.NICID
	flags  ports.Flags
}

// holders are the sockets on one port; most ports have but one kind.
type holders struct {
	first holder
	rest  []holder
}

// holder counts sockets with one local address and device.
type holder struct {
	addr   tcpip.Address
	device tcpip.NICID
	// n counts them all, strict those without SO_REUSEADDR.
	n, strict int32
}

// bind takes a port for a socket, and reports false if connections keep it from that.
func (t *portTable) bind(u *portUse) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if conflict(t.held, u) {
		return false
	}
	t.change(&t.bound, u, 1)
	return true
}

// hold takes a port for a connection, and reports false if sockets that are bound to it keep it from that.
func (t *portTable) hold(u *portUse) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if conflict(t.bound, u) {
		return false
	}
	t.change(&t.held, u, 1)
	return true
}

// share is hold for a connection of a listener, which has the port itself.
func (t *portTable) share(u *portUse) {
	t.mu.Lock()
	t.change(&t.held, u, 1)
	t.mu.Unlock()
}

// rebind is bind for a socket that has the port already.
func (t *portTable) rebind(u *portUse) {
	t.mu.Lock()
	t.change(&t.bound, u, 1)
	t.mu.Unlock()
}

// unbind and unhold give a port back.
func (t *portTable) unbind(u *portUse) {
	t.mu.Lock()
	t.change(&t.bound, u, -1)
	t.mu.Unlock()
}

func (t *portTable) unhold(u *portUse) {
	t.mu.Lock()
	t.change(&t.held, u, -1)
	t.mu.Unlock()
}

// change counts a use up or down. The caller holds t.mu.
func (t *portTable) change(m *map[portKey]holders, u *portUse, by int32) {
	if *m == nil {
		*m = make(map[portKey]holders)
	}
	for _, net := range []netSet{netV4, netV6} {
		if u.nets&net == 0 {
			continue
		}
		key := portKey{net, u.port}
		e := (*m)[key]
		x := e.find(u.addr, u.device)
		x.n += by
		if !u.flags.TupleOnly {
			x.strict += by
		}
		if e.drop(); e.first.n == 0 {
			delete(*m, key)
		} else {
			(*m)[key] = e
		}
	}
}

// drop forgets holders of nothing.
func (e *holders) drop() {
	e.rest = slices.DeleteFunc(e.rest, func(x holder) bool { return x.n == 0 })
	if e.first.n == 0 && len(e.rest) > 0 {
		e.first, e.rest = e.rest[0], e.rest[1:]
	}
	if len(e.rest) == 0 {
		e.rest = nil
	}
}

// find returns the holder for an address and device, a new one if there is none.
func (e *holders) find(addr tcpip.Address, device tcpip.NICID) *holder {
	if e.first.n == 0 {
		e.first = holder{addr: addr, device: device}
	}
	if e.first.addr == addr && e.first.device == device {
		return &e.first
	}
	for i := range e.rest {
		if x := &e.rest[i]; x.addr == addr && x.device == device {
			return x
		}
	}
	e.rest = append(e.rest, holder{addr: addr, device: device})
	return &e.rest[len(e.rest)-1]
}

// conflict reports whether the users of a port in m rule a use out. SO_REUSEPORT does not mind them, and neither does SO_REUSEADDR if all of them have it (as
// stock's port manager has it).
func conflict(m map[portKey]holders, u *portUse) bool {
	if u.flags.LoadBalanced {
		return false
	}
	blocks := func(x holder) bool {
		return x.n > 0 && (u.addr.Len() == 0 || x.addr.Len() == 0 || u.addr == x.addr) && (u.device == 0 || x.device == 0 || u.device == x.device) &&
			!(u.flags.TupleOnly && x.strict == 0)
	}
	for _, net := range []netSet{netV4, netV6} {
		if u.nets&net == 0 {
			continue
		}
		if e, ok := m[portKey{net, u.port}]; ok && (blocks(e.first) || slices.ContainsFunc(e.rest, blocks)) {
			return true
		}
	}
	return false
}
