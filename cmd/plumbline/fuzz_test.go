package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/fuzz"
)

// fuzzCommand runs the command and returns what it printed and its exit status.
func fuzzCommand(args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"fuzz"}, args...), &out, &errs)
	return out.String(), errs.String(), status
}

func TestFuzzUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"--target nobody", `fuzz: no target "nobody"`},
		{"--cases -1", "not negative"},
		{"--cases 0", "--cases 0 needs --time"},
		{"--diff tcpx", "--diff wants two targets"},
		{"--diff tcpx,gvisor --replay x.pkt", "--diff or --replay"},
		{"--replay /nowhere.pkt", "/nowhere.pkt"},
	} {
		_, stderr, status := fuzzCommand(strings.Fields(tt.args)...)
		if status != exitUsage || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("fuzz %s: status %d, %q", tt.args, status, stderr)
		}
	}
}

func TestFuzzPasses(t *testing.T) {
	t.Parallel()
	stdout, stderr, status := fuzzCommand("--cases", "20")
	if status != exitOK || !strings.Contains(stdout, "tcpx: 20 cases of seed 1 with") || !strings.Contains(stdout, "none failed") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

// TestFuzzFindsAndReplays finds what gVisor's own TCP gets wrong, and finds it again in
// the script that it wrote.
func TestFuzzFindsAndReplays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stdout, stderr, status := fuzzCommand("--target", "gvisor", "--cases", "30", "--out", dir, "--json")
	var reports []fuzz.Report
	if err := json.Unmarshal([]byte(stdout), &reports); err != nil || status != exitFailed || len(reports) != 1 || reports[0].Failing == 0 {
		t.Fatalf("status %d, error %v\n%s%s", status, err, stdout, stderr)
	}
	f := reports[0].Failures[0]
	name := filepath.Join(dir, fuzz.FileName("gvisor", f.Class))
	if text, err := os.ReadFile(name); err != nil || string(text) != f.Script {
		t.Fatalf("%v\n%s", err, text)
	}
	if !f.Reproduced {
		t.Errorf("%s: the runner does not fail at the script\n%s", f.Class, f.Script)
	}
	if stdout, _, status = fuzzCommand("--target", "gvisor", "--replay", name); status != exitFailed {
		t.Errorf("replay of %s: status %d\n%s", name, status, stdout)
	}
	var classes []string
	for _, f := range reports[0].Failures {
		classes = append(classes, f.Class)
	}
	if _, stderr, status = fuzzCommand("--target", "gvisor", "--cases", "30", "--no-shrink", "--known", strings.Join(classes, ",")); status != exitOK {
		t.Errorf("with all classes known: status %d, %s", status, stderr)
	}
}

func TestFuzzDiff(t *testing.T) {
	t.Parallel()
	stdout, stderr, status := fuzzCommand("--diff", "tcpx,gvisor", "--cases", "12", "--json")
	var r fuzz.DiffReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || status != exitOK || r.Cases != 12 || r.A != "tcpx" || r.B != "gvisor" {
		t.Errorf("status %d, error %v\n%s%s", status, err, stdout, stderr)
	}
}
