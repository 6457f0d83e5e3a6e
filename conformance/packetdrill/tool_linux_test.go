package packetdrill

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target/linux"
	"github.com/plumbline/plumbline/internal/nstest"
)

// program writes a program that stands in for packetdrill, next to a script.
func program(t *testing.T, text string) *Tool {
	t.Helper()
	if err := linux.Check(); err != nil {
		nstest.Missing(t, "%v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Tool{Path: path, Dir: dir}
}

// TestRunOfTheTool runs a program that tells how it was started.
func TestRunOfTheTool(t *testing.T) {
	tool := program(t, `
[ "$(ls /sys/class/net 2>/dev/null | wc -l)" -ge 1 ] || exit 9
echo "s.pkt:7: timing error: $(basename "$PWD") $*"
exit 1
`)
	if err := tool.Check(); err != nil {
		t.Fatal(err)
	}
	o := tool.Run(t.Context(), "sub/s.pkt", 6)
	if o.Verdict != runner.Fail || !o.Timing || !strings.HasPrefix(o.Message, "s.pkt:7: timing error: sub ") {
		t.Fatalf("%+v", o)
	}
	args := strings.Fields(o.Message)
	for _, want := range []string{"--ip_version=ipv6", "--remote_ip=" + runner.CorpusAddrs().Remote6.String(), "--mtu=1520", "CODE=address_unreachable"} {
		if !slices.Contains(args, want) {
			t.Errorf("%s is not among %q", want, args)
		}
	}
	if args[len(args)-1] != "s.pkt" {
		t.Errorf("the last argument is %q", args[len(args)-1])
	}
}

func TestVerdictsOfTheTool(t *testing.T) {
	if o := program(t, "exit 0\n").Run(t.Context(), "sub/s.pkt", 4); o.Verdict != runner.Pass || o.Message != "" {
		t.Errorf("a success is %+v", o)
	}
	if o := program(t, "echo s.pkt:1: wrong; exit 1\n").Run(t.Context(), "sub/s.pkt", 4); o.Verdict != runner.Fail || o.Timing {
		t.Errorf("a failure is %+v", o)
	}
	slow := program(t, "exec sleep 60\n")
	slow.Patience = 20 * time.Millisecond
	if o := slow.Run(t.Context(), "sub/s.pkt", 4); o.Verdict != runner.Fail || !o.Timing {
		t.Errorf("a program that does not end is %+v", o)
	}
}
