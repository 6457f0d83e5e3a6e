package pmtu

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Flow is the path MTU of one connection, or of one UDP peer: what the cache knows about the path, and a Machine that probes it. Errors that reach one flow, and what
// its probes find, reach the others to the same destination through the cache. A Flow is used by one goroutine at a time; it has no timers, nothing to close,
// and does not allocate after it is made.
//
// A transport asks MTU before it cuts segments, and otherwise does what Machine says.
type Flow struct {
	c    *Cache
	path Path
	link uint32
	m    *Machine
	// mtu is what MTU returned last. version and until say how long it is good for as far as the cache goes.
	mtu     uint32
	version uint64
	until   tcpip.MonotonicTime
	// published is the last result that the cache was told.
	published uint32
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
		cfg.Min = min(c.opts.FloorIPv4, link)
	}
	f := &Flow{c: c, path: p, link: link, m: NewMachine(cfg)}
	f.sync(c.clock.NowMonotonic())
	f.mtu = f.m.mtu
	return f
}

// MTU returns the size of packet to use, and whether it is another one than at the last call. It is cheap: call it for each burst.
func (f *Flow) MTU() (mtu uint32, changed bool) {
	now := f.c.clock.NowMonotonic()
	if f.c.version.Load() != f.version || !now.Before(f.until) {
		f.sync(now)
	}
	changed = f.mtu != f.m.mtu
	f.mtu = f.m.mtu
	return f.mtu, changed
}

// Current returns what MTU returned last.
func (f *Flow) Current() uint32 { return f.mtu }

// sync takes over what the cache knows.
func (f *Flow) sync(now tcpip.MonotonicTime) {
	f.version = f.c.version.Load()
	e, ok := f.c.Lookup(f.path, f.link)
	f.until = never
	mtu := f.link
	if ok {
		f.until, mtu = e.Expires, min(e.MTU, f.link)
	}
	switch {
	case f.m.state != Disabled:
		if mtu < f.m.mtu {
			f.m.TooBig(now, mtu)
		}
	case f.m.cfg.Mode != Always:
		f.m.mtu = mtu // there is no other knowledge
	}
}

// Start says that the path carries packets, as when the handshake is complete or the first answer came.
func (f *Flow) Start() {
	known := uint32(0)
	e, ok := f.c.Lookup(f.path, f.link)
	if ok && (e.Origin == FromProbe || f.m.cfg.Mode == OnBlackHole) {
		known = e.MTU
	}
	f.m.Start(f.c.clock.NowMonotonic(), known)
}

// TooBig takes an ICMP error that concerns the flow. Options.Validate decides whether it is believed; a transport that checked the quoted packet itself leaves that nil.
func (f *Flow) TooBig(r Report) Verdict {
	now := f.c.clock.NowMonotonic()
	v := f.c.TooBig(f.path, f.link, r)
	switch v {
	case Lowered:
		// The cache has the MTU, corrected by floor and plateaus.
		f.m.TooBig(now, f.c.MTU(f.path, f.link))
		f.sync(now)
	case RefusedRaise:
		f.m.TooBig(now, r.MTU) // a probe may have been too big
	case RefusedMissing:
		f.m.TooBig(now, 0)
	}
	return v
}

// Probe returns the size of a probe to send now: a packet with DF, or IPv6, whose loss says nothing about congestion.
func (f *Flow) Probe() (uint32, bool) { return f.m.Probe() }

// ProbeSent says that the probe was sent.
func (f *Flow) ProbeSent() { f.m.Sent(f.c.clock.NowMonotonic()) }

// ProbeLost says that it is lost.
func (f *Flow) ProbeLost() { f.m.ProbeLost(f.c.clock.NowMonotonic()); f.publish() }

// ProbeUnsent says that it was never sent, as when the link refused it.
func (f *Flow) ProbeUnsent() { f.m.ProbeUnsent() }

// Acked says that a packet of that size arrived, probe or not.
func (f *Flow) Acked(size uint32) { f.m.Acked(f.c.clock.NowMonotonic(), size); f.publish() }

// Lost says that a packet of that size, not a probe, is lost, though later ones arrived. It reports whether that makes a black hole: what is in flight
// should be cut anew.
func (f *Flow) Lost(size uint32) bool { return f.m.Lost(f.c.clock.NowMonotonic(), size) }

// TimedOut says that the retransmission timer went off for a packet of that size. It reports the same as Lost.
func (f *Flow) TimedOut(size uint32) bool { return f.m.TimedOut(f.c.clock.NowMonotonic(), size) }

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
	now := f.c.clock.NowMonotonic()
	f.m.SetMax(now, mtu)
	f.sync(now)
}

// publish tells the cache what a search found. What is found on the way is not told: it would disturb flows that know better.
func (f *Flow) publish() {
	done := f.m.state == Complete || f.m.state == Error && f.m.probe == 0
	switch {
	case !done:
		f.published = 0
	case f.published != f.m.mtu:
		f.published = f.m.mtu
		f.c.Found(f.path, f.link, f.m.mtu)
	}
}
