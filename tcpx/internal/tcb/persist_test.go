package tcb

import (
	"strings"
	"testing"
	"time"
)

// closed lets the peer close its window.
func (r *rig) closeWindow() {
	r.tb.Helper()
	s := r.ack(0)
	s.Wnd = 0
	r.in(s, "")
	r.now += 10 * time.Millisecond
}

// TestZeroWindowProbes: the first after one RTO (SHLD-29), then ever less often (SHLD-30), for ever as long as each is answered (MUST-36, MUST-37).
func TestZeroWindowProbes(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.closeWindow()
	r.expect(r.write("hello"))
	rto, last := r.currentRTO(), r.now
	var gaps []time.Duration
	for range 60 {
		for len(r.sent) == 0 {
			if r.Deadline() == 0 {
				t.Fatalf("%v: no timer runs", r.state)
			}
			r.now = r.Deadline()
			r.OnTimer(r.now)
		}
		r.expect(r.take(), ". 1:2 ack 1")
		gaps, last = append(gaps, r.now-last), r.now
		r.now += 10 * time.Millisecond
		s := r.ack(0)
		s.Wnd = 0
		r.in(s, "")
	}
	r.expectState(StateEstablished)
	if d := gaps[0] - rto; d < 0 || d > time.Millisecond {
		t.Errorf("first probe after %v, RTO is %v", gaps[0], rto)
	}
	for i := 1; i < len(gaps); i++ {
		want := min(2*gaps[i-1], r.cfg.MaxRTO)
		if d := gaps[i] - want; d < -20*time.Millisecond || d > 20*time.Millisecond {
			t.Errorf("probe %d after %v, the one before after %v", i, gaps[i], gaps[i-1])
		}
	}
	// The window opens: all goes out, and the time-out is that of fresh data.
	r.in(r.ack(0), "")
	if got := r.currentRTO(); got > 2*rto {
		t.Errorf("RTO %v after the window opened, %v before it closed", got, rto)
	}
	if r.sndNxt != rigISS.Add(6) {
		t.Error("the text was not sent when the window opened")
	}
}

// TestUnansweredProbesEnd: R2 counts probes that get no answer.
func TestUnansweredProbesEnd(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.closeWindow()
	r.write("hello")
	r.sleep(time.Hour)
	r.expectState(StateClosed)
	if r.reason != ReasonTimeout {
		t.Errorf("reason %v", r.reason)
	}
}

// TestProbeAccepted: the peer takes the probe's octet.
func TestProbeAccepted(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.closeWindow()
	r.write("hello")
	r.expect(r.sleep(r.currentRTO()), ". 1:2 ack 1")
	s := r.ack(0)
	s.Ack++
	r.expect(r.in(s, ""), "P. 2:6 ack 1")
}

// TestProbeIsNotSentText: once the probed octet has left within text, an ACK of what lies beyond SND.NXT is invalid as ever.
func TestProbeIsNotSentText(t *testing.T) {
	r := newRig(t, func(r *rig) { r.NoDelay = true }).to(StateEstablished)
	r.closeWindow()
	r.write("hello")
	r.sleep(r.currentRTO())
	s := r.ack(0)
	s.Wnd = 5
	r.expect(r.in(s, ""), "P. 1:6 ack 1")
	s = r.ack(0)
	r.in(s, "")
	r.closeWindow()
	r.write("more")
	r.expect(r.sleep(r.currentRTO()), ". 6:7 ack 1")
	s = r.ack(0)
	s.Wnd = 4
	r.expect(r.in(s, ""), "P. 6:10 ack 1")
	r.expect(r.write("and more")) // beyond the window
	una := r.sndUna
	s = r.ack(0)
	s.Ack++
	r.in(s, "")
	if r.sndUna != una {
		t.Error("an ACK of what was never sent is taken for a probe's")
	}
}

// TestZeroWindowRetransmission: text in flight when the window closed is retransmitted, and the peer that answers with a closed window is not given up, even if
// an answer is lost now and then (MUST-37, SHLD-17).
func TestZeroWindowRetransmission(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.write("hello")
	s := r.ack(0)
	s.Ack, s.Wnd = r.sndUna, 0
	r.in(s, "")
	for i := 0; i < 300; i++ {
		r.sent = nil
		for n := 0; len(r.sent) == 0; n++ {
			if r.Deadline() == 0 {
				t.Fatalf("%v, retransmission %d: no timer runs", r.state, i)
			}
			r.now = r.Deadline()
			r.OnTimer(r.now)
		}
		r.now += 10 * time.Millisecond
		if i%5 != 0 {
			s.Seq = r.rcvNxt
			r.in(s, "")
		}
	}
	r.expectState(StateEstablished)
}

// TestShrunkenWindow: new text stays back (SHLD-15), old text goes on to be retransmitted (SHLD-16), and no harm comes of it (MUST-34).
func TestShrunkenWindow(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.RACK = false }).to(StateEstablished)
	r.write(strings.Repeat("x", 4*1460))
	s := r.ack(0)
	s.Ack, s.Wnd = r.sndUna.Add(1460), 1000
	r.expect(r.in(s, ""))
	r.expect(r.write("more"))
	if got := r.sleep(r.currentRTO()); len(got) != 1 || got[0].Seq != rigISS.Add(1461) {
		t.Errorf("sent %v after a time-out", got)
	}
	// All is acknowledged, beyond the edge: a closed window from there on.
	s.Ack, s.Wnd = r.sndNxt, 0
	r.expect(r.in(s, ""))
	r.expect(r.sleep(r.currentRTO()), ". 5841:5842 ack 1")
	s.Wnd = 10
	r.expect(r.in(s, ""), "P. 5841:5845 ack 1")
}

// TestFINWaitsForTheWindow: FIN takes a sequence number, so that a closed window holds it back; it then serves as the probe.
func TestFINWaitsForTheWindow(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.closeWindow()
	r.ShutdownWrite(r.now)
	r.expect(r.take())
	r.expectState(StateFinWait1)
	// Segments with a closed window do not put the probe off.
	for range 3 {
		r.sleep(r.baseRTO() / 4)
		s := r.ack(0)
		s.Wnd = 0
		r.in(s, "x")
	}
	if got := r.sleep(r.baseRTO() / 2); len(got) != 1 || !got[0].Flags.Has(FIN) {
		t.Errorf("sent %v", got)
	}
	r.in(r.ack(0), "")
	r.expectState(StateFinWait2)

	// Text that fits exactly leaves without FIN.
	r = newRig(t).to(StateEstablished)
	r.closeWindow()
	r.write("hello")
	r.ShutdownWrite(r.now)
	s := r.ack(0)
	s.Wnd = 5
	r.expect(r.in(s, ""), "P. 1:6 ack 1")
	r.expect(r.in(r.ack(0), ""), "F. 6:6 ack 1")
}

// TestOrphanWithAClosedWindow: a connection that nobody owns is not held for ever by a peer that keeps its window closed.
func TestOrphanWithAClosedWindow(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.closeWindow()
	r.write("hello")
	r.Release(r.now)
	for i := 0; i < 50 && r.state != StateClosed; i++ {
		r.now = r.Deadline()
		r.OnTimer(r.now)
		if r.state != StateClosed {
			s := r.ack(0)
			s.Wnd = 0
			r.in(s, "")
		}
	}
	r.expectState(StateClosed)
}

// TestWindowOpensALittle: after long probing a window too small for SWS avoidance is used within the override's second (RFC 9293 §3.8.6.2.1), not after the
// probe's back-off.
func TestWindowOpensALittle(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.MaxRTO = time.Hour }).to(StateEstablished)
	r.closeWindow()
	r.write(strings.Repeat("x", 3000))
	for range 10 {
		r.now = r.Deadline()
		r.OnTimer(r.now)
		s := r.ack(0)
		s.Wnd = 0
		r.in(s, "")
	}
	s := r.ack(0)
	s.Wnd = 100
	r.expect(r.in(s, ""))
	if got := r.sleep(maxOverride); len(got) == 0 || got[0].Len != 100 {
		t.Errorf("sent %v", got)
	}
}

// TestSenderSWS: a window that cuts the segment is used if it is half of the largest ever seen (MUST-38).
func TestSenderSWS(t *testing.T) {
	for _, tt := range []struct {
		wnd  uint16
		want int
	}{{100, 0}, {1459, 0}, {1460, 1460}, {2000, 1460}} {
		r := newRig(t).to(StateEstablished)
		r.closeWindow()
		r.write(strings.Repeat("x", 5000))
		s := r.ack(0)
		s.Wnd = tt.wnd
		sent := 0
		for _, o := range r.in(s, "") {
			sent += o.Len
		}
		if sent != tt.want {
			t.Errorf("window %d: sent %d, want %d", tt.wnd, sent, tt.want)
		}
	}
	// A peer whose largest window is below a segment gets half of it at least.
	r := newRig(t)
	s := r.syn()
	s.Wnd = 800
	r.OpenPassive(r.now, &r.params, &s)
	a := r.ack(0)
	a.Wnd = 800
	r.in(a, "")
	r.take()
	if got := r.write(strings.Repeat("x", 5000)); len(got) != 1 || got[0].Len != 800 {
		t.Errorf("sent %v into a window of 800", got)
	}
	for _, tt := range []struct{ wnd, want int }{{399, 0}, {400, 400}} {
		a = r.ack(0)
		a.Wnd = uint16(tt.wnd)
		sent := 0
		for _, o := range r.in(a, "") {
			sent += o.Len
		}
		if sent != tt.want {
			t.Errorf("sent %d into a window of %d, the largest was 800", sent, tt.wnd)
		}
	}
}

// TestNagle: a small segment waits while another is unacknowledged (SHLD-7, Minshall's variant); TCP_NODELAY disables it (MUST-17).
func TestNagle(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.expect(r.write("a"), "P. 1:2 ack 1")
	r.expect(r.write("b"))
	r.expect(r.write("c"))
	r.expect(r.in(r.ack(0), ""), "P. 2:4 ack 1")
	r.in(r.ack(0), "")
	// Minshall: full segments in flight hold nothing back.
	if got := r.write(strings.Repeat("x", 2*1460+10)); len(got) != 3 {
		t.Errorf("sent %v", got)
	}
	r = newRig(t, func(r *rig) { r.NoDelay = true }).to(StateEstablished)
	r.expect(r.write("a"), "P. 1:2 ack 1")
	r.expect(r.write("b"), "P. 2:3 ack 1")
}

// TestNagleAfterGigabytes: the end of the last small segment, long passed, is not mistaken for one ahead.
func TestNagleAfterGigabytes(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.write("a")
	r.in(r.ack(0), "")
	for i := range 100 {
		// Some hundred megabytes in full segments, of which one is sent for real.
		r.write(strings.Repeat("x", 1460))
		r.in(r.ack(0), "")
		d := Seq(400 << 20)
		r.sndUna, r.sndNxt, r.sndBuf.next, r.sndWl2 = r.sndUna+d, r.sndNxt+d, r.sndBuf.next+d, r.sndWl2+d
		if i%7 == 6 {
			if got := r.write("b"); len(got) == 0 {
				t.Fatal("a small segment waits with nothing in flight")
			}
			r.in(r.ack(0), "")
		}
	}
}

// TestCork: TCP_CORK and MSG_MORE hold partial segments for at most 200 ms, and letting go sends them.
func TestCork(t *testing.T) {
	r := newRig(t, func(r *rig) { r.Cork = true }).to(StateEstablished)
	r.expect(r.write("a"))
	r.expect(r.sleep(corkTime - time.Millisecond))
	r.expect(r.sleep(time.Millisecond), "P. 1:2 ack 1")
	r.in(r.ack(0), "")
	r.expect(r.write("b"))
	r.Cork = false
	r.SettingsChanged(r.now)
	r.expect(r.take(), "P. 2:3 ack 1")
	r.in(r.ack(0), "")
	_, _ = r.Write(r.now, strings.NewReader("c"), 1, true, false)
	r.expect(r.take())
	r.expect(r.write("d"), "P. 3:5 ack 1")
}
