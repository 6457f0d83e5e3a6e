package arp

import (
	"container/list"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// answerTime is how long after our request a reply counts as its answer: netstack gives up after three requests a second apart.
const answerTime = 3 * time.Second

// peer is what we remember of a neighbour, beside its entry in netstack's cache.
type peer struct {
	addr tcpip.Address
	// link is the link address that we last believed, "" if none.
	link tcpip.LinkAddress
	// changed is when link last changed.
	changed tcpip.MonotonicTime
	// asked is when our last request went out, if waiting for its answer.
	asked   tcpip.MonotonicTime
	waiting bool
	// askedAll says that it was broadcast: anybody may have answered. What went to the known link address alone can only be answered from there.
	askedAll bool
	// unanswered counts our requests since the last answer.
	unanswered int
	permanent  bool
	// verify is armed while the old link address of a router is being asked.
	verify tcpip.Timer
	// place is the peer's element in one of the table's lists; nil if permanent.
	place *list.Element
}

// peers is a bounded table of neighbours. Neighbours that never answered and those that did are apart, and the former are evicted first: a scan of
// addresses that nobody has displaces other such, not the neighbours in use. Permanent entries are neither counted nor evicted.
type peers struct {
	max      int
	byAddr   map[tcpip.Address]*peer
	resolved list.List
	rest     list.List
}

func newPeers(n int) *peers {
	return &peers{max: n, byAddr: make(map[tcpip.Address]*peer)}
}

// use returns the peer with addr, as the most recently used, and creates it if need be. keep guards peers from eviction.
func (t *peers) use(addr tcpip.Address, keep func(tcpip.Address) bool) *peer {
	if p := t.byAddr[addr]; p != nil {
		t.touch(p)
		return p
	}
	if t.resolved.Len()+t.rest.Len() >= t.max {
		t.evict(keep)
	}
	p := &peer{addr: addr}
	p.place = t.rest.PushFront(p)
	t.byAddr[addr] = p
	return p
}

func (t *peers) touch(p *peer) {
	if p.place == nil {
		return
	}
	if p.link != "" {
		t.resolved.MoveToFront(p.place)
	} else {
		t.rest.MoveToFront(p.place)
	}
}

// evict removes the least recently used peer, one that never answered if there is one.
func (t *peers) evict(keep func(tcpip.Address) bool) {
	for _, l := range []*list.List{&t.rest, &t.resolved} {
		// A few steps suffice: what is kept moves to the front, and there are few of them.
		for n := min(l.Len(), 8); n > 0; n-- {
			p := l.Back().Value.(*peer)
			if l == &t.resolved && keep(p.addr) {
				l.MoveToFront(p.place)
				continue
			}
			t.remove(p)
			return
		}
	}
	if e := t.resolved.Back(); e != nil {
		t.remove(e.Value.(*peer))
	}
}

func (t *peers) remove(p *peer) {
	if p.place != nil {
		t.listOf(p).Remove(p.place)
		p.place = nil
	}
	if p.verify != nil {
		p.verify.Stop()
		p.verify = nil
	}
	delete(t.byAddr, p.addr)
}

func (t *peers) listOf(p *peer) *list.List {
	if p.link != "" {
		return &t.resolved
	}
	return &t.rest
}

// setLink changes the link address of p, "" for unknown, and moves p to the list where it belongs.
func (t *peers) setLink(p *peer, link tcpip.LinkAddress, now tcpip.MonotonicTime) {
	if p.place != nil {
		t.listOf(p).Remove(p.place)
	}
	if p.link != link {
		p.changed = now
	}
	p.link = link
	if p.place != nil {
		p.place = t.listOf(p).PushFront(p)
	}
}

// setPermanent makes p permanent with the given link address.
func (t *peers) setPermanent(p *peer, link tcpip.LinkAddress, now tcpip.MonotonicTime) {
	if p.place != nil {
		t.listOf(p).Remove(p.place)
		p.place = nil
	}
	p.permanent, p.waiting, p.unanswered = true, false, 0
	t.setLink(p, link, now)
}

// answered notes that a request of ours has its answer.
func (p *peer) answered() {
	p.waiting, p.unanswered = false, 0
	if p.verify != nil {
		p.verify.Stop()
		p.verify = nil
	}
}

// expects reports whether an answer to a request of ours may come from the given link address now.
func (p *peer) expects(now tcpip.MonotonicTime, link tcpip.LinkAddress) bool {
	return p.waiting && now.Sub(p.asked) <= answerTime && (p.askedAll || p.link == link)
}

// ask notes that a request goes out.
func (p *peer) ask(now tcpip.MonotonicTime, broadcast bool) {
	p.asked, p.waiting, p.askedAll = now, true, broadcast
	p.unanswered++
}

// clear forgets all peers, the permanent ones too.
func (t *peers) clear() {
	for _, p := range t.byAddr {
		if p.verify != nil {
			p.verify.Stop()
		}
	}
	clear(t.byAddr)
	t.resolved.Init()
	t.rest.Init()
}
