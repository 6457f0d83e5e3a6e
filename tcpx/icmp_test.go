package tcpx

import (
	"encoding/binary"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// icmp delivers an ICMPv4 Destination Unreachable to h that quotes a segment of s with sequence number seq.
func (h *host) icmp(s *socket, code header.ICMPv4Code, mtu uint16, seq uint32) {
	h.icmpQuoting(s, code, mtu, seq, func(quote []byte) []byte { return quote })
}

// icmpQuoting is icmp with a change to what is quoted.
func (h *host) icmpQuoting(s *socket, code header.ICMPv4Code, mtu uint16, seq uint32, edit func([]byte) []byte) {
	id := s.Endpoint.Info().(*stack.TransportEndpointInfo).ID
	quote := make([]byte, header.IPv4MinimumSize+8)
	header.IPv4(quote).Encode(&header.IPv4Fields{
		TotalLength: 1500, TTL: 60, Protocol: uint8(ProtocolNumber), SrcAddr: id.LocalAddress, DstAddr: id.RemoteAddress,
	})
	header.IPv4(quote).SetChecksum(^header.IPv4(quote).CalculateChecksum())
	q := quote[header.IPv4MinimumSize:]
	binary.BigEndian.PutUint16(q, id.LocalPort)
	binary.BigEndian.PutUint16(q[2:], id.RemotePort)
	binary.BigEndian.PutUint32(q[4:], seq)
	quote = edit(quote)
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize, 100)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b) + len(quote)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: id.RemoteAddress, DstAddr: id.LocalAddress,
	})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	i := header.ICMPv4(b[header.IPv4MinimumSize:])
	i.SetType(header.ICMPv4DstUnreachable)
	i.SetCode(code)
	i.SetMTU(mtu)
	i.SetChecksum(header.ICMPv4Checksum(i, checksum.Checksum(quote, 0)))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(b, quote...))})
	h.peer().wire.deliver(pkt)
	pkt.DecRef()
}

func (h *host) peer() *host {
	if h == h.world.a {
		return h.world.b
	}
	return h.world.a
}

// deliver puts an IPv4 packet on the wire as it is.
func (w *wire) deliver(pkt *stack.PacketBuffer) {
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	var l stack.PacketBufferList
	l.PushBack(pkt)
	w.Endpoint.WritePackets(l)
}

func TestICMPWhileConnecting(t *testing.T) {
	for _, tt := range []struct {
		name  string
		code  header.ICMPv4Code
		wrong uint32
		state tcp.EndpointState
		want  tcpip.Error
	}{
		{"port unreachable", header.ICMPv4PortUnreachable, 0, tcp.StateError, &tcpip.ErrConnectionRefused{}},
		{"protocol unreachable", header.ICMPv4ProtoUnreachable, 0, tcp.StateError, &tcpip.ErrUnknownProtocolOption{}},
		{"wrong sequence number", header.ICMPv4PortUnreachable, 1, tcp.StateSynSent, nil},
		{"host unreachable is soft", header.ICMPv4HostUnreachable, 0, tcp.StateSynSent, nil},
		{"net unreachable is soft", header.ICMPv4NetUnreachable, 0, tcp.StateSynSent, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.a.wire.pass = func(*packet) bool { return false }
			c := w.a.dial(w.b.at(80))
			seq := w.a.wire.log[0].tcp.SequenceNumber()
			w.a.icmp(c, tt.code, 0, seq+tt.wrong)
			c.state(tt.state)
			c.want(c.LastError(), tt.want)
			c.Close()
		})
	}
}

// RFC 9293 MUST-56: a connection survives; SHLD-25: the error can be asked for, and explains a time-out.
func TestICMPSoftError(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	w.a.wire.pass = func(*packet) bool { return false }
	c.forget()
	c.write("x")
	seq := w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber()
	w.a.icmp(c, header.ICMPv4HostUnreachable, 0, seq)
	c.state(tcp.StateEstablished)
	if err := c.LastError(); err != nil {
		t.Errorf("SO_ERROR %v", err)
	}
	c.want(c.SoftError(), &tcpip.ErrHostUnreachable{})
	c.want(c.SoftError(), nil)

	c.ops.SetIPv4RecvError(true)
	w.a.icmp(c, header.ICMPv4PortUnreachable, 0, seq)
	c.state(tcp.StateEstablished)
	if c.seen()&waiter.EventErr == 0 {
		t.Errorf("events %#x", c.seen())
	}
	c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
	e := c.ops.DequeueErr()
	if e == nil || e.Dst.Port != 80 || e.Payload.Size() != 8 {
		t.Errorf("queued error %+v", e)
	} else {
		e.Payload.Release()
	}
	c.Abort()
	c.Close()
	s.Abort()
	s.Close()
}

func TestPacketTooBig(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	w.a.wire.pass = func(p *packet) bool { return p.payload <= 900 }
	c.write(string(make([]byte, 3000)))
	seq := w.a.wire.log[len(w.a.wire.log)-1].tcp.SequenceNumber()
	w.a.icmp(c, header.ICMPv4FragmentationNeeded, 30, seq) // Below the minimum: a hint for a time-out that does not come.
	if got := c.TCPInfo().PMTU; got != 1460 {
		t.Errorf("PMTU %d", got)
	}
	w.a.icmpQuoting(c, header.ICMPv4FragmentationNeeded, 576, seq, func(q []byte) []byte { header.IPv4(q).SetTotalLength(576); return q })
	if n := StatsOf(w.a.stack).PMTUIgnored.Value(); n != 1 {
		t.Errorf("%d ignored", n)
	}
	w.a.icmp(c, header.ICMPv4FragmentationNeeded, 576, seq+100000)
	if n := StatsOf(w.a.stack).ICMPIgnored.Value(); n != 1 {
		t.Errorf("%d with a wrong sequence number ignored", n)
	}
	w.a.icmp(c, header.ICMPv4FragmentationNeeded, 576, seq)
	if got := c.TCPInfo().PMTU; got != 576-40 {
		t.Errorf("PMTU %d", got)
	}
	w.run(time.Second)
	if n := len(s.read()); n != 3000 {
		t.Errorf("read %d bytes", n)
	}
	c.Close()
	s.Close()
}
