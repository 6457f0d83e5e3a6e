package tcb

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRFC7413OptionLengths: a cookie has 4 to 16 octets, an even number, or none; what has another length is ignored (RFC 7413 §4.1.1).
func TestRFC7413OptionLengths(t *testing.T) {
	for n := range 25 {
		for _, exp := range []bool{false, true} {
			b := []byte{optFastOpen, byte(2 + n)}
			if exp {
				b = []byte{optExperiment, byte(4 + n), 0xF9, 0x89}
			}
			cookie := bytes.Repeat([]byte{7}, n)
			var o Options
			if !ParseOptions(append(b, cookie...), &o) {
				t.Fatalf("%d octets: malformed", n)
			}
			want := n == 0 || n >= 4 && n <= 16 && n%2 == 0
			if f := o.FastOpen; f.Present != want || want && (f.Experimental != exp || !bytes.Equal(f.Cookie(), cookie)) {
				t.Errorf("a cookie of %d octets, experimental %v, was taken for %+v", n, exp, f)
			}
		}
	}
	for name, b := range map[string][]byte{
		"another experiment": {optExperiment, 4, 0xF9, 0x8A}, "an experiment without a number": {optExperiment, 2}, "half a number": {optExperiment, 3, 0xF9},
	} {
		var o Options
		if ParseOptions(b, &o); o.FastOpen.Present {
			t.Errorf("%s was taken for Fast Open", name)
		}
	}
}

// TestFastOpenOptionFits: the longest option goes beside all others of a SYN, and comes back as it was.
func TestFastOpenOptionFits(t *testing.T) {
	for _, exp := range []bool{false, true} {
		for n := 0; n <= MaxCookieLen; n += 2 {
			o := Options{MSS: 1460, SACKPermitted: true, TS: true, TSVal: 1, TSEcr: 2, WScale: 15}
			o.FastOpen.Experimental = exp
			if ok := o.FastOpen.SetCookie([]byte("0123456789abcdef")[:n]); ok != (n != 2) {
				t.Fatalf("SetCookie of %d octets: %v", n, ok)
			} else if !ok {
				continue
			}
			var b [MaxOptionLen]byte
			k := PutOptions(&b, &o)
			var back Options
			if k%4 != 0 || !ParseOptions(b[:k], &back) || back != o {
				t.Errorf("% x, of %+v, reads as %+v", b[:k], o, back)
			}
		}
	}
}

// cookie is an option with a cookie.
func cookie(s string) (o FastOpenOption) {
	o.SetCookie([]byte(s))
	return o
}

// fast gives a rig a part in Fast Open.
func fast(f FastOpen) func(*rig) { return func(r *rig) { r.Tune().FastOpen = &f } }

// openFast opens with text and returns the SYN.
func (r *rig) openFast(text string) []wire {
	r.tb.Helper()
	n, err := r.OpenFast(r.now, &r.params, strings.NewReader(text), len(text))
	if err != nil && err != io.EOF || n != r.FastOpen.SynText {
		r.tb.Fatalf("OpenFast took %d of %d: %v", n, len(text), err)
	}
	r.sane()
	r.now += 10 * Time(time.Millisecond)
	return r.take()
}

// synACK is the answer to a SYN: it acknowledges n octets of its text.
func (r *rig) synACK(n int) Segment {
	s := r.syn()
	s.Flags, s.Ack = SYN|ACK, rigISS.Add(1+n)
	return s
}

// TestFastOpenSYN: the SYN carries the cookie and as much text as one segment holds beside the longest options.
func TestFastOpenSYN(t *testing.T) {
	for _, tt := range []struct {
		name      string
		mss       uint16
		user, mtu int
		text      int
		want      string
	}{
		{"all of it", 1460, 0, 1460, 100, "S 0:100"},
		{"the cached MSS less 40", 1000, 0, 1460, 5000, "S 0:960"},
		{"the default MSS if none is cached", 0, 0, 1460, 5000, "S 0:496"},
		{"the path", 1460, 0, 600, 5000, "S 0:560"},
		{"TCP_MAXSEG", 1460, 800, 1460, 5000, "S 0:760"},
		{"nothing", 1460, 0, 1460, 0, "S 0:0"},
	} {
		r := newRig(t, fast(FastOpen{Offer: cookie("cookie"), MSS: tt.mss}))
		r.params.UserMSS, r.params.MTUPayload = tt.user, tt.mtu
		got := r.openFast(strings.Repeat("x", tt.text))
		t.Run(tt.name, func(t *testing.T) { r.tb = t; r.expect(got, tt.want) })
		if o := got[0].Opts.FastOpen; string(o.Cookie()) != "cookie" {
			t.Errorf("%s: option %+v", tt.name, o)
		}
	}
}

// TestFastOpenAnswers: what the SYN-ACK acknowledges of the SYN's text is done with, the rest is sent again at once (RFC 7413 §4.2.2).
func TestFastOpenAnswers(t *testing.T) {
	for _, tt := range []struct {
		acked int
		want  []string
		full  bool
	}{
		{100, []string{". 101:101 ack 1"}, true},
		{40, []string{"P. 41:101 ack 1"}, false},
		{0, []string{"P. 1:101 ack 1"}, false},
	} {
		r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
		r.openFast(strings.Repeat("x", 100))
		if r.sndNxt != rigISS.Add(101) {
			t.Errorf("SND.NXT %d after the SYN", r.sndNxt-rigISS)
		}
		s := r.synACK(tt.acked)
		s.Opts.FastOpen = cookie("another cookie..")
		got := r.in(s, "")
		r.expect(got, tt.want...)
		r.expectState(StateEstablished)
		f := r.FastOpen
		if !f.Answered || f.Taken != tt.acked || f.AnswerMSS != 1460 || string(f.Answer.Cookie()) != "another cookie.." || r.TakeEvents()&EventFastOpen == 0 {
			t.Errorf("%d acknowledged: %+v", tt.acked, f)
		}
		var i Info
		r.FillInfo(r.now, &i)
		if i.OptSynData != tt.full || i.BytesAcked != uint64(tt.acked) || i.BytesSent != uint64(200-tt.acked) || i.Delivered != 1 {
			t.Errorf("%d acknowledged: Info has SynData %v, acked %d, sent %d, delivered %d", tt.acked, i.OptSynData, i.BytesAcked, i.BytesSent, i.Delivered)
		}
		if got := i.SndCwndBytes; r.sender != nil && got < uint64(10*r.mss) {
			t.Errorf("%d acknowledged: the window is %d: refused text is no congestion", tt.acked, got)
		}
		a := r.ack(0)
		r.in(a, "")
		if r.SendQueueSize() != 0 || r.outstanding() {
			t.Errorf("%d octets are left when all is acknowledged", r.SendQueueSize())
		}
		if r.sender != nil && r.rec.state != caOpen {
			t.Errorf("state %d of recovery after refused text", r.rec.state)
		}
	}
}

// TestFastOpenLostSYN: what is sent again goes without text and option (RFC 7413 §4.4), and an ACK of the text is good all the same.
func TestFastOpenLostSYN(t *testing.T) {
	for _, acked := range []int{0, 100} {
		r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
		r.openFast(strings.Repeat("x", 100))
		again := r.sleep(time.Second)
		r.expect(again, "S 0:0")
		if again[0].Opts.FastOpen.Present {
			t.Error("the SYN has its option again")
		}
		r.in(r.synACK(acked), "")
		r.expectState(StateEstablished)
		if f := r.FastOpen; !f.Lost || f.Taken != acked {
			t.Errorf("%+v", f)
		}
		if want := 100 - acked; r.SendQueueSize() != want {
			t.Errorf("%d octets are on their way, want %d", r.SendQueueSize(), want)
		}
	}
}

// TestFastOpenTooBig: an ICMP error about the SYN's size brings the SYN again at once, without its text, and takes nothing from the window.
func TestFastOpenTooBig(t *testing.T) {
	r := newRig(t, fast(FastOpen{Offer: cookie("cookie"), MSS: 1460}))
	r.expect(r.openFast(strings.Repeat("x", 1400)), "S 0:1400")
	if !r.PacketTooBig(r.now, rigISS, 1000) {
		t.Fatal("the error was not taken")
	}
	r.expect(r.take(), "S 0:0")
	if r.PacketTooBig(r.now, rigISS, 1000); len(r.take()) != 0 {
		t.Error("a second error brought the SYN again")
	}
	r.expect(r.in(r.synACK(0), ""), ". 1:1001 ack 1", "P. 1001:1401 ack 1")
}

// TestFastOpenBadAnswers: an ACK beyond the text, or of nothing, is answered with RST and changes nothing (RFC 9293 §3.10.7.3).
func TestFastOpenBadAnswers(t *testing.T) {
	for _, acked := range []int{-1, 101, 100000} {
		r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
		r.openFast(strings.Repeat("x", 100))
		s := r.synACK(acked)
		got := r.in(s, "")
		if len(got) != 1 || got[0].Flags != RST || got[0].Seq != s.Ack || r.FastOpen.Answered {
			t.Errorf("ACK of %d: sent %v, %+v", acked, got, r.FastOpen)
		}
		r.expectState(StateSynSent)
	}
}

// TestFastOpenSimultaneous: SYNs with text that cross acknowledge each other's SYN alone, and the text follows (RFC 9293 figure 7).
func TestFastOpenSimultaneous(t *testing.T) {
	for _, acked := range []int{0, 60, 100} {
		r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
		r.openFast(strings.Repeat("x", 100))
		s := r.syn()
		s.Opts.FastOpen = cookie("cookie")
		got := r.in(s, strings.Repeat("y", 50))
		r.expect(got, "S. 0:0 ack 1")
		if got[0].Opts.FastOpen.Present {
			t.Error("the SYN-ACK has an option")
		}
		a := r.synACK(acked)
		r.in(a, "")
		r.expectState(StateEstablished)
		if r.SendQueueSize() != 100-acked || r.ReadSize() != 0 {
			t.Errorf("%d acknowledged: %d left, %d to read", acked, r.SendQueueSize(), r.ReadSize())
		}
		all := r.ack(0)
		all.Seq = rigIRS + 1
		r.in(all, strings.Repeat("y", 50))
		if r.SendQueueSize() != 0 || len(r.read()) != 50 {
			t.Error("the text did not get through")
		}
	}
}

// early opens passively with a good cookie.
func (r *rig) early(text string) []wire {
	r.tb.Helper()
	r.Tune().FastOpen = &FastOpen{Accept: true}
	s := r.syn()
	s.Payload.Append(viewOf(text))
	s.Len = len(text)
	r.OpenPassive(r.now, &r.params, &s)
	s.Payload.Release()
	r.sane()
	r.expectState(StateSynRecv)
	return r.take()
}

// TestFastOpenAccepted: the text of a SYN with a good cookie is acknowledged with it and can be read, and the user can write, before the handshake is over.
func TestFastOpenAccepted(t *testing.T) {
	r := newRig(t)
	r.expect(r.early("request"), "S. 0:0 ack 8")
	if ev := r.TakeEvents(); ev&(EventFastOpen|EventReadable|EventWritable) != EventFastOpen|EventReadable|EventWritable || ev&EventEstablished != 0 || !r.Early() {
		t.Errorf("events %b", ev)
	}
	if got := r.read(); got != "request" {
		t.Errorf("read %q", got)
	}
	r.expect(r.take()) // no window update: the peer would drop it
	r.expect(r.write("answer"), "P. 1:7 ack 8")
	r.expect(r.in(r.ack(0), ""))
	r.expectState(StateEstablished)
	if r.TakeEvents()&EventEstablished == 0 || r.Early() || r.SendQueueSize() != 0 {
		t.Error("the handshake is not complete")
	}
	var i Info
	r.FillInfo(r.now, &i)
	if !i.OptSynData || !i.OptFastOpenChild || i.BytesReceived != 7 {
		t.Errorf("Info %v %v %d", i.OptSynData, i.OptFastOpenChild, i.BytesReceived)
	}
}

// TestFastOpenRefused: without a good cookie the text of the SYN is left to the peer to send again, and SYN-ACK brings a cookie.
func TestFastOpenRefused(t *testing.T) {
	r := newRig(t, fast(FastOpen{Offer: cookie("a good cookie...")}))
	s := r.syn()
	s.Payload.Append(viewOf("request"))
	s.Len = 7
	r.OpenPassive(r.now, &r.params, &s)
	s.Payload.Release()
	got := r.take()
	r.expect(got, "S. 0:0 ack 1")
	if string(got[0].Opts.FastOpen.Cookie()) != "a good cookie..." || r.ReadSize() != 0 || r.Early() || r.TakeEvents()&EventFastOpen != 0 {
		t.Error("the text was taken, or no cookie was given")
	}
	if again := r.sleep(time.Second); len(again) != 1 || again[0].Opts.FastOpen.Present {
		t.Errorf("SYN-ACK again: %v", again)
	}
}

// TestFastOpenWindow: until the final ACK the window of the SYN, not scaled, bounds what is sent.
func TestFastOpenWindow(t *testing.T) {
	r := newRig(t)
	r.Tune().FastOpen = &FastOpen{Accept: true}
	s := r.syn()
	s.Wnd = 2000
	r.OpenPassive(r.now, &r.params, &s)
	r.take()
	r.expect(r.write(strings.Repeat("x", 5000)), ". 1:1461 ack 1")
	if r.armed(timerPersist) || r.armed(timerProbe) {
		t.Error("a timer of ESTABLISHED runs")
	}
	a := r.ack(0)
	a.Ack, a.Wnd = rigISS+1, 8000
	r.expect(r.in(a, ""), ". 1461:2921 ack 1", ". 2921:4381 ack 1", "P. 4381:5001 ack 1")
}

// TestFastOpenTimeout: until the final ACK only SYN-ACK is sent again; the user hears of the end, as he has the connection.
func TestFastOpenTimeout(t *testing.T) {
	r := newRig(t)
	r.early("request")
	r.expect(r.write("answer"), "P. 1:7 ack 8")
	var all []string
	for i := 0; r.state == StateSynRecv && i < 100; i++ {
		for _, w := range r.sleep(10 * time.Second) {
			all = append(all, w.String())
		}
	}
	if got, want := strings.Join(all, "; "), strings.TrimSuffix(strings.Repeat("S. 0:0 ack 8; ", synAckRetries), "; "); got != want {
		t.Errorf("sent again: %s", got)
	}
	if r.expectState(StateClosed); r.Err() != ReasonTimeout || r.read() != "request" {
		t.Errorf("ended with %v", r.Err())
	}
}

// TestFastOpenLostSYNACK: an ACK that comes after SYN-ACK was sent again, and acknowledges no text, tells that the peer dropped what it got before.
func TestFastOpenLostSYNACK(t *testing.T) {
	for _, tt := range []struct {
		ack  Seq
		want []string
	}{
		{rigISS.Add(1), []string{". 1:1461 ack 8"}}, // one segment, as after a time-out
		{rigISS.Add(2921), nil},
	} {
		r := newRig(t)
		r.early("request")
		r.expect(r.write(strings.Repeat("x", 2920)), ". 1:1461 ack 8", "P. 1461:2921 ack 8")
		r.expect(r.sleep(time.Second), "S. 0:0 ack 8")
		a := r.ack(0)
		a.Ack = tt.ack
		r.expect(r.in(a, ""), tt.want...)
		r.expectState(StateEstablished)
		r.in(r.ack(0), "")
		if r.SendQueueSize() != 0 {
			t.Errorf("%d octets are left", r.SendQueueSize())
		}
	}
}

// TestFastOpenFinalACKIsNoDuplicate: it acknowledges nothing of the text under way, and tells of no loss all the same.
func TestFastOpenFinalACKIsNoDuplicate(t *testing.T) {
	r := newRig(t)
	r.early("request")
	r.write(strings.Repeat("x", 5000))
	a := r.ack(0)
	a.Ack = rigISS + 1
	r.expect(r.in(a, ""))
	if r.dupAcks != 0 || !r.armed(timerRTO) || !r.armed(timerProbe) {
		t.Errorf("%d duplicates, timers %v", r.dupAcks, r.timers)
	}
}

// TestFastOpenEarlyEnds: how a connection ends that the user has before its handshake is complete.
func TestFastOpenEarlyEnds(t *testing.T) {
	rst := func(r *rig) []wire { return r.in(Segment{Seq: r.rcvNxt, Flags: RST}, "") }
	for _, tt := range []struct {
		name   string
		do     func(r *rig) []wire
		want   []string
		state  State
		reason Reason
	}{
		{"RST", rst, nil, StateClosed, ReasonReset},
		{"RST in the window", func(r *rig) []wire { return r.in(Segment{Seq: r.rcvNxt + 1, Flags: RST}, "") }, []string{". 1:1 ack 8"}, StateSynRecv, ReasonNone},
		{"another SYN in the window", func(r *rig) []wire { s := r.syn(); s.Seq = r.rcvNxt + 9; return r.in(s, "") }, []string{". 1:1 ack 8"}, StateSynRecv, ReasonNone},
		{"the SYN again", func(r *rig) []wire { r.now += Time(time.Second / 2); return r.in(r.syn(), "request") }, []string{"S. 0:0 ack 8"}, StateSynRecv, ReasonNone},
		{"close, all read", func(r *rig) []wire { r.read(); r.Release(r.now); return r.take() }, []string{"F. 1:1 ack 8"}, StateSynRecv, ReasonNone},
		{"close, unread", func(r *rig) []wire { r.Release(r.now); return r.take() }, []string{"R. 1:1 ack 8"}, StateClosed, ReasonAborted},
		{"shutdown after a write", func(r *rig) []wire { r.write("bye"); r.ShutdownWrite(r.now); return r.take() }, []string{"F. 4:4 ack 8"}, StateSynRecv, ReasonNone},
		{"shutdown, then the ACK", func(r *rig) []wire { r.ShutdownWrite(r.now); r.take(); return r.in(r.ack(0), "") }, nil, StateFinWait2, ReasonNone},
		{"FIN with the ACK", func(r *rig) []wire { return r.in(r.ack(FIN), "") }, []string{". 1:1 ack 9"}, StateCloseWait, ReasonNone},
		{"abort", func(r *rig) []wire { r.Abort(r.now, ReasonAborted); return r.take() }, []string{"R. 1:1 ack 8"}, StateClosed, ReasonAborted},
		{"host unreachable", func(r *rig) []wire { r.ICMPError(r.now, rigISS, ReasonHostUnreachable, false); return r.take() }, nil, StateSynRecv, ReasonNone},
		{"bad ACK", func(r *rig) []wire { a := r.ack(0); a.Ack += 5; return r.in(a, "") }, []string{"R 6:6"}, StateSynRecv, ReasonNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.early("request")
			r.now += Time(time.Millisecond)
			r.expect(tt.do(r), tt.want...)
			r.expectState(tt.state)
			if r.Err() != tt.reason {
				t.Errorf("reason %v, want %v", r.Err(), tt.reason)
			}
		})
	}
}

// TestFastOpenDeferAccept: text has come already, so that there is nothing to wait for.
func TestFastOpenDeferAccept(t *testing.T) {
	r := newRig(t)
	r.Tune().DeferAccept = time.Second
	r.early("request")
	r.in(r.ack(0), "")
	r.expectState(StateEstablished)
}

// TestFastOpenLittleSpace: of the text as much is taken as the buffer holds, and nothing if memory is exhausted.
func TestFastOpenLittleSpace(t *testing.T) {
	r := newRig(t)
	r.RcvBuf = 8
	r.expect(r.early("request"), "S. 0:0 ack 5")
	if got := r.read(); got != "requ" {
		t.Errorf("read %q", got)
	}
	r = newRig(t)
	r.pressure = PressureExhausted
	r.Write(r.now, strings.NewReader(""), 0, false, false)
	r.TCB.pressure = PressureExhausted
	r.expect(r.early("request"), "S. 0:0 ack 1")
}

// TestFastOpenRefusedByLink: a SYN that the link had no room for is sent with all that belongs to it.
func TestFastOpenRefusedByLink(t *testing.T) {
	r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
	r.refuse = true
	r.expect(r.openFast("request"))
	r.refuse = false
	got := r.sleep(20 * time.Millisecond)
	r.expect(got, "S 0:7")
	if !got[0].Opts.FastOpen.Present {
		t.Error("without its cookie")
	}
	r.expect(r.in(r.synACK(7), ""), ". 8:8 ack 1")
}

// TestFastOpenSimultaneousClose: FIN does not go before text that the peer has not taken.
func TestFastOpenSimultaneousClose(t *testing.T) {
	r := newRig(t, fast(FastOpen{Offer: cookie("cookie")}))
	r.openFast("request")
	r.in(r.syn(), "")
	r.ShutdownWrite(r.now)
	r.expect(r.take())
	a := r.synACK(0)
	r.expect(r.in(a, ""), "P. 1:8 ack 1", "F. 8:8 ack 1")
	r.expectState(StateFinWait1)
}
