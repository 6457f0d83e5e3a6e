package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// listenSegment processes a segment for a listener (RFC 9293 §3.10.7.2) and takes it over. The caller holds e.mu.
func (e *Endpoint) listenSegment(s *inbound) {
	switch g := &s.seg; {
	case g.Flags.Has(tcb.RST): // First: RST is ignored.
		e.proto.dropped.Increment()
	case !unicast(s.id.RemoteAddress), s.id.RemoteAddress == s.id.LocalAddress && s.id.RemotePort == s.id.LocalPort:
		// MUST-63, and a listener that calls itself: nobody sends that in earnest.
		e.proto.tcpStats.InvalidSegmentsReceived.Increment()
		e.proto.dropped.Increment()
	case g.Flags.Has(tcb.ACK): // Second: ACK is refused, unless it is that of a SYN cookie.
		e.listenACK(s)
		return
	case g.Flags.Has(tcb.SYN): // Third.
		e.listenSYN(s)
		return
	default: // Fourth: nothing else makes sense.
		e.proto.dropped.Increment()
	}
	s.release()
}

// listenSYN makes a connection of a SYN, or answers with a cookie, and takes s over. The caller holds e.mu.
func (e *Endpoint) listenSYN(s *inbound) {
	p := e.proto
	p.mu.RLock()
	limit, always, fastOpen := p.opts.synQueue, p.opts.cookies, p.opts.fastOpen
	p.mu.RUnlock()
	readyFull, synFull, shut := e.lst.full(limit)
	switch {
	case shut:
		p.refuse(s)
	case readyFull || p.memory.exhausted():
		p.tcpStats.ListenOverflowSynDrop.Increment()
		p.dropped.Increment()
		e.statistics().ReceiveErrors.ListenOverflowSynDrop.Increment()
	case always || synFull:
		e.sendCookie(s)
	default:
		now := p.now()
		fast := e.fastOpenFor(s, fastOpen, now)
		c, err := p.newChild(s, e, new(waiter.Queue))
		if err != nil {
			if fast != nil && fast.Accept {
				e.lst.releaseFast(false, now)
			}
			e.childFailed(s, err)
			return
		}
		if fast != nil {
			c.tcb.Tune().FastOpen = fast
			if fast.Accept {
				c.fastSocket().pending = e.lst
			}
		}
		if !e.lst.add(c) {
			c.cleanup()
			c.leave()
			break
		}
		c.parent = e
		params := c.openParams(now)
		c.tcb.OpenPassive(now, &params, &s.seg)
		c.collect()
		c.leave()
	}
	s.release()
}

// childFailed deals with a SYN or ACK that cannot become a connection, and takes s over.
func (e *Endpoint) childFailed(s *inbound, err tcpip.Error) {
	if _, inUse := err.(*tcpip.ErrPortInUse); inUse {
		// The connection exists since a moment ago: this segment was queued before.
		e.proto.redeliver(s, e)
		return
	}
	e.proto.tcpStats.FailedConnectionAttempts.Increment()
	e.statistics().FailedConnectionAttempts.Increment()
	s.release()
}

// listenACK processes an ACK for which there is no connection, and takes s over. The caller holds e.mu.
func (e *Endpoint) listenACK(s *inbound) {
	p := e.proto
	if t, ok := p.stack.FindTransportEndpoint(s.net, ProtocolNumber, s.id, s.nic).(*Endpoint); ok && t != e {
		t.deliver(s) // As in childFailed.
		return
	}
	now := p.now()
	readyFull, _, shut := e.lst.full(0)
	opts, valid := tcb.Options{}, false
	if tried := !shut && !s.seg.Flags.Has(tcb.SYN) && p.cookiesOut(now); tried {
		if opts, valid = p.checkCookie(s, now); !valid {
			p.tcpStats.ListenOverflowInvalidSynCookieRcvd.Increment()
			p.dropped.Increment()
		}
	}
	if !valid {
		p.refuse(s)
		s.release()
		return
	}
	if readyFull || p.memory.exhausted() {
		// The peer's data will bring the ACK again.
		e.countAckDrop()
		s.release()
		return
	}
	p.tcpStats.ListenOverflowSynCookieRcvd.Increment()
	c, err := p.newChild(s, e, new(waiter.Queue))
	if err != nil {
		e.childFailed(s, err)
		return
	}
	if !e.lst.add(c) {
		c.cleanup()
		c.leave()
		s.release()
		return
	}
	c.parent = e
	if c.tcb.DeferAccept != 0 {
		c.tcb.Tune().DeferAccept = 0 // The SYN-ACK has been forgotten: there is no handshake to stretch.
	}
	params := c.openParams(now)
	params.ISS = s.seg.Ack - 1
	params.CookieOpts = opts
	c.tcb.OpenCookie(now, &params, &s.seg)
	c.collect()
	c.process(s)
	c.leave()
}

func (e *Endpoint) countAckDrop() {
	e.proto.tcpStats.ListenOverflowAckDrop.Increment()
	e.proto.dropped.Increment()
	e.statistics().ReceiveErrors.ListenOverflowAckDrop.Increment()
}

// holdFinalACK reports that a segment would complete the handshake while the accept queue has no room: it is dropped, and the retransmission of our SYN-ACK
// makes the peer repeat it. The caller holds e.mu of a connection with a parent.
func (e *Endpoint) holdFinalACK(g *tcb.Segment) bool {
	if e.tcb.State() != tcb.StateSynRecv || g.Flags&(tcb.ACK|tcb.RST|tcb.SYN) != tcb.ACK {
		return false
	}
	if full, _, _ := e.parent.lst.full(0); !full {
		return false
	}
	e.parent.countAckDrop()
	return true
}

// newChild makes the endpoint of a connection that s asks for: with addresses, route and registration, but not open yet. listener is nil for a
// forwarder. It is returned locked.
func (p *protocol) newChild(s *inbound, l *Endpoint, q *waiter.Queue) (*Endpoint, tcpip.Error) {
	route, err := p.stack.FindRoute(s.nic, s.id.LocalAddress, s.id.RemoteAddress, s.net, false)
	if err != nil {
		return nil, err
	}
	if route.IsOutboundBroadcast() { // MUST-63
		route.Release()
		return nil, &tcpip.ErrBadLocalAddress{}
	}
	netProto := s.net
	if l != nil {
		netProto = l.netProto
	}
	c := p.newEndpoint(netProto, q)
	c.id = s.id
	c.bound = binding{nic: s.nic, nets: netOf(s.net)}
	if l != nil {
		c.inherit(l)
	} else {
		c.ops.SetV6Only(true)
	}
	c.lock()
	c.phase = phaseOpen
	c.setRoute(route)
	if l != nil {
		u := c.heldUse()
		p.ports.share(&u)
		c.bound.holding = true
	}
	if err = c.register(); err != nil {
		c.cleanup()
		c.leave()
		return nil, err
	}
	return c, nil
}

// inherit gives a new connection the options of its listener, as Linux does. Nobody else knows c yet; the caller holds l.mu.
func (c *Endpoint) inherit(l *Endpoint) {
	c.initCore(l.currentConfig(), l.tcb.Settings)
	c.userMSS, c.congestion = l.userMSS, l.congestion
	c.tos, c.ipv4TTL, c.hopLimit, c.pmtud = l.tos, l.ipv4TTL, l.hopLimit, l.pmtud
	c.bound.flags, c.bound.held, c.bound.device = l.bound.flags, l.bound.held, l.bound.device
	if l.extra != nil {
		x := *l.extra
		x.lastError, x.path, x.fragment, x.fast = nil, nil, false, nil
		c.extra = &x
	}
	from, to := &l.ops, &c.ops
	to.SetV6Only(from.GetV6Only())
	to.SetSendBufferSize(from.GetSendBufferSize(), false)
	to.SetReceiveBufferSize(from.GetReceiveBufferSize(), false)
	to.SetQuickAck(from.GetQuickAck())
	c.quickAck = l.quickAck
	if m := from.GetMark(); m != 0 {
		to.SetMark(m)
	}
	if v := from.GetExperimentOptionValue(); v != 0 {
		to.SetExperimentOptionValue(v)
	}
	if v := from.GetLinger(); v.Enabled {
		to.SetLinger(v)
	}
	if from.GetIPv4RecvError() {
		to.SetIPv4RecvError(true)
	}
	if from.GetIPv6RecvError() {
		to.SetIPv6RecvError(true)
	}
	// The setters of these call back.
	if from.GetReuseAddress() {
		to.SetReuseAddress(true)
	}
	if from.GetKeepAlive() {
		to.SetKeepAlive(true)
	}
	if d := from.GetDelayOption(); d != to.GetDelayOption() {
		to.SetDelayOption(d)
	}
	if from.GetCorkOption() {
		to.SetCorkOption(true)
	}
}
