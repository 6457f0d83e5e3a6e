package tcb

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// flood is a rig with n segments of floodSize octets in flight, which nobody hears.
type flood struct {
	*rig
	una int
	seg Segment
}

const floodSize = 100

func newFlood(tb testing.TB, n int, change ...func(*rig)) *flood {
	change = append(change, func(r *rig) {
		r.cfg.InitialWindow, r.SndBuf, r.SndBufLocked, r.deaf, r.NoDelay = 1<<20, 1<<30, true, true, true
		r.params.MTUPayload = floodSize
		if r.cfg.Timestamps {
			r.params.MTUPayload += tsOptionLen
		}
	})
	r := newRig(tb, change...)
	r.OpenActive(r.now, &r.params)
	syn := r.syn()
	syn.Flags, syn.Ack, syn.Wnd, syn.Opts.WScale = SYN|ACK, rigISS+1, 65535, 15
	syn.Opts.TSEcr = r.tsNow(r.now)
	r.now += 10 * time.Millisecond
	r.SegmentArrives(r.now, &syn)
	f := &flood{rig: r}
	f.seg = Segment{Seq: r.rcvNxt, Flags: ACK, Wnd: 65535, Segs: 1, Opts: Options{TS: r.has(flagTS), TSVal: 1000}}
	f.ackUp()
	f.fill(n)
	f.now += 10 * time.Millisecond
	return f
}

// fill sends n segments.
func (f *flood) fill(n int) {
	text := make([]byte, n*floodSize)
	var r bytes.Reader
	r.Reset(text)
	if m, err := f.Write(f.now, &r, len(text), false, false); m != len(text) {
		f.tb.Fatalf("wrote %d of %d: %v", m, len(text), err)
	}
}

// ackUp acknowledges up to una and lets the clock go on a little.
func (f *flood) ackUp() {
	f.now += 100
	f.seg.Ack, f.seg.Opts.TSEcr = (rigISS + 1).Add(f.una*floodSize), f.tsNow(f.now-Time(10*time.Millisecond))
	f.SegmentArrives(f.now, &f.seg)
}

// sackAt reports segment i as SACKed, and the two before it that are two apart each, as a receiver that misses every second segment does.
func (f *flood) sackAt(i int) {
	o := &f.seg.Opts
	o.NumSACK = 0
	for k := i; k > f.una && o.NumSACK < 3; k -= 2 {
		lo := (rigISS + 1).Add(k * floodSize)
		o.SACK[o.NumSACK] = Block{lo, lo + floodSize}
		o.NumSACK++
	}
	f.ackUp()
}

// TestACKAllocatesNothing: no ACK allocates, with thousands of segments in flight and whatever it tells.
func TestACKAllocatesNothing(t *testing.T) {
	const n = 8000
	for _, c := range []struct {
		name   string
		change []func(*rig)
	}{{"RACK", nil}, {"timestamps", []func(*rig){withTS}}, {"RFC 6675", []func(*rig){noRACK}}, {"NewReno", []func(*rig){noSACK}}} {
		f := newFlood(t, n, c.change...)
		if got := f.rtx.Len(); got != n {
			t.Fatalf("%d records in flight", got)
		}
		if a := testing.AllocsPerRun(n/4, func() { f.una++; f.ackUp() }); a != 0 {
			t.Errorf("%s: an ACK allocates %v times", c.name, a)
		}
		if a := testing.AllocsPerRun(n/4, f.ackUp); a != 0 {
			t.Errorf("%s: a duplicate ACK allocates %v times", c.name, a)
		}
		if !f.has(flagSACK) {
			continue
		}
		i := f.una + 1
		if a := testing.AllocsPerRun(n/10, func() { f.sackAt(i); i += 2 }); a != 0 {
			t.Errorf("%s: an ACK with SACK blocks allocates %v times", c.name, a)
		}
		if f.rec.state != caRecovery {
			t.Errorf("%s: no recovery", c.name)
		}
		f.sane()
	}
}

// TestACKWithECNAllocatesNothing: nor does an ACK with the feedback of a path that marks all the time.
func TestACKWithECNAllocatesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		use  flags
		// feedback is that of the nth ACK.
		feedback func(n int) Flags
	}{
		{"classic", flagECN, func(int) Flags { return ECE }},
		{"accurate", flagAccECN, func(n int) Flags { return aceFlags(uint8(cepStart + n)) }},
	} {
		const n = 8000
		f := newFlood(t, n)
		if f.set(c.use); c.use == flagAccECN {
			f.startAccurate(&Segment{})
		}
		reductions := f.counts[CountECNReduction]
		if a := testing.AllocsPerRun(n/4, func() {
			f.una++
			f.seg.Flags = ACK | c.feedback(f.una)
			f.ackUp()
		}); a != 0 {
			t.Errorf("%s: an ACK allocates %v times", c.name, a)
		}
		if f.counts[CountECNReduction] == reductions {
			t.Errorf("%s: the window was not reduced", c.name)
		}
	}
}

// BenchmarkACK is an ACK of two segments and the sending of two, with up to 100,000 in flight: its cost does not grow with them.
func BenchmarkACK(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFlood(b, n)
			text := make([]byte, 2*floodSize)
			var r bytes.Reader
			b.ReportAllocs()
			for b.Loop() {
				f.una += 2
				f.ackUp()
				r.Reset(text)
				f.Write(f.now, &r, len(text), false, false)
			}
		})
	}
}

// BenchmarkACKWithSACK is an ACK with three SACK blocks where every second of n segments is missing, the losses and retransmissions included.
func BenchmarkACKWithSACK(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f *flood
			i := n
			b.ReportAllocs()
			for b.Loop() {
				if i >= n {
					b.StopTimer()
					f, i = newFlood(b, n), 1
					b.StartTimer()
				}
				f.sackAt(i)
				i += 2
			}
		})
	}
}

// BenchmarkRepair is the recovery from 50,000 holes: each ACK passes one of them and lets the next be sent again.
func BenchmarkRepair(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f *flood
			b.ReportAllocs()
			for b.Loop() {
				if f == nil || f.una+2 >= n {
					b.StopTimer()
					f = newFlood(b, n)
					for i := 1; i < n; i += 2 {
						f.sackAt(i)
					}
					f.seg.Opts.NumSACK = 0
					b.StartTimer()
				}
				f.una += 2
				f.ackUp()
			}
		})
	}
}
