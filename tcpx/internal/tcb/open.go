package tcb

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// begin fills in what both kinds of OPEN share.
func (t *TCB) begin(now Time, p *OpenParams) {
	t.iss, t.sndUna, t.sndNxt = p.ISS, p.ISS, p.ISS+1
	t.sndUp, t.smallEnd = t.iss, t.iss
	t.sndBuf.next = t.iss + 1
	t.tsOffset = p.TSOffset
	t.mtuPayload = uint32(max(p.MTUPayload, minMTUPayload))
	t.peerMSS = uint32(p.DefaultMSS)
	t.userMSS = uint32(max(p.UserMSS, 0))
	t.advMSS = uint32(p.AdvertisedMSS)
	t.gsoMax = uint32(max(p.GSOMax, 0))
	t.rcvMSS = max(min(t.advMSS, uint32(p.DefaultMSS)), minPeerMSS)
	t.steps = p.Steps
	t.rcvWScale = 0
	t.lastRecv, t.lastAck = now, now
}

// minMTUPayload is the least that the send MSS is computed from: IPv4's minimum MTU of 68 less two headers of 20 still leaves room for options and text.
const minMTUPayload = 68 - 20 - 20 + 20

// windowScale returns the shift that lets the largest receive buffer be announced (RFC 7323 §2.3): all of it, as in Linux, although only a part is offered.
func (t *TCB) windowScale() uint8 {
	space := t.RcvBuf
	if !t.RcvBufLocked {
		space = max(space, t.cfg.RcvBufMax)
	}
	var w uint8
	for w < MaxWindowScale && space>>w > 65535 {
		w++
	}
	return w
}

// OpenActive performs an active OPEN (RFC 9293 §3.10.1): the SYN leaves at once and the state becomes SYN-SENT.
func (t *TCB) OpenActive(now Time, p *OpenParams) {
	t.begin(now, p)
	t.openActive(now)
}

func (t *TCB) openActive(now Time) {
	if t.cfg.WindowScaling {
		t.rcvWScale = t.windowScale()
	}
	t.setState(StateSynSent)
	t.sendSYN(now)
}

// OpenPassive creates the connection for a SYN that arrived at a listener (RFC 9293 §3.10.7.2, third step): the state becomes SYN-RECEIVED and SYN-ACK leaves.
func (t *TCB) OpenPassive(now Time, p *OpenParams, syn *Segment) {
	t.begin(now, p)
	t.set(flagPassive)
	t.learnSYN(now, syn)
	t.setState(StateSynRecv)
	if t.FastOpen != nil && t.FastOpen.Accept {
		t.acceptEarly(now, syn)
	}
	t.sendSYN(now)
	t.account()
}

// OpenCookie creates the connection for the ACK of a SYN cookie (RFC 4987 §3.6) that the owner has verified; the state becomes ESTABLISHED. ack is that ACK, which
// the owner then passes to SegmentArrives. p.ISS is the cookie and p.CookieOpts the options of the SYN that it remembered.
func (t *TCB) OpenCookie(now Time, p *OpenParams, ack *Segment) {
	t.begin(now, p)
	t.set(flagPassive)
	syn := Segment{Seq: ack.Seq - 1, Flags: SYN, Wnd: ack.Wnd, Opts: p.CookieOpts}
	if syn.Opts.TS {
		syn.Opts.TSVal = ack.Opts.TSVal
	}
	t.learnSYN(now, &syn)
	t.rcvAdv = t.rcvNxt.Add(min(t.space(), 65535)) // as the SYN-ACK said
	t.sndUna = t.iss + 1
	t.setState(StateEstablished)
	t.firstWindow(ack)
	t.established(now)
}

// learnSYN takes what the peer's SYN or SYN-ACK says.
func (t *TCB) learnSYN(now Time, s *Segment) {
	wnd := t.rcvWnd() // what our SYN offered
	t.irs, t.rcvNxt = s.Seq, s.Seq+1
	t.rcvAdv, t.lastAckSent = t.rcvNxt.Add(wnd), t.rcvNxt
	t.rcvUp = t.rcvNxt
	o := &s.Opts
	if o.MSS != 0 {
		t.peerMSS = max(uint32(o.MSS), minPeerMSS)
	}
	if o.TS && t.cfg.Timestamps {
		t.set(flagTS | flagTSRecent)
		t.tsRecent, t.tsRecentAt = o.TSVal, seconds(now)
	}
	if o.SACKPermitted && t.cfg.SACK {
		t.set(flagSACK)
	}
	if o.WScale != 0 && t.cfg.WindowScaling {
		t.set(flagWScale)
		t.sndWScale = min(o.WScale-1, MaxWindowScale)
		if t.state != StateSynSent {
			t.rcvWScale = t.windowScale()
		} // else what our SYN offered holds, whatever has become of the buffer
	} else {
		t.sndWScale, t.rcvWScale = 0, 0
	}
	t.learnECN(s)
	t.computeMSS()
}

// minPeerMSS keeps a hostile MSS option from making us send one octet a segment; it leaves room for every legal option (as in Linux).
const minPeerMSS = 48

// computeMSS sets the effective send MSS: Eff.snd.MSS of RFC 9293 §3.7.1 less the options that every segment carries (RFC 6691).
func (t *TCB) computeMSS() {
	m := min(t.peerMSS, t.mtuPayload)
	if t.userMSS > 0 {
		m = min(m, t.userMSS)
	}
	m = max(m, minPeerMSS)
	if t.has(flagTS) {
		m -= tsOptionLen
	}
	t.mss = m
}

// tsOptionLen is what the timestamps option costs, padded.
const tsOptionLen = 12

// buildSYN prepares SYN or SYN-ACK, by state, in t.out.
func (t *TCB) buildSYN(now Time) *Out {
	var o Options
	o.MSS = uint16(t.advMSS)
	active := t.state == StateSynSent
	if active && t.cfg.Timestamps || t.has(flagTS) {
		o.TS, o.TSVal, o.TSEcr = true, t.tsNow(now), 0
		if !active {
			o.TSEcr = t.tsRecent
		}
	}
	o.SACKPermitted = active && t.cfg.SACK || t.has(flagSACK)
	if active && t.cfg.WindowScaling || t.has(flagWScale) {
		o.WScale = t.rcvWScale + 1
	}
	s := &t.out
	*s = Out{Seq: t.iss, Flags: SYN, MSS: int(t.mss)}
	if active {
		s.Flags |= t.ecnSetup()
	} else {
		s.Flags, s.Ack = SYN|ACK|t.ecnReply(), t.rcvNxt
	}
	// The window of a SYN is never scaled (RFC 7323 §2.2).
	s.Wnd = uint16(min(t.space(), 65535))
	if f := t.FastOpen; f != nil && !f.plain && active != t.has(flagPassive) {
		o.FastOpen = f.Offer
		if active && f.SynText > 0 {
			s.Payload, s.MSS = t.sndBuf.slice(t.iss+1, f.SynText), f.SynText
		}
	}
	s.OptLen = PutOptions(&s.Opts, &o)
	return s
}

// CookieReply fills out with the SYN-ACK of a SYN cookie (RFC 4987 §3.6): what OpenPassive would send for p and syn, p.ISS being the cookie. It changes nothing
// in t, a listener's TCB that is prepared by Init only.
func (t *TCB) CookieReply(now Time, p *OpenParams, syn *Segment, out *Out) {
	c := TCB{Scratch: t.Scratch}
	c.Init(t.cfg, t.owner, t.Settings)
	c.begin(now, p)
	c.learnSYN(now, syn)
	c.drop(flagECN | flagAccECN) // the cookie has no room to remember it
	*out = *c.buildSYN(now)
}

// sendSYN sends SYN or SYN-ACK, by state, and starts the retransmission timer (RFC 9293 MUST-22).
func (t *TCB) sendSYN(now Time) {
	s := t.buildSYN(now)
	// In SYN-SENT RCV.NXT is 0, so that the edge is the window that learnSYN honours.
	t.rcvAdv = seq.Max(t.rcvAdv, t.rcvNxt.Add(int(s.Wnd)))
	t.lastAckSent = t.rcvNxt
	s.Retransmit = t.has(flagSynRetrans)
	if t.retransSince == 0 {
		t.retransSince = now
	}
	if !t.transmit(now, s) {
		// Not sent: the link's timer tries again, and the time-out runs on so that even this ends.
		t.set(flagSynPending)
		if !t.armed(timerRTO) {
			t.arm(timerRTO, now+t.synRTO())
		}
		return
	}
	t.drop(flagSynPending)
	if t.lastSend == 0 {
		t.retransSince = now // the round trip starts when the first SYN leaves
		t.synLeft()
	}
	t.lastSend = now
	at := now + t.synRTO()
	if end := t.retransSince + t.UserTimeout; t.UserTimeout > 0 && !t.has(flagPassive) && now < end {
		at = min(at, end)
	}
	t.arm(timerRTO, at)
}

// resendSYN sends SYN or SYN-ACK again, with a smaller MSS if a black hole was found since. It is never larger: the peer may have seen the first.
func (t *TCB) resendSYN(now Time) {
	t.advMSS = min(t.advMSS, uint32(t.owner.AnnouncedMSS()))
	t.rcvMSS = max(min(t.rcvMSS, t.advMSS), minPeerMSS)
	if t.lastSend != 0 {
		t.set(flagSynRetrans)
		t.plainSYN()
		t.owner.Count(CountRetransmit, 1)
		t.stats.totalRetrans++
	}
	t.sendSYN(now)
}

// synRTO is the time-out of SYN and SYN-ACK: the initial RTO, doubled at each try.
func (t *TCB) synRTO() time.Duration {
	r := t.cfg.InitialRTO
	for n := t.retries; n > 0 && r < t.maxRTO(); n-- {
		r *= 2
	}
	return min(max(r, t.minRTO()), t.maxRTO())
}

// established enters the data phase, from SYN-SENT, SYN-RECEIVED or a cookie.
func (t *TCB) established(now Time) {
	t.events |= EventEstablished | EventWritable
	t.disarm(timerRTO)
	t.disarm(timerWait)
	t.drop(flagDeferred | flagSynPending | flagEarly)
	t.retries, t.retransSince = 0, 0
	t.stats.delivered++ // as Linux counts it: the SYN, whatever it carried
	// Slow start of the peer wants ACKs at once (RFC 5681 allows it, every stack does it).
	t.quickAcks = uint8(min(max(t.space()/(2*int(t.rcvMSS)), 2), 16))
	t.tune.reset(t, now)
	t.restartKeepAlive(now)
}

// startSender prepares for sending when the first text or FIN is due.
func (t *TCB) startSender(now Time) {
	if t.sender != nil {
		return
	}
	limit := t.peerMSS
	if t.userMSS > 0 {
		limit = min(limit, t.userMSS)
	}
	path := t.owner.PathMTU(int(limit), t.has(flagSACK))
	if path != nil {
		t.SetMTUPayload(now, path.MTU(now))
	}
	t.sender = &sender{cc: t.owner.NewController(), path: path, cep: cepStart}
	t.rec.high, t.rec.scanned, t.rec.rtoHigh = t.iss, t.iss, t.iss
	t.rtx.Ordered = t.has(flagSACK) && t.cfg.RACK
	t.cc.Init(congestion.Config{
		MSS: t.mss, InitialWindow: t.startWindow(), Now: now, SRTT: t.rto.SRTT, Rand: t.owner.Rand(), NoSelectiveAcks: !t.has(flagSACK),
	})
	t.readControl()
	t.usage.reset(t.sndNxt)
}

// startWindow is the initial congestion window in bytes.
func (t *TCB) startWindow() uint64 {
	if t.has(flagSynRetrans) {
		return uint64(t.mss) // RFC 5681 §3.1, RFC 6928 §2: a lost SYN or SYN-ACK leaves one segment
	}
	iw := uint64(t.cfg.InitialWindow) * uint64(t.mss)
	if t.cfg.InitialWindow <= 10 {
		iw = min(iw, congestion.InitialWindow(t.mss)) // RFC 6928 §2 bounds it in bytes as well
	}
	return iw
}

// outstanding reports whether anything sent is not acknowledged.
func (t *TCB) outstanding() bool { return t.sender != nil && t.rtx.Len() > 0 }
