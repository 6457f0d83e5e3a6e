package target

import (
	"slices"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/waiter"
)

// alwaysReported are the events of poll(2) that need not be asked for.
const alwaysReported = PollErr | PollHup

func (n *netstack) poll(c Poll) (Pending, error) {
	try := func() (Result, bool) {
		ready := make([]Ready, len(c.FDs))
		count := int64(0)
		for i, want := range c.FDs {
			ready[i] = Ready{FD: want.FD, Events: n.eventsOf(want)}
			if ready[i].Events != 0 {
				count++
			}
		}
		return Result{Value: count, Ready: ready}, count > 0
	}
	expire := func() Result { r, _ := try(); return r }
	return n.start(try, c.Timeout, expire), nil
}

// pollNval is POLLNVAL: the descriptor is not open.
const pollNval = 0x20

// eventsOf returns the events of a descriptor that are true.
func (n *netstack) eventsOf(want Ready) uint32 {
	d := n.fds[want.FD]
	if d == nil {
		return pollNval
	}
	return d.readiness(want.Events) & (want.Events | alwaysReported)
}

// epoll is an epoll descriptor.
type epoll struct {
	// watched are the registrations, in the order in which they were made.
	watched []*watch
}

// watch is one registration of an epoll descriptor.
type watch struct {
	d    *socket
	want Ready
	// seen are the events that an edge-triggered registration has reported
	// and that have been true ever since.
	seen     uint32
	disarmed bool
	// fresh are the events that the endpoint has notified since the last
	// report. Goroutines of the protocol add to it.
	fresh atomic.Uint32
	entry waiter.Entry
}

// newWatch registers for the notifications of a socket.
func newWatch(s *socket, want Ready) *watch {
	w := &watch{d: s, want: want}
	w.entry.Init(w, waiter.AllEvents)
	s.queue.EventRegister(&w.entry)
	return w
}

// NotifyEvent implements [waiter.EventListener].
func (w *watch) NotifyEvent(mask waiter.EventMask) { w.fresh.Or(mask.ToLinux()) }

// release ends the notifications.
func (w *watch) release() { w.d.queue.EventUnregister(&w.entry) }

// readiness implements descriptor: an epoll descriptor is readable while it
// has events.
func (e *epoll) readiness(mask uint32) uint32 {
	if len(e.collect(1, false)) > 0 {
		return PollIn & mask
	}
	return 0
}

// collect returns up to limit registrations with events. If take is set they
// count as reported.
func (e *epoll) collect(limit int, take bool) []Ready {
	var out []Ready
	for _, w := range e.watched {
		if w.disarmed || len(out) == limit {
			continue
		}
		now := w.d.readiness(w.want.Events) & (w.want.Events | alwaysReported)
		report := now
		if w.want.Events&EpollET != 0 {
			w.seen &= now
			report = now & (^w.seen | w.fresh.Load())
		}
		if report == 0 {
			continue
		}
		out = append(out, Ready{FD: w.want.FD, Events: now, Data: w.want.Data})
		if take {
			w.seen |= now
			w.fresh.Store(0)
			w.disarmed = w.want.Events&EpollOneShot != 0
		}
	}
	return out
}

func (n *netstack) epollCreate() Pending {
	return n.immediate(Result{Value: int64(n.newFD(new(epoll)))})
}

// forget drops the registrations of a socket from every epoll descriptor, as
// closing its last descriptor does.
func (n *netstack) forget(s *socket) {
	for _, d := range n.fds {
		if e, ok := d.(*epoll); ok {
			e.watched = slices.DeleteFunc(e.watched, func(w *watch) bool {
				if w.d != s {
					return false
				}
				w.release()
				return true
			})
		}
	}
}

// onEpoll calls f with an epoll descriptor.
func (n *netstack) onEpoll(fd FD, f func(*epoll) Pending) (Pending, error) {
	e, ok := n.fds[fd].(*epoll)
	if !ok {
		return n.immediate(fail(eBadf)), nil
	}
	return f(e), nil
}

func (n *netstack) epollCtl(c EpollCtl) (Pending, error) {
	if _, nested := n.fds[c.Target.FD].(*epoll); nested {
		return nil, Unsupportedf("an epoll descriptor that watches another")
	}
	return n.onEpoll(c.FD, func(e *epoll) Pending {
		s, ok := n.fds[c.Target.FD].(*socket)
		if !ok {
			return n.immediate(fail(eBadf))
		}
		return n.immediate(fail(e.control(c, s)))
	})
}

// control changes what e says about s, and returns an error or "".
func (e *epoll) control(c EpollCtl, s *socket) Errno {
	i := slices.IndexFunc(e.watched, func(w *watch) bool { return w.d == s })
	switch {
	case c.Op == EpollAdd && i >= 0:
		return eExist
	case c.Op == EpollAdd:
		e.watched = append(e.watched, newWatch(s, c.Target))
	case c.Op != EpollMod && c.Op != EpollDel:
		return eInval
	case i < 0:
		return eNoEnt
	case c.Op == EpollMod:
		e.watched[i].release()
		e.watched[i] = newWatch(s, c.Target)
	default:
		e.watched[i].release()
		e.watched = slices.Delete(e.watched, i, i+1)
	}
	return ""
}

func (n *netstack) epollWait(c EpollWait) (Pending, error) {
	return n.onEpoll(c.FD, func(e *epoll) Pending {
		if c.Max <= 0 {
			return n.immediate(fail(eInval))
		}
		try := func() (Result, bool) {
			ready := e.collect(c.Max, true)
			return Result{Value: int64(len(ready)), Ready: ready}, len(ready) > 0
		}
		expire := func() Result { r, _ := try(); return r }
		return n.start(try, c.Timeout, expire)
	})
}
