package tcb

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/buffer"
)

// TestACKAtTheRightEdge: a peer whose text fills the window while part of it is lost still has its ACKs heard (RFC 9293 appendix A.2).
func TestACKAtTheRightEdge(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.write("hello")
	s := r.ack(0)
	s.Seq = r.rcvAdv
	r.expect(r.in(s, ""))
	if r.sndUna != r.sndNxt {
		t.Error("the ACK was not taken")
	}
	// RST there is outside of the window: no answer (RFC 5961 §3.2).
	s.Flags = RST
	r.expect(r.in(s, ""))
	r.expectState(StateEstablished)
}

// stamped is a connection with timestamps; the peer's clock stands at 1000.
func stamped(t *testing.T) *rig {
	r := newRig(t, func(r *rig) { r.cfg.Timestamps = true })
	r.passive()
	r.in(r.stamp(r.ack(0), 1000), "")
	r.expectState(StateEstablished)
	return r
}

func (r *rig) stamp(s Segment, val uint32) Segment {
	s.Opts.TS, s.Opts.TSVal, s.Opts.TSEcr = true, val, r.tsNow(r.now)
	return s
}

// TestPAWS goes through RFC 7323 §5.3 and §5.5.
func TestPAWS(t *testing.T) {
	r := stamped(t)
	r.in(r.stamp(r.ack(0), 2000), "new")
	if r.tsRecent != 2000 {
		t.Errorf("R3: TS.Recent %d", r.tsRecent)
	}
	// R1: older, not acceptable. What was never received is not reported by DSACK.
	out := r.in(r.stamp(r.ack(0), 1999), "old")
	r.expect(out, ". 1:1 ack 4")
	if out[0].Opts.NumSACK != 0 || r.ReadSize() != 3 {
		t.Errorf("R1: %d blocks, %d octets to read", out[0].Opts.NumSACK, r.ReadSize())
	}
	// Beyond Last.ACK.sent: TS.Recent stays.
	s := r.stamp(r.ack(0), 3000)
	s.Seq += 10
	r.in(s, "hole")
	if r.tsRecent != 2000 {
		t.Errorf("TS.Recent %d after a segment out of order", r.tsRecent)
	}
	// The clock wraps.
	r.tsRecent = 1<<32 - 5
	r.in(r.stamp(r.ack(0), 3), "wrapped")
	if r.tsRecent != 3 {
		t.Errorf("TS.Recent %d after the clock wrapped", r.tsRecent)
	}
	// A segment without the option is dropped, RST is not (§3.2).
	r.in(r.ack(0), "bare")
	if n := r.ReadSize(); n != 10 {
		t.Errorf("%d octets to read", n)
	}
	// After 24 days TS.Recent says nothing.
	r.sleep(25 * 24 * time.Hour)
	old := r.rcvNxt
	r.in(r.stamp(r.ack(0), 1<<32-1000), "x")
	if r.rcvNxt != old+1 || r.tsRecent != 1<<32-1000 {
		t.Error("§5.5: TS.Recent is believed after 24 days")
	}
	r.in(Segment{Seq: r.rcvNxt, Flags: RST}, "")
	r.expectState(StateClosed)
}

// TestDSACK: a duplicate is reported once (RFC 2883), also a part of a segment, also out of order.
func TestDSACK(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	block := func(got []wire, lo, hi int) {
		t.Helper()
		if len(got) != 1 || got[0].Opts.NumSACK == 0 || got[0].Opts.SACK[0] != (Block{rigIRS.Add(1 + lo), rigIRS.Add(1 + hi)}) {
			t.Errorf("sent %v with %v", got, got[0].Opts)
		}
	}
	at := func(seq int) Segment { s := r.ack(0); s.Seq = rigIRS.Add(1 + seq); return s }
	r.in(at(0), "0123456789")
	block(r.in(at(0), "0123456789"), 0, 10)
	block(r.in(at(5), "56789abcde"), 5, 10)
	r.in(at(20), "0123456789")
	block(r.in(at(22), "234"), 22, 25)
	r.expect(r.in(at(15), "fghij"), ". 1:1 ack 31")
}

// TestTimeWait goes through RFC 9293 §3.10.7.4 for TIME-WAIT, RFC 1337 and RFC 6191.
func TestTimeWait(t *testing.T) {
	fin := func(r *rig) Segment { s := r.ack(FIN); s.Seq--; return s }
	r := newRig(t).to(StateTimeWait)
	r.sleep(50 * time.Second)
	r.expect(r.in(fin(r), ""), ". 2:2 ack 2")
	r.sleep(50 * time.Second)
	r.expectState(StateTimeWait) // MUST-13: 2MSL since the last FIN
	r.expect(r.in(Segment{Seq: r.rcvNxt, Flags: RST}, ""))
	r.expectState(StateTimeWait) // RFC 1337
	r.expect(r.in(r.ack(0), ""))
	r.expect(r.in(r.ack(0), "text behind the end of the stream"), ". 2:2 ack 2")
	r.sleep(time.Second)
	r.expect(r.in(r.ack(FIN), ""), ". 2:2 ack 2")
	r.expect(r.in(Segment{Seq: r.rcvNxt, Flags: PSH}, "no ACK"))
	r.sleep(time.Second)
	s := r.ack(0)
	s.Ack++
	r.expect(r.in(s, ""), ". 2:2 ack 2")
	r.sleep(58 * time.Second) // none of these has restarted 2MSL
	r.expectState(StateClosed)

	tests := []struct {
		name string
		prev bool   // the old connection used timestamps
		seq  int    // of the SYN, from RCV.NXT
		val  uint32 // of the SYN, 0 for none
		want bool
	}{
		{"newer SEQ", false, 1, 0, true},
		{"the same SEQ", false, 0, 0, false},
		{"older SEQ", false, -100, 0, false},
		{"older SEQ, timestamps appear", false, -100, 5, true},
		{"newer TS, older SEQ", true, -100, 1001, true},
		{"older TS, newer SEQ", true, 100, 999, false},
		{"equal TS, newer SEQ", true, 100, 1000, true},
		{"equal TS, older SEQ", true, -100, 1000, false},
		{"timestamps disappear, newer SEQ", true, 100, 0, true},
		{"timestamps disappear, older SEQ", true, -100, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r *rig
			if tt.prev {
				r = stamped(t)
				r.ShutdownWrite(r.now)
				r.in(r.stamp(r.ack(FIN), 1000), "")
			} else {
				r = newRig(t).to(StateTimeWait)
				r.cfg.Timestamps = true
			}
			r.expectState(StateTimeWait)
			r.TakeEvents()
			s := Segment{Seq: r.rcvNxt.Add(tt.seq), Flags: SYN}
			s.Opts.TS, s.Opts.TSVal = tt.val != 0, tt.val
			r.in(s, "")
			if got := r.TakeEvents()&EventTimeWaitSYN != 0; got != tt.want || got != (r.state == StateClosed) {
				t.Errorf("new incarnation %v in %v, want %v", got, r.state, tt.want)
			}
		})
	}
}

// TestKeepAlive: off unless asked for (MUST-24, MUST-25), only when idle (MUST-26), without data (SHLD-12), a lost answer is no end (MUST-29), many are.
func TestKeepAlive(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.expect(r.sleep(24 * time.Hour))
	r.KeepAlive, r.KeepIdle, r.KeepIntvl, r.KeepCount = true, time.Hour, time.Minute, 3
	r.lastRecv, r.lastAck = r.now, r.now
	r.SettingsChanged(r.now)
	r.sleep(30 * time.Minute)
	r.in(r.ack(0), "x")
	r.take()
	r.expect(r.sleep(59 * time.Minute))
	r.expect(r.sleep(time.Minute), ". 0:0 ack 2")
	r.in(r.ack(0), "")
	r.expect(r.sleep(59 * time.Minute))
	r.expect(r.sleep(time.Minute), ". 0:0 ack 2")
	r.expect(r.sleep(time.Minute), ". 0:0 ack 2")
	r.in(r.ack(0), "")
	// A shorter time takes effect at once.
	r.sleep(10 * time.Minute)
	r.KeepIdle = 15 * time.Minute
	r.SettingsChanged(r.now)
	r.expect(r.sleep(5*time.Minute), ". 0:0 ack 2")
	if r.sleep(time.Hour); r.state != StateClosed || r.reason != ReasonTimeout {
		t.Errorf("%v, %v", r.state, r.reason)
	}
}

// TestDelayedACK: MUST-40, SHLD-18, SHLD-19, and at once for what RFC 5681 §4.2 wants answered at once.
func TestDelayedACK(t *testing.T) {
	slow := func(r *rig) { r.QuickAck = 2 }
	r := newRig(t, slow).to(StateEstablished)
	full := strings.Repeat("x", 1460)
	r.expect(r.in(r.ack(0), full))
	r.expect(r.in(r.ack(0), full), ". 1:1 ack 2921")
	r.expect(r.in(r.ack(0), "small"))
	r.expect(r.sleep(r.cfg.DelayedACK - time.Millisecond))
	r.expect(r.sleep(time.Millisecond), ". 1:1 ack 2926")
	r.in(r.ack(0), "y")
	r.expect(r.write("reply"), "P. 1:6 ack 2927") // piggybacked, so that none is owed
	r.expect(r.sleep(100 * time.Millisecond))
	r.in(r.ack(0), "")
	s := r.ack(0)
	s.Seq += 10
	r.expect(r.in(s, "out of order"), ". 6:6 ack 2927")
	r.expect(r.in(r.ack(0), "fill"), ". 6:6 ack 2931")
	r.expect(r.in(r.ack(0), "fill it"), ". 6:6 ack 2949")
	r.expect(r.in(r.ack(FIN), ""), ". 6:6 ack 2950")
	// In slow start of the peer every segment is answered.
	r = newRig(t).to(StateEstablished)
	r.expect(r.in(r.ack(0), "x"), ". 1:1 ack 2")
	r.expect(r.in(r.ack(0), "x"), ". 1:1 ack 3")
}

// TestQueuedSegments: a series is answered once, after its last segment (MUST-58, MUST-59), but each segment out of order on its own (RFC 5681 §4.2).
func TestQueuedSegments(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.write("unacknowledged")
	more := func(seq int) Segment { s := r.ack(0); s.Seq, s.More = rigIRS.Add(1+seq), true; return s }
	for i := range 5 {
		r.expect(r.in(more(10*i), "0123456789"))
	}
	s := more(50)
	s.More = false
	r.expect(r.in(s, "0123456789"), ". 15:15 ack 61")
	r.expect(r.in(more(60), "0123456789"))
	r.Flush(r.now)
	r.expect(r.take(), ". 15:15 ack 71")
	r.expect(r.in(more(80), "0123456789"), ". 15:15 ack 71")
	r.expect(r.in(more(100), "0123456789"), ". 15:15 ack 71")
}

// TestLargerBufferOpensTheWindow: the peer hears of it without asking.
func TestLargerBufferOpensTheWindow(t *testing.T) {
	r := newRig(t, func(r *rig) { r.RcvBuf = 2048 }).to(StateEstablished)
	for r.rcvWnd() > 0 {
		r.in(r.ack(0), strings.Repeat("x", r.rcvWnd()))
	}
	r.RcvBuf = 32 << 10
	r.SettingsChanged(r.now)
	if s := r.take(); len(s) != 1 || s[0].Wnd == 0 {
		t.Errorf("sent %v", s)
	}
}

// TestFIN: out of order, with text, without, twice, beyond the window.
func TestFIN(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	s := r.ack(FIN)
	s.Seq += 5
	r.expect(r.in(s, "fghij"), ". 1:1 ack 1")
	r.expectState(StateEstablished)
	r.expect(r.in(r.ack(0), "abcde"), ". 1:1 ack 12")
	r.expectState(StateCloseWait)
	if got := r.read(); got != "abcdefghij" || !r.ReadEOF() {
		t.Errorf("read %q, EOF %v", got, r.ReadEOF())
	}
	s = r.ack(FIN)
	s.Seq--
	r.expect(r.in(s, ""), ". 1:1 ack 12")

	r = newRig(t).to(StateEstablished)
	s = r.ack(FIN)
	s.Seq += 3
	r.in(s, "")
	r.expect(r.in(r.ack(0), "abc"), ". 1:1 ack 5")
	r.expectState(StateCloseWait)

	r = newRig(t, func(r *rig) { r.RcvBuf = 2048 }).to(StateEstablished)
	r.expect(r.in(r.ack(FIN), strings.Repeat("x", 1025)), ". 1:1 ack 1025")
	r.expectState(StateEstablished)
	r.read()
	r.take()
	r.expect(r.in(r.ack(FIN), "x"), ". 1:1 ack 1027")
	r.expectState(StateCloseWait)
}

// held is the memory that a buffer occupies.
func held(b *buffer.Buffer) int {
	n := 0
	list := b.AsViewList()
	for v := list.Front(); v != nil; v = v.Next() {
		n += v.Capacity() + int(unsafe.Sizeof(*v)) + 40
	}
	return n
}

// TestHostileSegmentsCostNoMemory: whatever the size and the order of segments, and however large the chunks that they come in, what a user does not read costs
// about twice the receive buffer at most.
func TestHostileSegmentsCostNoMemory(t *testing.T) {
	for _, tt := range []struct {
		name        string
		text, chunk int
		seq         func(i int) int
	}{
		{"octets in order", 1, 64, func(i int) int { return i }},
		{"octets in order in large chunks", 1, 65536, func(i int) int { return i }},
		{"small segments in large chunks", 257, 65536, func(i int) int { return i * 257 }},
		{"every second octet", 1, 2048, func(i int) int { return 1 + i*2%60000 }},
		{"backwards", 1, 2048, func(i int) int { return (1<<20 - i) % 60000 }},
		{"runs, then the hole", 1, 2048, func(i int) int { return i/400*400 + (i+1)%400 }},
		{"scattered", 300, 65536, func(i int) int { return i * 7919 % 60000 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(r *rig) { r.RcvBuf = 128 << 10 }).to(StateEstablished)
			most := 0
			for i := range 70000 {
				v := buffer.NewView(tt.chunk)
				_, _ = v.Write(make([]byte, tt.text))
				s := r.ack(0)
				s.Seq, s.Payload, s.Len, s.Segs = rigIRS.Add(1+tt.seq(i)), buffer.MakeWithView(v), tt.text, 1
				r.SegmentArrives(r.now, &s)
				s.Payload.Release()
				if i%64 != 0 {
					continue
				}
				r.sent = nil
				n := held(&r.rcvBuf.buf)
				for i := range r.reasm.pieces {
					n += held(&r.reasm.pieces[i].buf) + int(unsafe.Sizeof(piece{}))
				}
				most = max(most, n)
			}
			r.sane()
			t.Logf("%d octets to read, %d out of order, at most %d of memory", r.ReadSize(), r.reasm.bytes, most)
			if most > 2*r.RcvBuf+r.RcvBuf/4 {
				t.Errorf("%d octets of memory for a buffer of %d", most, r.RcvBuf)
			}
		})
	}
}

// TestSegmentAcrossHoles: the many parts that one segment makes between others count, too.
func TestSegmentAcrossHoles(t *testing.T) {
	r := newRig(t, func(r *rig) { r.RcvBuf = 4096 }).to(StateEstablished)
	for i := range 14 {
		s := r.ack(0)
		s.Seq = rigIRS.Add(10 + 2*i)
		r.in(s, "x")
	}
	s := r.ack(0)
	s.Seq = rigIRS.Add(9)
	r.in(s, strings.Repeat("y", 40))
	if n := r.reasm.cost(); n > 4096 || r.reasm.bytes != 40 {
		t.Errorf("%d octets out of order cost %d for a buffer of 4096", r.reasm.bytes, n)
	}
}

// TestSmallWritesCostNoMemory: a user who writes octet by octet, each sent at once, does not need a chunk for each.
func TestSmallWritesCostNoMemory(t *testing.T) {
	r := newRig(t, func(r *rig) { r.NoDelay = true }).to(StateEstablished)
	for range 1000 {
		r.write("x")
	}
	n := 0
	for _, c := range r.sndBuf.chunks {
		n += c.view.Capacity()
	}
	if n > 4*1000 {
		t.Errorf("%d octets of memory for 1000", n)
	}
}

// TestPressureEnds: a connection that was refused memory finds out when there is some again.
func TestPressureEnds(t *testing.T) {
	r := newRig(t).to(StateEstablished)
	r.pressure = PressureExhausted
	r.in(r.ack(0), strings.Repeat("x", 1000)) // the budget is asked and says so
	r.expect(r.in(r.ack(0), "refused"), ". 1:1 ack 1001")
	r.pressure = PressureNone
	r.in(r.ack(0), "refused")
	r.in(r.ack(0), "accepted")
	if r.rcvNxt != rigIRS.Add(1001+8) {
		t.Error("memory pressure goes on for ever")
	}
}

// TestLowatIsReached: SO_RCVLOWAT of the whole buffer does not wait for text that SWS avoidance holds back.
func TestLowatIsReached(t *testing.T) {
	r := newRig(t, func(r *rig) { r.RcvBuf, r.RcvLowat = 8192, 8192 }).to(StateEstablished)
	r.in(r.ack(0), strings.Repeat("x", 1460))
	if r.TakeEvents()&EventReadable != 0 {
		t.Error("readable too early")
	}
	r.in(r.ack(0), strings.Repeat("x", 1460))
	if r.TakeEvents()&EventReadable == 0 {
		t.Error("not readable with half the window filled")
	}
}
