package runner_test

import (
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/runner"
)

// TestIgnored compares the same packets with and without what is ignored.
func TestIgnored(t *testing.T) {
	scaled := synACK
	scaled.seg.Options = append(append([]byte(nil), synACK.seg.Options...), 1, 3, 3, 7) // nop, wscale 7
	scale := strings.NewReplacer("<mss 1000>", "<mss 1000,nop,wscale 7>", "<mss 1460>", "<mss 1460,nop,wscale 6>").Replace(preamble)
	narrow := change(data(1000, 1000, wire.PSH), func(s *wire.TCP) { s.Window = 4000 })
	write := preamble + "+0 write(4, ..., 2000) = 2000\n"
	for name, tt := range map[string]struct {
		script  string
		sends   []sending
		ignored runner.Ignored
		// reason is what fails if nothing is ignored.
		reason string
	}{
		"a window": {
			write + "+0 > P. 1:2001(2000) ack 1 win 77\n", []sending{synACK, data(0, 2000, wire.PSH)},
			runner.IgnoreWindows, "window is 5000, expected 77",
		},
		"windows that differ among what is joined": {
			write + "+0 > P. 1:2001(2000) ack 1\n", []sending{synACK, data(0, 1000, 0), narrow},
			runner.IgnoreWindows, "flags is ., expected P.",
		},
		"a window scale": {scale, []sending{scaled}, runner.IgnoreWindows, "wscale 7"},
		"the size of a receive buffer": {
			preamble + "+0 getsockopt(4, SOL_SOCKET, SO_RCVBUF, [77], [4]) = 0\n", []sending{synACK},
			runner.IgnoreWindows, "SO_RCVBUF value is",
		},
		"ECT": {
			write + "+0 > [ect0] P. 1:2001(2000) ack 1\n", []sending{synACK, data(0, 2000, wire.PSH)},
			runner.IgnoreECT, "ECN is noecn, expected ect0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for ignored, want := range map[runner.Ignored]string{
				0: tt.reason,
				tt.ignored ^ (1<<len(runner.IgnoredNames()) - 1): tt.reason,
				tt.ignored: "",
			} {
				f := &fake{ecn: true, sends: cloneSends(tt.sends)}
				res := runFake(t, f, tt.script, runner.Options{Level: strict, Ignore: ignored})
				if pass := res.Verdict == runner.Pass; pass != (want == "") || !strings.Contains(res.Reason, want) {
					t.Errorf("without %v: %s %q, want %q", ignored, res.Verdict, res.Reason, want)
				}
			}
		})
	}
	// SYN says whether a TCP does something that it should not.
	res := runFake(t, &fake{ecn: true, sends: []sending{synACK}}, strings.Replace(preamble, "> S.", "> [ect0] S.", 1), runner.Options{Ignore: runner.IgnoreECT})
	if res.Verdict != runner.Fail {
		t.Errorf("ECT of SYN-ACK was not compared: %s", res.Verdict)
	}
}

func TestParseIgnored(t *testing.T) {
	set, err := runner.ParseIgnored([]string{"ect", "windows"})
	if err != nil || set != runner.IgnoreWindows|runner.IgnoreECT || set.String() != "windows,ect" {
		t.Errorf("ParseIgnored: %v, %v", set, err)
	}
	if _, err := runner.ParseIgnored([]string{"window"}); err == nil || !strings.Contains(err.Error(), `"window" cannot be ignored: want windows or ect`) {
		t.Errorf("ParseIgnored: error %v", err)
	}
}
