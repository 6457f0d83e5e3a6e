package report_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
)

// mixed are results with every kind of verdict.
func mixed() []*runner.Result {
	hostile := result("x</script><b>.pkt", "stock", "RFC 9293 3.4", runner.Fail, "MUST-13")
	hostile.Source = "// </script><script>alert(1)</script>\n0 < S 0:0(0) win 1\n"
	hostile.Reason = "</script> # not \\ a directive\nor is it"
	hostile.Failure.Actual = ""
	return []*runner.Result{
		result("a.pkt", "good", "RFC 9293 3.5", runner.Pass, "MUST-13"),
		result("a.pkt", "stock", "RFC 9293 3.5", runner.XFail, "MUST-13"),
		result("b.pkt", "good", "", runner.Unsupported),
		hostile,
	}
}

func TestTAP(t *testing.T) {
	var b bytes.Buffer
	rs := mixed()
	rs[1].Reason = "issue #7\nsays \\"
	if err := report.TAP(&b, rs); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"TAP version 13\n1..4\nok 1 - a.pkt/ipv4/good\n",
		"\nnot ok 2 - a.pkt/ipv4/stock # TODO issue \\#7 says \\\\\n",
		"\nok 3 - b.pkt/ipv4/good # SKIP because\n",
		"\nnot ok 4 - x</script><b>.pkt/ipv4/stock\n  ---\n  verdict: \"FAIL\"\n",
		"  message: \"</script> # not \\\\ a directive\\nor is it\"\n",
		"  expected: \"> . 1:1(0) ack 1\"\n  actual: \"(nothing)\"\n  trace:\n    - \"",
		"< . 1:1(0) ack 1 win 5\"\n    - \"",
	} {
		if !strings.Contains("\n"+got, want) && !strings.HasPrefix(got, want) {
			t.Errorf("TAP lacks %q:\n%s", want, got)
		}
	}
}

func TestSnapshot(t *testing.T) {
	results := mixed()
	other := result("a.pkt", "good", "", runner.Fail, "MUST-13")
	other.IP = 6
	now := report.SnapshotOf(append(results, other))
	var b bytes.Buffer
	if err := now.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\na.pkt good=PASS/FAIL stock=XFAIL\n", "\nb.pkt good=UNSUPPORTED\n", "\nMUST-13 good=FAIL stock=FAIL\n", "\nMUST-9 good=N/A stock=N/A\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the snapshot lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "UNTESTED") {
		t.Errorf("the snapshot has requirements that no test names:\n%s", b.String())
	}
	again, err := report.ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := now.Diff(again, false); diff != nil {
		t.Errorf("what was written reads differently: %q", diff)
	}
}

func TestSnapshotDifferences(t *testing.T) {
	old, err := report.ReadSnapshot(strings.NewReader("# scripts\na.pkt good=FAIL gone=PASS\nz.pkt good=PASS\n"))
	if err != nil {
		t.Fatal(err)
	}
	now := report.SnapshotOf([]*runner.Result{result("a.pkt", "good", "", runner.Pass), result("n.pkt", "good", "", runner.Pass)})
	scripts := func(lines []string) string {
		var out []string
		for _, l := range lines {
			if strings.Contains(l, ".pkt") {
				out = append(out, l)
			}
		}
		return strings.Join(out, "\n")
	}
	if got, want := scripts(now.Diff(old, false)), "a.pkt on good: PASS, was FAIL\nn.pkt on good: PASS, was not there\nz.pkt on good: gone, was PASS"; got != want {
		t.Errorf("differences are\n%s\nwant\n%s", got, want)
	}
	if got, want := scripts(now.Diff(old, true)), "a.pkt on good: PASS, was FAIL\nn.pkt on good: PASS, was not there"; got != want {
		t.Errorf("differences of a part are\n%s\nwant\n%s", got, want)
	}
	now.Merge(old, false)
	var b bytes.Buffer
	if err := now.Write(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\na.pkt gone=PASS good=PASS\n") || strings.Contains(b.String(), "z.pkt") {
		t.Errorf("a target that was not run is lost, or a script that is gone is kept:\n%s", b.String())
	}
	now.Merge(old, true)
	b.Reset()
	if err := now.Write(&b); err != nil || !strings.Contains(b.String(), "\nz.pkt good=PASS\n") {
		t.Errorf("%v: a script is lost that was not run:\n%s", err, b.String())
	}
	met := report.SnapshotOf([]*runner.Result{result("a.pkt", "good", "", runner.Pass, "MUST-13")})
	failed := report.SnapshotOf([]*runner.Result{result("a.pkt", "good", "", runner.Fail, "MUST-13")})
	if got := failed.Diff(met, false); !slices.Contains(got, "MUST-13 on good: FAIL, was PASS") {
		t.Errorf("a requirement that is no longer met makes no difference: %q", got)
	}
	if got := failed.Diff(met, true); len(got) != 1 {
		t.Errorf("some of the tests of a requirement stand for all: %q", got)
	}
	failed.Merge(met, true)
	b.Reset()
	if err := failed.Write(&b); err != nil || !strings.Contains(b.String(), "\nMUST-13 good=PASS\n") || !strings.Contains(b.String(), "\na.pkt good=FAIL\n") {
		t.Errorf("%v: some of the tests of a requirement stand for all:\n%s", err, b.String())
	}
	if _, err := report.ReadSnapshot(strings.NewReader("a\nb PASS\n")); err == nil || !strings.HasPrefix(err.Error(), "line 2:") {
		t.Errorf("error is %v, want one of line 2", err)
	}
}

func TestExplain(t *testing.T) {
	var b bytes.Buffer
	if ok, err := report.Explain(&b, "MUST-13", mixed()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, want := range []string{"MUST-13  MUST  RFC 9293 section 3.6.1", "TIME-WAIT", "a.pkt", "good: PASS\n", "stock: FAIL\n", "expected "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the explanation lacks %q:\n%s", want, b.String())
		}
	}
	b.Reset()
	if ok, _ := report.Explain(&b, "MUST-9", nil); !ok || !strings.Contains(b.String(), "not applicable: ") {
		t.Errorf("MUST-9 is explained so: %s", b.String())
	}
	b.Reset()
	reset := result("rst/exact-rst-resets.pkt", "good", "RFC 5961 3.2", runner.Pass)
	if ok, _ := report.Explain(&b, "RFC5961-3.2-b", append(mixed(), reset)); !ok || !strings.Contains(b.String(), "good: PASS\n") || strings.Contains(b.String(), "a.pkt") {
		t.Errorf("RFC5961-3.2-b is explained so: %s", b.String())
	}
	if ok, _ := report.Explain(&b, "MUST-99", nil); ok {
		t.Error("MUST-99 is explained, which does not exist")
	}
}

func TestPCAPNG(t *testing.T) {
	r := result("a.pkt", "good", "", runner.Fail)
	b := report.PCAPNG(r)
	packets := 0
	var at, direction []uint32
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b[4:])
		if n%4 != 0 || int(n) > len(b) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("a block of %d octets with %d left", n, len(b))
		}
		if binary.LittleEndian.Uint32(b) == 6 {
			packets++
			at = append(at, binary.LittleEndian.Uint32(b[16:]))
			direction = append(direction, binary.LittleEndian.Uint32(b[n-12:]))
		}
		b = b[n:]
	}
	if !slices.Equal(at, []uint32{1e9, 1.5e9}) || !slices.Equal(direction, []uint32{1, 2}) {
		t.Errorf("packets are of %d ns, in the directions %d", at, direction)
	}
	want := 0
	for _, e := range r.Trace {
		if len(e.Data) > 0 {
			want++
		}
	}
	if packets != want || want == 0 {
		t.Errorf("%d packets, want %d", packets, want)
	}
}

func TestHTMLNeedsNothingElse(t *testing.T) {
	var b bytes.Buffer
	results := mixed()
	results[0].IP = 6
	cell := result("matrix/ESTABLISHED/FIN", "good", "", runner.Pass)
	if err := report.HTML(&b, append(results, result("a.pkt", "good", "", runner.Pass), cell), report.HTMLOptions{Seed: 3, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if m := regexp.MustCompile(`(?i)(src|href)\s*=\s*"?(https?:)?//|@import|url\(\s*["']?https?:`).FindString(text); m != "" {
		t.Errorf("the page refers to something outside: %q", m)
	}
	if n := strings.Count(text, "</script>"); n != 2 {
		t.Errorf("the page has %d ends of scripts, want 2: a script's text got out", n)
	}
	m := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the page has no data")
	}
	var data struct {
		OK      bool
		Targets []struct {
			Name               string
			Runs, Requirements map[string]int
		}
		Events  []struct{ Name string }
		Scripts []struct {
			N, Src string
			Runs   []struct {
				V, IP string
				F     *struct{ X, A string }
				Tr    [][]any
				Pcap  []byte
			}
		}
		Requirements []report.Covered
	}
	if err := json.Unmarshal([]byte(m[1]), &data); err != nil {
		t.Fatal(err)
	}
	if len(data.Targets) != 2 || len(data.Scripts) != 4 || len(data.Requirements) != 119 {
		t.Fatalf("%d targets, %d scripts, %d requirements", len(data.Targets), len(data.Scripts), len(data.Requirements))
	}
	if g, s := data.Targets[0], data.Targets[1]; data.OK || g.Runs["PASS"] != 3 || g.Requirements["PASS"] != 1 || s.Requirements["FAIL"] != 1 {
		t.Errorf("ok is %v, and the counts are %+v", data.OK, data.Targets)
	}
	if len(data.Events) == 0 {
		t.Error("the matrix has no events")
	}
	if ip := data.Scripts[0].Runs[0].IP; ip != "6+4" || len(data.Scripts[0].Runs) != 2 {
		t.Errorf("runs that ended alike are not one, but %+v", data.Scripts[0].Runs)
	}
	hostile := data.Scripts[2]
	if hostile.N != "x</script><b>.pkt" || !strings.Contains(hostile.Src, "<script>alert") {
		t.Errorf("the script is %+v", hostile)
	}
	if r := hostile.Runs[0]; r.F == nil || len(r.Tr) == 0 || len(r.Pcap) == 0 {
		t.Errorf("the failure has no comparison, trace or packets: %+v", r)
	}
	if len(data.Scripts[0].Runs[0].Pcap) > 0 {
		t.Error("a run that passed carries its packets")
	}
}

func TestHTMLWithoutJavaScript(t *testing.T) {
	var b bytes.Buffer
	if err := report.HTML(&b, mixed(), report.HTMLOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<tr><th>test</th><th>good</th><th>stock</th></tr>",
		"<tr><td>a.pkt</td><td>PASS</td><td>XFAIL</td></tr>",
		"<tr><td>b.pkt</td><td>UNSUPPORTED</td><td></td></tr>",
		"<tr><td>x&lt;/script&gt;&lt;b&gt;.pkt</td><td></td><td>FAIL</td></tr>",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestHTMLBoundsThePackets(t *testing.T) {
	var results []*runner.Result
	for range 100 {
		r := result("big.pkt", "good", "", runner.Fail)
		for range 3000 {
			r.Trace = append(r.Trace, runner.Entry{Kind: runner.Called, Text: "a call"})
		}
		r.Trace = append(r.Trace, runner.Entry{Kind: runner.Outbound, Data: make([]byte, 60_000)})
		r.Script += string(rune('a' + len(results)%26))
		r.Reason = strings.Repeat("!", len(results))
		results = append(results, r)
	}
	var b bytes.Buffer
	if err := report.HTML(&b, results, report.HTMLOptions{}); err != nil {
		t.Fatal(err)
	}
	// All of them are 6 MB, and 8 MB in base64.
	if b.Len() < 4<<20 || b.Len() > 7<<20 {
		t.Errorf("the page has %d octets", b.Len())
	}
}

func TestCoverageOfOtherRFCs(t *testing.T) {
	if got := report.OtherCoverage(mixed()); got != nil {
		t.Errorf("results of other tests cover %d requirements", len(got))
	}
	results := []*runner.Result{
		result("rst/exact-rst-resets.pkt", "good", "", runner.Pass),
		result("matrix/ESTABLISHED/RST-exact", "good", "", runner.Pass),
		result("matrix/ESTABLISHED/RST-exact", "stock", "", runner.XFail),
		result("rst/exact-rst-resets.pkt", "stock", "", runner.Pass),
	}
	want := map[string][2]runner.Verdict{
		"RFC5961-3.2-b": {runner.Pass, runner.XFail},
		"RFC5961-4.2":   {runner.Untested, runner.Untested},
		"RFC6298-2.4":   {runner.NotApplicable, runner.NotApplicable},
	}
	for _, c := range report.OtherCoverage(results) {
		w, ok := want[c.ID]
		if ok && (c.Verdicts["good"] != w[0] || c.Verdicts["stock"] != w[1]) {
			t.Errorf("%s: %v, want %v", c.ID, c.Verdicts, w)
		}
		delete(want, c.ID)
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}
}
