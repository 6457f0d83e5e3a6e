package arp

import (
	"container/list"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// answerTime is how long after our request a reply counts as its answer at least: by default netstack gives up after three requests a second apart.
const answerTime = 3 * time.Second

// class is what a neighbour is worth to us. Those of a lower class are evicted first.
type class uint8

const (
	unresolved class = iota // has no link address: somebody asked for it, and nobody answered
	heard                   // told us its link address, which anybody can
	talking                 // answered a request of ours: we send to it

	numClasses
)

// peer is what we remember of a neighbour, beside its entry in netstack's cache.
type peer struct {
	addr tcpip.Address
	// link is the link address that we last believed, "" if none.
	link tcpip.LinkAddress
	// changed is when link last changed; the zero time if the lock on it was lifted.
	changed tcpip.MonotonicTime
	// asked is when our last request went out, if waiting for its answer.
	asked   tcpip.MonotonicTime
	waiting bool
	// askedAll says that it was broadcast: anybody may have answered. What went to the known link address alone can only be answered from there.
	askedAll bool
	// unanswered counts our requests since the last answer.
	unanswered int
	permanent  bool
	// verify is armed while the old link address is being asked, verifyAt is when that last began.
	verify   tcpip.Timer
	verifyAt tcpip.MonotonicTime
	// class and place are where the peer is listed; place is nil if it is permanent.
	class class
	place *list.Element
}

// peers is a bounded table of neighbours, least recently used last in each class: a scan of addresses that nobody has displaces other such, and a flood of
// strangers displaces strangers, not the neighbours that we talk to. Permanent entries are neither counted nor evicted.
type peers struct {
	max    int
	byAddr map[tcpip.Address]*peer
	lists  [numClasses]list.List
}

func newPeers(n int) *peers {
	return &peers{max: n, byAddr: make(map[tcpip.Address]*peer)}
}

// size is the number of peers that count.
func (t *peers) size() (n int) {
	for i := range t.lists {
		n += t.lists[i].Len()
	}
	return n
}

// use returns the peer with addr, as the most recently used, and creates it if need be. keep guards peers from eviction.
func (t *peers) use(addr tcpip.Address, keep func(tcpip.Address) bool) *peer {
	if p := t.byAddr[addr]; p != nil {
		t.touch(p)
		return p
	}
	if t.size() >= t.max {
		t.evict(keep)
	}
	p := &peer{addr: addr}
	p.place = t.lists[unresolved].PushFront(p)
	t.byAddr[addr] = p
	return p
}

func (t *peers) touch(p *peer) {
	if p.place != nil {
		t.lists[p.class].MoveToFront(p.place)
	}
}

// evict removes the least recently used peer of the lowest class that is not kept; if all are, of the lowest class.
func (t *peers) evict(keep func(tcpip.Address) bool) {
	for c := range t.lists {
		l := &t.lists[c]
		// What is kept moves to the front, and is few: seldom is there more than one step.
		for range l.Len() {
			p := l.Back().Value.(*peer)
			if !keep(p.addr) {
				t.remove(p)
				return
			}
			l.MoveToFront(p.place)
		}
	}
	for c := range t.lists {
		if e := t.lists[c].Back(); e != nil {
			t.remove(e.Value.(*peer))
			return
		}
	}
}

func (t *peers) remove(p *peer) {
	t.unlist(p)
	p.stopVerifying()
	delete(t.byAddr, p.addr)
}

func (t *peers) unlist(p *peer) {
	if p.place != nil {
		t.lists[p.class].Remove(p.place)
		p.place = nil
	}
}

// reclass lists p first in the class where it belongs.
func (t *peers) reclass(p *peer, c class) {
	if p.place == nil {
		return
	}
	if p.class == c {
		t.touch(p)
		return
	}
	t.unlist(p)
	p.class = c
	p.place = t.lists[c].PushFront(p)
}

// setLink changes the link address of p, "" for unknown.
func (t *peers) setLink(p *peer, link tcpip.LinkAddress, now tcpip.MonotonicTime) {
	if p.link != link {
		p.changed = now
	}
	p.link = link
	c := p.class
	switch {
	case link == "":
		c = unresolved
	case c == unresolved:
		c = heard
	}
	t.reclass(p, c)
}

// setPermanent makes p permanent with the given link address.
func (t *peers) setPermanent(p *peer, link tcpip.LinkAddress, now tcpip.MonotonicTime) {
	t.unlist(p)
	p.answered()
	p.permanent = true
	t.setLink(p, link, now)
}

// answered notes that a request of ours has its answer, or needs none any more.
func (p *peer) answered() {
	p.waiting, p.unanswered = false, 0
	p.stopVerifying()
}

func (p *peer) stopVerifying() {
	if p.verify != nil {
		p.verify.Stop()
		p.verify = nil
	}
}

// expects reports whether an answer to a request of ours, at most answer ago, may come from the given link address now.
func (p *peer) expects(now tcpip.MonotonicTime, link tcpip.LinkAddress, answer time.Duration) bool {
	return p.waiting && now.Sub(p.asked) <= answer && (p.askedAll || p.link == link)
}

// ask notes that a request goes out.
func (p *peer) ask(now tcpip.MonotonicTime, broadcast bool) {
	p.asked, p.waiting, p.askedAll = now, true, broadcast
	p.unanswered++
}

// mayVerify reports whether the old link address may be asked now: once in d is often enough.
func (p *peer) mayVerify(now tcpip.MonotonicTime, d time.Duration) bool {
	return p.verify == nil && (p.verifyAt == tcpip.MonotonicTime{} || now.Sub(p.verifyAt) >= d)
}

// clear forgets all peers, the permanent ones too.
func (t *peers) clear() {
	for _, p := range t.byAddr {
		p.stopVerifying()
	}
	clear(t.byAddr)
	for i := range t.lists {
		t.lists[i].Init()
	}
}
