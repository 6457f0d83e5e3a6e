package kernel

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// clock is the real time since its start, with timers that are good to tens of microseconds: the runtime's own poller waits in whole milliseconds, but it is woken in time
// by a descriptor, which here is a timer of the kernel. One goroutine calls what the timers are for. There are few timers at a time: a path needs four.
type clock struct {
	start time.Time
	// alarm is the kernel's timer, and fd its descriptor.
	alarm *os.File
	fd    int
	done  chan struct{}

	mu     sync.Mutex
	timers []*timer // those that run
	// wakesAt is what the alarm is set to while the goroutine waits for it, 0 while it does not.
	wakesAt time.Duration
	closed  bool
}

var _ tcpip.Clock = (*clock)(nil)

// forever stands for "until somebody says so".
const forever = time.Duration(1) << 62

func newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	c := &clock{start: time.Now(), alarm: os.NewFile(uintptr(fd), "timer"), fd: fd, done: make(chan struct{})}
	go c.run()
	return c, nil
}

// elapsed is the time since the clock was made.
func (c *clock) elapsed() time.Duration { return time.Since(c.start) }

// Now implements tcpip.Clock.
func (*clock) Now() time.Time { return time.Now() }

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime { return tcpip.MonotonicTime{}.Add(c.elapsed()) }

// AfterFunc implements tcpip.Clock. F is called with no lock held.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, f: f}
	t.Reset(d)
	return t
}

// timer is one timer of a clock. Its fields are guarded by clock.mu.
type timer struct {
	clock   *clock
	f       func()
	at      time.Duration
	running bool
}

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.clock.remove(t)
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(t)
	t.at = c.elapsed() + max(d, 0)
	t.running = true
	c.timers = append(c.timers, t)
	if t.at < c.wakesAt {
		c.set(t.at)
	}
}

// remove takes a timer out and reports whether it was running. c.mu is held.
func (c *clock) remove(t *timer) bool {
	if !t.running {
		return false
	}
	t.running = false
	last := len(c.timers) - 1
	for i, other := range c.timers {
		if other == t {
			c.timers[i] = c.timers[last]
			c.timers[last] = nil
			c.timers = c.timers[:last]
			break
		}
	}
	return true
}

// set sets the alarm for the goroutine that waits, or is about to. c.mu is held.
func (c *clock) set(at time.Duration) {
	c.wakesAt = at
	var spec unix.ItimerSpec // all zeros: never
	if at != forever {
		spec.Value = unix.NsecToTimespec(int64(max(at-c.elapsed(), 1)))
	}
	unix.TimerfdSettime(c.fd, 0, &spec, nil) // It has nothing to refuse.
}

// run serves the timers until close.
func (c *clock) run() {
	defer close(c.done)
	var expirations [8]byte
	for {
		f, ok := c.next()
		switch {
		case !ok:
			return
		case f != nil:
			f()
		default:
			c.alarm.Read(expirations[:])
		}
	}
}

// next returns what is to be done now, nil if there is nothing before the alarm goes off; it reports false once the clock is closed.
func (c *clock) next() (f func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	c.wakesAt = 0
	var first *timer
	for _, t := range c.timers {
		if first == nil || t.at < first.at {
			first = t
		}
	}
	switch {
	case first == nil:
		c.set(forever)
		return nil, true
	case first.at > c.elapsed():
		c.set(first.at)
		return nil, true
	}
	c.remove(first)
	return first.f, true
}

// close stops the timers and waits for the one that is being served. It must not be called by a timer.
func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.set(0)
	c.mu.Unlock()
	<-c.done
	c.alarm.Close()
}
