package main

import (
	"net"
	"net/netip"
	"testing"
)

func TestParseListen(t *testing.T) {
	for _, tt := range []struct {
		in, want string // want "" for an error
	}{
		{"80", "invalid AddrPort"},
		{"0", "invalid AddrPort"},
		{"10.9.0.2:80", "10.9.0.2:80"},
		{"[fd09::2]:80", "[fd09::2]:80"},
		{"", ""}, {"-1", ""}, {"65536", ""}, {"http", ""}, {":80", ""}, {"localhost:80", ""}, {"fd09::2:80", ""},
	} {
		got, err := parseListen(tt.in)
		if (err == nil) != (tt.want != "") || (err == nil && got.String() != tt.want) {
			t.Errorf("parseListen(%q) = %v, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestParseDial(t *testing.T) {
	for _, tt := range []struct {
		in, listen, to string // listen "" for an error
	}{
		{"2222=10.9.0.1:22", "127.0.0.1:2222", "10.9.0.1:22"},
		{"0=10.9.0.1:22", "127.0.0.1:0", "10.9.0.1:22"},
		{"0.0.0.0:2222=10.9.0.1:22", "0.0.0.0:2222", "10.9.0.1:22"},
		{"[::1]:2222=[fd09::1]:22", "[::1]:2222", "[fd09::1]:22"},
		{":2222=10.9.0.1:22", ":2222", "10.9.0.1:22"},
		{"", "", ""}, {"2222", "", ""}, {"=", "", ""}, {"2222=", "", ""}, {"=10.9.0.1:22", "", ""},
		{"2222=10.9.0.1", "", ""}, {"2222=host:22", "", ""}, {"ssh=10.9.0.1:22", "", ""},
		{"2222=[fe80::1%tap0]:22", "", ""}, {"::1:2222=10.9.0.1:22", "", ""},
	} {
		got, err := parseDial(tt.in)
		if (err == nil) != (tt.listen != "") || (err == nil && (got.Listen != tt.listen || got.To.String() != tt.to)) {
			t.Errorf("parseDial(%q) = %+v, %v; want %q to %q", tt.in, got, err, tt.listen, tt.to)
		}
	}
}

// Whatever the parsers of rules let pass can be used.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"80", "10.9.0.2:80", "[fd09::2]:80", "2222=10.9.0.1:22", "[::1]:2222=[fd09::1]:22", "host:80", "=:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ap, err := parseListen(s); err == nil && ap.Addr() != (netip.Addr{}) && !ap.IsValid() {
			t.Errorf("parseListen(%q) = %v", s, ap)
		}
		if checkHostPort(s) == nil {
			if _, _, err := net.SplitHostPort(s); err != nil {
				t.Errorf("checkHostPort(%q) passed: %v", s, err)
			}
		}
		if r, err := parseDial(s); err == nil {
			if _, _, err := net.SplitHostPort(r.Listen); err != nil || !r.To.IsValid() {
				t.Errorf("parseDial(%q) = %+v", s, r)
			}
		}
	})
}
