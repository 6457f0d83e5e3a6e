package tcb

import (
	"fmt"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// ECNMode tells whether a stack's connections use Explicit Congestion Notification.
type ECNMode uint8

// The modes.
const (
	// ECNOff neither asks for ECN nor agrees to it.
	ECNOff ECNMode = iota
	// ECNOn asks for classic ECN (RFC 3168).
	ECNOn
	// ECNPassive asks for nothing and agrees to what the peer asks for.
	ECNPassive
	// ECNAccurate asks for accurate ECN (RFC 9768), which falls back to classic ECN.
	ECNAccurate
)

// String returns the mode's name.
func (m ECNMode) String() string {
	if names := [...]string{"off", "on", "passive", "accurate"}; int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("ECNMode(%d)", uint8(m))
}

// The ECN field of an IP header (RFC 3168 §5).
const (
	ecnNotECT = 0
	ecnECT1   = 1
	ecnECT0   = 2
	ecnCE     = 3
)

// ecnBits are the flags that ECN has in a TCP header; in order AE, CWR, ECE they are the ACE field (RFC 9768 §3.2).
const ecnBits = AE | CWR | ECE

// ace packs the flags as the ACE field.
func (f Flags) ace() uint8 {
	var n uint8
	if f.Has(AE) {
		n |= 4
	}
	if f.Has(CWR) {
		n |= 2
	}
	if f.Has(ECE) {
		n |= 1
	}
	return n
}

// aceFlags unpacks the low three bits of n.
func aceFlags(n uint8) Flags {
	var f Flags
	if n&4 != 0 {
		f |= AE
	}
	if n&2 != 0 {
		f |= CWR
	}
	if n&1 != 0 {
		f |= ECE
	}
	return f
}

// handshakeACE is how a handshake segment feeds back the ECN field of the one that it answers (RFC 9768 §3.1.1, table 2, and §3.2.2.1).
var handshakeACE = [4]uint8{ecnNotECT: 0b010, ecnECT1: 0b011, ecnECT0: 0b100, ecnCE: 0b110}

// cepStart is where both ends start to count CE marks (RFC 9768 §3.2.1).
const cepStart = 5

// accurate is what a connection with accurate ECN counts (RFC 9768 §3.2.1). It is there with flagAccECN.
type accurate struct {
	// cep is r.cep, the number of packets that came with CE, of which the wire carries three bits; reported is its value in the last ACK.
	cep, reported uint8
	// syn is the ECN field of the peer's SYN or SYN-ACK, for the handshake encoding.
	syn uint8
	// marked tells that the last text came with CE.
	marked bool
	// plain tells that a SYN or SYN-ACK of the handshake had no flags: the client may do without ECN, so that nothing may be ECT (RFC 9768 §3.1.5).
	plain bool
	// deliveredCE counts the packets that the peer told were marked.
	deliveredCE uint32
}

// ecnSetup is how SYN asks for ECN. After the first retransmission, or for classic ECN at once, it asks no more: something on the path may drop such SYNs (RFC 3168
// §6.1.1.1, RFC 9768 §3.1.4.1). Who has asked for accurate ECN once takes whatever the first SYN-ACK agrees to.
func (t *TCB) ecnSetup() Flags {
	switch {
	case t.cfg.ECN == ECNOn && t.retries > 0:
		t.drop(flagECNAsked)
	case t.cfg.ECN == ECNOn:
		t.set(flagECNAsked)
		return ECE | CWR
	case t.cfg.ECN == ECNAccurate && t.retries <= 1:
		t.set(flagECNAsked)
		return AE | ECE | CWR
	}
	return 0
}

// ecnReply is how SYN-ACK agrees to ECN (RFC 3168 §6.1.1, RFC 9768 §3.1.2). After two time-outs the flags of accurate ECN may be what the path drops; without them the
// client does without ECN.
func (t *TCB) ecnReply() Flags {
	switch {
	case t.has(flagAccECN) && t.retries > 1:
		t.accurate.plain = true
		return 0
	case t.has(flagAccECN):
		return aceFlags(handshakeACE[t.accurate.syn])
	case t.has(flagECN):
		return ECE
	}
	return 0
}

// learnECN takes from the peer's SYN or SYN-ACK whether the connection uses ECN.
func (t *TCB) learnECN(s *Segment) {
	asked, f := t.has(flagECNAsked), s.Flags&ecnBits
	answer := s.Flags.Has(ACK)
	t.drop(flagECN | flagAccECN)
	switch {
	case t.cfg.ECN == ECNOff, t.state == StateSynSent && !asked, f == 0:
	case answer && t.cfg.ECN == ECNAccurate && f != ecnBits && f != ECE:
		t.startAccurate(s)
		if f.ace() != handshakeACE[ecnNotECT] && f != aceReserved {
			t.set(flagNoECT) // our SYN was not marked: the path does so on its own (RFC 9768 §3.2.2.3)
		}
	case answer:
		// Classic ECN (RFC 9768 §3.1.2, table 2). All three flags are what a peer returns that reflects reserved bits.
		if f == ECE {
			t.set(flagECN)
		}
	case f == ECE|CWR:
		t.set(flagECN)
	default:
		t.startAccurate(s) // all three, or what nobody uses yet (RFC 9768 §3.1.3)
	}
}

// aceReserved is the answer that nobody gives yet: whoever will is known to have accurate ECN, and to have seen the SYN as it left (RFC 9768 §3.1.3).
const aceReserved = AE | ECE

// relearnECN takes the flags of a SYN that comes again during the handshake. The mode stays, the feedback is about the latest SYN (RFC 9768 §3.1.5). It reports false if
// the SYN asks for the other kind of ECN than the first: both ends could then end up with different ones.
func (t *TCB) relearnECN(s *Segment) bool {
	f := s.Flags & ecnBits
	switch {
	case t.has(flagAccECN):
		t.accurate.syn = s.ECN & 3
		t.accurate.plain = t.accurate.plain || f == 0
		return f != ECE|CWR
	case t.has(flagECN):
		return f != ecnBits
	}
	return true
}

func (t *TCB) startAccurate(s *Segment) {
	t.set(flagAccECN)
	t.accurate = &accurate{cep: cepStart, reported: cepStart, syn: s.ECN & 3}
	if s.ECN == ecnCE && s.Flags.Has(ACK) {
		t.accurate.cep++ // a mark on SYN is fed back by the handshake alone (RFC 9768 §3.2.2.1)
	}
}

// ackSYN acknowledges SYN-ACK by a segment of its own, whose ACE field feeds back how the SYN-ACK was marked (RFC 9768 §3.2.2.1).
func (t *TCB) ackSYN(now Time) {
	s := t.segment(now, t.sndNxt, ACK)
	s.Flags = s.Flags&^ecnBits | aceFlags(handshakeACE[t.accurate.syn])
	t.transmit(now, s)
}

// synAckFeedback takes the handshake encoding in the ACK of our SYN-ACK (RFC 9768 §3.2.2.1, table 4).
func (t *TCB) synAckFeedback(s *Segment) {
	if !t.has(flagAccECN) || s.Len > 0 || s.Opts.NumSACK > 0 {
		return
	}
	switch s.Flags.ace() {
	case 0, handshakeACE[ecnECT1], handshakeACE[ecnECT0], handshakeACE[ecnCE]:
		// The path clears the flags, or marks what was not capable of ECN.
		t.set(flagNoECT)
	}
}

// feedback are the ECN flags of an outgoing ACK (RFC 3168 §6.1.3, RFC 9768 §3.2.2).
func (t *TCB) feedback() Flags {
	switch {
	case t.has(flagAccECN):
		return aceFlags(t.accurate.cep)
	case t.has(flagECNEcho):
		return ECE
	}
	return 0
}

// markText puts the ECN field on new text, and CWR on the first after a reduction (RFC 3168 §6.1.2). What is sent again, probes, and segments without text go without
// (§6.1.4 to §6.1.6).
func (t *TCB) markText(s *Out) {
	switch {
	case t.has(flagAccECN) && !t.has(flagNoECT) && !t.accurate.plain, t.has(flagECN):
		s.ECN = ecnECT0
		if t.ctl.Capabilities.Has(congestion.WantsECT1) && t.has(flagAccECN) {
			s.ECN = ecnECT1
		}
	}
	if t.has(flagCWR) {
		s.Flags |= CWR
		t.drop(flagCWR)
	}
}

// reduced notes that the window was reduced: with classic ECN the peer is to hear of it.
func (t *TCB) reduced() {
	if t.has(flagECN) {
		t.set(flagCWR)
	}
}

// ecnArrives takes the ECN field of an acceptable segment, and CWR. A segment outside of the window never gets here (RFC 3168 §6.1.5).
func (t *TCB) ecnArrives(s *Segment) {
	ce := s.ECN == ecnCE
	switch {
	case t.has(flagAccECN):
		t.countCE(s, ce)
	case t.has(flagECN) && s.Len > 0:
		if s.Flags.Has(CWR) {
			// The peer's window may be down to this segment: it is not to wait for a delayed ACK.
			t.drop(flagECNEcho)
			t.set(flagAckNow)
		}
		if ce {
			t.owner.Count(CountCE, uint64(max(s.Segs, 1)))
			if !t.has(flagECNEcho) {
				t.set(flagECNEcho | flagAckNow)
			}
		}
	}
}

// The marks after which an ACK must leave at once, with new text and without (RFC 9768 §3.2.2.5.1): before the three bits of the ACE field can wrap.
const (
	maxMarks     = 2
	maxPureMarks = 3
)

// countCE counts CE marks of a peer with accurate ECN, and acknowledges the first of a series and every second at once (RFC 9768 §3.2.2.5.1).
func (t *TCB) countCE(s *Segment, ce bool) {
	a := t.accurate
	if ce {
		n := max(s.Segs, 1)
		t.owner.Count(CountCE, uint64(n))
		a.cep += uint8(n)
	}
	switch pending := a.cep - a.reported; {
	case s.Len == 0:
		if ce && pending >= maxPureMarks {
			t.set(flagAckNow)
		}
		return
	case ce && !a.marked, pending >= maxMarks:
		t.set(flagAckNow)
	}
	a.marked = ce
}

// congestionEcho takes the ECN feedback of an ACK, and reduces the window once for each window of data (RFC 3168 §6.1.2, RFC 9768 §3.4).
func (t *TCB) congestionEcho(now Time, s *Segment, n *ackNews) {
	marks := t.newMarks(s, n)
	t.ack.CE, t.ack.ECE = uint64(marks)*uint64(t.mss), t.has(flagECN) && s.Flags.Has(ECE)
	if r := &t.rec; (marks > 0 || t.ack.ECE) && (r.state == caOpen || r.state == caDisorder) && n.outstanding > 0 {
		t.owner.Count(CountECNReduction, 1)
		if n.ended { // by the same ACK
			t.reportExit(now, n)
		}
		r.state, r.high = caCWR, t.sndNxt
		r.undo.Forget() // proof that comes now is about an earlier reduction
		t.signal(now, congestion.ClassicECN, n.outstanding, 0)
		r.prr.Begin(sub64(n.outstanding, n.priorDelivered), t.ctl.Ssthresh)
		r.cwnd = r.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), n.advanced)
		t.reduced()
	}
	// The window does not grow while it is being reduced, whatever this ACK says.
	t.ack.ECE = t.ack.ECE || t.rec.state == caCWR
}

// newMarks returns how many more CE marks the ACE field tells of, modulo 8. That the field wrapped is not assumed, however much an ACK covers: a receiver acknowledges at
// once before that can happen (RFC 9768 §3.2.2.5.1), so that it takes the loss of several such ACKs, while ACKs that cover much are common with receive offloads. An
// ACK that brings nothing new may be an old one, whose field tells nothing.
func (t *TCB) newMarks(s *Segment, n *ackNews) int {
	if !t.has(flagAccECN) || t.has(flagNoECT) || !n.advanced && !n.sacked {
		return 0
	}
	d := (s.Flags.ace() - t.cep) & 7
	t.cep += d
	t.accurate.deliveredCE += uint32(d)
	return int(d)
}

// marksTold counts the marks that the peer told of.
func (t *TCB) marksTold() uint32 {
	if t.accurate == nil {
		return 0
	}
	return t.accurate.deliveredCE
}

// inCWR is the state between a reduction by ECN and the ACK of something sent after it, which may carry CWR.
func (t *TCB) inCWR(now Time, n *ackNews) {
	r := &t.rec
	switch {
	case r.high.Less(t.sndUna):
		t.open()
		n.ended = true
	case n.delivered > 0:
		r.cwnd = r.prr.Cwnd(n.delivered, t.rtx.InFlight(), uint64(t.mss), n.advanced)
	}
}

// reducing reports that PRR and not the controller says how much may be in flight.
func (t *TCB) reducing() bool {
	r := &t.rec
	return r.state == caRecovery || r.state == caCWR && seq.Max(r.high, t.sndUna) != t.sndUna
}
