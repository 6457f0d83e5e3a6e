package tcb

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
)

// TestProbeTimeout: the loss probe leaves 2*SRTT after the last transmission, 200 ms later if one segment is in flight, and never after the time-out, in whose
// place it then goes (RFC 8985 §7.2).
func TestProbeTimeout(t *testing.T) {
	playAll(t, []script{
		{name: "several in flight", play: `
			write 2 > 0 1
			timer 200ms > 1
			timer 300ms > 0             // and then the time-out
			has timeouts=1
		`},
		{name: "one in flight: in place of the time-out, which would come earlier", play: `
			write 1 > 0
			timer 300ms > 0
			has timeouts=0 backoff=0
			timer 300ms > 0
			has timeouts=1 backoff=1
		`},
		{name: "restarted by each new segment", play: `
			write 1 > 0
			after 50ms
			write 1 > 1
			timer 200ms > 1
		`},
		{name: "and by each ACK of new data", play: `
			write 3 > 0 1 2
			after 100ms
			ack 1
			timer 200ms > 2
		`},
		{name: "one at a time", play: `
			write 12 > 0 1 2 3 4 5 6 7 8 9
			timer 200ms > 10            // new text beyond the window, but within the peer's
			timer 300ms > 0
			has timeouts=1
		`},
		{name: "not once something is SACKed", play: `
			write 4 > 0 1 2 3
			after 100ms
			ack 0 sack 3-4 > 
			timer 25ms > 0              // RACK's timer
			has state=3
		`},
		{name: "not without SACK", change: []func(*rig){noSACK}, play: `
			write 2 > 0 1
			timer 300ms > 0
			has timeouts=1
		`},
		{name: "FIN and the text before it are the last segment", play: `
			write 2 > 0 1
			close > 2F
			timer 200ms > 2F
		`},
		{name: "the last segment of a unit", change: []func(*rig){func(r *rig) { r.params.GSOMax = 5 * segSize }}, play: `
			write 4 > 0-3
			timer 200ms > 3
		`},
	})
}

// TestProbeTimeoutLong: two seconds of RTT, so that 2*SRTT exceeds the RTO, and 200 ms of RTT with one segment, where it does not.
func TestProbeTimeoutLong(t *testing.T) {
	s := newScripted(t, 2*time.Second)
	for i := range 40 {
		s.write(strings.Repeat("x", segSize))
		s.now += 2 * time.Second
		a := s.ack(0)
		a.Wnd = 65535
		s.in(a, "")
		_ = i
	}
	s.shift = s.sndNxt.Sub(rigISS + 1)
	s.play(`
		write 1 > 0
		has srtt=2s rto=2.2s
		timer 2.2s > 0
		has timeouts=0
	`)
	// A time-out of a second leaves room for the probe's own rule: 2*SRTT + 200 ms.
	s = newScripted(t, 100*time.Millisecond, func(r *rig) { r.MinRTO = time.Second })
	s.play(`
		write 1 > 0
		timer 400ms > 0
		timer 1100ms > 0
		has timeouts=1
	`)
}

// TestProbeOutcome: what an ACK tells of the probe (RFC 8985 §7.4.2).
func TestProbeOutcome(t *testing.T) {
	const probe = `
		write 3 > 0 1 2
		timer 200ms > 2
		after 100ms
	`
	playAll(t, []script{
		{name: "case 1: a DSACK says that both copies arrived", play: probe + `
			ack 3
			ack 3 dsack 2-3
			write 1 > 3
			after 100ms
			ack 4
			has tlp=0 ssthresh=inf
		`},
		{name: "in one ACK", play: probe + `
			ack 3 dsack 2-3
			write 1 > 3
			after 100ms
			ack 4
			has tlp=0
		`},
		{name: "case 2: the original was lost, which the probe has hidden", play: probe + `
			ack 3
			write 1 > 3
			after 100ms
			ack 4
			has tlp=1 ssthresh=2
		`},
		{name: "case 3: a duplicate without blocks, from a peer that knows no DSACK", play: probe + `
			ack 3
			ack 3
			write 1 > 3
			after 100ms
			ack 4
			has tlp=0
		`},
		{name: "a DSACK of something else decides nothing", play: probe + `
			ack 3 dsack 0-1
			write 1 > 3
			after 100ms
			ack 4
			has tlp=1
		`},
		{name: "a probe of new text hides nothing", play: `
			write 11 > 0 1 2 3 4 5 6 7 8 9
			timer 200ms > 10
			after 100ms
			ack 11
			write 1 > 11
			after 100ms
			ack 12
			has tlp=0 ssthresh=inf
		`},
		{name: "its SACK shows a tail loss to RACK", play: `
			write 5 > 0 1 2 3 4
			timer 200ms > 4
			after 100ms
			ack 2 sack 4-5 > 2 3        // both left before the probe, more than an RTT and the window ago
			has state=3 tlp=0 timeouts=0
		`},
	})
}

// TestRTOBackOff: each time-out doubles the next up to the maximum, and only the first in a row takes ssthresh (RFC 6298 §5.5, RFC 5681 §3.1).
func TestRTOBackOff(t *testing.T) {
	playAll(t, []script{{change: []func(*rig){noSACK, func(r *rig) { r.MaxRTO = 5 * time.Second }}, play: `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		timer 300ms > 0
		has cwnd=1 ssthresh=5 state=4
		timer 600ms > 0
		has cwnd=1 ssthresh=5
		timer 1200ms > 0
		timer 2400ms > 0
		timer 4800ms > 0
		timer 5s > 0
		timer 5s > 0
		has cwnd=1 ssthresh=5 timeouts=7
	`}})
}

// TestKarn: an ACK of what was sent twice measures nothing and leaves the back-off in force until one of something sent once (RFC 6298 §3, §5.7).
func TestKarn(t *testing.T) {
	playAll(t, []script{
		{name: "without timestamps", change: []func(*rig){noSACK}, play: `
			write 1 > 0
			timer 300ms > 0
			timer 600ms > 0
			after 10ms
			ack 1
			has srtt=100ms backoff=2 rto=1.2s
			write 1 > 1
			after 100ms
			ack 2
			has srtt=100ms backoff=0 rto=300ms
		`},
		{name: "timestamps tell which copy it answers", change: []func(*rig){noSACK, withTS}, play: `
			write 1 > 0
			timer 300ms > 0
			timer 600ms > 0
			after 100ms
			ack 1 ecr 900
			has srtt=100ms backoff=0 rto=300ms
		`},
		{name: "a segment that waited behind the hole measures nothing", change: []func(*rig){noSACK}, play: `
			write 2 > 0 1
			timer 300ms > 0
			after 100ms
			ack 2
			has srtt=100ms
		`},
		{name: "an echo within a tick counts as a tick", change: []func(*rig){noSACK, withTS}, play: `
			write 1 > 0
			timer 300ms > 0
			ack 1 ecr 300
			has srtt=87.625ms
		`},
	})
}

// TestConstantRTT: a hundred round trips of exactly the same length never bring the time-out near them.
func TestConstantRTT(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second} {
		s := newScripted(t, rtt, noSACK)
		for range 100 {
			s.write(strings.Repeat("x", segSize))
			if d := s.Deadline(); d-s.now < rtt+200*time.Millisecond {
				t.Fatalf("RTT %v: the time-out comes after %v", rtt, d-s.now)
			}
			s.now += rtt
			s.ackAll()
		}
	}
}

// TestFRTO is RFC 5682: basic without SACK, enhanced with it.
func TestFRTO(t *testing.T) {
	const expired = `
		write 30 > 0 1 2 3 4 5 6 7 8 9
		timer 300ms > 0
		has state=4 cwnd=1 ssthresh=5
		after 50ms
	`
	// With RACK and TLP off, so that the time-out comes without a probe before it.
	for _, x := range []struct {
		name   string
		change func(*rig)
	}{{"basic", noSACK}, {"SACK-enhanced", noRACK}} {
		playAll(t, []script{
			{name: x.name + ": spurious", change: []func(*rig){x.change}, play: expired + `
				ack 1 > 10 11           // step 2b
				after 1ms
				ack 2                   // step 3b: 1 was only late; 10 segments are in flight again
				has state=0 spurious=1 ssthresh=inf timeouts=1 cwnd=10 flight=10 lost=0
				ack 3 > 12 13
			`},
			{name: x.name + ": genuine", change: []func(*rig){x.change}, play: expired + `
				ack 1 > 10 11
				after 100ms
				ack 1 > 1               // step 3a: the new segments cause duplicates
				has state=4 spurious=0 ssthresh=5
			`},
			{name: x.name + ": everything is acknowledged", change: []func(*rig){x.change}, play: expired + `
				ack 10 > 10 11
				has state=0 spurious=0 ssthresh=5
			`},
			{name: x.name + ": nothing new to send", change: []func(*rig){x.change}, play: `
				write 4 > 0 1 2 3
				timer 300ms > 0
				after 100ms
				ack 1 > 1 2             // the usual recovery
				after 100ms
				ack 3 > 3
				has spurious=0
			`},
			{name: x.name + ": the hole is filled and nothing else was lost", change: []func(*rig){x.change}, play: `
				write 2 > 0 1
				timer 300ms > 0
				after 100ms
				ack 2
				has spurious=0
			`},
			{name: x.name + ": the next time-out in a row may prove spurious too", change: []func(*rig){x.change}, play: expired + `
				timer 550ms > 0
				has ssthresh=5 timeouts=2
				after 10ms
				ack 1 > 10 11
				ack 2
				has spurious=1 ssthresh=inf
			`},
			{name: x.name + ": not while a recovery is under way", change: []func(*rig){x.change}, play: expired + `
				ack 1 > 10 11
				timer 600ms > 1         // a time-out of another segment
				has timeouts=2
				after 50ms
				ack 2 > 2 3             // conventional recovery
				ack 3 > 4
				has spurious=0
			`},
		})
	}
	playAll(t, []script{
		{name: "basic: a duplicate in step 2", change: []func(*rig){noSACK}, play: expired + `
			ack 0
			ack 1 > 1 2                     // conventional recovery
			ack 2 > 3 4
			has spurious=0
		`},
		{name: "SACK-enhanced: SACKs before the first ACK decide nothing", change: []func(*rig){noRACK}, play: expired + `
			ack 0 sack 1-2
			ack 2 > 10 11
			ack 2 sack 3-4 > 12
			has spurious=1
		`},
		{name: "SACK-enhanced: a SACK of what was sent before, in step 3", change: []func(*rig){noRACK}, play: expired + `
			ack 1 > 10 11
			ack 1 sack 5-6
			has spurious=1 lost=0 flight=10
		`},
		{name: "SACK-enhanced: a SACK of what was sent after", change: []func(*rig){noRACK}, play: expired + `
			ack 1 > 10 11
			ack 1 sack 10-11 > 1
			has spurious=0
		`},
		{name: "Eifel needs only one ACK", change: []func(*rig){noSACK, withTS}, play: expired + `
			ack 1 ecr 0 > 10 
			has spurious=1 ssthresh=inf state=0
		`},
		{name: "Eifel: the ACK of the retransmission", change: []func(*rig){noSACK, withTS}, play: expired + `
			ack 1 ecr 300 > 10 11
			has spurious=0 ssthresh=5 state=4
		`},
		{name: "Eifel across the wrap of the timestamps", change: []func(*rig){noSACK, withTS, wrapping}, play: expired + `
			ack 1 ecr 0 > 10 
			has spurious=1 ssthresh=inf state=0
		`},
		{name: "Eifel across the wrap: the ACK of the retransmission", change: []func(*rig){noSACK, withTS, wrapping}, play: expired + `
			ack 1 ecr 300 > 10 11
			has spurious=0 ssthresh=5 state=4
		`},
	})
}

// wrapping lets the timestamps wrap 100 ms after the start.
func wrapping(r *rig) { r.params.TSOffset = -uint32(r.now/Time(time.Millisecond)) - 200 }

// TestNoFastRecoveryAfterTimeout: what RACK finds lost while recovery from a time-out is under way belongs to that recovery (RFC 8985 §6.3), which sends it in slow start. A fast
// recovery inside of it would take the window down once more, and with it, as the window is one segment then, all that could leave: a sender would stand still but for what its
// timer sends.
func TestNoFastRecoveryAfterTimeout(t *testing.T) {
	const expired = `
		write 11 > 0 1 2 3 4 5 6 7 8 9
		timer 200ms > 10                // the probe is the last that there is: F-RTO has nothing new to send
		timer 300ms > 0
		has state=4 cwnd=1 recoveries=0
		after 100ms
	`
	playAll(t, []script{
		{name: "the first ACK shows that all was lost", play: expired + `
			ack 1 > 1 2
			has state=4 recoveries=0 ssthresh=5
			after 100ms
			ack 3 > 3 4 5                   // a segment for each ACK (RFC 3465 §2.3)
			has state=4 recoveries=0 ssthresh=5
			after 100ms
			ack 6 > 6 7 8 9
			ack 10 > 10
			after 100ms
			ack 11
			has state=0 recoveries=0 ssthresh=5
		`},
		{name: "every other segment had arrived", play: expired + `
			ack 2 sack 3-4 sack 5-6 sack 7-8 > 2 4
			has state=4 recoveries=0 ssthresh=5
			after 100ms
			ack 6 sack 7-8 > 6 8 9
			has state=4 recoveries=0 ssthresh=5
		`},
		{name: "the first ACK has a SACK", play: expired + `
			ack 1 sack 5-6 > 1 2
			has state=4 recoveries=0
			after 100ms
			ack 2 sack 5-6 > 3 4
			has state=4 recoveries=0 ssthresh=5
		`},
	})
}

// TestLinkRefusesTimeout: a retransmission that the link refused is owed, whatever is in flight beside it, and costs ssthresh once.
func TestLinkRefusesTimeout(t *testing.T) {
	playAll(t, []script{
		{name: "time-out", change: []func(*rig){noSACK}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 299ms
			refuse
			timer 1ms
			has timeouts=1 ssthresh=5
			timer 1ms
			timer 2ms
			accept
			timer 4ms > 0
			has timeouts=1 ssthresh=5 backoff=1
		`},
		{name: "recovery", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			refuse
			ack 0 sack 1-6
			accept
			timer 1ms > 0
			has state=3
		`},
		{name: "new text", play: `
			refuse
			write 3
			timer 1ms
			accept
			timer 2ms > 0 1 2
		`},
	})
}

// TestIdleRestart: after more than one RTO of silence the window is the initial one again, and ssthresh remembers (RFC 5681 §4.1).
func TestIdleRestart(t *testing.T) {
	const grown = `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 10
		write 12 > 10 11 12 13 14 15 16 17 18 19 20 21
		after 100ms
		ack 22
		has cwnd=14
	`
	playAll(t, []script{
		{name: "after the RTO", play: grown + `
			after 201ms
			write 14 > 22 23 24 25 26 27 28 29 30 31
			has cwnd=10
		`},
		{name: "before it", play: grown + `
			after 199ms
			write 14 > 22 23 24 25 26 27 28 29 30 31 32 33 34 35
		`},
	})
}

// TestWindowValidation: a window that is not used does not grow (RFC 7661): 2000 exchanges of one segment leave it where it was.
func TestWindowValidation(t *testing.T) {
	s := newScripted(t, 10*time.Millisecond)
	for range 2000 {
		s.write(strings.Repeat("x", segSize))
		s.now += 10 * time.Millisecond
		s.ackAll()
	}
	if s.ctl.Cwnd < 10*segSize || s.ctl.Cwnd > 11*segSize {
		t.Errorf("cwnd is %d after 2000 exchanges of one segment", s.ctl.Cwnd)
	}
}

// TestSlowStartDoubles: a window that is used doubles each round trip, from ten segments on (RFC 6928, RFC 3465).
func TestSlowStartDoubles(t *testing.T) {
	s := newScripted(t, 100*time.Millisecond)
	s.SndBuf = 4 << 20
	s.write(strings.Repeat("x", 2000*segSize))
	acked := 0
	for want := uint64(10); want < 500; want *= 2 {
		if s.cwnd() != want*segSize {
			t.Fatalf("cwnd %d, want %d segments", s.cwnd(), want)
		}
		s.now += 100 * time.Millisecond
		for range want / 2 {
			acked += 2
			a := s.ack(0)
			a.Ack, a.Wnd = s.at(acked), 65535
			s.in(a, "")
		}
	}
}

// told records what a controller is told.
type told struct {
	congestion.Controller
	log []string
}

func (e *told) note(s string) { e.log = append(e.log, s) }

func (e *told) OnLost(ev *congestion.LossEvent) {
	e.note("lost")
	e.Controller.OnLost(ev)
}

func (e *told) OnSignal(ev *congestion.SignalEvent) {
	e.note(map[congestion.Signal]string{
		congestion.FastRecovery: "RECOVERY", congestion.RTO: "RTO", congestion.TLP: "TLP", congestion.PersistentCongestion: "PERSISTENT",
	}[ev.Signal])
	e.Controller.OnSignal(ev)
}

func (e *told) OnAck(ev *congestion.AckEvent) {
	s := "ack"
	if ev.InRecovery {
		s += " in recovery"
	}
	if ev.InLoss {
		s += " in loss"
	}
	e.note(s)
	e.Controller.OnAck(ev)
}

func (e *told) OnRecoveryExit(now Time, n uint64) {
	e.note("exit")
	e.Controller.OnRecoveryExit(now, n)
}

func (e *told) OnSpurious(now Time, s congestion.Signal, n uint64) {
	e.note("spurious")
	e.Controller.OnSpurious(now, s, n)
}

// TestControllerEvents: the order that congestion.Controller documents: the losses, the signal, the ACK, the end.
func TestControllerEvents(t *testing.T) {
	for _, c := range []struct {
		name   string
		change []func(*rig)
		play   string
		want   []string
	}{
		{"recovery", nil, `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 2-10 > 0 1
			after 100ms
			ack 10
		`, []string{"lost", "lost", "RECOVERY", "ack in recovery", "ack in recovery", "exit"}},
		{"undone", []func(*rig){withTS}, `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-10 > 0
			after 5ms
			ack 10 ecr 0
		`, []string{"lost", "RECOVERY", "ack in recovery", "ack in recovery", "spurious"}},
		{"undone by a DSACK later", nil, `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-10 > 0
			after 5ms
			ack 10
			ack 10 dsack 0-1
		`, []string{"lost", "RECOVERY", "ack in recovery", "ack in recovery", "exit", "spurious"}},
		{"time-outs", []func(*rig){noSACK}, `
			write 2 > 0 1
			timer 300ms > 0
			timer 600ms > 0
			timer 1200ms > 0
			after 100ms
			ack 1 > 1
			ack 2
		`, []string{"lost", "lost", "RTO", "lost", "PERSISTENT", "lost", "ack in loss", "ack in loss", "exit"}},
		{"a probe repaired a loss", nil, `
			write 3 > 0 1 2
			timer 200ms > 2
			after 100ms
			ack 3
			write 1 > 3
			after 100ms
			ack 4
		`, []string{"ack", "TLP", "ack", "exit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &told{Controller: reno.New()}
			s := newScripted(t, 100*time.Millisecond, append(c.change, func(r *rig) { r.controller = log })...)
			s.play(c.play)
			if !slices.Equal(log.log, c.want) {
				t.Errorf("told %q, want %q", log.log, c.want)
			}
		})
	}
}
