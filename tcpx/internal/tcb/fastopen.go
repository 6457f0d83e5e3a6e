package tcb

import (
	"encoding/binary"
	"io"
)

// The length of a Fast Open cookie in octets (RFC 7413 §4.1.1).
const (
	MinCookieLen = 4
	MaxCookieLen = 16
)

// fastOpenMagic marks a Fast Open option among the experiments of kind 254 (RFC 7413 appendix A, RFC 6994).
const fastOpenMagic = 0xF989

// FastOpenOption is the Fast Open option of a SYN or SYN-ACK (RFC 7413 §4.1.1).
type FastOpenOption struct {
	// Present tells that the option is there. Without a cookie it asks for one.
	Present bool
	// Experimental tells that it came, or is to go, under the number that it had before RFC 7413: kind 254 with the magic number F989.
	Experimental bool
	// Len is the length of the cookie in octets, 0 for none; Data holds the cookie.
	Len  uint8
	Data [MaxCookieLen]byte
}

// Cookie returns the cookie, which shares memory with o.
func (o *FastOpenOption) Cookie() []byte { return o.Data[:o.Len] }

// SetCookie makes o an option with a cookie, or one without if it is empty. A cookie of a length that is not allowed is not taken, which SetCookie reports.
func (o *FastOpenOption) SetCookie(c []byte) bool {
	if len(c) != 0 && (len(c) < MinCookieLen || len(c) > MaxCookieLen || len(c)%2 != 0) {
		return false
	}
	o.Present = true
	o.Len = uint8(copy(o.Data[:], c))
	return true
}

// parseFastOpen takes a Fast Open option; one of a length that is not allowed is ignored (RFC 7413 §4.1.1), as is another experiment.
func parseFastOpen(kind byte, v []byte, o *Options) {
	exp := kind == optExperiment
	if exp {
		if len(v) < 2 || binary.BigEndian.Uint16(v) != fastOpenMagic {
			return
		}
		v = v[2:]
	}
	var f FastOpenOption
	if f.SetCookie(v) {
		f.Experimental = exp
		o.FastOpen = f
	}
}

// putFastOpen writes the option, padded, and returns the length. The longest takes 20 octets, which is what all others of a SYN leave.
func putFastOpen(b []byte, o *FastOpenOption) int {
	n := 2
	b[0] = optFastOpen
	if o.Experimental {
		b[0] = optExperiment
		binary.BigEndian.PutUint16(b[2:], fastOpenMagic)
		n = 4
	}
	n += copy(b[n:], o.Cookie())
	b[1] = byte(n)
	for ; n%4 != 0; n++ {
		b[n] = optNOP
	}
	return n
}

// FastOpen is a connection's part in TCP Fast Open (RFC 7413).
type FastOpen struct {
	// Offer is the option of our SYN, a cookie or the wish for one, or that of our SYN-ACK, a cookie. What is sent again goes without it.
	Offer FastOpenOption
	// Accept is for OpenPassive: the peer's cookie is good, so that the text of its SYN is taken and the user may read and write before the handshake is complete (§4.2.2).
	Accept bool
	// MSS is for OpenFast: what the peer announced when it gave the cookie, 0 if that is not known. It bounds the text of the SYN.
	MSS uint16

	// SynText is the number of octets of text of our SYN, or of the peer's if Accept is set. Taken is how many of them the SYN-ACK acknowledged.
	SynText, Taken int
	// Answered tells that the peer answered our SYN; AnswerMSS and Answer are the MSS and the Fast Open option of that answer. Lost tells that a SYN had to be sent again
	// before, and TooBig that this was for its size.
	Answered  bool
	AnswerMSS uint16
	Answer    FastOpenOption
	Lost      bool
	TooBig    bool

	// plain: SYN and SYN-ACK go without text and option from now on.
	plain bool
}

// OpenFast is OpenActive with text on the SYN (RFC 7413 §4.2.2): of n octets of r it takes as many as one SYN holds, and returns how many. FastOpen is set, with the option
// for the SYN in Offer.
func (t *TCB) OpenFast(now Time, p *OpenParams, r io.Reader, n int) (int, error) {
	t.begin(now, p)
	n, err := t.sndBuf.write(r, min(n, t.synRoom(), t.SndBuf), t.sndNxt)
	t.FastOpen.SynText = n
	t.openActive(now)
	t.account()
	return n, err
}

// TextOnSYN reports that the handshake of an active open is not complete and its SYN had text. The user was told that the text is taken, so that CLOSE does not do away with it, as it
// does in SYN-SENT without any (RFC 9293 §3.10.4).
func (t *TCB) TextOnSYN() bool {
	f := t.FastOpen
	return f != nil && !f.Accept && f.SynText > 0 && (t.state == StateSynSent || t.state == StateSynRecv)
}

// synRoom is how much text a SYN can carry: what the peer's MSS, ours as the user set it, and the path allow, less room for options, of which the path may add some.
func (t *TCB) synRoom() int {
	m := t.peerMSS // the default
	if known := t.FastOpen.MSS; known != 0 {
		m = uint32(known)
	}
	if m = min(m, t.mtuPayload); t.userMSS > 0 {
		m = min(m, t.userMSS)
	}
	return max(int(m)-MaxOptionLen, 0)
}

// synLeft counts the text of a SYN that has just left for the first time.
func (t *TCB) synLeft() {
	f := t.FastOpen
	if f == nil || t.state != StateSynSent || f.SynText == 0 || f.plain {
		return
	}
	t.sndNxt = t.iss.Add(1 + f.SynText)
	t.stats.bytesSent += uint64(f.SynText)
	t.stats.dataOut++
}

// plainSYN makes SYN and SYN-ACK go without text and Fast Open option from now on: something on the path may not like them (RFC 7413 §4.4).
func (t *TCB) plainSYN() {
	if f := t.FastOpen; f != nil {
		f.plain, f.Lost = true, true
	}
}

// synTooBig sends the SYN again at once without its text, since an ICMP error said that it did not fit the path. It reports whether there was text.
func (t *TCB) synTooBig(now Time) bool {
	f := t.FastOpen
	if f == nil || t.state != StateSynSent || f.SynText == 0 || f.plain {
		return false
	}
	f.plain, f.TooBig = true, true
	t.sendSYN(now)
	return true
}

// synAnswered takes what the answer to our SYN tells of Fast Open. Text that it does not acknowledge is sent again at once (RFC 7413 §4.2.2), which is no sign of
// congestion. SND.UNA is SEG.ACK, and the state is ESTABLISHED or what follows.
func (t *TCB) synAnswered(now Time, s *Segment) {
	f := t.FastOpen
	f.Answered = true
	if s.Opts.MSS != 0 {
		f.AnswerMSS = s.Opts.MSS
	}
	if s.Opts.FastOpen.Present {
		f.Answer = s.Opts.FastOpen
	}
	t.events |= EventFastOpen
	if f.SynText == 0 {
		return
	}
	text := t.iss + 1
	f.Taken = min(t.sndUna.Sub(text), f.SynText)
	t.sndBuf.ack(t.sndUna)
	t.stats.bytesAcked += uint64(f.Taken)
	left := f.SynText - f.Taken
	if left == 0 {
		return
	}
	t.startSender(now)
	mss := int(t.mss)
	t.rtx.Push(t.sndUna, uint32(left), uint16((left+mss-1)/mss), 0)
	r := t.rtx.At(0)
	r.MSS = uint16(min(mss, left))
	t.smp.OnSent(&r.State, now, r.Len, 0, false)
	t.rtx.Sent(r)
	t.rtx.MarkLost(0)
	t.rec.tooBig = true
	t.retransSince = now
	t.arm(timerRTO, t.rtoAt(now)) // should the link refuse it now
}

// acceptEarly takes the text of a SYN with a good cookie and lets the user have the connection (RFC 7413 §4.2.2). A FIN beside it is left to the peer to send again.
func (t *TCB) acceptEarly(now Time, syn *Segment) {
	t.set(flagEarly)
	t.sndWnd, t.maxSndWnd = uint32(syn.Wnd), uint32(syn.Wnd)
	t.events |= EventFastOpen | EventWritable
	n := min(syn.Len, t.space())
	if n <= 0 || t.pressure == PressureExhausted {
		return
	}
	syn.Payload.Truncate(int64(n))
	syn.Len = n
	t.noteArrival(now, syn)
	t.deliver(n, syn)
	t.FastOpen.SynText, t.FastOpen.Taken = n, n
}

// Early reports that the user may read and write although the state is SYN-RECEIVED.
func (t *TCB) Early() bool { return t.state == StateSynRecv && t.has(flagEarly) }

// earlyAcked goes on after the ACK that completes the handshake of a connection that the user has had since its SYN.
func (t *TCB) earlyAcked(now Time, s *Segment) {
	if !t.outstanding() {
		return
	}
	if t.has(flagSynRetrans) && s.Ack == t.sndUna && s.Opts.NumSACK == 0 {
		// SYN-ACK came through at last; before that the peer has dropped all else.
		t.enterLoss(now)
		t.rec.owed = true
		return
	}
	t.scheduleProbe(now)
}
