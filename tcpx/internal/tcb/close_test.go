package tcb

import (
	"strings"
	"testing"
	"time"
)

// TestCloseCalls: CLOSE in every state (RFC 9293 §3.10.4).
func TestCloseCalls(t *testing.T) {
	for _, tt := range []struct {
		state, after State
		sent         string
	}{
		{StateClosed, StateClosed, ""},
		{StateSynSent, StateClosed, ""},
		{StateSynRecv, StateSynRecv, "F. 1:1 ack 1"},
		{StateEstablished, StateFinWait1, "F. 1:1 ack 1"},
		{StateFinWait1, StateFinWait1, ""},
		{StateFinWait2, StateFinWait2, ""},
		{StateCloseWait, StateLastAck, "F. 1:1 ack 2"},
		{StateClosing, StateClosing, ""},
		{StateLastAck, StateLastAck, ""},
		{StateTimeWait, StateTimeWait, ""},
	} {
		r := newRig(t).to(tt.state)
		r.ShutdownWrite(r.now)
		r.ShutdownWrite(r.now)
		r.sane()
		if r.state != tt.after {
			t.Errorf("CLOSE in %v: %v, want %v", tt.state, r.state, tt.after)
		}
		if got := r.take(); len(got) > 1 || len(got) == 1 && got[0].String() != tt.sent || len(got) == 0 && tt.sent != "" {
			t.Errorf("CLOSE in %v: sent %v, want %q", tt.state, got, tt.sent)
		}
		if n, _ := r.Write(r.now, strings.NewReader("x"), 1, false, false); n != 0 {
			t.Errorf("SEND after CLOSE in %v takes %d octets", tt.state, n)
		}
	}
}

// TestAbortCalls: ABORT in every state (RFC 9293 §3.10.5).
func TestAbortCalls(t *testing.T) {
	for _, tt := range []struct {
		state State
		rst   bool
	}{
		{StateClosed, false}, {StateSynSent, false}, {StateSynRecv, true}, {StateEstablished, true}, {StateFinWait1, true}, {StateFinWait2, true},
		{StateCloseWait, true}, {StateClosing, false}, {StateLastAck, false}, {StateTimeWait, false},
	} {
		r := newRig(t).to(tt.state)
		r.Abort(r.now, ReasonAborted)
		r.sane()
		r.expectState(StateClosed)
		got := r.take()
		if ok := len(got) == 1 && got[0].Flags.Has(RST) && got[0].Seq == r.sndNxt; ok != tt.rst || !ok && len(got) != 0 {
			t.Errorf("ABORT in %v: sent %v", tt.state, got)
		}
		if r.held != 0 {
			t.Errorf("ABORT in %v: %d octets of the budget are held", tt.state, r.held)
		}
	}
}

// TestRelease: a close with unread text, or text that comes after it, resets (SHLD-3, RFC 2525 §2.17); a half-close alone does not.
func TestRelease(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.in(r.ack(0), "unread")
	r.Release(r.now)
	r.expect(r.take(), "R. 1:1 ack 7")
	r.expectState(StateClosed)

	r = newRig(t).to(StateEstablished)
	r.in(r.ack(0), "read")
	r.read()
	r.Release(r.now)
	r.expect(r.take(), "F. 1:1 ack 5")
	r.expect(r.in(r.ack(0), ""))
	r.expectState(StateFinWait2)
	r.expect(r.in(r.ack(0), "late"), "R 2:2")
	r.expectState(StateClosed)

	r = newRig(t).to(StateEstablished)
	r.ShutdownWrite(r.now)
	r.in(r.ack(0), "")
	r.in(r.ack(0), "half-closed")
	r.expectState(StateFinWait2)
	if got := r.read(); got != "half-closed" {
		t.Errorf("read %q after the half-close", got)
	}
	r.in(r.ack(FIN), "")
	r.expectState(StateTimeWait)
	// A retransmission of what was read before is no text after close.
	r = newRig(t).to(StateEstablished)
	s := r.ack(0)
	r.in(s, "once")
	r.read()
	r.Release(r.now)
	r.take()
	r.expect(r.in(s, "once"), ". 2:2 ack 5")
	r.expectState(StateFinWait1)
}

// TestFinWait2Limit: TCP_LINGER2 bounds the stay of an orphan, not that of a half-closed connection with an owner.
func TestFinWait2Limit(t *testing.T) {
	r := newRig(t).to(StateFinWait2)
	r.expect(r.sleep(24 * time.Hour))
	r.expectState(StateFinWait2)
	r.Release(r.now)
	r.sleep(r.Linger2 + time.Millisecond)
	r.expectState(StateClosed)
	r = newRig(t, func(r *rig) { r.Linger2 = -1 }).to(StateFinWait2)
	r.Release(r.now)
	r.expect(r.take(), "R. 2:2 ack 1")
}

// TestSimultaneousClose: the FINs cross (RFC 9293 figure 13).
func TestSimultaneousClose(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.ShutdownWrite(r.now)
	r.expect(r.take(), "F. 1:1 ack 1")
	s := r.ack(FIN)
	s.Ack--
	r.expect(r.in(s, ""), ". 2:2 ack 2")
	r.expectState(StateClosing)
	r.expect(r.in(r.ack(0), ""))
	r.expectState(StateTimeWait)
	r.sleep(r.cfg.TimeWait)
	r.expectState(StateClosed)
	// FIN, text and the ACK of our FIN in one segment.
	r = newRig(t).to(StateFinWait1)
	r.expect(r.in(r.ack(FIN), "bye"), ". 2:2 ack 5")
	r.expectState(StateTimeWait)
	if got := r.read(); got != "bye" {
		t.Errorf("read %q in TIME-WAIT", got)
	}
	r.sleep(r.cfg.TimeWait)
	r.expectState(StateClosed)
}

// TestR2: retransmissions end after R2 (MUST-20), which the user can set (MUST-21), R1 is reported before (SHLD-9, SHLD-10), SYN is repeated for three minutes at
// least (MUST-22, MUST-23).
func TestR2(t *testing.T) {
	r := newRig(t, func(r *rig) { r.TCB.MaxRetries = 6 }).to(StateEstablished)
	r.write("lost")
	n := 0
	for r.state != StateClosed {
		r.now = r.Deadline()
		r.OnTimer(r.now)
		if r.TakeEvents()&EventR1 != 0 && r.retries != r1 {
			t.Errorf("R1 is reported after %d retransmissions", r.retries)
		}
		n += len(r.take())
	}
	if r.reason != ReasonTimeout || n < 6 || n > 7 { // a loss probe may come on top
		t.Errorf("%d retransmissions, then %v", n, r.reason)
	}
	r = newRig(t).to(StateSynSent)
	start := r.now
	for r.state != StateClosed {
		r.now = r.Deadline()
		r.OnTimer(r.now)
	}
	if d := r.now - start; d < 3*time.Minute {
		t.Errorf("SYN was given up after %v", d)
	}
}

// TestUserTimeout: it ends the connection at its instant, before or after R2 (RFC 5482), counted from the last progress.
func TestUserTimeout(t *testing.T) {
	for _, limit := range []time.Duration{300 * time.Millisecond, 7 * time.Second, 40 * time.Minute} {
		r := newRig(t, func(r *rig) { r.UserTimeout = limit }).to(StateEstablished)
		r.write("one")
		r.sleep(100 * time.Millisecond)
		r.write(strings.Repeat("x", 1460))
		s := r.ack(0)
		s.Ack = r.sndUna + 3
		r.in(s, "")
		start := r.now
		for r.state != StateClosed {
			r.now = r.Deadline()
			r.OnTimer(r.now)
		}
		if d := r.now - start; d != limit || r.reason != ReasonTimeout {
			t.Errorf("user timeout %v: %v after %v", limit, r.reason, d)
		}
	}
}

// TestICMP: what quotes nothing in flight is ignored (RFC 5927 §4.1); hard errors end an attempt to connect only (SHLD-25, SHLD-26, MUST-54, MUST-56).
func TestICMP(t *testing.T) {
	r := newRig(t).to(StateSynSent)
	if r.ICMPError(r.now, rigISS+1, ReasonPortUnreachable, true) || r.ICMPError(r.now, rigISS-1, ReasonPortUnreachable, true) {
		t.Error("an error that quotes nothing in flight is taken")
	}
	r.ICMPError(r.now, rigISS, ReasonHostUnreachable, false)
	r.expectState(StateSynSent)
	r.ICMPError(r.now, rigISS, ReasonPortUnreachable, true)
	r.expectState(StateClosed)
	if r.reason != ReasonPortUnreachable {
		t.Errorf("reason %v", r.reason)
	}
	r = newRig(t).to(StateEstablished)
	r.write("in flight")
	r.TakeEvents()
	if !r.ICMPError(r.now, r.sndUna, ReasonPortUnreachable, true) {
		t.Error("an error that quotes what is in flight is ignored")
	}
	r.expectState(StateEstablished)
	if r.TakeEvents()&EventError == 0 || r.SoftError() != ReasonPortUnreachable {
		t.Error("the soft error is not reported")
	}
	// A soft error explains a later time-out.
	r.ICMPError(r.now, r.sndUna, ReasonNetUnreachable, false)
	r.sleep(time.Hour)
	if r.reason != ReasonNetUnreachable {
		t.Errorf("reason %v", r.reason)
	}
}

// TestPacketTooBigIsChecked: only what is in flight, never an increase, never absurd; what was too big leaves again at once, in segments that fit.
func TestPacketTooBigIsChecked(t *testing.T) {
	for _, gso := range []int{0, 64000} {
		r := newRig(t, func(r *rig) { r.params.GSOMax, r.params.MTUPayload = gso, 1400 }).to(StateEstablished)
		r.write(strings.Repeat("x", 2800))
		ssthresh := r.ctl.Ssthresh
		for _, bad := range []struct {
			q   Seq
			mtu int
		}{{r.sndNxt, 1000}, {r.sndUna - 1, 1000}, {r.sndUna, 0}, {r.sndUna, 1}, {r.sndUna, minMTUPayload - 1}, {r.sndUna, 1400}, {r.sndUna, 1440}, {r.sndUna, 9000}} {
			if r.PacketTooBig(r.now, bad.q, bad.mtu); r.mss != 1400 {
				t.Fatalf("MSS %d after a message that quotes %d with %d", r.mss, bad.q-r.sndUna, bad.mtu)
			}
		}
		if !r.PacketTooBig(r.now, r.sndUna, 1000) {
			t.Fatal("ignored")
		}
		r.sane()
		sum := 0
		for _, s := range r.take() {
			sum += s.Len
			if gso == 0 && s.Len > 1000 {
				t.Errorf("sent %v", s)
			}
		}
		if sum != 2800 || r.ctl.Ssthresh != ssthresh {
			t.Errorf("%d octets sent again, ssthresh %d, was %d", sum, r.ctl.Ssthresh, ssthresh)
		}
	}
}

// TestPSH: the last segment of a write carries it and none before (MUST-60, MUST-61, SHLD-27, SHLD-28).
func TestPSH(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	for i, s := range r.write(strings.Repeat("x", 5000)) {
		if s.Flags.Has(PSH) != (i == 3) || i < 3 && s.Len != 1460 {
			t.Errorf("segment %d: %v", i, s)
		}
	}
}
