package tcb

import (
	"testing"
	"time"
)

// scaled asks for a receive buffer whose window needs scaling.
func scaled(r *rig) { r.RcvBuf = 400 << 10 }

// TestRFC7323SYNWindowIsNotScaled: the windows of SYN and SYN-ACK count octets, also in a simultaneous open (RFC 7323 §2.2).
func TestRFC7323SYNWindowIsNotScaled(t *testing.T) {
	r := newRig(t, scaled).to(StateSynSent)
	s := r.syn()
	s.Opts.WScale = 8
	r.expect(r.in(s, ""), "S. 0:0 ack 1")
	r.expectState(StateSynRecv)
	s.Flags, s.Ack, s.Wnd = SYN|ACK, rigISS+1, 9000
	r.in(s, "")
	r.expectState(StateEstablished)
	if r.sndWnd != 9000 {
		t.Errorf("SND.WND %d after a SYN-ACK with window 9000", r.sndWnd)
	}
	a := r.ack(0)
	a.Wnd = 100
	r.in(a, "")
	if r.sndWnd != 100<<7 {
		t.Errorf("SND.WND %d after an ACK with window 100 and scale 7", r.sndWnd)
	}
}

// TestRFC7323OfferedScaleHolds: what the SYN offered is used even if the buffer's size changes before the answer.
func TestRFC7323OfferedScaleHolds(t *testing.T) {
	r := newRig(t, scaled).to(StateSynSent)
	offered := r.rcvWScale
	r.RcvBuf = 8192
	s := r.syn()
	s.Flags, s.Ack = SYN|ACK, rigISS+1
	out := r.in(s, "")
	if r.rcvWScale != offered || offered == 0 {
		t.Errorf("scale %d, the SYN offered %d", r.rcvWScale, offered)
	}
	// SHLD-14: the SYN's window of 65535 octets is kept.
	if edge := out[0].Ack.Add(int(out[0].Wnd) << offered); edge.Leq(rigIRS.Add(1 + 65535 - 1<<offered)) {
		t.Errorf("the edge moved back by %d", rigIRS.Add(1+65535).Sub(edge))
	}
	if r.rcvWnd() < 65535 {
		t.Errorf("RCV.WND %d, the SYN offered 65535", r.rcvWnd())
	}
}

// TestSYNWindowIsHonoured: text within the window of our SYN may come with the SYN-ACK.
func TestSYNWindowIsHonoured(t *testing.T) {
	r := newRig(t, func(r *rig) { r.RcvBuf = 4096 }).to(StateSynSent)
	r.RcvBuf = 1024
	s := r.syn()
	s.Flags, s.Ack = SYN|ACK, rigISS+1
	r.expect(r.in(s, string(make([]byte, 2048))), ". 1:1 ack 2049")
}

// TestCookieTakesTheWindow: SND.WND is set whatever the sequence number, on which SND.WL1 of 0 has no say.
func TestCookieTakesTheWindow(t *testing.T) {
	for _, irs := range []Seq{5, 1 << 31, 1<<32 - 9} {
		r := newRig(t)
		a := Segment{Seq: irs + 1, Ack: rigISS + 1, Flags: ACK, Wnd: 1000}
		r.params.CookieOpts = Options{MSS: 1460, WScale: 3}
		r.OpenCookie(r.now, &r.params, &a)
		r.in(a, "")
		r.expectState(StateEstablished)
		if r.sndWnd != 4000 {
			t.Errorf("IRS %d: SND.WND %d, want 4000", irs, r.sndWnd)
		}
	}
}

// TestRepeatedSYN: our SYN-ACK is repeated, but the attempt ends in its time however often SYN comes.
func TestRepeatedSYN(t *testing.T) {
	r := newRig(t).passive()
	start := r.now
	for r.state == StateSynRecv && r.now-start < 10*time.Minute {
		r.sleep(600 * time.Millisecond)
		if r.state == StateSynRecv {
			r.in(r.syn(), "")
		}
	}
	if d := r.now - start; d > 2*time.Minute {
		t.Errorf("still in %v after %v", r.state, d)
	}
	r.expectState(StateClosed)
}

// TestLinkRefusesSYN: a SYN that the link refused was not sent: it uses up no retry, and the round trip starts when it leaves.
func TestLinkRefusesSYN(t *testing.T) {
	r := newRig(t)
	r.refuse = true
	r.OpenActive(r.now, &r.params)
	r.sleep(300 * time.Millisecond)
	r.expectState(StateSynSent)
	r.refuse = false
	r.expect(r.sleep(linkRetry<<maxLinkDoublings), "S 0:0")
	s := r.syn()
	s.Flags, s.Ack = SYN|ACK, rigISS+1
	r.now += 20 * time.Millisecond
	r.in(s, "")
	r.expectState(StateEstablished)
	if r.rto.SRTT > 40*time.Millisecond || r.startWindow() < 10*1460 {
		t.Errorf("SRTT %v, cwnd %d: the refusals count", r.rto.SRTT, r.startWindow())
	}
	// A link that never takes anything ends the attempt at last.
	r = newRig(t)
	r.refuse = true
	r.OpenActive(r.now, &r.params)
	r.sleep(10 * time.Minute)
	r.expectState(StateClosed)
}

// TestLinkRefusesForLong: a link without room is asked less and less often, and at the first pace again once it has taken something.
func TestLinkRefusesForLong(t *testing.T) {
	s := newScripted(t, 100*time.Millisecond)
	s.play(`
		refuse
		write 2
		timer 1ms
		timer 2ms
		timer 4ms
		timer 8ms
		timer 16ms
		timer 16ms
		accept
		timer 16ms > 0 1
		refuse
		write 1
		timer 1ms
		timer 2ms
		accept
		timer 4ms > 2`)
}

// TestLinkRefusesSYNACK: the SYN-ACK that was refused before the handshake's end does not come after it.
func TestLinkRefusesSYNACK(t *testing.T) {
	r := newRig(t).passive()
	r.refuse = true
	r.now += time.Second
	r.in(r.syn(), "")
	r.refuse = false
	r.in(r.ack(0), "")
	r.expectState(StateEstablished)
	r.expect(r.sleep(time.Second))
}

// TestSYNReceivedRST: back to LISTEN from a passive open (MUST-11), refused after an active one.
func TestSYNReceivedRST(t *testing.T) {
	r := newRig(t).passive()
	r.in(Segment{Seq: r.rcvNxt, Flags: RST}, "")
	r.expectState(StateClosed)
	if e := r.TakeEvents(); r.reason != ReasonReset || e&EventError != 0 {
		t.Errorf("reason %v, events %b", r.reason, e)
	}
	r = newRig(t).to(StateSynSent)
	r.in(r.syn(), "")
	r.in(Segment{Seq: r.rcvNxt, Flags: RST}, "")
	if e := r.TakeEvents(); r.reason != ReasonRefused || e&EventError == 0 {
		t.Errorf("reason %v, events %b", r.reason, e)
	}
}

// TestSimultaneousOpen covers the orders in which SYN, SYN-ACK and ACK can cross (MUST-10, RFC 9293 figure 7).
func TestSimultaneousOpen(t *testing.T) {
	cross := func(drop ...int) *world {
		w := newWorld(t, 1)
		w.b.syn = false
		for _, p := range []*peer{w.a, w.b} {
			p.path.drop = func(n int, _ *Segment) bool {
				for _, d := range drop {
					if d == n {
						return true
					}
				}
				return false
			}
		}
		return w
	}
	for _, tt := range []struct {
		name string
		lag  time.Duration
		drop []int
	}{
		{"both at once", 0, nil},
		{"one later", 5 * time.Millisecond, nil},
		{"both SYNs lost", 0, []int{1}},
		{"both SYN-ACKs lost", 0, []int{2}},
		{"SYN-ACKs lost twice", 0, []int{2, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := cross(tt.drop...)
			w.a.OpenActive(w.now, &w.a.params)
			w.run(tt.lag)
			w.b.OpenActive(w.now, &w.b.params)
			w.until(time.Minute, func() bool { return w.a.state == StateEstablished && w.b.state == StateEstablished })
			w.write(w.a, []byte("from a"))
			w.write(w.b, []byte("from b"))
			w.a.ShutdownWrite(w.now)
			w.b.ShutdownWrite(w.now)
			w.until(5*time.Minute, func() bool { return w.a.state == StateClosed && w.b.state == StateClosed })
			if w.b.received.String() != "from a" || w.a.received.String() != "from b" {
				t.Errorf("received %q and %q", w.b.received.String(), w.a.received.String())
			}
		})
	}
}

// TestOneSideOfSimultaneousOpen: one SYN-ACK is lost, so that one end is ESTABLISHED while the other repeats SYN-ACK, which a challenge ACK answers.
func TestOneSideOfSimultaneousOpen(t *testing.T) {
	w := newWorld(t, 1)
	w.b.syn = false
	w.a.path.drop = func(n int, _ *Segment) bool { return n == 2 }
	w.a.OpenActive(w.now, &w.a.params)
	w.b.OpenActive(w.now, &w.b.params)
	w.until(time.Minute, func() bool { return w.a.state == StateEstablished && w.b.state == StateEstablished })
}

// TestDeferAccept: the handshake's ACK is held back, data or the time limit completes it, and the wait is no round trip.
func TestDeferAccept(t *testing.T) {
	lazy := func(r *rig) { r.DeferAccept = 5 * time.Second }
	r := newRig(t, lazy).passive()
	r.expect(r.in(r.ack(0), ""))
	r.expectState(StateSynRecv)
	r.expect(r.sleep(3 * time.Second))
	r.in(r.ack(PSH), "x")
	r.expectState(StateEstablished)
	if r.rto.SRTT > 100*time.Millisecond {
		t.Errorf("SRTT %v", r.rto.SRTT)
	}
	r = newRig(t, lazy).passive()
	r.in(r.ack(0), "")
	r.sleep(6 * time.Second)
	r.expectState(StateEstablished)
	if r.sndWnd == 0 {
		t.Error("the window of the deferred ACK is forgotten")
	}
}

// TestMSS: MUST-14 to MUST-16, and nobody makes us send less than a header's worth of text.
func TestMSS(t *testing.T) {
	tests := []struct {
		name               string
		peer               uint16
		mtu, def, user, ts int
		want               uint32
	}{
		{name: "MUST-15: default of IPv4", mtu: 1460, def: 536, want: 536},
		{name: "MUST-15: default of IPv6", mtu: 1440, def: 1220, want: 1220},
		{name: "MUST-16: the peer's", peer: 1000, mtu: 1460, def: 536, want: 1000},
		{name: "MUST-16: the path's", peer: 9000, mtu: 1460, def: 536, want: 1460},
		{name: "RFC 6691: less the options", peer: 1460, mtu: 1460, def: 536, ts: 1, want: 1448},
		{name: "TCP_MAXSEG", peer: 1460, mtu: 1460, def: 536, user: 700, want: 700},
		{name: "hostile option", peer: 1, mtu: 1460, def: 536, want: minPeerMSS},
		{name: "absurd TCP_MAXSEG", peer: 1460, mtu: 1460, def: 536, user: 5, ts: 1, want: minPeerMSS - tsOptionLen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(r *rig) {
				r.cfg.Timestamps = tt.ts == 1
				r.params.MTUPayload, r.params.DefaultMSS, r.params.UserMSS = tt.mtu, tt.def, tt.user
			})
			s := r.syn()
			s.Opts.MSS = tt.peer
			r.OpenPassive(r.now, &r.params, &s)
			if r.mss != tt.want {
				t.Errorf("effective send MSS %d, want %d", r.mss, tt.want)
			}
		})
	}
}

// TestRFC6928InitialWindow: ten segments, but no more than 14600 octets or two segments.
func TestRFC6928InitialWindow(t *testing.T) {
	for mss, want := range map[uint16]uint64{536: 5360, 1460: 14600, 4000: 14600, 8960: 17920} {
		r := newRig(t, func(r *rig) { r.params.MTUPayload = 10000 })
		s := r.syn()
		s.Opts.MSS = mss
		r.OpenPassive(r.now, &r.params, &s)
		r.in(r.ack(0), "")
		if got := r.startWindow(); got != want {
			t.Errorf("MSS %d: initial window %d, want %d", mss, got, want)
		}
	}
}
