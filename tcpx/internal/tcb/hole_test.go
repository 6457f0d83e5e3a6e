package tcb

import (
	"strings"
	"testing"
	"time"
)

// TestInboundHole: the peer's large segments vanish if small ones prove twice, holeAge apart, that more is missing than a small segment holds, and no large one comes.
func TestInboundHole(t *testing.T) {
	type arrival struct {
		at   time.Duration
		off  int // from the first octet of the peer
		size int
	}
	const small, adv = 1160, 1460
	last := 9 * adv
	for _, tt := range []struct {
		name     string
		arrivals []arrival
		told     bool
		// end is the answer when the connection is over a minute later.
		end bool
	}{
		{"a short last segment, again and again", []arrival{{0, last, 100}, {time.Second, last, 100}, {holeAge, last, 100}}, true, false},
		{"a short last segment, once", []arrival{{0, last, 100}}, false, true},
		{"pure ACKs tell it as well", []arrival{{0, last, 0}, {holeAge, last, 0}}, true, false},
		{"the size that passes", []arrival{{0, last, small}, {holeAge, last, small}}, true, false},
		{"larger than that", []arrival{{0, last, small + 1}, {holeAge, last, small + 1}}, false, false},
		{"a large one in between", []arrival{{0, last, 100}, {time.Second, 2 * adv, adv}, {holeAge, last, 100}}, false, true},
		{"too soon", []arrival{{0, last, 100}, {holeAge - time.Millisecond, last, 100}}, false, true},
		{"what is missing is small", []arrival{{0, small, 100}, {holeAge, small, 100}}, false, false},
		{"what is missing is more than small", []arrival{{0, small + 1, 100}, {holeAge, small + 1, 100}}, true, false},
		{"nothing is missing", []arrival{{0, 0, 100}, {holeAge, 100, 100}}, false, false},
		{"it comes late", []arrival{{0, last, 100}, {holeAge - 1, 0, adv}, {holeAge, last, 100}}, false, true},
		{"all comes late", []arrival{{0, adv, 100}, {holeAge - 1, 0, adv}, {2 * holeAge, adv + 100, 100}}, false, false},
		{"small ones fill it", []arrival{{0, 2 * small, 100}, {time.Second, 0, small}, {time.Second, small, small}}, false, false},
		{"an old duplicate proves nothing", []arrival{{0, 0, adv}, {0, 0, adv}, {holeAge, 0, adv}}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(r *rig) { r.params.Steps = [2]uint16{small, 512}; r.RcvBuf = 1 << 20 }).to(StateEstablished)
			first, begin := r.rcvNxt, r.now
			var ev Event
			for _, a := range tt.arrivals {
				r.sleep(begin + a.at - r.now)
				s := r.ack(0)
				s.Seq = first.Add(a.off)
				r.in(s, strings.Repeat("x", a.size))
				ev |= r.TakeEvents()
			}
			if told := ev&EventInboundHole != 0; told != tt.told {
				t.Errorf("told %v, want %v", told, tt.told)
			}
			r.now += time.Minute
			if r.Abort(r.now, ReasonAborted); r.InboundHole(r.now) != tt.end {
				t.Errorf("at the end %v, want %v", !tt.end, tt.end)
			}
			if n := r.SmallMSS(); n != small {
				t.Errorf("to be announced %d", n)
			}
		})
	}
}

// TestInboundHoleNeedsSomethingToDo: nothing is looked for without a smaller size to announce; the one below what was announced is next.
func TestInboundHoleNeedsSomethingToDo(t *testing.T) {
	for _, tt := range []struct {
		adv  uint16
		step [2]uint16
		want int
	}{
		{1460, [2]uint16{1160, 512}, 1160}, {1161, [2]uint16{1160, 512}, 1160}, {1160, [2]uint16{1160, 512}, 512}, {513, [2]uint16{1160, 512}, 512},
		{512, [2]uint16{1160, 512}, 0}, {1220, [2]uint16{1220, 1220}, 0}, {1460, [2]uint16{}, 0},
	} {
		r := newRig(t, func(r *rig) { r.params.AdvertisedMSS, r.params.Steps = tt.adv, tt.step }).to(StateEstablished)
		s := r.ack(0)
		s.Seq += 5000
		r.in(s, "")
		if got := r.SmallMSS(); got != tt.want || (r.holeSince != 0) != (tt.want != 0) {
			t.Errorf("%+v: to be announced %d, missing since %d", tt, got, r.holeSince)
		}
	}
}

// TestInboundHoleOfMergedSegments: the size of merged segments is that of the first.
func TestInboundHoleOfMergedSegments(t *testing.T) {
	for _, tt := range []struct {
		size, segs int
		large      bool
	}{
		{1100, 1, false}, {2000, 2, true}, {1160, 2, false}, {1161, 2, true}, {2320, 3, false}, {2921, 3, true}, {100, 0, false},
	} {
		r := newRig(t, func(r *rig) { r.params.Steps = [2]uint16{1160, 512} }).to(StateEstablished)
		s := r.ack(0)
		s.Seq += 5000
		s.Segs = tt.segs
		r.in(s, strings.Repeat("x", tt.size))
		if large := r.holeSince == 0; large != tt.large {
			t.Errorf("%+v: taken for large: %v", tt, large)
		}
	}
}

// TestSYNAgainAnnouncesLess: SYN and SYN-ACK that are sent again announce what is known by then, and never more than the first.
func TestSYNAgainAnnouncesLess(t *testing.T) {
	for _, state := range []State{StateSynSent, StateSynRecv} {
		r := newRig(t).to(state)
		want := []struct{ known, mss uint16 }{{1460, 1460}, {1160, 1160}, {1400, 1160}, {512, 512}}
		for i, w := range want {
			r.announced = w.known
			out := r.sleep(r.Deadline() - r.now)
			if len(out) != 1 || out[0].Opts.MSS != w.mss || !out[0].Flags.Has(SYN) {
				t.Fatalf("%v, time-out %d: sent %+v, want MSS %d", state, i, out, w.mss)
			}
		}
		if r.rcvMSS != 512 {
			t.Errorf("%v: RCV.MSS %d", state, r.rcvMSS)
		}
	}
	// A SYN that comes again is answered with what is known by then.
	r := newRig(t).to(StateSynRecv)
	r.announced = 1160
	r.now += minSynAckGap
	if out := r.in(r.syn(), ""); len(out) != 1 || out[0].Opts.MSS != 1160 {
		t.Errorf("sent %+v", out)
	}
}
