package script

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ignoreLayout leaves out of a comparison what String does not keep.
var ignoreLayout = cmp.Options{
	cmpopts.IgnoreTypes(Position{}),
	cmpopts.IgnoreFields(Script{}, "Name", "Description", "Tags", "Source"),
	cmpopts.IgnoreFields(Event{}, "Comment", "Source"),
	cmpopts.EquateComparable(netip.Addr{}),
	cmp.Comparer(func(a, b Formula) bool { return a.String() == b.String() }),
}

// roundTrip fails the test unless printing s and parsing the text gives s.
func roundTrip(t *testing.T, s *Script) {
	t.Helper()
	text := s.String()
	again, err := Parse(s.Name, []byte(text))
	if err != nil {
		t.Fatalf("%s: what was printed does not parse: %v\n%s", s.Name, err, text)
	}
	if diff := cmp.Diff(s, again, ignoreLayout); diff != "" {
		t.Fatalf("%s: what was printed parses as something else (-first +second):\n%s\n%s", s.Name, diff, text)
	}
}

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// TestPrint checks the notation: every action is written as it is printed, or
// with the printed form behind it.
func TestPrint(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"> S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,sackOK>", ""},
		{"> - 5:5(0)", ""},
		{"> SFRPUEWA. 0:0(0)", ""},
		{"> .S  0:0(0)  ack 1", "> S. 0:0(0) ack 1"},
		{"> .5 1:1(0) ack 1", ""},
		{"> SE. 0:0(0) ack 1", ""},
		{"< 5 1:1(0) win 1", ""},
		{"> FP. 4294967295:9(10) ack 1", ""},
		{"> S 0:0(0) <...>", ""},
		{"> S 0:0(0) <mss 1460,...>", ""},
		{"> S 0:0(0) <mss *,wscale *,TS val * ecr *,sack *>", ""},
		{"> . 1:1(0) ack 1 <TS val 1 ecr *,TS val * ecr 2,...>", ""},
		{"> . 1:1(0) ack 1 win > 0 <...>", ""},
		{"> . 1:1(0) win >=1 urg 5", "> . 1:1(0) win >= 1 urg 5"},
		{"> . 1:1(0) win < 1 <nop>", ""},
		{"> . 1:1(0) win <= 1", ""},
		{"> { . 1:1(0) win != 65535 } or { R 1:1(0) }", ""},
		{"> S 0:0(0) <TS val 1 ecr 2,wscale 14,sack 1:2 3:4,eol>", ""},
		{"> S 0:0(0) <FO,FOEXP,md5>", ""},
		{"> S 0:0(0) <FO 0a0b,FOEXP 12345678,md5 000102030405060708090a0b0c0d0e0f>", ""},
		{"> S 0:0(0) <FO 3021b9d889017eeb>", ""},
		{"> S 0:0(0) <ECN e0b 1 ceb 2 e1b 3>", ""},
		{"> S 0:0(0) <ECN e1b 1 ceb 2,ECN e0b 16777215,ECN>", ""},
		{"> S 0:0(0) <mss 0x10 , nop>", "> S 0:0(0) <mss 16,nop>"},
		{"< U. 1:11(10) ack 1 win 5 urg 3", ""},
		{"< . edge:edge(0) ack 1 win 5", ""},
		{"< P. edge-50:edge+50(100) ack 1 win 5", ""},
		{"< S 0:0(0) badsum win 5 rsv 7 doff 4 <raw 0x0204>", "< S 0:0(0) win 5 doff 4 rsv 7 badsum <raw 0x0204>"},
		{`< P. 1:6(5) ack 1 win 5 <nop> "he\x00l\""`, ""},
		{`< P. 1:4(3) ack 1 win 5 "a" "\n\101"`, `< P. 1:4(3) ack 1 win 5 "a\x0aA"`},
		{"> R. 0:0(0)! ack 1", ""},
		{"> S. ...(0) ack 4", "> S. 0:0(0)! ack 4"},
		{"> R. 0:0(0)! ack 1 <nop,nop,md5 valid>/udp(9811 > 1)", ""},
		{"< (class 0x20, hlim 3) . 1:1(0) win 5", "< [tos 0x20, ttl 3] . 1:1(0) win 5"},
		{"< icmp unreachable host_prohibited [0:0(0)/udp(9812 > 1)]", ""},
		{"< icmp time_exceeded ttl_exceeded_in_transit [0:0(0)]", ""},
		{"< [ect0] . 1:1(0) win 5", ""},
		{"< (tos 0x10) . 1:1(0) win 5", "< [tos 0x10] . 1:1(0) win 5"},
		{"> [ect01, ttl 64, flowlabel 0x12345] . 1:1(0)", ""},
		{"< [src 10.0.0.1, dst 224.0.0.1] S 0:0(0) win 5", ""},
		{"< [dst ff02::1] S 0:0(0) win 5", ""},
		{"< [noecn] 8080 > 53 S 0:0(0) win 5", ""},
		{"> udp 53 > 8080 (100)", ""},
		{"> udp (100)", ""},
		{"< icmp unreachable frag_needed mtu 1200 [1:1001(1000)]", ""},
		{"< icmp unreachable frag_needed mtu 1200 [1:1001(1000) cut 24]", ""},
		{"< icmp unreachable frag_needed [udp (10)  cut 0]", "< icmp unreachable frag_needed [udp (10) cut 0]"},
		{"< icmp echo_request id 77", ""},
		{"< icmp type_200 code_3 [udp (8)]", ""},
		{"< icmp source_quench [raw (8)]", ""},
		{"> { . 1:1(0) ack 1 } or { R 1:1(0) } or none", ""},
		{"< gre: ipv4 1.1.1.1 > 2.2.2.2: S 0:0(0) win 5", ""},
		{"< ipv6 fe80::1 > ff02:::  S 0:0(0) win 5", ""},
		{"< [ect0] encap psp spi 7 . 1:1(0) ack 1 win 5", ""},
		{"> S 0:0(0) <mss MSS>", ""},
		{"`sysctl -q a=\"b\" // c`", ""},
		{"%{ assert x == 1, 'a;b' }%", ""},
		{"%{\n  x = 1  \n}%", "%{ x = 1 }%"},
		{"f() = 0", ""},
		{"f(-1, 0x1F, A|B|0x2, \"a\"..., [], [1, 2], {}) = ?", `f(-1, 0x1f, A|B|0x2, "a"..., [], [1, 2], {}) = ...`},
		{"f(18446744073709551615) = 0", "f(-1) = 0"},
		{"f({sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr(\"1.2.3.4\")}) = 0",
			`f({sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("1.2.3.4")}) = 0`},
		{"f({msg_name(...)=..., msg_iov(1)=[{..., 1000}], msg_flags=0}) = 0x2 (flags O_RDWR)", ""},
		{"f({htons(1)|2}) = -1 EAGAIN(Resource  unavailable)", "f({htons(1)|2}) = -1 EAGAIN (Resource unavailable)"},
		{"f({(label 16, tc 0, [S], ttl 64)}, {flags [none], sum 0}) = 0", ""},
	} {
		if tc.want == "" {
			tc.want = tc.src
		}
		e := parseEvent(t, "0 "+tc.src)
		if got := e.Action.String(); got != tc.want {
			t.Errorf("%s\nis printed as %s\nwant          %s", tc.src, got, tc.want)
		}
		roundTrip(t, &Script{Name: tc.src, Events: []*Event{e}})
	}
}

// TestPrintOptions checks the values of options that need quotes.
func TestPrintOptions(t *testing.T) {
	const src = "--a\n--b=1\n--c=\"x y\"\n--define=D=\"x y\"\n--define=E=`x y`\n--f=\"q\"\n--g=a//b\n0 close(3) = 0\n"
	s, err := Parse("t.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range s.Options {
		got = append(got, o.Name+" is "+o.Value)
	}
	want := []string{"a is ", "b is 1", "c is x y", `define is D="x y"`, "define is E=`x y`", "f is q", "g is a//b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	roundTrip(t, s)
}

// TestPrintRandomPackets prints random packets and parses what was printed.
func TestPrintRandomPackets(t *testing.T) {
	r := rand.New(rand.NewPCG(9293, 1))
	for i := range 5000 {
		p := randomPacket(r)
		src := "0 " + p.String()
		s, err := Parse("t.pkt", []byte(src))
		if err != nil {
			t.Fatalf("packet %d: %v\n%s", i, err, src)
		}
		if diff := cmp.Diff(p, s.Events[0].Action, ignoreLayout, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("packet %d: (-printed +parsed):\n%s\n%s", i, diff, src)
		}
	}
}

// randomPacket returns a packet that a script can express.
func randomPacket(r *rand.Rand) *Packet {
	p := &Packet{Dir: Direction(r.IntN(2)), IP: randomIP(r)}
	if p.Dir == Inbound && p.IP.ECN == AnyECT {
		p.IP.ECN = CE
	}
	switch r.IntN(8) {
	case 0:
		p.UDP = &UDP{Len: uint16(r.Uint32())}
	case 1:
		p.ICMP = randomICMP(r)
		return p
	default:
		p.TCP = randomTCP(r, p.Dir)
	}
	p.Ports = maybe(r, Ports{uint16(r.Uint32()), uint16(r.Uint32())})
	return p
}

func maybe[T any](r *rand.Rand, v T) Opt[T] {
	if r.IntN(3) == 0 {
		return Some(v)
	}
	return Opt[T]{}
}

func randomIP(r *rand.Rand) IP {
	ip := IP{
		TOS:       maybe(r, uint8(r.Uint32())),
		TTL:       maybe(r, uint8(r.Uint32())),
		FlowLabel: maybe(r, r.Uint32N(1<<20)),
	}
	if !ip.TOS.Set {
		ip.ECN = ECN(r.IntN(int(AnyECT) + 1))
	}
	var a [16]byte
	for i := range a {
		a[i] = byte(r.Uint32())
	}
	switch r.IntN(4) {
	case 0:
		ip.Src, ip.Dst = netip.AddrFrom4([4]byte(a[:4])), netip.AddrFrom4([4]byte(a[4:8]))
	case 1:
		ip.Dst = netip.AddrFrom16(a)
	}
	return ip
}

func randomICMP(r *rand.Rand) *ICMP {
	m := &ICMP{Type: fmt.Sprintf("type_%d", r.IntN(256)), MTU: maybe(r, r.Uint32()), ID: maybe(r, uint16(r.Uint32()))}
	if r.IntN(2) == 0 {
		m.Type, m.Code = "unreachable", "port_unreachable"
	}
	m.Quote = maybe(r, Quote{Kind: QuoteKind(r.IntN(3)), Len: uint16(r.Uint32())})
	if m.Quote.Set && m.Quote.Value.Kind == QuoteTCP {
		m.Quote.Value.Seq = r.Uint32()
	}
	return m
}

func randomTCP(r *rand.Rand, dir Direction) *TCP {
	t := &TCP{
		Flags: Flags(r.IntN(1 << 9)),
		ACE:   maybe(r, uint8(r.IntN(8))),
		Seq:   r.Uint32(),
		Len:   uint16(r.Uint32()),
		Ack:   maybe(r, r.Uint32()),
		Win:   maybe(r, uint16(r.Uint32())),
		Urg:   maybe(r, uint16(r.Uint32())),
	}
	if t.ACE.Set {
		t.Flags &^= AE | CWR | ECE
	}
	if dir == Inbound {
		t.Win = Some(uint16(r.Uint32()))
		t.DataOffset = maybe(r, uint8(r.IntN(16)))
		t.Reserved = maybe(r, uint8(r.IntN(8)))
		t.BadChecksum = r.IntN(2) == 0
	} else {
		t.AnyOptions = r.IntN(4) == 0
	}
	for !t.AnyOptions && r.IntN(4) > 0 {
		o := randomOption(r)
		if len(EncodeOptions(append(t.Options, o))) > maxOptions {
			break
		}
		t.Options = append(t.Options, o)
	}
	if r.IntN(3) == 0 {
		t.Payload = randomBytes(r, 1+r.IntN(20))
		t.Len = uint16(len(t.Payload))
	}
	return t
}

func randomOption(r *rand.Rand) TCPOption {
	switch r.IntN(12) {
	case 0:
		return TCPOption{Kind: KindEOL}
	case 1:
		return TCPOption{Kind: KindNOP}
	case 2:
		return TCPOption{Kind: KindMSS, MSS: uint16(r.Uint32())}
	case 3:
		return TCPOption{Kind: KindWScale, Shift: uint8(r.Uint32())}
	case 4:
		return TCPOption{Kind: KindSACKOK}
	case 5:
		o := TCPOption{Kind: KindSACK}
		for range 1 + r.IntN(4) {
			o.Blocks = append(o.Blocks, SACKBlock{r.Uint32(), r.Uint32()})
		}
		return o
	case 6:
		return TCPOption{Kind: KindTimestamp, TSVal: r.Uint32(), TSEcr: r.Uint32()}
	case 7:
		return TCPOption{Kind: KindMD5, Data: randomBytes(r, 16)}
	case 8:
		return TCPOption{Kind: KindFastOpen, Data: randomBytes(r, r.IntN(9))}
	case 9:
		return TCPOption{Kind: KindExperiment, Data: randomBytes(r, r.IntN(9))}
	case 10:
		return TCPOption{Kind: KindAccECN1, Counters: []uint32{r.Uint32N(1 << 24), r.Uint32N(1 << 24)}}
	}
	return TCPOption{Kind: KindRaw, Data: randomBytes(r, 1+r.IntN(9))}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestDecodeOptions decodes what EncodeOptions made, and octets that are not
// in order; none may be lost.
func TestDecodeOptions(t *testing.T) {
	for _, tc := range []struct {
		wire []byte
		want string
	}{
		{[]byte{2, 4, 5, 0xb4, 1, 1, 4, 2}, "<mss 1460,nop,nop,sackOK>"},
		{[]byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 3, 3, 7}, "<TS val 1 ecr 2,wscale 7>"},
		{[]byte{5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}, "<sack 1:2,eol,eol>"},
		{[]byte{34, 2, 34, 6, 1, 2, 3, 4, 254, 4, 0xf9, 0x89}, "<FO,FO 01020304,FOEXP>"},
		{[]byte{172, 8, 0, 0, 1, 0, 0, 2, 174, 5, 0, 0, 3}, "<ECN e0b 1 ceb 2,ECN e1b 3>"},
		{[]byte{174, 2}, "<raw 0xae02>"},
		{[]byte{2, 3, 5, 1}, "<raw 0x020305,nop>"},
		{[]byte{99, 3, 5, 1}, "<raw 0x630305,nop>"},
		{[]byte{1, 2, 0}, "<nop,raw 0x0200>"},
		{[]byte{1, 2, 9}, "<nop,raw 0x0209>"},
		{[]byte{1, 2}, "<nop,raw 0x02>"},
		{[]byte{0, 0, 7}, "<raw 0x000007>"},
		{[]byte{254, 4, 1, 2}, "<raw 0xfe040102>"},
	} {
		options := DecodeOptions(tc.wire)
		if got := OptionsString(options); got != tc.want {
			t.Errorf("% x: got %s, want %s", tc.wire, got, tc.want)
		}
		if again := EncodeOptions(options); !bytes.Equal(again, tc.wire) {
			t.Errorf("% x: encodes to % x", tc.wire, again)
		}
		e := parseEvent(t, "0 > S 0:0(0) "+tc.want)
		if again := EncodeOptions(e.Action.(*Packet).TCP.Options); !bytes.Equal(again, tc.wire) {
			t.Errorf("% x: %s encodes to % x", tc.wire, tc.want, again)
		}
	}
}

func TestICMPNumbers(t *testing.T) {
	type numbers struct{ typ, code uint8 }
	none := numbers{255, 255}
	for _, tc := range []struct {
		name   string
		v4, v6 numbers
	}{
		{"unreachable", numbers{3, 0}, numbers{1, 0}},
		{"unreachable host_unreachable", numbers{3, 1}, numbers{1, 3}},
		{"unreachable port_unreachable", numbers{3, 3}, numbers{1, 4}},
		{"unreachable protocol_unreachable", numbers{3, 2}, none},
		{"unreachable frag_needed", numbers{3, 4}, numbers{2, 0}},
		{"unreachable admin_prohibited", numbers{3, 13}, numbers{1, 1}},
		{"unreachable not_neighbour", none, numbers{1, 2}},
		{"packet_too_big", numbers{3, 4}, numbers{2, 0}},
		{"time_exceeded", numbers{11, 0}, numbers{3, 0}},
		{"time_exceeded exceeded_frag_time", numbers{11, 1}, numbers{3, 1}},
		{"parameter_problem", numbers{12, 0}, numbers{4, 0}},
		{"parameter_problem unknown_option", none, numbers{4, 2}},
		{"source_quench", numbers{4, 0}, none},
		{"echo_request", numbers{8, 0}, numbers{128, 0}},
		{"type_42 code_7", numbers{42, 7}, numbers{42, 7}},
		{"unreachable code_7", numbers{3, 7}, numbers{1, 7}},
	} {
		m := parseEvent(t, "0 < icmp "+tc.name).Action.(*Packet).ICMP
		for v6, want := range map[bool]numbers{false: tc.v4, true: tc.v6} {
			typ, code, err := m.Numbers(v6)
			got := numbers{typ, code}
			if err != nil {
				got = none
			}
			if got != want {
				t.Errorf("%s, IPv6 %t: got %v (%v), want %v", tc.name, v6, got, err, want)
			}
		}
	}
}
