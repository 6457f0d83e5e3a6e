package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// result makes a result of the script name on a target.
func result(name, target, section string, v runner.Verdict, reqs ...string) *runner.Result {
	r := &runner.Result{
		Script: name, Target: target, IP: 4, Level: runner.RFC, Verdict: v, Elapsed: time.Second,
		Tags: script.Tags{Section: section, Requirements: reqs},
	}
	if v != runner.Pass {
		r.Reason = "because"
	}
	if v == runner.Fail || v == runner.XFail {
		r.Failure = &runner.Failure{
			Pos: script.Position{File: name, Line: 7, Column: 3}, At: 1500 * time.Millisecond,
			Event: "+0 > . 1:1(0) ack 1", Message: "flags is R, expected .",
			Expected: "> . 1:1(0) ack 1", Actual: "> R 1:1(0)",
		}
		r.Trace = []runner.Entry{
			{At: time.Second, Kind: runner.Inbound, Line: 6, Text: "< . 1:1(0) ack 1 win 5", Data: []byte{0x45}},
			{At: 1500 * time.Millisecond, Kind: runner.Outbound, Text: "> R 1:1(0)", Data: []byte{0x45, 0}},
		}
	}
	return r
}

// results are one of each kind.
func results() []*runner.Result {
	return []*runner.Result{
		result("a/one.pkt", "good", "RFC 9293 3.10.4", runner.Pass, "MUST-13", "MUST-2"),
		result("a/one.pkt", "stock", "RFC 9293 3.10.4", runner.Fail, "MUST-13", "MUST-2"),
		result("a/two.pkt", "good", "RFC 9293 3.9", runner.Pass, "MUST-13"),
		result("a/two.pkt", "stock", "RFC 9293 3.9", runner.XFail, "MUST-13"),
		result("b.pkt", "good", "", runner.Unsupported, "MUST-2"),
		result("b.pkt", "stock", "", runner.XPass),
	}
}

// text renders results.
func text(t *testing.T, opt report.TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Text(&b, results(), opt); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	want := `FAIL  a/one.pkt/ipv4/stock
      a/one.pkt:7:3: flags is R, expected .
          7 +0 > . 1:1(0) ack 1
      expected         | actual
      > . 1:1(0) ack 1 | > R 1:1(0)
       line         time event
          6     1.000000 < . 1:1(0) ack 1 win 5
                1.500000 > R 1:1(0)

XPASS b.pkt/ipv4/stock
      because
unsupported:
     1  good: because

section          good           stock
---------------------------------------
RFC 9293 3.9     1 pass         1 xfail
RFC 9293 3.10.4  1 pass         1 fail
no section       1 unsupported  1 xpass

good: 2 pass, 1 unsupported
good requirements of RFC 9293: 2 pass, 14 n/a, 103 untested
stock: 1 fail, 1 xfail, 1 xpass
stock requirements of RFC 9293: 2 fail, 14 n/a, 103 untested
FAILED: 6 runs, 2 pass, 1 fail, 1 xfail, 1 xpass, 1 unsupported
`
	if diff := cmp.Diff(want, text(t, report.TextOptions{})); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestTextVerboseHasEveryRun(t *testing.T) {
	got := text(t, report.TextOptions{Verbose: true, Requirements: true})
	for _, want := range []string{
		"PASS  a/one.pkt/ipv4/good\n", "XFAIL a/two.pkt/ipv4/stock\n", "UNSUPPORTED b.pkt/ipv4/good\n      because\n",
		"MUST-13 ", " 3.6.1 ", "N/A",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestCoverage(t *testing.T) {
	for _, c := range report.Coverage(results()) {
		var want map[string]runner.Verdict
		switch c.ID {
		case "MUST-13":
			want = map[string]runner.Verdict{"good": runner.Pass, "stock": runner.Fail}
			if len(c.Scripts) != 2 || c.Reason != "" {
				t.Errorf("MUST-13: %+v", c)
			}
		case "MUST-2": // A script that passes outweighs one that is unsupported.
			want = map[string]runner.Verdict{"good": runner.Pass, "stock": runner.Fail}
		case "MUST-51":
			want = map[string]runner.Verdict{"good": runner.NotApplicable, "stock": runner.NotApplicable}
			if c.Reason == "" {
				t.Error("MUST-51 has no reason")
			}
		default:
			continue
		}
		if diff := cmp.Diff(want, c.Verdicts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.ID, diff)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := report.JSON(&b, results(), 9); err != nil {
		t.Fatal(err)
	}
	var doc report.Document
	dec := json.NewDecoder(&b)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != report.Schema || doc.Seed != 9 || doc.OK || len(doc.Runs) != 6 || len(doc.Requirements) != 119 || doc.Counts[runner.Pass] != 2 {
		t.Errorf("document = %+v", doc)
	}
	run := doc.Runs[1]
	if run.Failure == nil || run.Failure.Line != 7 || run.Failure.AtMicros != 1_500_000 || len(run.Trace) != 2 || len(run.Trace[1].Packet) != 2 {
		t.Errorf("run = %+v", run)
	}
	if doc.Runs[0].Trace != nil || doc.Runs[0].Failure != nil {
		t.Errorf("a run that passed has a trace: %+v", doc.Runs[0])
	}
}

func TestJUnit(t *testing.T) {
	rs := results()
	rs[1].Failure.Actual = "> \x00\x1b & <tag>"
	var b bytes.Buffer
	if err := report.JUnit(&b, rs); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name    string `xml:"name,attr"`
			Skipped int    `xml:"skipped,attr"`
			Cases   []struct {
				Name    string `xml:"name,attr"`
				Time    string `xml:"time,attr"`
				Failure string `xml:"failure"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if strings.ContainsAny(b.String(), "\x00\x1b") {
		t.Errorf("characters that XML forbids are in\n%s", b.String())
	}
	if err := xml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if doc.Tests != 6 || doc.Failures != 2 || len(doc.Suites) != 2 || doc.Suites[1].Name != "stock" || doc.Suites[1].Skipped != 1 {
		t.Fatalf("document = %+v", doc)
	}
	stock := doc.Suites[1].Cases
	if stock[0].Time != "1.000000" || !strings.Contains(stock[0].Failure, "a/one.pkt:7:3") || stock[1].Skipped == nil || stock[1].Skipped.Message != "XFAIL: because" {
		t.Errorf("cases of stock = %+v", stock)
	}
}

func TestCountOfNothing(t *testing.T) {
	c := report.CountOf(nil)
	if c.String() != "none" || !c.OK() || c.Total() != 0 {
		t.Errorf("count of nothing = %v", c)
	}
	if err := report.Text(io.Discard, nil, report.TextOptions{Requirements: true}); err != nil {
		t.Error(err)
	}
}
