package kernel

import (
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// clock is the real time since its start, with timers that a thread of its own serves. It has few timers at a time: a path needs four.
type clock struct {
	start time.Time
	fd    int // an event counter that ends the thread's sleep
	done  chan struct{}

	mu     sync.Mutex
	timers []*timer // those that run
	// sleepsUntil is when the thread will look again by itself, 0 while it is awake.
	sleepsUntil time.Duration
	closed      bool
}

var _ tcpip.Clock = (*clock)(nil)

// forever stands for "until somebody says so".
const forever = time.Duration(1) << 62

func newClock() (*clock, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	c := &clock{start: time.Now(), fd: fd, done: make(chan struct{})}
	go c.run()
	return c, nil
}

// elapsed is the time since the clock was made.
func (c *clock) elapsed() time.Duration { return time.Since(c.start) }

// Now implements tcpip.Clock.
func (*clock) Now() time.Time { return time.Now() }

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime { return tcpip.MonotonicTime{}.Add(c.elapsed()) }

// AfterFunc implements tcpip.Clock. The thread calls f with no lock held.
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
	c.remove(t)
	t.at = c.elapsed() + max(d, 0)
	t.running = true
	c.timers = append(c.timers, t)
	early := t.at < c.sleepsUntil
	c.mu.Unlock()
	if early {
		c.interrupt()
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

// interrupt ends the thread's sleep.
func (c *clock) interrupt() {
	one := [8]byte{1}
	unix.Write(c.fd, one[:]) // It can only be full, and then the thread wakes up anyway.
}

// run serves the timers until close.
func (c *clock) run() {
	defer close(c.done)
	// The thread is not unlocked: what it does to itself ends with it.
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		f, sleep, ok := c.next()
		switch {
		case !ok:
			return
		case f != nil:
			f()
		default:
			c.sleep(sleep)
		}
	}
}

// next returns what is to be done now, or how long there is nothing; it reports false once the clock is closed.
func (c *clock) next() (f func(), sleep time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, 0, false
	}
	c.sleepsUntil = 0
	var first *timer
	for _, t := range c.timers {
		if first == nil || t.at < first.at {
			first = t
		}
	}
	if first == nil {
		c.sleepsUntil = forever
		return nil, forever, true
	}
	if wait := first.at - c.elapsed(); wait > 0 {
		c.sleepsUntil = first.at
		return nil, wait, true
	}
	c.remove(first)
	return first.f, 0, true
}

// sleep waits for that long, or until somebody interrupts.
func (c *clock) sleep(d time.Duration) {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	ts := unix.NsecToTimespec(int64(d))
	if n, _ := unix.Ppoll(fds, &ts, nil); n > 0 {
		var count [8]byte
		unix.Read(c.fd, count[:])
	}
}

// close stops the thread and waits for it. It must not be called by a timer.
func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.interrupt()
	<-c.done
	unix.Close(c.fd)
}
