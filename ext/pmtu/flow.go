package pmtu

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Flow is the path MTU of one connection, or of one UDP peer: what the cache knows about the path, and a Machine that probes it. Errors that reach one flow, black
// holes that it falls into, and what its probes find, reach the others to the same destination through the cache. A Flow is used by one goroutine at a time; it has no timers, nothing to close,
// and does not allocate after it is made.
//
// A transport asks MTU before it cuts segments, and otherwise does what Machine says.
type Flow struct {
	c    *Cache
	path Path
	link uint32
	m    Machine
	// limit is the largest packet that the peer takes or the user wants, 0 for no limit but the link's.
	limit uint32
	// mtu is what MTU returned last. version and until say how long it is good for as far as the cache goes.
	mtu     uint32
	version uint64
	until   tcpip.MonotonicTime
	// fragment is Entry.Fragment.
	fragment bool
	// published is the last result that the cache was told. suspected is the MTU of the black hole that it was told of or told us, 0 for none.
	published, suspected uint32
	started              bool
}

// never is an instant that does not come.
var never = tcpip.MonotonicTime{}.Add(math.MaxInt64)

// Flow returns the state of a connection over path p and a link with the given MTU. cfg.Max is the link's MTU whatever it says, and for IPv6 nothing in cfg
// goes below 1280.
func (c *Cache) Flow(p Path, link uint32, cfg Config) *Flow {
	cfg.Max = link
	if p.v6() {
		cfg.Min = max(cfg.Min, header.IPv6MinimumMTU)
		cfg.Base = max(cfg.Base, header.IPv6MinimumMTU)
	} else if cfg.Min == 0 {
		cfg.Min = c.opts.FloorIPv4
	}
	f := &Flow{c: c, path: p, link: link}
	f.m.init(cfg)
	f.sync(c.clock.NowMonotonic())
	f.mtu = f.m.mtu
	return f
}

// MTU returns the size of packet to use, and whether it is another one than at the last call. It is cheap: call it for each burst.
func (f *Flow) MTU() (mtu uint32, changed bool) { return f.MTUAt(f.c.clock.NowMonotonic()) }

// MTUAt is MTU for a caller that knows the time. It begins a new search if one is due, so that a transport that calls it whenever it sends needs no timer for that.
func (f *Flow) MTUAt(now tcpip.MonotonicTime) (mtu uint32, changed bool) {
	if f.m.probe == 0 && f.m.state != Disabled && !now.Before(f.m.raise) {
		f.m.Tick(now)
		f.publish()
	}
	if f.c.version.Load() != f.version || !now.Before(f.until) {
		f.sync(now)
	}
	changed = f.mtu != f.m.mtu
	f.mtu = f.m.mtu
	return f.mtu, changed
}

// Current returns what MTU returned last.
func (f *Flow) Current() uint32 { return f.mtu }

// Fragment reports that the path carries less than MTU: IPv4 packets other than probes should go without DF, so that a router may fragment them.
func (f *Flow) Fragment() bool { return f.fragment }

// sync takes over what the cache knows.
func (f *Flow) sync(now tcpip.MonotonicTime) {
	f.version = f.c.version.Load()
	e, ok := f.c.Lookup(f.path, f.link)
	f.until, f.fragment = never, false
	mtu := f.link
	if ok {
		f.until, mtu, f.fragment = e.Expires, min(e.MTU, f.link), e.Fragment
	}
	switch {
	case ok && e.Origin == FromBlackHole && (f.m.state != Disabled || f.started && f.m.cfg.Mode != Off):
		// Another flow searches. One that searches itself knows better; one that does not yet need not lose packets to learn it.
		if f.m.state == Disabled {
			f.suspect(now, mtu)
		}
		return
	case f.m.state != Disabled || f.m.cfg.Mode == Always:
		if ok {
			f.m.TooBig(now, mtu)
		}
		return
	}
	f.m.mtu = min(mtu, f.m.cfg.Max) // there is no other knowledge
}

// Start says that the path carries packets, as when the handshake is complete or the first answer came.
func (f *Flow) Start() {
	now := f.c.clock.NowMonotonic()
	known := uint32(0)
	e, ok := f.c.Lookup(f.path, f.link)
	if ok && (e.Origin == FromProbe || f.m.cfg.Mode == OnBlackHole) {
		known = e.MTU
	}
	f.started = true
	if ok && e.Origin == FromBlackHole {
		f.suspect(now, e.MTU)
	}
	f.m.Start(now, known)
	f.sync(now)
}

// suspect begins a search, since another flow found a black hole.
func (f *Flow) suspect(now tcpip.MonotonicTime, mtu uint32) {
	f.m.Suspect(now, mtu)
	f.suspected = mtu
}

// TooBig takes an ICMP error that concerns the flow. Options.Validate decides whether it is believed; a transport that checked the quoted packet itself leaves that nil.
func (f *Flow) TooBig(r Report) Verdict {
	now := f.c.clock.NowMonotonic()
	if r.MTU < header.IPv4MinimumMTU && !f.path.v6() && f.m.state != Disabled && (r.Size > f.m.mtu || r.Size == 0 && f.m.outstanding) {
		// About a probe, or about what was sent before the MTU was lowered: the search goes on with a smaller one, and finds more than a plateau would.
		v := f.c.refuse(f.path, r)
		if v == RefusedRaise && (r.Size == f.m.probe || r.Size == 0) {
			f.m.TooBig(now, 0)
			f.publish()
		}
		return v
	}
	v := f.c.TooBig(f.path, f.link, r)
	switch v {
	case Lowered:
		// The cache has the MTU, corrected by floor and plateaus.
		f.sync(now)
	case RefusedRaise:
		// A probe may have been too big, or another flow told the cache already.
		f.sync(now)
		if r.MTU >= header.IPv4MinimumMTU {
			f.m.TooBig(now, max(r.MTU, f.c.floor(f.path)))
			f.publish()
		}
	}
	return v
}

// Probe returns the size of a probe to send now: a packet with DF, or IPv6, whose loss says nothing about congestion.
func (f *Flow) Probe() (uint32, bool) { return f.m.Probe() }

// ProbeSent says that the probe was sent.
func (f *Flow) ProbeSent() { f.m.Sent(f.c.clock.NowMonotonic()) }

// ProbeLost says that it is lost.
func (f *Flow) ProbeLost() { f.m.ProbeLost(f.c.clock.NowMonotonic()); f.publish() }

// ProbeUnsent says that it was never sent, as when the link refused it, or that its fate cannot be told.
func (f *Flow) ProbeUnsent() { f.m.ProbeUnsent() }

// Acked says that a packet of that size arrived, probe or not.
func (f *Flow) Acked(size uint32) { f.AckedAt(f.c.clock.NowMonotonic(), size) }

// AckedAt is Acked for a caller that knows the time.
func (f *Flow) AckedAt(now tcpip.MonotonicTime, size uint32) {
	f.m.Acked(now, size)
	f.publish()
}

// Probing returns the size of the probe that is under way, 0 if none is.
func (f *Flow) Probing() uint32 {
	if f.m.outstanding {
		return f.m.probe
	}
	return 0
}

// Lost says that a packet of that size, not a probe, is lost, though later ones arrived. It reports whether that makes a black hole: what is in flight
// should be cut anew.
func (f *Flow) Lost(size uint32) bool {
	return f.fell(f.m.Lost(f.c.clock.NowMonotonic(), size), true)
}

// TimedOut says that the retransmission timer went off for a packet of that size. It reports the same as Lost. What is sent again now should have the size
// of Fallback.
func (f *Flow) TimedOut(size uint32) bool {
	passed := f.m.passed != 0 // else the path may just have been down
	return f.fell(f.m.TimedOut(f.c.clock.NowMonotonic(), size), passed)
}

// fell tells the cache of a black hole, so that flows which begin before its size is found need not fall into it.
func (f *Flow) fell(hole, sure bool) bool {
	if hole && sure {
		f.suspected = f.m.mtu
		f.c.Vanished(f.path, f.link, f.m.mtu)
	}
	return hole
}

// Fallback is the size in which to send again what timed out: smaller than MTU until something arrives.
func (f *Flow) Fallback() uint32 { return f.m.Fallback() }

// Deadline returns in how long Tick is due, and false if never.
func (f *Flow) Deadline() (time.Duration, bool) {
	t, ok := f.m.Deadline()
	if !ok {
		return 0, false
	}
	return max(t.Sub(f.c.clock.NowMonotonic()), 0), true
}

// Tick does what is due. A transport without a timer to spare may call it whenever it sends.
func (f *Flow) Tick() { f.m.Tick(f.c.clock.NowMonotonic()); f.publish() }

// State returns the state of the search.
func (f *Flow) State() State { return f.m.state }

// SetLink changes the MTU of the link.
func (f *Flow) SetLink(mtu uint32) {
	f.link = mtu
	f.bound()
}

// Limit bounds the packets of this flow, not of the path: the peer takes no larger ones, or the user wants none. 0 takes the limit away.
func (f *Flow) Limit(mtu uint32) {
	f.limit = mtu
	f.bound()
}

func (f *Flow) bound() {
	now := f.c.clock.NowMonotonic()
	most := f.link
	if f.limit != 0 {
		most = min(most, f.limit)
	}
	f.m.SetMax(now, most)
	f.sync(now)
}

// publish tells the cache what a search found. What is found on the way is told only where the cache has a black hole, for flows that begin: it would disturb flows
// that know better. Nor is a search told that came to the flow's own limit: the path may carry more.
func (f *Flow) publish() {
	done := f.m.state == Complete || f.m.state == Error && f.m.probe == 0
	switch {
	case !done:
		f.published = 0
		if f.suspected != 0 && f.m.mtu > f.suspected && f.m.state == Searching {
			f.suspected = f.m.mtu
			f.c.climbed(f.path, f.link, f.m.mtu)
		}
	case f.published != f.m.mtu && (f.m.mtu < f.m.cfg.Max || f.m.cfg.Max >= f.link):
		f.published, f.suspected = f.m.mtu, 0
		f.c.Found(f.path, f.link, f.m.mtu)
	}
}
