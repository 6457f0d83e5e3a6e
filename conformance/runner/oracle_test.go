package runner_test

import (
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// TestOracle fails a run whose packets are what the script says and break a rule
// that it does not speak about.
func TestOracle(t *testing.T) {
	src := preamble + "+0 write(4, ..., 1000) = 1000\n+0 > P. 1:1001(1000) ack 1\n"
	beyond := src + "+0 write(4, ..., 1000) = 1000\n+0 > P. 1001:2001(1000) ack 1\n"
	beyond = strings.Replace(beyond, "> P. 1:", "> . 1:", 1)
	for _, tt := range []struct {
		name   string
		script string
		sends  []sending
		oracle bool
		want   runner.Verdict
	}{
		{"right", src, []sending{synACK, data(0, 1000, wire.PSH)}, true, runner.Pass},
		{"beyond the window", beyond, []sending{synACK, data(0, 1000, 0), data(1000, 1000, wire.PSH)}, true, runner.Fail},
		{"beyond the window, and not asked", beyond, []sending{synACK, data(0, 1000, 0), data(1000, 1000, wire.PSH)}, false, runner.Pass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := script.Parse("test.pkt", []byte(tt.script))
			if err != nil {
				t.Fatal(err)
			}
			f := &fake{sends: tt.sends}
			res := runner.Run(s, f.kind(), 4, runner.Options{Oracle: tt.oracle})
			if res.Verdict != tt.want || (len(res.Findings) > 0) != (tt.want == runner.Fail) {
				t.Errorf("%s (%s), %v", res.Verdict, res.Reason, res.Findings)
			}
			if tt.want == runner.Fail && (!strings.Contains(res.Reason, "rule window (RFC 9293 3.4, 3.8.6.1)") || res.Failure.Pos.Line != 12) {
				t.Errorf("line %d: %s", res.Failure.Pos.Line, res.Reason)
			}
		})
	}
}

// TestOracleForgivesScripts does not hold against a target what the script
// sends.
func TestOracleForgivesScripts(t *testing.T) {
	s, err := script.Parse("test.pkt", []byte(preamble+"+0 < . 5000:6000(1000) win 10\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{sends: []sending{synACK}}
	if res := runner.Run(s, f.kind(), 4, runner.Options{Oracle: true}); res.Verdict != runner.Pass || len(res.Findings) > 0 {
		t.Errorf("%s (%s), %v", res.Verdict, res.Reason, res.Findings)
	}
}
