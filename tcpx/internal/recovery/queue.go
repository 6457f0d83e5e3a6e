package recovery

import (
	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// Segment is a stretch of the stream that was sent as one unit: a segment, or several of one size that the link cut apart (GSO).
type Segment struct {
	// Seq is the first sequence number and Len the octets of sequence space, FIN included.
	Seq seq.Num
	Len uint32
	// Segs is the number of wire segments.
	Segs uint16
	// Flags is the segment's state.
	Flags Flags
	// State is what the delivery-rate sampler saved at the last transmission.
	State congestion.PacketState
}

// End is the sequence number after the segment.
func (s *Segment) End() seq.Num { return s.Seq + seq.Num(s.Len) }

// Flags describe a sent segment.
type Flags uint8

const (
	// Sacked: the peer reported it in a SACK block.
	Sacked Flags = 1 << iota
	// Lost: it was declared lost and is not delivered yet.
	Lost
	// Retrans: a retransmission of it is outstanding.
	Retrans
	// EverRetrans: it was transmitted more than once, so that an ACK of it is ambiguous (Karn).
	EverRetrans
	// Fin: its last octet is the FIN.
	Fin
)

// Queue is the retransmission queue: every segment between SND.UNA and SND.NXT in order, as a ring. Its zero value is an empty queue.
type Queue struct {
	ring []Segment
	head int
	n    int

	sacked ranges
	tx     txOrder
	// Ordered keeps the order of transmissions, which RACK needs. It is set before the first Push.
	Ordered bool
	// hint is at or before the first segment that is Lost and not Retrans; valid if hinted.
	hint   seq.Num
	hinted bool

	// Bytes and segments of each kind, for the flight size.
	out, sackedBytes, lost, retrans                      uint64
	outSegs, sackedSegs, lostSegs, retransSegs, dupAcked uint32
	dupAckedBytes                                        uint64
}

// Len returns the number of records.
func (q *Queue) Len() int { return q.n }

// At returns record i, 0 being the oldest. The pointer is valid until the queue changes.
func (q *Queue) At(i int) *Segment { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// InFlight is the flight size in bytes: sent, and neither delivered nor lost, plus what was retransmitted (RFC 6675's pipe).
func (q *Queue) InFlight() uint64 {
	delivered := q.sackedBytes + q.dupAckedBytes + q.lost
	total := q.out + q.retrans
	if delivered > total {
		return 0
	}
	return total - delivered
}

// Outstanding, SackedBytes and LostBytes are in bytes.
func (q *Queue) Outstanding() uint64 { return q.out }

// SackedBytes returns the bytes that SACK blocks cover.
func (q *Queue) SackedBytes() uint64 { return q.sackedBytes }

// LostBytes returns the bytes that are lost and not delivered.
func (q *Queue) LostBytes() uint64 { return q.lost }

// RetransBytes returns the bytes of outstanding retransmissions.
func (q *Queue) RetransBytes() uint64 { return q.retrans }

// Counts returns the outstanding, SACKed, lost and retransmitted segments, as tcp_info has them.
func (q *Queue) Counts() (out, sacked, lost, retrans uint32) {
	return q.outSegs, q.sackedSegs + q.dupAcked, q.lostSegs, q.retransSegs
}

// Push appends a newly sent segment and returns its record for the sampler to fill in.
func (q *Queue) Push(s seq.Num, n uint32, segs uint16, fl Flags) *Segment {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.n++
	r := q.At(q.n - 1)
	*r = Segment{Seq: s, Len: n, Segs: segs, Flags: fl}
	q.out += uint64(n)
	q.outSegs += uint32(segs)
	return r
}

func (q *Queue) grow() {
	next := make([]Segment, max(4, 2*len(q.ring)))
	for i := range q.n {
		next[i] = *q.At(i)
	}
	q.ring, q.head = next, 0
}

// Sent must be called once State is filled in after Push or Retransmit: it enters the record in transmission order.
func (q *Queue) Sent(s *Segment) {
	if q.Ordered {
		q.tx.push(transmission{s.Seq, s.End(), s.State.TxSeq})
	}
}

// Reset forgets everything sent.
func (q *Queue) Reset() { *q = Queue{Ordered: q.Ordered} }

// Shrink releases the memory of an empty queue that has grown beyond a few records, so that an idle connection is small.
func (q *Queue) Shrink() {
	if q.n == 0 && len(q.ring) > 4 {
		q.ring, q.head = nil, 0
		q.tx = txOrder{}
		q.sacked = q.sacked[:0:0]
		q.hinted = false
	}
}

// find returns the index of the record that holds s, q.n if s is at or after the end, 0 if before the start.
func (q *Queue) find(s seq.Num) int {
	lo, hi := 0, q.n
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if q.At(m).End().Leq(s) {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// split cuts record i at octet n and returns nothing; both parts keep the state. n must be a multiple of the wire segment size, or at least leave both
// parts non-empty.
func (q *Queue) split(i int, n, mss uint32) {
	if q.n == len(q.ring) {
		q.grow()
	}
	for j := q.n; j > i+1; j-- {
		*q.At(j) = *q.At(j - 1)
	}
	q.n++
	a, b := q.At(i), q.At(i+1)
	*b = *a
	b.Seq += seq.Num(n)
	b.Len -= n
	a.Len = n
	a.Flags &^= Fin
	asegs := uint16(min((n+mss-1)/mss, uint32(a.Segs)))
	bsegs := uint16(1)
	if a.Segs > asegs {
		bsegs = a.Segs - asegs
	}
	// The parts may round up to one segment more than the whole.
	if extra := uint32(asegs+bsegs) - uint32(a.Segs); extra > 0 {
		q.addSegs(b.Flags, int(extra))
	}
	a.Segs, b.Segs = asegs, bsegs
	a.State.Size = min(n, a.State.Size)
	b.State.Size -= a.State.Size
}

func (q *Queue) addSegs(f Flags, d int) {
	q.outSegs = uint32(int(q.outSegs) + d)
	if f&Sacked != 0 {
		q.sackedSegs = uint32(int(q.sackedSegs) + d)
	}
	if f&Lost != 0 {
		q.lostSegs = uint32(int(q.lostSegs) + d)
	}
	if f&Retrans != 0 {
		q.retransSegs = uint32(int(q.retransSegs) + d)
	}
}

// SplitFront makes record i at most n octets long.
func (q *Queue) SplitFront(i int, n, mss uint32) {
	if s := q.At(i); s.Len > n && n > 0 {
		q.split(i, n, mss)
	}
}

// PopAcked removes the next record that is acknowledged by una and returns it with the flags that it had; nil if there is none. A record that una cuts is
// split. A record that was Sacked has been counted as delivered before. The pointer is valid until the queue changes.
func (q *Queue) PopAcked(una seq.Num, mss uint32) (s *Segment, was Flags) {
	if q.n == 0 || una.Leq(q.At(0).Seq) {
		q.sacked.trim(una)
		return nil, 0
	}
	s = q.At(0)
	if una.Less(s.End()) {
		q.split(0, uint32(una.Sub(s.Seq)), mss)
		s = q.At(0)
	}
	was = s.Flags
	q.remove(s)
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return s, was
}

// remove takes a record out of all counts.
func (q *Queue) remove(s *Segment) {
	q.out -= uint64(s.Len)
	q.outSegs -= uint32(s.Segs)
	if s.Flags&Sacked != 0 {
		q.sackedBytes -= uint64(s.Len)
		q.sackedSegs -= uint32(s.Segs)
	}
	q.clear(s, Lost|Retrans)
}

// clear drops Lost and Retrans from a record and its counts.
func (q *Queue) clear(s *Segment, f Flags) {
	if f&s.Flags&Lost != 0 {
		q.lost -= uint64(s.Len)
		q.lostSegs -= uint32(s.Segs)
	}
	if f&s.Flags&Retrans != 0 {
		q.retrans -= uint64(s.Len)
		q.retransSegs -= uint32(s.Segs)
	}
	s.Flags &^= f
}

// MarkLost declares record i lost. If a retransmission of it was outstanding, that one is lost. It reports whether anything changed.
func (q *Queue) MarkLost(i int) bool {
	s := q.At(i)
	if s.Flags&Sacked != 0 || s.Flags&(Lost|Retrans) == Lost {
		return false
	}
	q.clear(s, Retrans)
	if s.Flags&Lost == 0 {
		s.Flags |= Lost
		q.lost += uint64(s.Len)
		q.lostSegs += uint32(s.Segs)
	}
	if !q.hinted || s.Seq.Less(q.hint) {
		q.hint, q.hinted = s.Seq, true
	}
	return true
}

// NextLost returns the index of the first record that is lost and not yet retransmitted, -1 if none.
func (q *Queue) NextLost() int {
	if !q.hinted || q.lost == q.retrans {
		return -1
	}
	for i := q.find(q.hint); i < q.n; {
		s := q.At(i)
		if s.Flags&Sacked != 0 {
			i = q.skipSacked(i)
			continue
		}
		if s.Flags&(Lost|Retrans) == Lost {
			q.hint = s.Seq
			return i
		}
		i++
	}
	q.hinted = false
	return -1
}

// Retransmit notes that record i is about to leave again.
func (q *Queue) Retransmit(i int) *Segment {
	s := q.At(i)
	if s.Flags&Retrans == 0 {
		q.retrans += uint64(s.Len)
		q.retransSegs += uint32(s.Segs)
	}
	s.Flags |= Retrans | EverRetrans
	return s
}

// ClearLost withdraws every loss mark, as when the loss proved spurious (RFC 4015).
func (q *Queue) ClearLost() {
	for i := range q.n {
		q.clear(q.At(i), Lost|Retrans)
	}
	q.hinted = false
}

// Renege forgets every SACK mark: the receiver may have dropped what it had SACKed (RFC 2018 §8).
func (q *Queue) Renege() {
	for i := range q.n {
		q.At(i).Flags &^= Sacked
	}
	q.sackedBytes, q.sackedSegs = 0, 0
	q.sacked = q.sacked[:0]
}

// DupAck counts a duplicate ACK of a peer without SACK: one more segment has left the network (RFC 5681 §3.2, RFC 6675's idea without SACK).
func (q *Queue) DupAck(mss uint32) {
	// The head is missing, so that at most what follows it can have been delivered.
	if q.dupAckedBytes+uint64(mss) > q.out-min(q.out, uint64(mss)) {
		return
	}
	q.dupAcked++
	q.dupAckedBytes += uint64(mss)
}

// DupAckReset forgets duplicate ACKs worth n bytes, all of them if n is 0, and returns how many bytes that were: they had been counted as delivered before.
func (q *Queue) DupAckReset(n uint64, mss uint32) uint64 {
	if n == 0 || n >= q.dupAckedBytes {
		n = q.dupAckedBytes
	}
	q.dupAckedBytes -= n
	q.dupAcked = uint32((q.dupAckedBytes + uint64(mss) - 1) / uint64(mss))
	return n
}
