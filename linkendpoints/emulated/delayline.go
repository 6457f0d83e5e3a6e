package emulated

import (
	"container/heap"
	"time"
)

// delayLine holds packets until they are due. Those that come in order, which are all of them on most paths, take no more than a ring.
type delayLine struct {
	ordered ring[packet]
	others  packetHeap
}

func (l *delayLine) len() int { return l.ordered.len() + len(l.others) }

// push adds a packet that is due at p.at.
func (l *delayLine) push(p packet) {
	if l.ordered.len() == 0 || l.ordered.back().at <= p.at {
		l.ordered.push(p)
		return
	}
	heap.Push(&l.others, p)
}

// next returns when the first packet is due; it reports false if there is none.
func (l *delayLine) next() (time.Duration, bool) {
	switch {
	case l.len() == 0:
		return 0, false
	case l.orderedFirst():
		return l.ordered.front().at, true
	}
	return l.others[0].at, true
}

// pop removes the first packet of a line that is not empty.
func (l *delayLine) pop() packet {
	if l.orderedFirst() {
		return l.ordered.pop()
	}
	return heap.Pop(&l.others).(packet)
}

// orderedFirst tells which of the two has the first packet of a line that is not empty.
func (l *delayLine) orderedFirst() bool {
	if len(l.others) == 0 {
		return true
	}
	return l.ordered.len() > 0 && l.ordered.front().before(&l.others[0])
}

// before orders packets by when they are due, then by when they came.
func (p *packet) before(q *packet) bool {
	return p.at < q.at || p.at == q.at && p.seq < q.seq
}

// packetHeap implements heap.Interface.
type packetHeap []packet

func (h packetHeap) Len() int           { return len(h) }
func (h packetHeap) Less(i, j int) bool { return h[i].before(&h[j]) }
func (h packetHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)        { *h = append(*h, x.(packet)) }
func (h *packetHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*h = old[:len(old)-1]
	return p
}
