package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// sampleTrace is what the files of these tests have in them.
const sampleTrace = handshake + `
	0.03 > P. 1+100 ack 1
	0.04 < .  1 ack 101
	0.05 > F. 101 ack 1
	0.06 < F. 1 ack 102
	0.07 > .  102 ack 2
`

// classicFile makes a pcap file of raw IP in the given byte order. Magic and
// extra are those of its variants.
func classicFile(t testing.TB, order binary.AppendByteOrder, magic uint32, extra int, trace string) []byte {
	unit := time.Microsecond
	if magic == magicNano {
		unit = time.Nanosecond
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 262144), LinkRaw)
	for _, p := range parseTrace(t, trace) {
		b = order.AppendUint32(b, 1000+uint32(p.at/time.Second))
		b = order.AppendUint32(b, uint32(p.at%time.Second/unit))
		b = order.AppendUint32(b, uint32(len(p.data)-p.cut))
		b = order.AppendUint32(b, uint32(len(p.data)))
		b = append(b, make([]byte, extra)...)
		b = append(b, p.data[:len(p.data)-p.cut]...)
	}
	return b
}

// ngFrom makes a pcapng file in the given byte order.
type ngFrom struct {
	binary.AppendByteOrder
	b []byte
}

// block appends a block.
func (n *ngFrom) block(kind uint32, body ...byte) *ngFrom {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	n.b = n.AppendUint32(n.AppendUint32(n.b, kind), uint32(len(body)+12))
	n.b = append(n.b, body...)
	n.b = n.AppendUint32(n.b, uint32(len(body)+12))
	return n
}

// iface appends an interface of raw IP, whose times have a resolution as
// if_tsresol gives it.
func (n *ngFrom) iface(resolution byte) *ngFrom {
	body := n.AppendUint16(n.AppendUint16(nil, LinkRaw), 0)
	body = n.AppendUint32(body, 0)
	body = append(n.AppendUint16(n.AppendUint16(body, 9), 1), resolution, 0, 0, 0)
	return n.block(blockInterface, n.AppendUint32(body, 0)...)
}

// header begins a section without interfaces.
func (n *ngFrom) header() *ngFrom {
	body := n.AppendUint16(n.AppendUint16(n.AppendUint32(nil, byteOrderMagic), 1), 0)
	return n.block(blockSection, append(body, bytes.Repeat([]byte{255}, 8)...)...)
}

// packet appends an enhanced packet block.
func (n *ngFrom) packet(ticks uint64, data []byte, length int) *ngFrom {
	body := n.AppendUint32(n.AppendUint32(n.AppendUint32(nil, 0), uint32(ticks>>32)), uint32(ticks))
	body = n.AppendUint32(n.AppendUint32(body, uint32(len(data))), uint32(length))
	return n.block(blockPacket, append(body, data...)...)
}

// trace appends a packet for each line, in microseconds.
func (n *ngFrom) trace(t testing.TB, text string) *ngFrom {
	for _, p := range parseTrace(t, text) {
		n.packet(uint64(p.at/time.Microsecond), p.data[:len(p.data)-p.cut], len(p.data))
	}
	return n
}

// sampleNg is a pcapng file of the sample.
func sampleNg(t testing.TB, order binary.AppendByteOrder) *ngFrom {
	n := &ngFrom{AppendByteOrder: order}
	return n.header().iface(6).trace(t, sampleTrace)
}

// byGopacket is the sample as another implementation writes it.
func byGopacket(t testing.TB) []byte {
	var out bytes.Buffer
	w, err := pcapgo.NewNgWriter(&out, layers.LinkTypeRaw)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parseTrace(t, sampleTrace) {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1000, 0).Add(p.at), CaptureLength: len(p.data), Length: len(p.data)}
		if err := w.WritePacket(ci, p.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestFormats reads the same packets from every kind of file.
func TestFormats(t *testing.T) {
	files := map[string][]byte{
		"pcapng of gopacket":        byGopacket(t),
		"pcapng, little-endian":     sampleNg(t, binary.LittleEndian).b,
		"pcapng, big-endian":        sampleNg(t, binary.BigEndian).b,
		"pcap, little-endian":       classicFile(t, binary.LittleEndian, magicMicro, 0, sampleTrace),
		"pcap, big-endian":          classicFile(t, binary.BigEndian, magicMicro, 0, sampleTrace),
		"pcap, nanoseconds":         classicFile(t, binary.LittleEndian, magicNano, 0, sampleTrace),
		"pcap, with longer headers": classicFile(t, binary.LittleEndian, magicModified, 8, sampleTrace),
		"pcapng, unknown blocks between": func() []byte {
			n := (&ngFrom{AppendByteOrder: binary.LittleEndian}).header().block(0x0badbeef, 1, 2, 3).iface(6).block(4, 0, 0, 0, 0)
			return n.trace(t, sampleTrace).block(0x80000001).b
		}(),
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			r, err := Check(bytes.NewReader(file), onPath)
			if err != nil {
				t.Fatal(err)
			}
			wantFound(t, r)
			if r.Packets != 8 || r.Segments != 8 || r.Connections != 1 || r.Octets != 100 || r.Duration != 70*time.Millisecond {
				t.Errorf("%+v", r)
			}
			if len(r.Skipped)+len(r.Unknown) != 0 {
				t.Errorf("not judged: %v, unknown: %v", r.Skipped, r.Unknown)
			}
		})
	}
}

// TestTruncated cuts a file off at each octet: what is left is judged.
func TestTruncated(t *testing.T) {
	for name, file := range map[string][]byte{"pcapng": sampleNg(t, binary.LittleEndian).b, "pcap": classicFile(t, binary.LittleEndian, magicMicro, 0, sampleTrace)} {
		most := int64(0)
		for n := range len(file) {
			r, err := Check(bytes.NewReader(file[:n]), onPath)
			switch {
			case r == nil && !errors.Is(err, ErrFormat):
				t.Fatalf("%s: %d octets: %v", name, n, err)
			case r == nil:
				continue
			case err != nil:
				t.Fatalf("%s: %d octets: %v", name, n, err)
			case r.Broken(Hard) > 0 || r.Packets < most:
				t.Fatalf("%s: %d octets: %d packets after %d, %v", name, n, r.Packets, most, r.Findings)
			}
			most = r.Packets
		}
		if most < 7 {
			t.Errorf("%s: %d packets at most", name, most)
		}
	}
}

// TestCutOffIsSaid checks that a report tells of a packet that is not whole.
func TestCutOffIsSaid(t *testing.T) {
	file := sampleNg(t, binary.LittleEndian).b
	r, err := Check(bytes.NewReader(file[:len(file)-20]), Options{})
	if err != nil || len(r.Unknown) != 1 || !strings.Contains(r.Unknown[0].What, "cuts off") {
		t.Errorf("%v, %+v", err, r.Unknown)
	}
}

// TestMalformed checks that each malformation is named, with what came before it
// judged.
func TestMalformed(t *testing.T) {
	le := binary.LittleEndian
	start := func() *ngFrom { return (&ngFrom{AppendByteOrder: le}).header().iface(6) }
	sample := func() *ngFrom { return start().trace(t, handshake) }
	broken := func(n *ngFrom, at int, v uint32) []byte {
		le.PutUint32(n.b[at:], v)
		return n.b
	}
	cases := []struct {
		name    string
		file    []byte
		packets int64 // -1: no report
		message string
	}{
		{"empty", nil, -1, "neither pcap nor pcapng: it has 0 octets"},
		{"text", []byte("From the desk of somebody"), -1, "neither pcap nor pcapng"},
		{"short", []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0}, -1, "the header ends early"},
		{"version 3", append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 3, 0}, make([]byte, 18)...), -1, "version 3"},
		{"gzip", []byte{0x1f, 0x8b, 8, 0, 0}, -1, "compressed"},
		{"byte order", append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, make([]byte, 40)...), -1, "byte-order magic"},
		{"block of 8 octets", broken(sample().block(99), len(sample().b)+4, 8), 3, "after packet 3: a block has a length of 8 octets"},
		{"block of 13 octets", broken(sample().block(99), len(sample().b)+4, 13), 3, "a length of 13"},
		{"lengths differ", broken(sample(), len(sample().b)-4, 4), 2, "72 octets at its begin and 4 at its end"},
		{"packet of no interface", (&ngFrom{AppendByteOrder: le}).header().packet(0, nil, 0).b, 0, "interface 0, of 0"},
		{"simple packet of no interface", (&ngFrom{AppendByteOrder: le}).header().block(blockSimple, 0, 0, 0, 0).b, 0, "before any interface"},
		{"statistics of no interface", start().block(blockStatistics, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).b, 0, "interface 1, of 1"},
		{"captured more than the block has", broken(start().packet(0, make([]byte, 8), 8), len(start().b)+20, 4000), 0, "4000 captured octets in a block of 40"},
		{"packet block of 16 octets", start().block(blockPacket, 0, 0, 0, 0).b, 0, "too short for its type"},
		{"option past the end", start().block(blockInterface, 101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 200, 0).b, 0, "an option of 200 octets"},
		{"resolution", (&ngFrom{AppendByteOrder: le}).header().iface(20).b, 0, "resolution"},
		{"huge packet in pcap", append(classicFile(t, le, magicMicro, 0, ""), 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0), 0, "4294967295 captured octets"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, err := Check(bytes.NewReader(c.file), Options{})
			if err == nil || !strings.Contains(err.Error(), c.message) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one with %q", err, c.message)
			}
			switch {
			case (r == nil) != (c.packets < 0):
				t.Errorf("report %+v", r)
			case r != nil && r.Packets != c.packets:
				t.Errorf("%d packets, want %d", r.Packets, c.packets)
			}
		})
	}
}

// TestSectionOfAnotherVersion is left out, as is what belongs to it.
func TestSectionOfAnotherVersion(t *testing.T) {
	n := sampleNg(t, binary.LittleEndian)
	at := len(n.b)
	n.header().iface(6).trace(t, sampleTrace)
	n.b[at+12] = 9
	n.b = append(n.b, sampleNg(t, binary.BigEndian).b...)
	r, err := Check(bytes.NewReader(n.b), Options{})
	if err != nil || r.Packets != 16 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestTimes checks the resolutions of time that pcapng has.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		resolution byte
		ticks      uint64
		want       time.Duration
	}{
		{0, 7, 7 * time.Second},
		{3, 7, 7 * time.Millisecond},
		{6, 1_500_000, 1500 * time.Millisecond},
		{9, 1_500_000_001, 1500*time.Millisecond + 1},
		{19, 15_000_000_000_000_000_000, 1500 * time.Millisecond},
		{0x80 | 10, 1536, 1500 * time.Millisecond},
		{0x80 | 63, 3 << 62, 1500 * time.Millisecond},
		{0, math.MaxUint64, math.MaxInt64},
	} {
		ticks, bad := resolution(c.resolution)
		i := ngInterface{resolution: ticks}
		if got := i.time(c.ticks); bad || got != c.want {
			t.Errorf("resolution %#x: %d ticks are %v, want %v", c.resolution, c.ticks, got, c.want)
		}
	}
	i := ngInterface{resolution: 1, offset: 5}
	if got := i.time(2); got != 7*time.Second {
		t.Errorf("with an offset: %v", got)
	}
	if i.offset = math.MinInt64; i.time(2) != math.MaxInt64 {
		t.Errorf("with an absurd offset: %v", i.time(2))
	}
}

// TestDrops checks that a capture that says it has missed packets is not taken
// for complete.
func TestDrops(t *testing.T) {
	le := binary.LittleEndian
	n := sampleNg(t, le)
	body := append(make([]byte, 12), 5, 0, 8, 0)
	n.block(blockStatistics, append(le.AppendUint64(body, 3), 0, 0, 0, 0)...)
	n.block(blockStatistics, append(le.AppendUint64(body, 4), 0, 0, 0, 0)...) // a total, not 4 more
	r, err := Check(bytes.NewReader(n.b), Options{})
	if err != nil || len(r.Unknown) == 0 || r.Unknown[0].N != 4 {
		t.Errorf("%v, %+v", err, r.Unknown)
	}
}

// repeated is an endless file: a head, and then a part again and again.
type repeated struct {
	head, part []byte
	at         int
	left       int64
}

// Read implements io.Reader.
func (r *repeated) Read(b []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	if len(r.head) > 0 {
		n := copy(b, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n := 0
	for n < len(b) && r.left > 0 {
		k := copy(b[n:], r.part[r.at:])
		r.at = (r.at + k) % len(r.part)
		r.left -= int64(k)
		n += k
	}
	return n, nil
}

// heapOf returns how much live memory f leaves while what it returns is in use.
func heapOf(f func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestLongFiles reads much more than may be kept of it.
func TestLongFiles(t *testing.T) {
	size := int64(20 << 20)
	if testing.Short() {
		size = 6 << 20
	}
	le := binary.LittleEndian
	start := (&ngFrom{AppendByteOrder: le}).header().iface(6).b
	option := append(make([]byte, 8), 2, 0, 0, 128)
	for name, part := range map[string][]byte{
		"unknown blocks":         (&ngFrom{AppendByteOrder: le}).block(77, make([]byte, 1<<16)...).b,
		"interfaces in sections": append(bytes.Clone(start), (&ngFrom{AppendByteOrder: le}).block(blockInterface, append(option, make([]byte, 1<<15)...)...).b...),
		"packets":                (&ngFrom{AppendByteOrder: le}).trace(t, sampleTrace).b,
		"long packets":           (&ngFrom{AppendByteOrder: le}).packet(0, make([]byte, 1<<20), 1<<20).b,
	} {
		t.Run(name, func(t *testing.T) {
			var c *Checker
			used := heapOf(func() any {
				in, err := openFrames(&repeated{head: start, part: part, left: size})
				if err != nil {
					t.Fatal(err)
				}
				c = New(Options{})
				if err := c.readAll(in); err != nil {
					t.Fatal(err)
				}
				return []any{c, in}
			})
			if used > 4<<20 {
				t.Errorf("%d octets are in use", used)
			}
		})
	}
}

// TestBlockOfFourGigabytes announces what the file does not have.
func TestBlockOfFourGigabytes(t *testing.T) {
	n := sampleNg(t, binary.LittleEndian)
	n.b = n.AppendUint32(n.AppendUint32(n.b, blockPacket), 0xfffffffc)
	n.b = append(n.b, make([]byte, 12)...)
	n.b = n.AppendUint32(n.AppendUint32(n.b, 0xffffff00), 0xffffff00)
	r, err := Check(bytes.NewReader(n.b), Options{})
	if err != nil || r.Packets != 8 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestManyConnections checks that connections make room for others, in number
// and in memory.
func TestManyConnections(t *testing.T) {
	for _, opt := range []Options{{MaxConnections: 100}, {MaxMemory: 1 << 20}} {
		c := New(opt)
		for i := range 1000 {
			trace := fmt.Sprintf("%d > S 0 mss 1000 port %d\n %d > . 1+1000 port %d ack 1\n %d > . 9001+1000 port %d ack 1", i, i+1, i, i+1, i, i+1)
			for _, p := range parseTrace(t, trace) {
				c.IP(p.at, p.data, len(p.data))
			}
			if len(c.conns) > max(100, opt.MaxMemory/1000) || c.memory > c.opt.MaxMemory+1<<16 {
				t.Fatalf("%+v: %d connections, %d octets", opt, len(c.conns), c.memory)
			}
		}
		if r := c.Report(); r.Connections != 1000 || r.Broken(Hard) > 0 {
			t.Errorf("%+v: %d connections, %v", opt, r.Connections, r.Findings)
		}
		if c.memory != 0 || len(c.conns) != 0 || c.oldest != nil || c.newest != nil {
			t.Errorf("%+v: left over: %d octets, %d connections", opt, c.memory, len(c.conns))
		}
	}
}

// TestSnapped judges headers when data was not captured.
func TestSnapped(t *testing.T) {
	r := judge(t, Options{Wire: true}, handshake+"0.03 > P. 1+500 ack 1 cut 480\n 0.04 < . 1 ack 501\n 0.05 > P. 501+500 ack 1 cut 480\n 0.06 < . 1 ack 1001 reserved\n 0.07 > . 1001 ack 1 cut 10")
	wantFound(t, r, "reserved@7")
	if len(r.Unknown) != 1 || r.Unknown[0].N != 2 || !strings.Contains(r.Unknown[0].What, "not captured whole") {
		t.Errorf("unknown: %+v", r.Unknown)
	}
	if len(r.Skipped) != 1 || r.Skipped[0].What != skipSnapped {
		t.Errorf("not judged: %+v", r.Skipped)
	}
}

// TestOneDirection judges what one end sends when the other was not captured.
func TestOneDirection(t *testing.T) {
	r := judge(t, Options{}, `
		0.00 > S  0 win 65535 mss 1000 sackok ws 2 ts 100:0
		0.02 > .  1 ack 1 win 16383 ts 101:200
		0.03 > .  1+1000 ack 1 ts 102:200
		0.06 > .  1001+1000 ack 3001 ts 103:230
		0.09 > .  2001+1000 ack 9001 ts 104:260 sack 12001:13001
		0.3  > .  2001+1000 ack 9001 ts 105:260 fill x
		0.4  > F. 3001 ack 9001 ts 105:260`)
	wantFound(t, r, "same-bytes@6")
	if r.Gaps != 1 || len(r.Unknown) == 0 {
		t.Errorf("%+v", r)
	}
}

// FuzzCheck feeds files to the reader and the rules: they never panic, and what
// a report says adds up.
func FuzzCheck(f *testing.F) {
	f.Add(sampleNg(f, binary.LittleEndian).b)
	f.Add(sampleNg(f, binary.BigEndian).b)
	f.Add(classicFile(f, binary.LittleEndian, magicNano, 0, sampleTrace))
	f.Add(classicFile(f, binary.BigEndian, magicModified, 8, sampleTrace))
	f.Add((&ngFrom{AppendByteOrder: binary.LittleEndian}).header().iface(9).block(blockSimple, 20, 0, 0, 0, 0x45, 0).b)
	for _, r := range hardCases {
		for _, c := range r.cases {
			f.Add(classicFile(f, binary.LittleEndian, magicMicro, 0, c.trace))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := Check(bytes.NewReader(file), Options{NearAll: len(file)%2 == 0, Complete: len(file)%3 == 0, Wire: true, MaxConnections: 4, MaxMemory: 1 << 16})
		if r == nil {
			if err == nil {
				t.Fatal("neither a report nor an error")
			}
			return
		}
		skipped := int64(0)
		for _, s := range r.Skipped {
			skipped += s.N
		}
		if r.Segments+skipped != r.Packets || r.Duration < 0 {
			t.Errorf("%d segments and %d skipped of %d packets in %v", r.Segments, skipped, r.Packets, r.Duration)
		}
		if err := r.Text(io.Discard, TextOptions{Rules: true}); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPackets feeds packets to the rules as they would come from a link: each is
// a length and that many octets.
func FuzzPackets(f *testing.F) {
	for _, r := range hardCases {
		for _, c := range r.cases {
			var b []byte
			for _, p := range parseTrace(f, c.trace) {
				b = append(b, byte(len(p.data)))
				b = append(b, p.data[:min(len(p.data), 255)]...)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ladder := NewLadder(io.Discard, nil)
		c := New(Options{NearAll: true, Complete: true, MaxConnections: 3, Observe: ladder.Draw})
		at := time.Duration(0)
		for len(b) > 1 {
			n := min(int(b[0]), len(b)-1)
			c.IP(at, b[1:1+n], n+int(b[0])%3)
			b = b[1+n:]
			at += time.Duration(n) * 13 * time.Millisecond
		}
		if r := c.Report(); r.Broken(Hard)+r.Broken(Soft) < int64(len(r.Findings)) {
			t.Errorf("%d findings", len(r.Findings))
		}
	})
}
