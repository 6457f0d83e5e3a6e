package arp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// answer says on what ground a request is answered.
type answer uint8

const (
	answerNot   answer = iota
	answerOwn          // the address is ours
	answerProxy        // we forward to it
)

// answersFor decides whether and why a request is answered.
func (e *endpoint) answersFor(p *Packet) answer {
	if p.Op != OpRequest {
		return answerNot
	}
	if e.answersOwn(p) {
		return answerOwn
	}
	// A probe or an announcement asks who else has the address: a proxy does not have it (RFC 5227 §2.1.1 would take it for a conflict).
	if e.p.opts.Ignore == IgnoreAll || p.Probe() || p.Gratuitous() || !e.proxies(p.Target, p.Sender) {
		return answerNot
	}
	return answerProxy
}

// answersOwn reports whether the target is an address of ours that is answered for. An address that the interface may merely send from (Stack.SetSpoofing) is
// not: stock's ARP takes over every address of the link then.
func (e *endpoint) answersOwn(p *Packet) bool {
	switch e.p.opts.Ignore {
	case IgnoreAll:
		return false
	case IgnoreNone:
		for _, other := range e.p.endpoints() {
			if _, ok := other.owned(p.Target); ok {
				return true
			}
		}
		return false
	}
	a, ok := e.owned(p.Target)
	if s := a.Subnet(); ok && e.p.opts.Ignore == IgnoreOtherSubnets {
		return p.Probe() || s.Contains(p.Sender)
	}
	return ok
}

// proxies reports whether a rule has us answer for target.
func (e *endpoint) proxies(target, sender tcpip.Address) bool {
	for i := range e.p.opts.Proxy {
		r := &e.p.opts.Proxy[i]
		if r.NIC != 0 && r.NIC != e.nic.ID() || !r.Prefix.Contains(target) || target == sender {
			continue
		}
		if r.SameLink || e.leadsElsewhere(target) {
			return true
		}
	}
	return false
}

// leadsElsewhere reports whether packets to addr leave by another interface.
func (e *endpoint) leadsElsewhere(addr tcpip.Address) bool {
	r, err := e.p.stack.FindRoute(0, tcpip.Address{}, addr, header.IPv4ProtocolNumber, false)
	if err != nil {
		return false
	}
	defer r.Release()
	return r.NICID() != e.nic.ID() && !r.IsOutboundBroadcast()
}

// reply answers request p.
func (e *endpoint) reply(p *Packet, how answer) {
	now := e.now()
	e.mu.Lock()
	limit := &e.repliesOther
	if k := e.peers.byAddr[p.Sender]; k != nil && k.link == p.SenderLink {
		limit = &e.repliesKnown // a flood from strangers does not silence us towards those we talk to
	}
	ok := limit.allow(now)
	e.mu.Unlock()
	if !ok {
		e.stats.RepliesLimited.Increment()
		return
	}
	stats := e.p.stack.Stats().ARP
	err := e.send(Packet{Op: OpReply, Sender: p.Target, TargetLink: p.SenderLink, Target: p.Sender}, p.SenderLink)
	if err != nil {
		stats.OutgoingRepliesDropped.Increment()
		return
	}
	stats.OutgoingRepliesSent.Increment()
	e.stats.RepliesSent.Increment()
	if how == answerProxy {
		e.stats.ProxyReplies.Increment()
	}
}
