package tcb

import (
	"testing"
	"time"
)

// TestFastRetransmit: three duplicates, in whatever form, make the missing segment leave again at once, and the first two let new segments out (RFC 3042).
func TestFastRetransmit(t *testing.T) {
	playAll(t, []script{
		{name: "RACK", play: `
			write 14 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-2 > 10             // limited transmit
			ack 0 sack 1-3 > 11
			ack 0 sack 1-4 > 0              // three SACKed: no reordering window any more
			has state=3 ssthresh=5 lost=1 recoveries=1
		`},
		{name: "RFC 6675", change: []func(*rig){noRACK}, play: `
			write 14 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-2 > 10
			ack 0 sack 1-3 > 11
			ack 0 sack 1-4 > 0
			has state=3 ssthresh=5
		`},
		{name: "RFC 6675, ranges apart", change: []func(*rig){noRACK}, play: `
			write 14 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 2-3 > 10
			ack 0 sack 4-5 sack 2-3 > 11
			ack 0 sack 6-7 sack 4-5 sack 2-3 > 0
			has state=3 lost=2              // 0 and 1: three ranges lie above them, but only two above 3
		`},
		{name: "NewReno", change: []func(*rig){noSACK}, play: `
			write 14 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 > 10
			ack 0 > 11
			ack 0 > 0
			has state=3 ssthresh=5
		`},
		{name: "not by two duplicates, with or without SACK", change: []func(*rig){noSACK}, play: `
			write 12 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 > 10
			ack 0 > 11
			ack 1
			has state=0 recoveries=0
		`},
		{name: "a window update is no duplicate", change: []func(*rig){noSACK}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 wnd 65530
			ack 0 wnd 65531
			ack 0 wnd 65532
			ack 0 wnd 65533
			has recoveries=0
		`},
	})
}

// TestSmallSegmentsAreRetransmittedFast: three SACKed segments are three duplicates however small they are (RFC 6675 §5 step 1).
func TestSmallSegmentsAreRetransmittedFast(t *testing.T) {
	for _, change := range []func(*rig){noRACK, func(*rig) {}} {
		s := newScripted(t, 100*time.Millisecond, change)
		s.NoDelay = true
		for range 6 {
			s.write("0123456789")
		}
		s.now += 100 * time.Millisecond
		a := s.ack(0)
		a.Ack, a.Wnd, a.Opts.NumSACK = s.at(0), 65535, 1
		for i, want := range []string{"", "", "0+0/10"} {
			a.Opts.SACK[0] = Block{s.at(0) + 10, s.at(0) + 20 + 10*Seq(i)}
			if got := s.segments(s.in(a, "")); got != want {
				t.Fatalf("after %d SACKed: sent [%s]", i+1, got)
			}
		}
	}
}

// TestPartialACKs: each hole is repaired by the ACK that shows it, one a round trip without SACK (RFC 6582 §3.2 step 3), all in one with SACK.
func TestPartialACKs(t *testing.T) {
	playAll(t, []script{
		{name: "NewReno", change: []func(*rig){noSACK}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9  // 0 and 3 are lost
			after 100ms
			ack 0
			ack 0
			ack 0 > 0
			ack 0
			ack 0
			ack 0
			ack 0
			ack 0
			after 100ms
			ack 3 > 3                       // a partial ACK
			has state=3 ssthresh=5
			after 100ms
			ack 10
			has state=0 cwnd=5 recoveries=1
		`},
		{name: "NewReno sends new segments as old ones leave", change: []func(*rig){noSACK}, play: `
			write 30 > 0 1 2 3 4 5 6 7 8 9  // 0 is lost
			after 100ms
			ack 0 > 10
			ack 0 > 11
			ack 0 > 0
			ack 0
			ack 0
			ack 0 > 12                      // one for two that are delivered
			ack 0
			ack 0
			has flight=5
			ack 0 > 13                      // at ssthresh: one for one
			ack 0 > 14
			ack 0 > 15
			after 100ms
			ack 12 > 16
			has state=0 cwnd=5 flight=5
		`},
		{name: "SACK", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9  // 0 and 3 are lost
			after 100ms
			ack 0 sack 1-2
			ack 0 sack 1-3
			ack 0 sack 4-5 sack 1-3 > 0
			ack 0 sack 4-6 sack 1-3
			ack 0 sack 4-7 sack 1-3 > 3
			ack 0 sack 4-10 sack 1-3
			after 100ms
			ack 3 sack 4-10
			ack 10
			has state=0 cwnd=5 flight=0 recoveries=1
		`},
	})
}

// TestAfterRecovery: losses of a window that was just repaired are not taken for new ones, those of the next are (RFC 6582 §3.2 step 2), also 3 GB later.
func TestAfterRecovery(t *testing.T) {
	const recovered = `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0
		ack 0
		ack 0 > 0
		after 100ms
		ack 10
		has state=0 cwnd=5
		write 5 > 10 11 12 13 14
		after 100ms
	`
	playAll(t, []script{
		{name: "duplicates of the old window", change: []func(*rig){noSACK}, play: recovered + `
			ack 10
			ack 10
			ack 10
			ack 10
			has recoveries=1
		`},
		{name: "of the next", change: []func(*rig){noSACK}, play: recovered + `
			ack 11
			ack 11
			ack 11
			ack 11 > 11
			has recoveries=2
		`},
	})
	s := newScripted(t, 100*time.Millisecond, noSACK)
	s.play(recovered)
	s.jump(3 << 30)
	s.play(`
		write 5 > 15 16 17 18 19
		after 100ms
		ack 16
		ack 16
		ack 16
		ack 16 > 16
	`)
	s = newScripted(t, 100*time.Millisecond, noRACK)
	s.play(`
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 1-4 > 0
		after 100ms
		ack 10
	`)
	s.jump(3 << 30)
	s.play(`
		write 5 > 10 11 12 13 14
		after 100ms
		ack 10 sack 11-14 > 10
	`)
}

// jump makes the connection as if n octets more had been exchanged without loss.
func (s *scripted) jump(n int) {
	s.ackAll()
	origin := s.sndNxt
	for done := 0; done < n; {
		k := min(n-done, 1<<20)
		s.NoDelay, s.SndBuf, s.gsoMax = true, 4<<20, 0
		s.sndNxt, s.sndBuf.next = s.sndNxt.Add(k), s.sndBuf.next.Add(k)
		r := s.rtx.Push(s.sndNxt.Add(-k), uint32(k), 1, 0)
		s.smp.OnSent(&r.State, s.now, uint32(k), 0, false)
		s.rtx.Sent(r)
		s.arm(timerRTO, s.now+time.Second)
		s.ackAll()
		done += k
	}
	// Segments keep their numbers.
	s.shift += s.sndNxt.Sub(origin)
}

func (s *scripted) ackAll() {
	a := s.ack(0)
	a.Wnd = 65535
	s.in(a, "")
}

// TestRACKReorderingTimer: a hole is not lost before the reordering window is over, and then at once (RFC 8985 §6.2).
func TestRACKReorderingTimer(t *testing.T) {
	playAll(t, []script{
		{name: "the window is a quarter of the minimal RTT after the RTT of what was delivered", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-2
			timer 25ms > 0
			has state=3 recoveries=1
		`},
		{name: "in recovery there is no window, unless reordering was seen", play: `
			write 1 > 0
			after 4ms
			write 1 > 1
			after 4ms
			write 2 > 2 3
			after 100ms
			ack 0 sack 3-4
			timer 17ms > 0                  // sent 8 ms before 3
			has lost=1
			timer 4ms                       // PRR lets the next out with the next ACK
			has lost=3
		`},
		{name: "each at its own instant", play: `
			write 3 > 0 1 2
			after 100ms
			ack 0 sack 2-3
			ack 3                           // reordering
			write 1 > 3
			after 4ms
			write 1 > 4
			after 4ms
			write 2 > 5 6
			after 100ms
			ack 3 sack 6-7
			timer 17ms > 3                  // sent 8 ms before 6
			has lost=1
			timer 4ms
			has lost=2
			timer 4ms
			has lost=3
		`},
		{name: "what comes within the window is reordering, and no loss", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-3
			after 24ms
			ack 10
			has state=0 recoveries=0
		`},
		{name: "once seen, three SACKed segments do not end it", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-3
			after 10ms
			ack 3                           // 0 was late
			after 1ms
			ack 3 sack 4-10                 // so may be 3
			after 10ms
			ack 10
			has recoveries=0
		`},
		{name: "the time-out waits for it", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 195ms
			ack 0 sack 9-10                 // RACK.RTT 195 ms: decided 25 ms from now, the RTO was to come in 105 ms
			timer 25ms > 0
			has timeouts=0
		`},
	})
}

// TestRACKBurst: of segments that left at one instant only those before the delivered ones are behind them.
func TestRACKBurst(t *testing.T) {
	playAll(t, []script{{play: `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 5-8 > 0 1 2              // flight 2, PRR allows what was delivered
		has lost=5
	`}})
}

// TestLostRetransmission: RACK finds that a retransmission was lost, which counts as a second indication of congestion (RFC 5681 §4.3).
func TestLostRetransmission(t *testing.T) {
	playAll(t, []script{{play: `
		write 30 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 1-4 > 0
		has ssthresh=5
		ack 0 sack 1-6
		ack 0 sack 1-8 > 10 11
		ack 0 sack 1-10 > 12 13
		after 100ms
		ack 0 sack 1-11 > 0
		has ssthresh=2.5 recoveries=2 lost=1
	`}})
}

// TestLimitedMarking: without SACK only one segment of a unit that the link cuts is known to be missing.
func TestLimitedMarking(t *testing.T) {
	playAll(t, []script{{change: []func(*rig){noSACK, func(r *rig) { r.params.GSOMax = 5 * segSize }}, play: `
		write 10 > 0-4 5-9
		after 100ms
		ack 0
		ack 0
		ack 0 > 0
		has lost=1
		after 100ms
		ack 2 > 2
		has lost=1
	`}})
}

// TestRescue: RFC 6675 §4, NextSeg: new data before the holes that are not known to be lost, and at the end the last segment once.
func TestRescue(t *testing.T) {
	playAll(t, []script{
		{name: "rule 3: a hole without enough above it", change: []func(*rig){noRACK}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9  // 0, 7 and 9 are lost
			after 100ms
			ack 0 sack 1-4 > 0
			ack 0 sack 1-7 > 9              // nothing below 7 is missing: the last, once
			ack 0 sack 1-7 sack 8-9 > 7
			has lost=1
		`},
		{name: "rule 2: new data first", change: []func(*rig){noRACK}, play: `
			write 12 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-4 > 0
		`},
	})
}

// TestPRROneLoss: the window is reduced over one round trip, in which as much leaves as ssthresh allows, and ends at ssthresh (RFC 9937).
func TestPRROneLoss(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*rig)
	}{{"RACK", func(*rig) {}}, {"RFC 6675", noRACK}, {"NewReno", noSACK}} {
		for _, n := range []int{10, 20, 50, 100} {
			s := newScripted(t, 100*time.Millisecond, c.change, window(n))
			s.SndBuf = 1 << 20
			out := s.write(string(make([]byte, 4*n*segSize)))
			s.now += 100 * time.Millisecond
			sent := s.deliver(out[1:]) // segment 0 is lost
			ssthresh := int(s.ctl.Ssthresh / segSize)
			if ssthresh != n/2 {
				t.Errorf("%s, %d segments: ssthresh %d", c.name, n, ssthresh)
			}
			if sent < ssthresh-1 || sent > ssthresh+1 {
				t.Errorf("%s, %d segments: %d left in recovery, ssthresh is %d", c.name, n, sent, ssthresh)
			}
			if s.rec.state != caOpen || s.cwnd() != s.ctl.Ssthresh || s.counts[CountFastRecovery] != 1 {
				t.Errorf("%s, %d segments: %s", c.name, n, s.vars())
			}
		}
	}
}

// deliver plays a peer that misses segment 0 until it is sent again, and returns how many segments the recovery sent.
func (s *scripted) deliver(out []wire) (sent int) {
	s.tb.Helper()
	high := 0
	for len(out) > 0 {
		w := out[0]
		a := s.ack(0)
		a.Ack, a.Wnd = s.at(0), 65535
		high = max(high, w.Seq.Sub(s.at(0))/segSize)
		switch {
		case w.Seq == s.at(0):
			a.Ack = s.at(high + 1)
		case s.has(flagSACK):
			a.Opts.SACK[0], a.Opts.NumSACK = Block{s.at(1), s.at(high + 1)}, 1
		}
		was := s.rec.state
		more := s.in(a, "")
		if s.rec.state == caRecovery {
			sent += len(more)
		} else if was == caRecovery {
			return sent
		}
		out = append(out[1:], more...)
	}
	s.tb.Fatal("no recovery")
	return 0
}

// TestUndo: what proves that nothing was lost gives the window back (RFC 4015), and what does not, does not.
func TestUndo(t *testing.T) {
	const lost = `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 1-10 > 0
		has ssthresh=5
	`
	playAll(t, []script{
		{name: "Eifel: the ACK answers the original", change: []func(*rig){withTS}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-4 > 0
			after 5ms
			ack 4 ecr 0
			has state=0 spurious=1 ssthresh=inf cwnd=10
		`},
		{name: "Eifel: it answers the retransmission", change: []func(*rig){withTS}, play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 1-8 > 0
			after 100ms
			ack 8 ecr 100 > 8 9
			has state=3 spurious=0
			ack 10 ecr 0                    // too late to prove anything
			has spurious=0 cwnd=5
		`},
		{name: "DSACK during recovery", play: lost + `
			after 100ms
			ack 10 dsack 0-1
			has state=0 spurious=1 ssthresh=inf cwnd=10
		`},
		{name: "DSACK after recovery", play: lost + `
			after 100ms
			ack 10
			has state=0 cwnd=5
			ack 10 dsack 0-1
			has spurious=1 ssthresh=inf cwnd=10
		`},
		{name: "DSACK long after it", play: lost + `
			after 100ms
			ack 10
			write 5 > 10 11 12 13 14
			after 100ms
			ack 15
			ack 15 dsack 0-1
			has spurious=0
		`},
		{name: "DSACK of what was not retransmitted", play: lost + `
			after 100ms
			ack 10 dsack 2-3
			has state=0 spurious=0 cwnd=5
		`},
		{name: "DSACK of one of two", play: `
			write 10 > 0 1 2 3 4 5 6 7 8 9
			after 100ms
			ack 0 sack 2-10 > 0 1
			after 100ms
			ack 10 dsack 1-2
			has spurious=0
			ack 10 dsack 0-1
			has spurious=1
		`},
	})
}

// TestUndoShowsReordering: a fast recovery that was a mistake is proof of reordering (RFC 8985 §6.2 step 3), also if each late segment is retransmitted before
// it arrives, so that none is ever delivered late without having been sent twice. What is late from then on gets the reordering window.
func TestUndoShowsReordering(t *testing.T) {
	const first = `
		write 10 > 0 1 2 3 4 5 6 7 8 9
		after 100ms
		ack 0 sack 1-4 > 0
		after 5ms
	`
	const second = `
		write 8 > 10 11 12 13 14 15 16 17
		after 100ms
		ack 10 sack 11-15 ecr 105
		after 5ms
		ack 18 ecr 105
		has state=0 recoveries=1
	`
	playAll(t, []script{
		{name: "Eifel", change: []func(*rig){withTS}, play: first + `
			ack 10 ecr 0
			has state=0 spurious=1
		` + second},
		{name: "DSACK", play: first + `
			ack 10
			ack 10 dsack 0-1
			has state=0 spurious=1
		` + second},
	})
}

// TestUndoThenLoss: what is really lost beside a spurious retransmission is found by RACK after the undo, not by the next time-out.
func TestUndoThenLoss(t *testing.T) {
	playAll(t, []script{{change: []func(*rig){withTS}, play: `
		write 10 > 0 1 2 3 4 5 6 7 8 9      // 0 is late, 3 is lost
		after 100ms
		ack 0 sack 1-2
		ack 0 sack 1-3
		ack 0 sack 1-3 sack 4-5 > 0
		after 5ms
		ack 3 sack 4-10 ecr 0               // spurious
		has spurious=1 state=1
		timer 25ms > 3                      // one more reordering window
		has state=3 timeouts=0
	`}})
}

// TestReneging: the peer drops what it had SACKed; the time-out shows it, and everything is sent again (RFC 2018 §8).
func TestReneging(t *testing.T) {
	s := newScripted(t, 100*time.Millisecond)
	s.play(`
		write 6 > 0 1 2 3 4 5
		after 100ms
		ack 0 sack 1-6 > 0
		after 100ms
		ack 1                               // SACKed and not acknowledged
		timer 300ms > 1
	`)
	if s.counts[CountSACKReneging] != 1 {
		t.Error("reneging not counted")
	}
	s.play(`
		after 100ms
		ack 2 > 2 3
		after 100ms
		ack 4 > 4 5
		after 100ms
		ack 6
		has state=0 flight=0 lost=0
	`)
}

// TestPacketTooBig: what did not fit the path is sent again in smaller segments, without a congestion response (RFC 1191 §6.4, RFC 8201 §5.4).
func TestPacketTooBig(t *testing.T) {
	s := newScripted(t, 100*time.Millisecond)
	s.play("write 10 > 0 1 2 3 4 5 6 7 8 9")
	s.PacketTooBig(s.now, s.at(0), 500)
	if got := s.segments(s.take()); got != "0+0/500 0+500/500 1+0/500 1+500/500 2+0/500 2+500/500 3+0/500 3+500/500 4+0/500 4+500/500" {
		t.Errorf("sent %s", got)
	}
	s.play(`
		has cwnd=5 state=0 ssthresh=inf     // as many segments as before
		after 100ms
		ack 2 > 5+0/500 5+500/500 6+0/500 6+500/500 7+0/500 7+500/500
		ack 5 > 8+0/500 8+500/500 9+0/500 9+500/500
		has state=0 recoveries=0 ssthresh=inf
		ack 10
		has state=0 recoveries=0 flight=0
	`)
}

// TestPacedRecovery: the pacer holds back retransmissions like anything else, and its timer lets them go.
func TestPacedRecovery(t *testing.T) {
	playAll(t, []script{{change: []func(*rig){paced(0)}, play: `
		write 8 > 0 1               // 100,000 octets a second, two at a time
		timer 20ms > 2 3
		timer 20ms > 4 5
		timer 20ms > 6 7
		after 40ms
		ack 0 sack 4-8 > 0 1
		has state=3 lost=4 cwnd=4
		timer 20ms > 2 3
		after 10ms
		ack 8
		has state=0
	`}})
}
