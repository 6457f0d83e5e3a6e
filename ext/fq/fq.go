package fq

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Options configures a discipline. Zero values give the defaults.
type Options struct {
	// Limit is how many packets may wait in all, FlowLimit how many of one flow. The defaults are 10,000 and 100, as in Linux. Both must not be negative.
	Limit, FlowLimit int
	// Quantum is what a flow may send in its turn, in bytes. The default is 3028, two full packets of Ethernet. It must not be negative.
	Quantum int
	// FlowRate bounds each flow and LinkRate all of them together, in bytes per second; 0 is no bound.
	FlowRate, LinkRate uint64
	// Seed varies how flows of packets without a hash of their own are told apart, so that nobody outside can choose packets that seem to be one flow. It should come
	// from the stack's source of randomness.
	Seed uint32
}

func (o Options) withDefaults() Options {
	if o.Limit == 0 {
		o.Limit = 10_000
	}
	if o.FlowLimit == 0 {
		o.FlowLimit = 100
	}
	if o.Quantum == 0 {
		o.Quantum = 3028
	}
	if o.Limit < 0 || o.FlowLimit < 0 || o.Quantum < 0 {
		panic(fmt.Sprintf("fq: negative limit, flow limit or quantum: %d, %d, %d", o.Limit, o.FlowLimit, o.Quantum))
	}
	return o
}

// Stats are a discipline's counters, in packets since New.
type Stats struct {
	// Sent counts packets that the link took, Dropped those that it failed to send for another reason than a lack of room.
	Sent, Dropped uint64
	// Refused counts packets refused since too many waited, FlowRefused those of them for which only their own flow had too many.
	Refused, FlowRefused uint64
	// LinkRefused counts how often the link had no room.
	LinkRefused uint64
	// Waiting is how many packets wait now, Flows how many flows they belong to.
	Waiting, Flows int
}

// Discipline is a stack.QueueingDiscipline. It is safe for concurrent use.
type Discipline struct {
	lower stack.LinkWriter
	clock tcpip.Clock
	opts  Options

	mu sync.Mutex
	// All that follows is guarded by mu.
	flows map[uint32]*flow
	// fresh holds flows in their first turn, old the others in the order of their turns, resting those whose pace makes them wait.
	fresh, old flowList
	resting    restingHeap
	// free are flows to be used again, so that a flow that comes and goes allocates nothing.
	free *flow
	// unsent holds what was taken from the queues and has not been taken by the link, in order.
	unsent []*stack.PacketBuffer
	// batch is what the link has been given, for who is in send.
	batch stack.PacketBufferList
	stats Stats
	// linkFree is when the link may send again at LinkRate, retryAt when one that had no room is tried again.
	linkFree, retryAt tcpip.MonotonicTime
	// sending tells that somebody is in send.
	sending, closed bool
	timer           tcpip.Timer
	timerAt         tcpip.MonotonicTime
}

var _ stack.QueueingDiscipline = (*Discipline)(nil)

// New returns a discipline that sends through lower and takes time from clock, which should be the stack's. It panics if an option is negative.
func New(lower stack.LinkWriter, clock tcpip.Clock, opts Options) *Discipline {
	return &Discipline{lower: lower, clock: clock, opts: opts.withDefaults(), flows: make(map[uint32]*flow)}
}

// Stats returns the counters.
func (d *Discipline) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Flows = len(d.flows)
	return s
}

// WritePacket implements stack.QueueingDiscipline.WritePacket. It fails with ErrNoBufferSpace if too many packets wait and with ErrClosedForSend after Close.
func (d *Discipline) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return &tcpip.ErrClosedForSend{}
	}
	if d.stats.Waiting >= d.opts.Limit {
		d.stats.Refused++
		return &tcpip.ErrNoBufferSpace{}
	}
	f := d.flowOf(d.key(pkt))
	if f.q.len() >= d.opts.FlowLimit {
		d.stats.Refused++
		d.stats.FlowRefused++
		return &tcpip.ErrNoBufferSpace{}
	}
	f.q.push(pkt.IncRef())
	d.stats.Waiting++
	d.send()
	return nil
}

// Close implements stack.QueueingDiscipline.Close. What waits is dropped.
func (d *Discipline) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	for _, f := range d.flows {
		for f.q.len() > 0 {
			f.q.pop().DecRef()
		}
	}
	clear(d.flows)
	d.fresh, d.old, d.resting, d.free = flowList{}, flowList{}, nil, nil
	for _, pkt := range d.unsent {
		pkt.DecRef()
	}
	d.unsent = nil
	d.stats.Waiting = 0
}

// batchSize is how many packets the link gets at once.
const batchSize = 32

// retryTime is how long to wait for a link that has no room.
const retryTime = time.Millisecond

// send sends all that is due. The caller holds d.mu, which is released while the link works. If the link answers at once, as in memory, the answer to a packet may come here
// again while this is under way: then it only waits in its queue.
func (d *Discipline) send() {
	if d.sending {
		return
	}
	d.sending = true
	for !d.closed {
		now := d.clock.NowMonotonic()
		if now.Before(d.retryAt) {
			break
		}
		d.wake(now)
		for len(d.unsent) < batchSize && !now.Before(d.linkFree) {
			pkt := d.next(now)
			if pkt == nil {
				break
			}
			d.unsent = append(d.unsent, pkt)
		}
		if len(d.unsent) == 0 {
			break
		}
		d.write(now)
	}
	d.sending = false
	d.arm()
}

// write passes unsent to the link.
func (d *Discipline) write(now tcpip.MonotonicTime) {
	for _, pkt := range d.unsent {
		d.batch.PushBack(pkt)
	}
	clear(d.unsent)
	d.unsent = d.unsent[:0]
	d.mu.Unlock()
	n, err := d.lower.WritePackets(d.batch)
	d.mu.Lock()
	pkts := d.batch.AsSlice()
	n = min(max(n, 0), len(pkts))
	left := len(pkts)
	d.stats.Sent += uint64(n)
	switch err.(type) {
	case *tcpip.ErrNoBufferSpace, *tcpip.ErrWouldBlock:
		d.stats.LinkRefused++
		d.retryAt = now.Add(retryTime)
		if !d.closed {
			for _, pkt := range pkts[n:] {
				d.unsent = append(d.unsent, pkt.IncRef())
			}
			left = n
		}
	default:
		// A link that sends part of a batch, with an error or without, has failed to send the rest.
		d.stats.Dropped += uint64(len(pkts) - n)
	}
	d.batch.Reset() // lets go of them all
	if !d.closed {
		d.stats.Waiting -= left
	}
}

// next takes the next packet that is due, nil if there is none.
func (d *Discipline) next(now tcpip.MonotonicTime) *stack.PacketBuffer {
	for {
		list := &d.fresh
		if list.head == nil {
			list = &d.old
		}
		f := list.head
		switch {
		case f == nil:
			return nil
		case f.deficit <= 0:
			f.deficit += d.opts.Quantum
			list.pop()
			d.old.push(f)
			continue
		case f.q.len() == 0:
			list.pop()
			if list == &d.fresh && d.old.head != nil {
				d.old.push(f) // or a flow of single packets would always be new (RFC 8290 §4.2)
				continue
			}
			d.rest(f, now)
			continue
		case now.Before(f.free):
			list.pop()
			d.rest(f, now)
			continue
		}
		pkt := f.q.pop()
		size := pkt.Size()
		f.deficit -= size
		f.free = due(f.free, now, size, d.opts.FlowRate)
		d.linkFree = due(d.linkFree, now, size, d.opts.LinkRate)
		return pkt
	}
}

// slack is how much of a rate's time that was not used may be made up for, since timers fire late. It allows a burst of a millisecond's worth.
const slack = time.Millisecond

// due is when size bytes that leave at now have had their time at a rate, whose time up to free was taken before.
func due(free, now tcpip.MonotonicTime, size int, rate uint64) tcpip.MonotonicTime {
	if rate == 0 {
		return free
	}
	if unused := now.Sub(free); unused > slack {
		free = free.Add(unused - slack)
	}
	return free.Add(time.Duration(uint64(size) * 1e9 / rate))
}

// rest takes a flow out of turn until its pace lets it send again; without anything to send, and with its pace kept, it is forgotten.
func (d *Discipline) rest(f *flow, now tcpip.MonotonicTime) {
	if now.Before(f.free) {
		d.resting.push(f)
		return
	}
	delete(d.flows, f.key)
	*f = flow{next: d.free, q: f.q}
	d.free = f
}

// wake gives turns to the flows whose time has come.
func (d *Discipline) wake(now tcpip.MonotonicTime) {
	for len(d.resting) > 0 && !now.Before(d.resting[0].free) {
		f := d.resting.pop()
		d.old.push(f)
	}
}

// arm sets the timer for the next packet that is not due yet.
func (d *Discipline) arm() {
	if d.closed {
		return
	}
	at, ok := d.nextTime()
	if !ok || d.timer != nil && d.timerAt == at {
		return
	}
	d.timerAt = at
	wait := max(at.Sub(d.clock.NowMonotonic()), 0)
	if d.timer == nil {
		d.timer = d.clock.AfterFunc(wait, d.expired)
	} else {
		d.timer.Reset(wait)
	}
}

// nextTime is when something will be due, false if nothing waits.
func (d *Discipline) nextTime() (at tcpip.MonotonicTime, ok bool) {
	switch {
	case len(d.unsent) > 0:
		return d.retryAt, true
	case d.fresh.head != nil || d.old.head != nil:
		return d.linkFree, true
	case len(d.resting) > 0:
		return d.resting[0].free, true
	}
	return at, false
}

func (d *Discipline) expired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timerAt = tcpip.MonotonicTime{}
	if !d.closed {
		d.send()
	}
}
