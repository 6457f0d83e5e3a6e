package gro

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// tcp describes a segment for a test.
type tcp struct {
	six     bool
	port    uint16
	seq     uint32
	payload string
	flags   header.TCPFlags
	change  func(link, ip, tcp []byte) // before checksums
	padding int
}

// data is a stream of which segments are parts.
var data = func() string {
	b := make([]byte, 1<<17)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(b)
	return string(b)
}()

// at is a segment of the stream.
func at(from, n int) tcp {
	return tcp{seq: uint32(from), payload: data[from : from+n], flags: header.TCPFlagAck}
}

// frame makes the frame of a segment, with a time stamp option.
func (s tcp) frame() []byte {
	const options = 12
	size := header.TCPMinimumSize + options + len(s.payload)
	l3 := header.IPv4MinimumSize
	src, dst := tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), tcpip.AddrFrom4([4]byte{192, 0, 2, 2})
	proto := header.IPv4ProtocolNumber
	if s.six {
		l3, proto = header.IPv6MinimumSize, header.IPv6ProtocolNumber
		src, dst = tcpip.AddrFrom16([16]byte{0xfd, 15: 1}), tcpip.AddrFrom16([16]byte{0xfd, 15: 2})
	}
	b := make([]byte, 14+l3+size)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x00\x00\x00\x01", DstAddr: "\x02\x00\x00\x00\x00\x02", Type: proto})
	ip := b[14:]
	if s.six {
		header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(size), TransportProtocol: 6, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	} else {
		header.IPv4(ip).Encode(&header.IPv4Fields{TotalLength: uint16(l3 + size), ID: uint16(s.seq), TTL: 64, Protocol: 6, SrcAddr: src, DstAddr: dst})
	}
	t := header.TCP(ip[l3:])
	t.Encode(&header.TCPFields{SrcPort: s.port, DstPort: 80, SeqNum: s.seq, AckNum: 5, DataOffset: header.TCPMinimumSize + options, Flags: s.flags, WindowSize: 1000})
	copy(t[header.TCPMinimumSize:], "\x01\x01\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x02")
	copy(t[header.TCPMinimumSize+options:], s.payload)
	if s.change != nil {
		s.change(b[:14], ip[:l3], t)
	}
	if !s.six {
		header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
	}
	xsum := header.PseudoHeaderChecksum(6, src, dst, uint16(size))
	t.SetChecksum(^t.CalculateChecksum(xsum))
	return append(b, make([]byte, s.padding)...)
}

// delivered is what came out of a Table, or was not taken by it.
type delivered struct {
	payload  string
	segments int // 0 for not taken
	flags    header.TCPFlags
	frame    []byte
}

// run puts segments through a Table and flushes it.
func run(t *testing.T, in []tcp) (out []delivered) {
	t.Helper()
	note := func(b []byte, segments int) {
		six := b[12] == 0x86
		l4, proto := 34, header.IPv4ProtocolNumber
		if six {
			l4, proto = 54, header.IPv6ProtocolNumber
		}
		s, ok := locate(b, 14, proto)
		if !ok {
			out = append(out, delivered{segments: segments, frame: b})
			return
		}
		out = append(out, delivered{string(b[s.payload:s.end]), segments, header.TCP(b[l4:]).Flags(), b})
	}
	table := Table{Deliver: func(f buffer.Buffer, segments int) {
		note(f.Flatten(), segments)
		f.Release()
	}}
	for _, s := range in {
		proto := header.IPv4ProtocolNumber
		if s.six {
			proto = header.IPv6ProtocolNumber
		}
		b := s.frame()
		if !table.Add(b, 14, proto) {
			note(b, 0)
		}
		clear(b) // it was copied
	}
	table.Flush()
	if table.used != 0 {
		t.Error("something is left after Flush")
	}
	return out
}

// What is put together, and what is not.
func TestTable(t *testing.T) {
	const ack, psh, fin = header.TCPFlagAck, header.TCPFlagPsh, header.TCPFlagFin
	changed := func(s tcp, f func(link, ip, tcp []byte)) tcp { s.change = f; return s }
	flagged := func(s tcp, f header.TCPFlags) tcp { s.flags = f; return s }
	on := func(port uint16, s tcp) tcp { s.port = port; return s }
	padded := func(n int, s tcp) tcp { s.padding = n; return s }
	for _, tt := range []struct {
		name string
		in   []tcp
		want []int // segments of each that is delivered, in order; 0 for not taken
	}{
		{"one", []tcp{at(0, 100)}, []int{1}},
		{"three", []tcp{at(0, 100), at(100, 100), at(200, 100)}, []int{3}},
		{"the last is shorter", []tcp{at(0, 100), at(100, 99), at(199, 99)}, []int{2, 1}},
		{"the second is longer", []tcp{at(0, 100), at(100, 101)}, []int{1, 1}},
		{"a gap", []tcp{at(0, 100), at(101, 100)}, []int{1, 1}},
		{"a repetition", []tcp{at(0, 100), at(0, 100)}, []int{1, 1}},
		{"PSH ends it", []tcp{at(0, 100), flagged(at(100, 100), ack|psh), at(200, 100)}, []int{2, 1}},
		{"PSH alone", []tcp{flagged(at(0, 100), ack|psh), at(100, 100)}, []int{0, 1}},
		{"FIN", []tcp{at(0, 100), flagged(at(100, 100), ack|fin)}, []int{1, 0}},
		{"a pure ACK between", []tcp{at(0, 100), at(100, 0), at(100, 100)}, []int{1, 0, 1}},
		{"two flows", []tcp{on(1, at(0, 100)), on(2, at(0, 100)), on(1, at(100, 100)), on(2, at(100, 100))}, []int{2, 2}},
		{"padding is not payload", []tcp{padded(5, at(0, 1)), padded(5, at(1, 1))}, []int{2}},
		{"more flows than slots", []tcp{
			on(1, at(0, 9)), on(2, at(0, 9)), on(3, at(0, 9)), on(4, at(0, 9)), on(5, at(0, 9)), on(6, at(0, 9)),
			on(7, at(0, 9)), on(8, at(0, 9)), on(9, at(0, 9)), on(1, at(9, 9)), on(9, at(9, 9)),
		}, []int{1, 1, 1, 1, 1, 1, 1, 1, 2, 1}},
		{"marked by congestion", []tcp{at(0, 100), changed(at(100, 100), func(_, ip, _ []byte) { ip[1] = 3 })}, []int{1, 1}},
		{"another TTL", []tcp{at(0, 100), changed(at(100, 100), func(_, ip, _ []byte) { ip[8] = 63 })}, []int{1, 1}},
		{"another acknowledgment", []tcp{at(0, 100), changed(at(100, 100), func(_, _, tcp []byte) { tcp[11]++ })}, []int{1, 1}},
		{"another window", []tcp{at(0, 100), changed(at(100, 100), func(_, _, tcp []byte) { tcp[15]++ })}, []int{1, 1}},
		{"another time stamp", []tcp{at(0, 100), changed(at(100, 100), func(_, _, tcp []byte) { tcp[31]++ })}, []int{1, 1}},
		{"an urgent pointer", []tcp{at(0, 100), changed(at(100, 100), func(_, _, tcp []byte) { tcp[19]++ })}, []int{1, 1}},
		{"another sender on the link", []tcp{at(0, 100), changed(at(100, 100), func(link, _, _ []byte) { link[11]++ })}, []int{1, 1}},
		{"a fragment", []tcp{at(0, 100), changed(at(100, 100), func(_, ip, _ []byte) { ip[6] = 0x20 })}, []int{0, 1}},
		{"UDP", []tcp{changed(at(0, 100), func(_, ip, _ []byte) { ip[9] = 17 })}, []int{0}},
		{"a header that is too long", []tcp{changed(at(0, 100), func(_, ip, _ []byte) { ip[3] = 30 })}, []int{0}},
		{"a packet that is cut off", []tcp{changed(at(0, 100), func(_, ip, _ []byte) { ip[2] = 1 })}, []int{0}},
	} {
		for _, six := range []bool{false, true} {
			in := tt.in
			if six {
				in = nil
				for _, s := range tt.in {
					if s.change != nil {
						continue // IPv4's fields
					}
					s.six = true
					in = append(in, s)
				}
				if len(in) != len(tt.in) {
					continue
				}
			}
			var got []int
			for _, d := range run(t, in) {
				got = append(got, d.segments)
			}
			if len(got) != len(tt.want) {
				t.Errorf("%s, IPv6 %t: %v, want %v", tt.name, six, got, tt.want)
				continue
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("%s, IPv6 %t: %v, want %v", tt.name, six, got, tt.want)
					break
				}
			}
		}
	}
}

// The packet that comes out is one: its payload is that of all, its headers
// fit it, and a checksum can be completed.
func TestPutTogether(t *testing.T) {
	for _, six := range []bool{false, true} {
		var in []tcp
		const n, size = 43, 1448
		for i := range n {
			s := at(i*size, size)
			s.six = six
			if i == n-1 {
				s.flags |= header.TCPFlagPsh
			}
			in = append(in, s)
		}
		out := run(t, in)
		if len(out) != 1 || out[0].segments != n || out[0].payload != data[:n*size] || out[0].flags != header.TCPFlagAck|header.TCPFlagPsh {
			t.Fatalf("IPv6 %t: %d packets, the first of %d segments, %d bytes, flags %v", six, len(out), out[0].segments, len(out[0].payload), out[0].flags)
		}
		proto := header.IPv4ProtocolNumber
		if six {
			proto = header.IPv6ProtocolNumber
		}
		p := vnet.Packet{Head: out[0].frame[14:]}
		if v, completed := vnet.VerifyPartial(proto, p); v != vnet.Good || !completed {
			t.Errorf("IPv6 %t: verdict %v, completed %t", six, v, completed)
		}
		if v := vnet.Verify(proto, vnet.Header{}, 0, p); v != vnet.Good {
			t.Errorf("IPv6 %t: completed, and the verdict is %v", six, v)
		}
	}
	// No more than an IP packet holds.
	var in []tcp
	for i := range 80 {
		in = append(in, at(i*1448, 1448))
	}
	var got string
	for _, d := range run(t, in) {
		if len(d.frame) > 14+65535 {
			t.Errorf("a frame of %d bytes", len(d.frame))
		}
		got += d.payload
	}
	if got != data[:80*1448] {
		t.Error("the payload was altered")
	}
}

// FuzzTable: whatever arrives, every frame comes out once.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 100, 0, 1, 100, 0, 2, 100, 1}, at(0, 10).frame())
	f.Add([]byte{255, 255, 255}, []byte{})
	f.Fuzz(func(t *testing.T, script, frame []byte) {
		var in, out int
		table := Table{Deliver: func(b buffer.Buffer, segments int) {
			out += segments
			if b.Size() > 14+65535 {
				t.Fatalf("a frame of %d bytes", b.Size())
			}
			b.Release()
		}}
		seq := 0
		for ; len(script) >= 3; script = script[3:] {
			s := at(seq%60000, 1+int(script[1]))
			s.port = uint16(script[0] % 12)
			s.flags |= header.TCPFlags(script[2])
			seq += int(script[1]) + 1
			b := s.frame()
			if script[0] > 200 {
				b = bytes.Clone(frame)
			}
			if len(b) < 14 {
				continue
			}
			in++
			if !table.Add(b, 14, header.IPv4ProtocolNumber) {
				out++
			}
		}
		table.Flush()
		if in != out {
			t.Fatalf("%d segments in, %d out", in, out)
		}
	})
}
