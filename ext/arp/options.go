package arp

import (
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Accept says which unasked-for packets teach us a link address. Answers to our own requests, and requests that ask for one of our addresses, always do.
type Accept uint8

const (
	// AcceptKnown lets a gratuitous packet, or an overheard request, change the entry of a neighbour that is known, and creates none (Linux's arp_accept 0).
	AcceptKnown Accept = iota
	// AcceptNever ignores them.
	AcceptNever
	// AcceptSubnet also creates an entry for a gratuitous packet from a subnet of the interface (arp_accept 2).
	AcceptSubnet
	// AcceptAny also creates an entry for any gratuitous packet (arp_accept 1).
	AcceptAny
)

// RouterGuard says what an unasked-for packet may do to the entry of a router: an address that is a gateway in the stack's route table, or in Options.Protect.
type RouterGuard uint8

const (
	// VerifyRouters refuses the change and asks: first the old link address, and if that is silent for Options.VerifyTime, everybody. A live router cannot be
	// displaced by a forged announcement, and a fail-over costs VerifyTime.
	VerifyRouters RouterGuard = iota
	// RefuseRouters refuses the change. A fail-over is found by Neighbour Unreachability Detection alone, after several seconds.
	RefuseRouters
	// TrustRouters treats routers like everybody else.
	TrustRouters
)

// Ignore says which requests are answered, like Linux's arp_ignore; each level includes the ones before it.
type Ignore uint8

const (
	// IgnoreOtherInterfaces answers for addresses of the interface that the request came in on (arp_ignore 1).
	IgnoreOtherInterfaces Ignore = iota
	// IgnoreNone answers for any address of the stack (arp_ignore 0).
	IgnoreNone
	// IgnoreOtherSubnets answers as IgnoreOtherInterfaces, if the sender is in the subnet of the address (arp_ignore 2), or is a probe.
	IgnoreOtherSubnets
	// IgnoreAll answers nothing (arp_ignore 8).
	IgnoreAll
)

// Source says which address our requests come from, like Linux's arp_announce.
type Source uint8

const (
	// SourceAny uses the source of the packet that is to be sent, if the interface has it, else as SourceBest (arp_announce 0).
	SourceAny Source = iota
	// SourceSubnet uses it only if it is in the subnet of the target, else as SourceBest (arp_announce 1).
	SourceSubnet
	// SourceBest prefers an address of the interface in the target's subnet, then the primary one (arp_announce 2).
	SourceBest
)

// Defence says how an address of ours is defended when another host claims it (RFC 5227 §2.4).
type Defence uint8

const (
	// DefendAlways announces the address, at most once in Timing.DefendInterval, and keeps it: (c) of the RFC, for routers and servers.
	DefendAlways Defence = iota
	// DefendOnce announces once, and gives up at a second conflict within Timing.DefendInterval: (b).
	DefendOnce
	// GiveUp removes the address at the first conflict: (a).
	GiveUp
	// Observe reports conflicts and does nothing.
	Observe
)

// Rate is a limit of events: PerSecond in the long run, Burst at once. The zero value stands for a default, a negative PerSecond for no limit.
type Rate struct {
	PerSecond int
	Burst     int
}

// Timing holds the constants of RFC 5227 §1.1. Zero fields have the RFC's values, negative ones mean zero.
type Timing struct {
	ProbeWait        time.Duration // 1 s: the first probe is delayed by up to this
	ProbeNum         int           // 3
	ProbeMin         time.Duration // 1 s between probes at least
	ProbeMax         time.Duration // 2 s between probes at most
	AnnounceWait     time.Duration // 2 s from the last probe until the address is ours
	AnnounceNum      int           // 2
	AnnounceInterval time.Duration // 2 s
	MaxConflicts     int           // 10 conflicts, then attempts slow down
	RateLimit        time.Duration // 60 s between attempts after that
	DefendInterval   time.Duration // 10 s
}

// Proxy is a range of addresses that we answer for, because we forward to them (RFC 1027).
type Proxy struct {
	// Prefix holds the addresses.
	Prefix tcpip.Subnet
	// NIC limits the rule to requests that come in on this interface; 0 stands for all.
	NIC tcpip.NICID
	// SameLink also answers if the way to the address leads out of the interface that the request came in on (RFC 3069, private VLANs). Otherwise such
	// a request is not answered, since the host itself will.
	SameLink bool
}

// Options configure the protocol. The zero value has the defaults that the fields name.
type Options struct {
	// Accept is AcceptKnown by default, RouterGuard VerifyRouters, Ignore IgnoreOtherInterfaces, Source SourceAny, Defence DefendAlways.
	Accept      Accept
	RouterGuard RouterGuard
	Ignore      Ignore
	Source      Source
	Defence     Defence

	// LockTime is how long a neighbour's link address stands before another may replace it: of two hosts that answer, the first wins. 1 s by default,
	// negative for none.
	LockTime time.Duration
	// VerifyTime is how long the old link address of a router (VerifyRouters), or of a neighbour that moves again within LockTime, has to answer, and how
	// often it is asked at most. 200 ms by default.
	VerifyTime time.Duration
	// Protect lists addresses that are guarded as routers are, and like them are kept in the cache whatever else is resolved. (Gateways of new routes are
	// guarded within 100 ms.)
	Protect []tcpip.Address

	// Proxy lists the ranges that are answered for. The interface needs no address in them.
	Proxy []Proxy
	// OnConflict is told of conflicts over our addresses, at most once an address and DefendInterval. It is called by the goroutine that delivered the
	// packet, with no lock held.
	OnConflict func(Conflict)
	// NoAnnounce keeps the addresses of an interface from being announced when it is enabled.
	NoAnnounce bool

	// Requests bounds the broadcast requests sent (256/s, burst 512; routers are exempt), Replies the replies sent (1,000/s, burst 1,000), both for each
	// interface, for neighbours with a known link address and for others apart; Learn the neighbours learned from their own packets (64/s, burst 256).
	Requests, Replies, Learn Rate

	// MaxPeers bounds what is remembered of neighbours beside netstack's own cache, for each interface. 1,024 by default.
	MaxPeers int
	// UnicastProbes is how many probes in a row go to a neighbour's known link address (RFC 1122 §2.3.2.1); further ones are broadcast, so that a neighbour
	// that moved silently is found sooner. 1 by default, negative for no bound.
	UnicastProbes int
	// Timing holds the constants of address conflict detection.
	Timing Timing
}

func orDefault[T ~int | ~int64](v *T, d T) {
	switch {
	case *v == 0:
		*v = d
	case *v < 0:
		*v = 0
	}
}

// withDefaults returns o with its zero fields filled in.
func (o Options) withDefaults() Options {
	orDefault(&o.LockTime, time.Second)
	orDefault(&o.VerifyTime, 200*time.Millisecond)
	orDefault(&o.MaxPeers, 1024)
	o.MaxPeers = max(o.MaxPeers, 16)
	if o.UnicastProbes == 0 {
		o.UnicastProbes = 1
	}
	o.Protect, o.Proxy = slices.Clone(o.Protect), slices.Clone(o.Proxy)
	o.Requests.orDefault(256, 512)
	o.Replies.orDefault(1000, 1000)
	o.Learn.orDefault(64, 256)
	o.Timing.setDefaults()
	return o
}

func (r *Rate) orDefault(perSecond, burst int) {
	if r.PerSecond == 0 {
		r.PerSecond = perSecond
		if r.Burst == 0 {
			r.Burst = burst
		}
	}
	r.Burst = max(r.Burst, 1)
}

func (t *Timing) setDefaults() {
	orDefault(&t.ProbeWait, time.Second)
	orDefault(&t.ProbeNum, 3)
	orDefault(&t.ProbeMin, time.Second)
	orDefault(&t.ProbeMax, 2*time.Second)
	orDefault(&t.AnnounceWait, 2*time.Second)
	orDefault(&t.AnnounceNum, 2)
	orDefault(&t.AnnounceInterval, 2*time.Second)
	orDefault(&t.MaxConflicts, 10)
	orDefault(&t.RateLimit, time.Minute)
	orDefault(&t.DefendInterval, 10*time.Second)
	t.ProbeMax = max(t.ProbeMax, t.ProbeMin)
}

// limiter is a token bucket: the generic cell rate algorithm, which needs one instant of state.
type limiter struct {
	// every is the time that one event costs, slack what may be used in advance. every 0 stands for no limit.
	every, slack time.Duration
	// next is when the bucket would be full.
	next tcpip.MonotonicTime
}

func newLimiter(r Rate) limiter {
	if r.PerSecond < 0 {
		return limiter{}
	}
	every := max(time.Second/time.Duration(r.PerSecond), 1)
	return limiter{every: every, slack: every * time.Duration(r.Burst-1)}
}

// allow takes a token, and reports false if there is none.
func (l *limiter) allow(now tcpip.MonotonicTime) bool {
	if l.every == 0 {
		return true
	}
	if l.next.Before(now) {
		l.next = now
	}
	if l.next.Sub(now) > l.slack {
		return false
	}
	l.next = l.next.Add(l.every)
	return true
}
