package lifecycle

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bulkBytes is how much a receiver has to have received since it last waited
	// for it to wait with a thread of its own again, and bulkWaits how often it
	// then does so.
	//
	// The runtime's poller wakes a goroutine with one switch of threads less than
	// poll(2) takes, so that a request and its response are faster through it. But it
	// is asked only by processors that have nothing else to do, and while data pour in
	// there may be none. A few acknowledgments or short requests are less than
	// bulkBytes, and one full frame is more.
	bulkBytes = 512
	bulkWaits = 32
)

// A Result says how a Waiter's wait ended.
type Result int

const (
	// Ready means that there may be something to receive, or that the session
	// stops.
	Ready Result = iota
	// Idle means that there was nothing for a while.
	Idle
	// Poll means that the caller is to wait by poll(2): for the descriptor and for
	// Session.Wake.
	Poll
)

// Waiter waits for a descriptor to become readable without keeping a thread. It
// is for one receiver, which is the only one to call Wait.
type Waiter struct {
	interval time.Duration
	ready    func() bool

	file     *os.File // what the runtime's poller knows; nil if it takes none
	raw      syscall.RawConn
	check    func(uintptr) bool
	session  *Session  // of the last Wait
	deadline time.Time // of file
	received uint64    // bytes, at the last Wait
	bulk     int       // how many waits are still to be by poll(2)
}

// NewWaiter returns a waiter for fd, which the caller keeps. ready says whether there is something to receive; a wait that takes
// about interval without that ends as Idle, unless interval is 0. It has to be
// closed, which a Lifecycle does whose Config names it.
func NewWaiter(fd int, interval time.Duration, ready func() bool) *Waiter {
	w := &Waiter{interval: interval, ready: ready}
	w.check = func(uintptr) bool { return w.session.Stopping() || w.ready() }
	file, err := pollable(fd)
	if err != nil {
		return w // the receiver polls
	}
	raw, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Time{}) != nil {
		file.Close() // the poller does not take it
		return w
	}
	w.file, w.raw = file, raw
	return w
}

// pollable returns a file that is readable when fd is: an epoll instance with nothing else in it. The runtime's poller asks of a descriptor whether it can
// be written to as well, and would be woken for every frame that has left.
func pollable(fd int) (*os.File, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // for the poller to take it
	}
	if err != nil {
		unix.Close(epoll)
		return nil, err
	}
	return os.NewFile(uintptr(epoll), "epoll"), nil
}

// Wait waits until there is something to receive or s stops. received is how many
// bytes were received so far.
func (w *Waiter) Wait(s *Session, received uint64) Result {
	if received-w.received >= bulkBytes {
		w.bulk = bulkWaits
	}
	w.received = received
	if w.raw == nil {
		return Poll
	}
	if w.bulk > 0 {
		w.bulk--
		return Poll
	}
	if s != w.session {
		// The last session ended with a deadline that has passed.
		w.session, w.deadline = s, time.Time{}
		_ = w.file.SetReadDeadline(w.deadline)
	}
	if w.interval > 0 {
		// Not with every wait: a deadline costs more than the wait does.
		if now := time.Now(); w.deadline.Sub(now) < w.interval/2 {
			w.deadline = now.Add(w.interval)
			_ = w.file.SetReadDeadline(w.deadline)
		}
	}
	// A session that stops first says so, which check sees, and then interrupts,
	// so that it does not matter that a deadline was set in between.
	switch err := w.raw.Read(w.check); {
	case err == nil:
		return Ready
	case s.Stopping():
		return Ready
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.deadline = time.Time{}
		return Idle
	}
	return Poll // an error of the device, which poll(2) tells more about
}

// interrupt ends a wait. It may be called concurrently.
func (w *Waiter) interrupt() {
	if w.file != nil {
		_ = w.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// close lets go of the file.
func (w *Waiter) close() {
	if w.file != nil {
		w.file.Close()
	}
}
