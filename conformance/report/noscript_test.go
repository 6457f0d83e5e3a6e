package report_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/report"
)

// TestWithoutJavaScript finds what matters in the page of a browser that runs no
// scripts: verdicts of requirements and tests, and each failure with its packets.
func TestWithoutJavaScript(t *testing.T) {
	var b bytes.Buffer
	if err := report.HTML(&b, mixed(), report.HTMLOptions{}); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(b.String(), "<noscript>")
	plain, _, ok := strings.Cut(rest, "</noscript>")
	if !ok {
		t.Fatal("there is no part for browsers without JavaScript")
	}
	for _, want := range []string{
		"<summary>FAIL x&lt;/script&gt;&lt;b&gt;.pkt/ipv4/stock: ", "expected <code>&gt; . 1:1(0) ack 1</code><br>actual <code>nothing</code>",
		"    6     1.000000 &lt; . 1:1(0) ack 1 win 5\n", "<td>MUST-13</td><td>MUST</td>", "<td>PASS</td><td>FAIL</td></tr>",
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q is missing in\n%.3000s", want, plain)
		}
	}
}
