package window

import "github.com/plumbline/plumbline/congestion"

// Undo keeps what an algorithm must restore when an episode turns out to be spurious. T is the algorithm's whole state to restore.
//
// A timeout may strike within fast recovery, and either may turn out to be spurious on its own: each has its own place.
type Undo[T any] struct {
	recovery, timeout slot[T]
}

type slot[T any] struct {
	state T
	full  bool
}

func (u *Undo[T]) slot(s congestion.Signal) *slot[T] {
	if s == congestion.RTO || s == congestion.PersistentCongestion {
		return &u.timeout
	}
	return &u.recovery
}

// Save keeps the state before the episode that s starts. A second timeout in a row belongs to the episode of the first.
func (u *Undo[T]) Save(s congestion.Signal, state T) {
	slot := u.slot(s)
	if s == congestion.PersistentCongestion && slot.full {
		return
	}
	slot.state, slot.full = state, true
}

// Take returns the state before the episode of s and forgets it; false if there is none.
func (u *Undo[T]) Take(s congestion.Signal) (state T, ok bool) {
	slot := u.slot(s)
	state, ok = slot.state, slot.full
	slot.full = false
	return state, ok
}

// Clear forgets all.
func (u *Undo[T]) Clear() { *u = Undo[T]{} }
