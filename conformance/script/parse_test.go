package script

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parseEvent parses a script of one event.
func parseEvent(t *testing.T, src string) *Event {
	t.Helper()
	s, err := Parse("t.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Events) != 1 {
		t.Fatalf("%s: %d events, want 1", src, len(s.Events))
	}
	return s.Events[0]
}

func TestParseWhole(t *testing.T) {
	const src = `// SPDX-License-Identifier: Apache-2.0

// Test that a server answers.
// It has two lines.
//@ title: a server answers
//@ section: RFC 9293   3.10.7.2
//@ req: MUST-13, SHLD-2
//@ req: MAY-1
//@ profile: linux
//@ expect: gvisor=fail it sends 964 octets
//@ ip: 6
//@ option: syncookies=on
--tolerance_usecs=10000
--define=CC="reno"
--local_ip=fd00::1   /* the address */

` + "`sysctl -q net.ipv4.tcp_ecn=0`" + `

    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
// It listens on any port.
   +0 bind(3, ..., ...) = 0
   +0 setsockopt(3, SOL_TCP, TCP_CONGESTION, CC, 4) = 0 // by name

   +0 < S 0:0(0) win 1000 <mss 1000>
 +0.2 > S. 0:0(0) ack 1 <...>
` + "`restore`\n"
	s, err := Parse("whole.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, column int) Position { return Position{"whole.pkt", line, column} }
	want := &Script{
		Name:        "whole.pkt",
		Source:      src,
		Description: "Test that a server answers.\nIt has two lines.",
		Tags: Tags{
			Title:         "a server answers",
			Section:       "RFC 9293 3.10.7.2",
			Requirements:  []string{"MUST-13", "SHLD-2", "MAY-1"},
			Profile:       ProfileLinux,
			Expectations:  []Expectation{{at(10, 1), "gvisor", ExpectFail, "it sends 964 octets"}},
			IP:            IPv6,
			TargetOptions: []Setting{{at(12, 1), "syncookies", "on"}},
		},
		Options: []Setting{
			{at(13, 1), "tolerance_usecs", "10000"},
			{at(14, 1), "define", `CC="reno"`},
			{at(15, 1), "local_ip", "fd00::1"},
		},
		Init: []*Command{{at(17, 1), "sysctl -q net.ipv4.tcp_ecn=0"}},
		Events: []*Event{
			{Pos: at(19, 5), Time: Time{Kind: Absolute},
				Action: &Syscall{
					Pos: at(19, 7), Name: "socket",
					Args:   []Expr{&Ellipsis{at(19, 14)}, &Name{at(19, 19), "SOCK_STREAM"}, &Name{at(19, 32), "IPPROTO_TCP"}},
					Result: &Int{Pos: at(19, 47), Value: 3},
				},
				Source: "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3"},
			{Pos: at(21, 4),
				Action: &Syscall{
					Pos: at(21, 7), Name: "bind",
					Args:   []Expr{&Int{Pos: at(21, 12), Value: 3}, &Ellipsis{at(21, 15)}, &Ellipsis{at(21, 20)}},
					Result: &Int{Pos: at(21, 27)},
				},
				Comment: "It listens on any port.",
				Source:  "+0 bind(3, ..., ...) = 0"},
			{Pos: at(22, 4),
				Action: &Syscall{
					Pos: at(22, 7), Name: "setsockopt",
					Args: []Expr{
						&Int{Pos: at(22, 18), Value: 3}, &Name{at(22, 21), "SOL_TCP"},
						&Name{at(22, 30), "TCP_CONGESTION"}, &Str{Pos: at(22, 46), Value: "reno"},
						&Int{Pos: at(22, 50), Value: 4},
					},
					Result: &Int{Pos: at(22, 55)},
				},
				Comment: "by name",
				Source:  "+0 setsockopt(3, SOL_TCP, TCP_CONGESTION, CC, 4) = 0"},
			{Pos: at(24, 4),
				Action: &Packet{
					Pos: at(24, 7), Dir: Inbound,
					TCP: &TCP{Flags: SYN, Win: Some(uint16(1000)), Options: []TCPOption{{Kind: KindMSS, MSS: 1000}}},
				},
				Source: "+0 < S 0:0(0) win 1000 <mss 1000>"},
			{Pos: at(25, 2), Time: Time{At: 200 * time.Millisecond},
				Action: &Packet{
					Pos: at(25, 7), Dir: Outbound,
					TCP: &TCP{Flags: SYN | ACK, Ack: Some(uint32(1)), AnyOptions: true},
				},
				Source: "+0.2 > S. 0:0(0) ack 1 <...>"},
		},
		Cleanup: []*Command{{at(26, 1), "restore"}},
	}
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(IP{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, ok := s.Option("tolerance_usecs"); v != "10000" || !ok {
		t.Errorf("Option = %q, %t", v, ok)
	}
	if e, ok := s.Tags.Expectation("linux"); e.Verdict != ExpectPass || ok {
		t.Errorf("Expectation(linux) = %v, %t", e, ok)
	}
}

func TestParseTime(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		src  string
		want Time
	}{
		{"+.1 > . 1:1(0)", Time{Relative, 100 * ms, 0}},
		{"+0 > . 1:1(0)", Time{Relative, 0, 0}},
		{"+ 1 > . 1:1(0)", Time{Relative, 1000 * ms, 0}},
		{"0.25 > . 1:1(0)", Time{Absolute, 250 * ms, 0}},
		{"* > . 1:1(0)", Time{AnyTime, 0, 0}},
		{"+.1~+.2 > . 1:1(0)", Time{RelativeRange, 100 * ms, 200 * ms}},
		{"1~1.5 > . 1:1(0)", Time{AbsoluteRange, 1000 * ms, 1500 * ms}},
		{"+0...0.2 read(3, ..., 1) = 1", Time{RelativeSpan, 0, 200 * ms}},
		{"+0 ... .2 read(3, ..., 1) = 1", Time{RelativeSpan, 0, 200 * ms}},
		{"0.1...0.2 read(3, ..., 1) = 1", Time{AbsoluteSpan, 100 * ms, 200 * ms}},
		{"+0...1.5 > none", Time{RelativeSpan, 0, 1500 * ms}},
		{"+0.000000001 close(3) = 0", Time{Relative, 1, 0}},
	} {
		if got := parseEvent(t, tc.src).Time; got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.src, got, tc.want)
		}
	}
}

func TestParseTags(t *testing.T) {
	for _, tc := range []struct{ tag, want string }{
		{"//@ req MUST-13", "a tag is a name, a colon and a value"},
		{"//@ req:", "a tag is a name, a colon and a value"},
		{"//@ req: 13", `"13" is not the ID`},
		{"//@ req: MUST-1,MUST-1", "MUST-1 is given twice"},
		{"//@ title: a\n//@ title: b", `"title" is given twice`},
		{"//@ profile: bsd", "the profile is rfc or linux"},
		{"//@ ip: 5", "the version of IP is 4, 6 or both"},
		{"//@ expect: gvisor=broken x", "the verdict is pass, fail or unsupported"},
		{"//@ expect: gvisor=fail", "needs a reason"},
		{"//@ expect: =fail x", "an expectation is target=verdict"},
		{"//@ expect: a=pass\n//@ expect: a=fail x", "the expectation of a is given twice"},
		{"//@ option: syncookies", "an option for the target is name=value"},
		{"//@ requires: MUST-1", `the tag "requires" is not known`},
	} {
		_, err := Parse("t.pkt", []byte(tc.tag+"\n0 close(3) = 0\n"))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want %q", tc.tag, err, tc.want)
		}
	}
}

// TestParseErrors shows where an error is and what it says. The mark ^ in a
// script is where the error must be; it is not part of the script.
func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"^", "the script has no events"},
		{"// only a comment\n^", "the script has no events"},
		{"^/* open", "the comment has no */"},
		{"+0 ^`open", "the command has no ` to end it"},
		{"+0 ^%{ assert 1 == 1", "the %{ block has no }%"},
		{"+0 write(3, ^\"open", `the string has no " to end it`},
		{"+0 write(3, ^\"\\q\", 1) = 1", "an escape that is not known"},
		{"+0 write(3, ^\"\\\r\", 1) = 1", `not known: "\\\r"`},
		{"+0 ^\x01", "is not part of the language"},
		{"--define=^\n0 close(3) = 0", "an equals sign but no value"},
		{"0 close(3) = 0\n^--mss=3", "options stand at the top"},
		{"0 close(3) = 0\n`a`\n^+0 close(4) = 0", "events cannot follow the final command"},
		{"^close(3) = 0", "expected a time"},
		{"^-1 close(3) = 0", "is negative"},
		{"^0.0000000001 close(3) = 0", "finer than a nanosecond"},
		{"^1000000001 close(3) = 0", "longer than 1000000000 seconds"},
		{"^99999999999999999999 close(3) = 0", "longer than 1000000000 seconds"},
		{"+0 < S 0:0(0)^! win 1", "cannot be left open"},
		{"+0 < S ^...(0) win 1", "cannot be left open"},
		{"+0 > . 1:1(0)/^tcp(1 > 2)", `expected "udp"`},
		{"+0 > . 1:1(0)/udp(^1)", "the ports of the UDP header"},
		{"^+0.2~+0.1 > . 1:1(0)", "the time ends before it begins"},
		{"+0.1~^0.2 > . 1:1(0)", `expected "+"`},
		{"^* < . 1:1(0) win 1", "the time * is for outbound packets only"},
		{"^+0~+1 close(3) = 0", "a range of time is for outbound packets only"},
		{"^+0...1 > . 1:1(0)", `for system calls and for "> none" only`},
		{"+0 ^> none", `"> none" needs a span`},
		{"+0 ^3", "expected a packet, a system call, a command"},
		{"+0 < ^", "expected the flags of a TCP segment"},
		{"+0 < ^{ . 1:1(0) win 1 }", "expected the flags of a TCP segment"},
		{"+0 > S^X 0:0(0)", `'X' is not a TCP flag`},
		{"+0 > S^S 0:0(0)", `the flag 'S' is given twice`},
		{"+0 > ^E5 0:0(0)", "a digit for the ACE field takes the place"},
		{"+0 > S ^0:1(0)", "do not agree: 0 + 0 is 0"},
		{"+0 > S ^4294967296:0(0)", "out of range"},
		{"+0 > S ^-1:0(1)", "out of range"},
		{"+0 > S 0:65536(^65536)", "out of range"},
		{"+0 > S 0 ^(0)", `expected ":"`},
		{"+0 > . 1:1(0) ack ^x", "expected the acknowledgment number"},
		{"+0 > . 1:1(0) ack 1 ^ack 1", `"ack" is given twice`},
		{"+0 > . 1:1(0) ^badsum", "for inbound segments only"},
		{"+0 > . ^edge:edge(0) ack 1", "for inbound segments only"},
		{"+0 < . ^edge+5:edge+5(1) ack 1 win 1", "do not agree: 5 + 1 is 6"},
		{"+0 < . ^edges:1(1) ack 1 win 1", "sequence numbers from the edge of the window"},
		{"+0 < . ^edge:edge+70000(70000) ack 1 win 1", "do not agree"},
		{"+0 < . 1:1(0) win 1 doff ^16", "the data offset is out of range"},
		{"+0 < ^. 1:1(0) ack 1", "an inbound segment needs a window"},
		{"+0 < . 1:1(0) win ^> 5", "the window of an inbound segment needs a value"},
		{"+0 > . 1:1(0) win >= ^<", `expected the window, found "<"`},
		{"+0 < S 0:0(0) win 1 <mss ^*>", "what an inbound segment carries cannot be left open"},
		{"+0 < S 0:0(0) win 1 <mss 1460,^...>", "what an inbound segment carries cannot be left open"},
		{"+0 > S 0:0(0) <mss 1460,...^,nop>", `expected ">" behind the TCP options, found ","`},
		{"+0 < . 1:1(0) win 1 ^<...>", "<...> is for outbound segments only"},
		{"+0 > S 0:0(0) <^foo>", "is not a TCP option"},
		{"+0 > S 0:0(0) <mss 1,^>", "is not a TCP option"},
		{"+0 > S 0:0(0) <mss ^70000>", "the maximum segment size is out of range"},
		{"+0 > S 0:0(0) <FO ^abc>", "octets in hexadecimal"},
		{"+0 > S 0:0(0) <raw ^0x123>", "expected the octets of an option"},
		{"+0 > S 0:0(0) <raw ^12>", "expected the octets of an option"},
		{"+0 > S 0:0(0) ^<sack 1:2 1:2 1:2 1:2 1:2>", "the TCP options take 42 octets"},
		{"+0 < P. 1:3(2) win 1 ^\"abc\"", "the payload has 3 octets, but the sequence numbers say 2"},
		{"+0 < [^foo] S 0:0(0) win 1", "the IP header has no part"},
		{"+0 < [^ect01] S 0:0(0) win 1", "[ect01] is for outbound packets only"},
		{"+0 < [ect0, ^tos 1] S 0:0(0) win 1", "given twice, or together with its opposite"},
		{"+0 < [ttl 1, ^ttl 1] S 0:0(0) win 1", "given twice"},
		{"+0 < [dst ^1.2.3] S 0:0(0) win 1", "expected an IP address"},
		{"+0 < [ttl ^256] S 0:0(0) win 1", "the time to live is out of range"},
		{"+0 < ^gre S 0:0(0) win 1", "no colon to end it"},
		{"+0 < icmp ^foo", "is not a type of ICMP message"},
		{"+0 < icmp unreachable ^foo", "has no code"},
		{"+0 < icmp ^type_256", "is not a type of ICMP message"},
		{"+0 > { . 1:1(0) ack 1 } or ^foo", `expected "{"`},
		{"+0 close ^= 0", `expected "("`},
		{"+0 close(3 ^", `expected ")" behind the arguments`},
		{"+0 close(3) ^0", `expected "="`},
		{"+0 close(3) = ^+", "expected a value"},
		{"+0 close()^) = 0", `expected "="`},
		{"+0 close(3) = -1 EBADF ^(open", "the note has no )"},
		{"+0 close(^99999999999999999999) = 0", "does not fit into 64 bits"},
		{"+0 close({^a(1, 2)=3}) = 0", "a field of a structure"},
	} {
		src := strings.Replace(tc.src, "^", "", 1)
		s, err := Parse("t.pkt", []byte(src))
		var fault *Error
		if !errors.As(err, &fault) {
			t.Errorf("%q: got %v, %v, want the error %q", src, s, err, tc.want)
			continue
		}
		if !strings.Contains(fault.Msg, tc.want) {
			t.Errorf("%q: error is %q, want %q", src, fault.Msg, tc.want)
		}
		if strings.Contains(fault.Error(), "\n") {
			t.Errorf("%q: error has several lines: %q", src, fault.Error())
		}
		before := src[:strings.Index(tc.src, "^")]
		line := 1 + strings.Count(before, "\n")
		column := len(before) - strings.LastIndex(before, "\n")
		if got := fault.Pos; got.Line != line || got.Column != column {
			t.Errorf("%q: error %q at %d:%d, want %d:%d", src, fault.Msg, got.Line, got.Column, line, column)
		}
	}
}

// TestParseBounds gives the parser more than it is willing to take.
func TestParseBounds(t *testing.T) {
	for name, src := range map[string]string{
		"size":     strings.Repeat(" ", maxSource+1),
		"lists":    "0 f(" + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + ") = 0",
		"structs":  "0 f(" + strings.Repeat("{", 1000) + ") = 0",
		"calls":    "0 f(" + strings.Repeat("g(", 1000) + ") = 0",
		"or":       "0 f(" + strings.Repeat("1|", 1000) + "1) = 0",
		"all open": strings.Repeat("0 f([{a=", 1000),
	} {
		if _, err := Parse("t.pkt", []byte(src)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, code := range map[string]string{
		"parentheses": strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
		"signs":       strings.Repeat("-", 1000) + "1",
		"not":         strings.Repeat("not ", 1000) + "1",
		"chain":       strings.Repeat("1+", maxCode) + "1",
	} {
		e := parseEvent(t, "0 %{ assert "+code+" }%")
		if e.Action.Unsupported() == "" {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestDefines(t *testing.T) {
	const src = "--define=WIN=77\n0 > S. 0:0(0) ack 1 win WIN <mss MSS,FO COOKIE>\n+0 `x`\n+0 < icmp unreachable CODE\n"
	s, err := ParseWith("t.pkt", []byte(src), map[string]string{"MSS": "1000", "COOKIE": "0a0b", "WIN": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Events[0].Action.String(), "> S. 0:0(0) ack 1 win 77 <mss 1000,FO 0a0b>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := s.Events[2].Action.Unsupported(), "the symbol CODE has no value"; !strings.HasPrefix(got, want) {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	if got, want := s.Events[2].Action.String(), "< icmp unreachable CODE"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
