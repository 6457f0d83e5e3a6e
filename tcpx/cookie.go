package tcpx

import (
	"time"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// SYN cookies (RFC 4987 §3.6): when the SYN queue is full, the SYN-ACK's sequence number holds what must be remembered of the SYN.
//
//	 0                   1                   2                   3
//	+-----------------------------------------------+-----+-+-------+
//	|      keyed hash of addresses, ports, the      | MSS |S| scale |
//	|   peer's ISN, the low octet and the period    |     | |       |
//	+-----------------------------------------------+-----+-+-------+
//
// MSS is an index into cookieMSS, S tells that SACK is permitted and scale is the window shift count, 15 for none. The low octet is masked by hash bits, so that
// sequence numbers show no pattern. Whether timestamps are in use shows in the ACK itself; their offset is a function of the addresses. So nothing is lost for
// a peer without timestamps, unlike with cookies that keep options there.
const (
	cookieHashBits = 24
	cookieNoScale  = 15
	// cookiePeriod is how long a key lasts: a cookie is good for this period and the next.
	cookiePeriod = 64 * time.Second
)

// cookieMSS are the values of the MSS that a cookie can hold: the least that a connection believes, and common path MTUs less the headers.
var cookieMSS = [8]uint16{48, 536, 1220, 1360, 1440, 1460, 4312, 8960}

// packCookie puts the options of a SYN into an octet. The MSS is rounded down.
func packCookie(o *tcb.Options) byte {
	i := byte(0)
	mss := o.MSS
	if mss == 0 {
		mss = 536 // RFC 9293 MUST-15
	}
	for i < 7 && mss >= cookieMSS[i+1] {
		i++
	}
	b := i << 5
	if o.SACKPermitted {
		b |= 1 << 4
	}
	if o.WScale != 0 {
		return b | (o.WScale - 1)
	}
	return b | cookieNoScale
}

// unpackCookie is the opposite of packCookie.
func unpackCookie(b byte) tcb.Options {
	o := tcb.Options{MSS: cookieMSS[b>>5], SACKPermitted: b&(1<<4) != 0}
	if s := b & 15; s != cookieNoScale {
		o.WScale = s + 1
	}
	return o
}

// cookiePeriodOf counts periods.
func cookiePeriodOf(now tcb.Time) uint32 { return uint32(now / cookiePeriod) }

// cookie returns the cookie for a SYN with sequence number irs.
func (p *protocol) cookie(s *inbound, irs tcb.Seq, packed byte, period uint32) tcb.Seq {
	mask := byte(keyedHash(&p.secrets.cookie, &s.id, true, uint32(irs), period))
	h := keyedHash(&p.secrets.cookie, &s.id, true, uint32(irs), period^uint32(packed)<<24^1<<23)
	return tcb.Seq(uint32(h>>40)<<8 | uint32(packed^mask))
}

// cookiesOut reports whether a cookie that was sent can still be good.
func (p *protocol) cookiesOut(now tcb.Time) bool {
	last := tcb.Time(p.lastCookie.Load())
	return last != 0 && now-last < 2*cookiePeriod
}

// checkCookie recovers the options of the SYN from the ACK s, and reports whether its cookie is good.
func (p *protocol) checkCookie(s *inbound, now tcb.Time) (tcb.Options, bool) {
	got, irs := s.seg.Ack-1, s.seg.Seq-1
	for age := range uint32(2) {
		period := cookiePeriodOf(now) - age
		mask := byte(keyedHash(&p.secrets.cookie, &s.id, true, uint32(irs), period))
		packed := byte(got) ^ mask
		if p.cookie(s, irs, packed, period) != got {
			continue
		}
		o := unpackCookie(packed)
		// Timestamps were negotiated if the peer uses them now (RFC 7323 §3.2).
		o.TS, o.TSVal, o.TSEcr = s.seg.Opts.TS, s.seg.Opts.TSVal, s.seg.Opts.TSEcr
		return o, true
	}
	return tcb.Options{}, false
}

// sendCookie answers a SYN without keeping anything of it. The caller holds e.mu of the listener.
func (e *Endpoint) sendCookie(s *inbound) {
	p := e.proto
	route, err := p.stack.FindRoute(s.nic, s.id.LocalAddress, s.id.RemoteAddress, s.net, false)
	if err != nil {
		return
	}
	defer route.Release()
	now := p.now()
	packed := packCookie(&s.seg.Opts)
	params := tcb.OpenParams{
		ISS:           p.cookie(s, s.seg.Seq, packed, cookiePeriodOf(now)),
		TSOffset:      p.timestampOffset(&s.id),
		MTUPayload:    mtuPayload(route),
		DefaultMSS:    int(cookieMSS[1]),
		AdvertisedMSS: p.advertisedMSS(route, e.userMSS),
		UserMSS:       int(e.userMSS),
	}
	var out tcb.Out
	e.tcb.CookieReply(now, &params, &s.seg, &out)
	p.lastCookie.Store(int64(now))
	p.tcpStats.ListenOverflowSynCookieSent.Increment()
	p.sendControl(s, &control{
		id: s.id, seq: out.Seq, ack: out.Ack, flags: out.Flags, wnd: out.Wnd, opts: out.Opts[:out.OptLen], from: e,
	})
}
