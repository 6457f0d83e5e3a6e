package runner

import (
	"maps"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
)

// conn is a connection, or the socket that one will come from, with what is
// needed to translate between the numbers of the script and those on the wire.
//
// In script space a sequence number counts from the initial sequence number of
// its side, except in segments with SYN, where the script gives the initial
// sequence number itself.
type conn struct {
	localPort, remotePort uint16
	// file is the descriptor of the connection, once there is one.
	file *file
	// listening says that the next packet that arrives makes a child.
	listening bool

	// localISN is the initial sequence number that the target chose, and
	// scriptISN what the script calls it.
	localISN, scriptISN uint32
	haveLocal           bool
	// remoteISN is the peer's, which the script chooses.
	remoteISN  uint32
	haveRemote bool
	// newSYN is the sequence number of a SYN that arrived after the first:
	// the beginning of another incarnation, if the target takes it for
	// that.
	newSYN     uint32
	haveNewSYN bool

	// edge is the sequence number of the peer, in script space, at the right
	// edge of the window that the target has offered, if haveEdge. Shift is
	// the target's scale factor, which counts if remoteScales as well.
	edge         uint32
	haveEdge     bool
	shift        uint8
	remoteScales bool

	// sent is the highest sequence number that the target has sent, in
	// script space, plus one.
	sent uint32

	// tsScript and tsLive are the first timestamp of the target in both
	// spaces, if haveTS; tsMap has every one that the script named.
	tsScript, tsLive uint32
	haveTS           bool
	tsMap            map[uint32]uint32

	// peer are the octets of the peer's stream that the script itself
	// gives, by offset. Unverified says that what is read cannot be
	// foretold, since urgent data leaves the stream.
	peer       map[uint32]byte
	unverified bool

	// flowScript and flowLive are the flow label in both spaces.
	flowScript, flowLive uint32
}

// clone returns a copy that shares nothing that changes.
func (c *conn) clone() conn {
	d := *c
	d.tsMap = maps.Clone(c.tsMap)
	return d
}

// connOf returns the connection that an outbound packet belongs to, or nil.
func (r *run) connOf(p *wire.Packet) *conn {
	local, remote, ok := ports(p)
	if !ok {
		return r.current
	}
	for _, port := range []uint16{local, 0} { // 0 is a port that is not known yet
		for i := len(r.conns) - 1; i >= 0; i-- {
			if c := r.conns[i]; c.remotePort == remote && c.localPort == port && !c.listening {
				return c
			}
		}
	}
	return nil
}

// ports returns the local and the remote port of an outbound packet.
func ports(p *wire.Packet) (local, remote uint16, ok bool) {
	switch {
	case p.TCP != nil:
		return p.TCP.SrcPort, p.TCP.DstPort, true
	case p.UDP != nil:
		return p.UDP.SrcPort, p.UDP.DstPort, true
	}
	return 0, 0, false
}

// addConn makes a connection known.
func (r *run) addConn(c *conn) *conn {
	r.conns = append(r.conns, c)
	return c
}

// connFor returns the connection that a packet of the script belongs to. A
// packet that arrives while the current socket listens, or while there is
// none, begins a new one.
func (r *run) connFor(p *script.Packet) *conn {
	if p.Ports.Set {
		return r.connByPorts(p)
	}
	if r.current != nil && !r.current.listening {
		return r.current
	}
	if p.Dir == script.Outbound {
		if r.current == nil {
			r.current = r.addConn(&conn{})
		}
		return r.current
	}
	local := r.bindPort
	if r.current != nil && r.current.localPort != 0 {
		local = r.current.localPort
	}
	r.current = r.addConn(&conn{localPort: local, remotePort: r.nextPort})
	r.nextPort++
	return r.current
}

// connByPorts returns the connection with the ports that the packet gives,
// which is a new one if there is none yet.
func (r *run) connByPorts(p *script.Packet) *conn {
	local, remote := p.Ports.Value.Dst, p.Ports.Value.Src
	if p.Dir == script.Outbound {
		local, remote = remote, local
	}
	for i := len(r.conns) - 1; i >= 0; i-- {
		if c := r.conns[i]; c.localPort == local && c.remotePort == remote && !c.listening {
			return c
		}
	}
	c := r.addConn(&conn{localPort: local, remotePort: remote})
	if r.current == nil || r.current.listening {
		r.current = c
	}
	return c
}

// localOffset is what to add to a sequence number of the target in script
// space to get that on the wire.
func (c *conn) localOffset(syn bool) uint32 {
	if syn {
		return c.localISN - c.scriptISN
	}
	return c.localISN
}

// remoteOffset is localOffset for the peer.
func (c *conn) remoteOffset(syn bool) uint32 {
	if syn {
		return 0
	}
	return c.remoteISN
}

// learn takes the initial sequence number of the target from a SYN that it
// sent. Want is the packet that the script expects, or nil.
func (c *conn) learn(t *wire.TCP, want *script.TCP) {
	if t.Flags&wire.SYN == 0 {
		return
	}
	another := c.newSYN != c.remoteISN || t.Seq != c.localISN
	if c.haveNewSYN && t.Flags&wire.ACK != 0 && t.Ack == c.newSYN+1 && another {
		c.reincarnate()
	}
	if c.haveLocal {
		return
	}
	c.localISN, c.haveLocal = t.Seq, true
	if want != nil && want.Flags&script.SYN != 0 {
		c.scriptISN = want.Seq
	}
}

// reincarnate begins another connection between the same ports.
func (c *conn) reincarnate() {
	*c = conn{
		localPort: c.localPort, remotePort: c.remotePort,
		remoteISN: c.newSYN, haveRemote: true,
	}
}

// noteWindow remembers the right edge of the window that a segment offers.
func (c *conn) noteWindow(t *wire.TCP) {
	shift := c.shift
	if t.Flags&wire.SYN != 0 {
		shift, c.shift = 0, 0
		for _, o := range script.DecodeOptions(t.Options) {
			if o.Kind == script.KindWScale {
				c.shift = min(o.Shift, 14) // RFC 7323 section 2.3
			}
		}
	}
	if !c.remoteScales {
		shift = 0
	}
	edge := t.Ack - c.remoteISN + uint32(t.Window)<<shift
	if t.Flags&wire.ACK == 0 || t.Flags&wire.RST != 0 || c.haveEdge && int32(edge-c.edge) < 0 {
		return
	}
	c.edge, c.haveEdge = edge, true
}

// atEdge returns a packet whose sequence number counts from the edge of the
// window as one with the number itself.
func (c *conn) atEdge(p *script.Packet) *script.Packet {
	packet, segment := *p, *p.TCP
	segment.Seq, segment.FromEdge = c.edge+segment.Seq, false
	packet.TCP = &segment
	return &packet
}

// toScript translates an outbound packet into script space. Want is the packet
// that it is to be compared with, or nil; it decides which parts of the IP
// header are of interest.
func (c *conn) toScript(p *wire.Packet, want *script.Packet) *script.Packet {
	out := newPacket()
	if want != nil {
		out.IP = visibleIP(p, want, c)
		out.Ports = portsIf(want.Ports.Set, p)
	}
	switch {
	case p.TCP != nil:
		var wantTCP *script.TCP
		if want != nil {
			wantTCP = want.TCP
		}
		c.learn(p.TCP, wantTCP)
		out.TCP = c.segment(p.TCP, wantTCP)
	case p.UDP != nil:
		out.UDP = &script.UDP{Len: uint16(len(p.UDP.Payload))}
	case p.ICMP != nil:
		out.ICMP = icmpToScript(p)
	}
	return out
}

func portsIf(set bool, p *wire.Packet) script.Opt[script.Ports] {
	local, remote, ok := ports(p)
	if !set || !ok {
		return script.Opt[script.Ports]{}
	}
	return script.Some(script.Ports{Src: local, Dst: remote})
}

// visibleIP returns the parts of the IP header that want speaks about.
func visibleIP(p *wire.Packet, want *script.Packet, c *conn) script.IP {
	var ip script.IP
	if want.IP.ECN != script.ECNUnset {
		ip.ECN = [...]script.ECN{script.NotECT, script.ECT1, script.ECT0, script.CE}[p.IP.TOS&3]
	}
	if want.IP.TOS.Set {
		ip.TOS = script.Some(p.IP.TOS)
	}
	if want.IP.TTL.Set {
		ip.TTL = script.Some(p.IP.TTL)
	}
	if want.IP.FlowLabel.Set {
		ip.FlowLabel = script.Some(c.flowLabel(p.IP.FlowLabel, want.IP.FlowLabel.Value))
	}
	if want.IP.Src.IsValid() {
		ip.Src = p.IP.Src
	}
	if want.IP.Dst.IsValid() {
		ip.Dst = p.IP.Dst
	}
	return ip
}

// flowLabel maps a flow label: the script says only which labels are the same.
func (c *conn) flowLabel(live, want uint32) uint32 {
	same := live == c.flowLive
	switch {
	case live == 0:
		return 0
	case c.flowScript == 0, want != c.flowScript && !same:
		c.flowScript, c.flowLive = want, live
		return want
	case same:
		return c.flowScript
	default:
		return live
	}
}

// segment translates a segment into script space.
func (c *conn) segment(t *wire.TCP, want *script.TCP) *script.TCP {
	syn := t.Flags&wire.SYN != 0
	s := &script.TCP{
		Flags:   script.Flags(t.Flags),
		Seq:     t.Seq - c.localOffset(syn),
		Len:     uint16(len(t.Payload)),
		Win:     script.Some(t.Window),
		Options: script.DecodeOptions(t.Options),
	}
	if t.Flags&wire.ACK != 0 {
		s.Ack = script.Some(t.Ack - c.remoteOffset(syn))
	} else if t.Ack != 0 {
		s.Ack = script.Some(t.Ack)
	}
	if t.Flags&wire.URG != 0 || t.Urgent != 0 {
		s.Urg = script.Some(t.Urgent)
	}
	if t.Reserved != 0 {
		s.Reserved = script.Some(t.Reserved)
	}
	if want != nil && want.ACE.Set {
		s.ACE = script.Some(ace(t.Flags))
		s.Flags &^= script.AE | script.CWR | script.ECE
	}
	for i := range s.Options {
		c.optionToScript(&s.Options[i], syn, want)
	}
	return s
}

// ace returns the field of AccECN (RFC 9768 section 3.2.2).
func ace(flags uint16) uint8 {
	return uint8(flags>>8&1)<<2 | uint8(flags>>7&1)<<1 | uint8(flags>>6&1)
}

// optionToScript translates the numbers in an option.
func (c *conn) optionToScript(o *script.TCPOption, syn bool, want *script.TCP) {
	switch o.Kind {
	case script.KindSACK:
		for i := range o.Blocks {
			o.Blocks[i].Left -= c.remoteOffset(syn)
			o.Blocks[i].Right -= c.remoteOffset(syn)
		}
	case script.KindTimestamp:
		live := o.TSVal
		w := findOption(want, script.KindTimestamp)
		if w != nil && !w.Any {
			if c.tsMap == nil {
				c.tsMap = make(map[uint32]uint32)
			}
			c.tsMap[w.TSVal] = live
			if !c.haveTS {
				c.tsScript, c.tsLive, c.haveTS = w.TSVal, live, true
			}
		}
		if c.haveTS {
			o.TSVal = c.tsScript + (live - c.tsLive)
		}
	}
}

// findOption returns the option of a kind, or nil.
func findOption(t *script.TCP, kind script.OptionKind) *script.TCPOption {
	if t == nil {
		return nil
	}
	for i := range t.Options {
		if t.Options[i].Kind == kind {
			return &t.Options[i]
		}
	}
	return nil
}

// echo returns the timestamp on the wire that the peer echoes when the script
// says so: the one that the script called by that value, or one that lies as
// far from the first as in the script.
func (c *conn) echo(value uint32) uint32 {
	if live, ok := c.tsMap[value]; ok {
		return live
	}
	if c.haveTS {
		return value - c.tsScript + c.tsLive
	}
	return value
}
