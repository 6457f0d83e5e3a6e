package linktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A SuperSender is a Peer on a medium that carries segments longer than the
// MTU, as memory does. Cases about them are left out on other peers.
type SuperSender interface {
	Peer

	// SendSuper puts a frame with a TCP segment over IPv4 on the wire. Its
	// headers, link header included, are headers bytes long and the last 20 of
	// them TCP's. The checksum of TCP covers the pseudo-header only. Whoever
	// receives may be given it whole, or cut into segments with mss bytes of
	// payload each and with checksums, whatever it asked the medium for.
	SendSuper(frame []byte, headers, mss int) error
}

// superMSS is the payload of each packet that a super-segment may be cut into.
const superMSS = 1000

// superSizes are payloads of TCP segments: one packet, one that is full, one
// and a bit, and many.
var superSizes = []int{500, superMSS, superMSS + 1, 3*superMSS + 7, 40000, 64000}

// tcpHeaders is the size of the network and transport headers of a segment.
const tcpHeaders = header.IPv4MinimumSize + header.TCPMinimumSize

// segment makes a TCP segment over IPv4 with sequence number 0 whose checksum
// covers the pseudo-header only, and a payload that does not repeat soon.
func segment(size int) []byte {
	b := make([]byte, tcpHeaders+size)
	src, dst := tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), tcpip.AddrFrom4([4]byte{198, 51, 100, 1})
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(b[header.IPv4MinimumSize:])
	tcp.Encode(&header.TCPFields{SrcPort: 9, DstPort: 9, Flags: header.TCPFlagAck, DataOffset: header.TCPMinimumSize, WindowSize: 1})
	tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp))))
	for i := range size {
		b[tcpHeaders+i] = byte(i ^ i>>8)
	}
	return b
}

// isSegment says whether packet comes from segment.
func isSegment(packet []byte) bool {
	return len(packet) > tcpHeaders && header.IPVersion(packet) == header.IPv4Version &&
		header.IPv4(packet).TransportProtocol() == header.TCPProtocolNumber && header.IPv4(packet).SourceAddress() == tcpip.AddrFrom4([4]byte{192, 0, 2, 1})
}

// reassembly puts the pieces of a segment together again.
type reassembly struct {
	got    []byte
	pieces int
}

// add adds a packet. With partial, its checksum may be that of the pseudo-header
// alone.
func (r *reassembly) add(packet []byte, partial bool) error {
	ip := header.IPv4(packet)
	total := int(ip.TotalLength())
	if total > len(packet) || total < tcpHeaders {
		return fmt.Errorf("a packet of %d bytes says that it has %d", len(packet), total)
	}
	if !ip.IsChecksumValid() {
		return errors.New("wrong IPv4 header checksum")
	}
	tcp := header.TCP(packet[header.IPv4MinimumSize:total])
	if at := int(tcp.SequenceNumber()); at != len(r.got) {
		return fmt.Errorf("sequence number %d after %d bytes", at, len(r.got))
	}
	pseudo := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
	if whole := checksumOf(tcp, pseudo) == 0xffff; !whole && (!partial || tcp.Checksum() != pseudo) {
		return fmt.Errorf("wrong TCP checksum %#x", tcp.Checksum())
	}
	r.got = append(r.got, tcp[header.TCPMinimumSize:]...)
	r.pieces++
	return nil
}

// complete says whether want has arrived, or why it cannot any more. Pieces of a
// segment that was cut have to fit its MSS.
func (r *reassembly) complete(want []byte, last int) (bool, error) {
	if r.pieces > 1 && last > superMSS {
		return false, fmt.Errorf("piece %d has %d bytes, the MSS is %d", r.pieces, last, superMSS)
	}
	if len(r.got) < len(want) {
		return false, nil
	}
	if !bytes.Equal(r.got, want) {
		return false, errors.New("the payload was altered")
	}
	return true, nil
}

// What an endpoint offers to segment and to checksum reaches the far end, with
// every byte once: whole, or in pieces of one MSS.
func testTransmitGSO(t *testing.T, h *harness) {
	h.attach()
	gso, ok := h.ep.(stack.GSOEndpoint)
	if !ok || gso.SupportedGSO() != stack.HostGSOSupported {
		return // the stack cuts
	}
	for _, size := range superSizes {
		if size+tcpHeaders > int(gso.GSOMaxSize()) {
			continue
		}
		raw := segment(size)
		if n, err := h.write(h.superPacket(raw)); n != 1 || err != nil {
			t.Fatalf("WritePackets of a segment of %d bytes = %d, %v", size, n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var r reassembly
		for {
			frame, err := h.peer.Recv(ctx)
			if err != nil {
				t.Fatalf("%d of %d bytes of a segment are on the wire: %v", len(r.got), size, err)
			}
			packet := frame[min(h.linkSize(), len(frame)):]
			if !isSegment(packet) {
				continue
			}
			if err := r.add(packet, true); err != nil {
				t.Fatalf("segment of %d bytes: %v", size, err)
			}
			if done, err := r.complete(raw[tcpHeaders:], len(packet)-tcpHeaders); err != nil {
				t.Fatalf("segment of %d bytes: %v", size, err)
			} else if done {
				break
			}
		}
		cancel()
	}
}

// A segment longer than the MTU that the medium hands over is delivered, whole or
// in pieces; its checksum, which nobody has computed, is right unless the
// endpoint says that the stack need not look.
func testReceiveSuper(t *testing.T, h *harness) {
	h.sink.segments = make(chan []byte, 4096)
	h.attach()
	peer, ok := h.peer.(SuperSender)
	if !ok {
		return
	}
	unchecked := h.ep.Capabilities()&stack.CapabilityRXChecksumOffload != 0
	for _, size := range superSizes {
		raw := segment(size)
		frame := h.frame(h.ep.LinkAddress(), raw)
		if err := peer.SendSuper(frame, len(frame)-size, superMSS); err != nil {
			t.Fatalf("sending a segment of %d bytes: %v", size, err)
		}
		var r reassembly
		for {
			select {
			case packet := <-h.sink.segments:
				if err := r.add(packet, unchecked); err != nil {
					t.Fatalf("segment of %d bytes: %v", size, err)
				}
				done, err := r.complete(raw[tcpHeaders:], len(packet)-tcpHeaders)
				if err != nil {
					t.Fatalf("segment of %d bytes: %v", size, err)
				}
				if !done {
					continue
				}
			case <-time.After(patience):
				t.Fatalf("%d of %d bytes of a segment were delivered", len(r.got), size)
			}
			break
		}
	}
}

// A frame of another VLAN is not taken for an untagged one: its tag stays where
// the stack sees it, or the frame is dropped (IEEE 802.1Q, §6.9). It does not
// keep the next from arriving.
func testReceiveVLAN(t *testing.T, h *harness) {
	h.attach()
	if !h.ethernet {
		return
	}
	for i, tci := range []uint16{7, 0x6007, 4094} {
		f := h.frame(h.ep.LinkAddress(), numbered(2*i, 100))
		const addresses = 2 * header.EthernetAddressSize
		tag := []byte{0x81, 0x00, byte(tci >> 8), byte(tci)}
		h.send(append(append(bytes.Clone(f[:addresses]), tag...), f[addresses:]...))
		h.send(h.frame(h.ep.LinkAddress(), numbered(2*i+1, 100)))
		for {
			d := h.delivery()
			if d.number == 2*i+1 {
				break
			}
			t.Errorf("a packet of VLAN %d was delivered as an untagged one, of protocol %#x", tci&0xfff, d.proto)
		}
	}
}

// What testReceiveSegments sends: so many flows, with so many segments of so many
// bytes each.
const (
	flows        = 10 // more than GRO has room for
	flowSegments = 8
	flowSegment  = 500
)

// marked says whether segment i of a flow has passed a congested router.
func marked(i int) bool { return i == 4 || i == 5 }

// flowPacket makes segment i of a flow, all checksums right.
func flowPacket(flow, i int) []byte {
	whole := segment(flowSegments * flowSegment)
	b := append(whole[:tcpHeaders:tcpHeaders], whole[tcpHeaders+i*flowSegment:][:flowSegment]...)
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(len(b)))
	ip.SetTOS(ecnCapable, 0)
	if marked(i) {
		ip.SetTOS(congestionExperienced, 0)
	}
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(b[header.IPv4MinimumSize:])
	tcp.SetSourcePort(uint16(1000 + flow))
	tcp.SetSequenceNumber(uint32(i * flowSegment))
	tcp.SetChecksum(0)
	pseudo := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
	tcp.SetChecksum(^checksumOf(tcp, pseudo))
	return b
}

// Values of the ECN field (RFC 3168, §5).
const (
	ecnCapable            = 2
	congestionExperienced = 3
)

// Segments of several flows are delivered with every byte once and in order within
// their flow: each as it came, or put together with those before and after it, but
// then only with such as have the same headers.
func testReceiveSegments(t *testing.T, h *harness) {
	h.sink.segments = make(chan []byte, flows*flowSegments)
	h.attach()
	unchecked := h.ep.Capabilities()&stack.CapabilityRXChecksumOffload != 0
	for i := range flowSegments {
		for flow := range flows {
			h.send(h.frame(h.ep.LinkAddress(), flowPacket(flow, i)))
		}
	}
	want := segment(flowSegments * flowSegment)[tcpHeaders:]
	var got [flows]reassembly
	for left := flows; left > 0; {
		var packet []byte
		select {
		case packet = <-h.sink.segments:
		case <-time.After(patience):
			var sizes []int
			for _, r := range got {
				sizes = append(sizes, len(r.got))
			}
			t.Fatalf("of the %d bytes of each flow %d were delivered", len(want), sizes)
		}
		flow := int(header.TCP(packet[header.IPv4MinimumSize:]).SourcePort()) - 1000
		if flow < 0 || flow >= flows {
			t.Fatalf("a segment of a flow %d that does not exist", flow)
		}
		r := &got[flow]
		from := len(r.got) / flowSegment
		if err := r.add(packet, unchecked); err != nil {
			t.Fatalf("flow %d: %v", flow, err)
		}
		ecn, _ := header.IPv4(packet).TOS()
		for i := from; i*flowSegment < len(r.got); i++ {
			if (ecn&3 == congestionExperienced) != marked(i) {
				t.Errorf("flow %d, segment %d: ECN field %d, congestion was experienced: %t", flow, i, ecn&3, marked(i))
			}
		}
		if len(r.got) == len(want) {
			left--
			if !bytes.Equal(r.got, want) {
				t.Errorf("flow %d: the payload was altered", flow)
			}
		}
	}
}

// linkSize is the size of the link header on the wire.
func (h *harness) linkSize() int {
	if h.ethernet {
		return header.EthernetMinimumSize
	}
	return 0
}

// superPacket makes an outgoing packet of what segment has made, as a transport
// does that leaves segmentation and the checksum to the link.
func (h *harness) superPacket(raw []byte) *stack.PacketBuffer {
	h.made.Add(1)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(h.ep.MaxHeaderLength()) + tcpHeaders,
		Payload:            buffer.MakeWithData(raw[tcpHeaders:]),
		OnRelease:          func() { h.released.Add(1) },
	})
	copy(pkt.TransportHeader().Push(header.TCPMinimumSize), raw[header.IPv4MinimumSize:])
	copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize), raw)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = h.ep.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = peerAddress
	pkt.PktType = tcpip.PacketOutgoing
	pkt.GSOOptions = stack.GSO{
		Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: superMSS,
		L3HdrLen: header.IPv4MinimumSize, MaxSize: h.ep.(stack.GSOEndpoint).GSOMaxSize(),
	}
	h.ep.AddHeader(pkt)
	return pkt
}
