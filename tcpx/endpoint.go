package tcpx

import (
	"sync"
	"sync/atomic"
	"unique"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Endpoint is one TCP socket: a tcpip.Endpoint with more to ask and to set than that interface has room for. It is made by Stack.NewEndpoint, by
// Endpoint.Accept or by a forwarder; its methods are safe for concurrent use.
type Endpoint struct {
	proto       *protocol
	waiterQueue *waiter.Queue

	backlog backlog
	// stats counts for this endpoint; it is made when it is first needed (see statistics).
	stats atomic.Pointer[tcp.Stats]
	ops   tcpip.SocketOptions

	// mu guards all that follows; see lock.go for the rules.
	mu  sync.Mutex
	id  stack.TransportEndpointID
	tcb tcb.TCB
	// lst is what makes the endpoint a listener. It is set before the state LISTEN is published and then stays.
	lst *listener
	// parent is the listener of a connection in SYN-RECEIVED, nil for all others.
	parent *Endpoint
	// link and inList make the endpoint an element of an endpointList; they are guarded by that list's lock.
	link  links
	route *stack.Route
	timer tcpip.Timer
	// armed is when the timer will fire, 0 if it is not set.
	armed tcb.Time
	// timeWaitAt is when TIME-WAIT was entered.
	timeWaitAt tcb.Time
	// congestion is the name of the congestion control algorithm.
	congestion unique.Handle[string]
	extra      *extra
	// netProto is the protocol of the socket; a dual-stack one may use the other as well (see binding.nets).
	netProto tcpip.NetworkProtocolNumber
	// userMSS is the last value of TCP_MAXSEG, 0 if unset.
	userMSS uint16
	events  tcb.Event
	txHash  uint32
	// public is what can be read without the lock: the state and readiness of publish.
	public atomic.Uint32

	bound    binding
	phase    phase
	tos      uint8
	ipv4TTL  uint8
	hopLimit int16
	pmtud    uint8 // a tcpip.PMTUDStrategy
	gso      gsoKind
	inList   listKind
	gauges   gauges

	closed          bool // the user called Close
	orphan          bool
	inTimeWait      bool
	errorTaken      bool // the hard error was reported
	connectNotified bool
	wasConnected    bool // the handshake was completed
	quickAck        bool // TCP_QUICKACK as last seen
	shutRead        bool
	shutWrite       bool
}

var (
	_ tcpip.Endpoint             = (*Endpoint)(nil)
	_ stack.TransportEndpoint    = (*Endpoint)(nil)
	_ tcpip.SocketOptionsHandler = (*Endpoint)(nil)
)

// phase is what an endpoint is for the stack; in phaseOpen the core knows the state of the connection.
type phase uint8

const (
	phaseInitial phase = iota
	phaseBound
	phaseListen
	// phaseDeferred: Connect has returned, and the SYN waits for the first write (TCP_FASTOPEN_CONNECT).
	phaseDeferred
	phaseOpen
	phaseClosed
)

// extra is what few sockets have.
type extra struct {
	// owner is who the packets are sent for.
	owner tcpip.PacketOwner
	// lastError is what SO_ERROR returns beside the error that ended the connection.
	lastError tcpip.Error
	// config replaces the protocol's in this socket.
	config *tcb.Config
	// timeWaitReuse is TCPTimeWaitReuseOption, if set.
	timeWaitReuse *tcpip.TCPTimeWaitReuseOption
	// path finds the path's MTU, once there is something to send; nil without WithPMTU.
	path *pathMTU
	// fragment tells that the path carries less than the least MTU that is used: routers may fragment.
	fragment bool
	// fast is the socket's part in Fast Open, nil if it has none.
	fast *fastSocket
}

func (p *protocol) newEndpoint(netProto tcpip.NetworkProtocolNumber, q *waiter.Queue) *Endpoint {
	e := &Endpoint{
		proto:       p,
		waiterQueue: q,
		netProto:    netProto,
		ipv4TTL:     tcpip.UseDefaultIPv4TTL,
		hopLimit:    tcpip.UseDefaultIPv6HopLimit,
		txHash:      p.stack.InsecureRNG().Uint32(),
		quickAck:    true,
	}
	p.mu.RLock()
	o, tuning := p.opts, p.tuning
	p.mu.RUnlock()
	e.congestion = unique.Make(o.congestion)
	e.ops.InitHandler(e, p.stack, sendBufferLimits, receiveBufferLimits)
	e.ops.SetMulticastLoop(true)
	e.ops.SetQuickAck(true)
	e.ops.SetSendBufferSize(int64(o.sndBuf.Default), false)
	e.ops.SetReceiveBufferSize(int64(o.rcvBuf.Default), false)
	e.initCore(p.config(), tcb.Settings{
		NoDelay:      true,
		RcvBuf:       o.rcvBuf.Default,
		SndBuf:       o.sndBuf.Default,
		RcvBufLocked: !o.moderate,
		Tuning:       tuning,
	})
	if o.nagle {
		e.ops.SetDelayOption(true)
	}
	e.publish()
	return e
}

// initCore prepares the core of an endpoint that nobody else knows yet.
func (e *Endpoint) initCore(c *tcb.Config, s tcb.Settings) {
	e.tcb.Lend(scratchPool.Get().(*tcb.Scratch))
	e.tcb.Init(c, (*owner)(e), s)
	scratchPool.Put(e.tcb.Reclaim())
}

func sendBufferLimits(s tcpip.StackHandler) tcpip.SendBufferSizeOption {
	return tcpip.SendBufferSizeOption(s.(*stack.Stack).TCPSendBufferLimits())
}

func receiveBufferLimits(s tcpip.StackHandler) tcpip.ReceiveBufferSizeOption {
	var r tcpip.TCPReceiveBufferSizeRangeOption
	if err := s.TransportProtocolOption(ProtocolNumber, &r); err != nil {
		return tcpip.ReceiveBufferSizeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer}
	}
	return tcpip.ReceiveBufferSizeOption(r)
}

// settle ends a locked section: it acts on the core's events, publishes the state and arms the timer. The caller holds e.mu and passes the result to
// wake.notify once it has let go.
func (e *Endpoint) settle() (w wake) {
	ev := e.events | e.tcb.TakeEvents()
	e.events = 0
	if ev&(tcb.EventClosed|tcb.EventTimeWaitSYN) != 0 {
		e.cleanup()
	}
	if ev&tcb.EventFastOpen != 0 {
		w.parent = e.fastOpenNews()
	}
	if ev&tcb.EventEstablished != 0 {
		if parent := e.established(); parent != nil {
			w.parent = parent
		}
	}
	w.events = eventMask(ev)
	if e.phase == phaseOpen {
		if e.tcb.State() == tcb.StateTimeWait && !e.inTimeWait {
			e.unorphanLocked()
			w.trim = e.enterTimeWait()
		}
		e.publishBuffers()
		e.arm()
	}
	if e.publish()&publicWritable != 0 {
		w.events |= waiter.WritableEvents
	}
	return w
}

// eventMask translates the core's events into those of poll(2), as stock's endpoint reports them.
func eventMask(ev tcb.Event) (m waiter.EventMask) {
	if ev&tcb.EventReadable != 0 {
		m |= waiter.ReadableEvents
	}
	if ev&(tcb.EventWritable|tcb.EventEstablished) != 0 {
		m |= waiter.WritableEvents
	}
	if ev&tcb.EventReadHangup != 0 {
		m |= waiter.EventRdHUp | waiter.ReadableEvents
	}
	if ev&tcb.EventHangup != 0 {
		m |= waiter.EventHUp
	}
	if ev&tcb.EventError != 0 {
		m |= waiter.EventErr
	}
	if ev&tcb.EventUrgent != 0 {
		m |= waiter.EventPri
	}
	if ev&tcb.EventClosed != 0 {
		m |= waiter.EventHUp | waiter.ReadableEvents | waiter.WritableEvents
	}
	return m
}

// established completes a handshake. It returns the listener to notify, if there is one. The caller holds e.mu.
func (e *Endpoint) established() (parent *Endpoint) {
	e.wasConnected = true
	e.tcb.SoftError() // What ICMP said about the attempt is moot.
	if e.route != nil {
		e.route.ConfirmReachable()
	}
	e.fastOpenEnd(false)
	if e.parent == nil {
		if f := e.tcb.FastOpen; f != nil && f.Accept {
			e.proto.tcpStats.PassiveConnectionOpenings.Increment()
		}
		return nil
	}
	e.proto.tcpStats.PassiveConnectionOpenings.Increment()
	return e.handOver()
}

// handOver moves a connection to its listener's accept queue and returns the listener to notify, if there is one. The caller holds e.mu.
func (e *Endpoint) handOver() (parent *Endpoint) {
	parent = e.parent
	e.parent = nil
	e.connectNotified = true
	if !parent.lst.complete(e) {
		// The listener was closed meanwhile: nobody will ever accept.
		e.tcb.Abort(e.proto.now(), tcb.ReasonAborted)
		e.collect()
		return nil
	}
	return parent
}

// cleanup lets go of everything that the stack knows of a connection that is CLOSED. What was received can still be read. The caller holds e.mu.
func (e *Endpoint) cleanup() {
	if e.phase == phaseClosed {
		return
	}
	e.phase = phaseClosed
	e.countEnd()
	e.fastOpenEnd(e.tcb.Err() == tcb.ReasonReset)
	e.fastOpenFailed()
	if e.tcb.InboundHole(e.proto.now()) {
		e.inboundHole()
	}
	e.disarm()
	if e.parent != nil || e.closed {
		e.tcb.Release(e.proto.now()) // What is unread is for nobody.
	}
	if e.parent != nil {
		e.parent.lst.forget(e)
		e.parent = nil
	}
	e.leaveTimeWait()
	e.unorphanLocked()
	e.unregister()
	e.releasePort()
	if e.route != nil {
		e.route.Release()
		e.route = nil
	}
	if e.closed {
		tcpip.DeleteDanglingEndpoint(e)
	}
}

// Bits of Endpoint.public above the state.
const (
	publicState    = 0xff
	publicReadable = 1 << (8 + iota)
	publicWritable
	publicReadHangup
	publicUrgent
)

// publish makes the state and the readiness visible to those who hold no lock, and returns which bits came up. The caller holds e.mu.
func (e *Endpoint) publish() (risen uint32) {
	old := e.public.Load()
	state := e.stateLocked()
	v := uint32(state)
	if e.phase == phaseDeferred {
		v |= publicWritable
	}
	if e.phase == phaseOpen && e.usable(state) {
		n := e.tcb.ReadSize()
		if (n > 0 && n >= e.tcb.RcvLowat) || e.tcb.ReadEOF() {
			v |= publicReadable
		}
		if e.shutWrite || e.worthWriting(old&publicWritable != 0) {
			v |= publicWritable
		}
		if (e.shutRead || finReceived(state)) && !e.shutWrite {
			v |= publicReadHangup
		}
		if _, pending := e.tcb.UrgentMark(); pending {
			v |= publicUrgent
		}
	}
	if old != v {
		e.public.Store(v)
		e.gauges.update(&e.proto.tcpStats, state)
	}
	return v &^ old
}

// worthWriting tells whether a writer should be told of the room in the send buffer: of any as long as there was some, of a third after it had run out, so that
// writers are not woken for every ACK. The caller holds e.mu.
func (e *Endpoint) worthWriting(before bool) bool {
	room := e.tcb.WriteSpace()
	if before || e.tcb.NotSentLowat > 0 {
		return room > 0
	}
	return room > 0 && room >= e.tcb.SndBuf/3
}

// stateLocked returns gVisor's number for the state. The caller holds e.mu.
func (e *Endpoint) stateLocked() tcp.EndpointState {
	switch e.phase {
	case phaseInitial:
		return tcp.StateInitial
	case phaseBound:
		return tcp.StateBound
	case phaseListen:
		return tcp.StateListen
	case phaseDeferred:
		return tcp.StateConnecting
	}
	if s := e.tcb.State(); s != tcb.StateClosed {
		return tcp.EndpointState(s)
	}
	if e.tcb.Err() != tcb.ReasonNone {
		return tcp.StateError
	}
	return tcp.StateClose
}

// connected tells whether a state has a peer.
func connected(s tcp.EndpointState) bool {
	switch s {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateTimeWait, tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
		return true
	}
	return false
}

// usable tells whether the user can read and write in a state: if it has a peer, or in SYN-RECEIVED thanks to Fast Open. The caller holds e.mu.
func (e *Endpoint) usable(s tcp.EndpointState) bool { return connected(s) || e.tcb.Early() }

// finReceived tells whether the peer has closed its direction in a state.
func finReceived(s tcp.EndpointState) bool {
	switch s {
	case tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing, tcp.StateTimeWait:
		return true
	}
	return false
}

// connecting tells whether a state is one of the handshake.
func connecting(s tcp.EndpointState) bool {
	return s == tcp.StateSynSent || s == tcp.StateSynRecv || s == tcp.StateConnecting
}

// gauges is what an endpoint contributes to the stack's numbers of connections.
type gauges uint8

const (
	countedConnected gauges = 1 << iota
	countedEstablished
)

func (g *gauges) update(stats *tcpip.TCPStats, s tcp.EndpointState) {
	var now gauges
	if connected(s) {
		now |= countedConnected
	}
	if s == tcp.StateEstablished {
		now |= countedEstablished
	}
	change := func(c *tcpip.StatCounter, bit gauges) {
		switch {
		case now&bit != 0 && *g&bit == 0:
			c.Increment()
		case now&bit == 0 && *g&bit != 0:
			c.Decrement()
		}
	}
	change(stats.CurrentConnected, countedConnected)
	change(stats.CurrentEstablished, countedEstablished)
	if *g&countedConnected != 0 && now&countedConnected == 0 {
		stats.EstablishedClosed.Increment()
	}
	*g = now
}

// State implements tcpip.Endpoint.State. The numbers are those of gVisor's tcp.EndpointState.
func (e *Endpoint) State() uint32 { return e.public.Load() & publicState }

// Readiness implements tcpip.Endpoint.Readiness. It takes no lock, since poll(2)'s implementations call it under locks that notifications take.
func (e *Endpoint) Readiness(mask waiter.EventMask) waiter.EventMask {
	v := e.public.Load()
	switch s := tcp.EndpointState(v & publicState); s {
	case tcp.StateInitial, tcp.StateBound:
		return waiter.EventHUp
	case tcp.StateClose, tcp.StateTimeWait:
		return mask &^ waiter.EventErr // Nothing would block, and nothing went wrong.
	case tcp.StateError:
		return mask
	case tcp.StateListen:
		if e.lst.waiting.Load() > 0 {
			return mask & waiter.ReadableEvents
		}
		return 0
	}
	var r waiter.EventMask
	if v&publicReadable != 0 {
		r |= waiter.ReadableEvents
	}
	if v&publicWritable != 0 {
		r |= waiter.WritableEvents
	}
	if v&publicUrgent != 0 {
		r |= waiter.EventPri
	}
	r &= mask
	if v&publicReadHangup != 0 {
		r |= waiter.EventRdHUp
	}
	return r
}

// Wait implements stack.TransportEndpoint.Wait. There is no goroutine to wait for.
func (*Endpoint) Wait() {}

// Info implements tcpip.Endpoint.Info; the result is a *stack.TransportEndpointInfo.
func (e *Endpoint) Info() tcpip.EndpointInfo {
	e.lock()
	defer e.leave()
	info := e.infoLocked()
	return &info
}

// infoLocked puts together what stock's endpoints embed. The caller holds e.mu.
func (e *Endpoint) infoLocked() stack.TransportEndpointInfo {
	info := stack.TransportEndpointInfo{NetProto: e.netProto, TransProto: ProtocolNumber, ID: e.id}
	if e.bound.reserved && !e.bound.anyAddr {
		info.BindAddr, info.BindNICID = e.id.LocalAddress, e.bound.nic
	}
	if e.bound.registered {
		info.RegisterNICID = e.bound.device
	}
	return info
}

// SetOwner implements tcpip.Endpoint.SetOwner.
func (e *Endpoint) SetOwner(o tcpip.PacketOwner) {
	e.lock()
	defer e.leave()
	e.makeExtra().owner = o
}

// makeExtra returns e.extra and makes it if need be. The caller holds e.mu.
func (e *Endpoint) makeExtra() *extra {
	if e.extra == nil {
		e.extra = new(extra)
	}
	return e.extra
}

// packetOwner returns who the packets are sent for, nil if nobody said. The caller holds e.mu.
func (e *Endpoint) packetOwner() tcpip.PacketOwner {
	if e.extra == nil {
		return nil
	}
	return e.extra.owner
}

// SocketOptions implements tcpip.Endpoint.SocketOptions.
func (e *Endpoint) SocketOptions() *tcpip.SocketOptions { return &e.ops }
