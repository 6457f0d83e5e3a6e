package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// segmentOverhead is what a queued segment costs beside its payload, in bytes, roughly: this keeps a flood of empty segments within bounds.
const segmentOverhead = 512

// HandlePacket implements stack.TransportEndpoint.HandlePacket.
func (e *Endpoint) HandlePacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if s := e.proto.parse(id, pkt, e); s != nil {
		e.deliver(s)
	}
}

// parse checks a packet and takes from it what the core needs. It returns nil, having counted, if the header or the checksum is wrong. e is the endpoint that the
// packet is for, nil if there is none.
func (p *protocol) parse(id stack.TransportEndpointID, pkt *stack.PacketBuffer, e *Endpoint) *inbound {
	hdr := header.TCP(pkt.TransportHeader().Slice())
	if len(hdr) < header.TCPMinimumSize || int(hdr.DataOffset()) < header.TCPMinimumSize || int(hdr.DataOffset()) > len(hdr) {
		p.tcpStats.InvalidSegmentsReceived.Increment()
		p.dropped.Increment()
		if e != nil {
			e.statistics().ReceiveErrors.MalformedPacketsReceived.Increment()
		}
		return nil
	}
	hdr = hdr[:hdr.DataOffset()]
	size := pkt.Data().Size()
	if !pkt.RXChecksumValidated && !hdr.IsChecksumValid(id.RemoteAddress, id.LocalAddress, pkt.Data().Checksum(), uint16(size)) {
		p.tcpStats.ChecksumErrors.Increment()
		p.dropped.Increment()
		if e != nil {
			e.statistics().ReceiveErrors.ChecksumErrors.Increment()
		}
		return nil
	}
	p.tcpStats.ValidSegmentsReceived.Increment()

	s := newInbound()
	s.id, s.net, s.nic = id, pkt.NetworkProtocolNumber, pkt.NICID
	s.size = int32(size + segmentOverhead)
	g := &s.seg
	*g = tcb.Segment{} // the core keeps marks of its own in it
	g.Seq, g.Ack = tcb.Seq(hdr.SequenceNumber()), tcb.Seq(hdr.AckNumber())
	g.Flags = tcb.Flags(hdr.Flags()) | tcb.Flags(hdr[header.TCPDataOffset]&1)<<8 // AE
	g.Wnd, g.Up = hdr.WindowSize(), hdr.UrgentPointer()
	// A malformed option ends the options but does not cost the segment (RFC 9293 MUST-7).
	tcb.ParseOptions(hdr[header.TCPMinimumSize:], &g.Opts)
	g.ECN = ecnBits(pkt)
	g.Len, g.Segs = size, 1
	if size > 0 {
		g.Payload = pkt.Data().ToBuffer()
		if mss := int(pkt.GSOOptions.MSS); mss > 0 && size > mss {
			g.Segs = (size + mss - 1) / mss
		}
	}
	if g.Flags.Has(tcb.RST) {
		p.tcpStats.ResetsReceived.Increment()
	}
	return s
}

// ecnBits returns the ECN field of the packet's network header (RFC 3168 §5).
func ecnBits(pkt *stack.PacketBuffer) uint8 {
	h := pkt.NetworkHeader().Slice()
	switch {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(h) >= header.IPv4MinimumSize:
		tos, _ := header.IPv4(h).TOS()
		return tos & 3
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(h) >= header.IPv6MinimumSize:
		tos, _ := header.IPv6(h).TOS()
		return tos & 3
	}
	return 0
}

// process handles one delivery and takes it over. The caller holds e.mu.
func (e *Endpoint) process(s *inbound) {
	if s.icmp != nil {
		e.processICMP(s)
		s.release()
		return
	}
	switch e.phase {
	case phaseListen:
		e.lst.segments++
		e.listenSegment(s)
	case phaseOpen:
		e.openSegment(s)
	case phaseDeferred:
		e.proto.refuse(s) // nothing was sent that this could be for
		s.release()
	default:
		// The endpoint has let go of its addresses since the segment was queued.
		e.proto.redeliver(s, e)
	}
}

// openSegment passes a segment to the core. The caller holds e.mu.
func (e *Endpoint) openSegment(s *inbound) {
	if e.parent != nil && e.holdFinalACK(&s.seg) {
		s.release()
		return
	}
	if q := e.ops.GetQuickAck(); q != e.quickAck {
		// SocketOptions has no hook for TCP_QUICKACK.
		e.setQuickAck(q)
	}
	e.tcb.SegmentArrives(e.proto.now(), &s.seg)
	e.collect()
	if e.events&tcb.EventTimeWaitSYN != 0 {
		// A new incarnation (RFC 9293 §3.10.7.4, RFC 6191): the old one is gone, the SYN is the listener's.
		e.events &^= tcb.EventTimeWaitSYN
		e.proto.stats.TimeWaitReused.Increment()
		e.proto.redeliver(s, e)
		return
	}
	s.release()
}

// redeliver finds the endpoint that a segment is for now that old is not, and takes the segment over.
func (p *protocol) redeliver(s *inbound, old *Endpoint) {
	t := p.stack.FindTransportEndpoint(s.net, ProtocolNumber, s.id, s.nic)
	if e, ok := t.(*Endpoint); ok && e != old {
		e.deliver(s)
		return
	}
	// A forwarder might want a SYN. It gets the peer's next one, since there is no way to it from here.
	if t == nil && !(p.forwarding.Load() && s.seg.Flags&(tcb.SYN|tcb.ACK|tcb.RST) == tcb.SYN) {
		p.refuse(s)
	}
	s.release()
}

// refuse answers a segment for which there is no connection with RST (RFC 9293 §3.10.7.1), unless it is a RST itself or its addresses are not those
// of one peer (MUST-57).
func (p *protocol) refuse(s *inbound) {
	if !unicast(s.id.RemoteAddress) || !unicast(s.id.LocalAddress) {
		return
	}
	if r, ok := tcb.Reset(&s.seg); ok {
		p.sendControl(s, &control{id: s.id, seq: r.Seq, ack: r.Ack, flags: r.Flags})
	}
}

// unicast reports that a is neither unspecified nor a multicast or limited broadcast address.
func unicast(a tcpip.Address) bool {
	return a.Len() != 0 && !a.Unspecified() && !header.IsV4MulticastAddress(a) && !header.IsV6MulticastAddress(a) && a != header.IPv4Broadcast
}
