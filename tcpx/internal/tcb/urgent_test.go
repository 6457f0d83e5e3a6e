package tcb

import (
	"strings"
	"testing"
)

// TestUrgentPointer: the pointer counts from the segment's own sequence number to the octet after the urgent data (MUST-62), also if the segment's start was
// received before, and also if a closed window makes its text be dropped (MUST-66).
func TestUrgentPointer(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.in(r.ack(0), "0123")
	s := r.ack(URG)
	s.Seq, s.Up = s.Seq.Add(-4), 8
	r.in(s, "0123456789")
	if n, ok := r.UrgentMark(); n != 8 || !ok {
		t.Errorf("MUST-33: urgent data ends %d, %v octets ahead of the user, want 8", n, ok)
	}
	if r.TakeEvents()&EventUrgent == 0 {
		t.Error("MUST-32: the user was not told")
	}
	if r.read(); r.has(flagUrgIn) {
		t.Error("urgent mode goes on after the urgent data was read")
	}

	r = newRig(t, func(r *rig) { r.RcvBuf = 2048 }).to(StateEstablished)
	for r.rcvWnd() > 0 {
		r.in(r.ack(0), strings.Repeat("x", r.rcvWnd()))
	}
	s = r.ack(URG)
	s.Up = 5
	r.in(s, "urgent")
	if n, ok := r.UrgentMark(); n != 1024+5 || !ok {
		t.Errorf("MUST-66: urgent data ends %d, %v octets ahead with a closed window, want 1029", n, ok)
	}
}

// TestUrgentSignalledOnce: one signal for a continuous sequence of urgent data of any length (MUST-31, RFC 9293 §3.10.7.4, sixth).
func TestUrgentSignalledOnce(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	signals := 0
	for i := range 10 {
		s := r.ack(URG)
		s.Up = uint16(100 + i)
		r.in(s, strings.Repeat("u", 100))
		if r.TakeEvents()&EventUrgent != 0 {
			signals++
		}
	}
	if signals != 1 {
		t.Errorf("%d signals", signals)
	}
	r.in(r.ack(0), strings.Repeat("n", 200))
	r.read()
	if _, ok := r.UrgentMark(); ok {
		t.Error("urgent mode goes on")
	}
	s := r.ack(URG)
	s.Up = 1
	r.in(s, "u")
	if r.TakeEvents()&EventUrgent == 0 {
		t.Error("the next sequence is not signalled")
	}
}

// TestUrgentModeEnds: a pointer long passed is not mistaken for one ahead once sequence numbers have gone half around, and none points beyond FIN.
func TestUrgentModeEnds(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	s := r.ack(URG)
	s.Up = 1
	r.in(s, "u")
	r.read()
	r.TakeEvents()
	r.rcvNxt += 3 << 30
	r.rcvAdv += 3 << 30
	r.lastAckSent += 3 << 30
	if _, ok := r.UrgentMark(); ok {
		t.Error("phantom urgent data")
	}
	s = r.ack(URG)
	s.Up = 1
	r.in(s, "u")
	if r.TakeEvents()&EventUrgent == 0 {
		t.Error("urgent data is ignored after 3 GiB")
	}
	r.read()
	s = r.ack(URG | FIN)
	s.Up = 100
	r.in(s, "u")
	if n, _ := r.UrgentMark(); n != 1 {
		t.Errorf("urgent data ends %d octets ahead, the stream 1", n)
	}
}

// TestUrgentIsNotForAUserWhoLeft: after the read side was shut nothing is urgent.
func TestUrgentIsNotForAUserWhoLeft(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.ShutdownRead()
	s := r.ack(URG)
	s.Up = 1
	r.in(s, "u")
	if _, ok := r.UrgentMark(); ok {
		t.Error("urgent data is announced")
	}
}

// TestSendUrgent: the pointer of every segment ends after the urgent octet, as if it left in one piece, although the link segments what follows (MUST-30, MUST-31).
func TestSendUrgent(t *testing.T) {
	r := newRig(t, func(r *rig) { r.params.GSOMax = 64000 }).to(StateEstablished)
	text := strings.Repeat("u", 4000)
	if _, err := r.Write(r.now, strings.NewReader(text), len(text), false, true); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.take() {
		if s.Len > 1460 {
			t.Errorf("a unit of %d octets with an urgent pointer", s.Len)
		}
		if !s.Flags.Has(URG) || s.Seq.Add(int(s.Up)) != rigISS.Add(1+4000) {
			t.Errorf("%v: pointer %d", s, s.Up)
		}
	}
	r.in(r.ack(0), "")
	for _, s := range r.write(text) {
		if s.Flags.Has(URG) {
			t.Errorf("%v after the urgent data was acknowledged", s)
		}
	}
	// Beyond the field's range the pointer is as large as it can be.
	r = newRig(t, func(r *rig) { r.SndBuf = 1 << 20 }).to(StateEstablished)
	long := strings.Repeat("u", 70000)
	_, _ = r.Write(r.now, strings.NewReader(long), len(long), false, true)
	if s := r.take(); len(s) == 0 || s[0].Up != 65535 || !s[0].Flags.Has(URG) {
		t.Errorf("pointer %d", s[0].Up)
	}
}
