package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/internal/proxy"
)

// patience is when a test gives up on something that has to happen.
const patience = 60 * time.Second

// The addresses of the two ends of the device in every lab, by IP version.
var (
	kernelIP = map[string]string{"IPv4": "10.9.0.1", "IPv6": "fd09::1"}
	stackIP  = map[string]string{"IPv4": "10.9.0.2", "IPv6": "fd09::2"}
)

// eachStack runs f for each TCP implementation and IP version.
func eachStack(t *testing.T, f func(t *testing.T, stack, version string)) {
	for _, stack := range proxy.Transports() {
		for _, version := range []string{"IPv4", "IPv6"} {
			t.Run(stack+"/"+version, func(t *testing.T) { f(t, stack, version) })
		}
	}
}

// lab is a namespace with a device: one end has the kernel's addresses, the
// other is for the proxy.
type lab struct {
	*nstest.Namespace
	t      *testing.T
	link   string // for --link
	device netlink.Link
}

// newLab makes a lab with a TAP device of MTU 1500.
func newLab(t *testing.T) *lab {
	t.Helper()
	return newLabWith(t, nstest.TAP{})
}

// newLabWith makes a lab whose device differs from the usual one.
func newLabWith(t *testing.T, dev nstest.TAP) *lab {
	t.Helper()
	l := &lab{Namespace: nstest.New(t), t: t, link: "tap:dev0"}
	if dev.TUN {
		l.link = "tun:dev0"
	}
	dev.Name = "dev0"
	dev.Addrs = []string{kernelIP["IPv4"] + "/24", kernelIP["IPv6"] + "/64"}
	if dev.MTU != 0 && dev.MTU < 1280 {
		dev.Addrs = dev.Addrs[:1] // too small for IPv6 (RFC 8200, §5)
	}
	l.device = l.AddTAP(t, dev)
	return l
}

// running is a `plumbline proxy` in a lab.
type running struct {
	t   *testing.T
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced when lines grew
	ended chan struct{} // closed when the process has ended and lines is complete
	err   error         // of the process, valid once ended
}

// proxy starts a proxy that runs until the test ends.
func (l *lab) proxy(stack string, args ...string) *running {
	l.t.Helper()
	args = append([]string{"proxy", "--link", l.link, "--stack", stack, "--address", stackIP["IPv4"] + "/24", "--address", stackIP["IPv6"] + "/64"}, args...)
	r := &running{t: l.t, cmd: exec.Command("plumbline", args...), more: make(chan struct{}), ended: make(chan struct{})}
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.Start(r.cmd); err != nil {
		l.t.Fatal(err)
	}
	go r.follow(stderr)
	l.t.Cleanup(r.stop)
	r.wait("msg=running")
	l.SetUp(l.t, l.device)
	return r
}

// follow collects what the process writes, and its end.
func (r *running) follow(stderr io.Reader) {
	for s := bufio.NewScanner(stderr); s.Scan(); {
		r.mu.Lock()
		r.lines = append(r.lines, s.Text())
		close(r.more)
		r.more = make(chan struct{})
		r.mu.Unlock()
	}
	r.err = r.cmd.Wait()
	close(r.ended)
}

// output returns what the process wrote so far, and a channel that is closed
// when there is more.
func (r *running) output() (string, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n"), r.more
}

// wait waits for a line that matches and returns its submatches.
func (r *running) wait(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		out, more := r.output()
		if m := re.FindStringSubmatch(out); m != nil {
			return m
		}
		select {
		case <-more:
		case <-r.ended:
			if out, _ := r.output(); re.MatchString(out) {
				return re.FindStringSubmatch(out)
			}
			r.t.Fatalf("the proxy ended (%v) without saying %q:\n%s", r.err, pattern, out)
		case <-timeout:
			r.t.Fatalf("the proxy does not say %q:\n%s", pattern, out)
		}
	}
}

// hostAddress returns where the proxy's only --dial rule listens.
func (r *running) hostAddress() string {
	r.t.Helper()
	return r.wait(`msg="listening on the host" address=(\S+)`)[1]
}

// stop ends the process as a user would, and checks how it ends.
func (r *running) stop() {
	select {
	case <-r.ended:
		return // the test has seen to it
	default:
	}
	_ = r.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-r.ended:
	case <-time.After(patience):
		_ = r.cmd.Process.Signal(unix.SIGQUIT) // a dump of all goroutines
		<-r.ended
	}
	out, _ := r.output()
	if r.err != nil {
		r.t.Errorf("the proxy ended with %v:\n%s", r.err, out)
	}
	// Nothing between two ends of a device in memory damages a packet.
	if !strings.Contains(out, " 0 bad checksums,") || !strings.Contains(out, " 0 malformed") {
		r.t.Errorf("the proxy found bad packets:\n%s", out)
	}
	if r.t.Failed() {
		r.t.Logf("the proxy said:\n%s", out)
	}
}

// serve accepts connections in the lab, on the loopback address unless another
// is given, until the test ends, and returns the address.
func (l *lab) serve(addr string, handle func(*net.TCPConn)) string {
	l.t.Helper()
	if addr == "" {
		addr = "127.0.0.1"
	}
	listener := l.Listen(l.t, "tcp", net.JoinHostPort(addr, "0"))
	var wg sync.WaitGroup
	l.t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience)) // a hang becomes an error
				handle(c.(*net.TCPConn))
			})
		}
	})
	return listener.Addr().String()
}

// dial connects from the lab.
func (l *lab) dial(addr string) *net.TCPConn {
	l.t.Helper()
	c, err := l.Dial("tcp", addr, nil)
	if err != nil {
		l.t.Fatalf("connecting to %s: %v", addr, err)
	}
	l.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// dialUntilReset connects from the lab and reads until an error. The proxy
// accepts before it knows that it cannot relay, so that the reset may come
// before or after connect returned.
func (l *lab) dialUntilReset(addr string) error {
	l.t.Helper()
	c, err := l.Dial("tcp", addr, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.Copy(io.Discard, c)
	return err
}

// program starts a program in the lab that runs until the test ends, and waits
// for it to write a line with ready in it.
func (l *lab) program(ready, name string, args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, nstest.Program(l.t, name), args...)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = l.Start(cmd)
	}
	if err != nil {
		cancel()
		l.t.Fatal(err)
	}
	isReady, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var once sync.Once
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if strings.Contains(s.Text(), ready) {
				once.Do(func() { close(isReady) })
			}
		}
		_ = cmd.Wait()
	}()
	l.t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-isReady:
	case <-ended:
		l.t.Fatalf("%s ended at once", name)
	case <-time.After(patience):
		l.t.Fatalf("%s does not say %q", name, ready)
	}
}

// isReset says whether err is a reset from the peer.
func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }
