package vnet

import (
	"bytes"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A checksum that is the sum of the pseudo-header is completed; any other is
// verified.
func TestVerifyPartial(t *testing.T) {
	const v4, v6 = header.IPv4ProtocolNumber, header.IPv6ProtocolNumber
	none := []byte{0, 0}
	tcp4 := ipv4(6, nil, none, segment(src4, dst4, 6, 101))
	udp4 := ipv4(17, nil, none, segment(src4, dst4, 17, 100))
	tcp6 := ipv6(6, nil, segment(src6, dst6, 6, 101))
	udp6 := ipv6(17, nil, segment(src6, dst6, 17, 3))
	left4 := partial(tcp4, src4, dst4, 6, 20, 16)
	fragment := ipv4(6, nil, []byte{0x20, 0}, left4[20:])
	for _, tt := range []struct {
		name      string
		proto     int
		packet    []byte
		want      []byte // after; nil for unaltered
		verdict   Verdict
		completed bool
	}{
		{"right", 4, tcp4, nil, Good, false},
		{"wrong", 4, flip(tcp4, 60), nil, BadTransportChecksum, false},
		{"wrong IP header", 4, flip(left4, 12), nil, BadIPChecksum, false},
		{"TCP left out", 4, left4, tcp4, Good, true},
		{"UDP left out", 4, partial(udp4, src4, dst4, 17, 20, 6), udp4, Good, true},
		{"TCP over IPv6 left out", 6, partial(tcp6, src6, dst6, 6, 40, 16), tcp6, Good, true},
		{"UDP over IPv6 left out", 6, partial(udp6, src6, dst6, 17, 40, 6), udp6, Good, true},
		{"another sum left there", 4, flip(left4, 36), nil, BadTransportChecksum, false},
		{"a fragment is left alone", 4, fragment, nil, Good, false},
		{"too short", 6, tcp6[:39], nil, Malformed, false},
	} {
		for _, padding := range []int{0, 1, 18} {
			for _, cut := range []int{len(tt.packet), min(80, len(tt.packet))} {
				b := slices.Concat(tt.packet, bytes.Repeat([]byte{0xaa}, padding))
				p := Packet{Head: b[:cut], Tail: b[cut:]}
				if len(tt.packet) < 40 {
					p = Packet{Head: tt.packet}
				}
				proto := v4
				if tt.proto == 6 {
					proto = v6
				}
				v, completed := VerifyPartial(proto, p)
				if v != tt.verdict || completed != tt.completed {
					t.Errorf("%s, %d bytes of padding, cut at %d: %v, %t, want %v, %t", tt.name, padding, cut, v, completed, tt.verdict, tt.completed)
				}
				want := tt.want
				if want == nil {
					want = tt.packet
				}
				if len(tt.packet) >= 40 && !bytes.Equal(b[:len(want)], want) {
					t.Errorf("%s, %d bytes of padding, cut at %d: the packet is now % x, want % x", tt.name, padding, cut, b[:len(want)], want)
				}
			}
		}
	}
}

// What VerifyPartial calls good and completed, Verify calls good.
func FuzzVerifyPartial(f *testing.F) {
	f.Add(true, 60, partial(ipv4(6, nil, []byte{0, 0}, segment(src4, dst4, 6, 33)), src4, dst4, 6, 20, 16))
	f.Add(false, 60, partial(ipv6(17, nil, segment(src6, dst6, 17, 33)), src6, dst6, 17, 40, 6))
	f.Fuzz(func(t *testing.T, four bool, cut int, b []byte) {
		if cut < 0 || cut > len(b) {
			return
		}
		proto := header.IPv6ProtocolNumber
		if four {
			proto = header.IPv4ProtocolNumber
		}
		b = slices.Clone(b)
		p := Packet{Head: b[:cut:cut], Tail: b[cut:]}
		if v, completed := VerifyPartial(proto, p); v == Good && completed {
			if again := Verify(proto, Header{}, 0, p); again != Good {
				t.Fatalf("completed, but Verify says %v: % x", again, b)
			}
		}
	})
}
