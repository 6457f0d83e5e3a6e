package capture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
)

// newRotation makes a capture of a raw link to files at path.
func newRotation(t *testing.T, path string, files Files) *link {
	t.Helper()
	files.Path = path
	l := &link{channel: channel.New(4, 65535, ours), clock: faketime.NewManualClock()}
	ep, err := NewFiles(l.channel, files, Options{Name: "test0", Clock: l.clock})
	if err != nil {
		t.Fatal(err)
	}
	l.Endpoint = ep
	t.Cleanup(func() {
		ep.Close()
		ep.Wait()
	})
	ep.Attach(nobody{})
	return l
}

// end completes the capture and returns its files, by name.
func (l *link) end(t *testing.T, dir string) (names []string) {
	t.Helper()
	l.Close()
	l.Wait()
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A file ends before it gets too long or too old, the oldest are removed, and no
// packet is lost in between.
func TestRotation(t *testing.T) {
	const size = 1200 // three packets of 240 bytes in blocks of 284, and the rest
	for _, tt := range []struct {
		name  string
		files Files
		gaps  []time.Duration // before each packet
		want  []string        // the packets in each file that is left
	}{
		{"one file", Files{Size: 1 << 20}, make([]time.Duration, 7), []string{"0123456"}},
		{"by size", Files{Size: size}, make([]time.Duration, 7), []string{"012", "345", "6"}},
		{"smaller than a packet", Files{Size: 1}, make([]time.Duration, 3), []string{"0", "1", "2"}},
		{"by time", Files{Interval: time.Second},
			[]time.Duration{5 * time.Second, 0, 999 * time.Millisecond, time.Millisecond, 999 * time.Millisecond, 9 * time.Second}, []string{"012", "34", "5"}},
		{"by both", Files{Size: size, Interval: time.Second},
			[]time.Duration{0, time.Second, 0, 0, 0}, []string{"0", "123", "4"}},
		{"the last two", Files{Size: size, Count: 2}, make([]time.Duration, 10), []string{"678", "9"}},
		{"the last one", Files{Size: size, Count: 1}, make([]time.Duration, 4), []string{"3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			l := newRotation(t, filepath.Join(dir, "trace.pcapng"), tt.files)
			for i, gap := range tt.gaps {
				l.clock.Advance(gap)
				l.receive(packet(2, byte(i), 200))
			}
			var got []string
			for i, name := range l.end(t, dir) {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if tt.files.Size > 1 && int64(len(b)) > tt.files.Size {
					t.Errorf("%s has %d bytes, want at most %d", name, len(b), tt.files.Size)
				}
				_, data, r := read(t, b)
				var packets strings.Builder
				for _, d := range data {
					packets.WriteByte('0' + d[19]) // the last byte of the destination
				}
				got = append(got, packets.String())
				// What is received and dropped counts from the beginning of the capture.
				iface, err := r.Interface(0)
				if err != nil {
					t.Fatal(err)
				}
				last := tt.want[i][len(tt.want[i])-1] - '0'
				if iface.Statistics.PacketsReceived != uint64(last)+1 || iface.Statistics.PacketsDropped != 0 {
					t.Errorf("%s: %+v, want %d packets", name, iface.Statistics, last+1)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("packets %q, want %q", got, tt.want)
			}
		})
	}
}

// Another capture goes on with the numbers and counts the files that it finds;
// others are left alone.
func TestRotationGoesOn(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"t.000009.pcapng", "t.000012.pcapng", "t.13.pcapng", "t.000014.pcap", "u.000015.pcapng", "t.pcapng"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := newRotation(t, filepath.Join(dir, "t.pcapng"), Files{Size: 1, Count: 3})
	l.receive(packet(2, 1, 10))
	l.receive(packet(2, 1, 10))
	want := []string{"t.000012.pcapng", "t.000013.pcapng", "t.000014.pcap", "t.000014.pcapng", "t.13.pcapng", "t.pcapng", "u.000015.pcapng"}
	if got := l.end(t, dir); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

// What is wrong is said before anything is recorded, and a file that cannot be
// made later ends the recording but not the link.
func TestRotationErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.pcapng")
	missing := filepath.Join(dir, "missing")
	for _, tt := range []struct {
		files Files
		want  string
	}{
		{Files{Size: 1}, "capture: no path for the files"},
		{Files{Path: path}, "capture: neither a size nor an interval ends a file"},
		{Files{Path: path, Size: -1}, "capture: files of -1 bytes"},
		{Files{Path: path, Interval: -time.Second}, "capture: files of -1s"},
		{Files{Path: path, Size: 1, Count: -2}, "capture: -2 files to be kept"},
		{Files{Path: filepath.Join(missing, "t.pcapng"), Size: 1}, "capture: open " + missing + "/: no such file or directory"},
	} {
		ep, err := NewFiles(channel.New(4, 1500, ours), tt.files, Options{})
		if err == nil {
			ep.Close()
			ep.Wait()
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("%+v: error %v, want %s", tt.files, err, tt.want)
		}
	}
	l := newRotation(t, path, Files{Size: 1})
	l.receive(packet(2, 1, 10))
	// Nobody made it for the capture.
	if err := os.WriteFile(filepath.Join(dir, "t.000002.pcapng"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.receive(packet(2, 1, 10))
	if err := l.Flush(); err == nil || !strings.Contains(err.Error(), "t.000002.pcapng: file exists") {
		t.Errorf("error %v, want that the file exists", err)
	}
	if n, err := l.send(packet(1, 2, 10)); n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v without a file, want 1", n, err)
	}
}
