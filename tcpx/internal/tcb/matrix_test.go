package tcb

import (
	"fmt"
	"strings"
	"testing"
)

// The matrix: every state of a synchronized or half-open connection meets every kind of segment, and what the core does is compared with rfcSays, a statement of
// RFC 9293 §3.10.7.4 that shares nothing with the core.

// view is what the rules look at.
type view struct {
	state             State
	passive           bool
	irs, rcvNxt, edge Seq
	una, nxt          Seq
	maxWnd            int
	finOut            bool
}

// reply is what a segment is answered with.
type reply string

const (
	silence   reply = "nothing"
	ackReply  reply = "ACK"
	rstReply  reply = "RST"
	ackOrNone reply = "ACK or nothing"
)

// verdict is what the RFC wants.
type verdict struct {
	reply reply
	state State
	una   Seq
	// text is the number of octets that RCV.NXT advances over, FIN not counted.
	text int
}

// rfcSays is RFC 9293 §3.10.7.4 with RFC 5961 §3 to §5 and RFC 1337. Beyond the letter: a segment without text at the right edge is acceptable (appendix A.2), and a
// bare FIN at RCV.NXT is taken whatever the window, for it needs no buffer.
func rfcSays(v view, s Segment) verdict {
	out := verdict{state: v.state, una: v.una, reply: silence}
	is := func(states ...State) bool {
		for _, x := range states {
			if x == out.state {
				return true
			}
		}
		return false
	}
	wnd := int(v.edge - v.rcvNxt)
	inside := func(q Seq) bool { return int(uint32(q-v.rcvNxt)) < wnd }
	text, fin := s.Len, s.Flags&FIN != 0
	n := text
	for _, f := range []Flags{SYN, FIN} {
		if s.Flags&f != 0 {
			n++
		}
	}
	if is(StateTimeWait) && s.Flags&RST != 0 {
		return out // RFC 1337
	}
	if is(StateTimeWait) && s.Flags&(SYN|ACK) == SYN && int32(s.Seq-v.rcvNxt) > 0 {
		out.state = StateClosed // the owner starts the next incarnation
		return out
	}
	// First: table 6.
	ok := false
	switch {
	case n == 0 && wnd == 0:
		ok = s.Seq == v.rcvNxt
	case n == 0:
		ok = inside(s.Seq) || s.Seq == v.edge && s.Flags&RST == 0
	case wnd == 0:
		ok = s.Seq == v.rcvNxt // so that its ACK, URG and RST are heard
	default:
		ok = inside(s.Seq) || inside(s.Seq+Seq(n)-1)
	}
	if !ok {
		if s.Flags&RST == 0 {
			out.reply = ackReply
		}
		return out
	}
	// Second.
	if s.Flags&RST != 0 {
		if s.Seq != v.rcvNxt {
			out.reply = ackReply
			return out
		}
		out.state = StateClosed
		return out
	}
	// Fourth.
	if s.Flags&SYN != 0 {
		if v.state == StateSynRecv && v.passive {
			out.state = StateClosed
			return out
		}
		out.reply = ackReply
		return out
	}
	// Fifth.
	if s.Flags&ACK == 0 {
		return out
	}
	acked := int(int32(s.Ack - v.una))
	sent := int(v.nxt - v.una)
	if v.state == StateSynRecv {
		if acked <= 0 || acked > sent {
			out.reply = rstReply
			return out
		}
		out.state = StateEstablished
	}
	if acked > sent || acked < -v.maxWnd {
		out.reply = ackReply
		return out
	}
	if acked > 0 {
		out.una = s.Ack
	}
	if v.finOut && s.Ack == v.nxt {
		switch v.state {
		case StateFinWait1:
			out.state = StateFinWait2
		case StateClosing:
			out.state = StateTimeWait
		case StateLastAck:
			out.state = StateClosed
			return out
		}
	}
	// Seventh and eighth.
	if !is(StateEstablished, StateFinWait1, StateFinWait2) {
		if n > 0 {
			out.reply = ackOrNone
		}
		return out
	}
	if n == 0 {
		return out
	}
	out.reply = ackReply
	first, last := s.Seq, s.Seq+Seq(text)
	if int32(v.rcvNxt-first) > 0 {
		first = v.rcvNxt
	}
	if int32(last-v.edge) > 0 {
		last, fin = v.edge, false
	}
	if first != v.rcvNxt {
		return out // kept for later
	}
	out.text = int(last - first)
	if fin {
		switch out.state {
		case StateEstablished:
			out.state = StateCloseWait
		case StateFinWait1:
			out.state = StateClosing
		case StateFinWait2:
			out.state = StateTimeWait
		}
	}
	return out
}

// situations are the states, each with text of ours outstanding where it can be, with an open window, a nearly closed and a closed one.
func situations(t *testing.T) (names []string, build []func() *rig) {
	add := func(name string, f func() *rig) { names, build = append(names, name), append(build, f) }
	fresh := func() *rig {
		return newRig(t, func(r *rig) { r.RcvBuf, r.cfg.ChallengeACKInterval, r.TCB.QuickAck = 2048, 0, 2 })
	}
	add("SYN-RECEIVED from LISTEN", func() *rig { return fresh().passive() })
	add("SYN-RECEIVED from SYN-SENT", func() *rig {
		r := fresh().to(StateSynSent)
		r.in(r.syn(), "")
		r.now += minSynAckGap / 2
		return r
	})
	for _, s := range []State{StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait, StateClosing, StateLastAck, StateTimeWait} {
		for _, left := range []int{1024, 5, 0} {
			add(fmt.Sprintf("%v with a window of %d", s, left), func() *rig {
				r := fresh().to(StateEstablished)
				if left < 1024 {
					r.in(r.ack(0), strings.Repeat("x", r.rcvWnd()-left))
				}
				r.sleep(r.cfg.DelayedACK)
				if s == StateEstablished || s == StateCloseWait {
					r.write(strings.Repeat("y", 100))
				}
				return r.walk(s)
			})
		}
	}
	return names, build
}

// TestMatrix: MUST-10, MUST-11, MUST-13, MUST-34, MUST-66, RFC 5961 and every row of RFC 9293 §3.10.7.4.
func TestMatrix(t *testing.T) {
	names, build := situations(t)
	flags := []Flags{0, ACK, ACK | PSH, RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, FIN, URG | ACK, SYN | FIN, SYN | RST}
	cases := 0
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			probe := build[i]()
			wnd := probe.rcvWnd()
			for _, at := range distinct(-2000, -10, -1, 0, 1, wnd-1, wnd, wnd+1, wnd+2000, 1<<30, -1<<30) {
				for _, n := range []int{0, 1, 20, 1460} {
					for _, f := range flags {
						for _, ack := range acksFor(probe) {
							cases++
							r := build[i]()
							s := Segment{Seq: r.rcvNxt.Add(at), Ack: ack, Flags: f, Wnd: 32000, Up: 1, Segs: 1}
							if r.state == StateSynRecv && f&(SYN|RST) == SYN && s.Seq == r.irs {
								continue // the peer's SYN again: see TestRepeatedSYN
							}
							meet(t, r, s, n)
							if f&ACK == 0 {
								break
							}
						}
					}
				}
			}
		})
	}
	t.Logf("%d cases", cases)
}

// acksFor are acknowledgments too old, old, present, partial, full and of what was never sent.
func acksFor(r *rig) []Seq {
	var out []Seq
	nxt := r.sndNxt.Sub(r.sndUna)
	for _, d := range distinct(-int(r.maxSndWnd)-1, -int(r.maxSndWnd), -1, 0, nxt/2, nxt, nxt+1, 1<<30) {
		out = append(out, r.sndUna.Add(d))
	}
	return out
}

// distinct drops repetitions.
func distinct(v ...int) (out []int) {
	seen := map[int]bool{}
	for _, x := range v {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}

// meet passes one segment and compares.
func meet(t *testing.T, r *rig, s Segment, n int) {
	t.Helper()
	s.Len = n
	v := view{
		state: r.state, passive: r.has(flagPassive), irs: r.irs, rcvNxt: r.rcvNxt, edge: r.rcvAdv, una: r.sndUna, nxt: r.sndNxt, maxWnd: int(r.maxSndWnd),
		finOut: r.has(flagFinSent) && !r.has(flagFinAcked),
	}
	want := rfcSays(v, s)
	what := fmt.Sprintf("%v, RCV.WND %d, SEG.SEQ = RCV.NXT%+d, SEG.LEN %d, flags %b, SEG.ACK = SND.UNA%+d of %d", v.state, v.edge-v.rcvNxt, s.Seq.Sub(v.rcvNxt), s.SegLen(), s.Flags,
		s.Ack.Sub(v.una), v.nxt-v.una)
	read := r.ReadSize()
	out := r.in(s, strings.Repeat("z", n))
	state, una := r.state, r.sndUna
	if state != StateClosed {
		out = append(out, r.sleep(r.cfg.DelayedACK)...)
	}
	if state != want.state {
		t.Errorf("%s: state %v, want %v", what, state, want.state)
		return
	}
	if state != StateClosed && una != want.una {
		t.Errorf("%s: SND.UNA moved by %d, want %d", what, una.Sub(v.una), want.una.Sub(v.una))
	}
	if got := r.ReadSize() - read; state != StateClosed && got != want.text {
		t.Errorf("%s: %d octets taken, want %d", what, got, want.text)
	}
	got := silence
	switch {
	case len(out) > 1:
		got = reply(fmt.Sprint(out))
	case len(out) == 1 && out[0].Flags&^PSH == ACK && out[0].Seq == r.sndNxt && out[0].Ack == r.rcvNxt && out[0].Len == 0:
		got = ackReply
	case len(out) == 1 && out[0].Flags == RST && out[0].Seq == s.Ack:
		got = rstReply
	case len(out) == 1:
		got = reply(out[0].String())
	}
	if got != want.reply && !(want.reply == ackOrNone && (got == ackReply || got == silence)) {
		t.Errorf("%s: answered with %v, want %v", what, got, want.reply)
	}
}

// TestSynSentMatrix is RFC 9293 §3.10.7.3.
func TestSynSentMatrix(t *testing.T) {
	for _, tt := range []struct {
		flags Flags
		ack   int // from ISS
		state State
		reply string
	}{
		{ACK, 0, StateSynSent, "R -1:-1"}, {ACK, 1, StateSynSent, ""}, {ACK, 2, StateSynSent, "R 2:2"}, {ACK, -5, StateSynSent, "R -5:-5"},
		{RST, 0, StateSynSent, ""}, {RST | ACK, 0, StateSynSent, ""}, {RST | ACK, 1, StateClosed, ""}, {RST | ACK, 2, StateSynSent, ""},
		{SYN, 0, StateSynRecv, "S. 0:0 ack 1"}, {SYN | ACK, 1, StateEstablished, ". 1:1 ack 1"},
		{SYN | ACK, 0, StateSynSent, "R 0:0"}, {SYN | ACK, 2, StateSynSent, "R 2:2"},
		{SYN | RST, 0, StateSynSent, ""}, {SYN | RST | ACK, 1, StateClosed, ""},
		{SYN | FIN | ACK, 1, StateCloseWait, ". 1:1 ack 2"}, {SYN | FIN, 0, StateSynRecv, "S. 0:0 ack 1"},
		{FIN, 0, StateSynSent, ""}, {PSH, 0, StateSynSent, ""}, {0, 0, StateSynSent, ""},
	} {
		r := newRig(t).to(StateSynSent)
		s := r.syn()
		s.Flags, s.Ack = tt.flags, rigISS.Add(tt.ack)
		out := r.in(s, "")
		if r.state != tt.state {
			t.Errorf("flags %b, ACK = ISS%+d: state %v, want %v", tt.flags, tt.ack, r.state, tt.state)
		}
		if tt.reply == "" {
			r.expect(out)
			continue
		}
		if tt.flags&ACK != 0 && tt.reply[0] == 'R' {
			if len(out) != 1 || out[0].Flags != RST || out[0].Seq != s.Ack {
				t.Errorf("flags %b, ACK = ISS%+d: answered with %v, want <SEQ=SEG.ACK><CTL=RST>", tt.flags, tt.ack, out)
			}
			continue
		}
		r.expect(out, tt.reply)
	}
}

// TestClosedMatrix is RFC 9293 §3.10.7.1.
func TestClosedMatrix(t *testing.T) {
	for _, tt := range []struct {
		in   Segment
		want Out
		ok   bool
	}{
		{in: Segment{Seq: 5, Ack: 9, Flags: RST}},
		{in: Segment{Seq: 5, Ack: 9, Flags: RST | ACK}},
		{in: Segment{Seq: 5, Ack: 9, Flags: ACK, Len: 3}, want: Out{Seq: 9, Flags: RST}, ok: true},
		{in: Segment{Seq: 5, Flags: SYN}, want: Out{Ack: 6, Flags: RST | ACK}, ok: true},
		{in: Segment{Seq: 1<<32 - 1, Flags: SYN | FIN, Len: 10}, want: Out{Ack: 11, Flags: RST | ACK}, ok: true},
		{in: Segment{Seq: 5, Flags: 0, Len: 10}, want: Out{Ack: 15, Flags: RST | ACK}, ok: true},
	} {
		if got, ok := Reset(&tt.in); ok != tt.ok || got.Seq != tt.want.Seq || got.Ack != tt.want.Ack || got.Flags != tt.want.Flags {
			t.Errorf("%+v: %+v, %v", tt.in, got, ok)
		}
		r := newRig(t)
		r.expect(r.in(tt.in, ""))
		r.expectState(StateClosed)
	}
}
