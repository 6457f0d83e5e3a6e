package tcb

import (
	"testing"
	"unsafe"
)

// TestStatesAreReached proves the walk to every state that other tests start from.
func TestStatesAreReached(t *testing.T) {
	for _, s := range []State{
		StateClosed, StateSynSent, StateSynRecv, StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait, StateClosing, StateLastAck, StateTimeWait,
	} {
		newRig(t).to(s).expectState(s)
	}
}

// TestIdleSize: what an idle connection costs here. What sending needs comes apart, when something is sent.
func TestIdleSize(t *testing.T) {
	if n := unsafe.Sizeof(TCB{}); n > 832 {
		t.Errorf("a TCB takes %d octets", n)
	}
	r := newRig(t).to(StateEstablished)
	r.in(r.ack(0), "only heard")
	if r.sender != nil {
		t.Error("a connection that has sent nothing has a sender's state")
	}
}
