package emulated

import (
	"math"
	"time"
)

// FQCoDel is the queue discipline of RFC 8290: flows in queues of their own under CoDel, served by deficit round robin, new ones first.
type FQCoDel struct {
	// Target and Interval are CoDel's; 0 means the default of each.
	Target, Interval time.Duration
	// Flows is the number of queues (RFC 8290 §5.2.4); 0 means 1024.
	Flows int
	// Quantum is what a queue may send in a round, in bytes (§5.2.3); 0 means the MTU.
	Quantum int
	// Packets bounds all queues together (§5.2.1); 0 means 10240.
	Packets int
	// ECN marks packets that allow it in place of dropping them.
	ECN bool
}

// The defaults of RFC 8290 §5.2, and how many packets are dropped at once from the longest queue at most (§4.1.3).
const (
	defaultFQFlows   = 1024
	defaultFQPackets = 10240
	fqDropBatch      = 64
)

func (f FQCoDel) validate() error {
	if err := validateCoDel(f.Target, f.Interval, f.Packets); err != nil {
		return err
	}
	if err := checkRange("Flows", f.Flows, 0, 1<<16); err != nil {
		return err
	}
	return checkRange("Quantum", f.Quantum, 0, math.MaxInt32)
}

// String describes the queue in a few words.
func (FQCoDel) String() string { return "FQ-CoDel" }

func (f FQCoDel) discipline(env *queueEnv) discipline {
	if f.Flows == 0 {
		f.Flows = defaultFQFlows
	}
	if f.Quantum == 0 {
		f.Quantum = env.mtu
	}
	if f.Packets == 0 {
		f.Packets = defaultFQPackets
	}
	return &fqCodel{
		limit:   f.Packets,
		quantum: f.Quantum,
		params:  newCodelParams(f.Target, f.Interval, f.ECN, env),
		flows:   make([]fqFlow, f.Flows),
	}
}

// fqFlow is the queue of the flows that hash to one bucket.
type fqFlow struct {
	q       backlog
	codel   codelState
	deficit int
	active  bool // on one of the lists
}

type fqCodel struct {
	limit, quantum int
	params         codelParams
	flows          []fqFlow
	fresh, old     ring[*fqFlow]
	count, size    int
}

func (f *fqCodel) packets() int { return f.count }
func (f *fqCodel) bytes() int   { return f.size }

func (f *fqCodel) enqueue(now time.Duration, p packet) {
	flow := &f.flows[int(p.flow)%len(f.flows)]
	p.at = now
	flow.q.push(p)
	f.count++
	f.size += int(p.size)
	if !flow.active {
		flow.active = true
		flow.deficit = f.quantum
		f.fresh.push(flow)
	}
	if f.count > f.limit {
		f.dropFromLongest()
	}
}

// dropFromLongest drops half of the packets of the queue with the most bytes, no more than a batch (RFC 8290 §4.1.3).
func (f *fqCodel) dropFromLongest() {
	longest := &f.flows[0]
	for i := range f.flows {
		if f.flows[i].q.size > longest.q.size {
			longest = &f.flows[i]
		}
	}
	n := min(fqDropBatch, max(1, longest.q.len()/2))
	for range n {
		p, _ := longest.q.pop()
		f.removed(p)
		f.params.env.drop(p, DropOverflow)
	}
}

func (f *fqCodel) removed(p packet) {
	f.count--
	f.size -= int(p.size)
}

func (f *fqCodel) dequeue(now time.Duration) (packet, bool) {
	for {
		list := &f.fresh
		if list.len() == 0 {
			list = &f.old
		}
		if list.len() == 0 {
			return packet{}, false
		}
		flow := *list.front()
		if flow.deficit <= 0 {
			flow.deficit += f.quantum
			f.old.push(list.pop())
			continue
		}
		count, size := flow.q.len(), flow.q.size
		p, ok := flow.codel.dequeue(now, &flow.q, &f.params)
		f.count -= count - flow.q.len()
		f.size -= size - flow.q.size
		if ok {
			flow.deficit -= int(p.size)
			return p, true
		}
		list.pop()
		if list == &f.fresh {
			// Once more through the old queues, lest a flow that sends a packet at a time starves the others (RFC 8290 §4.2).
			f.old.push(flow)
		} else {
			flow.active = false
		}
	}
}
