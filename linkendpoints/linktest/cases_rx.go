package linktest

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func checksumOf(b []byte, initial uint16) uint16 { return checksum.Checksum(b, initial) }

// Frames of every size up to the MTU are delivered once, whole and in order,
// with their link header and protocol.
func testReceive(t *testing.T, h *harness) {
	h.attach()
	mtu := int(h.ep.MTU())
	var sizes []int
	for _, s := range []int{minPacketSize, 45, 46, 47, 60, 61, 64, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 1279, 1280, 1499, 1500,
		2033, 2034, 2035, 2048, 2049, 4096, 9000, 16384, 40000, mtu - 1, mtu} {
		if s <= mtu && s <= 65535 {
			sizes = append(sizes, s)
		}
	}
	for i, size := range sizes {
		h.send(h.frame(h.ep.LinkAddress(), numbered(i, size)))
		d := h.delivery()
		if d.number != i {
			t.Fatalf("got packet %d, want %d", d.number, i)
		}
		if err := same(d.packet, numbered(i, size)); err != nil {
			t.Errorf("packet of %d bytes: %v", size, err)
		}
		if d.proto != header.IPv4ProtocolNumber {
			t.Errorf("packet of %d bytes delivered as protocol %#x", size, d.proto)
		}
		if d.pktType != tcpip.PacketHost {
			t.Errorf("packet of %d bytes has packet type %d, want that for this host", size, d.pktType)
		}
		if h.ethernet && (len(d.link) != header.EthernetMinimumSize || header.Ethernet(d.link).SourceAddress() != peerAddress) {
			t.Errorf("packet of %d bytes has link header % x", size, d.link)
		}
	}
	// Several at once, to see the order.
	const burst = 64
	for i := range burst {
		h.send(h.frame(h.ep.LinkAddress(), numbered(1000+i, 100+i)))
	}
	for i := range burst {
		if d := h.delivery(); d.number != 1000+i {
			t.Fatalf("got packet %d of a burst, want %d", d.number-1000, i)
		}
	}
}

// Broadcast and multicast frames are delivered as such.
func testReceiveBroadcast(t *testing.T, h *harness) {
	if !h.ethernet {
		t.Skip("no link addresses")
	}
	h.attach()
	for i, tt := range []struct {
		dst  tcpip.LinkAddress
		want tcpip.PacketType
	}{
		{header.EthernetBroadcastAddress, tcpip.PacketBroadcast},
		{"\x01\x00\x5e\x00\x00\x01", tcpip.PacketMulticast},
		{"\x33\x33\x00\x00\x00\x01", tcpip.PacketMulticast},
		{h.ep.LinkAddress(), tcpip.PacketHost},
	} {
		h.send(h.frame(tt.dst, numbered(i, 100)))
		if d := h.delivery(); d.number != i || d.pktType != tt.want {
			t.Errorf("frame for %s: got packet %d with type %d, want packet %d with type %d", tt.dst, d.number, d.pktType, i, tt.want)
		}
	}
}

// A unicast frame for somebody else is not taken for one for this host, and
// does not keep the next from arriving.
func testReceiveOtherHost(t *testing.T, h *harness) {
	if !h.ethernet {
		t.Skip("no link addresses")
	}
	h.attach()
	other := []byte(h.ep.LinkAddress())
	other[3] ^= 0x40
	for i := range 10 {
		h.send(h.frame(tcpip.LinkAddress(other), numbered(i, 100)))
	}
	h.send(h.frame(h.ep.LinkAddress(), numbered(10, 100)))
	for {
		d := h.delivery()
		if d.number == 10 {
			return
		}
		if d.pktType != tcpip.PacketOtherHost {
			t.Errorf("a frame for another address was delivered with packet type %d", d.pktType)
		}
	}
}

// Frames that are too short, too long or nonsense end nothing: what follows
// arrives.
func testReceiveBadFrames(t *testing.T, h *harness) {
	h.attach()
	good := h.frame(h.ep.LinkAddress(), numbered(0, 200))
	bad := [][]byte{
		good[:1], good[:6], good[:12], good[:13], good[:14], good[:15], good[:20], good[:33], good[:34], good[:40],
		make([]byte, 14), make([]byte, 60),
		append(good[:len(good):len(good)], make([]byte, 100000)...),
		append(good[:len(good):len(good)], make([]byte, 65535)...),
	}
	for _, first := range []byte{0x00, 0x40, 0x45, 0x4f, 0x60, 0xf0, 0xff} {
		b := make([]byte, len(good))
		copy(b, good)
		at := 0
		if h.ethernet {
			at = header.EthernetMinimumSize
		}
		for i := at; i < len(b); i++ {
			b[i] = first
		}
		bad = append(bad, b, b[:at+1], b[:at+19])
	}
	for i, b := range bad {
		_ = h.peer.Send(b) // the medium may refuse
		n := 1 + i
		h.send(h.frame(h.ep.LinkAddress(), numbered(n, 100)))
		for {
			// A bad frame may have been good enough to be delivered.
			if d := h.delivery(); d.number == n {
				break
			}
		}
	}
}

// An endpoint that advertises receive checksum offload delivers nothing whose
// checksum is wrong: the stack will not look.
func testReceiveBadChecksums(t *testing.T, h *harness) {
	h.attach()
	if h.ep.Capabilities()&stack.CapabilityRXChecksumOffload == 0 {
		return // the stack verifies
	}
	for i, at := range []int{
		8,   // TTL: the IPv4 header checksum
		12,  // source address: both checksums
		20,  // UDP port
		50,  // UDP payload
		299, // the last byte of an odd length
	} {
		b := numbered(2*i, 299+1)
		b[at] ^= 0x04
		if at == 50 {
			b[at+2] ^= 0x40
		}
		h.send(h.frame(h.ep.LinkAddress(), b))
		h.send(h.frame(h.ep.LinkAddress(), numbered(2*i+1, 100)))
		if d := h.delivery(); d.number != 2*i+1 {
			t.Errorf("a packet with byte %d damaged was delivered", at)
			h.delivery()
		}
	}
}
