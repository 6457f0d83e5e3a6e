package tcpx

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// The lock of an endpoint
//
// Whoever delivers a packet processes it, if the endpoint is free. If it is not, because a user call, a timer or another packet holds it, the packet goes to
// the backlog, which the holder empties before it lets go. So no packet ever waits for a lock: links such as link/pipe and loopback deliver inline, under the locks
// of the sending endpoint and of those further up, and waiting would deadlock.
//
// The rules:
//   - Endpoint.lock is for user calls and timers only, which hold no other endpoint's lock. All others use tryLock.
//   - Every holder leaves through Endpoint.leave.
//   - listener.mu, protocol.timeWaitMu and pauseState.mu are leaves: nothing is called while they are held.
//   - The waiter queue is notified without the endpoint's own lock, but maybe under those of others. Hence Endpoint.Readiness takes no lock at all.

// inbound is what the network delivers to an endpoint: a segment or an ICMP error. It is owned by one goroutine or one backlog at a time.
type inbound struct {
	next *inbound
	seg  tcb.Segment
	icmp *icmpError // nil for a segment
	id   stack.TransportEndpointID
	net  tcpip.NetworkProtocolNumber
	nic  tcpip.NICID
	// size is what the backlog accounts for it.
	size int32
}

var inboundPool = sync.Pool{New: func() any { return new(inbound) }}

func newInbound() *inbound { return inboundPool.Get().(*inbound) }

// release gives the payload and s itself back.
func (s *inbound) release() {
	s.seg.Payload.Release()
	s.next, s.icmp, s.seg.Len = nil, nil, 0
	inboundPool.Put(s)
}

// backlog is what arrived while the endpoint was locked. Any number of goroutines push; the holder of the endpoint's lock takes all. Packets of one goroutine keep
// their order.
type backlog struct {
	top   atomic.Pointer[inbound] // newest first
	bytes atomic.Int32
}

func (b *backlog) empty() bool { return b.top.Load() == nil }

// push adds s and reports whether it was taken: the backlog holds no more than limit bytes, but always one packet.
func (b *backlog) push(s *inbound, limit int64) bool {
	if n := b.bytes.Add(s.size); int64(n) > limit && n != s.size {
		b.bytes.Add(-s.size)
		return false
	}
	for {
		top := b.top.Load()
		s.next = top
		if b.top.CompareAndSwap(top, s) {
			return true
		}
	}
}

// takeAll returns everything, oldest first, linked by next.
func (b *backlog) takeAll() *inbound {
	var first *inbound
	n := int32(0)
	for s := b.top.Swap(nil); s != nil; {
		next := s.next
		s.next, first = first, s
		n += s.size
		s = next
	}
	b.bytes.Add(-n)
	return first
}

// backlogLimit bounds the backlog in bytes: both buffers, as in Linux, and room for a burst of control segments.
func (e *Endpoint) backlogLimit() int64 {
	return e.ops.GetReceiveBufferSize() + e.ops.GetSendBufferSize() + 64<<10
}

// deliver hands s to the endpoint, at once or through the backlog. It takes s over.
func (e *Endpoint) deliver(s *inbound) {
	locked := e.tryLock()
	if locked && e.backlog.empty() && !e.proto.pause.on.Load() {
		e.process(s)
		e.leave()
		return
	}
	pushed := e.backlog.push(s, e.backlogLimit())
	if !pushed {
		e.proto.dropped.Increment()
		e.statistics().ReceiveErrors.SegmentQueueDropped.Increment()
		s.release()
	}
	// The holder may have looked at the backlog for the last time before the push.
	if locked || (pushed && e.tryLock()) {
		e.leave()
	}
}

// scratchPool holds what the core needs while an endpoint is locked.
var scratchPool = sync.Pool{New: func() any { return new(tcb.Scratch) }}

// lock is how user calls and timers take the endpoint.
func (e *Endpoint) lock() {
	e.mu.Lock()
	e.tcb.Lend(scratchPool.Get().(*tcb.Scratch))
}

// tryLock is how all others do.
func (e *Endpoint) tryLock() bool {
	if !e.mu.TryLock() {
		return false
	}
	e.tcb.Lend(scratchPool.Get().(*tcb.Scratch))
	return true
}

// leave empties the backlog, lets go of the lock and then tells those who wait. The caller holds e.mu.
func (e *Endpoint) leave() {
	for {
		e.drain()
		w := e.settle()
		scratchPool.Put(e.tcb.Reclaim())
		e.mu.Unlock()
		w.notify(e)
		if e.backlog.empty() {
			return
		}
		if e.proto.pause.on.Load() && e.proto.pause.add(e) {
			return
		}
		if !e.tryLock() {
			return // Whoever has it sees the backlog when leaving.
		}
	}
}

// drain processes the backlog. The caller holds e.mu.
func (e *Endpoint) drain() {
	for !e.backlog.empty() && !e.proto.pause.on.Load() {
		series := false
		for s := e.backlog.takeAll(); s != nil; {
			next := s.next
			s.next = nil
			// One ACK answers the whole series (RFC 9293 MUST-58, MUST-59).
			s.seg.More = next != nil
			series = series || s.seg.More
			e.process(s)
			s = next
		}
		if series {
			e.tcb.Flush(e.proto.now()) // the last may not have reached the core
			e.collect()
		}
	}
}

// wake is what must be told after a locked section.
type wake struct {
	events waiter.EventMask
	// parent is the listener whose accept queue got a connection.
	parent *Endpoint
	// trim is the limit that the TIME-WAIT list exceeds, 0 if it does not.
	trim int
}

func (w *wake) notify(e *Endpoint) {
	if w.events != 0 {
		e.waiterQueue.Notify(w.events)
	}
	if w.parent != nil {
		w.parent.waiterQueue.Notify(waiter.ReadableEvents)
	}
	if w.trim != 0 {
		e.proto.trimTimeWait(w.trim)
	}
}

// pauseState holds back all incoming packets between Pause and Resume.
type pauseState struct {
	on atomic.Bool

	mu sync.Mutex
	// waiting are the endpoints with packets in their backlogs, guarded by mu.
	waiting map[*Endpoint]struct{}
}

// add notes that e has packets for Resume, and reports false if Resume has been called in between.
func (p *pauseState) add(e *Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on.Load() {
		return false
	}
	if p.waiting == nil {
		p.waiting = make(map[*Endpoint]struct{})
	}
	p.waiting[e] = struct{}{}
	return true
}

// Pause implements stack.TransportProtocol.Pause: when it returns, no packet is being processed and none will be until Resume; those that arrive wait in the
// endpoints' backlogs. User calls and timers go on.
func (p *protocol) Pause() {
	p.pause.mu.Lock()
	p.pause.on.Store(true)
	p.pause.mu.Unlock()
	// Whoever took an endpoint's lock before the store may still process a packet; whoever takes it later sees the store.
	for _, t := range p.stack.RegisteredEndpoints() {
		if e, ok := t.(*Endpoint); ok && e.proto == p {
			e.lock()
			e.leave()
		}
	}
}

// Resume implements stack.TransportProtocol.Resume.
func (p *protocol) Resume() {
	p.pause.mu.Lock()
	p.pause.on.Store(false)
	waiting := p.pause.waiting
	p.pause.waiting = nil
	p.pause.mu.Unlock()
	for e := range waiting {
		e.lock()
		e.leave()
	}
}
