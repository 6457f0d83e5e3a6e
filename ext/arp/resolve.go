package arp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// refreshEvery is how many new entries netstack's cache of stack.NeighborCacheSize may get before the ones that are to stay are made its most recently used again.
const refreshEvery = stack.NeighborCacheSize / 8

// LinkAddressProtocol implements stack.LinkAddressResolver.
func (*endpoint) LinkAddressProtocol() tcpip.NetworkProtocolNumber { return header.IPv4ProtocolNumber }

// ResolveStaticAddress implements stack.LinkAddressResolver: broadcast, and multicast by RFC 1112 §6.4.
func (*endpoint) ResolveStaticAddress(addr tcpip.Address) (tcpip.LinkAddress, bool) {
	if addr == header.IPv4Broadcast {
		return header.EthernetBroadcastAddress, true
	}
	if header.IsV4MulticastAddress(addr) {
		return header.EthernetAddressFromMulticastIPv4Address(addr), true
	}
	return "", false
}

// LinkAddressRequest implements stack.LinkAddressResolver. The neighbour cache calls it to resolve target (remote is "") and to probe a neighbour that it has
// doubts about. A request that Options.Requests holds back is no error: the cache asks again a second later.
func (e *endpoint) LinkAddressRequest(target, local tcpip.Address, remote tcpip.LinkAddress) tcpip.Error {
	from, err := e.source(target, local)
	if err != nil {
		return err
	}
	now := e.now()
	g := e.guards()

	e.mu.Lock()
	p := e.peers.use(target, g.has)
	to, fresh := remote, remote == ""
	if fresh && p.link != "" && p.unanswered >= g.gone && !p.permanent {
		e.peers.setLink(p, "", now)
		p.unanswered = 0
	}
	if n := e.p.opts.UnicastProbes; fresh || n >= 0 && p.unanswered >= n {
		to = header.EthernetBroadcastAddress
	}
	if to == header.EthernetBroadcastAddress && !g.has(target) && !e.mayAsk(p, now) {
		e.mu.Unlock()
		e.stats.RequestsLimited.Increment()
		return nil
	}
	p.ask(now, to == header.EthernetBroadcastAddress)
	refresh := fresh && e.churned()
	e.mu.Unlock()

	if refresh {
		e.refresh(target)
	}
	return e.request(from, target, to)
}

// mayAsk takes a token for a request. A scan of addresses that nobody has does not use up those for the neighbours that are known. The caller holds e.mu.
func (e *endpoint) mayAsk(p *peer, now tcpip.MonotonicTime) bool {
	if p.link != "" {
		return e.requestsKnown.allow(now)
	}
	return e.requestsOther.allow(now)
}

// request sends a request and counts it.
func (e *endpoint) request(from, target tcpip.Address, to tcpip.LinkAddress) tcpip.Error {
	stats := e.p.stack.Stats().ARP
	if err := e.send(Packet{Op: OpRequest, Sender: from, Target: target}, to); err != nil {
		stats.OutgoingRequestsDropped.Increment()
		return err
	}
	e.stats.RequestsSent.Increment()
	stats.OutgoingRequestsSent.Increment()
	return nil
}

// source chooses the sender address of a request for target, prompted by a packet from local (empty if none). It is an address that the interface has, even if
// it may send from others (Stack.SetSpoofing), unless it has none.
func (e *endpoint) source(target, local tcpip.Address) (tcpip.Address, tcpip.Error) {
	stats := e.p.stack.Stats().ARP
	mode := e.p.opts.Source
	if local.BitLen() != 0 && mode != SourceBest {
		a, ok := e.owned(local)
		if !ok && !e.nic.CheckLocalAddress(header.IPv4ProtocolNumber, local) {
			stats.OutgoingRequestBadLocalAddressErrors.Increment()
			return tcpip.Address{}, &tcpip.ErrBadLocalAddress{}
		}
		if s := a.Subnet(); ok && (mode == SourceAny || s.Contains(target)) {
			return local, nil
		}
	}
	if a, ok := e.subnetAddress(target); ok {
		return a.Address, nil
	}
	primary, err := e.nic.PrimaryAddress(header.IPv4ProtocolNumber)
	if err != nil {
		return tcpip.Address{}, err
	}
	switch {
	case primary.Address.BitLen() != 0:
		return primary.Address, nil
	case local.BitLen() != 0 && e.nic.CheckLocalAddress(header.IPv4ProtocolNumber, local):
		return local, nil
	}
	stats.OutgoingRequestInterfaceHasNoLocalAddressErrors.Increment()
	return tcpip.Address{}, &tcpip.ErrNetworkUnreachable{}
}

// tell gives netstack's cache a link address that is not verified: STALE, if it is news.
func (e *endpoint) tell(addr tcpip.Address, link tcpip.LinkAddress) {
	// The one error says that the link needs no resolution.
	_ = e.nic.HandleNeighborProbe(header.IPv4ProtocolNumber, addr, link)
}

// confirm gives netstack's cache an answer: REACHABLE.
func (e *endpoint) confirm(addr tcpip.Address, link tcpip.LinkAddress) {
	_ = e.nic.HandleNeighborConfirmation(header.IPv4ProtocolNumber, addr, link, stack.ReachabilityConfirmationFlags{Solicited: true, Override: true})
}
