package main

import (
	"strings"
	"testing"
)

// Wrong flags are told in one line, with status 2, before anything is measured.
func TestBenchLinkUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--only", "nosuch"}, `--only "nosuch"`},
		{[]string{"--quantity", "speed"}, `--quantity "speed"`},
		{[]string{"--rounds", "0"}, "--rounds 0"},
		{[]string{"--time", "1us"}, "--time 1µs"},
		{[]string{"--time", "2m"}, "--time 2m0s"},
		{[]string{"--json", "/nosuch/file"}, "/nosuch/file"},
	} {
		var stdout, stderr strings.Builder
		if status := run(t.Context(), append([]string{"bench", "link"}, tt.args...), &stdout, &stderr); status != exitUsage {
			t.Errorf("%v: status %d", tt.args, status)
		}
		if s := stderr.String(); !strings.Contains(s, tt.want) || strings.Count(s, "\n") != 1 || stdout.Len() != 0 {
			t.Errorf("%v: %q, want a line with %q", tt.args, s, tt.want)
		}
	}
}
