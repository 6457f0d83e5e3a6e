package report_test

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
)

// TestFindings has what the oracle holds against a target in every report that
// people and programs read: the surest finding of a rule, hard ones first.
func TestFindings(t *testing.T) {
	soft := oracle.Finding{
		Rule: "delayed-ack", Tier: oracle.Soft, Confidence: 0.4, Section: "RFC 9293 3.8.6.3", Packet: 5, At: time.Second,
		From: netip.MustParseAddrPort("192.168.0.1:8080"), To: netip.MustParseAddrPort("192.0.2.1:49152"), Text: "late by 100 ms",
	}
	surer := soft
	surer.Confidence, surer.Text = 0.8, "late by 900 ms"
	hard := soft
	hard.Tier, hard.Rule, hard.Confidence, hard.Text = oracle.Hard, "window", 1, "beyond the </script> window"
	rs := []*runner.Result{
		result("a.pkt", "good", "", runner.Pass),
		result("b.pkt", "good", "", runner.Pass),
		result("c.pkt", "stock", "", runner.Fail),
	}
	rs[0].Findings = []oracle.Finding{soft, soft}
	rs[1].Findings = []oracle.Finding{surer}
	rs[2].Findings = []oracle.Finding{hard}
	for name, tt := range map[string]struct {
		write func(w io.Writer) error
		want  []string
	}{
		"text": {
			func(w io.Writer) error { return report.Text(w, rs, report.TextOptions{}) },
			[]string{
				"oracle (runs; soft findings fail nothing):\n" +
					"     1  stock: hard window (RFC 9293 3.8.6.3), as in c.pkt/ipv4/stock: beyond the </script> window\n" +
					"     2  good: soft 0.8 delayed-ack (RFC 9293 3.8.6.3), as in a.pkt/ipv4/good: late by 900 ms\n",
			},
		},
		"json":  {func(w io.Writer) error { return report.JSON(w, rs, 1) }, []string{`"rule": "window"`, `"confidence": 0.8`, `"text": "late by 100 ms"`}},
		"junit": {func(w io.Writer) error { return report.JUnit(w, rs) }, []string{"<system-out>oracle: hard", "late by 900 ms"}},
		"tap":   {func(w io.Writer) error { return report.TAP(w, rs) }, []string{"\n# oracle: soft 0.8 #5 1.000000 192.168.0.1:8080 > 192.0.2.1:49152 delayed-ack: late by 900 ms"}},
		"html":  {func(w io.Writer) error { return report.HTML(w, rs, report.HTMLOptions{}) }, []string{`"o":[["hard","hard     #5`, `\u003c/script\u003e window`}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.write(&b); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(b.String(), want) {
					t.Errorf("%q is missing in\n%.3000s", want, b.String())
				}
			}
		})
	}
}
