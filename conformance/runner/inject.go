package runner

import (
	"slices"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// inject is the event of a packet that arrives.
func (r *run) inject(p *script.Packet) error {
	if p.ICMP == nil && p.TCP == nil && p.UDP == nil {
		return target.Unsupportedf("%v: a packet of an unknown kind", p.Pos)
	}
	c := r.connFor(p)
	if p.TCP != nil && p.TCP.FromEdge {
		if !c.haveEdge {
			return target.Unsupportedf("%v: a sequence number from the edge of a window that was not offered yet", p.Pos)
		}
		p = c.atEdge(p)
	}
	live := wire.Packet{IP: r.inboundIP(p)}
	spoil := wire.Spoil{}
	switch {
	case p.TCP != nil:
		live.TCP = r.inboundSegment(c, p)
		spoil.Checksum = p.TCP.BadChecksum
	case p.UDP != nil:
		live.UDP = &wire.UDP{SrcPort: c.remotePort, DstPort: c.localPort, Payload: make([]byte, p.UDP.Len)}
		setPorts(&live.UDP.SrcPort, &live.UDP.DstPort, p)
	default:
		m, err := r.inboundICMP(c, p.ICMP)
		if err != nil {
			return err
		}
		live.ICMP = m
	}
	data := live.Encode(spoil)
	r.log(Inbound, data, p.String())
	err := r.target.Inject(data)
	r.collect()
	r.checkInflight()
	return err
}

// inboundIP is the IP header of a packet that arrives.
func (r *run) inboundIP(p *script.Packet) wire.IP {
	ip := wire.IP{
		Src: r.addr(p.IP.Src, r.remote),
		Dst: r.addr(p.IP.Dst, r.local),
		TOS: map[script.ECN]uint8{script.ECT0: 2, script.ECT1: 1, script.CE: 3}[p.IP.ECN],
	}
	if p.IP.TOS.Set {
		ip.TOS = p.IP.TOS.Value
	}
	if p.IP.TTL.Set {
		ip.TTL = p.IP.TTL.Value
	}
	if p.IP.FlowLabel.Set {
		ip.FlowLabel = p.IP.FlowLabel.Value
	}
	return ip
}

// setPorts applies the ports that the script gives.
func setPorts(src, dst *uint16, p *script.Packet) {
	if p.Ports.Set {
		*src, *dst = p.Ports.Value.Src, p.Ports.Value.Dst
	}
}

// inboundSegment translates a segment to the wire. A SYN sets the initial
// sequence number of the peer, if it has none yet.
func (r *run) inboundSegment(c *conn, p *script.Packet) *wire.TCP {
	t := p.TCP
	syn := t.Flags&script.SYN != 0
	switch {
	case syn && !c.haveRemote:
		c.remoteISN, c.haveRemote = t.Seq, true
	case syn && t.Flags&script.ACK == 0:
		c.newSYN, c.haveNewSYN = t.Seq, true
	}
	if syn {
		c.remoteScales = findOption(t, script.KindWScale) != nil
	}
	live := &wire.TCP{
		SrcPort:    c.remotePort,
		DstPort:    c.localPort,
		Seq:        t.Seq + c.remoteOffset(syn),
		Flags:      uint16(t.Flags),
		Reserved:   t.Reserved.Value,
		Window:     t.Win.Value,
		Urgent:     t.Urg.Value,
		DataOffset: t.DataOffset.Value,
		Payload:    r.peerPayload(c, t),
	}
	setPorts(&live.SrcPort, &live.DstPort, p)
	live.Ack = t.Ack.Value
	if t.Flags&script.ACK != 0 {
		live.Ack += c.localOffset(syn) // An ACK without a number is one of 0, as in packetdrill.
	}
	if t.ACE.Set {
		live.Flags |= uint16(t.ACE.Value&7) << 6
	}
	if t.Flags&script.URG != 0 {
		c.unverified = true
	}
	live.Options = script.EncodeOptions(c.optionsToWire(t, syn))
	return live
}

// optionsToWire translates the numbers in the options of a segment.
func (c *conn) optionsToWire(t *script.TCP, syn bool) []script.TCPOption {
	options := slices.Clone(t.Options)
	for i := range options {
		o := &options[i]
		switch o.Kind {
		case script.KindSACK:
			o.Blocks = slices.Clone(o.Blocks)
			for j := range o.Blocks {
				o.Blocks[j].Left += c.localOffset(syn)
				o.Blocks[j].Right += c.localOffset(syn)
			}
		case script.KindTimestamp:
			if t.Flags&script.ACK != 0 {
				o.TSEcr = c.echo(o.TSEcr)
			}
		}
	}
	return options
}

// quotedOctets is how much of a segment an ICMP error quotes: what RFC 792
// asks for at least, which has to be enough.
const quotedOctets = 8

// inboundICMP makes a message, which quotes a packet that the target is
// supposed to have sent.
func (r *run) inboundICMP(c *conn, m *script.ICMP) (*wire.ICMP, error) {
	typ, code, err := m.Numbers(r.v6)
	if err != nil {
		return nil, &target.UnsupportedError{What: m.String(), Why: err.Error()}
	}
	live := &wire.ICMP{Type: typ, Code: code, Rest: m.MTU.Value}
	if m.ID.Set {
		live.Rest = uint32(m.ID.Value) << 16
		return live, nil
	}
	quoted := wire.Packet{IP: wire.IP{Src: r.local, Dst: r.remote, TTL: 64, DontFragment: true}}
	q := m.Quote.Value
	switch {
	case m.Quote.Set && q.Kind == script.QuoteUDP:
		quoted.UDP = &wire.UDP{SrcPort: c.localPort, DstPort: c.remotePort, Payload: make([]byte, q.Len)}
	case m.Quote.Set && q.Kind == script.QuoteRaw:
		quoted.IP.Protocol = 255
	default:
		quoted.TCP = &wire.TCP{
			SrcPort: c.localPort,
			DstPort: c.remotePort,
			Seq:     q.Seq + c.localISN,
			Flags:   wire.ACK,
			Payload: make([]byte, q.Len),
		}
	}
	whole := quoted.Encode(wire.Spoil{})
	if q.Cut.Set {
		live.Body = whole[:min(len(whole), int(q.Cut.Value))]
		return live, nil
	}
	live.Body = truncateQuote(whole)
	return live, nil
}

// truncateQuote cuts a quoted packet after the IP header and the octets that
// are guaranteed. The length in the IP header stays what it was.
func truncateQuote(b []byte) []byte {
	header := 40
	if b[0]>>4 == 4 {
		header = int(b[0]&0xf) * 4
	}
	return b[:min(len(b), header+quotedOctets)]
}
