package pmtu

import (
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	router4 = tcpip.AddrFrom4([4]byte{203, 0, 113, 1})
	local4  = tcpip.AddrFrom4([4]byte{198, 51, 100, 7})
	local6  = tcpip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 7})
	router6 = tcpip.AddrFrom16([16]byte{0xfe, 0x80, 15: 1})
)

// segment returns a TCP segment with options.
func segment(flags header.TCPFlags, options ...byte) []byte {
	b := make([]byte, header.TCPMinimumSize+len(options))
	header.TCP(b).Encode(&header.TCPFields{SrcPort: 4321, DstPort: 80, SeqNum: 0xdeadbeef, Flags: flags, DataOffset: uint8(len(b)), WindowSize: 1000})
	copy(b[header.TCPMinimumSize:], options)
	return b
}

func packet4(src, dst tcpip.Address, proto tcpip.TransportProtocolNumber, total int, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+len(payload))
	if total == 0 {
		total = len(b)
	}
	header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(total), TTL: 64, Protocol: uint8(proto), SrcAddr: src, DstAddr: dst, ID: 99})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	copy(b[header.IPv4MinimumSize:], payload)
	return b
}

func packet6(src, dst tcpip.Address, proto tcpip.TransportProtocolNumber, length int, payload []byte) []byte {
	b := make([]byte, header.IPv6MinimumSize+len(payload))
	if length == 0 {
		length = len(payload)
	}
	header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(length), TransportProtocol: proto, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	copy(b[header.IPv6MinimumSize:], payload)
	return b
}

// tooBig4 returns "fragmentation needed" that quotes a TCP segment in a packet of 1500 octets.
func tooBig4(mtu uint16, quoted []byte) []byte {
	b := make([]byte, header.ICMPv4MinimumSize+len(quoted))
	h := header.ICMPv4(b)
	h.SetType(header.ICMPv4DstUnreachable)
	h.SetCode(header.ICMPv4FragmentationNeeded)
	h.SetMTU(mtu)
	copy(b[header.ICMPv4MinimumSize:], quoted)
	h.SetChecksum(0)
	h.SetChecksum(^checksum.Checksum(b, 0))
	return packet4(router4, local4, header.ICMPv4ProtocolNumber, 0, b)
}

func tooBig6(mtu uint32, quoted []byte) []byte {
	b := make([]byte, header.ICMPv6PacketTooBigMinimumSize+len(quoted))
	b[0] = byte(header.ICMPv6PacketTooBig)
	binary.BigEndian.PutUint32(b[4:], mtu)
	copy(b[header.ICMPv6PacketTooBigMinimumSize:], quoted)
	sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, router6, local6, uint16(len(b)))
	binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, sum))
	return packet6(router6, local6, header.ICMPv6ProtocolNumber, 0, b)
}

func TestParseICMP(t *testing.T) {
	quoted4 := packet4(local4, dest4.Remote, header.TCPProtocolNumber, 1500, segment(header.TCPFlagAck)[:8])
	quoted6 := packet6(local6, dest6.Remote, header.UDPProtocolNumber, 1460, segment(0)[:8])
	want4 := Report{MTU: 1400, Router: router4, Local: local4, Remote: dest4.Remote, Size: 1500, Protocol: 6, LocalPort: 4321, RemotePort: 80, Seq: 0xdeadbeef, ID: 99}
	want6 := Report{MTU: 1300, Router: router6, Local: local6, Remote: dest6.Remote, Size: 1500, Protocol: 17, LocalPort: 4321, RemotePort: 80}
	edit := func(b []byte, f func(b []byte)) []byte {
		b = append([]byte(nil), b...)
		f(b)
		return b
	}
	tests := []struct {
		name string
		b    []byte
		want Report
		ok   bool
	}{
		{"IPv4", tooBig4(1400, quoted4), want4, true},
		{"IPv6", tooBig6(1300, quoted6), want6, true},
		{"empty", nil, Report{}, false},
		{"truncated IPv4", tooBig4(1400, quoted4)[:27], Report{}, false},
		{"truncated IPv6", tooBig6(1400, quoted6)[:47], Report{}, false},
		{"quotes a truncated header", tooBig4(1400, quoted4[:19]), Report{}, false},
		{"quotes no transport header", tooBig4(1400, quoted4[:27]), Report{}, false},
		{"quotes no IPv6 transport header", tooBig6(1400, quoted6[:47]), Report{}, false},
		{"quotes a later fragment", tooBig4(1400, edit(quoted4, func(b []byte) { b[7] = 100 })), Report{}, false},
		{"wrong ICMP checksum", edit(tooBig4(1400, quoted4), func(b []byte) { b[27] ^= 1 }), Report{}, false},
		{"wrong ICMPv6 checksum", edit(tooBig6(1400, quoted6), func(b []byte) { b[47] ^= 1 }), Report{}, false},
		{"another code", edit(tooBig4(1400, quoted4), func(b []byte) { b[21] = 3 }), Report{}, false},
		{"another type", edit(tooBig6(1400, quoted6), func(b []byte) { b[40] = 1 }), Report{}, false},
		{"another protocol", packet4(router4, local4, header.UDPProtocolNumber, 0, make([]byte, 50)), Report{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := ParseICMP(tt.b)
			if ok != tt.ok || ok && r != tt.want {
				t.Errorf("%+v, %v; want %+v, %v", r, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestFromTransport(t *testing.T) {
	if FromTransport(0, header.IPv4ProtocolNumber) != 0 || FromTransport(1380, header.IPv4ProtocolNumber) != 1400 || FromTransport(1240, header.IPv6ProtocolNumber) != 1280 {
		t.Error("wrong")
	}
}

func TestInFlight(t *testing.T) {
	for _, tt := range []struct {
		seq, una, nxt uint32
		want          bool
	}{
		{10, 10, 20, true}, {19, 10, 20, true}, {20, 10, 20, false}, {9, 10, 20, false}, {10, 10, 10, false}, {2, 0xfffffff0, 8, true}, {8, 0xfffffff0, 8, false},
	} {
		if got := InFlight(tt.seq, tt.una, tt.nxt); got != tt.want {
			t.Errorf("InFlight(%d, %d, %d) = %v", tt.seq, tt.una, tt.nxt, got)
		}
	}
}

func TestClampMSS(t *testing.T) {
	mss := func(n uint16) []byte { return []byte{2, 4, byte(n >> 8), byte(n)} }
	withSum := func(b []byte, src, dst tcpip.Address) []byte {
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(b)))
		header.TCP(b).SetChecksum(^checksum.Checksum(b, sum))
		return b
	}
	tests := []struct {
		name    string
		flags   header.TCPFlags
		options []byte
		mtu     uint32
		want    uint16 // for IPv4; 0 if nothing changes
	}{
		{"lowered", header.TCPFlagSyn, mss(1460), 1400, 1360},
		{"on a SYN-ACK", header.TCPFlagSyn | header.TCPFlagAck, mss(1460), 1400, 1360},
		{"at an odd offset", header.TCPFlagSyn, append([]byte{1}, append(mss(8960), 1, 1, 0)...), 1500, 1460},
		{"behind other options", header.TCPFlagSyn, append([]byte{4, 2, 3, 3, 7}, append(mss(1460), 0, 0, 0)...), 1400, 1360},
		{"small enough", header.TCPFlagSyn, mss(1360), 1400, 0},
		{"no SYN", header.TCPFlagAck, mss(1460), 1400, 0},
		{"none", header.TCPFlagSyn, []byte{4, 2, 0, 0}, 1400, 0},
		{"behind the end", header.TCPFlagSyn, append([]byte{0, 0, 0, 0}, mss(1460)...), 1400, 0},
		{"a broken option", header.TCPFlagSyn, append([]byte{9, 0, 1, 1}, mss(1460)...), 1400, 0},
		{"an option that is too long", header.TCPFlagSyn, []byte{2, 40, 5, 180}, 1400, 0},
		{"twice", header.TCPFlagSyn, append(mss(1460), mss(1450)...), 1400, 1360},
		{"an absurd MTU", header.TCPFlagSyn, mss(1460), 40, 0},
		{"an MTU that no link has", header.TCPFlagSyn, mss(1460), 67, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v6 := range []bool{false, true} {
				src, dst, size := local4, dest4.Remote, header.IPv4MinimumSize
				build, want, mtu := packet4, tt.want, tt.mtu
				if v6 {
					src, dst, size, build = local6, dest6.Remote, header.IPv6MinimumSize, packet6
					if mtu += 20; mtu < 100 {
						mtu = 1279
					}
				}
				b := build(src, dst, header.TCPProtocolNumber, 0, withSum(segment(tt.flags, tt.options...), src, dst))
				before := string(b)
				if got := ClampMSS(b, mtu); got != (want != 0) {
					t.Fatalf("changed %v", got)
				}
				if want == 0 {
					if string(b) != before {
						t.Error("changed something")
					}
					continue
				}
				seg := header.TCP(b[size:])
				opts := header.ParseSynOptions(seg.Options(), false) // takes the last of several
				sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(seg)))
				if opts.MSS != want || checksum.Checksum(seg, sum) != 0xffff {
					t.Errorf("MSS %d, want %d; checksum %#x", opts.MSS, want, checksum.Checksum(seg, sum))
				}
			}
		})
	}
}
