package arp

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// EventKind says what happened to an entry of the neighbour cache.
type EventKind uint8

// The kinds of events.
const (
	Added EventKind = iota
	Changed
	Removed
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case Added:
		return "added"
	case Changed:
		return "changed"
	}
	return "removed"
}

// Event is a change in the neighbour cache. Neighbor is the entry after it, or as it was when removed.
type Event struct {
	Kind     EventKind
	Neighbor Neighbor
}

var _ stack.NUDDispatcher = (*Watcher)(nil)

// Watcher keeps the events of the neighbour cache until somebody takes them. It is the NUDDisp of the stack's options:
//
//	w := arp.NewWatcher(0)
//	s := stack.New(stack.Options{NUDDisp: w, ...})
//
// The stack reports events under its locks; from a Watcher they are taken without, so that who handles them may call anything. Its methods are safe for
// concurrent use.
type Watcher struct {
	mu    sync.Mutex
	ring  []Event
	first int
	n     int
	lost  uint64
	ready chan struct{}
}

// NewWatcher returns a Watcher that keeps up to size events, 1,024 if size is 0 or less. When it is full, the oldest event is lost.
func NewWatcher(size int) *Watcher {
	if size <= 0 {
		size = 1024
	}
	return &Watcher{ring: make([]Event, size), ready: make(chan struct{}, 1)}
}

// Next takes the oldest event, and reports false if there is none.
func (w *Watcher) Next() (Event, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == 0 {
		return Event{}, false
	}
	ev := w.ring[w.first]
	w.first = (w.first + 1) % len(w.ring)
	w.n--
	return ev, true
}

// Ready returns a channel that has a value when there may be events to take.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Lost returns the number of events that were lost because nobody took them.
func (w *Watcher) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *Watcher) put(k EventKind, nic tcpip.NICID, n stack.NeighborEntry) {
	if n.Addr.BitLen() != 8*header.IPv4AddressSize {
		return // NDP's
	}
	w.mu.Lock()
	if w.n == len(w.ring) {
		w.first = (w.first + 1) % len(w.ring)
		w.n--
		w.lost++
	}
	w.ring[(w.first+w.n)%len(w.ring)] = Event{Kind: k, Neighbor: neighbor(nic, n)}
	w.n++
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// OnNeighborAdded implements stack.NUDDispatcher.
func (w *Watcher) OnNeighborAdded(nic tcpip.NICID, n stack.NeighborEntry) { w.put(Added, nic, n) }

// OnNeighborChanged implements stack.NUDDispatcher.
func (w *Watcher) OnNeighborChanged(nic tcpip.NICID, n stack.NeighborEntry) { w.put(Changed, nic, n) }

// OnNeighborRemoved implements stack.NUDDispatcher.
func (w *Watcher) OnNeighborRemoved(nic tcpip.NICID, n stack.NeighborEntry) { w.put(Removed, nic, n) }
