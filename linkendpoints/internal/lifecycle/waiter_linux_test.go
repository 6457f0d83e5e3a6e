package lifecycle

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readable is a descriptor with a receiver that waits for it and reads.
type readable struct {
	Lifecycle
	fds    [2]int // read from the first, write to the second
	waiter *Waiter

	buffer   [1 << 12]byte
	received uint64
	results  chan Result
}

func newReadable(t *testing.T, interval time.Duration) *readable {
	t.Helper()
	r := &readable{results: make(chan Result, 1)}
	var err error
	if r.fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	r.waiter = NewWaiter(r.fds[0], interval, r.read)
	r.Init(Config{
		Name:      "test: dev0",
		Receivers: []func(*Session){r.receive},
		Waiters:   []*Waiter{r.waiter},
		Release: func() {
			unix.Close(r.fds[0])
			unix.Close(r.fds[1])
		},
	})
	t.Cleanup(func() {
		r.Close()
		r.Wait()
	})
	return r
}

// read reads what there is and says whether there was anything.
func (r *readable) read() bool {
	n, err := unix.Read(r.fds[0], r.buffer[:])
	if err != nil {
		return false
	}
	r.received += uint64(n)
	return true
}

// receive waits until s stops and reports each result.
func (r *readable) receive(s *Session) {
	for !s.Stopping() {
		r.results <- r.waiter.Wait(s, r.received)
	}
}

// send makes n bytes readable.
func (r *readable) send(t *testing.T, n int) {
	t.Helper()
	if _, err := unix.Write(r.fds[1], make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// want checks the next result.
func (r *readable) want(t *testing.T, want Result, why string) {
	t.Helper()
	select {
	case got := <-r.results:
		if got != want {
			t.Errorf("%s: result %d, want %d", why, got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no result", why)
	}
}

// end ends the session and checks that a wait that it interrupts says so.
func (r *readable) end(t *testing.T) {
	t.Helper()
	r.Attach(nil)
	for {
		select {
		case got := <-r.results:
			if got != Ready {
				t.Errorf("the end: result %d, want %d", got, Ready)
			}
		case <-r.last.done:
			return
		case <-time.After(10 * time.Second):
			t.Fatal("the receiver waits for ever")
		}
	}
}

// What a wait ends with: a little received, much received, the end of the session,
// and the same in the next session.
func TestWaiter(t *testing.T) {
	r := newReadable(t, 0)
	for range 3 {
		r.Attach(nobody{})
		r.send(t, 1)
		r.want(t, Ready, "a byte")
		r.send(t, 1)
		r.want(t, Ready, "another")
		r.send(t, bulkBytes)
		r.want(t, Ready, "many bytes")
		for range bulkWaits {
			r.want(t, Poll, "after many bytes")
		}
		r.send(t, 1)
		r.want(t, Ready, "a byte after many")
		r.end(t)
	}
}

// What is there before anybody waits is found, and a session that ends before its
// receiver waits keeps none.
func TestWaiterEarly(t *testing.T) {
	r := newReadable(t, 0)
	r.send(t, 1)
	r.Attach(nobody{})
	r.want(t, Ready, "a byte that was there")
	r.end(t)
	for range 200 {
		r.Attach(nobody{})
		r.end(t)
	}
}

// Nothing for a while is reported, again and again.
func TestWaiterIdle(t *testing.T) {
	r := newReadable(t, 2*time.Millisecond)
	r.Attach(nobody{})
	r.want(t, Idle, "nothing")
	r.want(t, Idle, "nothing again")
	r.Attach(nil)
	for {
		select {
		case <-r.results: // what was before the end
		case <-r.last.done:
			return
		}
	}
}

// What the poller does not take is for poll(2).
func TestWaiterWithoutPoller(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, fd := range map[string]int{"a file": int(f.Fd()), "no descriptor": -1} {
		w := NewWaiter(fd, time.Second, func() bool { return true })
		if got := w.Wait(&Session{}, 0); got != Poll {
			t.Errorf("%s: result %d, want %d", name, got, Poll)
		}
		w.interrupt()
		w.close()
	}
}

// The poller is not woken while the receiver is busy, and the next wait ends for what
// came meanwhile.
func TestWaiterBusy(t *testing.T) {
	r := newReadable(t, 0)
	tells := func() bool {
		t.Helper()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.waiter.epoll), Events: unix.POLLIN}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	for range 2 {
		r.waiter.Busy()
		r.waiter.Busy()
		r.send(t, 1)
		if tells() {
			t.Error("the poller hears of what a busy receiver gets")
		}
		if got := r.waiter.Wait(&Session{}, 0); got != Ready {
			t.Errorf("result %d, want %d", got, Ready)
		}
		r.send(t, 1)
		if !tells() {
			t.Error("the poller does not hear of what a receiver gets that waits")
		}
		r.read()
	}
}

// Waiting costs no allocation.
func TestWaiterAllocatesNothing(t *testing.T) {
	r := newReadable(t, time.Hour)
	s, one := &Session{}, []byte{1}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(r.fds[1], one)
		if got := r.waiter.Wait(s, r.received); got != Ready {
			t.Errorf("result %d, want %d", got, Ready)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
