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
	"golang.org/x/sys/unix"

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
	// boxFile is the sandbox's namespace as a file, by which runsc finds it.
	boxFile *os.File
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{box: nstest.New(t), peer: nstest.New(t)}
	l.boxFile = open(t, l.box)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := l.box.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "box0"}); err != nil {
		t.Fatal(err)
	}
	far, err := l.box.Netlink().LinkByName("box0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.box.Netlink().LinkSetNsFd(far, int(open(t, l.peer).Fd())); err != nil {
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

// open returns the namespace as a file, which lives until t ends.
func open(t *testing.T, ns *nstest.Namespace) (f *os.File) {
	t.Helper()
	var err error
	ns.Do(func() { f, err = os.Open("/proc/thread-self/ns/net") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// box is one sandbox, which sees the files of this machine.
type box struct {
	t                  *testing.T
	bundle, root, name string
}

// newBox describes a sandbox that runs a program.
func (l *lab) newBox(t *testing.T, args ...string) *box {
	t.Helper()
	b := &box{t: t, bundle: t.TempDir(), root: t.TempDir(), name: fmt.Sprintf("box-%d-%d", os.Getpid(), rand.Uint32())}
	// runsc leaves an empty namespace mounted there.
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(b.root, "null-netns"), unix.MNT_DETACH) })
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.0",
		"process": map[string]any{
			"args": args, "cwd": "/", "env": []string{"PATH=/usr/bin:/bin"}, "user": map[string]any{"uid": 0, "gid": 0},
		},
		"root":   map[string]any{"path": "/", "readonly": true},
		"mounts": []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}},
		"linux": map[string]any{"namespaces": []map[string]any{
			{"type": "network", "path": fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.boxFile.Fd())},
			{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// command is runsc with a command of its own; it has five minutes.
func (b *box) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	b.t.Cleanup(cancel)
	return exec.CommandContext(ctx, runsc(b.t), append([]string{"--root", b.root, "--network=sandbox", "--ignore-cgroups", "--overlay2=none"}, args...)...)
}

// do is command run to its end. What it prints goes to a file and not through a pipe, which a sandbox that stays would keep open.
func (b *box) do(args ...string) {
	b.t.Helper()
	out, err := os.Create(filepath.Join(b.t.TempDir(), "out"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd := b.command(args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		b.t.Fatalf("runsc %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// run runs a program in a sandbox and returns what it prints.
func (l *lab) run(t *testing.T, args ...string) string {
	t.Helper()
	b := l.newBox(t, args...)
	cmd := b.command("run", "--bundle", b.bundle, b.name)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
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
	// A client that has sent enough resets, so that the end may be lost.
	if report.End.Sender != "bbr" || report.End.SumReceived.Bytes == 0 {
		t.Errorf("got %+v\n%s", report.End, got)
	}
}

// TestSandboxCheckpoint: a server goes on to listen in a copy of its sandbox.
func TestSandboxCheckpoint(t *testing.T) {
	runsc(t)
	iperf := nstest.Program(t, "iperf3")
	l := newLab(t)
	b := l.newBox(t, iperf, "--server", "--forceflush")
	server := b.command("run", "--bundle", b.bundle, b.name)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	// Its first output says that it listens.
	if _, err := out.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(io.Discard, out) }()
	send := func() { l.peer.Run(t, iperf, "--client", boxAddress, "--bytes", "4M") }
	send()

	image := t.TempDir()
	b.do("checkpoint", "--image-path", image, b.name)
	<-done
	_ = server.Wait() // the checkpoint has killed it
	b.do("delete", "--force", b.name)

	// The first sandbox took the address from the device.
	eth, err := l.box.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	l.box.AddAddr(t, eth, boxAddress+"/24")
	b.do("restore", "--detach", "--image-path", image, "--bundle", b.bundle, b.name+"-copy")
	defer b.do("delete", "--force", b.name+"-copy")
	send()
}
