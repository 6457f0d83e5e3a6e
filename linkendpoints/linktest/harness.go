package linktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// peerAddress is the Ethernet address of the far end.
const peerAddress = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x01")

// harness is what a case works with.
type harness struct {
	t        *testing.T
	ep       stack.LinkEndpoint
	peer     Peer
	ethernet bool
	sink     *sink

	made, released atomic.Int64 // packet buffers for transmission
}

func newHarness(t *testing.T, ep stack.LinkEndpoint, peer Peer) *harness {
	h := &harness{t: t, ep: ep, peer: peer, sink: newSink()}
	h.ethernet = ep.MaxHeaderLength() >= header.EthernetMinimumSize && ep.ARPHardwareType() == header.ARPHardwareEther
	if h.ethernet && ep.LinkAddress() == "" {
		t.Fatal("an Ethernet endpoint without a link address")
	}
	return h
}

// finish closes the endpoint, whatever the case did, and checks that it let go
// of everything.
func (h *harness) finish() {
	h.t.Helper()
	h.ep.Attach(nil)
	h.ep.Close()
	h.wait()
	if made, released := h.made.Load(), h.released.Load(); made != released {
		h.t.Errorf("%d of %d packet buffers are still referenced after Close and Wait", made-released, made)
	}
}

// wait calls Wait and fails the case if it does not return.
func (h *harness) wait() {
	h.t.Helper()
	h.returns("Wait", h.ep.Wait)
}

// returns fails the case if f does not return.
func (h *harness) returns(name string, f func()) {
	h.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		h.t.Fatalf("%s does not return\n%s", name, stacks())
	}
}

// attach attaches the harness's own dispatcher.
func (h *harness) attach() {
	h.t.Helper()
	h.ep.Attach(h.sink)
	if !h.ep.IsAttached() {
		h.t.Fatal("IsAttached is false after Attach")
	}
}

// send puts a frame on the wire that the medium has to carry.
func (h *harness) send(frame []byte) {
	h.t.Helper()
	if err := h.peer.Send(frame); err != nil {
		h.t.Fatalf("sending a frame of %d bytes to the endpoint: %v", len(frame), err)
	}
}

// frame prepends the link header, if there is one, to a packet for dst.
func (h *harness) frame(dst tcpip.LinkAddress, packet []byte) []byte {
	if !h.ethernet {
		return packet
	}
	b := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(packet))
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: peerAddress, DstAddr: dst, Type: header.IPv4ProtocolNumber})
	return append(b, packet...)
}

// delivery waits for the next numbered packet that the endpoint delivers.
func (h *harness) delivery() delivery {
	h.t.Helper()
	select {
	case d := <-h.sink.deliveries:
		return d
	case <-time.After(patience):
		h.t.Fatalf("no delivery\n%s", stacks())
		panic("unreachable")
	}
}

// transmitted waits for the next numbered packet on the wire and returns its
// number, the frame and the packet in it.
func (h *harness) transmitted() (n int, frame, packet []byte) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for {
		frame, err := h.peer.Recv(ctx)
		if err != nil {
			h.t.Fatalf("no frame from the endpoint: %v", err)
		}
		packet := frame
		if h.ethernet {
			if len(frame) < header.EthernetMinimumSize {
				h.t.Fatalf("the endpoint sent a frame of %d bytes", len(frame))
			}
			packet = frame[header.EthernetMinimumSize:]
		}
		if n, ok := number(packet); ok {
			return n, frame, packet
		}
	}
}

// packet makes a packet buffer of n bytes for WritePackets as a stack does: with
// a network header of its own, the payload in views of at most viewSize bytes,
// and the link header added.
func (h *harness) packet(number, size, viewSize int) *stack.PacketBuffer {
	raw := numbered(number, size)
	var payload buffer.Buffer
	for b := raw[header.IPv4MinimumSize+header.UDPMinimumSize:]; len(b) > 0; {
		n := min(len(b), viewSize)
		// One buffer for each view: appending would fill up the last.
		part := buffer.MakeWithData(b[:n])
		payload.Merge(&part)
		b = b[n:]
	}
	h.made.Add(1)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(h.ep.MaxHeaderLength()) + header.IPv4MinimumSize + header.UDPMinimumSize,
		Payload:            payload,
		OnRelease:          func() { h.released.Add(1) },
	})
	copy(pkt.TransportHeader().Push(header.UDPMinimumSize), raw[header.IPv4MinimumSize:])
	copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize), raw)
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = h.ep.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = peerAddress
	pkt.PktType = tcpip.PacketOutgoing
	h.ep.AddHeader(pkt)
	return pkt
}

// write writes packets and drops the references to them, as a stack does.
func (h *harness) write(pkts ...*stack.PacketBuffer) (int, tcpip.Error) {
	var list stack.PacketBufferList
	for _, p := range pkts {
		list.PushBack(p)
	}
	n, err := h.ep.WritePackets(list)
	for _, p := range pkts {
		p.DecRef()
	}
	return n, err
}

// The suite's packets are UDP over IPv4 between addresses set aside for
// documentation (RFC 5737). Their payload is a magic number, the packet's own
// number, and a pattern that depends on it.
const (
	magic         = 0x706c756d
	minPacketSize = header.IPv4MinimumSize + header.UDPMinimumSize + 8
)

// numbered makes packet number n of size bytes, all checksums right.
func numbered(n, size int) []byte {
	b := make([]byte, size)
	udpSize := size - header.IPv4MinimumSize
	ip := header.IPv4(b)
	src, dst := tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), tcpip.AddrFrom4([4]byte{198, 51, 100, 1})
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(size), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: src, DstAddr: dst,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	body := b[header.IPv4MinimumSize+header.UDPMinimumSize:]
	binary.BigEndian.PutUint32(body, magic)
	binary.BigEndian.PutUint32(body[4:], uint32(n))
	for i := 8; i < len(body); i++ {
		body[i] = byte(i + n)
	}
	udp := header.UDP(b[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: uint16(udpSize)})
	xsum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(udpSize))
	xsum = checksumOf(body, xsum)
	udp.SetChecksum(^udp.CalculateChecksum(xsum))
	return b
}

// number returns the number of a packet made by numbered.
func number(packet []byte) (int, bool) {
	if len(packet) < minPacketSize {
		return 0, false
	}
	body := packet[header.IPv4MinimumSize+header.UDPMinimumSize:]
	return int(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body) == magic
}

// same says whether got is the packet want, but for Ethernet padding.
func same(got, want []byte) error {
	const smallest = 60 - header.EthernetMinimumSize
	if len(got) < len(want) || len(got) > max(len(want), smallest) {
		return fmt.Errorf("got a packet of %d bytes, want %d", len(got), len(want))
	}
	if !bytes.Equal(got[:len(want)], want) {
		return errors.New("the packet was altered")
	}
	return nil
}

// delivery is what an endpoint handed to its dispatcher.
type delivery struct {
	number  int
	proto   tcpip.NetworkProtocolNumber
	pktType tcpip.PacketType
	link    []byte
	packet  []byte
}

// sink is a dispatcher that records the suite's packets.
type sink struct {
	deliveries chan delivery
	onDelivery func(delivery) // called first, if set before Attach
	segments   chan []byte    // gets what segment has made, if set before Attach
	mu         sync.Mutex
	closed     bool // nothing may be delivered any more; guarded by mu
	late       int  // what was, nevertheless; guarded by mu
}

func newSink() *sink { return &sink{deliveries: make(chan delivery, 4096)} }

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (s *sink) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	v := pkt.Data().AsRange().ToSlice()
	if s.segments != nil && proto == header.IPv4ProtocolNumber && isSegment(v) {
		s.segments <- v
	}
	n, ok := number(v)
	if !ok {
		return
	}
	d := delivery{number: n, proto: proto, pktType: pkt.PktType, link: bytes.Clone(pkt.LinkHeader().Slice()), packet: v}
	if s.onDelivery != nil {
		s.onDelivery(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.late++
		return
	}
	select {
	case s.deliveries <- d:
	default: // a case under load does not look at all of them
	}
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*sink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// close says that no delivery is allowed from now on.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// noLeftovers checks at the end of t that no goroutine is left that was not
// there before.
func noLeftovers(t *testing.T) {
	before := goroutines()
	t.Cleanup(func() {
		deadline := time.Now().Add(patience / 4)
		for {
			var left []string
			for id, stack := range goroutines() {
				if _, ok := before[id]; !ok && !strings.Contains(stack, "testing.") {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
			// A goroutine that has nothing more to do may still have to be
			// scheduled to end.
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
			runtime.Gosched()
		}
	})
}

// goroutines returns the stacks of all goroutines by their number.
func goroutines() map[string]string {
	all := make(map[string]string)
	for _, s := range strings.Split(stacks(), "\n\n") {
		id, _, _ := strings.Cut(strings.TrimPrefix(s, "goroutine "), " ")
		all[id] = s
	}
	return all
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}
