package fq

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// flow is the queue of one flow.
type flow struct {
	key uint32
	q   queue
	// deficit is what is left of the turn, in bytes.
	deficit int
	// free is when the flow may send again at FlowRate.
	free tcpip.MonotonicTime
	next *flow
}

// flowOf returns the flow with a key; one that is not known gets the next turn.
func (d *Discipline) flowOf(key uint32) *flow {
	if f := d.flows[key]; f != nil {
		return f
	}
	f := d.free
	if f == nil {
		f = new(flow)
	} else {
		d.free = f.next
		f.next = nil
	}
	f.key, f.deficit = key, d.opts.Quantum
	d.flows[key] = f
	d.fresh.push(f)
	return f
}

// key tells flows apart: by the hash that the transport has put on the packet, or by addresses, protocol and ports.
func (d *Discipline) key(pkt *stack.PacketBuffer) uint32 {
	if pkt.Hash != 0 {
		return pkt.Hash
	}
	h := 2166136261 ^ d.opts.Seed // FNV-1a
	mix := func(b []byte) {
		for _, x := range b {
			h = (h ^ uint32(x)) * 16777619
		}
	}
	ip := pkt.NetworkHeader().Slice()
	switch {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(ip) >= header.IPv4MinimumSize:
		mix(ip[9:10])
		mix(ip[12:20])
		if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return h // a fragment: the others have no ports
		}
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(ip) >= header.IPv6MinimumSize:
		mix(ip[6:7])
		mix(ip[8:40])
	}
	if t := pkt.TransportHeader().Slice(); len(t) >= 4 {
		mix(t[:4])
	}
	return h
}

// queue is a first-in, first-out queue that uses its memory again.
type queue struct {
	pkts []*stack.PacketBuffer
	head int
}

func (q *queue) len() int { return len(q.pkts) - q.head }

func (q *queue) push(pkt *stack.PacketBuffer) {
	if q.head > 0 && len(q.pkts) == cap(q.pkts) {
		n := copy(q.pkts, q.pkts[q.head:])
		clear(q.pkts[n:])
		q.pkts, q.head = q.pkts[:n], 0
	}
	q.pkts = append(q.pkts, pkt)
}

func (q *queue) pop() *stack.PacketBuffer {
	pkt := q.pkts[q.head]
	q.pkts[q.head] = nil
	if q.head++; q.head == len(q.pkts) {
		q.pkts, q.head = q.pkts[:0], 0
	}
	return pkt
}

// flowList is a first-in, first-out list of flows.
type flowList struct{ head, tail *flow }

func (l *flowList) push(f *flow) {
	f.next = nil
	if l.head == nil {
		l.head = f
	} else {
		l.tail.next = f
	}
	l.tail = f
}

func (l *flowList) pop() *flow {
	f := l.head
	l.head, f.next = f.next, nil
	return f
}

// restingHeap is a binary heap of flows, the one that may send first on top.
type restingHeap []*flow

func (h *restingHeap) push(f *flow) {
	*h = append(*h, f)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s[i].free.Before(s[up].free) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (h *restingHeap) pop() *flow {
	s := *h
	top, n := s[0], len(s)-1
	s[0], s[n] = s[n], nil
	s = s[:n]
	*h = s
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < n && s[c].free.Before(s[least].free) {
				least = c
			}
		}
		if least == i {
			return top
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
