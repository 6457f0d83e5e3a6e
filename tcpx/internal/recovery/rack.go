package recovery

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// transmission is one transmission of [lo, hi). It is out of date once no record in that range carries its number any more.
type transmission struct {
	lo, hi seq.Num
	txSeq  uint64
}

// txOrder is a ring of transmissions, oldest first (RFC 8985 §6.2 step 5 suggests a list in that order, so that detection costs O(1) amortised).
type txOrder struct {
	ring []transmission
	head int
	n    int
}

func (o *txOrder) push(t transmission) {
	if o.n == len(o.ring) {
		next := make([]transmission, max(4, 2*len(o.ring)))
		for i := range o.n {
			next[i] = o.ring[(o.head+i)&(len(o.ring)-1)]
		}
		o.ring, o.head = next, 0
	}
	o.ring[(o.head+o.n)&(len(o.ring)-1)] = t
	o.n++
}

func (o *txOrder) pop() {
	o.head = (o.head + 1) & (len(o.ring) - 1)
	o.n--
}

// DupThresh is RFC 5681's and RFC 8985's threshold of duplicate ACKs, in segments.
const DupThresh = 3

// reoWndPersist is for how many recoveries a grown reordering window is kept (RFC 8985 §6.2 step 4).
const reoWndPersist = 16

// RACK is the state of RFC 8985 §5.3 for one connection.
type RACK struct {
	// XmitTime, TxSeq and RTT belong to the most recently sent segment that is known to be delivered (RACK.xmit_ts, RACK.rtt). TxSeq stands in for
	// RACK.end_seq as the breaker of ties: it numbers transmissions, so that it orders retransmissions as well.
	XmitTime congestion.Time
	TxSeq    uint64
	RTT      time.Duration
	// fack is RACK.fack, the highest sequence number delivered.
	fack  seq.Num
	valid bool
	// ReorderingSeen is RACK.reordering_seen; Reorderings counts the events.
	ReorderingSeen bool
	Reorderings    uint32
	// reoWndMult, persist and dsackRound adapt the reordering window to DSACKs.
	reoWndMult, persist uint8
	dsackRound          seq.Num
	inDSACKRound        bool
}

// Delivered takes note of one newly delivered record (§6.2 steps 2 and 3). was are its flags before; tsEcr is the echo of this ACK as the time at which the
// echoed segment left, 0 without timestamps.
func (r *RACK) Delivered(s *Segment, was Flags, now congestion.Time, minRTT time.Duration, tsEcr congestion.Time) {
	end := s.End()
	if !r.valid || r.fack.Less(end) {
		r.fack = end
	} else if end.Less(r.fack) && was&EverRetrans == 0 {
		r.Reordered()
	}
	rtt := now - s.State.SentTime
	if was&EverRetrans != 0 {
		// The ACK may be for an earlier transmission: believe it only if nothing speaks against it.
		if tsEcr != 0 && tsEcr < s.State.SentTime || rtt < minRTT {
			return
		}
	}
	if !r.valid || s.State.TxSeq > r.TxSeq {
		r.valid = true
		r.XmitTime, r.TxSeq, r.RTT = s.State.SentTime, s.State.TxSeq, rtt
	}
}

// Reordered takes note of reordering (§6.2 step 3): a segment arrived late, or a fast recovery turned out to be a mistake. The latter is all there is to see where each late
// segment has been retransmitted before it arrives.
func (r *RACK) Reordered() {
	r.ReorderingSeen = true
	r.Reorderings++
}

// DSACK adapts the window to an ACK that carries a DSACK, at most once a round trip (§6.2 step 4).
func (r *RACK) DSACK(una, nxt seq.Num) {
	if r.endRound(una); r.inDSACKRound {
		return
	}
	r.inDSACKRound, r.dsackRound = true, nxt
	r.reoWndMult = min(r.reoWndMult+1, 254)
	r.persist = reoWndPersist
}

// endRound forgets a round of DSACKs that una has passed.
func (r *RACK) endRound(una seq.Num) {
	if r.inDSACKRound && r.dsackRound.Leq(una) {
		r.inDSACKRound = false
	}
}

// RecoveryExit counts a recovery that ended, after some of which the window shrinks back (§6.2 step 4).
func (r *RACK) RecoveryExit() {
	if r.persist > 0 {
		r.persist--
	}
	if r.persist == 0 {
		r.reoWndMult = 0
	}
}

// ReoWnd returns the reordering window (§6.2 step 4). una is SND.UNA; inRecovery covers fast and RTO recovery; sackedSegs is the number of SACKed segments.
func (r *RACK) ReoWnd(una seq.Num, minRTT, srtt time.Duration, inRecovery bool, sackedSegs uint32) time.Duration {
	r.endRound(una)
	if !r.ReorderingSeen && (inRecovery || sackedSegs >= DupThresh) {
		return 0
	}
	return min(time.Duration(r.reoWndMult+1)*minRTT/4, srtt)
}

// LossHandler is told of every record that DetectLoss marks.
type LossHandler interface {
	// SegmentLost is called right after the mark; the pointer is valid during the call.
	SegmentLost(s *Segment)
}

// DetectLoss marks what must be lost (§6.2 step 5) and tells h of each. It returns the time until the oldest undecided record
// must be looked at again, 0 if there is none. RFC 8985 takes the longest such time; taking the shortest finds each loss at its own instant.
func (r *RACK) DetectLoss(q *Queue, now congestion.Time, reoWnd time.Duration, h LossHandler) time.Duration {
	for r.valid && q.tx.n > 0 {
		t := q.tx.ring[q.tx.head]
		for i := q.find(t.lo); i < q.n; i++ {
			s := q.At(i)
			if t.hi.Leq(s.Seq) {
				break
			}
			if s.State.TxSeq != t.txSeq || s.Flags&Sacked != 0 || s.Flags&(Lost|Retrans) == Lost {
				continue
			}
			if t.txSeq >= r.TxSeq {
				return 0 // sent after the last that was delivered, as is all that follows
			}
			if left := s.State.SentTime + r.RTT + reoWnd - now; left > 0 {
				return left
			}
			if q.MarkLost(i) {
				h.SegmentLost(q.At(i))
			}
		}
		q.tx.pop()
	}
	return 0
}

// Expired reports whether the record must be taken for lost at an RTO (§6.3: the first one, and every other that is old enough).
func (r *RACK) Expired(s *Segment, now congestion.Time, reoWnd time.Duration) bool {
	return s.State.SentTime+r.RTT+reoWnd <= now
}
