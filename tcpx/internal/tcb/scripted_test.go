package tcb

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// segSize is the MSS of a scripted rig: tests of loss recovery count in segments.
const segSize = 1000

// scripted is an established rig that sends segments of segSize octets, numbered from 0, and plays scripts:
//
//	write 10 > 0 1 2 3      10 segments are written; segments 0 to 3 must leave
//	ack 3 sack 5-7 > 4      the peer acknowledges up to, not including, segment 3 and SACKs 5 and 6
//	ack 3 dsack 1-2 ecr 7   ... reports segment 1 as received twice, echoes the timestamp of 7 ms after the start
//	after 10ms              time passes, in which no timer may fire
//	timer 212ms > 9         the next timer fires after exactly this time
//	refuse, accept          the link refuses what comes, accepts it again
//	close > 3F              CLOSE; FIN alone is 3F, on text 2F
//	has cwnd=5 state=3      compares what vars tells
//
// What a line does not list must not be sent. ACKs without text do not count.
type scripted struct {
	*rig
	start Time
	// shift moves the numbers on.
	shift int
}

func newScripted(tb testing.TB, rtt time.Duration, change ...func(*rig)) *scripted {
	r := newRig(tb, change...)
	r.params.MTUPayload = segSize
	if r.cfg.Timestamps {
		r.params.MTUPayload += tsOptionLen
	}
	r.OpenActive(r.now, &r.params)
	syn := r.syn()
	syn.Flags, syn.Ack = SYN|ACK, rigISS+1
	syn.Wnd, syn.Opts.WScale = 65535, 15
	if !r.cfg.SACK {
		syn.Opts.SACKPermitted = false
	}
	syn.Opts.TSEcr = r.tsNow(r.now)
	r.now += rtt
	r.in(syn, "")
	r.expectState(StateEstablished)
	s := &scripted{rig: r, start: r.now}
	s.play("ack 0") // the first scaled window
	return s
}

// noSACK, noRACK and withTS change what is negotiated.
func noSACK(r *rig) { r.cfg.SACK = false }
func noRACK(r *rig) { r.cfg.RACK = false }
func withTS(r *rig) { r.cfg.Timestamps = true }

// window sets the initial window in segments.
func window(n int) func(*rig) { return func(r *rig) { r.cfg.InitialWindow = n } }

// at is the sequence number of segment n.
func (s *scripted) at(n int) Seq { return (rigISS + 1 + Seq(s.shift)).Add(n * segSize) }

// play runs a script.
func (s *scripted) play(script string) {
	s.tb.Helper()
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "//")
		do, want, _ := strings.Cut(line, ">")
		f := strings.Fields(do)
		if len(f) == 0 {
			continue
		}
		got := s.segments(s.command(f))
		if want = strings.Join(strings.Fields(want), " "); got != want {
			s.tb.Fatalf("%s: sent [%s], want [%s]; %s", strings.TrimSpace(do), got, want, s.vars())
		}
	}
}

func (s *scripted) command(f []string) []wire {
	s.tb.Helper()
	switch f[0] {
	case "write":
		return s.write(strings.Repeat("x", s.number(f[1])*segSize))
	case "ack":
		return s.ackCommand(f)
	case "after":
		s.now += s.duration(f[1])
		if d := s.Deadline(); d != 0 && d <= s.now {
			s.tb.Fatalf("%v: a timer fires %v earlier", f, s.now-d)
		}
	case "timer":
		if d := s.Deadline(); d == 0 || d-s.now != s.duration(f[1]) {
			s.tb.Fatalf("%v: the next timer fires after %v; %s", f, d-s.now, s.vars())
		}
		s.now = s.Deadline()
		s.OnTimer(s.now)
		s.sane()
		return s.take()
	case "refuse", "accept":
		s.refuse = f[0] == "refuse"
	case "close":
		s.ShutdownWrite(s.now)
		s.sane()
		return s.take()
	case "has":
		for _, v := range f[1:] {
			if !strings.Contains(" "+s.vars()+" ", " "+v+" ") {
				s.tb.Fatalf("%v: it has %s", f, s.vars())
			}
		}
	default:
		s.tb.Fatalf("%v", f)
	}
	return nil
}

func (s *scripted) ackCommand(f []string) []wire {
	s.tb.Helper()
	a := s.ack(0)
	a.Ack, a.Wnd = s.at(s.number(f[1])), 65535
	if s.has(flagTS) {
		a.Opts.TS, a.Opts.TSVal, a.Opts.TSEcr = true, 1000+uint32(s.now/1e6), s.tsNow(s.start)
	}
	for i := 2; i+1 < len(f); i += 2 {
		switch f[i] {
		case "ecr":
			a.Opts.TSEcr += uint32(s.number(f[i+1]))
		case "wnd":
			a.Wnd = uint16(s.number(f[i+1]))
		case "fin":
			a.Ack += Seq(s.number(f[i+1]))
		case "sack", "dsack":
			lo, hi, _ := strings.Cut(f[i+1], "-")
			a.Opts.SACK[a.Opts.NumSACK] = Block{s.at(s.number(lo)), s.at(s.number(hi))}
			a.Opts.NumSACK++
		default:
			s.tb.Fatalf("%v", f)
		}
	}
	return s.in(a, "")
}

func (s *scripted) number(f string) int {
	s.tb.Helper()
	n, err := strconv.Atoi(f)
	if err != nil {
		s.tb.Fatal(err)
	}
	return n
}

func (s *scripted) duration(f string) time.Duration {
	s.tb.Helper()
	d, err := time.ParseDuration(f)
	if err != nil {
		s.tb.Fatal(err)
	}
	return d
}

// segments renders the segments with text or FIN as their numbers.
func (s *scripted) segments(got []wire) string {
	var out []string
	for _, w := range got {
		if w.SegLen() == 0 {
			continue
		}
		off := w.Seq.Sub(s.at(0))
		t := strconv.Itoa(off / segSize)
		switch n := w.Len / segSize; {
		case off%segSize != 0 || w.Len%segSize != 0:
			t += fmt.Sprintf("+%d/%d", off%segSize, w.Len)
		case n > 1:
			t += fmt.Sprintf("-%d", off/segSize+n-1)
		}
		if w.Flags.Has(FIN) {
			t += "F"
		}
		out = append(out, t)
	}
	return strings.Join(out, " ")
}

// vars is what a script can ask for: sizes in segments.
func (s *scripted) vars() string {
	in := func(n uint64) string {
		if n > 1<<50 {
			return "inf"
		}
		return strconv.FormatFloat(float64(n)/segSize, 'g', 6, 64)
	}
	return fmt.Sprintf("state=%d cwnd=%s ssthresh=%s flight=%s lost=%s rto=%v srtt=%v backoff=%d timeouts=%d recoveries=%d spurious=%d tlp=%d",
		s.rec.state, in(s.cwnd()), in(s.ctl.Ssthresh), in(s.rtx.InFlight()), in(s.rtx.LostBytes()), s.currentRTO(), s.rto.SRTT, s.backoff,
		s.counts[CountTimeout], s.counts[CountFastRecovery], s.counts[CountSpuriousRecovery], s.counts[CountTLPRecovery])
}

// script is one test of a table.
type script struct {
	name   string
	change []func(*rig)
	play   string
}

// playAll plays each script on a rig of its own with an RTT of 100 ms.
func playAll(t *testing.T, scripts []script) {
	for _, x := range scripts {
		t.Run(x.name, func(t *testing.T) { newScripted(t, 100*time.Millisecond, x.change...).play(x.play) })
	}
}
