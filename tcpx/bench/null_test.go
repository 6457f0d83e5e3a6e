package bench

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// nullHeader is the size of a TCP header with timestamps.
const nullHeader = 32

// nullProtocol takes TCP packets and does nothing but answer every second one that carries data with an empty one.
type nullProtocol struct {
	stack *stack.Stack
	touch bool
	ack   *nullSender
	n     int
	user  [chunk]byte
}

func (*nullProtocol) Number() tcpip.TransportProtocolNumber { return header.TCPProtocolNumber }
func (*nullProtocol) NewEndpoint(tcpip.NetworkProtocolNumber, *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return nil, &tcpip.ErrNotSupported{}
}
func (*nullProtocol) NewRawEndpoint(tcpip.NetworkProtocolNumber, *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return nil, &tcpip.ErrNotSupported{}
}
func (*nullProtocol) MinimumPacketSize() int { return header.TCPMinimumSize }
func (*nullProtocol) ParsePorts(b []byte) (src, dst uint16, err tcpip.Error) {
	return header.TCP(b).SourcePort(), header.TCP(b).DestinationPort(), nil
}
func (p *nullProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if pkt.Data().Size() == 0 {
		return stack.UnknownDestinationPacketHandled
	}
	if p.touch {
		h := header.TCP(pkt.TransportHeader().Slice())
		if !h.IsChecksumValid(id.RemoteAddress, id.LocalAddress, pkt.Data().Checksum(), uint16(pkt.Data().Size())) {
			panic("the null transport's checksum is wrong")
		}
		buf := pkt.Data().ToBuffer()
		n := 0
		buf.Apply(func(v *buffer.View) { n += copy(p.user[n:], v.AsSlice()) })
		buf.Release()
	}
	if p.n++; p.n%2 == 0 {
		p.ack.packet(0)
	}
	return stack.UnknownDestinationPacketHandled
}
func (*nullProtocol) SetOption(tcpip.SettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}
func (*nullProtocol) Option(tcpip.GettableTransportProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}
func (*nullProtocol) Close()   {}
func (*nullProtocol) Wait()    {}
func (*nullProtocol) Pause()   {}
func (*nullProtocol) Resume()  {}
func (*nullProtocol) Restore() {}
func (*nullProtocol) Parse(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.TransportHeader().Consume(nullHeader)
	return ok
}

// nullSender sends packets of up to mss bytes on one route.
type nullSender struct {
	b     testing.TB
	route *stack.Route
	mss   int
	touch bool
	user  [chunk]byte
	view  *buffer.View
	off   int
}

func newNullSender(b testing.TB, s *stack.Stack, mss int, touch bool) *nullSender {
	local, remote := addrs[0], addrs[1]
	if mss == 0 {
		local, remote = remote, local
	}
	r, err := s.FindRoute(nic, local, remote, ipv4.ProtocolNumber, false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Release)
	return &nullSender{b: b, route: r, mss: mss, touch: touch, view: buffer.NewViewSize(chunk)}
}

// packet sends up to n bytes and returns how many.
func (s *nullSender) packet(n int) int {
	n = min(n, s.mss)
	var payload buffer.Buffer
	if n > 0 {
		if s.off+n > chunk {
			s.off = 0
			if s.touch {
				s.view.Release()
				s.view = buffer.NewView(chunk)
				_, _ = s.view.Write(s.user[:])
			}
		}
		v := s.view.Clone()
		v.TrimFront(s.off)
		v.CapLength(n)
		s.off += n
		payload = buffer.MakeWithView(v)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: nullHeader + int(s.route.MaxHeaderLength()), Payload: payload})
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	h := header.TCP(pkt.TransportHeader().Push(nullHeader))
	h.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, DataOffset: nullHeader, Flags: header.TCPFlagAck})
	if s.touch {
		x := s.route.PseudoHeaderChecksum(header.TCPProtocolNumber, uint16(pkt.Size()))
		h.SetChecksum(^h.CalculateChecksum(checksum.Combine(x, pkt.Data().Checksum())))
	}
	if err := s.route.WritePacket(stack.NetworkHeaderParams{Protocol: header.TCPProtocolNumber, TTL: 64}, pkt); err != nil {
		s.b.Fatal(err)
	}
	pkt.DecRef()
	return n
}
