package fuzz

// answer is what a target did in answer to one step, as far as two TCPs that follow the
// RFCs can be compared by it.
type answer struct {
	// State is what the connection is in before the step, in a word.
	State string
	// Expected is the target's highest acknowledgment.
	Expected uint32
	// Resets counts the RSTs in answer to the step, Answered says that there was any
	// segment, and Idle that none was due for another reason.
	Resets   int
	Answered bool
	Idle     bool
	// Read is how much was delivered to the application, Errno its first error.
	Read  int
	Errno string
	// Fin says that the target has sent its FIN.
	Fin bool
}

// answer returns what the target has done since before.
func (p *peer) answer(before answer, packets, resets int) answer {
	return answer{
		State: before.State, Idle: before.Idle,
		Expected: p.expected, Resets: p.resets - resets, Answered: p.packets > packets,
		Read: p.app.read, Errno: p.app.errno, Fin: p.finSeen,
	}
}

// state is the state of the connection, as far as the peer can know, before a step.
func (p *peer) state() answer {
	s := "established"
	switch {
	case p.reset || p.app.errno != "":
		s = "after a reset"
	case !p.synSent:
		s = "opening"
	case p.acked == 0:
		s = "handshake"
	case p.finSent && p.finSeen:
		s = "closing both ways"
	case p.finSent:
		s = "peer has closed"
	case p.finSeen || p.app.closed:
		s = "target has closed"
	}
	return answer{State: s, Idle: p.seen == p.acked && p.app.written < int(p.seen)}
}
