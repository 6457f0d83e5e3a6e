package arp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// gone is the number of unanswered requests after which netstack calls a neighbour unreachable (RFC 4861 §10, MAX_MULTICAST_SOLICIT).
	gone = 3
	// refreshEvery is how many new entries netstack's cache of stack.NeighborCacheSize may get before the routers' ones are made its most recently used again.
	refreshEvery = stack.NeighborCacheSize / 8
)

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
	guarded := e.guarded(target)

	e.mu.Lock()
	p := e.peers.use(target, e.guarded)
	to, fresh := remote, remote == ""
	if fresh && p.link != "" && p.unanswered >= gone && !p.permanent {
		e.peers.setLink(p, "", now)
		p.unanswered = 0
	}
	if n := e.p.opts.UnicastProbes; fresh || n >= 0 && p.unanswered >= n {
		to = header.EthernetBroadcastAddress
	}
	if fresh && !guarded && !e.requests.allow(now) {
		e.mu.Unlock()
		e.stats.RequestsLimited.Increment()
		return nil
	}
	p.ask(now, to == header.EthernetBroadcastAddress)
	refresh := fresh && e.churned()
	e.mu.Unlock()

	if refresh {
		e.refreshGuarded(target)
	}
	return e.request(from, target, to)
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

// source chooses the sender address of a request for target, prompted by a packet from local (empty if none).
func (e *endpoint) source(target, local tcpip.Address) (tcpip.Address, tcpip.Error) {
	stats := e.p.stack.Stats().ARP
	mode := e.p.opts.Source
	if local.BitLen() != 0 && mode != SourceBest {
		if !e.nic.CheckLocalAddress(header.IPv4ProtocolNumber, local) {
			stats.OutgoingRequestBadLocalAddressErrors.Increment()
			return tcpip.Address{}, &tcpip.ErrBadLocalAddress{}
		}
		if mode == SourceAny {
			return local, nil
		}
		if a, ok := e.owned(local); ok {
			if s := a.Subnet(); s.Contains(target) {
				return local, nil
			}
		}
	}
	if a, ok := e.subnetAddress(target); ok {
		return a, nil
	}
	primary, err := e.nic.PrimaryAddress(header.IPv4ProtocolNumber)
	if err != nil {
		return tcpip.Address{}, err
	}
	if primary.Address.BitLen() == 0 {
		stats.OutgoingRequestInterfaceHasNoLocalAddressErrors.Increment()
		return tcpip.Address{}, &tcpip.ErrNetworkUnreachable{}
	}
	return primary.Address, nil
}

// churned counts a new entry of netstack's cache, and reports whether it is time to refresh the routers there. The caller holds e.mu.
func (e *endpoint) churned() bool {
	e.churn++
	if e.churn < refreshEvery {
		return false
	}
	e.churn = 0
	return true
}

// refreshGuarded makes the entries of routers and protected neighbours the most recently used ones of netstack's cache, which evicts in that order and does not
// count the packets of an established route as use. A probe with the link address that the entry has changes nothing else; an entry that was
// evicted all the same comes back STALE.
func (e *endpoint) refreshGuarded(except tcpip.Address) {
	refresh := func(addr tcpip.Address) {
		if addr == except || addr.BitLen() != 32 {
			return
		}
		e.mu.Lock()
		var link tcpip.LinkAddress
		if p := e.peers.byAddr[addr]; p != nil && !p.permanent && p.unanswered == 0 {
			link = p.link
			e.peers.touch(p)
		}
		e.mu.Unlock()
		if link != "" {
			e.tell(addr, link)
		}
	}
	for _, a := range e.p.opts.Protect {
		refresh(a)
	}
	for _, r := range e.p.stack.GetRouteTable() {
		if r.NIC == e.nic.ID() || r.NIC == 0 {
			refresh(r.Gateway)
		}
	}
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
