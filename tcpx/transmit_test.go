package tcpx

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// gsoWire is a wire that takes super-segments. It delivers them whole, as a receive offload would.
type gsoWire struct {
	*wire
	kind stack.SupportedGSO
	seen []stack.GSO
}

func (*gsoWire) GSOMaxSize() uint32                 { return 65536 }
func (g *gsoWire) SupportedGSO() stack.SupportedGSO { return g.kind }
func (g *gsoWire) Capabilities() stack.LinkEndpointCapabilities {
	return g.Endpoint.Capabilities() | stack.CapabilityRXChecksumOffload
}
func (g *gsoWire) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		g.seen = append(g.seen, pkt.GSOOptions)
	}
	return g.wire.WritePackets(pkts)
}

func gsoWorld(t *testing.T, kind stack.SupportedGSO) (*world, *gsoWire) {
	w := newWorld(t)
	g := &gsoWire{wire: w.a.wire, kind: kind}
	w.a.replaceNIC(g)
	w.b.replaceNIC(&gsoWire{wire: w.b.wire, kind: kind})
	return w, g
}

// replaceNIC puts another link in place of NIC 1's.
func (h *host) replaceNIC(l stack.LinkEndpoint) {
	if err := h.stack.RemoveNIC(1); err != nil {
		h.t.Fatal(err)
	}
	if err := h.stack.CreateNIC(1, l); err != nil {
		h.t.Fatal(err)
	}
	addAddress(h.t, h.stack, 1, h.v4, 24)
	addAddress(h.t, h.stack, 1, h.v6, 64)
	h.stack.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: 1})
	h.stack.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: 1})
}

func TestGSO(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind stack.SupportedGSO
		net  tcpip.NetworkProtocolNumber
		want stack.GSOType
	}{
		{"host, IPv4", stack.HostGSOSupported, ipv4.ProtocolNumber, stack.GSOTCPv4},
		{"host, IPv6", stack.HostGSOSupported, ipv6.ProtocolNumber, stack.GSOTCPv6},
		{"gVisor's", stack.GVisorGSOSupported, ipv4.ProtocolNumber, stack.GSONone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, g := gsoWorld(t, tt.kind)
			w.run(10 * time.Second) // Duplicate address detection.
			l := w.b.socket(tt.net)
			l.must(l.Bind(tcpip.FullAddress{Port: 80}))
			l.must(l.Listen(1))
			c := w.a.socket(tt.net)
			to := w.b.at(80)
			if tt.net == ipv6.ProtocolNumber {
				to = w.b.at6(80)
			}
			c.want(c.Connect(to), &tcpip.ErrConnectStarted{})
			c.state(tcp.StateEstablished)
			s := l.accept()
			data := bytes.Repeat([]byte("plumbline"), 30000)
			var got bytes.Buffer
			for r := bytes.NewReader(data); r.Len() > 0; {
				if _, err := c.Write(r, tcpip.WriteOptions{}); err != nil {
					w.run(time.Millisecond)
				}
				s.Read(&got, tcpip.ReadOptions{})
			}
			for range 100 {
				w.run(10 * time.Millisecond)
				s.Read(&got, tcpip.ReadOptions{})
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d of %d bytes arrived intact", got.Len(), len(data))
			}
			largest := 0
			for i := range g.log {
				p := &g.log[i]
				largest = max(largest, p.payload)
				if p.flags() == 0 || p.payload == 0 {
					continue
				}
				o := g.seen[i]
				if o.Type != tt.want {
					t.Fatalf("packet %d: GSO type %v", i, o.Type)
				}
				if tt.want != stack.GSONone && (!o.NeedsCsum || o.MSS == 0 || o.CsumOffset != header.TCPChecksumOffset) {
					t.Fatalf("packet %d: GSO %+v", i, o)
				}
			}
			if tt.want == stack.GSONone && largest > 1460 || tt.want != stack.GSONone && largest < 20000 {
				t.Errorf("the largest packet has %d bytes", largest)
			}
			c.Close()
			s.Close()
			l.Close()
			w.run(5 * time.Minute)
		})
	}
}

// With gVisor's GSO, PSH and FIN are on the last packet of a burst only.
func TestBurstFlags(t *testing.T) {
	w, g := gsoWorld(t, stack.GVisorGSOSupported)
	c, s := w.connect()
	g.log = nil
	c.lock()
	out := tcb.Out{Seq: 1000, Flags: tcb.ACK | tcb.PSH | tcb.FIN | tcb.CWR, MSS: 100, Payload: buffer.MakeWithData(make([]byte, 250))}
	c.transmit(&out)
	c.leave()
	var got string
	for i := range g.log {
		p := &g.log[i]
		got += fmt.Sprintf("%d+%d:%v%v%v ", p.tcp.SequenceNumber(), p.payload, p.flags().Has(tcb.CWR), p.flags().Has(tcb.PSH), p.flags().Has(tcb.FIN))
	}
	if want := "1000+100:truefalsefalse 1100+100:falsefalsefalse 1200+50:falsetruetrue "; got != want {
		t.Errorf("packets %s, want %s", got, want)
	}
	c.Abort()
	c.Close()
	s.Abort()
	s.Close()
}

func TestChecksum(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	bad := 0
	before := w.b.stack.Stats().TCP.ChecksumErrors.Value()
	deliverRaw(w.b, w.a.v4, w.b.v4, []byte{0, 1, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 2, 0, 0, 1, 2, 0, 0})
	if n := w.b.stack.Stats().TCP.ChecksumErrors.Value() - before; n != 1 {
		t.Errorf("%d checksum errors counted", n)
	}
	for _, offset := range []byte{0, 4, 6, 15} {
		deliverRaw(w.b, w.a.v4, w.b.v4, []byte{0, 1, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, offset << 4, 2, 0, 0, 0, 0, 0, 0})
		bad++
	}
	if n := w.b.stack.Stats().TCP.InvalidSegmentsReceived.Value(); n != uint64(bad) {
		t.Errorf("%d of %d segments with an impossible data offset counted", n, bad)
	}
	c.Close()
	s.Close()
}

// deliverRaw hands an IPv4 packet with the TCP header and text b to h.
func deliverRaw(h *host, src, dst tcpip.Address, b []byte) {
	ip := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(b))
	header.IPv4(ip).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip) + len(b)), TTL: 64, Protocol: uint8(ProtocolNumber), SrcAddr: src, DstAddr: dst,
	})
	header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(ip, b...))})
	h.peer().wire.deliver(pkt)
	pkt.DecRef()
}

// FuzzSegment throws segments with any header at a listener and at both ends of a connection: nothing panics, nothing leaks, and the checksum is put right so
// that they get past it.
func FuzzSegment(f *testing.F) {
	f.Add([]byte{0, 1, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 2, 0, 0, 0, 0, 0, 0}, uint8(0))
	f.Add([]byte{0, 1, 0, 80, 0, 0, 0, 9, 0, 0, 0, 9, 8 << 4, 0x10, 255, 255, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1, 'x'}, uint8(1))
	f.Add([]byte{0, 1, 0, 80, 0, 0, 0, 9, 0, 0, 0, 9, 15 << 4, 0x12, 255, 255, 0, 0, 0, 0, 2, 4, 0, 0, 3, 0, 5, 255}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, to uint8) {
		if len(b) > 2000 {
			return
		}
		w := newWorld(t)
		l := w.b.listen(80, 2)
		c := w.a.dial(w.b.at(80))
		s := l.accept()
		b = bytes.Clone(b)
		target, src, dst := w.b, w.a.v4, w.b.v4
		if len(b) >= header.TCPMinimumSize {
			h := header.TCP(b)
			switch to % 3 {
			case 0: // The listener, or nobody.
				h.SetDestinationPort(80)
			case 1:
				h.SetSourcePort(c.local().Port)
				h.SetDestinationPort(80)
			case 2:
				target, src, dst = w.a, w.b.v4, w.a.v4
				h.SetSourcePort(80)
				h.SetDestinationPort(c.local().Port)
			}
			h.SetChecksum(0)
			x := header.PseudoHeaderChecksum(ProtocolNumber, src, dst, uint16(len(b)))
			var view buffer.Buffer
			view.Append(buffer.NewViewWithData(b))
			h.SetChecksum(^checksum.Combine(x, view.Checksum(0)))
			view.Release()
		}
		for range 3 {
			deliverRaw(target, src, dst, b)
			w.run(time.Second)
		}
		for _, x := range []*socket{c, s, l} {
			x.Abort()
			x.Close()
		}
		w.run(10 * time.Minute)
		for _, h := range []*host{w.a, w.b} {
			if n := len(h.stack.RegisteredEndpoints()); n != 0 {
				t.Errorf("%d endpoints left", n)
			}
			if n := MemoryInUse(h.stack); n != 0 {
				t.Errorf("%d bytes left in use", n)
			}
		}
	})
}
