package recovery

import (
	"cmp"
	"slices"

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
	// MSS is the size of the wire segments, the last of which may be smaller; 0 if unknown.
	MSS uint16
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
	// hint is at or before the first segment that is due for retransmission; valid while any is.
	hint seq.Num

	// sum counts the records; NextLost relies on it.
	sum counts
	// dupAcked is what duplicate ACKs tell to be delivered, of a peer without SACK.
	dupAcked tally
}

// tally is a number of bytes and of segments.
type tally struct {
	bytes uint64
	segs  uint32
}

func (t *tally) add(s *Segment, sign int64) {
	t.bytes += uint64(sign * int64(s.Len))
	t.segs += uint32(sign * int64(s.Segs))
}

// counts sums up the records by their flags. due is what is Lost and not Retrans.
type counts struct {
	out, sacked, lost, retrans, due tally
}

// add counts a record with sign 1 and takes it out with -1.
func (c *counts) add(s *Segment, sign int64) {
	c.out.add(s, sign)
	if s.Flags&Sacked != 0 {
		c.sacked.add(s, sign)
	}
	if s.Flags&Lost != 0 {
		c.lost.add(s, sign)
	}
	if s.Flags&Retrans != 0 {
		c.retrans.add(s, sign)
	}
	if s.Flags&(Lost|Retrans) == Lost {
		c.due.add(s, sign)
	}
}

// setFlags changes a record's flags and the counts with them.
func (q *Queue) setFlags(s *Segment, f Flags) {
	q.sum.add(s, -1)
	s.Flags = f
	q.sum.add(s, 1)
}

// Len returns the number of records.
func (q *Queue) Len() int { return q.n }

// At returns record i, 0 being the oldest. The pointer is valid until the queue changes.
func (q *Queue) At(i int) *Segment { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// InFlight is the flight size in bytes: sent, and neither delivered nor lost, plus what was retransmitted (RFC 6675's pipe).
func (q *Queue) InFlight() uint64 {
	return sub(q.sum.out.bytes+q.sum.retrans.bytes, q.sum.sacked.bytes+q.dupAcked.bytes+q.sum.lost.bytes)
}

// Outstanding returns the bytes between SND.UNA and SND.NXT.
func (q *Queue) Outstanding() uint64 { return q.sum.out.bytes }

// SackedBytes returns the bytes that SACK blocks cover.
func (q *Queue) SackedBytes() uint64 { return q.sum.sacked.bytes }

// Delivered returns the outstanding bytes that are known to be delivered, by SACK blocks or by duplicate ACKs.
func (q *Queue) Delivered() uint64 { return q.sum.sacked.bytes + q.dupAcked.bytes }

// LostBytes returns the bytes that are lost and not delivered.
func (q *Queue) LostBytes() uint64 { return q.sum.lost.bytes }

// RetransBytes returns the bytes of outstanding retransmissions.
func (q *Queue) RetransBytes() uint64 { return q.sum.retrans.bytes }

// DueBytes returns the bytes that are lost and wait for their retransmission: what NextLost finds.
func (q *Queue) DueBytes() uint64 { return q.sum.due.bytes }

// Counts returns the outstanding, SACKed, lost and retransmitted segments, as tcp_info has them.
func (q *Queue) Counts() (out, sacked, lost, retrans uint32) {
	return q.sum.out.segs, q.sum.sacked.segs + q.dupAcked.segs, q.sum.lost.segs, q.sum.retrans.segs
}

// Push appends a newly sent segment and returns its record for the sampler to fill in.
func (q *Queue) Push(s seq.Num, n uint32, segs uint16, fl Flags) *Segment {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.n++
	r := q.At(q.n - 1)
	*r = Segment{Seq: s, Len: n, Segs: segs, Flags: fl}
	q.sum.add(r, 1)
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
		q.sacked = ranges{}
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

// split cuts record i after n octets, which leaves both parts non-empty; both keep the state. The shorter side of the ring makes room, so that an ACK that
// cuts the oldest record costs nothing, however many follow.
func (q *Queue) split(i int, n, mss uint32) {
	if q.n == len(q.ring) {
		q.grow()
	}
	if i < q.n/2 {
		q.head = (q.head - 1) & (len(q.ring) - 1)
		for j := range i + 1 {
			*q.At(j) = *q.At(j + 1)
		}
	} else {
		for j := q.n; j > i+1; j-- {
			*q.At(j) = *q.At(j - 1)
		}
	}
	q.n++
	a, b := q.At(i), q.At(i+1)
	q.sum.add(a, -1)
	*b = *a
	b.Seq += seq.Num(n)
	b.Len -= n
	a.Len = n
	a.Flags &^= Fin
	// The parts may round up to one segment more than the whole.
	a.Segs = uint16(min((n+mss-1)/mss, uint32(a.Segs)))
	b.Segs = max(b.Segs-a.Segs, 1)
	a.State = b.State.Split(n)
	q.sum.add(a, 1)
	q.sum.add(b, 1)
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
	q.sum.add(s, -1)
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return s, was
}

// MarkLost declares record i lost. If a retransmission of it was outstanding, that one is lost. It reports whether anything changed.
func (q *Queue) MarkLost(i int) bool {
	s := q.At(i)
	if s.Flags&Sacked != 0 || s.Flags&(Lost|Retrans) == Lost {
		return false
	}
	if q.sum.due.bytes == 0 || s.Seq.Less(q.hint) {
		q.hint = s.Seq
	}
	q.setFlags(s, s.Flags&^Retrans|Lost)
	return true
}

// NextLost returns the index of the first record that is lost and not yet retransmitted, -1 if none.
func (q *Queue) NextLost() int {
	if q.sum.due.bytes == 0 {
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
	return -1
}

// NextHole returns the index of the first record from from on that is neither SACKed nor retransmitted and lies below the highest SACKed octet, -1 if there is
// none (RFC 6675 §4, NextSeg rule 3).
func (q *Queue) NextHole(from seq.Num) int {
	end, ok := q.HighestSacked()
	for i := q.find(from); ok && i < q.n; {
		s := q.At(i)
		switch {
		case end.Leq(s.Seq):
			return -1
		case s.Flags&Sacked != 0:
			i = q.skipSacked(i)
		case s.Flags&Retrans == 0:
			return i
		default:
			i++
		}
	}
	return -1
}

// LastUnsacked returns the index of the last record that is not SACKed, -1 if there is none (RFC 6675 §4, NextSeg rule 4).
func (q *Queue) LastUnsacked() int {
	i := q.n - 1
	for i >= 0 && q.At(i).Flags&Sacked != 0 {
		l := q.sacked.spans()
		i = q.find(l[q.sacked.index(q.At(i).Seq)].lo) - 1
	}
	return i
}

// Cut notes that record i is about to leave in wire segments of at most mss octets, which may be others than before.
func (q *Queue) Cut(i int, mss uint32) {
	s := q.At(i)
	q.sum.add(s, -1)
	s.Segs, s.MSS = uint16(max((s.Len+mss-1)/mss, 1)), uint16(min(mss, 65535))
	q.sum.add(s, 1)
}

// Retransmit notes that record i is about to leave again.
func (q *Queue) Retransmit(i int) *Segment {
	s := q.At(i)
	q.setFlags(s, s.Flags|Retrans|EverRetrans)
	return s
}

// ClearLost withdraws every loss mark, as when the loss proved spurious (RFC 4015).
func (q *Queue) ClearLost() {
	for i := range q.n {
		s := q.At(i)
		q.setFlags(s, s.Flags&^(Lost|Retrans))
	}
	q.requeue()
}

// Renege forgets every SACK mark: the receiver may have dropped what it had SACKed (RFC 2018 §8).
func (q *Queue) Renege() {
	for i := range q.n {
		s := q.At(i)
		q.setFlags(s, s.Flags&^Sacked)
	}
	q.sacked.clear()
	q.requeue()
}

// requeue enters whatever may be lost in transmission order again, since DetectLoss has passed by what was marked or SACKed.
func (q *Queue) requeue() {
	if !q.Ordered {
		return
	}
	q.tx.n, q.tx.head = 0, 0
	for i := range q.n {
		if s := q.At(i); s.Flags&Sacked == 0 && s.Flags&(Lost|Retrans) != Lost {
			q.tx.push(transmission{s.Seq, s.End(), s.State.TxSeq})
		}
	}
	slices.SortFunc(q.tx.ring[:q.tx.n], func(a, b transmission) int { return cmp.Compare(a.txSeq, b.txSeq) })
}

// DupAck counts a duplicate ACK of a peer without SACK: one more segment has left the network (RFC 5681 §3.2). It returns how many bytes that is reckoned to
// be, 0 if there were more duplicates than segments that could cause them: the oldest is missing, so that it is one of those behind it.
func (q *Queue) DupAck(mss uint32) uint64 {
	next := int(q.dupAcked.segs) + 1
	if next >= int(q.sum.out.segs) || q.n == 0 {
		return 0
	}
	n := min(mss, q.At(min(next, q.n-1)).Len)
	n = uint32(min(uint64(n), sub(q.sum.out.bytes, q.dupAcked.bytes+1)))
	q.dupAcked.bytes += uint64(n)
	q.dupAcked.segs++
	return uint64(n)
}

// DupAckReset forgets duplicate ACKs worth n bytes, all of them if n is 0, and returns how many bytes that were: they had been counted as delivered before.
func (q *Queue) DupAckReset(n uint64, mss uint32) uint64 {
	left := sub(q.dupAcked.bytes, n)
	if n == 0 || q.n == 0 {
		left = 0
	} else {
		left = min(left, q.sum.out.bytes-1)
	}
	n = q.dupAcked.bytes - left
	q.dupAcked = tally{left, uint32((left + uint64(mss) - 1) / uint64(mss))}
	return n
}
