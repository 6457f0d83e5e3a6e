package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// binding is what an endpoint holds of the stack's ports and of its demultiplexer. What is reserved or registered is remembered as it was at that time, so
// that exactly this is given back.
type binding struct {
	// device is SO_BINDTODEVICE when the port was reserved.
	device tcpip.NICID
	// nic is the NIC of the local address, 0 if it does not matter.
	nic tcpip.NICID
	// flags are SO_REUSEADDR and SO_REUSEPORT as set now; held is what they were when the port was reserved.
	flags, held ports.Flags
	// nets are the network protocols in use, reservedNets those of the port reservation.
	nets, reservedNets netSet
	// reserved tells that the socket has bound the port, for any local address if anyAddr is set; holding that a connection has it otherwise.
	reserved, anyAddr, holding bool
	registered                 bool
}

// netSet is a set of network protocols.
type netSet uint8

const (
	netV4 netSet = 1 << iota
	netV6
)

var netNumbers = [...][]tcpip.NetworkProtocolNumber{
	netV4:         {header.IPv4ProtocolNumber},
	netV6:         {header.IPv6ProtocolNumber},
	netV4 | netV6: {header.IPv6ProtocolNumber, header.IPv4ProtocolNumber},
}

func netOf(n tcpip.NetworkProtocolNumber) netSet {
	if n == header.IPv4ProtocolNumber {
		return netV4
	}
	return netV6
}

// numbers returns the protocol numbers; the slice is shared and must not be changed.
func (n netSet) numbers() []tcpip.NetworkProtocolNumber { return netNumbers[n] }

// reservation describes the port reservation that e holds or is about to make. The caller holds e.mu.
func (e *Endpoint) reservation() ports.Reservation {
	b := &e.bound
	r := ports.Reservation{
		Networks:     b.reservedNets.numbers(),
		Transport:    ProtocolNumber,
		Port:         e.id.LocalPort,
		Flags:        b.held,
		BindToDevice: b.device,
	}
	if !b.anyAddr {
		r.Addr = e.id.LocalAddress
	}
	return r
}

// reservedUse is what reservation is for the protocol's own table.
func (e *Endpoint) reservedUse() portUse {
	u := portUse{nets: e.bound.reservedNets, port: e.id.LocalPort, device: e.bound.device, flags: e.bound.held}
	if !e.bound.anyAddr {
		u.addr = e.id.LocalAddress
	}
	return u
}

// heldUse is how a connection that did not bind uses its port. The caller holds e.mu.
func (e *Endpoint) heldUse() portUse {
	return portUse{nets: e.bound.nets, addr: e.id.LocalAddress, port: e.id.LocalPort, device: e.bound.device, flags: e.bound.held}
}

// releasePort gives the port back. The caller holds e.mu.
func (e *Endpoint) releasePort() {
	if e.bound.reserved {
		e.bound.reserved = false
		u := e.reservedUse()
		e.proto.ports.unbind(&u)
		e.proto.stack.ReleasePort(e.reservation())
	}
	if e.bound.holding {
		e.bound.holding = false
		u := e.heldUse()
		e.proto.ports.unhold(&u)
	}
}

// register makes the demultiplexer deliver to e what matches its ID. The caller holds e.mu.
func (e *Endpoint) register() tcpip.Error {
	b := &e.bound
	err := e.proto.stack.RegisterTransportEndpoint(b.nets.numbers(), ProtocolNumber, e.id, e, b.held, b.device)
	b.registered = err == nil
	return err
}

// unregister is the opposite. The caller holds e.mu.
func (e *Endpoint) unregister() {
	if b := &e.bound; b.registered {
		e.proto.stack.UnregisterTransportEndpoint(b.nets.numbers(), ProtocolNumber, e.id, e, b.held, b.device)
		b.registered = false
	}
}

// canonical returns the network protocol to use for addr and addr itself without v4-mapping. The caller holds e.mu.
func (e *Endpoint) canonical(addr tcpip.FullAddress, bind bool) (tcpip.FullAddress, tcpip.NetworkProtocolNumber, tcpip.Error) {
	info := e.infoLocked()
	addr, net, err := info.AddrNetProtoLocked(addr, e.ops.GetV6Only(), bind)
	if err == nil && addr.Addr.Len() != 0 && (addr.Addr.Len() == header.IPv4AddressSize) != (net == header.IPv4ProtocolNumber) {
		return addr, net, &tcpip.ErrAddressFamilyNotSupported{}
	}
	return addr, net, err
}

// Bind implements tcpip.Endpoint.Bind. Port 0 chooses an ephemeral port. Besides the stack's errors it returns ErrAlreadyBound for a socket that is not new,
// ErrBadLocalAddress for an address that is not one of the stack's, and ErrPortInUse.
func (e *Endpoint) Bind(addr tcpip.FullAddress) tcpip.Error {
	e.lock()
	defer e.leave()
	return e.bind(addr)
}

// bind is Bind for a caller that holds e.mu.
func (e *Endpoint) bind(addr tcpip.FullAddress) tcpip.Error {
	if e.phase != phaseInitial {
		return &tcpip.ErrAlreadyBound{}
	}
	addr, net, err := e.canonical(addr, true)
	if err != nil {
		return err
	}
	b := &e.bound
	b.nets = netOf(net)
	if net == header.IPv6ProtocolNumber && addr.Addr.Len() == 0 && !e.ops.GetV6Only() && e.proto.stack.CheckNetworkProtocol(header.IPv4ProtocolNumber) {
		b.nets |= netV4
	}
	if b.anyAddr = addr.Addr.Len() == 0; !b.anyAddr {
		if b.nic = e.proto.stack.CheckLocalAddress(addr.NIC, net, addr.Addr); b.nic == 0 {
			return &tcpip.ErrBadLocalAddress{}
		}
		e.id.LocalAddress = addr.Addr
	}
	b.reservedNets, b.held, b.device = b.nets, b.flags, tcpip.NICID(e.ops.GetBindToDevice())
	e.id.LocalPort = addr.Port
	_, err = e.proto.stack.ReservePort(e.proto.stack.SecureRNG(), e.reservation(), func(port uint16) (bool, tcpip.Error) {
		e.id.LocalPort = port
		// A listener on the same port may be bound to it under flags that rule this socket out.
		if e.proto.stack.CheckRegisterTransportEndpoint(b.nets.numbers(), ProtocolNumber, e.id, b.held, b.device) != nil {
			return false, nil
		}
		u := e.reservedUse()
		return e.proto.ports.bind(&u), nil
	})
	if err != nil {
		e.id.LocalPort, e.id.LocalAddress = 0, tcpip.Address{}
		e.proto.tcpStats.FailedPortReservations.Increment()
		return err
	}
	b.reserved = true
	e.phase = phaseBound
	return nil
}

// GetLocalAddress implements tcpip.Endpoint.GetLocalAddress.
func (e *Endpoint) GetLocalAddress() (tcpip.FullAddress, tcpip.Error) {
	e.lock()
	defer e.leave()
	return tcpip.FullAddress{Addr: e.id.LocalAddress, Port: e.id.LocalPort, NIC: e.bound.nic}, nil
}

// GetRemoteAddress implements tcpip.Endpoint.GetRemoteAddress. It returns ErrNotConnected unless there is a peer.
func (e *Endpoint) GetRemoteAddress() (tcpip.FullAddress, tcpip.Error) {
	e.lock()
	defer e.leave()
	if !e.usable(e.stateLocked()) && e.phase != phaseDeferred {
		return tcpip.FullAddress{}, &tcpip.ErrNotConnected{}
	}
	return e.remoteAddress(), nil
}

func (e *Endpoint) remoteAddress() tcpip.FullAddress {
	return tcpip.FullAddress{Addr: e.id.RemoteAddress, Port: e.id.RemotePort, NIC: e.bound.nic}
}
