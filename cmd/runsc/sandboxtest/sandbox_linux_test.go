package sandboxtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/plumbline/plumbline/internal/nstest"
)

// boxAddress and peerAddress are the ends of the link between a sandbox and the kernel.
const (
	boxAddress  = "10.77.0.2"
	peerAddress = "10.77.0.1"
)

// runsc returns the binary to be tested.
func runsc(t *testing.T) string {
	t.Helper()
	name := os.Getenv("PLUMBLINE_RUNSC")
	if name == "" {
		t.Skip("PLUMBLINE_RUNSC names no runsc: build it and set the variable to its path")
	}
	name, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// lab is a namespace for the sandbox, which takes its devices and addresses over, and one for its peer.
type lab struct {
	box, peer *nstest.Namespace
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{box: nstest.New(t), peer: nstest.New(t)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := l.box.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "box0"}); err != nil {
		t.Fatal(err)
	}
	far, err := l.box.Netlink().LinkByName("box0")
	if err != nil {
		t.Fatal(err)
	}
	var file *os.File
	l.peer.Do(func() { file, err = os.Open("/proc/thread-self/ns/net") })
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := l.box.Netlink().LinkSetNsFd(far, int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		ns            *nstest.Namespace
		name, address string
	}{{l.box, "eth0", boxAddress}, {l.peer, "box0", peerAddress}} {
		link, err := end.ns.Netlink().LinkByName(end.name)
		if err != nil {
			t.Fatal(err)
		}
		end.ns.AddAddr(t, link, end.address+"/24")
		end.ns.SetUp(t, link)
	}
	return l
}

// run runs a program in a sandbox that sees the files of this machine, and returns what it prints.
func (l *lab) run(t *testing.T, args ...string) string {
	t.Helper()
	bundle, name := t.TempDir(), fmt.Sprintf("box-%d-%d", os.Getpid(), rand.Uint32())
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.0",
		"process": map[string]any{
			"args": args, "cwd": "/", "env": []string{"PATH=/usr/bin:/bin"}, "user": map[string]any{"uid": 0, "gid": 0},
		},
		"root":   map[string]any{"path": "/", "readonly": true},
		"mounts": []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}},
		// No network namespace is named: the sandbox gets the devices of the one it is started in.
		"linux": map[string]any{"namespaces": []map[string]any{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, runsc(t), "--root", t.TempDir(), "--network=sandbox", "--ignore-cgroups", "--overlay2=none", "run", "--bundle", bundle, name)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.box.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// serve serves HTTP at the peer and returns its URL.
func (l *lab) serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	listener := l.peer.Listen(t, "tcp", net.JoinHostPort(peerAddress, "0"))
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return "http://" + listener.Addr().String() + "/"
}

const transferSize = 8 << 20

func TestSandboxDownloads(t *testing.T) {
	runsc(t)
	nstest.Program(t, "curl")
	data := make([]byte, transferSize)
	rand.NewChaCha8([32]byte{}).Read(data) // never fails
	sum := sha256.Sum256(data)
	l := newLab(t)
	url := l.serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	if got := l.run(t, "/bin/sh", "-c", "curl -sS "+url+" | sha256sum"); !strings.HasPrefix(got, hex.EncodeToString(sum[:])) {
		t.Errorf("the sandbox got something else: %s", got)
	}
}

func TestSandboxUploads(t *testing.T) {
	runsc(t)
	nstest.Program(t, "curl")
	l := newLab(t)
	url := l.serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintln(w, n, err, hex.EncodeToString(h.Sum(nil)))
	})
	script := fmt.Sprintf("head -c %d /dev/urandom >/tmp/data && sha256sum </tmp/data && curl -sS -T /tmp/data %s", transferSize, url)
	got := strings.Fields(l.run(t, "/bin/sh", "-c", script)) // sum, "-", size, error, sum
	if len(got) != 5 || got[2] != fmt.Sprint(transferSize) || got[3] != "<nil>" || got[0] != got[4] {
		t.Errorf("the peer got something else: %q", got)
	}
}

// TestSandboxHasOurTCP: netstack's own TCP knows no BBR.
func TestSandboxHasOurTCP(t *testing.T) {
	runsc(t)
	iperf := nstest.Program(t, "iperf3")
	l := newLab(t)
	server := exec.CommandContext(t.Context(), iperf, "--server", "--one-off", "--bind", peerAddress, "--forceflush")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.peer.Start(server); err != nil {
		t.Fatal(err)
	}
	// Its first output says that it listens.
	if _, err := out.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(io.Discard, out) }()
	got := l.run(t, iperf, "--client", peerAddress, "--congestion", "bbr", "--bytes", "4M", "--json")
	<-done
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
	var report struct {
		End struct {
			SumReceived struct{ Bytes int64 } `json:"sum_received"`
			Sender      string                `json:"sender_tcp_congestion"`
		}
	}
	if err := json.Unmarshal([]byte(got), &report); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if report.End.Sender != "bbr" || report.End.SumReceived.Bytes < 4_000_000 {
		t.Errorf("got %+v\n%s", report.End, got)
	}
}
