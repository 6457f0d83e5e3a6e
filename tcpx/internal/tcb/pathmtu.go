package tcb

import (
	"github.com/plumbline/plumbline/tcpx/internal/recovery"
)

// PathMTU finds out how large packets may be on the way to the peer (RFC 4821, RFC 8899). It is told what became of segments and asked for the size of the next; it
// sends nothing. Sizes are in octets of text and options, as OpenParams.MTUPayload. None of its methods allocates: they are called for every ACK.
type PathMTU interface {
	// MTU returns the size to use from now on.
	MTU(now Time) int
	// Probe returns the size of the probe that should be sent, 0 for none, and never more than the limit that it was made for. ProbeSent says that it was, ProbeLost that it did not arrive although later segments did,
	// ProbeUnsent that what became of it cannot be told.
	Probe() int
	ProbeSent()
	ProbeLost(now Time)
	ProbeUnsent()
	// Acked says that a segment of that size has arrived, the largest of those that an ACK covers; it may have been a probe.
	Acked(now Time, size int)
	// Lost says that a segment of that size, not a probe, was lost while later ones arrived, TimedOut that the retransmission timer went off for it. They report
	// whether that makes a black hole: MTU is smaller now.
	Lost(now Time, size int) bool
	TimedOut(now Time, size int) bool
	// Fallback returns the size for what is sent again after a time-out: smaller than MTU until something arrives.
	Fallback() int
}

// pathProbe is a segment larger than the MSS that is on its way as a probe.
type pathProbe struct {
	out      bool
	seq, end Seq
	// size is text and options.
	size uint32
}

// is reports whether a record is the probe.
func (p *pathProbe) is(s *recovery.Segment) bool { return p.out && s.Seq == p.seq && s.End() == p.end }

// segmentOptions is what the options of a data segment without SACK blocks take.
func (t *TCB) segmentOptions() uint32 {
	if t.has(flagTS) {
		return tsOptionLen
	}
	return 0
}

// wireSize is the text and options of the wire segments that a record was sent as.
func (t *TCB) wireSize(s *recovery.Segment) uint32 {
	text := s.Len
	if s.Flags&recovery.Fin != 0 {
		text--
	}
	return min(text, uint32(s.MSS)) + t.segmentOptions()
}

// followPath takes over the size that the path has now.
func (t *TCB) followPath(now Time) {
	if n := t.path.MTU(now); uint32(n) != t.mtuPayload {
		t.SetMTUPayload(now, n)
	}
}

// probesBehind is how many full segments should follow a probe, so that SACK shows its loss (RFC 4821 §7.4).
const probesBehind = recovery.DupThresh

// outputProbe sends the next text as a probe of the path if one is due and its loss would show. wait tells that it only needs more room in the congestion window,
// which comes with the next ACKs.
func (t *TCB) outputProbe(now Time, avail int, flight, cwnd uint64) (sent, wait bool) {
	if t.probe.out || t.rec.state != caOpen || !t.has(flagSACK) || t.flags&(flagUrgOut|flagCWR) != 0 {
		return false, false
	}
	size := uint32(t.path.Probe())
	if size <= t.mtuPayload || size <= t.segmentOptions() {
		return false, false // none is due, or every full segment is one
	}
	text := int(size - t.segmentOptions())
	need := text + probesBehind*int(t.mss)
	if t.windowRoom() < need || cwnd < uint64(need) {
		return false, false
	}
	// Of a stream that is under way more will come, though the send buffer may hold no more of it than what ACKs made room for.
	if avail < text || avail < need && flight < uint64(need-text) {
		return false, false
	}
	if sub64(cwnd, flight) < uint64(text) {
		return false, true
	}
	s := t.segment(now, t.sndNxt, ACK)
	if s.OptLen != int(t.segmentOptions()) {
		return false, false // SACK blocks of our own are in the way
	}
	s.MSS = text // one packet, even where the link segments
	s.Payload = t.sndBuf.slice(t.sndNxt, text)
	if !t.transmit(now, s) {
		return false, true
	}
	t.probe = pathProbe{true, t.sndNxt, t.sndNxt.Add(text), size}
	t.path.ProbeSent()
	t.pushed(now, text, text, 1, 0)
	t.owner.Count(CountPathProbe, 1)
	return true, false
}

// probeLost takes the loss of a probe, which is no sign of congestion (RFC 4821 §7.6.2, RFC 8899 §3): its text is sent again in segments of the present size.
func (t *TCB) probeLost(now Time) {
	t.probe.out = false
	t.rec.tooBig = true
	t.path.ProbeLost(now)
	t.owner.Count(CountPathProbeLost, 1)
}

// forgetProbe gives up a probe whose fate cannot be told.
func (t *TCB) forgetProbe() {
	if t.probe.out {
		t.probe.out = false
		t.path.ProbeUnsent()
	}
}

// tellPath reports what an ACK, or RACK's timer, told about sizes.
func (t *TCB) tellPath(now Time, n *ackNews) {
	if n.largest > 0 {
		t.path.Acked(now, int(n.largest))
	}
	if t.probe.out && t.probe.end.Leq(t.sndUna) {
		t.forgetProbe() // it was cut since
	}
	if lost := t.pathLost; lost > 0 {
		t.pathLost = 0
		if t.path.Lost(now, int(lost)) {
			t.blackHole(now)
		}
	}
	t.followPath(now)
}

// pathTimedOut reports that the retransmission timer went off: whatever is in flight is suspect.
func (t *TCB) pathTimedOut(now Time) {
	if t.sndWnd == 0 {
		return // the peer's window is what is in the way
	}
	size := t.wireSize(t.rtx.At(0))
	for i := range t.rtx.Len() {
		if s := t.rtx.At(i); s.Flags&recovery.Sacked == 0 {
			size = max(size, t.wireSize(s))
		}
	}
	if t.path.TimedOut(now, int(size)) {
		t.blackHole(now)
	}
}

// blackHole goes on with segments of the size that is left, and takes for lost what is larger: nothing of that has arrived for some time.
func (t *TCB) blackHole(now Time) {
	t.probe.out = false
	t.owner.Count(CountBlackHole, 1)
	old := t.mss
	t.followPath(now)
	if t.mss < old {
		t.markTooBig()
	}
}

// markTooBig takes for lost what was sent in segments larger than the MSS. That is no congestion.
func (t *TCB) markTooBig() {
	for i := range t.rtx.Len() {
		if t.rtx.At(i).Len > t.mss {
			t.rtx.MarkLost(i)
		}
	}
}

// QuoteMatches reports whether an ICMP error quotes something in flight (RFC 5927 §4.1): others may be forged, and are counted.
func (t *TCB) QuoteMatches(q Seq) bool { return t.icmpMatches(q) }

// PacketTooBig reports an ICMP "fragmentation needed" or "packet too big" that quotes sequence number q; mtuPayload is the new bound as in
// OpenParams.MTUPayload. What was too big is sent again at once without a congestion response (RFC 1191 §6.4, RFC 8201 §5.4): it was not lost to congestion. If a
// probe was too big, the bound may be more than what is in use, which then stays.
func (t *TCB) PacketTooBig(now Time, q Seq, mtuPayload int) bool {
	if !t.icmpMatches(q) {
		return false
	}
	probe := t.sender != nil && t.probe.out && q.In(t.probe.seq, t.probe.end) && mtuPayload < int(t.probe.size)
	if mtuPayload < minMTUPayload || uint32(mtuPayload) >= t.mtuPayload && !probe {
		t.owner.Count(CountICMPIgnored, 1)
		return false // never an increase, never absurd
	}
	t.owner.Count(CountICMPPMTU, 1)
	old := t.mss
	if uint32(mtuPayload) < t.mtuPayload {
		t.SetMTUPayload(now, mtuPayload)
	}
	if t.synTooBig(now) {
		return true
	}
	if !mayTransmit.has(t.state) || !t.outstanding() || t.mss >= old && !probe {
		return true
	}
	t.rec.tooBig = true
	if t.mss < old {
		t.markTooBig()
	} else {
		t.rtx.MarkLost(t.rtx.Find(t.probe.seq))
	}
	if probe {
		t.probe.out = false
	}
	for i := t.rtx.NextLost(); i >= 0; i = t.rtx.NextLost() {
		if t.rtx.InFlight() >= t.cwnd() || !t.retransmit(now, i) {
			break
		}
	}
	t.account()
	return true
}

// SetMTUPayload changes the bound on the send MSS, as when the path or the link changed. What is in flight is not resent.
func (t *TCB) SetMTUPayload(now Time, mtuPayload int) {
	t.mtuPayload = uint32(max(mtuPayload, minMTUPayload))
	if t.state == StateSynSent || t.state == StateClosed {
		return
	}
	old := t.mss
	t.computeMSS()
	if t.mss != old && t.sender != nil {
		t.cc.OnMSS(now, t.mss)
		t.readControl()
	}
}

// tooBigHint is an MTU that would do for the segment at seq, in octets of text and options, 0 for none.
type tooBigHint struct {
	seq  Seq
	size uint32
}

// HintTooBig reports an ICMP error that quotes sequence number q and names no MTU; mtuPayload is the next that is worth a try. It is believed if the segment is not
// acknowledged before the retransmission timer goes off (RFC 5927 §7.2): a connection that gets on has no use for it, whoever sent it.
func (t *TCB) HintTooBig(q Seq, mtuPayload int) bool {
	if !t.outstanding() || !t.icmpMatches(q) {
		return false
	}
	if mtuPayload < minMTUPayload || uint32(mtuPayload) >= t.mtuPayload {
		t.owner.Count(CountICMPIgnored, 1)
		return false
	}
	t.hint = tooBigHint{q, uint32(mtuPayload)}
	return true
}

// takeHint heeds a hint about what has timed out.
func (t *TCB) takeHint(now Time) {
	h := t.hint
	t.hint = tooBigHint{}
	if h.size == 0 || h.size >= t.mtuPayload || !h.seq.In(t.sndUna, t.sndNxt) {
		return
	}
	t.owner.Count(CountICMPPMTU, 1)
	old := t.mss
	if t.SetMTUPayload(now, int(h.size)); t.mss < old {
		t.markTooBig()
	}
}
