package tcb

import (
	"testing"
)

// TestStatesAreReached proves the walk to every state that other tests start from.
func TestStatesAreReached(t *testing.T) {
	for _, s := range []State{
		StateClosed, StateSynSent, StateSynRecv, StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait, StateClosing, StateLastAck, StateTimeWait,
	} {
		newRig(t).to(s).expectState(s)
	}
}
