package fuzz

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/plumbline/plumbline/conformance/target"
)

// TestTCPXWithstands runs some hundred cases against tcpx. A longer run is
// `plumbline fuzz --target tcpx --time 10m`.
func TestTCPXWithstands(t *testing.T) {
	t.Parallel()
	report, err := Run(context.Background(), Options{Kind: target.TCPX(), Seed: 1, Cases: 150})
	if err != nil {
		t.Fatal(err)
	}
	if report.Cases != 150 || report.Steps < 1500 || report.Packets < 1500 {
		t.Errorf("%d cases with %d steps made the target send %d packets", report.Cases, report.Steps, report.Packets)
	}
	for _, f := range report.Failures {
		t.Errorf("%s: %s\n%s", f.Class, f.Text, f.Script)
	}
}

// TestSameSeed runs cases twice: on both targets each packet is the same.
func TestSameSeed(t *testing.T) {
	t.Parallel()
	for _, kind := range target.Kinds() {
		for n := range uint64(12) {
			c, _ := Generate(kind, 7, n)
			again, _ := Generate(kind, 7, n)
			first, second := execute(kind, &c, replay(&c)), execute(kind, &again, replay(&again))
			if len(first.result.Trace) != len(second.result.Trace) {
				t.Fatalf("%s case %d: %d entries and %d", kind.Name, n, len(first.result.Trace), len(second.result.Trace))
			}
			for i, e := range first.result.Trace {
				if o := second.result.Trace[i]; string(e.Data) != string(o.Data) || e.String() != o.String() {
					t.Fatalf("%s case %d: %v and %v", kind.Name, n, e, o)
				}
			}
		}
	}
}

// TestScriptsAgree runs the script of each case by package runner: where the case
// passes, its script does.
func TestScriptsAgree(t *testing.T) {
	t.Parallel()
	for n := range uint64(40) {
		c, failures := Generate(target.TCPX(), 9, n)
		text := c.Text(target.TCPX(), "a case")
		if len(failures) == 0 && Reproduces(target.TCPX(), text, c.Seed) {
			t.Errorf("case %d passes, and its script fails:\n%s", n, text)
		}
	}
}

// TestReportIsJSON has the names that programs rely on.
func TestReportIsJSON(t *testing.T) {
	b, err := json.Marshal(Report{Target: "x", Failures: []Failure{{Class: "oracle:rst", Section: "RFC", Text: "why", Script: "0", Count: 2}}})
	const want = `{"target":"x","seed":0,"cases":0,"steps":0,"packets":0,"unsupported":0,"failing":0,"failures":[` +
		`{"class":"oracle:rst","section":"RFC","text":"why","case":0,"count":2,"steps":0,"left":0,"script":"0","reproduced":false}]}`
	if err != nil || string(b) != want {
		t.Errorf("%s, error %v", b, err)
	}
}

// FuzzTCPX makes cases from the octets of the fuzzer, which learns from what tcpx
// does which choices lead where.
func FuzzTCPX(f *testing.F) {
	for i := range byte(6) {
		b := make([]byte, 200)
		for j := range b {
			b[j] = byte(j*(2*int(i)+7)) ^ i<<5
		}
		f.Add(b)
	}
	kind := target.TCPX()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2000 {
			return
		}
		c, o := generate(kind, Octets(b), 1)
		if o.broken != nil {
			t.Fatal(o.broken)
		}
		for _, x := range o.failures {
			t.Errorf("%s: %s\n%s", x.Class, x.Text, c.text(o, "found by FuzzTCPX"))
		}
	})
}
