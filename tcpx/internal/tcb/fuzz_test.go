package tcb

import (
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
	"github.com/plumbline/plumbline/congestion/reno"
	"gvisor.dev/gvisor/pkg/buffer"
)

// choices is a fuzzer's input as a source of choices; it yields zeros when it is used up.
type choices struct{ b []byte }

func (s *choices) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	x := s.b[0]
	s.b = s.b[1:]
	return x
}

func (s *choices) u16() int { return int(s.byte())<<8 | int(s.byte()) }

// near returns one of the given numbers or a number close to it, seldom any number at all.
func (s *choices) near(of ...Seq) Seq {
	c := s.byte()
	base := of[int(c&15)%len(of)]
	switch c >> 4 {
	case 0, 1, 2, 3, 4, 5, 6:
		return base
	case 7, 8:
		return base.Add(int(int8(s.byte())))
	case 9, 10, 11:
		return base.Add(int(int16(s.u16())))
	case 12:
		return base + 1
	case 13:
		return base - 1
	case 14:
		return base + 1<<31
	default:
		return Seq(s.u16()<<16 | s.u16())
	}
}

// octet is what both streams carry at an offset, so that every octet sent or read can be judged alone.
func octet(off Seq) byte { return byte(off ^ off>>8 ^ off>>16*3) }

// stream yields the octets from an offset on.
type stream struct{ off Seq }

func (s *stream) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = octet(s.off)
		s.off++
	}
	return len(b), nil
}

// hostile is a core whose peer, user, network and clock are the fuzzer.
type hostile struct {
	TCB
	tb     testing.TB
	in     choices
	cfg    Config
	params OpenParams
	now    Time
	rng    *rand.Rand
	refuse bool
	// wild gives the connection a finder of path MTUs that is out of its mind.
	wild   bool
	scarce Pressure
	held   int
	// sent is how many segments have left since the last step began.
	sent int
	// end is how far the stream was sent, advertised the right edge that we have shown.
	end, advertised, lastAdv Seq
	shown                    bool
	// maxRcv and maxSnd are the largest buffers that the user has asked for.
	maxRcv, maxSnd int
	// offset is how much the user has read; whether the peer's FIN may lie in between is known from ReadEOF only.
	offset Seq
	closed bool
}

// FuzzTCB drives one core through user calls, segments of a hostile peer, ICMP messages, time-outs, refusals of the link, memory pressure and changes of settings,
// and checks after each step what RFC 9293 promises.
func FuzzTCB(f *testing.F) {
	for i := range 16 {
		b := make([]byte, 600)
		for j := range b {
			b[j] = byte(j*(2*i+7) ^ j>>3*i)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8192 {
			return
		}
		h := newHostile(t, b)
		for len(h.in.b) > 0 && h.state != StateClosed {
			h.step()
			h.check()
		}
		h.finish()
	})
}

func newHostile(tb testing.TB, b []byte) *hostile {
	h := &hostile{tb: tb, in: choices{b}, now: Time(time.Hour), rng: rand.New(rand.NewPCG(1, 2)), cfg: *testConfig()}
	c := h.in.byte()
	h.cfg.Timestamps, h.cfg.SACK, h.cfg.WindowScaling, h.cfg.RACK = c&1 != 0, c&2 != 0, c&4 != 0, c&8 != 0
	h.cfg.Moderate = c&16 != 0
	h.wild = c&(32|128) == 32|128
	h.cfg.ECN = ECNMode(c >> 6)
	if c&32 != 0 {
		h.cfg.TimeWait, h.cfg.MaxRetries = time.Second, 3
	}
	h.params = OpenParams{ISS: h.in.near(0, 1<<31, 1<<32-2000), TSOffset: 5, MTUPayload: 1460, DefaultMSS: 536, AdvertisedMSS: 1460}
	if h.wild {
		h.params.Steps = [2]uint16{1160, 512}
	}
	c = h.in.byte()
	if c&1 != 0 {
		h.params.GSOMax = 16000
	}
	if c&2 != 0 {
		h.params.MTUPayload = int(h.in.byte()) * 8
	}
	if c&4 != 0 {
		h.params.UserMSS = int(h.in.byte())
	}
	s := testSettings()
	if c&8 != 0 {
		s.RcvBuf, s.RcvBufLocked = 256<<(h.in.byte()%12), true
	}
	if c&16 != 0 {
		s.SndBuf, s.SndBufLocked = 256<<(h.in.byte()%10), true
	}
	s.DeferAccept = time.Duration(c>>5&1) * 3 * time.Second
	s.KeepAlive, s.KeepIdle = c>>6&1 != 0, 10*time.Second
	h.Init(&h.cfg, h, s)
	h.maxRcv, h.maxSnd = s.RcvBuf, s.SndBuf
	if c>>5&3 == 3 {
		h.Tune().FastOpen = &FastOpen{Offer: cookie("a fuzzer's cookie"[:4+c&8]), MSS: uint16(c) << 4}
	}
	h.open(c >> 7)
	h.check()
	return h
}

// open opens in one of the three ways.
func (h *hostile) open(active byte) {
	h.end = h.params.ISS + 1
	if active != 0 {
		if h.FastOpen != nil {
			_, _ = h.OpenFast(h.now, &h.params, &stream{0}, h.in.u16()%3000)
		} else {
			h.OpenActive(h.now, &h.params)
		}
		return
	}
	s := h.segment()
	c := h.in.byte()
	if h.FastOpen != nil && c&7 != 0 {
		h.FastOpen.Accept = true
		b := make([]byte, s.Len)
		_, _ = (&stream{0}).Read(b)
		s.Payload.Release()
		s.Payload = buffer.MakeWithData(b)
	}
	if c&7 == 0 {
		h.params.CookieOpts = s.Opts
		s.Flags, s.Ack = ACK, h.params.ISS+1
		h.OpenCookie(h.now, &h.params, &s)
		h.offset = 0
	} else {
		s.Flags = SYN
		h.OpenPassive(h.now, &h.params, &s)
	}
	s.Payload.Release()
}

// segment makes a segment whose fields are near those that would be right.
func (h *hostile) segment() Segment {
	in := &h.in
	s := Segment{Segs: 1, Wnd: uint16(in.u16())}
	ecn := in.byte()
	s.ECN = ecn & 3
	s.Seq = in.near(h.rcvNxt, h.rcvNxt, h.rcvAdv, h.irs, h.rcvNxt.Add(h.reasm.bytes))
	s.Ack = in.near(h.sndNxt, h.sndUna, h.sndUna+Seq(h.mss), h.iss, h.sndNxt+1)
	c := in.byte()
	s.Flags = ACK
	if c < 128 {
		s.Flags |= PSH
	}
	if c&15 < 5 && in.byte() >= 40 {
		c |= 15 // what may end the connection is rare, so that much else happens before
	}
	switch c & 15 {
	case 0:
		s.Flags |= SYN
	case 1:
		s.Flags = SYN
	case 2:
		s.Flags |= FIN
	case 3:
		s.Flags |= RST
	case 4:
		s.Flags = RST
	case 5, 6:
		s.Flags |= URG
		s.Up = uint16(in.u16())
	case 7:
		s.Flags = Flags(in.byte())
	}
	s.Flags |= aceFlags(ecn >> 2)
	c = in.byte()
	switch c & 7 {
	case 0, 1:
		s.Len = int(c >> 3)
	case 2, 3:
		s.Len = 1460
	case 4:
		s.Len = in.u16()
		s.Segs = max(s.Len/1460, 1)
	}
	h.options(&s)
	if s.Len > 0 {
		b := make([]byte, s.Len)
		first := s.Seq - h.irs - 1
		if s.Flags.Has(SYN) {
			first++
			if h.state == StateSynSent {
				first = 0
			}
		}
		_, _ = (&stream{first}).Read(b)
		s.Payload = buffer.MakeWithData(b)
	}
	return s
}

func (h *hostile) options(s *Segment) {
	in := &h.in
	c := in.byte()
	o := &s.Opts
	if h.has(flagTS) == (c&7 != 0) {
		o.TS = true
		o.TSVal = uint32(in.near(Seq(h.tsRecent), Seq(h.tsRecent)+1))
		o.TSEcr = uint32(in.near(Seq(h.tsNow(h.now))))
	}
	if s.Flags.Has(SYN) {
		o.MSS, o.WScale, o.SACKPermitted = uint16(in.u16()), in.byte()&15, c&8 != 0
	}
	if n := c >> 4 & 3; n > 0 && c&8 != 0 {
		for i := range n {
			l := in.near(h.sndUna, h.sndUna+Seq(h.mss), h.sndNxt)
			o.SACK[i] = Block{l, l.Add(in.u16() % 5000)}
		}
		o.NumSACK = n
	}
}

// arrive passes s through its encoded options, as the owner would.
func (h *hostile) arrive(s Segment) {
	var b [MaxOptionLen]byte
	n := PutOptions(&b, &s.Opts)
	ParseOptions(b[:n], &s.Opts)
	h.SegmentArrives(h.now, &s)
	s.Payload.Release()
}

// step is one event.
func (h *hostile) step() {
	in := &h.in
	h.sent = 0
	switch c := in.byte(); c % 20 {
	case 0, 1, 2, 3:
		h.arrive(h.segment())
	case 4:
		s := h.segment()
		s.More = true
		h.arrive(s)
		h.Flush(h.now)
	case 5, 6, 7:
		h.arrive(h.good())
	case 8, 9:
		_, _ = h.Write(h.now, &stream{h.sndBuf.next - h.iss - 1}, in.u16()%20000, c&32 != 0, c&64 != 0)
	case 10, 11:
		h.consume(in.u16() % 40000)
	case 12:
		h.sleep(time.Duration(in.byte()) * time.Millisecond)
	case 13:
		h.sleep(time.Duration(in.byte()) * 40 * time.Millisecond)
	case 14:
		if d := h.Deadline(); d != 0 {
			h.sleep(max(d-h.now, 0))
		}
	case 15:
		h.refuse = c >= 128
		h.scarce = Pressure(c >> 4 & 3)
	case 16:
		h.icmp(c)
	case 17:
		h.change()
	case 18:
		if in.byte() < 80 {
			h.user(c)
		}
	case 19:
		// Minutes, seldom weeks.
		d := time.Duration(in.byte()) * time.Second
		if in.byte() < 10 {
			d *= 24 * 60 * 60 / 8
		}
		h.sleep(d)
	}
}

// good is what a peer in order would send next.
func (h *hostile) good() Segment {
	c := h.in.byte()
	s := Segment{Seq: h.rcvNxt, Ack: h.sndNxt, Flags: ACK, Wnd: uint16(c) << 8, Segs: 1}
	if h.state == StateSynSent {
		s.Seq, s.Flags = Seq(c)<<24-1, SYN|ACK
		s.Opts = Options{MSS: 1460, WScale: c & 15, SACKPermitted: c&16 != 0, TS: c&32 != 0, TSVal: 7}
		return s
	}
	if h.has(flagTS) {
		s.Opts.TS, s.Opts.TSVal, s.Opts.TSEcr = true, h.tsRecent+uint32(c&1), h.tsNow(h.now)
	}
	if c&3 == 0 && h.rcvWnd() > 0 {
		b := make([]byte, min(h.rcvWnd(), int(c)*64))
		_, _ = (&stream{s.Seq - h.irs - 1}).Read(b)
		s.Payload, s.Len = buffer.MakeWithData(b), len(b)
	}
	return s
}

func (h *hostile) icmp(c byte) {
	q := h.in.near(h.sndUna, h.sndNxt, h.sndNxt-1)
	if c&32 != 0 {
		h.ICMPError(h.now, q, ReasonHostUnreachable, c&64 != 0)
	} else {
		if n := h.in.u16(); n&(1<<15) == 0 {
			h.PacketTooBig(h.now, q, n%2000)
		} else {
			h.HintTooBig(q, n%2000)
		}
	}
}

func (h *hostile) change() {
	c := h.in.byte()
	v := h.in.u16()
	switch c % 16 {
	case 0:
		h.NoDelay = v&1 != 0
	case 1:
		h.Cork = v&1 != 0
	case 2:
		h.QuickAck = uint8(v % 3)
	case 3:
		h.KeepAlive, h.KeepIdle, h.KeepIntvl, h.KeepCount = v&1 != 0, time.Duration(v)*time.Millisecond, time.Duration(v/3)*time.Millisecond, v%5
	case 4:
		h.UserTimeout = time.Duration(v) * time.Millisecond
	case 5:
		h.Linger2 = time.Duration(v-1000) * time.Millisecond
	case 6:
		h.WindowClamp = v
	case 7:
		h.NotSentLowat = v % 5000
	case 8:
		h.RcvLowat = v
	case 9:
		h.RcvBuf = 256 + v*4
		h.maxRcv = max(h.maxRcv, h.RcvBuf)
	case 10:
		h.SndBuf = 256 + v*4
		h.maxSnd = max(h.maxSnd, h.SndBuf)
	case 11:
		h.MaxPacingRate = uint64(v) * 100
	case 12:
		h.SetMTUPayload(h.now, v%9000)
	case 13:
		f := []func() congestion.Controller{reno.New, cubic.New}[v&1]
		h.SetController(h.now, f())
	case 14:
		h.TCB.MaxRetries = v % 20
	case 15:
		h.MinRTO, h.MaxRTO = time.Duration(v)*time.Millisecond, time.Duration(v)*10*time.Millisecond
	}
	h.SettingsChanged(h.now)
}

func (h *hostile) user(c byte) {
	switch c >> 5 {
	case 0, 1:
		h.ShutdownWrite(h.now)
	case 2:
		h.ShutdownRead()
	case 3, 4:
		h.Release(h.now)
	case 5:
		if c&16 != 0 {
			h.Abort(h.now, ReasonAborted)
		}
	case 6:
		h.UrgentMark()
		h.SoftError()
		var i Info
		h.FillInfo(h.now, &i)
	case 7:
		var b [100]byte
		_, _ = h.Read(h.now, discard{b[:]}, 100, true)
	}
}

type discard struct{ b []byte }

func (d discard) Write(p []byte) (int, error) { return len(p), nil }

// consume reads and compares with what the peer has sent.
func (h *hostile) consume(n int) {
	_, err := h.Read(h.now, (*reader)(h), n, false)
	if err != nil {
		h.tb.Fatalf("read: %v", err)
	}
}

type reader hostile

func (r *reader) Write(b []byte) (int, error) {
	for i, x := range b {
		if want := octet(r.offset); x != want {
			r.tb.Fatalf("octet %d of the stream (%d of this read) is %d, want %d", r.offset, i, x, want)
		}
		r.offset++
	}
	return len(b), nil
}

// sleep lets time pass. Timers must come to rest.
func (h *hostile) sleep(d time.Duration) {
	end := h.now + d
	for n := 0; h.Deadline() != 0 && h.Deadline() <= end; n++ {
		if h.Deadline() > h.now {
			h.now = h.Deadline()
		}
		before := h.now
		h.OnTimer(h.now)
		h.check()
		if d := h.Deadline(); d != 0 && d <= before {
			h.tb.Fatalf("%v: a timer is due at %v after OnTimer at %v: %v", h.state, d, before, h.timers)
		}
		if n > 2000 {
			return // a link that refuses for hours is tried all the time
		}
		h.sent = 0
	}
	h.now = end
}

var _ io.Writer = discard{}
