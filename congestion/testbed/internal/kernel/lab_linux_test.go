package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// patience is how long a test waits for what happens in milliseconds on a machine that has nothing else to do.
const patience = 30 * time.Second

// newLab makes a lab that the test closes, or skips the test.
func newLab(t *testing.T, cfg Config) *Lab {
	t.Helper()
	nstest.New(t) // or the test is skipped
	for _, f := range cfg.Flows {
		if err := Check(f.Algorithm); err != nil {
			nstest.Missing(t, "%v", err)
		}
	}
	cfg.MTU, cfg.Seed, cfg.Buffer, cfg.Unsent = emulated.DefaultMTU, 1, 4<<20, 256<<10
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// until lets time pass until something has come true.
func until(t *testing.T, l *Lab, what string, true func() bool) {
	t.Helper()
	for !true() {
		if l.Elapsed() > patience {
			t.Fatalf("after %v: not %s", l.Elapsed(), what)
		}
		if err := l.RunUntil(t.Context(), l.Elapsed()+5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// counted wraps a path's endpoint and counts what the kernel sends.
type counted struct {
	stack.LinkEndpoint
	packets, largest int
}

func (c *counted) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		c.packets++
		c.largest = max(c.largest, p.Size())
	}
	return c.LinkEndpoint.WritePackets(pkts)
}

// Flows of the kernel's TCP pass through the path, each by way of its own hosts, and all that the testbed asks for is known of them.
func TestFlows(t *testing.T) {
	const size = 300_000
	var links []*counted
	l := newLab(t, Config{
		Forward: emulated.Link{Rate: 10 * emulated.Mbps, Delay: 10 * time.Millisecond, Queue: emulated.FIFO{Bytes: 50_000}, Loss: emulated.RandomLoss(0.02)},
		Reverse: emulated.Link{Delay: 10 * time.Millisecond},
		Pairs:   []time.Duration{0, 15 * time.Millisecond},
		Flows: []Flow{
			{Algorithm: "cubic", Bytes: size},
			{Algorithm: "reno", Bytes: size, Pair: 1, Start: 20 * time.Millisecond},
			{Algorithm: "reno", Rate: emulated.Mbps},
		},
		Capture: func(e stack.LinkEndpoint, c tcpip.Clock) (stack.LinkEndpoint, error) {
			links = append(links, &counted{LinkEndpoint: e})
			return links[len(links)-1], nil
		},
	})
	until(t, l, "finished", func() bool {
		a, b := l.State(0), l.State(1)
		return a.Finished > 0 && a.InFlight == 0 && b.Finished > 0 && b.InFlight == 0 && l.State(2).Received > 0
	})
	for i, least := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond} {
		s := l.State(i)
		if s.Received != size || s.Finished < l.config.Flows[i].Start+least || s.Finished > l.Elapsed() {
			t.Errorf("flow %d has received %d bytes at %v", i, s.Received, s.Finished)
		}
		if s.MinRTT < least || s.SRTT < least || s.Cwnd == 0 {
			t.Errorf("flow %d: %+v, want round-trip times of at least %v", i, s, least)
		}
	}
	forward := l.Forward()
	retransmits := l.State(0).Retransmits + l.State(1).Retransmits + l.State(2).Retransmits
	if lost := forward.Dropped[emulated.DropLoss].Packets; lost == 0 || retransmits == 0 {
		t.Errorf("%d packets lost, %d segments sent again", lost, retransmits)
	}
	if n := forward.Dropped[emulated.DropNobody].Packets + l.Reverse().Dropped[emulated.DropNobody].Packets; n != 0 {
		t.Errorf("%d packets for nobody", n)
	}
	if missed, err := l.Missed(); missed != 0 || err != nil {
		t.Errorf("%d packets missed, %v", missed, err)
	}
	if len(links) != 2 {
		t.Fatalf("%d endpoints captured, want that of each left host", len(links))
	}
	for i, link := range links {
		link.Attach(nil) // Nobody counts any more.
		l.hosts[0][i].device.Attach(nil)
		l.hosts[0][i].device.Wait()
		if link.largest != emulated.DefaultMTU || link.packets < size/emulated.DefaultMTU {
			t.Errorf("host %d has sent %d packets, the largest of %d bytes", i, link.packets, link.largest)
		}
	}
}

// Every algorithm of the oracle comparison runs, under this module's name, and sets what the socket says.
func TestAlgorithms(t *testing.T) {
	for _, a := range []string{"reno", "cubic", "bbr1", "bbr"} {
		t.Run(a, func(t *testing.T) {
			l := newLab(t, Config{
				Forward: emulated.Link{Rate: 10 * emulated.Mbps, Delay: time.Millisecond},
				Pairs:   []time.Duration{0}, Flows: []Flow{{Algorithm: a}},
			})
			until(t, l, "received", func() bool { return l.State(0).Received > 20_000 })
			var name string
			var err error
			l.flows[0].sender.raw.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
			if name != moduleName(a) || err != nil {
				t.Errorf("the socket has %q, %v", name, err)
			}
			if paced := l.State(0).Pacing > 0; !paced && strings.HasPrefix(a, "bbr") {
				t.Error("it does not pace")
			}
		})
	}
}

// held lists what this process holds of other network namespaces: descriptors, TAP devices, threads.
func held(t *testing.T) []string {
	t.Helper()
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			to, err := os.Readlink(name)
			if err == nil && to != own && (strings.HasPrefix(to, "net:") || to == "/dev/net/tun") {
				out = append(out, name+" "+to)
			}
		}
	}
	return out
}

// Close leaves nothing: no namespace, device, socket, thread, goroutine or priority, even in the middle of a transfer and if called twice.
func TestCloseLeavesNothing(t *testing.T) {
	// newLab asks nstest, whose namespace lives until the test ends, and perhaps a thread with it.
	const asked = 2
	newLab(t, Config{}).Close() // whatever a first run makes for good
	nstest.New(t)
	before, goroutines := len(held(t)), runtime.NumGoroutine()
	l := newLab(t, Config{
		Forward: emulated.Link{Rate: 10 * emulated.Mbps, Delay: time.Millisecond},
		Pairs:   []time.Duration{0, time.Millisecond},
		Flows:   []Flow{{Algorithm: "cubic"}, {Algorithm: "cubic", Pair: 1}, {Algorithm: "reno", Start: time.Hour}},
	})
	until(t, l, "received", func() bool { return l.State(0).Received > 0 && l.State(1).Received > 0 })
	if n := len(held(t)); n < before+8 {
		t.Errorf("%d descriptors and threads with 4 hosts, %d without", n, before)
	}
	l.Close()
	l.Close()
	for deadline := time.Now().Add(patience); len(held(t)) > before+asked || runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("left: %q, %d goroutines, %d before", held(t), runtime.NumGoroutine(), goroutines)
		}
	}
	if a, err := unix.SchedGetAttr(0, 0); err != nil || a.Policy != unix.SCHED_NORMAL {
		t.Errorf("scheduled as %+v, %v", a, err)
	}
}

// A run ends when its context does, and when a connection fails.
func TestRunUntilEnds(t *testing.T) {
	l := newLab(t, Config{Pairs: []time.Duration{0}, Flows: []Flow{{Algorithm: "reno"}}})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if err := l.RunUntil(ctx, time.Hour); !errors.Is(err, reason) {
		t.Errorf("called off: %v", err)
	}
	until(t, l, "connected", func() bool { return l.flows[0].receiver.Load() != nil })
	l.flows[0].receiver.Load().abort()
	if err := l.RunUntil(t.Context(), time.Hour); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("reset: %v", err)
	}
}

// What cannot run is said in one line that names the remedy.
func TestCheck(t *testing.T) {
	nstest.New(t)
	if err := Check("nonesuch"); err == nil || !strings.Contains(err.Error(), "modprobe tcp_nonesuch") {
		t.Errorf("Check of an algorithm that does not exist = %v", err)
	}
	if _, err := New(Config{Pairs: make([]time.Duration, MaxPairs+1)}); err == nil {
		t.Error("New takes any number of hosts")
	}
}
