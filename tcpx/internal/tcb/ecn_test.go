package tcb

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
)

// withECN sets the mode; ACKs are delayed where nothing asks for them at once.
func withECN(m ECNMode) func(*rig) {
	return func(r *rig) { r.cfg.ECN, r.QuickAck = m, 2 }
}

// use names what was negotiated.
func (r *rig) use() string {
	switch {
	case r.has(flagAccECN) && r.has(flagNoECT):
		return "accurate, no ECT"
	case r.has(flagAccECN):
		return "accurate"
	case r.has(flagECN):
		return "classic"
	}
	return "none"
}

// What the answer of a SYN-ACK means, by the mode that asked (RFC 3168 §6.1.1, RFC 9768 §3.1.2, table 2). The index is the ACE field.
func TestECNAnswers(t *testing.T) {
	const mangled = "accurate, no ECT"
	for mode, want := range map[ECNMode][8]string{
		ECNOff:      {"none", "none", "none", "none", "none", "none", "none", "none"},
		ECNPassive:  {"none", "none", "none", "none", "none", "none", "none", "none"},
		ECNOn:       {"none", "classic", "none", "none", "none", "none", "none", "none"},
		ECNAccurate: {"none", "classic", "accurate", mangled, mangled, "accurate", mangled, "none"},
	} {
		for ace, use := range want {
			r := newRig(t, withECN(mode))
			r.OpenActive(r.now, &r.params)
			r.take()
			s := r.syn()
			s.Flags, s.Ack = SYN|ACK|aceFlags(uint8(ace)), rigISS+1
			r.in(s, "")
			if got := r.use(); got != use {
				t.Errorf("%v, answer %03b: %s, want %s", mode, ace, got, use)
			}
		}
	}
}

// What a SYN asks for, by the mode that hears it (RFC 3168 §6.1.1, RFC 9768 §3.1.2 and §3.1.3), and how the SYN-ACK answers.
func TestECNRequests(t *testing.T) {
	for _, mode := range []ECNMode{ECNOff, ECNOn, ECNPassive, ECNAccurate} {
		for ace := range uint8(8) {
			use, answer := "accurate", uint8(0b010)
			switch {
			case ace == 0 || mode == ECNOff:
				use, answer = "none", 0
			case ace == 0b011:
				use, answer = "classic", 0b001
			}
			r := newRig(t, withECN(mode))
			s := r.syn()
			s.Flags |= aceFlags(ace)
			r.OpenPassive(r.now, &r.params, &s)
			sent := r.take()
			if got := r.use(); got != use || sent[0].Flags.ace() != answer || sent[0].ECN != ecnNotECT {
				t.Errorf("%v, SYN %03b: %s, SYN-ACK %03b, want %s, %03b", mode, ace, got, sent[0].Flags.ace(), use, answer)
			}
		}
	}
}

// accuratePassive opens with accurate ECN; syn is the ECN field of the peer's SYN.
func accuratePassive(t *testing.T, syn uint8) *rig {
	r := newRig(t, withECN(ECNPassive))
	s := r.syn()
	s.Flags |= AE | CWR | ECE
	s.ECN = syn
	r.OpenPassive(r.now, &r.params, &s)
	return r
}

// accurateRig is such a connection once it is established.
func accurateRig(t *testing.T) *rig {
	r := accuratePassive(t, ecnNotECT)
	r.take()
	r.in(r.ack(CWR), "")
	r.expectState(StateEstablished)
	return r
}

// SYN-ACK feeds back how the SYN was marked, twice at most, and then goes without: the connection stays accurate, and sends nothing ECT (RFC 9768 §3.1.5).
func TestAccurateSYNACK(t *testing.T) {
	for syn, want := range map[uint8]uint8{ecnNotECT: 0b010, ecnECT1: 0b011, ecnECT0: 0b100, ecnCE: 0b110} {
		r := accuratePassive(t, syn)
		var got []uint8
		for _, w := range append(r.take(), r.sleep(4*time.Second)...) {
			got = append(got, w.Flags.ace())
		}
		if !slices.Equal(got, []uint8{want, want, 0}) {
			t.Errorf("SYN with %02b: SYN-ACKs with %03b, want %03b twice and 0", syn, got, want)
		}
		r.in(r.ack(CWR), "")
		if w := r.write("x"); r.use() != "accurate" || w[0].Flags.ace() != cepStart || w[0].ECN != ecnNotECT {
			t.Errorf("SYN with %02b: %s, text with %03b and %02b", syn, r.use(), w[0].Flags.ace(), w[0].ECN)
		}
	}
}

// The ACK of SYN-ACK feeds back how that was marked; a mark counts besides (RFC 9768 §3.2.2.1).
func TestAccurateACKOfSYNACK(t *testing.T) {
	for ecn, want := range map[uint8][2]uint8{ecnNotECT: {0b010, 5}, ecnECT1: {0b011, 5}, ecnECT0: {0b100, 5}, ecnCE: {0b110, 6}} {
		r := newRig(t, withECN(ECNAccurate))
		r.OpenActive(r.now, &r.params)
		r.take()
		s := r.syn()
		s.Flags, s.Ack, s.ECN = SYN|ACK|CWR, rigISS+1, ecn
		first := r.in(s, "")
		if w := r.write("x"); len(first) != 1 || first[0].Flags.ace() != want[0] || w[0].Flags.ace() != want[1] {
			t.Errorf("SYN-ACK with %02b: ACK %v, text with %03b, want %03b, %03b", ecn, first, w[0].Flags.ace(), want[0], want[1])
		}
	}
}

// What the ACK of our SYN-ACK feeds back shows whether the path mangles ECN (RFC 9768 §3.2.2.1, table 4); with text it has no such feedback.
func TestAccurateHandshakeFeedback(t *testing.T) {
	for ace, use := range []string{"accurate, no ECT", "accurate", "accurate", "accurate, no ECT", "accurate, no ECT", "accurate", "accurate, no ECT", "accurate"} {
		r := accuratePassive(t, ecnNotECT)
		r.in(r.ack(aceFlags(uint8(ace))), "")
		if got := r.use(); got != use {
			t.Errorf("ACK with %03b: %s, want %s", ace, got, use)
		}
	}
	r := accuratePassive(t, ecnNotECT)
	r.in(r.ack(0), "text")
	if got := r.use(); got != "accurate" {
		t.Errorf("text with 000: %s", got)
	}
}

// marked returns a segment of the peer with an ECN field.
func (r *rig) marked(fl Flags, ecn uint8) Segment {
	s := r.ack(fl)
	s.ECN = ecn
	return s
}

// classicRig is an established connection with classic ECN.
func classicRig(t *testing.T) *rig {
	r := newRig(t, withECN(ECNPassive))
	s := r.syn()
	s.Flags |= ECE | CWR
	r.OpenPassive(r.now, &r.params, &s)
	r.take()
	r.in(r.ack(0), "")
	return r
}

// Marks are echoed at once, also where an ACK would wait; CWR is acknowledged at once; a mark on what carries no text means nothing (RFC 3168 §6.1.3, §6.1.4).
func TestClassicEcho(t *testing.T) {
	r := classicRig(t)
	r.expect(r.in(r.marked(0, ecnECT0), "a"))
	r.in(r.marked(0, ecnCE), "")
	r.expect(r.in(r.marked(0, ecnECT0), "b"))
	r.expect(r.in(r.marked(0, ecnCE), "c"), ".E 1:1 ack 4")
	r.expect(r.in(r.marked(0, ecnCE), "d"))
	r.expect(r.in(r.marked(CWR, ecnECT0), "e"), ". 1:1 ack 6")
}

// Marks are counted, those of a merged segment by its parts. The first of a series and every second are acknowledged at once, and the third that comes without text
// (RFC 9768 §3.2.2.5.1).
func TestAccurateCount(t *testing.T) {
	r := accurateRig(t)
	var got []string
	in := func(ecn uint8, segs int, text string) {
		s := r.marked(0, ecn)
		s.Segs = segs
		for _, w := range r.in(s, text) {
			got = append(got, fmt.Sprintf("%d:%d", w.Ack-rigIRS-1, w.Flags.ace()))
		}
		got = append(got, "/")
	}
	in(ecnECT0, 1, "a")
	in(ecnCE, 1, "b")   // the first
	in(ecnCE, 1, "c")   // one waits
	in(ecnCE, 1, "d")   // two
	in(ecnECT0, 1, "e") // the series ends
	in(ecnCE, 3, "f")   // three at once
	in(ecnCE, 1, "")
	in(ecnCE, 1, "")
	in(ecnCE, 1, "") // the third
	if s, want := strings.Join(got, " "), "/ 2:6 / / 4:0 / / 6:3 / / / 6:6 /"; s != want {
		t.Errorf("ACKs %s, want %s", s, want)
	}
	if n := r.counts[CountCE]; n != 9 {
		t.Errorf("%d marks counted, want 9", n)
	}
}

// recorder is Reno that notes what it is told.
type recorder struct {
	congestion.Controller
	calls []string
	caps  congestion.Capabilities
}

func (c *recorder) OnSignal(ev *congestion.SignalEvent) {
	c.calls = append(c.calls, fmt.Sprintf("signal %d", ev.Signal))
	c.Controller.OnSignal(ev)
}

func (c *recorder) OnRecoveryExit(now congestion.Time, inFlight uint64) {
	c.calls = append(c.calls, "exit")
	c.Controller.OnRecoveryExit(now, inFlight)
}

func (c *recorder) OnSpurious(now congestion.Time, s congestion.Signal, inFlight uint64) {
	c.calls = append(c.calls, "spurious")
	c.Controller.OnSpurious(now, s, inFlight)
}

func (c *recorder) OnAck(ev *congestion.AckEvent) {
	c.calls = append(c.calls, fmt.Sprintf("ack ECE=%v CE=%d", ev.ECE, ev.CE))
	c.Controller.OnAck(ev)
}

func (c *recorder) Control() congestion.Control {
	ctl := c.Controller.Control()
	ctl.Capabilities |= c.caps
	return ctl
}

// record gives a rig such a controller.
func (r *rig) record(caps congestion.Capabilities) *recorder {
	c := &recorder{Controller: reno.New(), caps: caps}
	r.controller = c
	return c
}

// full is the text of n segments.
func (r *rig) full(n int) string { return strings.Repeat("x", n*int(r.mss)) }

// segmentAck acknowledges n segments from the start.
func (r *rig) segmentAck(n int, fl Flags) Segment {
	s := r.ack(fl)
	s.Ack = (rigISS + 1).Add(n * int(r.mss))
	return s
}

// expectCalls compares what the controller was told since the last time.
func (c *recorder) expectCalls(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(c.calls, want) {
		t.Errorf("the controller was told %q, want %q", c.calls, want)
	}
	c.calls = nil
}

const ecnSignal = "signal 4"

func TestClassicReduction(t *testing.T) {
	r := classicRig(t)
	c := r.record(0)
	r.write(r.full(10))
	r.in(r.segmentAck(2, ECE), "")
	c.expectCalls(t, ecnSignal, "ack ECE=true CE=0")
	r.in(r.segmentAck(4, ECE), "") // of the same window
	c.expectCalls(t, "ack ECE=true CE=0")
	r.in(r.segmentAck(6, 0), "") // the window does not grow while it is being reduced
	c.expectCalls(t, "ack ECE=true CE=0")
	r.write(r.full(10))
	r.in(r.segmentAck(11, 0), "")
	c.expectCalls(t, "ack ECE=false CE=0", "exit")
	if r.rec.state != caOpen {
		t.Errorf("state %d of recovery", r.rec.state)
	}
	// With nothing outstanding there is nothing to reduce, whatever an ACK says.
	r = classicRig(t)
	c = r.record(0)
	r.write(r.full(1))
	r.in(r.segmentAck(1, 0), "")
	c.calls = nil
	s := r.segmentAck(1, ECE)
	s.Opts.NumSACK, s.Opts.SACK[0] = 1, Block{r.sndNxt, r.sndNxt + 10}
	r.in(s, "")
	c.expectCalls(t)
}

// An ACK that ends a recovery and brings an echo tells of the end first.
func TestReductionAtTheEndOfRecovery(t *testing.T) {
	r := classicRig(t)
	c := r.record(0)
	r.write(r.full(20))
	s := r.segmentAck(0, 0)
	s.Opts.NumSACK, s.Opts.SACK[0] = 1, Block{(rigISS + 1).Add(int(r.mss)), (rigISS + 1).Add(10 * int(r.mss))}
	r.in(s, "")
	if r.rec.state != caRecovery {
		t.Fatalf("state %d of recovery", r.rec.state)
	}
	c.calls = nil
	r.in(r.segmentAck(10, ECE), "")
	c.expectCalls(t, "exit", ecnSignal, "ack ECE=true CE=0")
}

func TestAccurateReduction(t *testing.T) {
	r := accurateRig(t)
	c := r.record(0)
	ack := func(n int, cep uint8) Segment { return r.segmentAck(n, aceFlags(cep)) }
	r.write(r.full(10))
	r.in(ack(2, cepStart), "")
	c.expectCalls(t, "ack ECE=false CE=0")
	r.in(ack(2, cepStart-1), "") // an old ACK, or one of nothing new
	c.expectCalls(t, "ack ECE=false CE=0")
	r.in(ack(4, cepStart+2), "")
	c.expectCalls(t, ecnSignal, fmt.Sprintf("ack ECE=true CE=%d", 2*r.mss))
	if r.marksTold() != 2 {
		t.Errorf("%d marks known", r.marksTold())
	}
	// Where the path mangles ECN the field is no feedback of marks.
	r = accurateRig(t)
	r.set(flagNoECT)
	c = r.record(0)
	r.write(r.full(10))
	r.in(ack(2, cepStart+2), "")
	c.expectCalls(t, "ack ECE=false CE=0")
}

// Text is ECT(0), or ECT(1) for a controller that asks and a peer whose feedback is accurate (RFC 9331 §4.1).
func TestECTOfText(t *testing.T) {
	for _, tc := range []struct {
		r    *rig
		caps congestion.Capabilities
		want uint8
	}{
		{classicRig(t), 0, ecnECT0},
		{classicRig(t), congestion.WantsECT1, ecnECT0},
		{accurateRig(t), 0, ecnECT0},
		{accurateRig(t), congestion.WantsECT1, ecnECT1},
	} {
		tc.r.record(tc.caps)
		if w := tc.r.write("x"); w[0].ECN != tc.want {
			t.Errorf("%s, capabilities %b: text with %02b, want %02b", tc.r.use(), tc.caps, w[0].ECN, tc.want)
		}
	}
}

// Both kinds of ECN in one handshake end it (RFC 9768 §3.1.5): a listener goes on, a caller of connect hears of it.
func TestMixedECNInSimultaneousOpen(t *testing.T) {
	r := newRig(t, withECN(ECNAccurate))
	r.OpenActive(r.now, &r.params)
	r.take()
	s := r.syn()
	s.Flags |= AE | CWR | ECE
	r.in(s, "")
	r.expectState(StateSynRecv)
	s.Flags &^= AE
	if sent := r.in(s, ""); len(sent) != 1 || !sent[0].Flags.Has(RST) {
		t.Errorf("sent %v, want a RST", sent)
	}
	r.expectState(StateClosed)
	if r.Err() != ReasonRefused {
		t.Errorf("the reason is %v", r.Err())
	}
}
