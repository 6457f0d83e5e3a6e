package tcpx

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// owner is an Endpoint as the core sees it. It is a type of its own to keep the core's methods out of Endpoint's.
type owner Endpoint

var _ tcb.Owner = (*owner)(nil)

// Transmit implements tcb.Owner.Transmit.
func (o *owner) Transmit(out *tcb.Out) bool { return (*Endpoint)(o).transmit(out) }

// Count implements tcb.Owner.Count.
func (o *owner) Count(c tcb.Counter, n uint64) { (*Endpoint)(o).count(c, n) }

// NewController implements tcb.Owner.NewController.
func (o *owner) NewController() congestion.Controller { return newController(o.congestion.Value()) }

// AnnouncedMSS implements tcb.Owner.AnnouncedMSS.
func (o *owner) AnnouncedMSS() uint16 { return o.proto.advertisedMSS(o.route, o.userMSS) }

// PathMTU implements tcb.Owner.PathMTU.
func (o *owner) PathMTU(limit int, probing bool) tcb.PathMTU {
	if p := (*Endpoint)(o).findPath(limit, probing); p != nil {
		return p
	}
	return nil
}

// Budget implements tcb.Owner.Budget.
func (o *owner) Budget(n int) tcb.Pressure { return o.proto.memory.add(n) }

// Rand implements tcb.Owner.Rand. All connections of a stack share one source, which costs an idle one nothing.
func (o *owner) Rand() *rand.Rand { return o.proto.rng }

// lockedSource is a source of randomness for concurrent use.
type lockedSource struct {
	mu  sync.Mutex
	pcg rand.PCG
}

// newRand returns a generator seeded by the stack.
func newRand(s *stack.Stack) *rand.Rand {
	src := new(lockedSource)
	seed := s.InsecureRNG()
	src.pcg.Seed(seed.Uint64(), seed.Uint64())
	return rand.New(src)
}

// Uint64 implements rand.Source.
func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pcg.Uint64()
}

// gsoKind is how a route segments for us.
type gsoKind uint8

const (
	gsoNone gsoKind = iota
	// gsoHost: the link takes one packet and a virtio-net header that tells how to cut it.
	gsoHost
	// gsoSoftware: the link wants whole packets, but a burst of them (gVisor's software GSO).
	gsoSoftware
)

func routeGSO(r *stack.Route) gsoKind {
	switch {
	case r.HasHostGSOCapability():
		return gsoHost
	case r.HasGVisorGSOCapability():
		return gsoSoftware
	}
	return gsoNone
}

// transmit sends one segment. It returns false if the link had no room. The caller holds e.mu.
func (e *Endpoint) transmit(out *tcb.Out) bool {
	payload := out.Payload
	out.Payload = buffer.Buffer{}
	if e.route == nil {
		payload.Release()
		return true
	}
	if size := int(payload.Size()); e.gso == gsoSoftware && out.MSS > 0 && size > out.MSS && e.route.Loop()&stack.PacketLoop == 0 {
		return e.transmitBurst(out, &payload, size)
	}
	return e.transmitPacket(out, payload, out.Seq, out.Flags)
}

// transmitBurst cuts a payload into packets of one segment each. PSH and FIN belong to the last of them, CWR to the first.
func (e *Endpoint) transmitBurst(out *tcb.Out, payload *buffer.Buffer, size int) bool {
	seq := out.Seq
	for first := true; size > 0; first = false {
		n := min(size, out.MSS)
		piece := payload.Clone()
		piece.Truncate(int64(n))
		payload.TrimFront(int64(n))
		size -= n
		flags := out.Flags
		if size > 0 {
			flags &^= tcb.PSH | tcb.FIN
		}
		if !first {
			flags &^= tcb.CWR
		}
		if !e.transmitPacket(out, piece, seq, flags) {
			payload.Release()
			// What went before has been sent: the rest counts as lost on the way.
			return !first
		}
		seq = seq.Add(n)
	}
	return true
}

// transmitPacket sends one packet and takes the payload over.
func (e *Endpoint) transmitPacket(out *tcb.Out, payload buffer.Buffer, seq tcb.Seq, flags tcb.Flags) bool {
	r := e.route
	hdrLen := header.TCPMinimumSize + out.OptLen
	size := hdrLen + int(payload.Size())
	experiment := e.experimentOption()
	reserve := hdrLen + int(r.MaxHeaderLength())
	if experiment != 0 && r.NetProto() == header.IPv6ProtocolNumber {
		reserve += header.IPv6ExperimentHdrLength
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: reserve, Payload: payload, Mark: e.ops.GetMark()})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = ProtocolNumber
	pkt.Hash, pkt.Owner = e.txHash, e.packetOwner()

	tcpHdr := header.TCP(pkt.TransportHeader().Push(hdrLen))
	putHeader(tcpHdr, &control{id: e.id, seq: seq, ack: out.Ack, flags: flags, wnd: out.Wnd, up: out.Up})
	copy(tcpHdr[header.TCPMinimumSize:], out.Opts[:out.OptLen])
	pseudo := r.PseudoHeaderChecksum(ProtocolNumber, uint16(pkt.Size()))
	if e.gso == gsoHost {
		e.setHostGSO(pkt, out.MSS)
		tcpHdr.SetChecksum(pseudo) // The link completes it.
	} else if r.RequiresTXTransportChecksum() {
		tcpHdr.SetChecksum(^tcpHdr.CalculateChecksum(checksum.Combine(pseudo, pkt.Data().Checksum())))
	}

	err := r.WritePacket(stack.NetworkHeaderParams{
		Protocol:              ProtocolNumber,
		TTL:                   e.ttl(r),
		TOS:                   e.tos | out.ECN,
		DF:                    tcpip.PMTUDStrategy(e.pmtud) != tcpip.PMTUDiscoveryDont && !e.mayFragment(size),
		ExperimentOptionValue: experiment,
	}, pkt)
	switch err.(type) {
	case nil:
	case *tcpip.ErrNoBufferSpace, *tcpip.ErrWouldBlock:
		e.proto.stats.LinkRefused.Increment()
		return false
	default:
		e.proto.tcpStats.SegmentSendErrors.Increment()
		st := e.statistics()
		st.SendErrors.SegmentSendToNetworkFailed.Increment()
		if flags.Has(tcb.SYN) {
			st.SendErrors.SynSendToNetworkFailed.Increment()
		}
		return true // The segment is lost, and retransmission deals with it.
	}
	e.proto.tcpStats.SegmentsSent.Increment()
	if flags.Has(tcb.RST) {
		e.proto.tcpStats.ResetsSent.Increment()
	}
	return true
}

// setHostGSO tells the link how to cut the packet and that the checksum is its business.
func (e *Endpoint) setHostGSO(pkt *stack.PacketBuffer, mss int) {
	g := stack.GSO{
		Type:       stack.GSOTCPv4,
		NeedsCsum:  true,
		CsumOffset: header.TCPChecksumOffset,
		MSS:        uint16(mss),
		L3HdrLen:   header.IPv4MinimumSize,
		MaxSize:    e.route.GSOMaxSize(),
	}
	if e.route.NetProto() == header.IPv6ProtocolNumber {
		g.Type, g.L3HdrLen = stack.GSOTCPv6, header.IPv6MinimumSize
	}
	pkt.GSOOptions = g
}

// ttl returns the socket's TTL or hop limit, or the route's.
func (e *Endpoint) ttl(r *stack.Route) uint8 {
	if r.NetProto() == header.IPv4ProtocolNumber {
		if e.ipv4TTL != tcpip.UseDefaultIPv4TTL {
			return e.ipv4TTL
		}
	} else if e.hopLimit != tcpip.UseDefaultIPv6HopLimit {
		return uint8(e.hopLimit)
	}
	return r.DefaultTTL()
}

// experimentOption returns the value of the experiment option for outgoing packets, 0 for none.
func (e *Endpoint) experimentOption() uint16 {
	v := e.ops.GetExperimentOptionValue()
	if v == 0 {
		return 0
	}
	if nic, err := e.proto.stack.GetNICByID(e.route.OutgoingNIC()); err != nil || !nic.GetExperimentIPOptionEnabled() {
		return 0
	}
	return v
}

// control is a header, as for segments that belong to no connection: RSTs for unknown connections and SYN cookies.
type control struct {
	id       stack.TransportEndpointID
	seq, ack tcb.Seq
	flags    tcb.Flags
	wnd, up  uint16
	opts     []byte
	// from gives the socket's IP options, nil for the defaults.
	from *Endpoint
}

// putHeader writes the fixed part of a header; the checksum is left 0.
func putHeader(b header.TCP, c *control) {
	binary.BigEndian.PutUint16(b[header.TCPSrcPortOffset:], c.id.LocalPort)
	binary.BigEndian.PutUint16(b[header.TCPDstPortOffset:], c.id.RemotePort)
	binary.BigEndian.PutUint32(b[header.TCPSeqNumOffset:], uint32(c.seq))
	binary.BigEndian.PutUint32(b[header.TCPAckNumOffset:], uint32(c.ack))
	b[header.TCPDataOffset] = byte(len(b)/4<<4) | byte(c.flags>>8)
	b[header.TCPFlagsOffset] = byte(c.flags)
	binary.BigEndian.PutUint16(b[header.TCPWinSizeOffset:], c.wnd)
	binary.BigEndian.PutUint16(b[header.TCPChecksumOffset:], 0)
	binary.BigEndian.PutUint16(b[header.TCPUrgentPtrOffset:], c.up)
}

// sendControl answers s with a segment that belongs to no connection. Whether it can be sent is nobody's concern.
func (p *protocol) sendControl(s *inbound, c *control) {
	r, err := p.stack.FindRoute(s.nic, s.id.LocalAddress, s.id.RemoteAddress, s.net, false)
	if err != nil {
		return
	}
	defer r.Release()
	if r.IsOutboundBroadcast() {
		return
	}
	hdrLen := header.TCPMinimumSize + len(c.opts)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: hdrLen + int(r.MaxHeaderLength())})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = ProtocolNumber
	h := header.TCP(pkt.TransportHeader().Push(hdrLen))
	putHeader(h, c)
	copy(h[header.TCPMinimumSize:], c.opts)
	if r.RequiresTXTransportChecksum() {
		h.SetChecksum(^h.CalculateChecksum(r.PseudoHeaderChecksum(ProtocolNumber, uint16(hdrLen))))
	}
	params := stack.NetworkHeaderParams{Protocol: ProtocolNumber, TTL: r.DefaultTTL(), TOS: stack.DefaultTOS}
	if c.from != nil {
		params.TTL, params.TOS = c.from.ttl(r), c.from.tos
		params.DF = tcpip.PMTUDStrategy(c.from.pmtud) != tcpip.PMTUDiscoveryDont
		pkt.Mark, pkt.Owner = c.from.ops.GetMark(), c.from.packetOwner()
	}
	if err := r.WritePacket(params, pkt); err != nil {
		p.tcpStats.SegmentSendErrors.Increment()
		return
	}
	p.tcpStats.SegmentsSent.Increment()
	if c.flags.Has(tcb.RST) {
		p.tcpStats.ResetsSent.Increment()
	}
}
