package tcb

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
)

// FuzzOptions: any option area is read without harm (MUST-5 to MUST-7, MUST-64), padding before it changes nothing, and what is read can be written and read again.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		"", "\x00", "\x01\x01\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x02", "\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x03\x0f",
		"\x01\x01\x05\x0a\x00\x00\x00\x01\x00\x00\x00\x02", "\x02", "\x02\x00", "\x02\x01", "\x02\xff", "\x05\x09\x00", "\x22\x02\x02\x04\x05\xb4", "\x03\x03\xff",
		"\x22\x0aCookies!", "\x22\x05abc", "\xfe\x04\xf9\x89", "\xfe\x08\xf9\x89abcd", "\xfe\x14\xf9\x89abcdabcdabcdabcd",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxOptionLen {
			b = b[:MaxOptionLen]
		}
		var o, again Options
		ok := ParseOptions(b, &o)
		for _, pad := range []int{1, 2, 3} {
			// Not where the padding turns a short area into the usual layout of timestamps: the result is the same there too.
			if ParseOptions(append(bytes.Repeat([]byte{optNOP}, pad), b...), &again) != ok || again != o {
				t.Fatalf("% x reads %+v, after %d NOPs %+v", b, o, pad, again)
			}
		}
		if o.WScale > MaxWindowScale+1 || o.NumSACK > 4 {
			t.Fatalf("% x reads %+v", b, o)
		}
		for i := range o.SACK[o.NumSACK:] {
			o.SACK[int(o.NumSACK)+i] = Block{} // nothing is promised of them
		}
		if !o.TS {
			o.TSVal, o.TSEcr = 0, 0
		}
		var out [MaxOptionLen]byte
		n := PutOptions(&out, &o)
		if n%4 != 0 || n > MaxOptionLen {
			t.Fatalf("MUST-69: %+v is written in %d octets", o, n)
		}
		if !ParseOptions(out[:n], &again) {
			t.Fatalf("%+v is written as % x, which is malformed", o, out[:n])
		}
		if again.NumSACK < o.NumSACK {
			o.NumSACK = again.NumSACK // there was no room for the others
			clear(o.SACK[o.NumSACK:])
		}
		if again != o {
			t.Fatalf("%+v is written as % x and read as %+v", o, out[:n], again)
		}
	})
}

// naive is reassembly as a map of octets.
type naive struct {
	has [512]bool
}

// FuzzReassembly compares reassembly with a map of octets: what is held, what is reported as a duplicate, what comes out in order.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{10, 5, 20, 5, 15, 5, 10, 15})
	f.Add([]byte{10, 1, 12, 1, 14, 1, 5, 20})
	f.Add([]byte{9, 0, 3, 6, 1, 2, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		const base Seq = 1<<32 - 100
		var r reassembly
		var want naive
		start := 0
		for ; len(b) >= 2; b = b[2:] {
			lo, n := int(b[0]), int(b[1])%64
			if b[1] >= 192 {
				// Text arrives in order: everything up to lo.
				if lo <= start {
					continue
				}
				start = drain(t, &r, &want, base, lo)
				continue
			}
			if lo <= start {
				continue
			}
			hi := lo + n
			text := make([]byte, n)
			_, _ = (&stream{Seq(lo)}).Read(text)
			p := buffer.MakeWithData(text)
			dup := r.insert(base.Add(lo), base.Add(hi), &p, false)
			p.Release()
			if d := want.insert(lo, hi); n > 0 && d != (dup.Left != dup.Right) {
				t.Fatalf("insert %d to %d: duplicate %v, want %v", lo, hi, dup, d)
			}
			if dup.Left.Less(base.Add(lo)) || base.Add(hi).Less(dup.Right) {
				if dup.Left != dup.Right {
					t.Fatalf("insert %d to %d reports %v", lo, hi, dup)
				}
			}
			want.compare(t, &r, base)
		}
		r.release()
	})
}

// insert notes the octets and reports whether one was there.
func (n *naive) insert(lo, hi int) (dup bool) {
	for i := lo; i < hi; i++ {
		dup = dup || n.has[i]
		n.has[i] = true
	}
	return dup
}

// compare checks that r holds exactly the octets of n, and that its SACK blocks are pieces of it.
func (n *naive) compare(t *testing.T, r *reassembly, base Seq) {
	t.Helper()
	if err := verifyReassembly(r); err != nil {
		t.Fatal(err)
	}
	var has [512]bool
	for i := range r.pieces {
		x := &r.pieces[i]
		for j, c := range x.buf.Flatten() {
			k := x.lo.Sub(base) + j
			has[k] = true
			if c != octet(Seq(k)) {
				t.Fatalf("octet %d is wrong", k)
			}
		}
	}
	if has != n.has {
		t.Fatal("other octets are held than have arrived")
	}
	var b [4]Block
	k := r.blocks(b[:])
	whole := 0
	for i := range r.pieces {
		if r.pieces[i].lo != r.pieces[i].hi {
			whole++
		}
	}
	if k != min(whole, len(b)) {
		t.Fatalf("%d SACK blocks for %d pieces", k, whole)
	}
}

// drain takes out what follows in order once everything before next has arrived, and returns the new start.
func drain(t *testing.T, r *reassembly, want *naive, base Seq, next int) int {
	t.Helper()
	for i := range next {
		want.has[i] = false
	}
	for {
		x, ok := r.next(base.Add(next))
		if !ok {
			break
		}
		for j, c := range x.buf.Flatten() {
			if c != octet(Seq(next+j)) {
				t.Fatalf("octet %d is wrong", next+j)
			}
			want.has[next+j] = false
		}
		next += int(x.buf.Size())
		x.buf.Release()
		if want.has[next] {
			continue
		}
	}
	if want.has[next] {
		t.Fatalf("octet %d was held and does not come out", next)
	}
	want.compare(t, r, base)
	return next
}

// FuzzTransfer: on any path, between any two configurations, and with somebody off the path who guesses, both streams arrive intact and both ends close.
func FuzzTransfer(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 255, 255, 10, 10, 10, 10, 200, 100, 3, 20, 20, 9, 9})
	f.Add([]byte{2, 0xf1, 0x37, 30, 0, 5, 7, 40, 10, 3, 200, 3, 1, 1, 70, 80})
	f.Fuzz(func(t *testing.T, b []byte) { transfer(t, choices{b}) })
}

// transfer connects two ends, sends both ways and closes.
func transfer(t *testing.T, in choices) {
	w := newWorld(t, uint64(in.byte()))
	for _, p := range []*peer{w.a, w.b} {
		randomise(&in, p)
	}
	w.gro, w.quiet = in.byte()&1 != 0, true
	blind := int(in.byte()) % 16
	w.connect()
	up, down := pattern(in.u16()*2, 1), pattern(in.u16(), 2)
	w.write(w.a, up)
	w.guess(blind)
	w.write(w.b, down)
	w.a.ShutdownWrite(w.now)
	w.guess(blind)
	w.until(4*time.Hour, func() bool { return w.b.state == StateCloseWait })
	w.b.ShutdownWrite(w.now)
	w.until(4*time.Hour, func() bool { return w.a.state == StateClosed && w.b.state == StateClosed })
	if !bytes.Equal(w.b.received.Bytes(), up) || !bytes.Equal(w.a.received.Bytes(), down) {
		t.Fatalf("a to b: %d of %d octets, b to a: %d of %d, or not the same", w.b.received.Len(), len(up), w.a.received.Len(), len(down))
	}
	if w.a.held != 0 || w.b.held != 0 {
		t.Fatalf("memory still reserved: %d, %d", w.a.held, w.b.held)
	}
}

// randomise sets up one end and its path.
func randomise(in *choices, p *peer) {
	cfg := *p.cfg
	c := in.byte()
	cfg.Timestamps, cfg.SACK, cfg.WindowScaling, cfg.RACK = c&1 == 0, c&2 == 0, c&4 == 0, c&8 == 0
	cfg.MaxRetries = 100
	p.TCB.cfg = &cfg
	p.NoDelay, p.QuickAck = c&16 != 0, c>>5&1*2
	if c&64 != 0 {
		p.params.GSOMax = 16000
	}
	if c&128 != 0 {
		p.params.MTUPayload = 100 + int(in.byte())*6
	}
	p.SynRetries = 60
	p.RcvBuf = 1024 << (in.byte() % 10)
	p.SndBuf = 1024 << (in.byte() % 10)
	p.path = path{
		delay: time.Duration(in.byte()) * time.Millisecond, jitter: time.Duration(in.byte()) * time.Millisecond,
		loss: float64(in.byte()%64) / 640, dup: float64(in.byte()%64) / 300, refuse: float64(in.byte()%64) / 200,
	}
}

// guess passes both ends segments of somebody who knows the addresses but not the numbers. What RFC 5961 leaves to chance is left out: an exact match, and text with an
// ACK that happens to be in range.
func (w *world) guess(n int) {
	for range n {
		for _, p := range []*peer{w.a, w.b} {
			s := Segment{Seq: Seq(w.rng.Uint32()), Ack: Seq(w.rng.Uint32()), Flags: Flags(w.rng.Uint32()), Wnd: uint16(w.rng.Uint32()), Segs: 1}
			if w.rng.IntN(2) == 0 {
				s.Seq = p.rcvNxt.Add(w.rng.IntN(max(p.rcvWnd(), 1)))
			}
			if s.Seq == p.rcvNxt && s.Flags.Has(RST) || p.ackInRange(&s) || p.state == StateSynRecv || p.state == StateClosed || p.state == StateTimeWait {
				continue
			}
			s.Opts.TS, s.Opts.TSVal = w.rng.IntN(2) == 0, w.rng.Uint32()
			s.Len = w.rng.IntN(100)
			s.Payload = buffer.MakeWithData(make([]byte, s.Len))
			p.SegmentArrives(w.now, &s)
			s.Payload.Release()
			w.after(p)
		}
	}
}
