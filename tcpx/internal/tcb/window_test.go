package tcb

import (
	"strings"
	"testing"
	"time"
)

// coarse asks for a large window scale with a small buffer.
func coarse(r *rig) { r.RcvBufLocked, r.cfg.RcvBufMax, r.RcvBuf = false, 64<<20, 32<<10 }

// TestSHLD14TheEdgeStaysAndCloses: whatever the size of the segments, a user who does not read meets a closed window after one buffer's worth; what was offered is
// accepted; scaling makes the peer see at most one unit less.
func TestSHLD14TheEdgeStaysAndCloses(t *testing.T) {
	for _, size := range []int{1, 3, 100, 511, 512, 513, 1447, 1460} {
		r := newRig(t, coarse).to(StateEstablished)
		unit := 1 << r.rcvWScale
		if unit < 1024 {
			t.Fatalf("unit %d", unit)
		}
		got, edge := 0, r.rcvAdv
		for n := 0; r.rcvWnd() > 0 && n < 100_000; n++ {
			k := min(size, r.rcvWnd())
			for _, s := range r.in(r.ack(0), strings.Repeat("x", k)) {
				e := s.Ack.Add(int(s.Wnd) << r.rcvWScale)
				if e.Leq(edge.Add(-unit)) {
					t.Fatalf("size %d: the edge moved back by %d", size, edge.Sub(e))
				}
				if edge = max(edge, e); edge.Sub(r.rcvNxt) > r.rcvWnd() {
					t.Fatalf("size %d: %d octets offered, %d accepted", size, edge.Sub(r.rcvNxt), r.rcvWnd())
				}
			}
			got += k
		}
		if got < 16<<10 || got > 16<<10+unit || r.ReadSize() != got {
			t.Errorf("segments of %d: %d octets until the window closed, %d kept; the buffer offers %d", size, got, r.ReadSize(), 16<<10)
		}
		// MUST-39: it opens by a worthwhile step and not before.
		var b strings.Builder
		_, _ = r.Read(r.now, &b, 100, false)
		r.expect(r.take())
		_, _ = r.Read(r.now, &b, 4000, false)
		if s := r.take(); len(s) != 1 || int(s[0].Wnd)<<r.rcvWScale < 1460 {
			t.Errorf("segments of %d: no window update: %v", size, s)
		}
	}
}

// TestWindowOpensInABufferBelowTheUnit: a buffer that was made smaller than a unit of the window still lets the peer send.
func TestWindowOpensInABufferBelowTheUnit(t *testing.T) {
	r := newRig(t, coarse).to(StateEstablished)
	r.RcvBuf, r.RcvBufLocked = 600, true
	for n := 0; n < 100; n++ {
		for r.rcvWnd() > 0 {
			r.in(r.ack(0), strings.Repeat("x", min(1000, r.rcvWnd())))
		}
		r.read()
		if r.rcvWnd() == 0 {
			t.Fatal("the window stays closed though all was read")
		}
	}
}

// TestReceiverSWS: the window moves by min(half the buffer, one segment) at least, for all sizes of buffer and of reads (MUST-39).
func TestReceiverSWS(t *testing.T) {
	for _, buf := range []int{512, 2048, 8192, 1 << 20} {
		for _, chunk := range []int{1, 7, 400, 2000} {
			r := newRig(t, func(r *rig) { r.RcvBuf = buf }).to(StateEstablished)
			r.in(r.ack(0), strings.Repeat("x", min(1460, r.rcvWnd()))) // lets us know the segment size
			for r.rcvWnd() > 0 {
				r.in(r.ack(0), strings.Repeat("x", min(1460, r.rcvWnd())))
			}
			step := min(windowSpace(buf)/2, int(r.rcvMSS))
			var b strings.Builder
			edge := r.rcvAdv
			for r.ReadSize() > 0 {
				_, _ = r.Read(r.now, &b, chunk, false)
				dup := r.ack(0)
				dup.Seq--
				r.in(dup, "x") // whose ACK is a chance to move the edge
				if d, unit := r.rcvAdv.Sub(edge), 1<<r.rcvWScale; d >= unit && d <= step-unit {
					t.Fatalf("buffer %d: the edge moved by %d, less than %d", buf, d, step)
				}
				edge = r.rcvAdv
			}
			if r.rcvWnd() < step {
				t.Errorf("buffer %d, reads of %d: window %d after all was read", buf, chunk, r.rcvWnd())
			}
		}
	}
}

// TestWindowUpdateRules: SND.WND changes with segments that are not older than the last that changed it (RFC 9293 §3.10.7.4, fifth).
func TestWindowUpdateRules(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.write(strings.Repeat("x", 3000))
	base := r.sndUna
	for _, tt := range []struct {
		name     string
		seq, ack int
		wnd      uint16
		want     uint32
	}{
		{"newer ACK", 0, 1000, 100, 100},
		{"older ACK, the same SEQ", 0, 500, 200, 100},
		{"the same", 0, 1000, 300, 300},
		{"newer ACK again", 0, 1500, 400, 400},
		{"later SEQ, older ACK", 10, 1000, 500, 400}, // SEG.ACK < SND.UNA: no update
		{"later SEQ, the same ACK", 10, 1500, 600, 600},
		{"earlier SEQ, newer ACK", 5, 2000, 700, 100}, // no update, and the edge stays at 2100
	} {
		r.in(Segment{Seq: r.rcvNxt.Add(tt.seq), Ack: base.Add(tt.ack), Flags: ACK, Wnd: tt.wnd}, "")
		if r.sndWnd != tt.want {
			t.Errorf("%s: SND.WND %d, want %d", tt.name, r.sndWnd, tt.want)
		}
	}
}

// TestAutotuneReaches64MB: with a buffer limit of 64 MB the window of a fast path grows to it, and no further.
func TestAutotuneReaches64MB(t *testing.T) {
	w := newWorld(t, 1)
	for _, p := range []*peer{w.a, w.b} {
		p.cfg.RcvBufMax, p.cfg.SndBufMax = 64<<20, 128<<20
		p.params.GSOMax = 64000
		p.path.delay = 20 * time.Millisecond
	}
	w.gro = true
	w.connect()
	text := strings.Repeat("0123456789abcdef", 1<<20/16)
	for range 192 {
		w.write(w.a, []byte(text))
		w.b.received.Reset()
	}
	w.until(time.Hour, func() bool { return w.a.sndBuf.len == 0 })
	if w.b.RcvBuf != 64<<20 || w.a.maxSndWnd < 30<<20 {
		t.Errorf("receive buffer %d, largest window %d", w.b.RcvBuf, w.a.maxSndWnd)
	}
}
