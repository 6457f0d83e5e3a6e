package capture

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/internal/nstest"
)

// tcpdump and tshark read the files, with and without link headers, and agree on
// times, directions and lengths.
func TestPrograms(t *testing.T) {
	run := func(t *testing.T, name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), nstest.Program(t, name), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for _, ether := range []bool{true, false} {
		name, l2, encap := "raw", 0, "7"
		if ether {
			name, l2, encap = "ethernet", 14, "1"
		}
		t.Run("tcpdump/"+name, func(t *testing.T) {
			path := writeTrace(t, ether)
			out := run(t, "tcpdump", "-r", path, "--nano", "-tt", "-n", "-vv")
			for _, want := range []string{
				"1234567890.123456789 ",
				"192.0.2.2.1000 > 192.0.2.1.2000", "(correct)", "length 100",
				"192.0.2.1.1000 > 192.0.2.2.2000", "length 20000",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("tcpdump does not say %q:\n%s", want, out)
				}
			}
		})
		t.Run("tshark/"+name, func(t *testing.T) {
			path := writeTrace(t, ether)
			out := run(t, "tshark", "-r", path, "-T", "fields", "-E", "separator= ",
				"-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len", "-e", "frame.packet_flags_direction",
				"-e", "frame.encap_type", "-e", "frame.interface_name", "-e", "ip.src", "-e", "tcp.len")
			lines := strings.Split(strings.TrimSpace(out), "\n")
			for len(lines) > 2 {
				lines = lines[1:] // tshark complains about running as root
			}
			want := []string{
				strings.Join([]string{"1234567890.123456789", strconv.Itoa(140 + l2), strconv.Itoa(140 + l2), "0x00000001", encap, "test0", "192.0.2.2", "100"}, " "),
				strings.Join([]string{"1234567890.123456789", strconv.Itoa(20040 + l2), strconv.Itoa(20040 + l2), "0x00000002", encap, "test0", "192.0.2.1", "20000"}, " "),
			}
			for i := range want {
				if i >= len(lines) || lines[i] != want[i] {
					t.Errorf("tshark, packet %d:\n got %q\nwant %q", i+1, lines[min(i, len(lines)-1)], want[i])
				}
			}
		})
	}
}

// tcpdump and tshark read every file of a row.
func TestProgramsReadRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newRotation(t, filepath.Join(dir, "trace.pcapng"), Files{Size: 1200})
	for i := range 5 {
		l.receive(packet(2, byte(100+i), 200))
	}
	names := l.end(t, dir)
	if len(names) != 2 {
		t.Fatalf("files %q, want 2", names)
	}
	for i, name := range names {
		want := 3 - i
		for _, args := range [][]string{{"tcpdump", "-n", "-r"}, {"tshark", "-n", "-r"}} {
			args = append(args, filepath.Join(dir, name))
			cmd := exec.CommandContext(t.Context(), nstest.Program(t, args[0]), args[1:]...)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%s: %v", strings.Join(args, " "), err)
			}
			if got := strings.Count(string(out), "192.0.2.10"); got != want {
				t.Errorf("%s shows %d packets, want %d:\n%s", strings.Join(args, " "), got, want, out)
			}
		}
	}
}
