package script

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzParse feeds the parser anything. It must not panic; an error must say
// where it is, within the input, in one line; what parses must print as
// something that parses as the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"// text\n//@ req: MUST-1\n--a=1\n`x`\n0 socket(..., SOCK_STREAM, 0) = 3\n`y`\n",
		"+0 < [ect0, ttl 1] S 0:0(0) win 1 <mss 1000,sackOK,TS val 1 ecr 2,wscale 7,FO 0a,raw 0x01>\n",
		"+.1~+.2 > S. 0:0(0) ack 1 <...>\n* > { . 1:1(0) ack 1 } or none\n+0...1 > none\n",
		"+0 < icmp unreachable frag_needed mtu 100 [1:1(0)]\n+0 < udp 1 > 2 (5)\n",
		"+0...0.2 poll([{fd=4, events=POLLIN|POLLOUT}], 1, 0x10) = -1 EAGAIN (no)\n",
		"+0 recvmsg(3, {msg_name(...)=..., msg_iov(1)=[{...,1}], msg_flags=0}, 0) = 1\n",
		"+0 %{ assert 1 <= tcpi_rtt < 5 and not x in (1, 2), 'm' % x; y += -1 // 2 }%\n",
		"+0 < gre: . 1:1(0) win 1\n+0 < encap psp spi 1 . 1:1(0) win 1\n0 f({(label 1)}) = 0\n",
		"+0 > . 1:1(0) ack 1 win >= 9 <mss *,TS val * ecr 1,sack *,...>\n+0 > . 1:1(0) win != 1\n",
		"#ifdef A\n0 f() = 0\n#else\n+0 > R. 0:0(0)! ack 1/udp(1 > 2)\n#endif\n0 > S. ...(0)\n",
		"+0 < P. edge-1:edge+2(3) ack 1 win 1\n",
		"+0 < P. 1:4(3) ack 1 win 1 doff 5 badsum \"a\\x00b\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse("fuzz", src)
		if err != nil {
			checkError(t, err, src)
			return
		}
		for _, e := range s.Events {
			if c, ok := e.Action.(*Code); ok && c.Reason == "" {
				_, err := c.Eval(testEnv, map[string]int64{})
				if err != nil && !strings.Contains(err.Error(), "fuzz:") {
					t.Errorf("error without a position: %v", err)
				}
			}
		}
		if !bytes.Contains(src, []byte("--define")) {
			roundTrip(t, s)
		}
	})
}

// checkError fails the test unless the error lies within the source.
func checkError(t *testing.T, err error, src []byte) {
	t.Helper()
	var fault *Error
	if !errors.As(err, &fault) {
		t.Fatalf("the error is a %T", err)
	}
	lines := bytes.Split(src, []byte("\n"))
	if p := fault.Pos; p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1 {
		t.Errorf("%v: no such place", err)
	}
	if strings.ContainsAny(fault.Msg, "\n\r") || fault.Msg == "" {
		t.Errorf("the message is not one line: %q", fault.Msg)
	}
}

// FuzzOptions decodes any octets as TCP options: none may be lost, and what
// is printed must parse.
func FuzzOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 0xb4, 1, 1, 4, 2, 0, 0})
	f.Add([]byte{172, 8, 0, 0, 1, 0, 0, 2, 174, 5, 0, 0, 3, 34, 2, 254, 4, 0xf9, 0x89})
	f.Fuzz(func(t *testing.T, wire []byte) {
		options := DecodeOptions(wire)
		if got := EncodeOptions(options); !bytes.Equal(got, wire) {
			t.Fatalf("% x: encodes to % x", wire, got)
		}
		if len(wire) == 0 || len(wire) > maxOptions {
			return
		}
		s, err := Parse("fuzz", []byte("0 > . 1:1(0) "+OptionsString(options)))
		if err != nil {
			t.Fatal(err)
		}
		if got := EncodeOptions(s.Events[0].Action.(*Packet).TCP.Options); !bytes.Equal(got, wire) {
			t.Fatalf("% x: %s parses as % x", wire, OptionsString(options), got)
		}
	})
}
