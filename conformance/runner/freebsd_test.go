package runner_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target"
)

// TestSettingsOfFreeBSD applies settings by the names of FreeBSD, one script for
// each.
func TestSettingsOfFreeBSD(t *testing.T) {
	for _, tc := range []struct {
		setting string
		want    map[string]string
	}{
		{"net.inet.tcp.rfc1323=0", map[string]string{"net.ipv4.tcp_window_scaling": "0", "net.ipv4.tcp_timestamps": "0"}},
		{"net.inet.tcp.sack.enable=0", map[string]string{"net.ipv4.tcp_sack": "0"}},
		{"net.inet.tcp.keepidle=15000", map[string]string{"net.ipv4.tcp_keepalive_time": "15"}},
		{"net.inet.tcp.recvspace=65536", map[string]string{"net.ipv4.tcp_rmem": "4096 131072 4194304"}},
		{"net.inet.tcp.drop_synfin=0", nil},
	} {
		f := &fake{}
		res := runFake(t, f, "0 `sysctl -w "+tc.setting+"`\n", runner.Options{})
		if res.Verdict != runner.Pass || !maps.Equal(f.settings, tc.want) {
			t.Errorf("%s: %s %s, settings %v, want %v", tc.setting, res.Verdict, res.Reason, f.settings, tc.want)
		}
	}
	for _, setting := range []string{
		"net.inet.tcp.drop_synfin=1", "net.inet.tcp.keepidle=1500", "net.inet.tcp.keepidle=soon",
		"net.inet.tcp.recvspace=1", "net.inet.tcp.recvspace=99999999",
	} {
		res := runFake(t, &fake{}, "0 `sysctl -w "+setting+"`\n", runner.Options{})
		if res.Verdict != runner.Unsupported || !strings.Contains(res.Reason, setting) {
			t.Errorf("%s: %s %q, want unsupported", setting, res.Verdict, res.Reason)
		}
	}
}

// TestSockstat counts sockets on a target whose sockets are all in TIME-WAIT,
// as fake.Info tells.
func TestSockstat(t *testing.T) {
	const socket = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
	for _, tc := range []struct {
		command string
		want    runner.Verdict
	}{
		{"sockstat -4 -P tcp -s | grep packetdril | grep -c TIME_WAIT | grep 1", runner.Pass},
		{"sockstat -6 -P tcp -s | grep packetdril | grep -c TIME_WAIT | grep 2", runner.Fail},
		{"sockstat -4 -P tcp -s | grep packetdril | grep -c CLOSE_WAIT | grep 0", runner.Pass},
		{"sockstat -4 -P tcp -s -p 8080 | grep -c SYN_RCVD | grep 1", runner.Unsupported},
		{"sockstat -4 -P tcp -s | grep packetdril | grep -c TIME_WAIT | grep many", runner.Unsupported},
		{"sockstat -4", runner.Unsupported},
		{"other | grep -c TIME_WAIT | grep 1", runner.Unsupported},
	} {
		res := runFake(t, &fake{state: 6}, socket+"+0 `"+tc.command+"`\n", runner.Options{})
		if res.Verdict != tc.want {
			t.Errorf("%s: %s %s, want %s", tc.command, res.Verdict, res.Reason, tc.want)
		}
	}
}

// TestDefaultsOfFreeBSD: a script with settings of FreeBSD has its MTU for IPv6,
// and its sockets delay their first ACKs; any other is for Linux.
func TestDefaultsOfFreeBSD(t *testing.T) {
	const socket = "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
	for _, tc := range []struct {
		name, script string
		mtu          int
		delayed      bool
	}{
		{"FreeBSD", "0 `sysctl -w net.inet.tcp.sack.enable=1`\n" + socket, 1500, true},
		{"before the first event", "`sysctl -w net.inet.tcp.sack.enable=1`\n" + socket, 1500, true},
		{"Linux", "0 `sysctl -w net.ipv4.tcp_sack=1`\n" + socket, 1520, false},
		{"an MTU by command", "`sysctl -q net.ipv4.tcp_sack=1\nip link set dev tun0 mtu 9000`\n" + socket, 9000, false},
	} {
		f := &fake{}
		res := runner.Run(parse(t, tc.script), f.kind(), 6, runner.Options{})
		if res.Verdict != runner.Pass || f.config.MTU != tc.mtu {
			t.Errorf("%s: %s %q, MTU %d, want %d", tc.name, res.Verdict, res.Reason, f.config.MTU, tc.mtu)
		}
		delayed := slices.Contains(f.options, target.SetOption{FD: 30, Level: "IPPROTO_TCP", Name: "TCP_QUICKACK", Value: 0})
		if delayed != tc.delayed {
			t.Errorf("%s: first ACKs delayed: %v", tc.name, delayed)
		}
	}
	for _, command := range []string{"ip link set dev tun0 mtu 20", "ip link set dev tun0 mtu much", "ip link set dev tun0 down"} {
		if res := runFake(t, &fake{}, "`"+command+"`\n"+socket, runner.Options{}); res.Verdict != runner.Unsupported {
			t.Errorf("%s: %s", command, res.Verdict)
		}
	}
}
