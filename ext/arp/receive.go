package arp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// HandlePacket implements stack.NetworkEndpoint: RFC 826's packet reception, with RFC 5227's look at every packet first.
func (e *endpoint) HandlePacket(pkt *stack.PacketBuffer) {
	stats := e.p.stack.Stats().ARP
	stats.PacketsReceived.Increment()
	e.stats.PacketsReceived.Increment()
	if !e.enabled.Load() {
		stats.DisabledPacketsReceived.Increment()
		e.stats.Disabled.Increment()
		return
	}
	if pkt.PktType == tcpip.PacketOtherHost {
		// A promiscuous interface sees what others were told; it is not theirs to answer, nor to believe.
		e.stats.OtherHost.Increment()
		return
	}
	p, why := parseBuffer(pkt)
	subnet, onLink := tcpip.AddressWithPrefix{}, false
	if why == WellFormed && !p.Probe() {
		subnet, onLink = e.subnetAddress(p.Sender)
		if s := subnet.Subnet(); onLink && s.IsBroadcast(p.Sender) {
			why = SenderProtocol
		}
	}
	if why != WellFormed {
		stats.MalformedPacketsReceived.Increment()
		e.stats.Malformed[why].Increment()
		return
	}
	if p.Op == OpRequest {
		stats.RequestsReceived.Increment()
		e.stats.RequestsReceived.Increment()
	} else {
		stats.RepliesReceived.Increment()
		e.stats.RepliesReceived.Increment()
	}
	if p.SenderLink == e.nic.LinkAddress() {
		e.stats.Echoes.Increment()
		return
	}
	if e.conflict(&p) {
		return
	}
	e.receive(&p, claim{
		reply: p.Op == OpReply, gratuitous: p.Gratuitous(), onLink: onLink,
		// RFC 3927 §2.5 has replies that are broadcast, with us as their target.
		direct: pkt.PktType == tcpip.PacketHost || p.TargetLink == e.nic.LinkAddress(),
	})
}

// parseBuffer parses the packet in pkt, whether or not somebody consumed its header before.
func parseBuffer(pkt *stack.PacketBuffer) (Packet, Malformed) {
	b := pkt.NetworkHeader().Slice()
	if len(b) == 0 {
		b, _ = pkt.NetworkHeader().Consume(min(header.ARPSize, pkt.Data().Size()))
	}
	return Parse(b)
}

// receive learns from a packet that conflicts with nothing of ours, and answers it.
func (e *endpoint) receive(p *Packet, c claim) {
	how := e.answersFor(p)
	if !p.Probe() {
		c.toUs = how != answerNot || c.reply && e.nic.CheckLocalAddress(header.IPv4ProtocolNumber, p.Target)
		e.learnFrom(p.Sender, p.SenderLink, c)
	}
	if p.Op != OpRequest || p.Gratuitous() {
		return
	}
	if how == answerNot {
		e.stats.Ignored.Increment()
		e.p.stack.Stats().ARP.RequestsReceivedUnknownTargetAddress.Increment()
		return
	}
	e.reply(p, how)
}

// followUp is what remains to be done for a claim once netstack knows.
type followUp uint8

const (
	followNone    followUp = iota
	followVerify           // ask the link address that the neighbour had
	followRefresh          // refresh the entries that are to stay
)

// learnFrom judges a claim, and carries the verdict out.
func (e *endpoint) learnFrom(addr tcpip.Address, link tcpip.LinkAddress, c claim) {
	g := e.guards()
	e.order.Lock()
	next, old := e.judge(addr, link, c, g)
	e.order.Unlock()
	switch next {
	case followVerify:
		e.stats.Verifications.Increment()
		if from, err := e.source(addr, tcpip.Address{}); err == nil {
			_ = e.request(from, addr, old)
		}
	case followRefresh:
		e.refresh(addr)
	}
}

// judge is learnFrom without what sends packets. old is the link address to verify. The caller holds e.order.
func (e *endpoint) judge(addr tcpip.Address, link tcpip.LinkAddress, c claim, g *guards) (next followUp, old tcpip.LinkAddress) {
	now := e.now()
	e.mu.Lock()
	b := belief{router: g.has(addr)}
	p := e.peers.byAddr[addr]
	if p != nil {
		b.known, b.resolved, b.same, b.permanent = true, p.link != "", p.link == link, p.permanent
		b.waiting = p.expects(now, link, g.answer)
		b.locked = (p.changed != tcpip.MonotonicTime{}) && now.Sub(p.changed) < e.p.opts.LockTime
	}
	v, why := e.p.opts.decide(c, b)
	tell, confirm := false, false
	switch v {
	case doNothing:
		if p == nil {
			e.stats.Unknown.Increment()
		}
	case doRefuse:
		e.stats.Refused[why].Increment()
	case doVerify:
		e.stats.Refused[why].Increment()
		if e.startVerify(p, now, b.router) {
			next, old = followVerify, p.link
		}
	case doRefresh:
		e.peers.touch(p)
		// netstack may have evicted the entry: what brings it back may evict another.
		if tell = c.toUs || p.unanswered >= g.gone; tell && e.churned() {
			next = followRefresh
		}
	case doConfirm:
		p.answered()
		e.peers.reclass(p, talking)
		confirm = true
	case doLearn, doLearnSure:
		return e.accept(p, addr, link, now, v == doLearnSure, g), ""
	}
	e.mu.Unlock()
	if tell {
		e.tell(addr, link)
	}
	if confirm {
		e.confirm(addr, link)
	}
	return next, old
}

// accept believes a claim. p is nil if the sender is new. The caller holds e.order, and e.mu, which is released.
func (e *endpoint) accept(p *peer, addr tcpip.Address, link tcpip.LinkAddress, now tcpip.MonotonicTime, sure bool, g *guards) (next followUp) {
	if p == nil {
		if !e.learn.allow(now) {
			e.mu.Unlock()
			e.stats.NotLearned.Increment()
			return followNone
		}
		p = e.peers.use(addr, g.has)
	}
	moved := p.link != "" && p.link != link
	dead := p.unanswered >= g.gone
	e.peers.setLink(p, link, now)
	if sure {
		e.peers.reclass(p, talking)
		p.answered()
	} else { // the answer to our request may still come
		p.unanswered = 0
		p.stopVerifying()
	}
	// netstack ignores an answer that comes after it gave up, and has no event for one that moves a REACHABLE neighbour; a probe has both.
	tell := !sure || dead || moved
	if tell && e.churned() {
		next = followRefresh
	}
	e.mu.Unlock()

	if moved {
		e.stats.Changed.Increment()
	} else {
		e.stats.Learned.Increment()
	}
	if tell {
		e.tell(addr, link)
	}
	if sure {
		e.confirm(addr, link)
	}
	return next
}

// startVerify prepares to ask the link address of a neighbour whether it is still there, and everybody if it is silent; it reports false if that happened
// just now, or the rate of requests forbids it. The caller holds e.mu.
func (e *endpoint) startVerify(p *peer, now tcpip.MonotonicTime, router bool) bool {
	if !p.mayVerify(now, e.p.opts.VerifyTime) || !router && !e.mayAsk(p, now) {
		return false
	}
	p.ask(now, false)
	p.verifyAt = now
	p.verify = e.p.stack.Clock().AfterFunc(e.p.opts.VerifyTime, func() { e.displaced(p) })
	return true
}

// displaced runs when the known link address of a neighbour was silent: whoever answers now has the address.
func (e *endpoint) displaced(p *peer) {
	e.mu.Lock()
	if p.verify == nil || e.peers.byAddr[p.addr] != p {
		e.mu.Unlock()
		return
	}
	p.verify = nil
	p.changed = tcpip.MonotonicTime{} // the lock time protects who is there
	p.ask(e.now(), true)
	e.mu.Unlock()
	e.stats.Displaced.Increment()
	if from, err := e.source(p.addr, tcpip.Address{}); err == nil {
		_ = e.request(from, p.addr, header.EthernetBroadcastAddress)
	}
}
