package tcb

import "fmt"

// The states of RFC 9293 §3.3.2 with gVisor's numbers for them. StateInitial to StateError have no counterpart in the RFC.
const (
	StateEstablished State = iota + 1
	StateSynSent
	StateSynRecv
	StateFinWait1
	StateFinWait2
	StateTimeWait
	StateClosed
	StateCloseWait
	StateLastAck
	StateListen
	StateClosing
)

var stateNames = [...]string{
	StateEstablished: "ESTABLISHED", StateSynSent: "SYN-SENT", StateSynRecv: "SYN-RECEIVED", StateFinWait1: "FIN-WAIT-1", StateFinWait2: "FIN-WAIT-2",
	StateTimeWait: "TIME-WAIT", StateClosed: "CLOSED", StateCloseWait: "CLOSE-WAIT", StateLastAck: "LAST-ACK", StateListen: "LISTEN", StateClosing: "CLOSING",
}

// String returns the state's name as the RFC writes it.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// set is a set of states.
type set uint16

func of(states ...State) set {
	var x set
	for _, s := range states {
		x |= 1 << s
	}
	return x
}

func (x set) has(s State) bool { return x&(1<<s) != 0 }

// arrows is RFC 9293 figure 5, with §3.10.7's corrections, as sets of successors. LISTEN has no TCB of its own here: the listener creates the TCB in CLOSED
// and OpenPassive takes it to SYN-RECEIVED, the figure's arrow from LISTEN. Every state may go to CLOSED (RST, ABORT, time-out).
var arrows = [...]set{
	StateClosed:      of(StateSynSent, StateSynRecv, StateEstablished), // ESTABLISHED directly by a SYN cookie, RFC 4987 §3.6
	StateSynSent:     of(StateSynRecv, StateEstablished, StateClosed),
	StateSynRecv:     of(StateEstablished, StateFinWait1, StateCloseWait, StateClosed),
	StateEstablished: of(StateFinWait1, StateCloseWait, StateClosed),
	StateFinWait1:    of(StateFinWait2, StateClosing, StateTimeWait, StateClosed),
	StateFinWait2:    of(StateTimeWait, StateClosed),
	StateCloseWait:   of(StateLastAck, StateClosed),
	StateClosing:     of(StateTimeWait, StateClosed),
	StateLastAck:     of(StateClosed),
	StateTimeWait:    of(StateClosed),
	StateListen:      0,
}

// sets of states that the rules of §3.10 name together
var (
	synchronized = of(StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait, StateClosing, StateLastAck, StateTimeWait)
	canReceive   = of(StateEstablished, StateFinWait1, StateFinWait2)
)

// setState is the only place where the state changes. A transition that figure 5 does not have is a bug of the core: it is refused by aborting the
// connection, since no panic may reach an embedder, and counted so that tests and fuzzing see it.
func (t *TCB) setState(next State) {
	if t.state == next {
		return
	}
	if !arrows[t.state].has(next) {
		t.illegal++
		next = StateClosed
	}
	t.state = next
	if next == StateClosed {
		t.events |= EventClosed | EventHangup | EventReadable | EventWritable
		t.stopTimers()
	}
}
