package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// pmtuOptions are what WithPMTU was given.
type pmtuOptions struct {
	config pmtu.Config
	cache  pmtu.Options
}

// WithPMTU gives the stack a memory of path MTUs that all its connections share, and lets them find these MTUs without ICMP. search.Mode is Linux's tcp_mtu_probing:
// pmtu.Off (0) goes by ICMP errors alone, pmtu.OnBlackHole (1) probes once large segments vanish, pmtu.Always (2) starts every connection small and probes
// upwards. Probes are segments of real data; their loss is repaired and costs no congestion window. On a path with a black hole, ours or the peer's, SYN and SYN-ACK
// announce an MSS that passes, also those that are sent again. The link's MTU stands in for search.Max. PMTUOf returns the memory, to be listed, flushed, or shared
// with users of UDP.
//
// Without this option a connection lowers its MSS when an ICMP error quotes what it has in flight, down to an MTU of 552 octets (1280 with IPv6), and keeps it
// to its end; nothing is remembered. With PMTUDiscoveryDont a connection does not take part.
func WithPMTU(search pmtu.Config, cache pmtu.Options) Option {
	return func(o *protocolOptions) { o.pmtu = &pmtuOptions{search, cache} }
}

// PMTUOf returns the path MTUs that a stack's TCP knows, nil if it was not made with WithPMTU.
func PMTUOf(s *stack.Stack) *pmtu.Cache {
	if p := protocolOf(s); p != nil {
		return p.pmtu
	}
	return nil
}

// pathMTU is a connection's pmtu.Flow as the core sees it: in octets of text and options.
type pathMTU struct {
	flow *pmtu.Flow
	// headers is the IP header and the fixed part of TCP's.
	headers uint32
}

var _ tcb.PathMTU = (*pathMTU)(nil)

// instant converts the core's time back (see protocol.now).
func instant(now tcb.Time) tcpip.MonotonicTime { return tcpip.MonotonicTime{}.Add(now - 1) }

// MTU implements tcb.PathMTU.MTU.
func (p *pathMTU) MTU(now tcb.Time) int {
	mtu, _ := p.flow.MTUAt(instant(now))
	return p.payload(mtu)
}

// payload is the room in packets of a size.
func (p *pathMTU) payload(mtu uint32) int { return max(int(mtu)-int(p.headers), leastRoom) }

// Probe implements tcb.PathMTU.Probe.
func (p *pathMTU) Probe() int {
	if size, ok := p.flow.Probe(); ok {
		return p.payload(size)
	}
	return 0
}

// ProbeSent implements tcb.PathMTU.ProbeSent.
func (p *pathMTU) ProbeSent() { p.flow.ProbeSent() }

// ProbeLost implements tcb.PathMTU.ProbeLost.
func (p *pathMTU) ProbeLost(tcb.Time) { p.flow.ProbeLost() }

// ProbeUnsent implements tcb.PathMTU.ProbeUnsent.
func (p *pathMTU) ProbeUnsent() { p.flow.ProbeUnsent() }

// Acked implements tcb.PathMTU.Acked.
func (p *pathMTU) Acked(now tcb.Time, size int) { p.flow.AckedAt(instant(now), p.packet(size)) }

// packet is the size of the IP packet for a segment.
func (p *pathMTU) packet(size int) uint32 { return uint32(size) + p.headers }

// Lost implements tcb.PathMTU.Lost.
func (p *pathMTU) Lost(_ tcb.Time, size int) bool { return p.flow.Lost(p.packet(size)) }

// TimedOut implements tcb.PathMTU.TimedOut.
func (p *pathMTU) TimedOut(_ tcb.Time, size int) bool { return p.flow.TimedOut(p.packet(size)) }

// Fallback implements tcb.PathMTU.Fallback.
func (p *pathMTU) Fallback() int { return p.payload(p.flow.Fallback()) }

// ipHeader is the size of a header without options.
func ipHeader(net tcpip.NetworkProtocolNumber) uint32 {
	if net == header.IPv6ProtocolNumber {
		return header.IPv6MinimumSize
	}
	return header.IPv4MinimumSize
}

// pathOf returns the path that a route takes and the MTU of its link.
func pathOf(r *stack.Route) (p pmtu.Path, link uint32) {
	return pmtu.Path{NIC: r.OutgoingNIC(), NextHop: r.NextHop(), Remote: r.RemoteAddress()}, r.MTU() + ipHeader(r.NetProto())
}

// findPath makes what finds the MTU of e's path, nil without WithPMTU. limit is the largest segment that peer and user allow; without probing the search does not
// start by itself. The caller holds e.mu.
func (e *Endpoint) findPath(limit int, probing bool) *pathMTU {
	c := e.proto.pmtu
	if c == nil || e.route == nil || tcpip.PMTUDStrategy(e.pmtud) == tcpip.PMTUDiscoveryDont || loops(e.route) {
		return nil
	}
	cfg := e.proto.pmtuConfig
	if !probing && cfg.Mode == pmtu.Always {
		cfg.Mode = pmtu.OnBlackHole // it would never leave Base
	}
	path, link := pathOf(e.route)
	p := &pathMTU{headers: ipHeader(e.route.NetProto()) + header.TCPMinimumSize}
	p.flow = c.Flow(path, link, cfg)
	if most := p.packet(limit); most < link {
		p.flow.Limit(most)
	}
	p.flow.Start()
	e.makeExtra().path = p
	return p
}

// loops reports that packets of a route do not leave the host.
func loops(r *stack.Route) bool {
	return r.Loop()&stack.PacketLoop != 0 || header.IsV4LoopbackAddress(r.RemoteAddress()) || r.RemoteAddress() == header.IPv6Loopback
}

// pathPayload is the room for options and text in a packet of e's path, as far as that is known when the connection is opened. The caller holds e.mu.
func (e *Endpoint) pathPayload() int {
	room := mtuPayload(e.route)
	if c := e.proto.pmtu; c != nil && !loops(e.route) {
		path, link := pathOf(e.route)
		room = min(room, int(c.MTU(path, link)-ipHeader(e.route.NetProto()))-header.TCPMinimumSize)
	}
	return max(room, leastRoom)
}

// announcedPayload bounds the MSS that is announced on a path with a black hole: no router tells the peer either.
func (p *protocol) announcedPayload(r *stack.Route) int {
	if p.pmtu == nil || p.pmtuConfig.Mode == pmtu.Off || loops(r) {
		return mtuPayload(r)
	}
	path, link := pathOf(r)
	return max(int(p.pmtu.Announce(path, link)-ipHeader(r.NetProto()))-header.TCPMinimumSize, min(leastRoom, mtuPayload(r)))
}

// smallerMSS returns the sizes to announce once large segments of the peer vanish: what is expected to arrive everywhere, then the least.
func smallerMSS(c pmtu.Config, ipHeader uint32) (steps [2]uint16) {
	if c.Mode == pmtu.Off {
		return steps
	}
	c = pmtu.NewMachine(c).Config()
	if ipHeader == header.IPv6MinimumSize {
		c.Base, c.Min = max(c.Base, header.IPv6MinimumMTU), max(c.Min, header.IPv6MinimumMTU)
	}
	for i, mtu := range [...]uint32{c.Base, c.Min} {
		steps[i] = uint16(min(max(mtu, ipHeader+header.TCPMinimumSize+minMSS)-ipHeader-header.TCPMinimumSize, 65535))
	}
	return steps
}

// inboundHole remembers that large segments of the peer do not arrive: the next SYN to it, or from it, is answered with less. The caller holds e.mu.
func (e *Endpoint) inboundHole() {
	small := e.tcb.SmallMSS()
	if small == 0 || e.route == nil || e.proto.pmtu == nil || loops(e.route) {
		return
	}
	path, link := pathOf(e.route)
	path.Inbound = true
	e.proto.pmtu.Vanished(path, link, uint32(small)+ipHeader(e.route.NetProto())+header.TCPMinimumSize)
	e.proto.stats.InboundBlackHoles.Increment()
}

// leastMTU is what ICMP can lower the MTU to without WithPMTU: as in Linux, and RFC 8201 §4.
func leastMTU(net tcpip.NetworkProtocolNumber) uint32 {
	if net == header.IPv6ProtocolNumber {
		return header.IPv6MinimumMTU
	}
	return 552
}

// tooBig takes a "packet too big" error that quotes something in flight. It returns the room for options and text that is left, 0 if the error is not believed, and whether
// that is sure. The caller holds e.mu.
func (e *Endpoint) tooBig(s *inbound) (room int, sure bool) {
	if e.extra == nil || e.extra.path == nil {
		return e.tooBigAlone(s)
	}
	i := s.icmp
	p := e.extra.path
	id := &e.id
	before, probing := p.flow.Current(), p.flow.Probing()
	p.flow.TooBig(pmtu.Report{
		MTU: i.mtu, Size: i.quotedSize, Seq: uint32(i.seq), Protocol: ProtocolNumber,
		Local: id.LocalAddress, Remote: id.RemoteAddress, LocalPort: id.LocalPort, RemotePort: id.RemotePort,
	})
	switch mtu, _ := p.flow.MTU(); {
	case mtu < before:
		return p.payload(mtu), true
	case probing != 0 && p.flow.Probing() == 0:
		return p.payload(probing) - 1, true // the probe alone was too big
	}
	return 0, true
}

// tooBigAlone is tooBig without a flow. An error that names no MTU suggests the next plateau, which waits for proof: netstack passes 0 also for an MTU that no link has, as
// in an attack.
func (e *Endpoint) tooBigAlone(s *inbound) (room int, sure bool) {
	i := s.icmp
	least, mtu := leastMTU(s.net), i.mtu
	switch {
	case mtu != 0 && i.quotedSize != 0 && mtu >= i.quotedSize:
		return 0, true // the packet would have fit
	case mtu == 0 && s.net == header.IPv6ProtocolNumber:
		return 0, true // IPv6 has no such routers
	case mtu == 0:
		mtu = max(pmtu.Plateau(i.quotedSize), least)
	case mtu < least:
		e.makeExtra().fragment = true
		mtu = least
	}
	return int(mtu-ipHeader(s.net)) - header.TCPMinimumSize, i.mtu != 0
}

// quotedSize returns the size of the IP packet that an ICMP error quotes, 0 if it cannot be told. The stack has consumed its header, which lies behind those of the
// error itself.
func quotedSize(pkt *stack.PacketBuffer) uint32 {
	v := pkt.ToView()
	defer v.Release()
	b := v.AsSlice()
	skip := len(pkt.LinkHeader().Slice()) + len(pkt.NetworkHeader().Slice()) + len(pkt.TransportHeader().Slice())
	end := len(b) - pkt.Data().Size()
	if skip >= end {
		return 0
	}
	switch b = b[skip:end]; {
	case len(b) >= header.IPv4MinimumSize && header.IPVersion(b) == header.IPv4Version:
		return uint32(header.IPv4(b).TotalLength())
	case len(b) >= header.IPv6MinimumSize && header.IPVersion(b) == header.IPv6Version:
		return uint32(header.IPv6(b).PayloadLength()) + header.IPv6MinimumSize
	}
	return 0
}

// mayFragment reports that routers may fragment a packet with size octets of TCP: the path carries less than the least MTU that is used, and this is no
// probe of it. The caller holds e.mu.
func (e *Endpoint) mayFragment(size int) bool {
	x := e.extra
	switch {
	case x == nil:
		return false
	case x.path != nil:
		return x.path.flow.Fragment() && uint32(size)+x.path.headers-header.TCPMinimumSize <= x.path.flow.Current()
	}
	return x.fragment
}
