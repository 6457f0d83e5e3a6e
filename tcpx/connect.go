package tcpx

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

const (
	// minMSS and maxMSS bound TCP_MAXSEG.
	minMSS = header.TCPMinimumMSS
	// leastRoom is what options and text have in a packet at least: all options and one fragment's least. On a link with an MTU below 88 IP cuts such packets.
	leastRoom = 48
	maxMSS    = header.TCPMaximumMSS
	// gsoHeaders is what a super-segment must leave free below the 65535 octets of an IP packet: the longest TCP header and an IPv6 header.
	gsoHeaders = 60 + header.IPv6MinimumSize
)

// Connect implements tcpip.Endpoint.Connect: an active OPEN (RFC 9293 §3.10.1). It returns ErrConnectStarted when the SYN is on its way. An unspecified address
// means the loopback address, a multicast or broadcast address is refused with ErrNetworkUnreachable (MUST-46).
func (e *Endpoint) Connect(addr tcpip.FullAddress) tcpip.Error {
	e.lock()
	defer e.leave()
	err := e.connect(addr)
	if err != nil {
		e.connectFailed(err)
	}
	return err
}

// connectFailed counts an attempt to connect that ended with err. The caller holds e.mu.
func (e *Endpoint) connectFailed(err tcpip.Error) {
	if !err.IgnoreStats() {
		e.proto.tcpStats.FailedConnectionAttempts.Increment()
		e.statistics().FailedConnectionAttempts.Increment()
	}
}

func (e *Endpoint) connect(addr tcpip.FullAddress) tcpip.Error {
	switch state := e.stateLocked(); {
	case e.usable(state):
		if !e.connectNotified {
			e.connectNotified = true
			return nil
		}
		return &tcpip.ErrAlreadyConnected{}
	case e.phase == phaseDeferred:
		return &tcpip.ErrAlreadyConnected{}
	case connecting(state):
		return &tcpip.ErrAlreadyConnecting{}
	case state == tcp.StateError:
		if err := e.takeHardError(); err != nil {
			return err
		}
		return &tcpip.ErrConnectionAborted{}
	}
	if err := e.prepare(addr); err != nil {
		return err
	}
	if e.fastOptions().connect {
		if e.defersConnect() {
			e.phase = phaseDeferred
			e.connectNotified = true
			return nil
		}
		if _, err := e.start(noText{}); err != nil {
			return err
		}
		return &tcpip.ErrConnectStarted{}
	}
	if _, err := e.start(nil); err != nil {
		return err
	}
	return &tcpip.ErrConnectStarted{}
}

// prepare gives a socket that has no peer all that it needs for an active OPEN: addresses, ports and a route. The caller holds e.mu.
func (e *Endpoint) prepare(addr tcpip.FullAddress) tcpip.Error {
	addr, net, err := e.canonical(addr, false)
	if err != nil {
		return err
	}
	if e.phase != phaseInitial && e.phase != phaseBound {
		return &tcpip.ErrInvalidEndpointState{}
	}
	nic := addr.NIC
	if nic == 0 {
		nic = tcpip.NICID(e.ops.GetBindToDevice())
	}
	if e.bound.nic != 0 {
		// Bound to an address: the route must leave from where that is.
		if nic != 0 && nic != e.bound.nic {
			return &tcpip.ErrHostUnreachable{}
		}
		nic = e.bound.nic
	}
	if !unicast(addr.Addr) {
		return &tcpip.ErrNetworkUnreachable{}
	}
	route, err := e.proto.stack.FindRoute(nic, e.id.LocalAddress, addr.Addr, net, false)
	if err != nil {
		return err
	}
	if route.IsOutboundBroadcast() {
		route.Release()
		return &tcpip.ErrNetworkUnreachable{}
	}
	if err := e.claim(route, addr); err != nil {
		route.Release()
		return err
	}
	e.setRoute(route)
	return nil
}

// claim gives e its addresses and ports and registers it. On an error e is as before. The caller holds e.mu.
func (e *Endpoint) claim(route *stack.Route, addr tcpip.FullAddress) tcpip.Error {
	oldID, oldBound := e.id, e.bound
	id := &e.id
	id.LocalAddress, id.RemoteAddress, id.RemotePort = route.LocalAddress(), route.RemoteAddress(), addr.Port
	e.bound.nets = netOf(route.NetProto())
	var err tcpip.Error
	if oldBound.reserved {
		err = e.register()
	} else {
		err = e.pickPort(route)
	}
	if err != nil {
		e.id, e.bound = oldID, oldBound
		if _, inUse := err.(*tcpip.ErrPortInUse); inUse {
			return &tcpip.ErrBadLocalAddress{}
		}
		return err
	}
	if other := e.bound.reservedNets &^ e.bound.nets; other != 0 {
		// A dual-stack socket has decided: the other protocol's port is free for others.
		r, u := e.reservation(), e.reservedUse()
		r.Networks, u.nets = other.numbers(), other
		e.proto.stack.ReleasePort(r)
		e.proto.ports.unbind(&u)
		e.bound.reservedNets = e.bound.nets
	}
	if e.bound.nic == 0 && addr.NIC != 0 {
		e.bound.nic = addr.NIC
	}
	return nil
}

// pickPort takes an ephemeral port and registers e with it (RFC 6056 §3.3.1); connections to different peers may share one. The caller holds e.mu.
func (e *Endpoint) pickPort(route *stack.Route) tcpip.Error {
	b, id := &e.bound, &e.id
	b.held, b.device = b.flags, tcpip.NICID(e.ops.GetBindToDevice())
	self := id.LocalAddress == id.RemoteAddress
	reuse := e.reusesTimeWait(route.NetProto())
	rng := e.proto.stack.SecureRNG()
	try := func(port uint16) (bool, tcpip.Error) {
		if self && port == id.RemotePort {
			return false, nil // Nobody asked to talk to themselves.
		}
		id.LocalPort = port
		u := e.heldUse()
		if !e.proto.ports.hold(&u) {
			return false, nil // Somebody is bound to it.
		}
		b.holding = true
		err := e.register()
		if _, inUse := err.(*tcpip.ErrPortInUse); inUse && reuse && e.recycle(route) {
			err = e.register()
		}
		if err != nil {
			e.releasePort()
			if _, inUse := err.(*tcpip.ErrPortInUse); inUse {
				return false, nil
			}
			return false, err
		}
		return true, nil
	}
	if _, err := e.proto.stack.PickEphemeralPort(rng, try); err != nil {
		e.proto.tcpStats.FailedPortReservations.Increment()
		return err
	}
	return nil
}

// timeWaitRest is how long a connection stays in TIME-WAIT before its port is used again: the timestamp clock must have moved on (RFC 6191 §2).
const timeWaitRest = time.Second

// recycle ends the TIME-WAIT of the connection with the ID that e wants, if there is one that is old enough. The caller holds e.mu.
func (e *Endpoint) recycle(route *stack.Route) bool {
	t := e.proto.stack.FindTransportEndpoint(route.NetProto(), ProtocolNumber, e.id, route.NICID())
	old, ok := t.(*Endpoint)
	if !ok || old == e || !old.tryLock() {
		return false
	}
	defer old.leave()
	if !old.inTimeWait || old.id != e.id || e.proto.now()-old.timeWaitAt < timeWaitRest {
		return false
	}
	old.forgetTimeWait()
	return true
}

// reusesTimeWait tells whether e may take the port of a connection in TIME-WAIT. The caller holds e.mu.
func (e *Endpoint) reusesTimeWait(net tcpip.NetworkProtocolNumber) bool {
	e.proto.mu.RLock()
	how := e.proto.opts.timeWaitReuse
	e.proto.mu.RUnlock()
	if e.extra != nil && e.extra.timeWaitReuse != nil {
		how = *e.extra.timeWaitReuse
	}
	switch how {
	case tcpip.TCPTimeWaitReuseGlobal:
		return true
	case tcpip.TCPTimeWaitReuseLoopbackOnly:
		id := &e.id
		if net == header.IPv4ProtocolNumber {
			return header.IsV4LoopbackAddress(id.LocalAddress) && header.IsV4LoopbackAddress(id.RemoteAddress)
		}
		return id.LocalAddress == header.IPv6Loopback && id.RemoteAddress == header.IPv6Loopback
	}
	return false
}

// setRoute makes e use a route, which it owns from now on. The caller holds e.mu.
func (e *Endpoint) setRoute(r *stack.Route) {
	e.route = r
	e.gso = routeGSO(r)
}

// currentConfig returns the configuration for a connection about to be opened.
func (e *Endpoint) currentConfig() *tcb.Config {
	if e.extra != nil && e.extra.config != nil {
		return e.extra.config
	}
	return e.proto.config()
}

// openParams describes the connection that e is about to open. The caller holds e.mu.
func (e *Endpoint) openParams(now tcb.Time) tcb.OpenParams {
	p := tcb.OpenParams{
		ISS:        e.proto.isn(&e.id, now),
		TSOffset:   e.proto.timestampOffset(&e.id),
		MTUPayload: e.pathPayload(),
		DefaultMSS: header.TCPDefaultMSS,
		UserMSS:    int(e.userMSS),
		Steps:      e.proto.smaller,
	}
	if e.route.NetProto() == header.IPv6ProtocolNumber {
		p.DefaultMSS = header.IPv6MinimumMTU - header.IPv6MinimumSize - header.TCPMinimumSize
		p.Steps = e.proto.smaller6
	}
	p.AdvertisedMSS = e.proto.advertisedMSS(e.route, e.userMSS)
	if e.gso != gsoNone {
		p.GSOMax = min(int(e.route.GSOMaxSize()), 65535) - gsoHeaders
	}
	return p
}

// newController returns a new controller by name. The name was checked when it was set, and algorithms are never unregistered.
func newController(name string) congestion.Controller {
	if c, ok := congestion.New(name); ok {
		return c
	}
	return reno.New()
}

// mtuPayload is the room for options and text in a packet of the route. Route.MTU is without the IP header already.
func mtuPayload(r *stack.Route) int {
	return max(int(r.MTU())-header.TCPMinimumSize, header.IPv4MinimumMTU-header.IPv4MinimumSize-header.TCPMinimumSize)
}

// advertisedMSS is what our SYN announces (RFC 9293 §3.7.1): without IP and TCP options, as RFC 6691 has it.
func (p *protocol) advertisedMSS(r *stack.Route, user uint16) uint16 {
	m := min(mtuPayload(r), 65535-int(ipHeader(r.NetProto()))-header.TCPMinimumSize, p.announcedPayload(r))
	if user != 0 {
		m = min(m, int(user))
	}
	return uint16(m)
}

// ConnectEndpoint is not supported: a TCP socket connects to an address.
func (*Endpoint) ConnectEndpoint(tcpip.Endpoint) tcpip.Error { return &tcpip.ErrInvalidEndpointState{} }

// Disconnect implements tcpip.Endpoint.Disconnect, which TCP does not support.
func (*Endpoint) Disconnect() tcpip.Error { return &tcpip.ErrNotSupported{} }

// Shutdown implements tcpip.Endpoint.Shutdown. Shutting down the write side is CLOSE (RFC 9293 §3.10.4): FIN follows what is queued. Shutting down the read side
// discards what comes. On a listener the read side is the accept queue.
func (e *Endpoint) Shutdown(flags tcpip.ShutdownFlags) tcpip.Error {
	e.lock()
	if e.phase == phaseListen {
		if flags&tcpip.ShutdownRead == 0 {
			e.leave()
			return nil
		}
		e.leave()
		e.lst.reset(true)
		e.waiterQueue.Notify(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
		return nil
	}
	defer e.leave()
	now := e.proto.now()
	state := e.stateLocked()
	if e.phase == phaseDeferred {
		e.cleanup()
		return nil
	}
	usable := e.usable(state) || flags&tcpip.ShutdownWrite != 0 && e.tcb.TextOnSYN()
	if connecting(state) && !usable {
		e.tcb.Abort(now, tcb.ReasonReset)
		e.collect()
		return nil
	}
	if !usable {
		return &tcpip.ErrNotConnected{}
	}
	if flags&tcpip.ShutdownRead != 0 && !e.shutRead {
		e.shutRead = true
		e.tcb.ShutdownRead()
		e.events |= tcb.EventReadable
		if flags&tcpip.ShutdownWrite == 0 && !e.shutWrite {
			e.events |= tcb.EventReadHangup
		}
	}
	if flags&tcpip.ShutdownWrite != 0 {
		if e.shutWrite && state == tcp.StateTimeWait {
			e.collect()
			return &tcpip.ErrNotConnected{}
		}
		if !e.shutWrite {
			e.shutWrite = true
			e.tcb.ShutdownWrite(now)
			e.events |= tcb.EventWritable
		}
	}
	e.collect()
	return nil
}

// Close implements tcpip.Endpoint.Close. The connection ends gracefully behind the scenes (RFC 9293 §3.6), unless SO_LINGER with a time of 0 asks for
// an abort or there is data that nobody has read (§3.6.1): then it is reset. Calls after the first do nothing.
func (e *Endpoint) Close() {
	e.lock()
	if e.closed {
		e.leave()
		return
	}
	e.closed = true
	lst := e.close()
	e.leave()
	if lst != nil {
		lst.reset(true)
	}
	if s := e.State(); s == uint32(tcp.StateClose) || s == uint32(tcp.StateError) {
		e.waiterQueue.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	}
}

// close is Close for a caller that holds e.mu. It returns the listener, if e is one, whose connections the caller resets once it has let go of e.mu.
func (e *Endpoint) close() *listener {
	now := e.proto.now()
	switch e.phase {
	case phaseListen:
		e.cleanup()
		return e.lst
	case phaseInitial, phaseBound, phaseDeferred:
		e.cleanup()
		return nil
	case phaseClosed:
		e.tcb.Release(now) // What is unread is for nobody.
		return nil
	}
	e.shutRead, e.shutWrite = true, true
	linger := e.ops.GetLinger()
	if linger.Enabled && linger.Timeout == 0 {
		e.tcb.Abort(now, tcb.ReasonAborted)
	} else {
		e.tcb.Release(now)
	}
	e.collect()
	if e.phase == phaseClosed {
		return nil
	}
	if e.tcb.State() == tcb.StateTimeWait {
		tcpip.AddDanglingEndpoint(e)
		return nil
	}
	if e.proto.orphans.Load() >= e.proto.orphanLimit() {
		e.proto.stats.OrphansReset.Increment()
		e.tcb.Abort(now, tcb.ReasonAborted)
		e.collect()
		return nil
	}
	tcpip.AddDanglingEndpoint(e)
	e.orphanLocked()
	return nil
}

func (p *protocol) orphanLimit() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.opts.orphanLimit
}

// Abort implements tcpip.Endpoint.Abort and stack.TransportEndpoint.Abort: RST is sent where the RFC says so (RFC 9293 §3.10.5) and everything is let go.
func (e *Endpoint) Abort() {
	e.lock()
	lst := e.abort()
	e.leave()
	if lst != nil {
		lst.reset(true)
	}
	e.waiterQueue.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
}

func (e *Endpoint) abort() *listener {
	if e.phase != phaseOpen {
		if e.closed {
			return nil
		}
		e.closed = true
		return e.close()
	}
	e.tcb.Abort(e.proto.now(), tcb.ReasonAborted)
	e.collect()
	return nil
}
