package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/internal/proxy"
)

// pattern is a reader of n bytes that do not repeat, always the same ones.
func pattern(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

// sum returns the hash of what r gives.
func sum(r io.Reader) (hash [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	h.Sum(hash[:0])
	return hash, n, err
}

// wantSum returns the hash of pattern(n).
func wantSum(n int64) [sha256.Size]byte {
	sums.Lock()
	defer sums.Unlock()
	if s, ok := sums.of[n]; ok {
		return s
	}
	s, _, _ := sum(pattern(n))
	sums.of[n] = s
	return s
}

// sums remembers what wantSum computed.
var sums = struct {
	sync.Mutex
	of map[int64][sha256.Size]byte
}{of: make(map[int64][sha256.Size]byte)}

// size returns full, or a hundredth of it in short mode.
func size(full int64) int64 {
	if testing.Short() {
		return full / 100
	}
	return full
}

// ping and curl, which fetches 64 MB, reach the netstack over a TAP, and the recording of it makes sense to
// tshark.
func TestKernelCurl(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newLab(t)
		n := size(64 << 20)

		trace := filepath.Join(t.TempDir(), "trace.pcapng")
		p := l.proxy(stack, "--listen", "80", "--to", l.serveHTTP(n), "--pcapng", trace, "--snap-length", "100")
		l.ping(version, 1400)
		l.curl(version, n)
		p.stop()
		out := l.Run(t, "tshark", "-r", trace, "-Y", "tcp.flags.syn == 1", "-T", "fields", "-e", "tcp.srcport", "-e", "frame.packet_flags_direction")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], "80\t") {
			t.Errorf("the recording has these SYNs, want one each way:\n%s", out)
		}
	})
}

// iperf3 runs through the proxy in both directions, and from the host through
// the netstack.
func TestKernelIperf(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newLab(t)
		l.program("Server listening", "iperf3", "--server", "--port", "5201", "--forceflush")
		p := l.proxy(stack, "--listen", "5201", "--to", "127.0.0.1:5201", "--dial", "0="+net.JoinHostPort(kernelIP[version], "5201"))
		host, port, _ := net.SplitHostPort(p.hostAddress())
		n := 256 << 20 // enough for what is lost at the end not to matter
		if testing.Short() {
			n = 64 << 20
		}
		l.iperf(stackIP[version], "5201", n)
		l.iperf(stackIP[version], "5201", n, "--reverse")
		l.iperf(host, port, n)
	})
}

// bulkVariant is a way in which the device or the kernel's side can differ.
type bulkVariant struct {
	name    string
	dev     nstest.TAP
	sysctls map[string]string
	cc      string
	args    []string // of the proxy
}

var bulkVariants = []bulkVariant{
	{name: "default"},
	{name: "reno", cc: "reno"},
	{name: "cubic", cc: "cubic"},
	{name: "bbr", cc: "bbr"},
	{name: "no SACK", sysctls: map[string]string{"net.ipv4.tcp_sack": "0"}},
	{name: "no timestamps", sysctls: map[string]string{"net.ipv4.tcp_timestamps": "0"}},
	{name: "no window scaling", sysctls: map[string]string{"net.ipv4.tcp_window_scaling": "0"}},
	{name: "ECN", sysctls: map[string]string{"net.ipv4.tcp_ecn": "1"}},
	{name: "MTU 576", dev: nstest.TAP{MTU: 576}},
	{name: "MTU 1280", dev: nstest.TAP{MTU: 1280}},
	{name: "MTU 9000", dev: nstest.TAP{MTU: 9000}},
	{name: "MTU 65535 on TUN", dev: nstest.TAP{MTU: 65535, TUN: true}},
	{name: "TUN", dev: nstest.TAP{TUN: true}},
	{name: "two queues", dev: nstest.TAP{MultiQueue: true}, args: []string{"--queues", "2"}},
	{name: "no offload", args: []string{"--no-offload"}},
}

// 100 MB (10 for what only repeats) go each way at once and arrive unaltered, whatever the kernel's side is
// set to, with the netstack as the passive and as the active end.
func TestKernelBulk(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		for _, v := range bulkVariants {
			if version == "IPv6" && v.dev.MTU == 576 || testing.Short() && v.name != "default" && stack != proxy.Transports()[0] {
				continue
			}
			t.Run(v.name, func(t *testing.T) {
				l := newLabWith(t, v.dev)
				for name, value := range v.sysctls {
					l.Sysctl(t, name, value)
				}
				if v.cc != "" {
					allowCongestionControl(t, v.cc)
					l.Sysctl(t, "net.ipv4.tcp_congestion_control", v.cc)
				}
				// The server is on the kernel's end, and on the host's.
				n := size(100e6)
				if v.name != "default" && (version == "IPv6" || stack != proxy.Transports()[0]) {
					n /= 10 // what differs shows soon, and there are many of these
				}
				exchange := func(c *net.TCPConn) error { return exchangePattern(c, n) }
				serve := func(c *net.TCPConn) {
					if err := exchange(c); err != nil {
						t.Errorf("server: %v", err)
					}
				}
				p := l.proxy(stack, slices.Concat(v.args, []string{
					"--listen", "7", "--to", l.serve("", serve),
					"--dial", "0=" + l.serve(kernelIP[version], serve)})...)
				for name, addr := range map[string]string{
					"passive": net.JoinHostPort(stackIP[version], "7"),
					"active":  p.hostAddress(),
				} {
					if err := exchange(l.dial(addr)); err != nil {
						t.Errorf("netstack %s: client: %v", name, err)
					}
				}
			})
		}
	})
}

// exchangePattern sends n bytes, half-closes, and meanwhile receives as many
// until the peer half-closes.
func exchangePattern(c *net.TCPConn, n int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, pattern(n))
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	got, m, err := sum(c)
	if err == nil {
		err = <-sent
	}
	if err != nil {
		return fmt.Errorf("after receiving %d of %d bytes: %w", m, n, err)
	}
	if got != wantSum(n) {
		return fmt.Errorf("%d bytes arrived that are not the %d sent", m, n)
	}
	return nil
}

// allowCongestionControl lets namespaces other than the first use an algorithm.
func allowCongestionControl(t *testing.T, name string) {
	t.Helper()
	read := func(what string) []string {
		b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_" + what + "_congestion_control")
		if err != nil {
			nstest.Missing(t, "congestion control: %v", err)
		}
		return strings.Fields(string(b))
	}
	if !slices.Contains(read("available"), name) {
		// If it is a module, it is there afterwards.
		_ = exec.Command("modprobe", "tcp_"+name).Run()
	}
	allowed := read("allowed")
	if slices.Contains(allowed, name) {
		return
	}
	err := os.WriteFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control", []byte(strings.Join(append(allowed, name), " ")), 0)
	if err != nil {
		nstest.Missing(t, "the kernel does not allow %s: %v", name, err)
	}
}

// A FIN ends one direction; the other goes on, for as long as it likes.
func TestKernelHalfClose(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newLab(t)
		const n = 1 << 20
		// answer waits for the end of the question, and answers only then.
		answer := func(c *net.TCPConn) {
			if got, err := io.ReadAll(c); err != nil || string(got) != "question" {
				t.Errorf("the server read %q, %v", got, err)
			}
			if _, err := io.Copy(c, pattern(n)); err != nil {
				t.Errorf("the server could not answer: %v", err)
			}
		}
		// greet ends its direction first.
		greet := func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "greeting")
			_ = c.CloseWrite()
			got, m, err := sum(c)
			if err != nil || got != wantSum(n) {
				t.Errorf("the server got %d bytes after its own end, %v", m, err)
			}
		}
		p := l.proxy(stack, "--listen", "1", "--to", l.serve("", answer), "--listen", "2", "--to", l.serve("", greet),
			"--dial", "0="+l.serve(kernelIP[version], answer))
		for _, addr := range []string{net.JoinHostPort(stackIP[version], "1"), p.hostAddress()} {
			c := l.dial(addr)
			_, _ = io.WriteString(c, "question")
			_ = c.CloseWrite()
			got, m, err := sum(c)
			if err != nil || got != wantSum(n) {
				t.Errorf("%s: the client got %d bytes after its own end, %v", addr, m, err)
			}
		}
		c := l.dial(net.JoinHostPort(stackIP[version], "2"))
		if got, err := io.ReadAll(c); err != nil || string(got) != "greeting" {
			t.Errorf("the client read %q, %v", got, err)
		}
		if _, err := io.Copy(c, pattern(n)); err != nil {
			t.Errorf("the client could not go on: %v", err)
		}
		_ = c.CloseWrite()
	})
}

// A reset of one side resets the other, and what cannot be connected is
// refused.
func TestKernelReset(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newLab(t)
		// readReset reads until a reset, which it reports.
		resets := make(chan error, 1)
		readReset := func(c *net.TCPConn) {
			_, err := io.Copy(io.Discard, c)
			resets <- err
		}
		// reset resets once the client has sent something.
		reset := func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
			c.Close()
		}
		nobody := l.Listen(t, "tcp", "127.0.0.1:0")
		nobody.Close()
		p := l.proxy(stack,
			"--listen", "1", "--to", l.serve("", readReset),
			"--listen", "2", "--to", l.serve("", reset),
			"--listen", "3", "--to", nobody.Addr().String(),
			"--dial", "0="+net.JoinHostPort(kernelIP[version], "9"))

		c := l.dial(net.JoinHostPort(stackIP[version], "1"))
		_, _ = io.WriteString(c, "x")
		_ = c.SetLinger(0)
		c.Close()
		if err := <-resets; !isReset(err) {
			t.Errorf("the client reset, the server saw %v", err)
		}

		c = l.dial(net.JoinHostPort(stackIP[version], "2"))
		_, _ = io.WriteString(c, "x")
		if _, err := io.Copy(io.Discard, c); !isReset(err) {
			t.Errorf("the server reset, the client saw %v", err)
		}

		if err := l.dialUntilReset(net.JoinHostPort(stackIP[version], "3")); !isReset(err) {
			t.Errorf("the host refused, the client saw %v", err)
		}
		if err := l.dialUntilReset(p.hostAddress()); !isReset(err) {
			t.Errorf("the kernel refused the netstack, the client of the host saw %v", err)
		}

		if _, err := l.Dial("tcp", net.JoinHostPort(stackIP[version], "4"), nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("nobody listens in the netstack, the client saw %v", err)
		}
	})
}

// 1,000 connections are open at once, each with traffic of its own.
func TestKernelManyConnections(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		n := 1000
		if testing.Short() {
			n = 200
		}
		l := newLab(t)
		echo := l.serve("", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
		l.proxy(stack, "--listen", "7", "--to", echo)

		var connected, finished sync.WaitGroup
		connected.Add(n)
		atOnce := make(chan struct{}, 64) // threads that connect
		for i := range n {
			finished.Go(func() {
				atOnce <- struct{}{}
				c, err := l.Dial("tcp", net.JoinHostPort(stackIP[version], "7"), nil)
				<-atOnce
				connected.Done()
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				defer c.Close()
				connected.Wait() // all are open before any is used
				message := bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(i)), 1000)
				if _, err := c.Write(message); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, message) {
					t.Errorf("connection %d: %d bytes came back of %d, %v", i, len(got), len(message), err)
				}
			})
		}
		finished.Wait()
	})
}

// SIGUSR1 prints statistics, SIGINT ends the proxy in order, the end of the
// device ends it with an error.
func TestKernelSignals(t *testing.T) {
	l := newLab(t)
	hold := l.serve("", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	p := l.proxy("gvisor", "--listen", "7", "--to", hold, "--grace", "0s", "--verbose")
	c := l.dial(net.JoinHostPort(stackIP["IPv4"], "7"))
	p.wait(`msg="connection relayed"`)
	_ = p.cmd.Process.Signal(unix.SIGUSR1)
	p.wait(`connections: 1 accepted, 1 active`)
	p.wait(`tap:dev0: `)
	_ = p.cmd.Process.Signal(unix.SIGINT)
	p.wait(`msg=stopping active=1`)
	p.wait(`connections: 1 accepted, 0 active, 0 completed, 1 aborted`)
	<-p.ended
	if p.err != nil {
		t.Errorf("the proxy ended with %v after SIGINT", p.err)
	}
	if _, err := io.Copy(io.Discard, c); !isReset(err) {
		t.Errorf("a connection that was open saw %v, want a reset", err)
	}
}

// A device that does not exist is made, and is gone with the proxy.
func TestKernelDeviceCreated(t *testing.T) {
	l := newLab(t)
	l.link = "tap:other0"
	p := l.proxy("gvisor", "--listen", "7", "--to", l.serve("", func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	link, err := l.Netlink().LinkByName("other0")
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	if _, err := l.Netlink().LinkByIndex(link.Attrs().Index); err == nil {
		t.Error("the device is still there")
	}
}

// The end of the device is an error of one line, not a hang.
func TestKernelDeviceDeleted(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		if version != "IPv4" {
			t.Skip("no packets of any version")
		}
		l := newLab(t)
		p := l.proxy(stack, "--listen", "7", "--to", "127.0.0.1:7")
		l.Run(t, "ip", "link", "delete", "dev0")
		p.wait(`plumbline: proxy: tap: dev0: the device is gone`)
		<-p.ended
		var exit *exec.ExitError
		if !errors.As(p.err, &exit) || exit.ExitCode() != exitFailed {
			t.Errorf("the proxy ended with %v, want status %d", p.err, exitFailed)
		}
	})
}
