package lifecycle

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Config says what a Lifecycle runs and releases. Only Name, Receivers and
// Release are required.
type Config struct {
	// Name begins the text of every error: "tap: tap0".
	Name string
	// Receivers are run on goroutines of their own while a dispatcher is
	// attached. Each returns soon after Session.Stopping is true, which Session.Wake
	// announces.
	Receivers []func(*Session)
	// Waiters are what receivers wait with. They are interrupted when a session
	// stops, and closed before Release.
	Waiters []*Waiter
	// Release lets go of what receivers and senders use. It runs once, with no
	// receiver running or to come, and must not call the Lifecycle.
	Release func()
	// OnFailure is called with the error given to Fail, after Close.
	OnFailure func(error)
}

// Lifecycle is the state of an endpoint. Its zero value becomes usable by Init.
// All methods but Init may be called concurrently.
type Lifecycle struct {
	config Config
	closed atomic.Bool // set with mu held, read by writers without

	mu      sync.Mutex
	current *Session // nil unless attached; guarded by mu
	last    *Session // current, or the one before Attach(nil); guarded by mu
	onClose func()   // guarded by mu
	err     error    // why the endpoint closed itself; guarded by mu
	// users counts who needs what Release lets go of: one until Close, and each
	// session until its receivers have returned. Guarded by mu.
	users int
}

// Session is the time between Attach and Attach(nil).
type Session struct {
	// Dispatcher is who is attached.
	Dispatcher stack.NetworkDispatcher

	stopping  atomic.Bool
	wake      int // eventfd
	before    *Session
	receivers sync.WaitGroup
	done      chan struct{} // closed when all receivers of this and earlier sessions have returned
}

// Stopping says that the receivers of s have to return.
func (s *Session) Stopping() bool { return s.stopping.Load() }

// Wake returns a descriptor that becomes readable when s stops, for poll(2). It
// must not be read.
func (s *Session) Wake() int { return s.wake }

// Init sets l up for use.
func (l *Lifecycle) Init(c Config) {
	l.config = c
	l.users = 1
}

// Attach does what stack.LinkEndpoint asks for: with a dispatcher it starts the
// receivers, and with nil it stops them without waiting. While one is attached,
// or after Close, another changes nothing.
func (l *Lifecycle) Attach(dispatcher stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if dispatcher == nil {
		l.stopLocked()
		return
	}
	if l.current != nil || l.closed.Load() {
		return
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		go l.Fail(fmt.Errorf("cannot receive: %w", os.NewSyscallError("eventfd", err)))
		return
	}
	s := &Session{Dispatcher: dispatcher, wake: wake, before: l.last, done: make(chan struct{})}
	l.current, l.last = s, s
	l.users++
	s.receivers.Add(len(l.config.Receivers))
	for _, receive := range l.config.Receivers {
		go func() {
			defer s.receivers.Done()
			if s.before != nil {
				<-s.before.done
			}
			receive(s)
		}()
	}
	go l.end(s)
}

// end waits for the receivers of s and lets go of what they used.
func (l *Lifecycle) end(s *Session) {
	s.receivers.Wait()
	l.mu.Lock()
	unix.Close(s.wake)
	s.wake = -1
	s.before = nil
	l.leaveLocked()
	l.mu.Unlock()
	close(s.done)
}

// stopLocked tells the receivers to return. l.mu is held.
func (l *Lifecycle) stopLocked() {
	s := l.current
	if s == nil {
		return
	}
	l.current = nil
	s.stopping.Store(true)
	if s.wake >= 0 {
		one := [8]byte{1}
		// The counter is at zero, so that this can neither block nor fail.
		_, _ = unix.Write(s.wake, one[:])
	}
	for _, w := range l.config.Waiters {
		w.interrupt()
	}
}

// leaveLocked releases everything once nobody uses it. l.mu is held.
func (l *Lifecycle) leaveLocked() {
	l.users--
	if l.users == 0 {
		for _, w := range l.config.Waiters {
			w.close()
		}
		l.config.Release()
	}
}

// Closed says whether Close was called, or the endpoint failed. It takes no
// lock.
func (l *Lifecycle) Closed() bool { return l.closed.Load() }

// IsAttached says whether a dispatcher is attached.
func (l *Lifecycle) IsAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current != nil
}

// Use calls f unless Release has run, which waits for f. f must be short.
func (l *Lifecycle) Use(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users > 0 {
		f()
	}
}

// Wait returns when the receivers that Attach(nil), Close or Fail stopped have
// returned. While a dispatcher is attached it blocks.
func (l *Lifecycle) Wait() {
	l.mu.Lock()
	s := l.last
	l.mu.Unlock()
	if s != nil {
		<-s.done
	}
}

// SetOnCloseAction sets what runs once before the first Close stops anything.
func (l *Lifecycle) SetOnCloseAction(action func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onClose = action
}

// Close runs the on-close action, stops the receivers without waiting, and
// releases everything when the last has returned. Calls after the first do
// nothing.
func (l *Lifecycle) Close() { l.close(nil) }

// close closes because of cause, which is nil if the user asked for it. It says
// whether it was the first.
func (l *Lifecycle) close(cause error) bool {
	l.mu.Lock()
	if l.closed.Load() {
		l.mu.Unlock()
		return false
	}
	l.closed.Store(true)
	l.err = cause
	action := l.onClose
	l.onClose = nil
	l.mu.Unlock()

	if action != nil {
		action()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopLocked()
	l.leaveLocked()
	return true
}

// Fail closes the endpoint because it became unusable. It does nothing if it
// is closed.
func (l *Lifecycle) Fail(err error) {
	err = fmt.Errorf("%s: %w", l.config.Name, err)
	if l.close(err) && l.config.OnFailure != nil {
		l.config.OnFailure(err)
	}
}

// Err returns the error that the endpoint failed with, or nil.
func (l *Lifecycle) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
