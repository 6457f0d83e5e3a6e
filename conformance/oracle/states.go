package oracle

// stateSet is a set of states of RFC 9293 section 3.3.2: those that a TCP may
// be in, since neither its calls nor what it has received can be seen.
type stateSet uint16

const (
	stClosed stateSet = 1 << iota
	stListen
	stSynSent
	stSynReceived
	stEstablished
	stFinWait1
	stFinWait2
	stCloseWait
	stClosing
	stLastAck
	stTimeWait

	stAny          = 1<<11 - 1
	stSynchronized = stSynReceived | stEstablished | stFinWait1 | stFinWait2 | stCloseWait | stClosing | stLastAck | stTimeWait
)

// event is what a segment means for the states of both ends.
type event struct {
	syn, ack, rst, fin bool
	// again is a SYN or FIN that was sent before.
	again bool
	// acksFin says that it acknowledges the receiver's FIN.
	acksFin bool
}

// send returns the states from which a TCP sends the segment, and those that it
// is then in. The RST of a TCP that has no connection leaves it so, and one in
// SYN-SENT or SYN-RECEIVED answers what it cannot accept (section 3.5.2).
func (set stateSet) send(e event) (from, to stateSet) {
	switch {
	case e.rst:
		return set, stClosed | set&(stClosed|stListen|stSynSent|stSynReceived)
	case e.syn && !e.ack && e.again:
		from = set & (stSynSent | stSynReceived)
		return from, from
	case e.syn && !e.ack:
		return set, stSynSent
	case e.syn:
		return set & stSynReceived, stSynReceived
	case e.fin && e.again:
		from = set & (stFinWait1 | stClosing | stLastAck)
		return from, from
	case e.fin:
		from = set & (stSynReceived | stEstablished | stCloseWait)
		if from&(stSynReceived|stEstablished) != 0 {
			to |= stFinWait1
		}
		if from&stCloseWait != 0 {
			to |= stLastAck
		}
		return from, to
	}
	from = set & stSynchronized
	return from, from
}

// receive returns the states of a TCP that the segment may reach or not. The
// application may open at any time, so that a closed one may listen.
func (set stateSet) receive(e event) stateSet {
	move := func(from, to stateSet) {
		if set&from != 0 {
			set |= to
		}
	}
	switch {
	case e.rst:
		return set | stClosed | stListen
	case e.syn && !e.ack:
		move(stClosed|stListen|stSynSent|stTimeWait, stSynReceived)
		return set
	case e.syn:
		move(stSynSent|stSynReceived, stEstablished)
	}
	if e.ack {
		move(stSynReceived, stEstablished)
	}
	if e.acksFin {
		move(stFinWait1, stFinWait2)
		move(stClosing, stTimeWait)
		move(stLastAck, stClosed)
	}
	if e.fin {
		move(stSynReceived|stEstablished, stCloseWait)
		move(stFinWait1, stClosing|stTimeWait)
		move(stFinWait2, stTimeWait)
	}
	return set
}

// states judges whether the segment has a state to come from, and follows it at
// both ends. Where the order of sending is not known, what was sent before
// excludes nothing.
func (x *exchange) states(e event) {
	from, to := x.s.states.send(e)
	known := x.cn.started && !x.cn.reused && (!e.again || x.s.near)
	if known && from == 0 && !x.complete() {
		known = false
	}
	switch {
	case !known:
		to |= x.s.states
	case from == 0:
		x.broke(ruleState, "a TCP that may be in %v does not send this", x.s.states)
		to = stAny
	default:
		x.c.judged[ruleState]++
	}
	if !x.s.near {
		to |= x.s.states
	}
	x.s.states = x.underWay(to)
	x.r.states = x.r.states.receive(e)
}

// underWay adds the states that the sender may reach from those in set when what
// was seen before it sent arrives only afterwards.
func (x *exchange) underWay(set stateSet) stateSet {
	s, r := x.s, x.r
	if r.synSeen {
		set = set.receive(event{syn: true, ack: r.synAck})
	}
	if r.fin >= 0 {
		set = set.receive(event{ack: true, fin: true, acksFin: s.fin >= 0 && r.acked > s.fin})
	}
	return set
}

// stateNames are the names of the states in the order of their bits.
var stateNames = [...]string{
	"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
}

// String returns the names of the states, joined with "or".
func (set stateSet) String() string {
	s := ""
	for i, name := range stateNames {
		if set&(1<<i) != 0 {
			if s != "" {
				s += " or "
			}
			s += name
		}
	}
	return s
}
