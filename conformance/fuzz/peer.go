package fuzz

import (
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// peer is the other end of the link and the application, in the middle of a case. Its
// numbers are those of a script: each stream counts from its initial sequence number.
type peer struct {
	c *Case
	s *runner.Session

	// What the peer has sent: whether its SYN, the number behind its highest octet,
	// its highest acknowledgment, its FIN, its highest timestamp and last window.
	isn     uint32
	synSent bool
	next    uint32
	acked   uint32
	fin     uint32
	finSent bool
	ts      uint32
	window  uint32
	// sound says that all of that fits together: a TCP whose peer it is has no reason
	// to do anything but to deliver, and to be delivered.
	sound bool

	// What the target has sent: its SYN, the number behind its highest octet, its
	// highest acknowledgment, its FIN, whether a RST, its latest timestamp.
	synSeen  bool
	synAck   bool
	seen     uint32
	expected uint32
	finSeen  bool
	finAt    uint32
	again    bool // what the peer has not acknowledged was sent again
	reset    bool
	resets   int
	tsRecent uint32
	edge     uint32
	// What it has offered in its SYN.
	offersTS, offersSACK, offersScale bool
	mss                               uint16

	app app
	// packets is how many the target has sent, sent how many the peer has, and blurred
	// the number of the first packet, of both, after which one that only sees packets
	// cannot tell which connection is meant; 0 if there is none.
	packets, sent, blurred int
	// burst is how many the target has sent since the peer or the application last did
	// something.
	burst int
	// log is what the target did in answer to each step, for comparisons.
	log []answer
}

// app is the application on the target.
type app struct {
	// listener and fd are descriptors of the script, or 0.
	listener, fd     int64
	closed           bool
	shutRead, shutWr bool
	eof              bool
	// errno is the first error that is not EAGAIN.
	errno string
	// impatient says that it has asked for an end: linger, a user timeout.
	impatient     bool
	read, written int
}

// maxBurst is how many packets a target may send because of one thing that happened. A
// write of the largest size in the smallest segments is far below.
const maxBurst = 3000

// fault is what is wrong with the target.
type fault struct {
	class, text string
}

// Error implements error.
func (f *fault) Error() string { return f.class + ": " + f.text }

// start opens the socket of the application.
func (p *peer) start() error {
	fd := int64(3)
	if _, err := p.call("socket", fd, ellipsis, name("SOCK_STREAM"), name("IPPROTO_TCP")); err != nil {
		return err
	}
	if _, err := p.call("fcntl", 0, number(fd), name("F_SETFL"), name("O_NONBLOCK")); err != nil {
		return err
	}
	p.app.fd = fd
	for i := range p.c.Options {
		if err := p.setOption(&p.c.Options[i]); err != nil {
			return err
		}
	}
	if p.c.Active {
		_, err := p.call("connect", 0, number(fd), ellipsis, ellipsis)
		return err
	}
	p.app.listener, p.app.fd = fd, 0
	if _, err := p.call("bind", 0, number(fd), ellipsis, ellipsis); err != nil {
		return err
	}
	_, err := p.call("listen", 0, number(fd), number(8))
	return err
}

// perform does a step and takes what the target answers at once.
func (p *peer) perform(st *Step) error {
	if err := p.wait(st.After); err != nil {
		return err
	}
	var err error
	switch {
	case st.Segment != nil:
		err = p.segment(st.Segment)
	case st.ICMP != nil:
		err = p.icmp(st.ICMP)
	case st.Call != nil:
		err = p.applicationCall(st.Call)
	}
	if err != nil {
		return err
	}
	return p.take(p.s.Now())
}

// wait lets time pass.
func (p *peer) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return p.take(p.s.Now() + d)
}

// take observes all that the target sends until a time.
func (p *peer) take(until time.Duration) error {
	for {
		pkt, err := p.receive(until)
		if err != nil || pkt == nil {
			return err
		}
	}
}

// receive observes the next packet that the target sends until a time, or none.
func (p *peer) receive(until time.Duration) (*script.Packet, error) {
	pkt, err := p.s.Receive(until)
	if err != nil {
		return nil, &fault{"payload", err.Error()}
	}
	if pkt == nil {
		return nil, nil
	}
	p.packets++
	if p.burst++; p.burst > maxBurst {
		return nil, &fault{"storm", "the target sends without end"}
	}
	if pkt.TCP != nil {
		p.observe(pkt.TCP)
	}
	return pkt, nil
}

// observe learns from a segment of the target.
func (p *peer) observe(t *script.TCP) {
	end := t.End()
	if t.Flags&script.SYN != 0 {
		end = p.observeSYN(t)
	}
	if t.Flags&script.FIN != 0 {
		p.finSeen, p.finAt = true, end
		end++
	}
	if t.Flags&script.RST != 0 {
		p.reset = true
		p.resets++
		return
	}
	p.again = p.again || end != t.Seq && int32(p.acked-t.Seq) >= 0
	if int32(end-p.seen) > 0 {
		p.seen = end
	}
	if t.Flags&script.ACK != 0 {
		ack := t.Ack.Value
		if t.Flags&script.SYN != 0 {
			ack -= p.isn
		}
		if int32(ack-p.expected) > 0 {
			p.expected = ack
		}
		if int32(p.expected-p.next) > 0 {
			p.next = p.expected
		}
	}
	for _, o := range t.Options {
		if o.Kind == script.KindTimestamp {
			p.tsRecent = o.TSVal
		}
	}
	if edge, ok := p.s.Edge(); ok {
		p.edge = edge
	}
}

// observeSYN learns what the target offers, and returns the number behind its SYN. A
// SYN-ACK of another SYN than the first begins another connection.
func (p *peer) observeSYN(t *script.TCP) uint32 {
	p.synSeen = true
	p.synAck = p.synAck || t.Flags&script.ACK != 0
	p.offersTS, p.offersSACK, p.offersScale, p.mss = false, false, false, 536
	for _, o := range t.Options {
		switch o.Kind {
		case script.KindTimestamp:
			p.offersTS = true
		case script.KindSACKOK:
			p.offersSACK = true
		case script.KindWScale:
			p.offersScale = true
		case script.KindMSS:
			p.mss = o.MSS
		}
	}
	if t.Flags&script.ACK != 0 && (t.Ack.Value != p.isn+1 || p.acked > 0) {
		p.isn, p.sound = t.Ack.Value-1, false
		p.next, p.expected, p.acked, p.seen, p.finSent = 1, 0, 0, 0, false
	}
	return 1
}

// scaled is the shift count that applies to the windows of the peer.
func (p *peer) scaled() int {
	if p.c.SYN.WScale < 0 || !p.offersScale {
		return 0
	}
	return min(p.c.SYN.WScale, 14)
}

// at returns the number that a place stands for.
func (p *peer) at(pl Place) uint32 {
	n := map[Mark]uint32{
		Next: p.next, Expected: p.expected, Edge: p.edge, First: 1, Initial: 0, Seen: p.seen, Acked: p.acked,
	}[pl.From]
	return n + uint32(pl.Plus)
}

// segment sends a segment.
func (p *peer) segment(g *Segment) error {
	t := &script.TCP{
		Flags: g.Flags, Seq: p.at(g.Seq), Len: g.Len, Win: script.Some(g.Win),
		BadChecksum: g.BadChecksum,
	}
	if g.Reserved != 0 {
		t.Reserved = script.Some(g.Reserved)
	}
	if g.Flags&script.URG != 0 {
		t.Urg = script.Some(g.Urg)
	}
	if g.Flags&script.ACK != 0 {
		t.Ack = script.Some(p.at(g.Ack))
	}
	t.Options = p.options(g)
	p.note(g, t)
	if g.Flags&script.SYN != 0 {
		t.Seq += p.isn // In a SYN the script has numbers as they are on the wire.
	}
	p.sent, p.burst = p.sent+1, 0
	return p.s.Send(&script.Packet{Dir: script.Inbound, TCP: t, IP: script.IP{ECN: g.Mark}})
}

// note learns from a segment that the peer sends, before its numbers become those of
// the wire.
func (p *peer) note(g *Segment, t *script.TCP) {
	if g.BadChecksum {
		return
	}
	if g.Flags&script.SYN != 0 && !p.synSent {
		p.isn, t.Seq = p.isn+t.Seq, 0 // Whatever it is, the first is the initial one.
	}
	end := t.End()
	switch {
	case g.Flags&script.RST != 0:
		p.sound = false
		return
	case g.Flags&script.SYN != 0:
		if again := p.synSent; again && p.blurred == 0 && (t.Seq != 0 || p.reset || !p.sound || p.app.closed || p.app.errno != "") {
			p.blurred = p.packets + p.sent + 1
		}
		p.sound = p.sound && t.Seq == 0 && t.Len == 0 && g.Flags&script.FIN == 0 && !p.reset
		p.synSent, end = true, 1
	}
	if p.finSent && int32(end-p.fin) > 0 && end != p.fin+1 || p.finSent && t.Len > 0 && int32(end-p.fin) > 0 {
		p.sound = false
	}
	if g.Flags&script.FIN != 0 {
		if p.finSent && p.fin != end || !p.finSent && int32(p.next-end) > 0 {
			p.sound = false
		}
		p.fin, p.finSent = end, true
		end++
	}
	if p.expected > 0 && int32(end-p.edge) > 0 && g.Flags&script.SYN == 0 {
		end = p.edge // What lies beyond the window is lost.
	}
	// Where there is no data the number is still one that the peer has got to.
	if int32(end-p.next) > 0 {
		p.next = end
	}
	if g.Flags&script.ACK == 0 {
		return
	}
	if ack := t.Ack.Value; int32(ack-p.acked) > 0 && int32(p.seen-ack) >= 0 {
		p.acked = ack
	}
	p.window = uint32(g.Win)
	if g.Flags&script.SYN == 0 {
		p.window <<= p.scaled()
	}
}

// options returns the options of a segment.
func (p *peer) options(g *Segment) []script.TCPOption {
	var out []script.TCPOption
	syn := &p.c.SYN
	if g.Flags&script.SYN != 0 {
		// An answer has only what the SYN of the target offered (RFC 7323 section 2.2).
		answers := p.synSeen
		if syn.MSS > 0 {
			out = append(out, script.TCPOption{Kind: script.KindMSS, MSS: syn.MSS})
		}
		if syn.SACK && (!answers || p.offersSACK) {
			out = append(out, script.TCPOption{Kind: script.KindSACKOK})
		}
		if syn.WScale >= 0 && (!answers || p.offersScale) {
			out = append(out, script.TCPOption{Kind: script.KindWScale, Shift: uint8(syn.WScale)})
		}
	}
	agreed := syn.Timestamps && (p.offersTS || !p.synSeen)
	if agreed && g.Stamp != StampNone && g.Flags&script.RST == 0 {
		out = append(out, p.timestamp(g))
	}
	if len(g.SACK) > 0 && syn.SACK && p.offersSACK {
		o := script.TCPOption{Kind: script.KindSACK}
		for _, b := range g.SACK {
			left := p.at(b.Left)
			o.Blocks = append(o.Blocks, script.SACKBlock{Left: left, Right: left + b.Len})
		}
		out = append(out, o)
	}
	if len(g.Raw) > 0 {
		out = append(out, script.TCPOption{Kind: script.KindRaw, Data: g.Raw})
	}
	return out
}

// timestamp returns the timestamps option of a segment. The peer has a clock of
// milliseconds.
func (p *peer) timestamp(g *Segment) script.TCPOption {
	now := max(uint32(1000+p.s.Now()/time.Millisecond), p.ts)
	o := script.TCPOption{Kind: script.KindTimestamp, TSVal: now, TSEcr: p.tsRecent}
	switch g.Stamp {
	case StampOld:
		o.TSVal -= 30_000
	case StampFuture:
		o.TSVal += 30_000
	case StampEcho:
		o.TSEcr += 50_000
	case StampZero:
		o.TSEcr = 0
	}
	if g.Flags&script.ACK == 0 {
		o.TSEcr = 0
	}
	if g.Stamp != StampOld && !g.BadChecksum {
		p.ts = o.TSVal
	}
	return o
}

// icmp sends an ICMP error.
func (p *peer) icmp(m *ICMP) error {
	if !p.synSeen {
		return nil // There is nothing to quote.
	}
	if !p.synAck && m.Code != "frag_needed" && p.c.Active {
		p.sound = false
	}
	out := &script.ICMP{Type: "unreachable", Code: m.Code, Quote: script.Some(script.Quote{Seq: p.at(m.Quote), Len: 100})}
	if m.Code == "frag_needed" {
		out.MTU = script.Some(m.MTU)
	}
	p.sent++
	return p.s.Send(&script.Packet{Dir: script.Inbound, ICMP: out})
}
