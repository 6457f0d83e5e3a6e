package tcpx

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// icmpError is an ICMP error that quotes a segment of a connection, on its way to the endpoint.
type icmpError struct {
	// seq is the quoted sequence number, which the core checks (RFC 5927 §4).
	seq tcb.Seq
	// tooBig marks "packet too big". mtu is what it names, 0 for none that can be; quotedSize is the size of the packet that was too big, 0 if unknown.
	tooBig          bool
	mtu, quotedSize uint32
	reason          tcb.Reason
	// hard marks the errors that end an attempt to connect (RFC 9293 SHLD-26).
	hard  bool
	err   tcpip.Error
	cause stack.TransportError
	// quoted is what the error quotes, kept for IP_RECVERR only.
	quoted *buffer.View
}

// HandleError implements stack.TransportEndpoint.HandleError. The stack has matched the quoted addresses and ports; the sequence number is up to the core.
func (e *Endpoint) HandleError(transErr stack.TransportError, pkt *stack.PacketBuffer) {
	quoted, ok := pkt.Data().PullUp(8)
	if !ok {
		return
	}
	i := &icmpError{seq: tcb.Seq(binary.BigEndian.Uint32(quoted[4:])), cause: transErr}
	switch transErr.Kind() {
	case stack.PacketTooBigTransportError:
		i.tooBig, i.mtu = true, pmtu.FromTransport(transErr.Info(), pkt.NetworkProtocolNumber)
		i.quotedSize = quotedSize(pkt)
	case stack.DestinationHostUnreachableTransportError:
		i.reason, i.err = tcb.ReasonHostUnreachable, &tcpip.ErrHostUnreachable{}
	case stack.DestinationNetworkUnreachableTransportError:
		i.reason, i.err = tcb.ReasonNetUnreachable, &tcpip.ErrNetworkUnreachable{}
	case stack.DestinationPortUnreachableTransportError:
		i.reason, i.err, i.hard = tcb.ReasonPortUnreachable, &tcpip.ErrConnectionRefused{}, true
	case stack.DestinationProtoUnreachableTransportError:
		i.reason, i.err, i.hard = tcb.ReasonProtoUnreachable, &tcpip.ErrUnknownProtocolOption{}, true
	case stack.SourceRouteFailedTransportError:
		i.reason, i.err = tcb.ReasonHostUnreachable, &tcpip.ErrNotSupported{}
	case stack.SourceHostIsolatedTransportError:
		i.reason, i.err = tcb.ReasonHostUnreachable, &tcpip.ErrNoNet{}
	case stack.DestinationHostDownTransportError:
		i.reason, i.err = tcb.ReasonHostUnreachable, &tcpip.ErrHostDown{}
	default:
		return
	}
	if i.err != nil && e.wantsErrors(pkt.NetworkProtocolNumber) {
		i.quoted = pkt.Data().AsRange().ToView()
	}
	s := newInbound()
	s.icmp, s.net, s.nic, s.size = i, pkt.NetworkProtocolNumber, pkt.NICID, segmentOverhead
	e.deliver(s)
}

// wantsErrors reports whether the socket has IP_RECVERR or IPV6_RECVERR.
func (e *Endpoint) wantsErrors(net tcpip.NetworkProtocolNumber) bool {
	if net == header.IPv4ProtocolNumber {
		return e.ops.GetIPv4RecvError()
	}
	return e.ops.GetIPv6RecvError()
}

// processICMP passes an ICMP error to the core. The caller holds e.mu.
func (e *Endpoint) processICMP(s *inbound) {
	i := s.icmp
	if e.phase != phaseOpen {
		i.release()
		return
	}
	now := e.proto.now()
	if i.tooBig {
		// The sequence number comes first: nobody else's error reaches the cache (RFC 5927 §7.2).
		if e.tcb.QuoteMatches(i.seq) {
			if bound, sure := e.tooBig(s); bound == 0 || !sure && !e.tcb.HintTooBig(i.seq, bound) {
				e.proto.stats.PMTUIgnored.Increment()
			} else if sure {
				e.tcb.PacketTooBig(now, i.seq, bound)
			}
			e.collect()
		}
		return
	}
	accepted := e.tcb.ICMPError(now, i.seq, i.reason, i.hard)
	e.collect()
	if !accepted {
		i.release()
		return
	}
	if i.quoted == nil {
		return
	}
	e.makeExtra().lastError = i.err
	e.events |= tcb.EventError
	id := &e.id
	e.ops.QueueErr(&tcpip.SockError{
		Err:      i.err,
		Cause:    i.cause,
		Payload:  i.quoted,
		Dst:      tcpip.FullAddress{NIC: s.nic, Addr: id.RemoteAddress, Port: id.RemotePort},
		Offender: tcpip.FullAddress{NIC: s.nic, Addr: id.LocalAddress, Port: id.LocalPort},
		NetProto: s.net,
	})
}

func (i *icmpError) release() {
	if i.quoted != nil {
		i.quoted.Release()
		i.quoted = nil
	}
}
