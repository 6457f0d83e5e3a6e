package runner_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

const (
	rfc    = runner.RFC
	strict = runner.Strict
)

// at moves what is sent to another time.
func at(d time.Duration, s sending) sending { s.at = d; return s }

// change changes what is sent.
func change(s sending, f func(*wire.TCP)) sending { f(&s.seg); return s }

// TestComparison has one row for each rule of comparison: what the application
// writes and the script expects behind the handshake, what is sent, and what is
// wrong with it at either level ("" if nothing).
func TestComparison(t *testing.T) {
	const ms = time.Millisecond
	write := func(rest string) string { return "+0 write(4, ..., 3000) = 3000\n" + rest }
	tests := []struct {
		name        string
		events      string
		sends       []sending
		rfc, strict string
	}{
		{
			"as expected",
			write("+0 > P. 1:1001(1000) ack 1"), []sending{data(0, 1000, wire.PSH)}, "", "",
		},
		{
			"PSH",
			write("+0 > . 1:1001(1000) ack 1"), []sending{data(0, 1000, wire.PSH)}, "", "flags is P., expected .",
		},
		{
			"segments joined",
			write("+0 > P. 1:2001(2000) ack 1"), []sending{data(0, 1000, 0), data(1000, 1000, wire.PSH)}, "", "",
		},
		{
			"segments cut elsewhere",
			write("+0 > . 1:1001(1000) ack 1\n+0 > P. 1001:2001(1000) ack 1"),
			[]sending{data(0, 600, 0), data(600, 600, 0), data(1200, 800, wire.PSH)}, "", "length is 1200, expected 1000",
		},
		{
			"FIN in a segment of its own",
			write("+0 > FP. 1:1001(1000) ack 1"),
			[]sending{data(0, 1000, wire.PSH), data(1000, 0, wire.FIN)}, "", "flags is P., expected FP.",
		},
		{
			"FIN with the data",
			write("+0 > P. 1:1001(1000) ack 1\n+0 > F. 1001:1001(0) ack 1"),
			[]sending{data(0, 1000, wire.PSH|wire.FIN)}, "", "flags is FP., expected P.",
		},
		{
			"a gap is not joined",
			write("+0 > P. 1:2001(2000) ack 1"), []sending{data(0, 1000, 0), data(1001, 1000, wire.PSH)},
			"length is 1000, expected 2000", "flags is ., expected P.",
		},
		{
			"wrong acknowledgment number",
			write("+0 > . 1:1001(1000) ack 2"), []sending{data(0, 1000, 0)},
			"acknowledgment number is 1, expected 2", "acknowledgment number is 1, expected 2",
		},
		{
			"window as given",
			write("+0 > . 1:1001(1000) ack 1 win 5000"), []sending{data(0, 1000, 0)}, "", "",
		},
		{
			"another window",
			write("+0 > . 1:1001(1000) ack 1 win 4000"), []sending{data(0, 1000, 0)},
			"window is 5000, expected 4000", "window is 5000, expected 4000",
		},
		{
			"order of options and padding",
			write("+0 > . 1:1001(1000) ack 1 <nop,nop,TS val 5 ecr 6,sack 1:2>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) {
				s.Options = []byte{5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 0, 0, 0, 0}
			})},
			"", "options are <sack 1:2,TS val 5 ecr 6,eol,eol,eol,eol>, expected <nop,nop,TS val 5 ecr 6,sack 1:2>",
		},
		{
			"wrong echo",
			write("+0 > . 1:1001(1000) ack 1 <TS val 5 ecr 7>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Options = []byte{8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 0, 0} })},
			"options are <TS val 5 ecr 6,eol,eol>, expected <TS val 5 ecr 7>",
			"options are <TS val 5 ecr 6,eol,eol>, expected <TS val 5 ecr 7>",
		},
		{
			"options left open",
			write("+0 > . 1:1001(1000) ack 1 <...>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Options = []byte{1, 1, 1, 1} })}, "", "",
		},
		{
			"a window as it should compare",
			write("+0 > . 1:1001(1000) ack 1 win > 4999\n+0 > . 1001:2001(1000) ack 1 win != 0\n+0 > . 2001:3001(1000) ack 1 win <= 5000"),
			[]sending{data(0, 1000, 0), data(1000, 1000, 0), data(2000, 1000, 0)}, "", "",
		},
		{
			"a window as it should not compare",
			write("+0 > . 1:1001(1000) ack 1 win >= 5001"), []sending{data(0, 1000, 0)},
			"window is 5000, expected >= 5001", "window is 5000, expected >= 5001",
		},
		{
			"some options of several",
			write("+0 > . 1:1001(1000) ack 1 <TS val 5 ecr 6,sack 1:2,...>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) {
				s.Options = []byte{1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 3, 3, 7}
			})},
			"", "",
		},
		{
			"an option that is missing among several",
			write("+0 > . 1:1001(1000) ack 1 <sack 1:2,...>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Options = []byte{8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 1, 1} })},
			"expected <sack 1:2,...>", "expected <sack 1:2,...>",
		},
		{
			"options with open values",
			write("+0 > . 1:1001(1000) ack 1 <nop,nop,TS val * ecr *,sack *>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) {
				s.Options = []byte{1, 1, 8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}
				s.Options = append(s.Options, 1, 1)
			})},
			"", "expected <nop,nop,TS val * ecr *,sack *>",
		},
		{
			"an open value of an option that is missing",
			write("+0 > . 1:1001(1000) ack 1 <TS val * ecr *,mss *>"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Options = []byte{8, 10, 0, 0, 0, 99, 0, 0, 0, 6, 1, 1} })},
			"expected <TS val * ecr *,mss *>", "expected <TS val * ecr *,mss *>",
		},
		{
			"wrong data",
			write("+0 > . 1:1001(1000) ack 1"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Payload[7] ^= 1 })},
			"the data is wrong: octet 7", "the data is wrong: octet 7",
		},
		{
			"data that was never written",
			write("+0 > . 1:1001(1000) ack 1\n+0 > . 1001:4001(3000) ack 1"),
			[]sending{data(0, 1000, 0), data(1000, 3000, 0)},
			"only 3000 were written", "only 3000 were written",
		},
		{
			"bad checksum",
			write("+0 > . 1:1001(1000) ack 1"),
			[]sending{change(data(0, 1000, 0), func(s *wire.TCP) { s.Reserved = 7 })},
			"malformed: bad TCP checksum", "malformed: bad TCP checksum",
		},
		{
			"within the tolerance",
			write("+.1 > . 1:1001(1000) ack 1"), []sending{at(212*ms, data(0, 1000, 0))}, "", "",
		},
		{
			"too late",
			write("+.1 > . 1:1001(1000) ack 1"), []sending{at(213*ms, data(0, 1000, 0))},
			"no packet was sent, expected one at 0.2s ±0.0125s", "no packet was sent, expected one at 0.2s ±0.0125s",
		},
		{
			"too early",
			write("+.1 > . 1:1001(1000) ack 1"), []sending{at(187*ms, data(0, 1000, 0))},
			"the packet left at 0.187s, expected at 0.2s ±0.0125s", "the packet left at 0.187s, expected at 0.2s ±0.0125s",
		},
		{
			"a range of time",
			write("+.1~+.5 > . 1:1001(1000) ack 1"), []sending{at(450*ms, data(0, 1000, 0))}, "", "",
		},
		{
			"any time",
			write("* > . 1:1001(1000) ack 1"), []sending{at(time.Hour, data(0, 1000, 0))}, "", "",
		},
		{
			"silence",
			write("+0...1 > none\n+0 > . 1:1001(1000) ack 1"), []sending{at(1101*ms, data(0, 1000, 0))}, "", "",
		},
		{
			"silence broken",
			write("+0...1 > none\n+0 > . 1:1001(1000) ack 1"), []sending{at(1099*ms, data(0, 1000, 0))},
			"a packet left at 1.099s, expected none until 1.1s", "a packet left at 1.099s, expected none until 1.1s",
		},
		{
			"left over",
			write("+0 > . 1:1001(1000) ack 1"), []sending{data(0, 1000, 0), data(1000, 1000, 0)},
			"left over at the end", "left over at the end",
		},
		{
			"the second of two forms",
			write("+0 > { . 1:2001(2000) ack 9 } or { . 1:1001(1000) ack 1 }"), []sending{data(0, 1000, 0)}, "", "",
		},
		{
			"neither of two forms",
			write("+0 > { . 1:1001(1000) ack 8 } or { . 1:1001(1000) ack 9 }"), []sending{data(0, 1000, 0)},
			"none of the forms fits; of the first, acknowledgment number is 1, expected 8",
			"none of the forms fits; of the first, acknowledgment number is 1, expected 8",
		},
		{
			"a packet that need not be there",
			write("+0 > { . 1:1(0) ack 1 } or none\n+0 > . 1:1001(1000) ack 1"), []sending{data(0, 1000, 0)}, "", "",
		},
		{
			"a shorter retransmission",
			write("+0 > . 1:1001(1000) ack 1\n+.3 > . 1:1001(1000) ack 1"),
			[]sending{data(0, 1000, 0), at(400*ms, data(0, 900, 0))}, "", "length is 900, expected 1000",
		},
		{
			"a retransmission of next to nothing",
			write("+0 > . 1:1001(1000) ack 1\n+.3 > . 1:1001(1000) ack 1"),
			[]sending{data(0, 1000, 0), at(400*ms, data(0, 100, 0))}, "length is 100, expected 1000", "length is 100, expected 1000",
		},
		{
			"an assertion that holds",
			"+0 %{ assert tcpi_snd_cwnd == 10 }%", nil, "", "",
		},
		{
			"an assertion that does not",
			"+0 %{ assert tcpi_snd_cwnd > 10 }%", nil, "the assertion does not hold: tcpi_snd_cwnd > 10", "the assertion does not hold: tcpi_snd_cwnd > 10",
		},
		{
			"wrong data read",
			"+0 < . 1:11(10) ack 1 win 1000\n+0 read(4, ..., 10) = 10", nil,
			"the data read is wrong: octet 0", "the data read is wrong: octet 0",
		},
		{
			"another result",
			"+0 write(4, ..., 100) = 99", nil, "the call returned 100, expected 99", "the call returned 100, expected 99",
		},
		{
			"success for an error",
			"+0 write(4, ..., 100) = -1 EPIPE", nil, "the call ended in success, expected EPIPE", "the call ended in success, expected EPIPE",
		},
	}
	for _, tt := range tests {
		for level, want := range map[runner.Level]string{rfc: tt.rfc, strict: tt.strict} {
			t.Run(tt.name+"/"+string(level), func(t *testing.T) {
				f := &fake{sends: append([]sending{synACK}, cloneSends(tt.sends)...)}
				res := runFake(t, f, preamble+tt.events+"\n", runner.Options{Level: level})
				switch {
				case want == "" && res.Verdict != runner.Pass:
					t.Errorf("%s: %s\n%+v", res.Verdict, res.Reason, res.Failure)
				case want != "" && (res.Verdict != runner.Fail || !strings.Contains(res.Reason, want)):
					t.Errorf("%s: %s\nwant a failure with %q", res.Verdict, res.Reason, want)
				}
			})
		}
	}
}

// cloneSends copies payloads, since a test runs twice.
func cloneSends(in []sending) []sending {
	out := make([]sending, len(in))
	for i, s := range in {
		s.seg.Payload = append([]byte(nil), s.seg.Payload...)
		out[i] = s
	}
	return out
}

func TestFailureShowsBothSides(t *testing.T) {
	f := &fake{sends: []sending{synACK, data(0, 500, wire.FIN)}}
	res := runFake(t, f, preamble+"+0 write(4, ..., 1000) = 1000\n+0 > R 9:9(0)\n", runner.Options{})
	fail := res.Failure
	if fail == nil {
		t.Fatalf("verdict %s, want a failure", res.Verdict)
	}
	if fail.Pos.Line != 10 || fail.Event != "+0 > R 9:9(0)" || fail.Expected != "> R 9:9(0)" ||
		fail.Actual != "> F. 1:501(500) ack 1 win 5000" || fail.At != 100*time.Millisecond {
		t.Errorf("failure = %+v", fail)
	}
	for _, e := range res.Trace {
		if e.Text == fail.Actual && e.Kind == runner.Outbound && e.Line == 0 && len(e.Data) > 0 {
			return
		}
	}
	t.Errorf("the packet is not in the trace: %v", res.Trace)
}

func TestStrictSegments(t *testing.T) {
	script := "--strict_segments\n" + preamble + "+0 write(4, ..., 2000) = 2000\n+0 > . 1:1001(1000) ack 1\n+0 > . 1001:2001(1000) ack 1\n"
	for name, tt := range map[string]struct {
		sends       []sending
		rfc, strict runner.Verdict
	}{
		"as long as in the script": {[]sending{data(0, 1000, 0), data(1000, 1000, 0)}, runner.Pass, runner.Pass},
		"longer":                   {[]sending{data(0, 1500, 0), data(1500, 500, 0)}, runner.Fail, runner.Fail},
		"shorter":                  {[]sending{data(0, 500, 0), data(500, 500, 0), data(1000, 1000, 0)}, runner.Pass, runner.Fail},
	} {
		for level, want := range map[runner.Level]runner.Verdict{rfc: tt.rfc, strict: tt.strict} {
			f := &fake{sends: append([]sending{synACK}, cloneSends(tt.sends)...)}
			if res := runFake(t, f, script, runner.Options{Level: level}); res.Verdict != want {
				t.Errorf("%s at level %s: %s %s, want %s", name, level, res.Verdict, res.Reason, want)
			}
		}
	}
}

func TestAnotherIncarnation(t *testing.T) {
	const ms = time.Millisecond
	again := at(200*ms, synACK)
	again.seg.Seq, again.seg.Ack = 7000, 501
	reply := at(300*ms, data(0, 10, 0))
	reply.seg.Seq, reply.seg.Ack = 7001, 501
	f := &fake{sends: []sending{synACK, again, reply}}
	res := runFake(t, f, preamble+`
+0 write(4, ..., 999) = 999
+.1 < S 500:500(0) win 1000 <mss 1000>
+0 > S. 0:0(0) ack 501 <mss 1460>
+0 < . 1:1(0) ack 1 win 1000
+0 accept(3, ..., ...) = 5
+0 write(5, ..., 10) = 10
+.1 > . 1:11(10) ack 1
`, runner.Options{})
	if res.Verdict != runner.Pass {
		t.Errorf("%s: %s\n%v", res.Verdict, res.Reason, res.Trace)
	}
}

func TestMappingToTheWire(t *testing.T) {
	f := &fake{sends: []sending{synACK}}
	src := preamble + "+0 < P. 1:3(2) ack 1001 win 77 <sack 11:21,TS val 5 ecr 9,nop>\n"
	if res := runFake(t, f, src, runner.Options{}); res.Verdict != runner.Pass {
		t.Fatalf("%s: %s", res.Verdict, res.Reason)
	}
	p, err := wire.Decode(f.injected[len(f.injected)-1])
	if err != nil || len(p.Faults) > 0 {
		t.Fatal(err, p.Faults)
	}
	isn := uint32(fakeISN)
	if p.TCP.Seq != 1 || p.TCP.Ack != isn+1001 || p.TCP.Window != 77 || p.TCP.DstPort != 8080 {
		t.Errorf("segment = %+v", p.TCP)
	}
	blocks := script.DecodeOptions(p.TCP.Options)[0].Blocks
	if len(blocks) != 1 || blocks[0].Left != isn+11 || blocks[0].Right != isn+21 {
		t.Errorf("SACK blocks = %+v", blocks)
	}
}

func TestVerdicts(t *testing.T) {
	const good = "0 %{ assert 1 == 1 }%\n"
	const bad = "0 %{ assert 1 == 2 }%\n"
	tests := []struct {
		name, src string
		want      runner.Verdict
		reason    string
	}{
		{"pass", good, runner.Pass, ""},
		{"fail", bad, runner.Fail, "the assertion does not hold"},
		{"expected to fail", "//@ expect: fake=fail it cannot count\n" + bad, runner.XFail, "it cannot count"},
		{"expected of another", "//@ expect: other=fail it cannot count\n" + bad, runner.Fail, "the assertion"},
		{"passes unexpectedly", "//@ expect: fake=fail it cannot count\n" + good, runner.XPass, "it cannot count"},
		{"is supported unexpectedly", "//@ expect: fake=unsupported no count\n" + good, runner.XPass, "no count"},
		{"unknown call", "0 mount(...) = 0\n", runner.Unsupported, "the system call mount"},
		{"call that the target lacks", "0 poll([{fd=3, events=POLLIN, revents=0}], 1, 0) = 0\n", runner.Unsupported, "poll"},
		{"unknown value", "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 %{ assert tcpi_rtt == 1 }%\n", runner.Unsupported, "tcpi_rtt"},
		{"unknown setting", "`sysctl -q net.ipv4.tcp_unknown=1`\n" + good, runner.Unsupported, "tcp_unknown"},
		{"unknown command", "`reboot`\n" + good, runner.Unsupported, "reboot"},
		{"unknown option", "--warp=9\n" + good, runner.Unsupported, "--warp"},
		{"missing file", "`../common/defaults.sh`\n" + good, runner.Unsupported, "no files are at hand"},
		{"extension", "0 > S 0:0(0) <FO>\n", runner.Unsupported, "TCP Fast Open"},
		{"ECN in flags", "0 > SE. 0:0(0) ack 1\n", runner.Unsupported, "ECN (RFC 3168)"},
		{"ECN in the IP header", "0 > [ect0] . 1:1(0) ack 1\n", runner.Unsupported, "ECN (RFC 3168)"},
		{"one failure outweighs what is unknown", "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 %{ assert tcpi_rtt == 1 }%\n+0 %{ assert 1 == 2 }%\n", runner.Fail, "1 == 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := runFake(t, &fake{}, tt.src, runner.Options{})
			if res.Verdict != tt.want || !strings.Contains(res.Reason, tt.reason) {
				t.Errorf("%s: %q, want %s with %q", res.Verdict, res.Reason, tt.want, tt.reason)
			}
		})
	}
}

func TestPanicIsAFailureOfTheTarget(t *testing.T) {
	kind := target.Kind{Name: "fake", Open: func(target.Config) (target.Target, error) { panic("boom") }}
	res := runner.Run(parse(t, "0 %{ assert 1 }%\n"), kind, 4, runner.Options{})
	if res.Verdict != runner.Fail || !strings.Contains(res.Reason, "boom") || len(res.Notes) != 1 {
		t.Errorf("%s: %s, notes %v", res.Verdict, res.Reason, res.Notes)
	}
}

func TestOpenErrorIsAFailure(t *testing.T) {
	kind := target.Kind{Name: "fake", Open: func(target.Config) (target.Target, error) { return nil, errors.New("no device") }}
	res := runner.Run(parse(t, "0 %{ assert 1 }%\n"), kind, 4, runner.Options{})
	if res.Verdict != runner.Fail || res.Reason != "no device" {
		t.Errorf("%s: %s", res.Verdict, res.Reason)
	}
}

func TestSequenceNumbersFromTheEdge(t *testing.T) {
	// The window is 5000 behind the SYN, and not scaled, whatever the target says.
	for name, tc := range map[string]struct {
		options []byte
		peer    string
		want    uint32
	}{
		"not scaled": {[]byte{2, 4, 5, 180}, "<mss 1000>", 5001},
		"refused":    {[]byte{2, 4, 5, 180, 1, 3, 3, 2}, "<mss 1000>", 5001},
		"SYN itself": {[]byte{2, 4, 5, 180, 1, 3, 3, 2}, "<mss 1000,nop,wscale 7>", 5001},
	} {
		t.Run(name, func(t *testing.T) {
			answer := synACK
			answer.seg.Options = tc.options
			f := &fake{sends: []sending{answer}}
			res := runFake(t, f, `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 8) = 0
+0 < S 0:0(0) win 1000 `+tc.peer+`
+0 > S. 0:0(0) ack 1 <...>
+0 < . edge-1:edge+99(100) ack 1 win 1000
`, runner.Options{})
			if res.Verdict != runner.Pass {
				t.Fatalf("%s: %s", res.Verdict, res.Reason)
			}
			p, err := wire.Decode(f.injected[len(f.injected)-1])
			if err != nil || p.TCP.Seq != tc.want-1 || len(p.TCP.Payload) != 100 {
				t.Errorf("the segment is %+v (%v), want it at %d", p.TCP, err, tc.want-1)
			}
		})
	}
	scaled := &fake{sends: []sending{
		{seg: wire.TCP{Seq: fakeISN, Ack: 1, Flags: wire.SYN | wire.ACK, Window: 5000, Options: []byte{2, 4, 5, 180, 1, 3, 3, 2}}},
		{100 * time.Millisecond, wire.TCP{Seq: fakeISN + 1, Ack: 1, Flags: wire.ACK, Window: 5000}},
	}}
	res := runFake(t, scaled, `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 8) = 0
+0 < S 0:0(0) win 1000 <mss 1000,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+.1 > . 1:1(0) ack 1
+0 < . edge:edge(0) ack 1 win 1000
`, runner.Options{})
	if p, err := wire.Decode(scaled.injected[len(scaled.injected)-1]); err != nil || p.TCP.Seq != 20001 {
		t.Errorf("the segment is %+v (%v, %s), want it at 20001", p.TCP, err, res.Reason)
	}
}

func TestEdgeOfAWindowThatWasNotOffered(t *testing.T) {
	res := runFake(t, &fake{}, "0 < . edge:edge(0) ack 1 win 1000\n", runner.Options{})
	if res.Verdict != runner.Unsupported {
		t.Errorf("%s: %s", res.Verdict, res.Reason)
	}
}

func TestCasesInGo(t *testing.T) {
	c := &runner.Case{Name: "a.go", Tags: script.Tags{IP: script.IPv4, Title: "a case"}}
	for want, run := range map[runner.Verdict]func(*runner.Peer) error{
		runner.Pass: func(p *runner.Peer) error {
			if err := p.Listen(80); err != nil {
				return err
			}
			return p.Send(9, 80, script.TCP{Flags: script.SYN, Seq: 7})
		},
		runner.Fail:        func(p *runner.Peer) error { return p.Failf("a", "b", "it is %s", "b") },
		runner.Unsupported: func(*runner.Peer) error { return target.Unsupportedf("that") },
	} {
		c.Run = run
		f := &fake{}
		if res := runner.RunCase(c, f.kind(), 4, runner.Options{}); res.Verdict != want {
			t.Errorf("%s: %s, want %s", res.Verdict, res.Reason, want)
		}
	}
	c.Run = func(*runner.Peer) error { panic("at the disco") }
	if res := runner.RunCase(c, (&fake{}).kind(), 4, runner.Options{}); res.Verdict != runner.Fail {
		t.Errorf("%s after a panic", res.Verdict)
	}
}
