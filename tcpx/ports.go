package tcpx

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// heldPorts are the local ports that connections hold which did not bind them: those with an ephemeral port and those that a listener accepted. Nobody may bind such a
// port as long as there are any, unless both sides allow it. The stack's port manager could hold them as well, as stock's TCP has it do, at three maps a port.
type heldPorts struct {
	mu    sync.Mutex
	ports map[heldPort]holders
}

type heldPort struct {
	net  netSet
	port uint16
}

// holders are the connections on one port; most ports have but one local address.
type holders struct {
	first holder
	rest  []holder
}

// holder counts connections from one local address and device.
type holder struct {
	addr   tcpip.Address
	device tcpip.NICID
	// n counts them all, strict those without SO_REUSEADDR.
	n, strict int32
}

// add counts a connection from a local address and port.
func (h *heldPorts) add(net netSet, addr tcpip.Address, port uint16, device tcpip.NICID, flags ports.Flags) {
	h.change(heldPort{net, port}, addr, device, flags, 1)
}

// remove takes an add back.
func (h *heldPorts) remove(net netSet, addr tcpip.Address, port uint16, device tcpip.NICID, flags ports.Flags) {
	h.change(heldPort{net, port}, addr, device, flags, -1)
}

func (h *heldPorts) change(key heldPort, addr tcpip.Address, device tcpip.NICID, flags ports.Flags, by int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ports == nil {
		h.ports = make(map[heldPort]holders)
	}
	e := h.ports[key]
	x := e.find(addr, device)
	x.n += by
	if !flags.TupleOnly {
		x.strict += by
	}
	if e.drop(); e.first.n == 0 {
		delete(h.ports, key)
	} else {
		h.ports[key] = e
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

// conflict reports whether connections keep others from binding to a port; an empty address and device 0 mean all. SO_REUSEPORT binds beside connections, and
// so does SO_REUSEADDR if all of them have it (as stock's port manager has it).
func (h *heldPorts) conflict(nets netSet, addr tcpip.Address, port uint16, device tcpip.NICID, flags ports.Flags) bool {
	if flags.LoadBalanced {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, net := range []netSet{netV4, netV6} {
		e, ok := h.ports[heldPort{net, port}]
		if !ok || nets&net == 0 {
			continue
		}
		blocks := func(x holder) bool {
			return x.n > 0 && (addr.Len() == 0 || addr == x.addr) && (device == 0 || x.device == 0 || device == x.device) &&
				!(flags.TupleOnly && x.strict == 0)
		}
		if blocks(e.first) || slices.ContainsFunc(e.rest, blocks) {
			return true
		}
	}
	return false
}
