package runner_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
)

func TestCommandsBecomeSettings(t *testing.T) {
	files := map[string]string{
		"../common/defaults.sh": `#!/bin/bash
# A comment.
ip tcp_metrics flush all > /dev/null 2>&1
sysctl -q net.ipv4.tcp_rmem="4096 540000 $((15*1024*1024))"
sysctl -q net.ipv4.tcp_sack=1 net.ipv4.tcp_dsack=0   # both
sysctl -q net.ipv4.tcp_unknown=1 > /dev/null 2>&1
tc qdisc add dev tun0 root pfifo
`,
	}
	f := &fake{}
	src := "//@ option: reordering=5\n" +
		"`../common/defaults.sh\nsysctl -q net.ipv4.tcp_frto=0\n../common/set_sysctls.py /proc/sys/net/ipv4/tcp_timestamps=0`\n" +
		"0 `sysctl -q net.ipv4.tcp_ecn=2; true`\n"
	res := runFake(t, f, src, runner.Options{ReadFile: func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such file")
	}})
	if res.Verdict != runner.Pass {
		t.Fatalf("%s: %s", res.Verdict, res.Reason)
	}
	want := map[string]string{
		"net.ipv4.tcp_reordering": "5",
		"net.ipv4.tcp_rmem":       "4096 540000 15728640",
		"net.ipv4.tcp_sack":       "1",
		"net.ipv4.tcp_dsack":      "0",
		"net.ipv4.tcp_frto":       "0",
		"net.ipv4.tcp_timestamps": "0",
		"net.ipv4.tcp_ecn":        "2",
	}
	if !maps.Equal(f.settings, want) {
		t.Errorf("settings = %v, want %v", f.settings, want)
	}
	// What a profile asks for in vain is noted; a script that asks for it
	// itself is unsupported.
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "tcp_unknown") {
		t.Errorf("notes = %v", res.Notes)
	}
}

func TestCommandsThatAreNotUnderstood(t *testing.T) {
	for _, cmd := range []string{
		"tc qdisc replace dev tun0 root fq", "ethtool --reset tun0", "sysctl -q net.ipv4.tcp_sack", `sysctl -q net.ipv4.tcp_sack="1`, "sysctl a=$((1+1))",
		"sysctl a=$((99999*99999*99999*99999))", "sysctl a=$((1", "rm -rf /", "./missing.sh",
	} {
		res := runFake(t, &fake{}, "`"+cmd+"`\n0 %{ assert 1 }%\n", runner.Options{
			ReadFile: func(string) ([]byte, error) { return nil, errors.New("no such file") },
		})
		if res.Verdict != runner.Unsupported {
			t.Errorf("%q: %s %s, want unsupported", cmd, res.Verdict, res.Reason)
		}
	}
}

func TestSourcedFileIsBounded(t *testing.T) {
	res := runFake(t, &fake{}, "`./big.sh`\n0 %{ assert 1 }%\n", runner.Options{
		ReadFile: func(string) ([]byte, error) { return make([]byte, 2<<20), nil },
	})
	if res.Verdict != runner.Unsupported || !strings.Contains(res.Reason, "larger") {
		t.Errorf("%s: %s", res.Verdict, res.Reason)
	}
}
