package tcb

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// finder is a PathMTU that does as it is told, and keeps what it hears.
type finder struct {
	mtu, probe, next int
	// hole is the size that the second time-out brings, 0 for none.
	hole     int
	out      bool
	timeouts int
	// largest is the largest segment that has arrived.
	largest int
	log     []string
}

func (f *finder) note(format string, v ...any) { f.log = append(f.log, fmt.Sprintf(format, v...)) }

func (f *finder) MTU(Time) int { return f.mtu }
func (f *finder) Probe() int   { return f.probe * boolInt(!f.out) }
func (f *finder) ProbeSent()   { f.out = true; f.note("sent %d", f.probe) }
func (f *finder) ProbeUnsent() { f.out = false; f.note("unsent") }
func (f *finder) ProbeLost(Time) {
	f.note("lost %d", f.probe)
	f.out, f.probe = false, f.next
}
func (f *finder) Acked(_ Time, size int) {
	f.largest = max(f.largest, size)
	if f.out && size >= f.probe {
		f.note("passed %d", f.probe)
		f.mtu, f.out, f.probe = f.probe, false, 0
	}
}
func (f *finder) Lost(_ Time, size int) bool { f.note("loss %d", size); return false }
func (f *finder) TimedOut(_ Time, size int) bool {
	f.note("timeout %d", size)
	if f.timeouts++; f.timeouts == 2 && f.hole != 0 {
		f.mtu = f.hole
		return true
	}
	return false
}
func (f *finder) Fallback() int {
	if f.timeouts > 0 && f.hole != 0 {
		return f.hole
	}
	return f.mtu
}

func (f *finder) heard(t *testing.T, want ...string) {
	t.Helper()
	if got, want := strings.Join(f.log, ", "), strings.Join(want, ", "); got != want {
		t.Errorf("heard [%s], want [%s]", got, want)
	}
	f.log = nil
}

func probing(t *testing.T, f *finder, change ...func(*rig)) *scripted {
	s := newScripted(t, 100*time.Millisecond, append(change, func(r *rig) { r.finder = f })...)
	s.peerMSS = 9000
	return s
}

// TestPathProbePasses: text goes ahead in one segment larger than the MSS, and when that has arrived the MSS is larger.
func TestPathProbePasses(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f)
	s.play(`
		write 40 > 0-1 2 3 4 5 6 7 8 9
		has cwnd=10 flight=10
		after 100ms
		ack 2 > 10-11 12-13
	`)
	f.heard(t, "sent 2000", "passed 2000")
	if s.mss != 2*segSize {
		t.Errorf("MSS %d", s.mss)
	}
}

// TestPathProbeLost: SACK shows the loss; the text is sent again in segments of the present size, and nothing is taken for congestion.
func TestPathProbeLost(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f)
	s.play(`
		write 14 > 0-1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 2-4 > 10 11
		ack 0 sack 2-5 > 0 1 12          // the window has room for what has left the network
		has state=1 cwnd=10 ssthresh=inf recoveries=0 lost=2
		after 100ms
		ack 13 > 13
		has state=0 ssthresh=inf recoveries=0 flight=1
	`)
	f.heard(t, "sent 2000", "lost 2000")
}

// TestPathProbeAndMoreLost: what else is lost is congestion.
func TestPathProbeAndMoreLost(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f)
	s.play(`
		write 10 > 0-1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 3-6 > 0
		has state=3 recoveries=1 ssthresh=5 lost=3
	`)
	f.heard(t, "sent 2000", "lost 2000", "loss 1000")
}

// TestPathProbeTimesOut: after a time-out nobody knows what became of the probe.
func TestPathProbeTimesOut(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f, func(r *rig) { r.cfg.RACK = false })
	s.play(`
		write 10 > 0-1 2 3 4 5 6 7 8 9
		timer 300ms > 0
		has state=4
	`)
	f.heard(t, "sent 2000", "unsent", "timeout 2000")
}

// TestPathProbeRefused: what the link does not take was not sent, and is tried again.
func TestPathProbeRefused(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f)
	s.play(`
		refuse
		write 10
		accept
		timer 1ms > 0-1 2 3 4 5 6 7 8 9
	`)
	f.heard(t, "sent 2000")
}

// TestPathProbeNeedsWitnesses: no probe while its loss would not show, or would be confused with something else.
func TestPathProbeNeedsWitnesses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*rig)
		play   string
	}{
		{"little to send", func(*rig) {}, "write 4 > 0 1 2 3"},
		{"a small congestion window", window(4), "write 10 > 0 1 2 3"},
		{"no SACK", func(r *rig) { r.cfg.SACK = false }, "write 10 > 0 1 2 3 4 5 6 7 8 9"},
		{"no larger than what is in use", func(r *rig) { r.finder.(*finder).probe = segSize }, "write 10 > 0 1 2 3 4 5 6 7 8 9"},
	} {
		f := &finder{mtu: segSize, probe: 2 * segSize}
		s := newScripted(t, 100*time.Millisecond, func(r *rig) { r.finder = f }, tt.change)
		t.Log(tt.name)
		s.play(tt.play)
		f.heard(t)
	}
}

// TestPathProbeTooBig: a router says that the probe is too big. Its text leaves at once in smaller segments; all else stays.
func TestPathProbeTooBig(t *testing.T) {
	f := &finder{mtu: segSize, probe: 2 * segSize}
	s := probing(t, f, func(r *rig) { r.params.GSOMax = 64000 })
	s.play("write 10 > 0-1 2-9")
	if s.PacketTooBig(s.now, s.at(2), 1500) {
		t.Error("an error about another segment was taken for one about the probe")
	}
	s.PacketTooBig(s.now, s.at(0), 1500)
	if got := s.segments(s.take()); got != "0-1" || s.mss != segSize {
		t.Errorf("sent %s, MSS %d", got, s.mss)
	}
	if s.sent = nil; s.out.MSS != segSize {
		t.Errorf("to be cut into %d", s.out.MSS)
	}
	s.play(`
		has state=0 ssthresh=inf recoveries=0 cwnd=10
		after 100ms
		ack 10
		has state=0 flight=0
	`)
}

// TestBlackHole: at the second time-out the finder says how large segments may be. All that was larger is lost, and is cut anew.
func TestBlackHole(t *testing.T) {
	f := &finder{mtu: segSize, hole: segSize / 2}
	s := probing(t, f, func(r *rig) { r.cfg.RACK = false })
	s.play(`
		write 4 > 0 1 2 3
		timer 300ms > 0+0/500 0+500/500      // whether the first passes tells what is the matter
		timer 600ms > 0+0/500
		has state=4 lost=4 timeouts=2
		after 100ms
	`)
	f.heard(t, "timeout 1000", "timeout 1000")
	if s.mss != segSize/2 {
		t.Errorf("MSS %d", s.mss)
	}
	a := s.ack(0)
	a.Ack, a.Wnd = s.at(0)+500, 65535
	if got := s.segments(s.in(a, "")); got != "0+500/500 1+0/500" {
		t.Errorf("sent %s", got)
	}
	s.sane()
}

// TestBlackHoleWithGSO: units that the link cut at the old MSS leave again cut at the new one, and no ACK of them tells of larger segments than have passed.
func TestBlackHoleWithGSO(t *testing.T) {
	f := &finder{mtu: segSize, hole: segSize / 2}
	s := probing(t, f, func(r *rig) { r.params.GSOMax = 64000 })
	s.play(`
		write 10 > 0-9
	`)
	for s.mss == segSize {
		s.now = s.Deadline()
		s.OnTimer(s.now)
	}
	s.take()
	for s.sndUna != s.sndNxt {
		s.now += 100 * time.Millisecond
		a := s.ack(0)
		a.Ack, a.Wnd = s.sndUna+500, 65535
		for _, w := range s.in(a, "") {
			if s.out.MSS != segSize/2 {
				t.Errorf("%v is to be cut at %d", w, s.out.MSS)
			}
		}
	}
	if f.largest != segSize/2 {
		t.Errorf("an ACK told of a segment of %d octets", f.largest)
	}
}

// TestHintTooBig: an error without an MTU counts once what it quotes has timed out, and only if it is news.
func TestHintTooBig(t *testing.T) {
	for _, tt := range []struct {
		name  string
		q     int // the segment that is quoted
		size  int
		taken bool
		ack   int // segments acknowledged before the time-out
		mss   uint32
	}{
		{"the first segment times out", 0, 500, true, 0, 500},
		{"so does what is behind it", 3, 500, true, 0, 500},
		{"it was acknowledged", 0, 500, true, 1, segSize},
		{"not sent", 4, 500, false, 0, segSize},
		{"no smaller", 0, segSize, false, 0, segSize},
		{"absurd", 0, minMTUPayload - 1, false, 0, segSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScripted(t, 100*time.Millisecond, func(r *rig) { r.cfg.RACK = false })
			s.play("write 4 > 0 1 2 3")
			if got := s.HintTooBig(s.at(tt.q), tt.size); got != tt.taken || s.mss != segSize {
				t.Errorf("taken %v, MSS %d", got, s.mss)
			}
			if tt.ack > 0 {
				s.play(fmt.Sprint("after 10ms\nack ", tt.ack))
			}
			s.sleep(s.Deadline() - s.now)
			if s.mss != tt.mss || s.counts[CountTimeout] != 1 {
				t.Errorf("MSS %d after %d time-outs, want %d", s.mss, s.counts[CountTimeout], tt.mss)
			}
			s.sleep(s.Deadline() - s.now)
			if s.mss != tt.mss {
				t.Errorf("MSS %d after the second time-out", s.mss)
			}
		})
	}
}

// TestAckWithPathAllocatesNothing keeps the reports to the finder free of garbage.
func TestAckWithPathAllocatesNothing(t *testing.T) {
	r := newRig(t, func(r *rig) { r.deaf = true; r.finder = &finder{mtu: 1460} }).to(StateEstablished)
	text := strings.Repeat("x", 2920)
	r.write(text)
	before := testing.AllocsPerRun(100, func() {
		a := r.ack(0)
		a.Ack = r.sndNxt
		r.SegmentArrives(r.now, &a)
		r.now += time.Millisecond
		r.write(text)
	})
	r.finder = nil
	q := newRig(t, func(r *rig) { r.deaf = true }).to(StateEstablished)
	q.write(text)
	if without := testing.AllocsPerRun(100, func() {
		a := q.ack(0)
		a.Ack = q.sndNxt
		q.SegmentArrives(q.now, &a)
		q.now += time.Millisecond
		q.write(text)
	}); before > without {
		t.Errorf("%v allocations for an ACK, %v without a finder", before, without)
	}
}
