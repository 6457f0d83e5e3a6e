//go:build linux

package linux_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
	"github.com/plumbline/plumbline/conformance/target/linux"
	"github.com/plumbline/plumbline/internal/nstest"
)

// tolerance is generous: tests run beside others.
const tolerance = time.Second

// run runs a script on the kernel.
func run(t *testing.T, ip runner.IPVersion, src string) *runner.Result {
	t.Helper()
	if err := linux.Check(); err != nil {
		nstest.Missing(t, "%v", err)
	}
	s, err := script.Parse("test.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return runner.Run(s, linux.Kind(), ip, runner.Options{Tolerance: tolerance})
}

// expect fails the test unless the run ended so.
func expect(t *testing.T, res *runner.Result, want runner.Verdict) {
	t.Helper()
	if res.Verdict == want {
		return
	}
	t.Errorf("%s, want %s: %s", res.Verdict, want, res.Reason)
	for _, e := range res.Trace {
		t.Log(e)
	}
}

func TestAConnection(t *testing.T) {
	for _, ip := range []runner.IPVersion{4, 6} {
		t.Run(ip.String(), func(t *testing.T) {
			expect(t, run(t, ip, `//@ option: early_retrans=0
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0
+0...0.01 accept(3, ..., ...) = 4
  +0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop>
  +0 > S. 0:0(0) ack 1 <...>
+.01 < . 1:1(0) ack 1 win 32792
  +0 setsockopt(4, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) = 0
  +0 write(4, ..., 3000) = 3000
  +0 > P. 1:3001(3000) ack 1
  +0 < . 1:1(0) ack 3001 win 32792
+0...0.01 read(4, ..., 1000) = 100
+.01 < P. 1:101(100) ack 3001 win 32792
  +0 > . 3001:3001(0) ack 101
  +0 poll([{fd=4, events=POLLOUT, revents=POLLOUT}], 1, 0) = 1
  +0 %{ assert tcpi_state == TCP_ESTABLISHED, tcpi_state; assert tcpi_snd_mss == 1000, tcpi_snd_mss }%
  +0 ioctl(4, SIOCINQ, [0]) = 0
  +0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0
  +0 read(4, ..., 1000) = -1 EAGAIN
  +0 close(4) = 0
  +0 > F. 3001:3001(0) ack 101
`), runner.Pass)
		})
	}
}

func TestASocketThatConnects(t *testing.T) {
	expect(t, run(t, 4, `
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0
+0...0.01 connect(3, ..., ...) = 0
  +0 > S 0:0(0) <...>
+.01 < S. 0:0(0) ack 1 win 1000 <mss 1000>
  +0 > . 1:1(0) ack 1
  +0 epoll_create(1) = 9
  +0 epoll_ctl(9, EPOLL_CTL_ADD, 3, {events=EPOLLIN, fd=3}) = 0
+0...0.01 epoll_wait(9, {events=EPOLLIN, fd=3}, 1, 3000) = 1
+.01 < P. 1:11(10) ack 1 win 1000
  +0 > . 1:1(0) ack 11
  +0 recv(3, ..., 100, MSG_PEEK) = 10
  +0 read(3, ..., 100) = 10
  +0 close(3) = 0
  +0 > { R. 1:1(0) ack 11 } or { R 1:1(0) }
`), runner.Pass)
}

func TestAFailureIsOne(t *testing.T) {
	res := run(t, 4, `
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0
  +0 < S 0:0(0) win 32792 <mss 1000>
  +0 > R. 0:0(0) ack 1
`)
	expect(t, res, runner.Fail)
	if res.Retried != "" {
		t.Errorf("what is no matter of time was tried again: %s", res.Retried)
	}
}

func TestASettingIsOfTheNamespace(t *testing.T) {
	before, err := os.ReadFile("/proc/sys/net/ipv4/tcp_sack")
	if err != nil {
		nstest.Missing(t, "%v", err)
	}
	expect(t, run(t, 4, `//@ option: sack=0
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
  +0 connect(3, ..., ...) = -1 EINPROGRESS
  +0 > S 0:0(0) <mss *,TS val * ecr 0,wscale *>
`), runner.Pass)
	after, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_sack")
	if string(before) != string(after) {
		t.Errorf("tcp_sack of the host went from %q to %q", before, after)
	}
	expect(t, run(t, 4, "//@ option: net.ipv4.no_such_thing=1\n0 < S 0:0(0) win 1\n"), runner.Unsupported)
	expect(t, run(t, 4, "//@ option: kernel.panic=1\n0 < S 0:0(0) win 1\n"), runner.Unsupported)
	expect(t, run(t, 4, "//@ option: net.../../kernel.panic=1\n0 < S 0:0(0) win 1\n"), runner.Unsupported)
}

// TestNothingIsLeft opens and closes instances with sockets in them and counts
// the descriptors of the process.
func TestNothingIsLeft(t *testing.T) {
	if err := linux.Check(); err != nil {
		nstest.Missing(t, "%v", err)
	}
	open := func() int {
		names, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before, goroutines := open(), runtime.NumGoroutine()
	for range 5 {
		h, err := linux.Kind().Open(target.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []target.Call{target.Socket{}, target.Socket{IPv6: true}, target.EpollCreate{}} {
			if _, err := h.Syscall(c); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Syscall(target.Read{FD: 1 << 20, Max: 1}); err != nil {
			t.Fatal(err)
		}
		h.Close()
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	for i := 0; runtime.NumGoroutine() > goroutines && i < 1_000_000; i++ {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

func TestUnknownCallsAndFlags(t *testing.T) {
	if err := linux.Check(); err != nil {
		nstest.Missing(t, "%v", err)
	}
	h, err := linux.Kind().Open(target.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Syscall(target.Socket{})
	if err != nil {
		t.Fatal(err)
	}
	res, _ := p.Result()
	fd := target.FD(res.Value)
	for _, c := range []target.Call{
		target.Read{FD: fd, Max: 1, Flags: 1 << 20},
		target.Write{FD: fd, Flags: 1 << 20},
		target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_NO_SUCH", Value: 1},
		target.SetOption{FD: fd, Level: "SOL_SOCKET", Name: "SO_REUSEADDR", Value: 1.5},
	} {
		if _, err := h.Syscall(c); target.IsUnsupported(err) == nil {
			t.Errorf("%v: error %v, want it to be unsupported", c, err)
		}
	}
	if _, err := h.Info(fd + 1000); target.IsUnsupported(err) == nil {
		t.Errorf("TCP_INFO of no socket: error %v", err)
	}
	if err := h.Configure("net.ipv4.tcp_sack", "many"); target.IsUnsupported(err) == nil || !strings.Contains(err.Error(), "tcp_sack") {
		t.Errorf("a wrong value: error %v", err)
	}
	if errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
