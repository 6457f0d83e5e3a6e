package linktest

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The properties can be read, and set where the interface says so.
func testProperties(t *testing.T, h *harness) {
	if h.ep.MTU() == 0 {
		t.Error("MTU is 0")
	}
	h.ep.SetMTU(1400)
	if got := h.ep.MTU(); got != 1400 {
		t.Errorf("MTU = %d after SetMTU(1400)", got)
	}
	switch n := len(h.ep.LinkAddress()); n {
	case 0, header.EthernetAddressSize:
	default:
		t.Errorf("the link address has %d bytes", n)
	}
	if h.ethernet {
		const addr = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x02")
		h.ep.SetLinkAddress(addr)
		if got := h.ep.LinkAddress(); got != addr {
			t.Errorf("LinkAddress = %s after SetLinkAddress(%s)", got, addr)
		}
		if header.IsMulticastEthernetAddress(h.ep.LinkAddress()) {
			t.Error("the link address is a group address")
		}
	}
	if gso, ok := h.ep.(stack.GSOEndpoint); ok && gso.SupportedGSO() != stack.GSONotSupported && gso.GSOMaxSize() < h.ep.MTU() {
		t.Errorf("segmentation offload of %d bytes at most, below the MTU of %d", gso.GSOMaxSize(), h.ep.MTU())
	}
}

// AddHeader and ParseHeader agree, stay within MaxHeaderLength, and do not
// choke on what is not there.
func testHeaders(t *testing.T, h *harness) {
	pkt := h.packet(7, 100, 1<<16)
	defer pkt.DecRef()
	link := pkt.LinkHeader().Slice()
	if len(link) > int(h.ep.MaxHeaderLength()) {
		t.Errorf("AddHeader added %d bytes, MaxHeaderLength is %d", len(link), h.ep.MaxHeaderLength())
	}
	if h.ethernet {
		eth := header.Ethernet(link)
		if eth.SourceAddress() != h.ep.LinkAddress() || eth.DestinationAddress() != peerAddress || eth.Type() != header.IPv4ProtocolNumber {
			t.Errorf("AddHeader wrote % x", link)
		}
	}
	whole := pkt.ToView()
	defer whole.Release()
	raw := whole.AsSlice()
	for _, size := range []int{0, 1, 13, 14, 15, 100} {
		in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(raw[:size])})
		ok := h.ep.ParseHeader(in)
		if want := size >= len(link); ok != want {
			t.Errorf("ParseHeader of %d bytes = %t, want %t", size, ok, want)
		}
		if ok && len(in.LinkHeader().Slice()) != len(link) {
			t.Errorf("ParseHeader took %d bytes, AddHeader added %d", len(in.LinkHeader().Slice()), len(link))
		}
		in.DecRef()
	}
}

// A packet of any size up to the MTU goes out as one frame, unaltered.
func testTransmit(t *testing.T, h *harness) {
	h.attach()
	mtu := int(h.ep.MTU())
	for i, size := range []int{minPacketSize, 45, 46, 47, 60, 100, 576, 1280, 1499, 1500, 4096, 9000, mtu} {
		if size > mtu {
			continue
		}
		n, err := h.write(h.packet(i, size, 1<<16))
		if n != 1 || err != nil {
			t.Fatalf("WritePackets of one packet of %d bytes = %d, %v", size, n, err)
		}
		got, frame, packet := h.transmitted()
		if got != i {
			t.Fatalf("packet %d is on the wire, want %d", got, i)
		}
		if err := same(packet, numbered(i, size)); err != nil {
			t.Errorf("packet of %d bytes: %v", size, err)
		}
		if h.ethernet {
			eth := header.Ethernet(frame)
			if eth.SourceAddress() != h.ep.LinkAddress() || eth.DestinationAddress() != peerAddress || eth.Type() != header.IPv4ProtocolNumber {
				t.Errorf("link header % x on the wire", frame[:header.EthernetMinimumSize])
			}
		}
	}
}

// A batch goes out in order; the number returned is that of the packets sent.
func testTransmitBatch(t *testing.T, h *harness) {
	h.attach()
	next := 0
	for _, batch := range []int{1, 2, 31, 32, 33, 47, 64, 100} {
		pkts := make([]*stack.PacketBuffer, batch)
		for i := range pkts {
			pkts[i] = h.packet(next+i, minPacketSize+(next+i*37)%1000, 1<<16)
		}
		sent, err := h.write(pkts...)
		if sent > batch || sent < 0 || (sent < batch && err == nil) {
			t.Fatalf("WritePackets of %d packets = %d, %v", batch, sent, err)
		}
		for i := range sent {
			got, _, packet := h.transmitted()
			if got != next+i {
				t.Fatalf("packet %d of a batch of %d is on the wire in place %d", got-next, batch, i)
			}
			if err := same(packet, numbered(got, minPacketSize+(next+i*37)%1000)); err != nil {
				t.Errorf("packet %d of a batch of %d: %v", i, batch, err)
			}
		}
		next += batch
	}
}

// It does not matter how a packet lies in memory.
func testTransmitManyViews(t *testing.T, h *harness) {
	h.attach()
	size := min(int(h.ep.MTU()), 1500)
	for i, viewSize := range []int{1, 2, 7, 100, 1000} {
		if n, err := h.write(h.packet(i, size, viewSize)); n != 1 || err != nil {
			t.Fatalf("WritePackets of a packet in views of %d bytes = %d, %v", viewSize, n, err)
		}
		_, _, packet := h.transmitted()
		if err := same(packet, numbered(i, size)); err != nil {
			t.Errorf("views of %d bytes: %v", viewSize, err)
		}
	}
}

// A packet that is longer than the link allows is refused or sent whole, not
// cut off, and does not hold up the next.
func testTransmitGiant(t *testing.T, h *harness) {
	h.attach()
	size := min(int(h.ep.MTU())+1, 65535)
	n, err := h.write(h.packet(1, size, 1<<16))
	if (n == 1) != (err == nil) {
		t.Errorf("WritePackets of a packet of %d bytes = %d, %v", size, n, err)
	}
	if n, err := h.write(h.packet(2, 100, 1<<16)); n != 1 || err != nil {
		t.Fatalf("WritePackets after a giant = %d, %v", n, err)
	}
	for {
		got, _, packet := h.transmitted()
		if got == 2 {
			return
		}
		if err := same(packet, numbered(1, size)); err != nil {
			t.Errorf("packet of %d bytes: %v", size, err)
		}
	}
}
