package oracle

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
)

// The ends of the connection of a hand-made trace. The numbers of one wrap
// around after a few segments.
var (
	endA = netip.MustParseAddrPort("192.0.2.1:40000")
	endB = netip.MustParseAddrPort("198.51.100.2:80")
)

const (
	isnA = 0xffffff00
	isnB = 5_000_000
)

// handmade is one packet of a trace.
type handmade struct {
	at   time.Duration
	data []byte
	cut  int // octets that were not captured
}

// parseTrace reads a trace in a notation for tests, a packet a line:
//
//	TIME > FLAGS SEQ[+LENGTH] [WORD VALUE]...
//
// with > from A to B and < back, FLAGS as tcpdump has them, and numbers that
// count from the initial sequence number. Words are ack, win, mss, ws, sack (as
// 5:9,11:12), ts (as VALUE:ECHO), and the flags sackok, badsum, nosum, badip,
// and reserved. "fill X" fills the data with X instead of what stands at that
// place of the stream, "id" sets IPv4's identification, "opt" gives options in
// hexadecimal, "port" A's port, "raw" adds to the numbers of the sender, and
// "cut" leaves octets at the end uncaptured.
func parseTrace(t testing.TB, text string) []handmade {
	t.Helper()
	var out []handmade
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		p, err := parsePacket(strings.Fields(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, p)
	}
	return out
}

// parsePacket reads one line.
func parsePacket(w []string) (h handmade, err error) {
	if len(w) < 4 {
		return h, fmt.Errorf("%d words", len(w))
	}
	number := func(s string) int64 {
		n, e := strconv.ParseInt(s, 0, 64)
		if e != nil {
			err = e
		}
		return n
	}
	sec, err := strconv.ParseFloat(w[0], 64)
	h.at = time.Duration(sec*1e6+0.5) * time.Microsecond
	tcp := &wire.TCP{SrcPort: endA.Port(), DstPort: endB.Port(), Window: 0xffff}
	p := wire.Packet{IP: wire.IP{Src: endA.Addr(), Dst: endB.Addr(), DontFragment: true}, TCP: tcp}
	own, other := uint32(isnA), uint32(isnB)
	reverse := w[1] == "<"
	if reverse {
		own, other = other, own
	}
	for _, f := range w[2] {
		i := strings.IndexRune("FSRP.UEW", f)
		if i < 0 {
			if f != '-' {
				return h, fmt.Errorf("flag %c", f)
			}
			continue
		}
		tcp.Flags |= 1 << i
	}
	seq, length, _ := strings.Cut(w[3], "+")
	off := number(seq)
	fill := byte(0)
	n := int64(0)
	if length != "" {
		n = number(length)
	}
	var spoil wire.Spoil
	badIP, noSum := false, false
	for i := 4; i < len(w) && err == nil; i++ {
		switch w[i] {
		case "sackok":
			tcp.Options = append(tcp.Options, 1, 1, 4, 2)
			continue
		case "badsum":
			spoil.Checksum = true
			continue
		case "nosum":
			noSum = true
			continue
		case "badip":
			badIP = true
			continue
		case "reserved":
			tcp.Reserved = 5
			continue
		}
		if i+1 == len(w) {
			return h, fmt.Errorf("%s needs a value", w[i])
		}
		value := w[i+1]
		switch w[i] {
		case "ack":
			tcp.Ack = other + uint32(number(value))
		case "win":
			tcp.Window = uint16(number(value))
		case "mss":
			tcp.Options = binary.BigEndian.AppendUint16(append(tcp.Options, 2, 4), uint16(number(value)))
		case "ws":
			tcp.Options = append(tcp.Options, 1, 3, 3, byte(number(value)))
		case "ts":
			a, b, _ := strings.Cut(value, ":")
			tcp.Options = binary.BigEndian.AppendUint32(append(tcp.Options, 1, 1, 8, 10), uint32(number(a)))
			tcp.Options = binary.BigEndian.AppendUint32(tcp.Options, uint32(number(b)))
		case "sack":
			blocks := strings.Split(value, ",")
			tcp.Options = append(tcp.Options, 1, 1, 5, byte(2+8*len(blocks)))
			for _, b := range blocks {
				lo, hi, _ := strings.Cut(b, ":")
				tcp.Options = binary.BigEndian.AppendUint32(tcp.Options, other+uint32(number(lo)))
				tcp.Options = binary.BigEndian.AppendUint32(tcp.Options, other+uint32(number(hi)))
			}
		case "opt":
			raw, e := hex.DecodeString(value)
			err = e
			tcp.Options = append(tcp.Options, raw...)
		case "fill":
			fill = value[0]
		case "id":
			p.IP.ID = uint16(number(value))
		case "port":
			tcp.SrcPort = uint16(number(value))
		case "raw":
			own += uint32(number(value))
		case "rawack":
			tcp.Ack += uint32(number(value))
		case "cut":
			h.cut = int(number(value))
		default:
			return h, fmt.Errorf("word %q", w[i])
		}
		i++
	}
	if err != nil {
		return h, err
	}
	tcp.Seq = own + uint32(off)
	if reverse {
		p.IP.Src, p.IP.Dst = p.IP.Dst, p.IP.Src
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	for i := range n {
		b := fill
		if fill == 0 {
			b = byte((off + i) * 31 >> 3)
		}
		tcp.Payload = append(tcp.Payload, b)
	}
	h.data = p.Encode(spoil)
	if badIP {
		h.data[10] ^= 0x55
	}
	if noSum {
		copy(h.data[36:], pseudoSum(h.data))
	}
	return h, nil
}

// pseudoSum is what a host leaves in the checksum for its device.
func pseudoSum(b []byte) []byte {
	var v [2]byte
	binary.BigEndian.PutUint16(v[:], fold(sum(b[12:20], 0)+6+uint64(len(b)-20)))
	return v[:]
}

// onPath are the options of a capture that is known to be everything.
var onPath = Options{NearAll: true, Complete: true, Wire: true}

// judge judges a trace.
func judge(t testing.TB, opt Options, text string) *Report {
	t.Helper()
	c := New(opt)
	for _, p := range parseTrace(t, text) {
		c.IP(p.at, p.data[:len(p.data)-p.cut], len(p.data))
	}
	return c.Report()
}

// want is a finding that a test expects, as "rule@packet".
func found(r *Report) []string {
	out := []string{}
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s@%d", f.Rule, f.Packet))
	}
	slices.Sort(out)
	return out
}

// wantFound checks that a report has these findings and no others.
func wantFound(t testing.TB, r *Report, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := found(r); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
		for i := range r.Findings {
			t.Log(&r.Findings[i])
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if j := slices.IndexFunc(rules[:], func(r Rule) bool { return r.ID == f.Rule }); rules[j].Section != f.Section || rules[j].Tier != f.Tier {
			t.Errorf("%v: the rule is of %s, tier %s", f, rules[j].Section, rules[j].Tier)
		}
		if f.Confidence <= 0 || f.Confidence > 1 || (f.Confidence == 1) != (f.Tier == Hard) {
			t.Errorf("%v has confidence %v", f, f.Confidence)
		}
	}
}

// handshake is how most traces begin: three packets, no options but MSS.
const handshake = `
	0.00 > S  0 win 65535 mss 1000
	0.01 < S. 0 ack 1 win 65535 mss 1000
	0.02 > .  1 ack 1
`

// modern is a handshake with all options: window scale 2 on both sides, SACK,
// timestamps.
const modern = `
	0.00 > S  0 win 65535 mss 1000 sackok ws 2 ts 100:0
	0.01 < S. 0 ack 1 win 65535 mss 1000 sackok ws 2 ts 200:100
	0.02 > .  1 ack 1 win 16383 ts 101:200
`
