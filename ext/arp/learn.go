package arp

// claim is what a packet says about its sender, reduced to what decides whether to believe it.
type claim struct {
	// reply, gratuitous: see Packet. toUs: the target is one of our addresses, or one that we answer for.
	reply, gratuitous, toUs bool
	// direct: the packet was sent to us alone, or has our link address as its target's.
	direct bool
	// onLink: the sender is in a subnet of the interface.
	onLink bool
}

// belief is what we hold about the sender.
type belief struct {
	known     bool // we asked for it, or learned it
	resolved  bool // it has a link address
	same      bool // and the packet has the same one
	permanent bool
	router    bool
	waiting   bool // a request of ours is unanswered
	locked    bool // it changed within the lock time
}

// verdict is what to do with a claim.
type verdict uint8

const (
	doNothing   verdict = iota
	doRefresh           // the link address is the known one
	doConfirm           // and the packet answers us: the neighbour is reachable both ways
	doLearn             // take the link address, unverified: STALE
	doLearnSure         // take the link address from an answer to us: REACHABLE
	doRefuse            // the claim contradicts what we hold
	doVerify            // refuse, and ask whether the old link address is still alive
)

// decide judges a claim. It is RFC 826's reception rule with what later experience added: an answer counts only if somebody asked, an announcement moves a
// neighbour at once, and nobody who was not asked can move what is permanent or a router, nor be the first to say where a router is.
func (o *Options) decide(c claim, b belief) (verdict, Refusal) {
	solicited := c.reply && c.toUs && !c.gratuitous && b.waiting
	switch {
	case b.permanent && b.same:
		return doNothing, 0
	case b.permanent:
		return doRefuse, RefusedPermanent
	case b.resolved && b.same:
		if solicited && c.direct {
			return doConfirm, 0
		}
		return doRefresh, 0
	case b.resolved && b.locked && (solicited || o.refuses(c, b)):
		return doRefuse, RefusedLocked
	case b.resolved && b.locked && !(c.reply && !c.gratuitous):
		return doVerify, RefusedLocked // it may be a fail-over that came soon
	case solicited && c.direct:
		return doLearnSure, 0
	case solicited:
		return doLearn, 0
	case c.reply && !c.gratuitous:
		if !b.known {
			return doNothing, 0
		}
		return doRefuse, RefusedUnsolicited
	case !b.known && !o.learns(c):
		return doNothing, 0
	case b.router && b.resolved && o.RouterGuard == VerifyRouters:
		return doVerify, RefusedRouter
	case b.router && o.RouterGuard != TrustRouters:
		return doRefuse, RefusedRouter // who needs it asks for it
	case b.known && o.refuses(c, b):
		return doRefuse, RefusedPolicy
	}
	return doLearn, 0
}

// refuses reports whether an unasked-for claim about a known neighbour is refused however old the entry is.
func (o *Options) refuses(c claim, b belief) bool {
	return o.Accept == AcceptNever && (c.gratuitous || !c.toUs) || b.router && o.RouterGuard == RefuseRouters
}

// learns reports whether the unasked-for claim of a sender that we have no entry for makes one.
func (o *Options) learns(c claim) bool {
	if c.gratuitous {
		return o.Accept == AcceptAny || o.Accept == AcceptSubnet && c.onLink
	}
	return c.toUs && c.onLink // RFC 826: who asks for us is about to be talked to
}
