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

	fd       int
	epoll    int      // file's descriptor
	armed    bool     // epoll tells of frames
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
	w := &Waiter{fd: fd, interval: interval, ready: ready}
	w.check = func(uintptr) bool { return w.session.Stopping() || w.ready() }
	epoll, err := pollable(fd)
	if err != nil {
		return w // the receiver polls
	}
	file := os.NewFile(uintptr(epoll), "epoll")
	raw, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Time{}) != nil {
		file.Close() // the poller does not take it
		return w
	}
	w.epoll, w.armed, w.file, w.raw = epoll, true, file, raw
	return w
}

// pollable returns a descriptor that is readable when fd is: an epoll instance with nothing else in it. The runtime's poller asks of a descriptor
// whether it can be written to as well, and would be woken for every frame that has left.
func pollable(fd int) (int, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, err
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // for the poller to take it
	}
	if err != nil {
		unix.Close(epoll)
		return -1, err
	}
	return epoll, nil
}

// Busy says that the receiver is far from waiting: it has received many frames since
// it last did. The runtime's poller, which would wake a thread for each frame to find
// nobody that waits, is not told of more until the next wait.
func (w *Waiter) Busy() {
	if w.armed {
		w.armed = !w.arm(0)
	}
}

// arm sets the events of the descriptor that the runtime's poller is told of, besides
// errors. It reports whether that worked.
func (w *Waiter) arm(events uint32) bool {
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_MOD, w.fd, &unix.EpollEvent{Events: events, Fd: int32(w.fd)}) == nil
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
		w.Busy()
		return Poll
	}
	if !w.armed {
		// The kernel tells of what is there already.
		if w.armed = w.arm(unix.EPOLLIN); !w.armed {
			return Poll
		}
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
