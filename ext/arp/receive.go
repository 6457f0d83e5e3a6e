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
	p, why := parseBuffer(pkt)
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
	e.receive(&p, pkt.PktType == tcpip.PacketHost)
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
func (e *endpoint) receive(p *Packet, unicast bool) {
	how := e.answersFor(p)
	if !p.Probe() {
		_, onLink := e.subnetAddress(p.Sender)
		toUs := how != answerNot || e.nic.CheckLocalAddress(header.IPv4ProtocolNumber, p.Target)
		e.learnFrom(p.Sender, p.SenderLink, claim{
			reply: p.Op == OpReply, gratuitous: p.Gratuitous(), toUs: toUs, unicast: unicast, onLink: onLink,
		})
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

// learnFrom judges a claim, and carries the verdict out.
func (e *endpoint) learnFrom(addr tcpip.Address, link tcpip.LinkAddress, c claim) {
	now := e.now()
	e.mu.Lock()
	b := belief{}
	p := e.peers.byAddr[addr]
	if p != nil {
		b = belief{
			known: true, resolved: p.link != "", same: p.link == link, permanent: p.permanent,
			waiting: p.expects(now, link),
			locked:  now.Sub(p.changed) < e.p.opts.LockTime,
		}
		b.router = b.resolved && !b.same && e.guarded(addr)
	}
	v, why := e.p.opts.decide(c, b)
	switch v {
	case doNothing:
		e.mu.Unlock()
	case doRefuse:
		e.mu.Unlock()
		e.stats.Refused[why].Increment()
	case doVerify:
		e.stats.Refused[why].Increment()
		e.verifyAndUnlock(p, now)
	case doRefresh:
		e.peers.touch(p)
		dead := p.unanswered >= gone
		e.mu.Unlock()
		if c.toUs || dead {
			e.tell(addr, link)
		}
	case doConfirm:
		p.answered()
		e.peers.touch(p)
		e.mu.Unlock()
		e.confirm(addr, link)
	case doLearn, doLearnSure:
		e.acceptAndUnlock(p, addr, link, now, v == doLearnSure)
	}
}

// acceptAndUnlock believes a claim. p is nil if the sender is new. The caller holds e.mu, which is released.
func (e *endpoint) acceptAndUnlock(p *peer, addr tcpip.Address, link tcpip.LinkAddress, now tcpip.MonotonicTime, sure bool) {
	fresh := p == nil
	if fresh {
		if !e.learn.allow(now) {
			e.mu.Unlock()
			e.stats.NotLearned.Increment()
			return
		}
		p = e.peers.use(addr, e.guarded)
	}
	moved := p.link != "" && p.link != link
	dead := p.unanswered >= gone
	e.peers.setLink(p, link, now)
	p.answered()
	refresh := fresh && e.churned()
	e.mu.Unlock()

	if moved {
		e.stats.Changed.Increment()
	} else {
		e.stats.Learned.Increment()
	}
	// netstack ignores an answer that comes after it gave up; a probe it does not.
	if !sure || dead {
		e.tell(addr, link)
	}
	if sure {
		e.confirm(addr, link)
	}
	if refresh {
		e.refreshGuarded(addr)
	}
}

// verifyAndUnlock asks the known link address of a router whether it is still there, and everybody if it is silent. The caller holds e.mu, which is released.
func (e *endpoint) verifyAndUnlock(p *peer, now tcpip.MonotonicTime) {
	addr, old := p.addr, p.link
	if p.verify != nil {
		e.mu.Unlock()
		return
	}
	p.ask(now, false)
	p.verify = e.p.stack.Clock().AfterFunc(e.p.opts.VerifyTime, func() { e.displaced(p) })
	e.mu.Unlock()
	e.stats.Verifications.Increment()
	if from, err := e.source(addr, tcpip.Address{}); err == nil {
		_ = e.request(from, addr, old)
	}
}

// displaced runs when the known link address of a router was silent: whoever answers now has the address.
func (e *endpoint) displaced(p *peer) {
	e.mu.Lock()
	if p.verify == nil || e.peers.byAddr[p.addr] != p {
		e.mu.Unlock()
		return
	}
	p.verify = nil
	p.ask(e.now(), true)
	e.mu.Unlock()
	e.stats.Displaced.Increment()
	if from, err := e.source(p.addr, tcpip.Address{}); err == nil {
		_ = e.request(from, p.addr, header.EthernetBroadcastAddress)
	}
}
