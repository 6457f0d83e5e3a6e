package tcb

import "time"

// The peer's large segments may vanish on the way to us without an ICMP error (RFC 2923 §2.1). The MSS cannot be changed once the handshake is over, but small
// segments that arrive show what happens, and the next SYN can announce less: a short last segment, an ACK or a FIN whose sequence number proves that much more
// was sent, while nothing of that arrives although the peer has repeated it.

// holeAge is how long text is missing until that is no accident: with an RTO of 1 s (RFC 6298 §2.1) the peer has sent it three times.
const holeAge = 4 * time.Second

// holeTold stands in holeSince once the owner has heard.
const holeTold = 1<<32 - 1

// smallMSS is the largest of the sizes below what was announced that a SYN could announce instead, 0 for none.
func (t *TCB) smallMSS() uint32 {
	for _, n := range t.steps {
		if n := uint32(n); n < t.advMSS {
			return n
		}
	}
	return 0
}

// watchPeer looks for text that is missing since it was sent in large segments. s has passed all checks.
func (t *TCB) watchPeer(now Time, s *Segment) {
	small := int(t.smallMSS())
	if small == 0 || t.holeSince == holeTold {
		return
	}
	// Of merged segments all but the last are equal.
	size := s.Len / max(s.Segs-1, 1)
	switch missing := s.Seq.Sub(t.rcvNxt); {
	case size > 0 && size+int(t.segmentOptions()) > small:
		t.holeSince = 0 // large ones do arrive
	case missing <= small:
		// It may have been lost like any other.
	case t.holeSince == 0:
		t.holeSince = max(millis(now), 1)
	case t.InboundHole(now):
		t.holeSince = holeTold
		t.events |= EventInboundHole
	}
}

// InboundHole reports whether large segments of the peer do not arrive while small ones do, as far as that is known now, and was not told by
// EventInboundHole. The owner asks when the connection is over.
func (t *TCB) InboundHole(now Time) bool {
	return t.holeSince != 0 && t.holeSince != holeTold && time.Duration(millis(now)-t.holeSince)*time.Millisecond >= holeAge
}

// SmallMSS returns what to announce on account of an inbound hole, 0 if nothing would be left.
func (t *TCB) SmallMSS() int { return int(t.smallMSS()) }
