package tcpx

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// account is the buffer memory of a stack's connections.
type account struct {
	used atomic.Int64
	// limit is the budget in bytes, 0 for none.
	limit int64
}

// add reserves or returns n bytes and tells how scarce memory is afterwards.
func (a *account) add(n int) tcb.Pressure {
	return a.pressure(a.used.Add(int64(n)))
}

func (a *account) pressure(used int64) tcb.Pressure {
	switch {
	case a.limit <= 0 || used < a.limit/2:
		return tcb.PressureNone
	case used < a.limit-a.limit/4:
		return tcb.PressureModerate
	case used < a.limit:
		return tcb.PressureHigh
	default:
		return tcb.PressureExhausted
	}
}

// exhausted reports that new connections are to be refused.
func (a *account) exhausted() bool {
	return a.pressure(a.used.Load()) == tcb.PressureExhausted
}

// endpointList is a list of endpoints linked through Endpoint.link. An endpoint is in one list at most: its listener's SYN queue, then the listener's accept
// queue, then the protocol's TIME-WAIT list. Each listener has a lock for its lists, and so has the protocol.
type endpointList struct {
	head, tail *Endpoint
	n          int
	kind       listKind
}

// listKind tells an endpoint's lists apart.
type listKind uint8

const (
	noList listKind = iota
	synQueue
	acceptQueue
	timeWaitList
)

// links makes an Endpoint an element of an endpointList.
type links struct{ prev, next *Endpoint }

func (l *endpointList) pushBack(e *Endpoint) {
	e.link, e.inList = links{prev: l.tail}, l.kind
	if l.tail != nil {
		l.tail.link.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
}

// remove takes e out if it is in this list, and reports whether it was.
func (l *endpointList) remove(e *Endpoint) bool {
	if e.inList != l.kind {
		return false
	}
	if e.link.prev != nil {
		e.link.prev.link.next = e.link.next
	} else {
		l.head = e.link.next
	}
	if e.link.next != nil {
		e.link.next.link.prev = e.link.prev
	} else {
		l.tail = e.link.prev
	}
	e.link, e.inList = links{}, noList
	l.n--
	return true
}

func (l *endpointList) popFront() *Endpoint {
	e := l.head
	if e != nil {
		l.remove(e)
	}
	return e
}

// enterTimeWait puts e at the end of the TIME-WAIT list and returns the limit if the list exceeds it, else 0. The caller holds e.mu.
func (e *Endpoint) enterTimeWait() (trim int) {
	p := e.proto
	p.mu.RLock()
	limit := p.opts.timeWaitLimit
	p.mu.RUnlock()
	e.inTimeWait, e.timeWaitAt = true, p.now()
	p.timeWaitMu.Lock()
	defer p.timeWaitMu.Unlock()
	p.timeWait.pushBack(e)
	if p.timeWait.n > limit {
		return max(limit, 1)
	}
	return 0
}

// leaveTimeWait takes e out of the TIME-WAIT list if it is there. The caller holds e.mu.
func (e *Endpoint) leaveTimeWait() {
	if !e.inTimeWait {
		return
	}
	e.inTimeWait = false
	e.proto.timeWaitMu.Lock()
	e.proto.timeWait.remove(e)
	e.proto.timeWaitMu.Unlock()
}

// trimTimeWait forgets the oldest connections in TIME-WAIT beyond the limit. The goroutine may hold the locks of other endpoints further up its stack, as
// packets are delivered inline: an endpoint that is busy goes to the end of the list and is left to the next call.
func (p *protocol) trimTimeWait(limit int) {
	for range 4 {
		p.timeWaitMu.Lock()
		if p.timeWait.n <= limit {
			p.timeWaitMu.Unlock()
			return
		}
		e := p.timeWait.popFront()
		p.timeWait.pushBack(e)
		p.timeWaitMu.Unlock()
		if e.tryLock() {
			e.forgetTimeWait()
			e.leave()
		}
	}
}

// forgetTimeWait ends TIME-WAIT early. The caller holds e.mu.
func (e *Endpoint) forgetTimeWait() {
	if e.inTimeWait {
		e.proto.stats.TimeWaitRecycled.Increment()
		e.tcb.Abort(e.proto.now(), tcb.ReasonNone)
		e.collect()
	}
}

// orphanLocked counts e as a connection without an owner, unorphanLocked takes that back. The caller holds e.mu.
func (e *Endpoint) orphanLocked() {
	if !e.orphan {
		e.orphan = true
		e.proto.orphans.Add(1)
	}
}

func (e *Endpoint) unorphanLocked() {
	if e.orphan {
		e.orphan = false
		e.proto.orphans.Add(-1)
	}
}

// MemoryInUse returns the buffer memory that the connections of s hold at present, in bytes; 0 if the stack's TCP is not Plumbline's. It is safe for concurrent use.
func MemoryInUse(s *stack.Stack) int64 {
	if p := protocolOf(s); p != nil {
		return p.memory.used.Load()
	}
	return 0
}
