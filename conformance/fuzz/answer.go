package fuzz

// answer is what a target did in answer to one step, as far as two TCPs that follow the
// RFCs could be compared by it.
type answer struct {
	// Expected and Seen are its highest acknowledgment and the end of what it has sent.
	Expected, Seen uint32
	// Segments counts what it has sent, Resets the RSTs.
	Segments, Resets int
	// Read is how much was delivered to the application, Errno its first error.
	Read  int
	Errno string
	// Fin says that it has sent its FIN.
	Fin bool
}

// answer returns the state after a step.
func (p *peer) answer() answer {
	return answer{
		Expected: p.expected, Seen: p.seen, Segments: p.packets, Resets: p.resets,
		Read: p.app.read, Errno: p.app.errno, Fin: p.finSeen,
	}
}
