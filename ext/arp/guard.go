package arp

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// guardsAge is how long the set of guarded addresses serves before the route table is read again, which copies it: a packet must not cost as much as the
	// table is long.
	guardsAge = 100 * time.Millisecond
	// refreshTalking is how many of the neighbours that we talk to are kept in netstack's cache beside the routers.
	refreshTalking = 128
)

// guards is which addresses were guarded at an instant, and how patient netstack was.
type guards struct {
	at tcpip.MonotonicTime
	// gone is the number of unanswered requests after which netstack calls a neighbour unreachable.
	gone int
	// answer is how long after our request a reply counts as its answer.
	answer time.Duration
	set    map[tcpip.Address]struct{}
	// list has the members of set in a fixed order.
	list []tcpip.Address
}

func (g *guards) has(addr tcpip.Address) bool {
	_, ok := g.set[addr]
	return ok
}

// guards returns the gateways of this interface, what the options protect, and the patience that stack.NUDConfigurations set, at most guardsAge old.
func (e *endpoint) guards() *guards {
	now := e.now()
	if g := e.guardSet.Load(); g != nil && now.Sub(g.at) < guardsAge {
		return g
	}
	g := &guards{at: now, set: make(map[tcpip.Address]struct{}), gone: 3, answer: answerTime}
	if c, err := e.p.stack.NUDConfigurations(e.nic.ID(), header.IPv4ProtocolNumber); err == nil {
		g.gone = int(min(c.MaxMulticastProbes, c.MaxUnicastProbes))
		g.answer = max(answerTime, c.RetransmitTimer)
	}
	add := func(a tcpip.Address) {
		if a.BitLen() == 32 && !g.has(a) {
			g.set[a] = struct{}{}
			g.list = append(g.list, a)
		}
	}
	for _, a := range e.p.opts.Protect {
		add(a)
	}
	for _, r := range e.p.stack.GetRouteTable() {
		if r.NIC == e.nic.ID() || r.NIC == 0 {
			add(r.Gateway)
		}
	}
	e.guardSet.Store(g)
	return g
}

// churned counts what may have evicted an entry from netstack's cache, and reports whether it is time to refresh the entries that are to stay. The caller holds e.mu.
func (e *endpoint) churned() bool {
	e.churn++
	if e.churn < refreshEvery {
		return false
	}
	e.churn = 0
	return true
}

// refresh makes the entries of guarded neighbours and of those that we talk to the most recently used ones of netstack's cache, which evicts in that order and
// does not count the packets of an established route as use. A probe with the link address that the entry has changes nothing else; an entry that was evicted
// all the same comes back STALE.
func (e *endpoint) refresh(except tcpip.Address) {
	g := e.guards()
	e.order.Lock()
	defer e.order.Unlock()

	type entry struct {
		addr tcpip.Address
		link tcpip.LinkAddress
	}
	var keep []entry
	add := func(p *peer) {
		if p != nil && p.addr != except && !p.permanent && p.unanswered == 0 && p.link != "" {
			keep = append(keep, entry{p.addr, p.link})
		}
	}
	e.mu.Lock()
	l := &e.peers.lists[talking]
	n := 0
	for el := l.Front(); el != nil && n < refreshTalking; el = el.Next() {
		if p := el.Value.(*peer); !g.has(p.addr) {
			add(p)
			n++
		}
	}
	for _, a := range g.list {
		add(e.peers.byAddr[a])
	}
	e.mu.Unlock()
	for _, k := range keep {
		e.tell(k.addr, k.link)
	}
}
