package arp

// claim is what a packet says about its sender, reduced to what decides whether to believe it.
type claim struct {
	// reply, gratuitous: see Packet. toUs: the target is one of our addresses, or one that we answer for.
	reply, gratuitous, toUs bool
	// unicast: the packet was sent to us alone.
	unicast bool
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
// neighbour at once, and nobody who did not ask can move what is permanent or a router.
func (o *Options) decide(c claim, b belief) (verdict, Refusal) {
	solicited := c.reply && c.toUs && !c.gratuitous && b.waiting
	switch {
	case b.permanent && b.same:
		return doNothing, 0
	case b.permanent:
		return doRefuse, RefusedPermanent
	case !b.known:
		return o.decideUnknown(c), 0
	case b.resolved && b.same:
		if solicited && c.unicast {
			return doConfirm, 0
		}
		return doRefresh, 0
	case b.resolved && b.locked:
		return doRefuse, RefusedLocked
	case solicited && c.unicast:
		return doLearnSure, 0
	case solicited:
		return doLearn, 0
	case c.reply && !c.gratuitous:
		return doRefuse, RefusedUnsolicited
	case b.router && b.resolved && o.RouterGuard == VerifyRouters:
		return doVerify, RefusedRouter
	case b.router && b.resolved && o.RouterGuard == RefuseRouters:
		return doRefuse, RefusedRouter
	case o.Accept == AcceptNever && (c.gratuitous || !c.toUs):
		return doRefuse, RefusedPolicy
	}
	return doLearn, 0
}

// decideUnknown judges the claim of a sender that we have no entry for.
func (o *Options) decideUnknown(c claim) verdict {
	switch {
	case c.gratuitous && (o.Accept == AcceptAny || o.Accept == AcceptSubnet && c.onLink):
		return doLearn
	case c.gratuitous || c.reply:
		return doNothing
	case c.toUs && c.onLink:
		return doLearn // RFC 826: who asks for us is about to be talked to
	}
	return doNothing
}
