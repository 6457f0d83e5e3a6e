package vnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func TestHeaderRoundTrip(t *testing.T) {
	want := Header{Flags: FlagNeedsCsum, GSOType: GSOTCPv6 | GSOECN, HdrLen: 0x1234, GSOSize: 1440, CsumStart: 54, CsumOffset: 16}
	var b [HeaderSize]byte
	want.Put(b[:])
	// VIRTIO 1.2, §5.1.6: flags, gso_type, then four 16-bit little-endian fields.
	if wire := []byte{1, 0x84, 0x34, 0x12, 0xa0, 0x05, 54, 0, 16, 0}; !bytes.Equal(b[:], wire) {
		t.Errorf("Put = % x, want % x", b, wire)
	}
	if got := Parse(b[:]); got != want {
		t.Errorf("Parse(Put(h)) = %+v, want %+v", got, want)
	}
}

func TestHeaderCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    Header
		len  int
		want error
	}{
		{"empty", Header{}, 0, nil},
		{"needs csum at the very end", Header{Flags: FlagNeedsCsum, CsumStart: 34, CsumOffset: 16}, 52, nil},
		{"needs csum past the end", Header{Flags: FlagNeedsCsum, CsumStart: 34, CsumOffset: 16}, 51, ErrCsumRange},
		{"needs csum overflow", Header{Flags: FlagNeedsCsum, CsumStart: 0xffff, CsumOffset: 0xffff}, 65535, ErrCsumRange},
		{"offsets without the flag", Header{CsumStart: 0xffff, CsumOffset: 0xffff}, 60, nil},
		{"data valid", Header{Flags: FlagDataValid}, 60, nil},
		{"tcp4", Header{GSOType: GSOTCPv4, GSOSize: 1460}, 3000, nil},
		{"tcp6 with CWR", Header{GSOType: GSOTCPv6 | GSOECN, GSOSize: 1440}, 3000, nil},
		{"no segment size", Header{GSOType: GSOTCPv4}, 3000, ErrGSOSize},
		{"UFO was not offered", Header{GSOType: 3, GSOSize: 1000}, 3000, ErrGSOType},
		{"USO was not offered", Header{GSOType: 5, GSOSize: 1000}, 3000, ErrGSOType},
	} {
		if got := tt.h.Check(tt.len); !errors.Is(got, tt.want) {
			t.Errorf("%s: Check = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestForPacket(t *testing.T) {
	gso4 := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: 16, MSS: 1000, L3HdrLen: 20}
	gso6 := stack.GSO{Type: stack.GSOTCPv6, NeedsCsum: true, CsumOffset: 16, MSS: 1000, L3HdrLen: 40}
	noMSS := gso4
	noMSS.MSS = 0
	for _, tt := range []struct {
		name       string
		gso        stack.GSO
		l2, l3, l4 int
		flags      byte
		payload    int
		want       Header
	}{
		{"no offload", stack.GSO{}, 14, 20, 20, 0, 100, Header{}},
		{"software GSO", stack.GSO{Type: stack.GSOGvisor, MSS: 1000}, 14, 20, 20, 0, 900, Header{}},
		{"one segment", gso4, 14, 20, 20, 0, 1000, Header{Flags: 1, CsumStart: 34, CsumOffset: 16}},
		{"pure ACK", gso4, 14, 20, 32, 0x10, 0, Header{Flags: 1, CsumStart: 34, CsumOffset: 16}},
		{"two segments", gso4, 14, 20, 32, 0x10, 1001, Header{Flags: 1, GSOType: 1, HdrLen: 66, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}},
		{"IPv4 options", gso4, 14, 24, 20, 0, 2000, Header{Flags: 1, GSOType: 1, HdrLen: 58, GSOSize: 1000, CsumStart: 38, CsumOffset: 16}},
		{"IPv6", gso6, 14, 40, 20, 0, 2000, Header{Flags: 1, GSOType: 4, HdrLen: 74, GSOSize: 1000, CsumStart: 54, CsumOffset: 16}},
		{"IPv6 extension headers", gso6, 14, 48, 20, 0, 2000, Header{Flags: 1, GSOType: 4, HdrLen: 82, GSOSize: 1000, CsumStart: 62, CsumOffset: 16}},
		{"TUN", gso4, 0, 20, 20, 0, 2000, Header{Flags: 1, GSOType: 1, HdrLen: 40, GSOSize: 1000, CsumStart: 20, CsumOffset: 16}},
		{"CWR", gso4, 14, 20, 20, 0x90, 2000, Header{Flags: 1, GSOType: 0x81, HdrLen: 54, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}},
		{"largest", gso4, 14, 20, 20, 0, 65495, Header{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}},
		{"a multiple of 65536", gso4, 14, 20, 20, 0, 65536, Header{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}},
		{"no MSS", noMSS, 14, 20, 20, 0, 2000, Header{Flags: 1, CsumStart: 34, CsumOffset: 16}},
	} {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
			ReserveHeaderBytes: tt.l2 + tt.l3 + tt.l4,
			Payload:            buffer.MakeWithData(make([]byte, tt.payload)),
		})
		pkt.TransportHeader().Push(tt.l4)[13] = tt.flags
		pkt.NetworkHeader().Push(tt.l3)
		if tt.l2 > 0 {
			pkt.LinkHeader().Push(tt.l2)
		}
		pkt.GSOOptions = tt.gso
		if got := ForPacket(pkt); got != tt.want {
			t.Errorf("%s: ForPacket = %+v, want %+v", tt.name, got, tt.want)
		}
		pkt.DecRef()
	}
}

// The packets below are built from scratch here, so that the code under test
// does not check itself.

// onesSum is the 16-bit one's complement sum of RFC 1071.
func onesSum(bs ...[]byte) uint16 {
	var all []byte
	for _, b := range bs {
		all = append(all, b...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var s uint32
	for i := 0; i < len(all); i += 2 {
		s += uint32(all[i])<<8 | uint32(all[i+1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

var (
	src4, dst4 = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	src6       = append(bytes.Repeat([]byte{0xfd}, 15), 1)
	dst6       = append(bytes.Repeat([]byte{0xfd}, 15), 2)
)

// segment builds a TCP (6) or UDP (17) segment with a right checksum.
func segment(src, dst []byte, proto, payload int) []byte {
	var b []byte
	var at int
	if proto == 6 {
		b, at = append([]byte{0, 80, 4, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0}, make([]byte, payload)...), 16
	} else {
		b, at = append([]byte{0, 53, 4, 0, byte((8 + payload) >> 8), byte(8 + payload), 0, 0}, make([]byte, payload)...), 6
	}
	for i := range payload {
		b[len(b)-payload+i] = byte(i * 7)
	}
	copy(b[at:], be16(int(^onesSum(src, dst, be16(proto), be16(len(b)), b))))
	return b
}

// ipv4 builds an IPv4 packet around a segment.
func ipv4(proto int, options, frag []byte, seg []byte) []byte {
	hlen := 20 + len(options)
	b := []byte{byte(0x40 | hlen/4), 0}
	b = append(b, be16(hlen+len(seg))...)
	b = append(b, 0, 1)
	b = append(b, frag...)
	b = append(b, 64, byte(proto), 0, 0)
	b = slices.Concat(b, src4, dst4, options)
	copy(b[10:], be16(int(^onesSum(b))))
	return append(b, seg...)
}

// ipv6 builds an IPv6 packet; ext holds the extension headers.
func ipv6(next int, ext, seg []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = append(b, be16(len(ext)+len(seg))...)
	b = append(b, byte(next), 64)
	return slices.Concat(b, src6, dst6, ext, seg)
}

// partial replaces the right checksum at offset at of packet b by the sum of
// the pseudo-header, as a sender does who leaves the rest to the device.
func partial(b []byte, src, dst []byte, proto, start, at int) []byte {
	b = slices.Clone(b)
	copy(b[start+at:], be16(int(onesSum(src, dst, be16(proto), be16(len(b)-start)))))
	return b
}

func flip(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 0x10
	return b
}

func TestVerify(t *testing.T) {
	const v4, v6 = header.IPv4ProtocolNumber, header.IPv6ProtocolNumber
	whole := []byte{0, 0}
	tcp4 := ipv4(6, nil, whole, segment(src4, dst4, 6, 333))
	udp4 := ipv4(17, nil, whole, segment(src4, dst4, 17, 100))
	tcp6 := ipv6(6, nil, segment(src6, dst6, 6, 1200))
	udp6 := ipv6(17, nil, segment(src6, dst6, 17, 99))
	dstOpts := []byte{6, 0, 1, 4, 0, 0, 0, 0}
	hopByHop := append([]byte{60, 1, 1, 12}, make([]byte, 12)...)
	zeroUDP := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at], b[at+1] = 0, 0
		return b
	}
	needs := func(start, off int) Header {
		return Header{Flags: FlagNeedsCsum, CsumStart: uint16(start), CsumOffset: uint16(off)}
	}
	for _, tt := range []struct {
		name  string
		proto tcpip.NetworkProtocolNumber
		h     Header
		b     []byte
		want  Verdict
	}{
		{"TCP", v4, Header{}, tcp4, Good},
		{"TCP, payload damaged", v4, Header{}, flip(tcp4, 200), BadTransportChecksum},
		{"TCP, last byte damaged", v4, Header{}, flip(tcp4, len(tcp4)-1), BadTransportChecksum},
		{"TCP, IP header damaged", v4, Header{}, flip(tcp4, 8), BadIPChecksum},
		{"TCP, options", v4, Header{}, ipv4(6, []byte{1, 1, 1, 1}, whole, segment(src4, dst4, 6, 9)), Good},
		{"TCP, Ethernet padding", v4, Header{}, append(ipv4(6, nil, whole, segment(src4, dst4, 6, 1)), 0xaa, 0xbb, 0xcc, 0xdd, 0xee), Good},
		{"TCP, too short", v4, Header{}, ipv4(6, nil, whole, make([]byte, 19)), Malformed},
		{"DATA_VALID vouches for TCP", v4, Header{Flags: FlagDataValid}, flip(tcp4, 200), Good},
		{"DATA_VALID does not vouch for IP", v4, Header{Flags: FlagDataValid}, flip(tcp4, 8), BadIPChecksum},
		{"NEEDS_CSUM on the TCP checksum", v4, needs(34, 16), partial(tcp4, src4, dst4, 6, 20, 16), Good},
		{"NEEDS_CSUM does not vouch for IP", v4, needs(34, 16), flip(partial(tcp4, src4, dst4, 6, 20, 16), 8), BadIPChecksum},
		{"NEEDS_CSUM elsewhere, outer good", v4, needs(14+100, 16), segmentWithInner(tcp4), Good},
		{"NEEDS_CSUM elsewhere, outer bad", v4, needs(14+100, 16), flip(segmentWithInner(tcp4), 60), BadTransportChecksum},
		{"NEEDS_CSUM before the packet", v4, needs(3, 16), tcp4, Malformed},
		{"first fragment", v4, Header{}, ipv4(17, nil, []byte{0x20, 0}, make([]byte, 64)), Good},
		{"later fragment", v4, Header{}, ipv4(17, nil, []byte{0, 8}, make([]byte, 64)), Good},
		{"do not fragment is not a fragment", v4, Header{}, ipv4(6, nil, []byte{0x40, 0}, flip(segment(src4, dst4, 6, 5), 4)), BadTransportChecksum},
		{"fragment with a bad IP header", v4, Header{}, flip(ipv4(17, nil, []byte{0, 8}, make([]byte, 64)), 1), BadIPChecksum},
		{"ICMP is for the stack to check", v4, Header{}, ipv4(1, nil, whole, []byte{8, 0, 0xde, 0xad}), Good},
		{"UDP", v4, Header{}, udp4, Good},
		{"UDP damaged", v4, Header{}, flip(udp4, 40), BadTransportChecksum},
		{"UDP without a checksum", v4, Header{}, zeroUDP(udp4, 26), Good},
		{"UDP shorter than its IP packet", v4, Header{}, ipv4(17, nil, whole, append(segment(src4, dst4, 17, 11), 1, 2, 3, 4)), Good},
		{"UDP longer than its IP packet", v4, Header{}, ipv4(17, nil, whole, segment(src4, dst4, 17, 11)[:18]), Malformed},
		{"UDP length 7", v4, Header{}, ipv4(17, nil, whole, []byte{0, 1, 0, 2, 0, 7, 0, 0}), Malformed},
		{"IHL 4", v4, Header{}, append([]byte{0x44}, tcp4[1:]...), Malformed},
		{"IHL beyond the packet", v4, Header{}, append([]byte{0x4f}, tcp4[1:40]...), Malformed},
		{"total length beyond the packet", v4, Header{}, tcp4[:len(tcp4)-1], Malformed},
		{"version 6 in an IPv4 frame", v4, Header{}, tcp6, Malformed},
		{"empty", v4, Header{}, nil, Malformed},

		{"TCP", v6, Header{}, tcp6, Good},
		{"TCP damaged", v6, Header{}, flip(tcp6, 1000), BadTransportChecksum},
		{"address damaged", v6, Header{}, flip(tcp6, 20), BadTransportChecksum},
		{"NEEDS_CSUM on the TCP checksum", v6, needs(54, 16), partial(tcp6, src6, dst6, 6, 40, 16), Good},
		{"UDP", v6, Header{}, udp6, Good},
		{"UDP without a checksum", v6, Header{}, zeroUDP(udp6, 46), BadTransportChecksum},
		{"destination options", v6, Header{}, ipv6(60, dstOpts, segment(src6, dst6, 6, 10)), Good},
		{"destination options, damaged", v6, Header{}, flip(ipv6(60, dstOpts, segment(src6, dst6, 6, 10)), 60), BadTransportChecksum},
		{"hop-by-hop and destination options", v6, Header{}, ipv6(0, slices.Concat(hopByHop, dstOpts), segment(src6, dst6, 6, 10)), Good},
		{"hop-by-hop and destination options, damaged", v6, Header{}, flip(ipv6(0, slices.Concat(hopByHop, dstOpts), segment(src6, dst6, 6, 10)), 70), BadTransportChecksum},
		{"NEEDS_CSUM behind extension headers", v6, needs(14+48, 16), partial(ipv6(60, dstOpts, segment(src6, dst6, 6, 10)), src6, dst6, 6, 48, 16), Good},
		{"fragment", v6, Header{}, ipv6(44, []byte{6, 0, 0, 1, 0, 0, 0, 9}, make([]byte, 40)), Good},
		{"atomic fragment is whole", v6, Header{}, ipv6(44, []byte{6, 0, 0, 0, 0, 0, 0, 9}, segment(src6, dst6, 6, 7)), Good},
		{"atomic fragment, damaged", v6, Header{}, flip(ipv6(44, []byte{6, 0, 0, 0, 0, 0, 0, 9}, segment(src6, dst6, 6, 7)), 50), BadTransportChecksum},
		{"routing header, segments left", v6, Header{}, ipv6(43, []byte{6, 0, 2, 1, 0, 0, 0, 0}, make([]byte, 40)), Good},
		{"routing header, none left", v6, Header{}, ipv6(43, []byte{6, 0, 2, 0, 0, 0, 0, 0}, segment(src6, dst6, 6, 7)), Good},
		{"extension header beyond the packet", v6, Header{}, ipv6(60, []byte{6, 9, 1, 4, 0, 0, 0, 0}, nil), Malformed},
		{"extension header cut short", v6, Header{}, ipv6(60, []byte{6, 0, 1, 4}, nil), Malformed},
		{"no next header", v6, Header{}, ipv6(59, nil, nil), Good},
		{"ICMPv6 is for the stack to check", v6, Header{}, ipv6(58, nil, []byte{128, 0, 1, 2}), Good},
		{"payload length beyond the packet", v6, Header{}, tcp6[:len(tcp6)-1], Malformed},
		{"header cut short", v6, Header{}, tcp6[:39], Malformed},

		{"ARP", header.ARPProtocolNumber, Header{}, make([]byte, 28), Good},
	} {
		// The verdict may not depend on where the packet is split, as long as
		// its headers are in the first part.
		for _, cut := range []int{len(tt.b), 121, 120} {
			if cut > len(tt.b) {
				continue
			}
			b := slices.Clone(tt.b)
			p := Packet{Head: b[:cut:cut], Tail: b[cut:]}
			if got := Verify(tt.proto, tt.h, 14, p); got != tt.want {
				t.Errorf("%#x %s, cut at %d: Verify = %v, want %v", tt.proto, tt.name, cut, got, tt.want)
			}
		}
	}
}

// segmentWithInner returns outer, a TCP packet whose checksum is right once
// the partial checksum at 100+16 within it is completed: a tunnel.
func segmentWithInner(outer []byte) []byte {
	b := slices.Clone(outer)
	b[20+16], b[20+17] = 0, 0
	done := slices.Clone(b)
	Complete(Header{CsumStart: 100, CsumOffset: 16}, 0, Packet{Head: done})
	sum := ^onesSum(src4, dst4, be16(6), be16(len(done)-20), done[20:])
	copy(b[36:], be16(int(sum)))
	return b
}

func TestComplete(t *testing.T) {
	for _, payload := range []int{0, 1, 100, 3001} {
		want := ipv4(6, nil, []byte{0, 0}, segment(src4, dst4, 6, payload))
		for _, cut := range []int{len(want), 40, 39} {
			got := partial(want, src4, dst4, 6, 20, 16)
			if !Complete(Header{CsumStart: 34, CsumOffset: 16}, 14, Packet{Head: got[:cut], Tail: got[cut:]}) {
				t.Fatalf("payload %d, cut %d: Complete refused", payload, cut)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("payload %d, cut %d: (-want +got)\n%s", payload, cut, diff)
			}
		}
	}
	if Complete(Header{CsumStart: 34, CsumOffset: 16}, 14, Packet{Head: make([]byte, 37), Tail: make([]byte, 100)}) {
		t.Error("Complete accepted a checksum field that is not in the head")
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0}, 3000)
	f.Add([]byte{1, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if len(b) < HeaderSize {
			return
		}
		h := Parse(b)
		var again [HeaderSize]byte
		h.Put(again[:])
		if !bytes.Equal(again[:], b[:HeaderSize]) {
			t.Fatalf("Put(Parse(% x)) = % x", b[:HeaderSize], again)
		}
		if h.Check(n) == nil && h.Flags&FlagNeedsCsum != 0 && int(h.CsumStart)+int(h.CsumOffset)+2 > n {
			t.Fatalf("Check let %+v pass for %d bytes", h, n)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add(true, make([]byte, HeaderSize), 60, ipv4(6, nil, []byte{0, 0}, segment(src4, dst4, 6, 33)))
	f.Add(false, make([]byte, HeaderSize), 60, ipv6(6, nil, segment(src6, dst6, 6, 33)))
	f.Add(false, []byte{1, 0, 0, 0, 0, 0, 54, 0, 16, 0}, 48, ipv6(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, segment(src6, dst6, 6, 10)))
	f.Add(true, []byte{1, 0, 0, 0, 0, 0, 50, 0, 2, 0}, 30, ipv4(17, nil, []byte{0, 0}, segment(src4, dst4, 17, 33)))
	f.Fuzz(func(t *testing.T, four bool, hb []byte, cut int, b []byte) {
		if len(hb) < HeaderSize || cut < 0 || cut > len(b) {
			return
		}
		h := Parse(hb)
		if h.Check(14+len(b)) != nil {
			return
		}
		proto := header.IPv6ProtocolNumber
		if four {
			proto = header.IPv4ProtocolNumber
		}
		b = slices.Clone(b)
		v := Verify(proto, h, 14, Packet{Head: b[:cut:cut], Tail: b[cut:]})
		if v != Good || h.Flags != 0 || !four {
			return
		}
		// What Verify lets pass unvouched, gVisor's own checks let pass.
		ip := header.IPv4(b)
		if !ip.IsValid(len(b)) || !ip.IsChecksumValid() {
			t.Fatalf("Good, but the IPv4 header is not valid: % x", b)
		}
		if ip.More() || ip.FragmentOffset() != 0 || ip.TransportProtocol() != header.TCPProtocolNumber {
			return
		}
		tcp := header.TCP(ip.Payload())
		if _, ok, valid := header.TCPValid(tcp, func() uint16 { return checksum.Checksum(tcp[tcp.DataOffset():], 0) },
			uint16(len(tcp)-int(tcp.DataOffset())), ip.SourceAddress(), ip.DestinationAddress(), false); valid && !ok {
			t.Fatalf("Good, but the TCP checksum is wrong: % x", b)
		}
	})
}
