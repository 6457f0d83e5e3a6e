package afpacket

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// stackAddress is the address of the endpoints in tests without a device.
const stackAddress = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x02")

// newDetached makes an endpoint with one queue and neither a device nor a ring.
func newDetached(opts Options) *Endpoint {
	opts.LinkAddress = stackAddress
	return newEndpoint(&device{fds: []int{-1}, rings: make([]ring, 1), name: "none", mtu: 1500}, opts)
}

// counting is a dispatcher that counts packets and looks at all their bytes.
type counting struct{ packets, bytes uint64 }

func (c *counting) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	c.packets++
	v := pkt.ToView()
	c.bytes += uint64(len(v.AsSlice()))
	v.Release()
}

func (*counting) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// makeSlot lays a frame into a slot as the kernel does.
func makeSlot(status uint32, tci uint16, h vnet.Header, frame []byte) []byte {
	const mac = 80
	b := make([]byte, slotSize)
	u16, u32 := binary.NativeEndian.PutUint16, binary.NativeEndian.PutUint32
	n := copy(b[mac:], frame)
	u32(b[slotStatus:], status|unix.TP_STATUS_USER)
	u32(b[slotLen:], uint32(len(frame)))
	u32(b[slotSnapLen:], uint32(n))
	u16(b[slotMAC:], mac)
	u16(b[slotTCI:], tci)
	u16(b[slotTPID:], unix.ETH_P_8021Q)
	h.Put(b[mac-vnet.HeaderSize:])
	return b
}

// partialUDP is the header of a UDP datagram over IPv4 without a checksum.
var partialUDP = vnet.Header{Flags: vnet.FlagNeedsCsum, CsumStart: 34, CsumOffset: 6}

// gso returns h for a super-segment.
func gso(h vnet.Header, typ uint8, size uint16) vnet.Header {
	h.GSOType, h.GSOSize = typ, size
	return h
}

// A slot says what the kernel wrote into it, or nothing.
func TestParseSlot(t *testing.T) {
	f := udpFrame(stackAddress, 50)
	at := func(offset int, v uint32) []byte {
		b := makeSlot(0, 0, vnet.Header{}, f)
		binary.NativeEndian.PutUint32(b[offset:], v)
		return b
	}
	for _, tt := range []struct {
		name string
		slot []byte
		ok   bool
	}{
		{"a frame", makeSlot(0, 0, vnet.Header{}, f), true},
		{"a frame that does not fit", makeSlot(unix.TP_STATUS_COPY, 0, vnet.Header{}, make([]byte, 5000)), true},
		{"no bytes", makeSlot(0, 0, vnet.Header{}, nil), true},
		{"too short for its header", makeSlot(0, 0, vnet.Header{}, f)[:slotHeader-1], false},
		{"a frame outside the slot", at(slotMAC, slotSize+1), false},
		{"a frame over the slot's own header", at(slotMAC, slotHeader+vnet.HeaderSize-1), false},
		{"longer than the slot", at(slotSnapLen, slotSize), false},
		{"more captured than there was", at(slotSnapLen, uint32(len(f)+1)), false},
		{"a length of 4 GiB", at(slotSnapLen, 0xffffffff), false},
	} {
		s, ok := parseSlot(tt.slot)
		if ok != tt.ok {
			t.Errorf("%s: parseSlot = %t", tt.name, ok)
		}
		if ok && len(s.frame) > s.length {
			t.Errorf("%s: %d of %d bytes", tt.name, len(s.frame), s.length)
		}
	}
	s, ok := parseSlot(makeSlot(unix.TP_STATUS_VLAN_VALID, 0xe007, partialUDP, f))
	if want := (vlanTag{true, unix.ETH_P_8021Q, 0xe007}); !ok || s.tag != want || s.tag.id() != 7 || s.header != partialUDP || !bytes.Equal(s.frame, f) {
		t.Errorf("parseSlot = %+v, %t", s, ok)
	}
}

// Each hostile frame is counted for what is wrong with it, once.
func TestReceiveVerdicts(t *testing.T) {
	good := udpFrame(stackAddress, 50)
	other := udpFrame("\x02\x00\x5e\x00\x53\x99", 50)
	super := udpSuper(stackAddress, 1500)
	damaged := slices.Clone(good)
	damaged[l2+8]++ // the TTL
	for _, tt := range []struct {
		name string
		opts Options
		slot []byte
		want Stats // without bytes
	}{
		{"a good frame", Options{}, makeSlot(0, 0, vnet.Header{}, good), Stats{RxFrames: 1, RxVerified: 1}},
		{"vouched for", Options{}, makeSlot(0, 0, vnet.Header{Flags: vnet.FlagDataValid}, good), Stats{RxFrames: 1}},
		{"no link header", Options{}, makeSlot(0, 0, vnet.Header{}, good[:13]), Stats{RxDroppedShort: 1}},
		{"a link header only", Options{}, makeSlot(0, 0, vnet.Header{}, good[:14]), Stats{RxDroppedMalformed: 1}},
		{"somebody else's", Options{}, makeSlot(0, 0, vnet.Header{}, other), Stats{RxDroppedOtherHost: 1}},
		{"somebody else's, promiscuous", Options{Promiscuous: true}, makeSlot(0, 0, vnet.Header{}, other), Stats{RxFrames: 1, RxVerified: 1}},
		{"another VLAN's", Options{VLAN: 3}, makeSlot(unix.TP_STATUS_VLAN_VALID, 4, vnet.Header{}, good), Stats{RxDroppedOtherVLAN: 1}},
		{"a damaged header", Options{}, makeSlot(0, 0, vnet.Header{}, damaged), Stats{RxDroppedChecksum: 1}},
		{"a checksum outside the frame", Options{}, makeSlot(0, 0, vnet.Header{Flags: 1, CsumStart: 84, CsumOffset: 20}, good), Stats{RxDroppedHeader: 1}},
		{"an unknown segmentation type", Options{}, makeSlot(0, 0, gso(partialUDP, 3, 1000), super), Stats{RxDroppedHeader: 1}},
		{"a segmentation type that does not fit, which no stack looks at", Options{}, makeSlot(0, 0, gso(partialUDP, vnet.GSOTCPv4, 1000), super), Stats{RxFrames: 1, RxPartialChecksum: 1, RxGSO: 1}},
		{"the same, to be cut here", Options{NoOffload: true}, makeSlot(0, 0, gso(partialUDP, vnet.GSOTCPv4, 1000), super), Stats{RxDroppedMalformed: 1}},
		{"UDP super-segment", Options{}, makeSlot(0, 0, gso(partialUDP, gsoUDPL4, 1000), super), Stats{RxFrames: 2, RxSplit: 1, RxPartialChecksum: 2}},
		{"UDP super-segment without size", Options{}, makeSlot(0, 0, gso(partialUDP, gsoUDPL4, 0), super), Stats{RxDroppedMalformed: 1}},
		{"UDP super-segment nobody vouched for", Options{}, makeSlot(0, 0, vnet.Header{GSOType: gsoUDPL4, GSOSize: 1000}, super), Stats{RxDroppedChecksum: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, c := newDetached(tt.opts), &counting{}
			s, ok := parseSlot(tt.slot)
			if !ok {
				t.Fatal("the slot is no good")
			}
			e.rx[0].receive(c, s, s.frame, nil)
			got := e.Stats()
			if got.RxFrames != c.packets || got.RxBytes != c.bytes {
				t.Errorf("%d packets with %d bytes were delivered", c.packets, c.bytes)
			}
			if got.RxBytes = 0; got != tt.want {
				t.Errorf("Stats %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Whatever is in a slot, each frame is delivered, cut or counted once, and no
// byte outside of it is looked at.
func FuzzSlot(f *testing.F) {
	super := udpSuper(stackAddress, 1500)
	f.Add(makeSlot(0, 0, vnet.Header{}, udpFrame(stackAddress, 50)), byte(0), uint16(0))
	f.Add(makeSlot(unix.TP_STATUS_VLAN_VALID, 7, vnet.Header{}, udpFrame(stackAddress, 50)), byte(1), uint16(7))
	f.Add(makeSlot(0, 0, gso(partialUDP, gsoUDPL4, 100), super), byte(2), uint16(0))
	f.Add(makeSlot(0, 0, gso(partialUDP, vnet.GSOTCPv4, 100), super), byte(1), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, options byte, vlan uint16) {
		e := newDetached(Options{NoOffload: options&1 != 0, Promiscuous: options&2 != 0, VLAN: vlan & 0xfff})
		c := &counting{}
		b = slices.Clip(slices.Clone(b))
		s, ok := parseSlot(b)
		if !ok {
			return
		}
		q := e.rx[0]
		q.merge.Begin(&lifecycle.Session{Dispatcher: c})
		q.receive(c, s, s.frame, nil)
		q.merge.Flush()
		got := e.Stats()
		once := got.RxDropped() + got.RxSplit
		if got.RxSplit == 0 {
			once += got.RxFrames
		}
		// What pads a segment is left out if it could have been put together with
		// others.
		if once != 1 || got.RxFrames != c.packets || got.RxBytes < c.bytes || got.RxBytes != c.bytes && options&1 != 0 {
			t.Fatalf("%d packets with %d bytes delivered, Stats %+v", c.packets, c.bytes, got)
		}
	})
}

// Whatever a super-segment looks like, its parts hold its payload, in order and
// once, and have checksums that are right.
func FuzzSplit(f *testing.F) {
	super := udpSuper(stackAddress, 1500)[l2:]
	f.Add(super, 100, uint8(vnet.FlagNeedsCsum), uint8(gsoUDPL4), uint16(100), uint16(34))
	f.Add(super, 1528, uint8(vnet.FlagDataValid), uint8(gsoUDPL4), uint16(1), uint16(0))
	f.Add(tcpSuper(), 60, uint8(vnet.FlagNeedsCsum), uint8(vnet.GSOTCPv6|vnet.GSOECN), uint16(700), uint16(54))
	f.Fuzz(func(t *testing.T, b []byte, cut int, flags, typ uint8, size, start uint16) {
		if len(b) > frame.MaxIPSize || cut < 0 || cut > len(b) {
			return
		}
		proto := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
		if len(b) > 0 && b[0]>>4 == 6 {
			proto = header.IPv6ProtocolNumber
		}
		p := vnet.Packet{Head: slices.Clip(slices.Clone(b[:cut])), Tail: slices.Clip(slices.Clone(b[cut:]))}
		s, ok := newSplitter(proto, vnet.Header{Flags: flags, GSOType: typ, GSOSize: size, CsumStart: start}, l2, p)
		if !ok {
			return
		}
		var payload []byte
		for i := range s.count() {
			part := make([]byte, s.length(i))
			s.put(i, part, flags&vnet.FlagNeedsCsum != 0)
			payload = append(payload, part[s.payload:]...)
			if proto == header.IPv4ProtocolNumber && checksum.Checksum(part[:s.l4], 0) != 0xffff {
				t.Fatalf("part %d has a wrong IPv4 header checksum", i)
			}
			// Behind extension headers Verify may find another transport.
			if s.six && s.l4 != header.IPv6MinimumSize {
				continue
			}
			if v := vnet.Verify(proto, vnet.Header{}, l2, vnet.Packet{Head: part}); v != vnet.Good {
				t.Fatalf("part %d of %d: verdict %d", i, s.count(), v)
			}
		}
		if want := b[s.payload:s.end]; !bytes.Equal(payload, want) {
			t.Fatalf("the parts hold %d bytes, want %d", len(payload), len(want))
		}
	})
}

// tcpSuper makes a TCP super-segment over IPv6 with a partial checksum.
func tcpSuper() []byte {
	b := make([]byte, header.IPv6MinimumSize+header.TCPMinimumSize+2000)
	header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(b) - header.IPv6MinimumSize), TransportProtocol: 6, HopLimit: 64})
	header.TCP(b[header.IPv6MinimumSize:]).Encode(&header.TCPFields{
		SeqNum: 0xfffffff0, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck | header.TCPFlagFin | header.TCPFlagPsh | 0x80,
	})
	return b
}

// The first part of a TCP super-segment alone says CWR (RFC 3168, §6.1.2), the
// last alone FIN and PSH; sequence numbers wrap.
func TestSplitTCP(t *testing.T) {
	s, ok := newSplitter(header.IPv6ProtocolNumber, gso(vnet.Header{Flags: 1, CsumStart: 54, CsumOffset: 16}, vnet.GSOTCPv6|vnet.GSOECN, 900), l2, vnet.Packet{Head: tcpSuper()})
	if !ok || s.count() != 3 {
		t.Fatalf("newSplitter: %t, %d parts, want 3", ok, s.count())
	}
	for i, want := range []struct {
		seq    uint32
		flags  header.TCPFlags
		length int
	}{
		{0xfffffff0, header.TCPFlagAck | 0x80, 960},
		{0xfffffff0 + 900 - 1<<32, header.TCPFlagAck, 960},
		{0xfffffff0 + 1800 - 1<<32, header.TCPFlagAck | header.TCPFlagFin | header.TCPFlagPsh, 260},
	} {
		b := make([]byte, s.length(i))
		s.put(i, b, true)
		tcp := header.TCP(b[header.IPv6MinimumSize:])
		if len(b) != want.length || tcp.SequenceNumber() != want.seq || tcp.Flags() != want.flags {
			t.Errorf("part %d: %d bytes, sequence number %d, flags %#x; want %+v", i, len(b), tcp.SequenceNumber(), tcp.Flags(), want)
		}
	}
}
