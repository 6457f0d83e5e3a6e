package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/internal/nstest"
)

// --compare-linux runs both stacks and says what it makes of them.
func TestBenchCCCompareLinux(t *testing.T) {
	nstest.New(t) // or the test is skipped
	name := filepath.Join(t.TempDir(), "cc.yaml")
	text := "scenarios:\n- name: short\n  duration: 600ms\n  forward: {rate: 4Mbit/s, delay: 5ms}\n  reverse: {delay: 5ms}\n  flows: [{}]\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := command(t, "bench", "cc", "--compare-linux", "--file", name, "--cc", "reno", "--rounds", "1")
	// So short a run decides nothing.
	differs := strings.Contains(stdout, "outside of 10%") || strings.Contains(stdout, "not trusted")
	if want := map[bool]int{false: exitOK, true: exitFailed}[differs]; status != want || differs != strings.Contains(stderr, "1 of 1 comparisons do not hold") {
		t.Errorf("status %d, want %d: %s", status, want, stderr)
	}
	for _, want := range []string{"tcpx", "linux", "late p99", "verdict"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}
