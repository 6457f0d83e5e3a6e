package fuzz

import (
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// The flags of segments.
const (
	ack = script.ACK
	psh = script.PSH
	fin = script.FIN
	syn = script.SYN
	rst = script.RST
	urg = script.URG
)

// maxSteps is how many steps the generator makes at most.
const maxSteps = 40

// maxWritten is how much the application writes in one case, in octets.
const maxWritten = 96 << 10

// generator makes a case step by step, from what the peer knows.
type generator struct {
	src Source
	// brief keeps waits short, for a target in real time.
	brief bool
	left  int
}

// newCase makes the beginning of a case: everything but its steps.
func (g *generator) newCase() Case {
	s := g.src
	c := Case{IP: pick(s, runner.IPVersion(4), 4, 4, 6), Active: chance(s, 2), Finish: !g.brief && !chance(s, 8)}
	g.left = 4 + s.IntN(maxSteps-4)
	if g.brief {
		g.left = min(g.left, 10)
	}
	c.SYN = SYN{
		ISN:    pick[uint32](s, 0, 0, 0, 1<<31-1000, 1<<32-1000, 1<<32-1),
		MSS:    pick[uint16](s, 1000, 1000, 1460, 1460, 536, 100, 1, 0, 65535),
		WScale: pick(s, -1, -1, 7, 7, 2, 0, 14, 15),
		SACK:   !chance(s, 3), Timestamps: chance(s, 2), ECN: chance(s, 8),
		Window: pick[uint16](s, 30000, 30000, 65535, 1000, 1, 0),
	}
	for _, o := range settings {
		if chance(s, o.rarely) {
			c.Settings = append(c.Settings, script.Setting{Name: o.name, Value: o.value})
		}
	}
	for chance(s, 3) && len(c.Options) < 3 {
		c.Options = append(c.Options, pick(s, socketOptions...))
	}
	return c
}

// settings are those that a case may have, each once in so many cases.
var settings = []struct {
	name, value string
	rarely      int
}{
	{"tcp_sack", "0", 8},
	{"tcp_congestion_control", "reno", 4},
	{"tcp_moderate_rcvbuf", "0", 8},
	{"tcp_timestamps", "0", 16},
	{"tcp_window_scaling", "0", 16},
	{"tcp_ecn", "1", 8},
	{"tcp_mtu_probing", "2", 24},
	{"tcp_syncookies", "2", 16},
}

// socketOptions are options that the application may set.
var socketOptions = []Call{
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_RCVBUF", Value: 1},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_RCVBUF", Value: 5000},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_RCVBUF", Value: 100_000},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_SNDBUF", Value: 1},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_SNDBUF", Value: 20_000},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_NODELAY", Value: 1},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_NODELAY", Value: 0},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_MAXSEG", Value: 88},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_MAXSEG", Value: 536},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_QUICKACK", Value: 1},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_WINDOW_CLAMP", Value: 2000},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_USER_TIMEOUT", Value: 1500},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_KEEPALIVE", Value: 1},
	{Kind: SetOption, Level: "IPPROTO_TCP", Name: "TCP_KEEPIDLE", Value: 2},
	{Kind: SetOption, Level: "SOL_SOCKET", Name: "SO_LINGER", Value: -1},
}

// next makes the next step, and reports false if the case is long enough.
func (g *generator) next(p *peer) (Step, bool) {
	if g.left--; g.left < 0 || !g.src.More() {
		return Step{}, false
	}
	st := g.action(p)
	if !chance(g.src, 3) {
		return st, true
	}
	st.After = pick(g.src, time.Millisecond, 10*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 250*time.Millisecond, 600*time.Millisecond)
	if chance(g.src, 8) && !g.brief {
		st.After = pick(g.src, time.Second, 3*time.Second, 3*time.Second, 10*time.Second, 30*time.Second, 130*time.Second, 700*time.Second)
	}
	if g.brief {
		st.After = min(st.After, 250*time.Millisecond)
	}
	return st, true
}

// action chooses what happens by the state of the connection.
func (g *generator) action(p *peer) Step {
	s := g.src
	switch {
	case !p.synSent && !chance(s, 8):
		return named("opening", g.opening(p))
	case p.synSeen && p.acked == 0 && !chance(s, 8):
		return named("ACK", g.send(p, &Segment{Flags: ack, Seq: Place{From: Next}, Ack: Place{From: Seen}}))
	case p.app.fd == 0 && p.synAck && p.acked > 0 && !chance(s, 4):
		return Step{What: "accept", Call: &Call{Kind: Accept}}
	}
	a := choose(s, actions)
	return named(a.what, a.make(g, p))
}

// named gives a step its name.
func named(what string, st Step) Step {
	st.What = what
	return st
}

// action is one kind of step.
type action struct {
	what string
	make func(*generator, *peer) Step
}

// actions are what may happen on a connection.
var actions = []weighted[action]{
	{18, action{"data", (*generator).data}},
	{8, action{"data beyond a gap", (*generator).beyond}},
	{8, action{"data again", (*generator).again}},
	{6, action{"at the edge", (*generator).edges}},
	{16, action{"ACK", (*generator).acknowledge}},
	{9, action{"SACK", (*generator).sack}},
	{5, action{"window", (*generator).windows}},
	{3, action{"strange ACK", (*generator).strangeACK}},
	{2, action{"RST", (*generator).resets}},
	{3, action{"FIN", (*generator).fins}},
	{2, action{"SYN again", (*generator).syns}},
	{2, action{"urgent", (*generator).urgent}},
	{3, action{"timestamps", (*generator).stamps}},
	{3, action{"ECN", (*generator).marks}},
	{2, action{"malformed", (*generator).malformed}},
	{2, action{"ICMP", (*generator).icmp}},
	{12, action{"write", (*generator).write}},
	{9, action{"read", (*generator).read}},
	{4, action{"call", (*generator).otherCalls}},
	{3, action{"nothing", func(*generator, *peer) Step { return Step{} }}},
}

// opening is the SYN or SYN-ACK of the peer, seldom a SYN in answer to a SYN.
func (g *generator) opening(p *peer) Step {
	t := &Segment{Flags: syn, Seq: Place{From: Initial}, Win: p.c.SYN.Window}
	if p.c.SYN.ECN && !p.c.Active {
		t.Flags |= script.ECE | script.CWR
	}
	if p.c.Active && !chance(g.src, 8) {
		t.Flags, t.Ack = syn|ack, Place{From: Seen}
		if p.c.SYN.ECN {
			t.Flags |= script.ECE
		}
	}
	return Step{Segment: t}
}

// send makes a step of a segment with a window that is mostly open.
func (g *generator) send(p *peer, t *Segment) Step {
	t.Win = uint16(min(p.window>>p.scaled(), 65535))
	switch g.src.IntN(12) {
	case 0, 1:
		t.Win = pick[uint16](g.src, 30000, 65535, 2000)
	case 2:
		t.Win = pick[uint16](g.src, 0, 0, 1, 500)
	}
	if t.Win == 0 && !chance(g.src, 3) {
		t.Win = 30000 // a window that stays closed teaches little
	}
	return Step{Segment: t}
}

// length is how much data a segment has.
func (g *generator) length() uint16 { return pick[uint16](g.src, 1, 10, 100, 500, 1000, 1460, 1460) }

// ackPlace is what an ordinary segment acknowledges.
func (g *generator) ackPlace(p *peer) Place {
	if chance(g.src, 4) {
		return Place{From: Acked}
	}
	if chance(g.src, 4) {
		return Place{From: Acked, Plus: int32(min(p.seen-p.acked, uint32(g.length())))}
	}
	return Place{From: Seen}
}

// data is new data in order.
func (g *generator) data(p *peer) Step {
	n := g.length()
	if p.finSent {
		return g.acknowledge(p)
	}
	return g.send(p, &Segment{Flags: ack | psh, Seq: Place{From: Next}, Len: n, Ack: g.ackPlace(p)})
}

// beyond is new data that leaves a gap.
func (g *generator) beyond(p *peer) Step {
	if p.finSent {
		return g.again(p)
	}
	gap := pick[int32](g.src, 1, 100, 1460, 3000, 20000)
	return g.send(p, &Segment{Flags: ack | psh, Seq: Place{Next, gap}, Len: g.length(), Ack: g.ackPlace(p)})
}

// again is data that was sent before, or fills a gap, or a bit of both.
func (g *generator) again(p *peer) Step {
	from := Place{From: Expected, Plus: pick[int32](g.src, 0, 0, 0, 0, -1, -100, -1460, 50, 1460)}
	if chance(g.src, 4) {
		from = Place{From: Next, Plus: -int32(g.length())}
	}
	at, n := p.at(from), uint32(g.length())
	if int32(at) < 1 {
		from, at = Place{From: First}, 1
	}
	if p.finSent {
		n = min(n, max(p.fin, at)-at)
	}
	t := &Segment{Flags: ack | psh, Seq: from, Len: uint16(n), Ack: g.ackPlace(p)}
	if p.finSent && at+n == p.fin && chance(g.src, 2) {
		t.Flags |= fin
	}
	return g.send(p, t)
}

// edges is data, or none, about the right edge of the window that the target offers.
func (g *generator) edges(p *peer) Step {
	t := &Segment{Flags: ack, Seq: Place{Edge, pick[int32](g.src, 0, -1, 1, -500, 500, 70000)}, Ack: g.ackPlace(p)}
	if !p.finSent && chance(g.src, 2) {
		t.Len = g.length()
	}
	return g.send(p, t)
}

// acknowledge is a segment without data.
func (g *generator) acknowledge(p *peer) Step {
	seq := Place{From: Next}
	if chance(g.src, 5) {
		seq = Place{From: Expected, Plus: pick[int32](g.src, 0, -1)}
	}
	return g.send(p, &Segment{Flags: ack, Seq: seq, Ack: g.ackPlace(p)})
}

// sack is an ACK with SACK blocks: right ones above a hole, duplicates, and wrong ones.
func (g *generator) sack(p *peer) Step {
	t := &Segment{Flags: ack, Seq: Place{From: Next}, Ack: Place{From: Acked}}
	unit := int32(max(min(p.mss, 1460), 1))
	flight := int32(p.seen - p.acked)
	for range 1 + g.src.IntN(3) {
		b := Block{Left: Place{Acked, unit * int32(1+g.src.IntN(4))}, Len: uint32(unit) * uint32(1+g.src.IntN(2))}
		switch g.src.IntN(10) {
		case 0:
			b.Left = Place{Seen, pick[int32](g.src, 0, -1, 1000)} // never sent
		case 1:
			b.Left = Place{Acked, -unit} // a duplicate
		case 2:
			b.Left, b.Len = Place{Acked, 0}, pick[uint32](g.src, 0, 1, 1<<31)
		case 3:
			b.Len = uint32(g.length())
		case 4:
			if flight > 0 {
				b = Block{Left: Place{Acked, 1 + int32(g.src.IntN(int(min(flight, 60000))))}, Len: 1}
			}
		default:
			if left := b.Left.Plus; flight > left {
				b.Len = min(b.Len, uint32(flight-left))
			}
		}
		t.SACK = append(t.SACK, b)
	}
	return g.send(p, t)
}

// windows is an ACK that opens, closes or shrinks the window.
func (g *generator) windows(p *peer) Step {
	st := g.send(p, &Segment{Flags: ack, Seq: Place{From: Next}, Ack: g.ackPlace(p)})
	st.Segment.Win = pick[uint16](g.src, 0, 0, 1, 10, 100, 1000, 5000, 65535)
	return st
}

// strangeACK acknowledges what was not sent, or what was acknowledged long ago.
func (g *generator) strangeACK(p *peer) Step {
	to := pick(g.src, Place{Seen, 1}, Place{Seen, 100}, Place{Seen, 1 << 30}, Place{Seen, -1 << 31}, Place{Acked, -1}, Place{Acked, -100}, Place{Acked, -70000}, Place{First, -1})
	t := &Segment{Flags: ack, Seq: Place{From: Next}, Ack: to}
	if !p.finSent && chance(g.src, 3) {
		t.Len = g.length()
	}
	return g.send(p, t)
}

// resets are RSTs that are exact, in the window, or out of it. Exact ones are rare,
// since they are the end.
func (g *generator) resets(p *peer) Step {
	at := pick(g.src, Place{Expected, 1}, Place{Expected, 1}, Place{Expected, -1}, Place{Edge, 0}, Place{Edge, -1}, Place{Edge, 1}, Place{Next, 1000}, Place{Expected, 0})
	t := &Segment{Flags: rst, Seq: at}
	if chance(g.src, 2) {
		t.Flags, t.Ack = rst|ack, pick(g.src, Place{Seen, 0}, Place{Seen, 1}, Place{Acked, 0})
	}
	return Step{Segment: t}
}

// fins is a FIN, with or without data, in order or not, or once more.
func (g *generator) fins(p *peer) Step {
	t := &Segment{Flags: fin | ack, Seq: Place{From: Next}, Ack: g.ackPlace(p)}
	switch {
	case p.finSent:
		t.Seq = Place{Next, -1}
		if chance(g.src, 6) {
			t.Seq = pick(g.src, Place{Next, 0}, Place{Next, 10}, Place{Expected, 0})
		}
	case chance(g.src, 4):
		t.Seq.Plus = pick[int32](g.src, 1, 100, 1460)
	case chance(g.src, 3):
		t.Len = g.length()
	}
	return g.send(p, t)
}

// syns is a SYN or a SYN-ACK on a connection, as it was or another.
func (g *generator) syns(p *peer) Step {
	t := &Segment{Flags: pick(g.src, syn, syn|ack), Seq: Place{From: Initial}, Win: p.c.SYN.Window}
	t.Seq = pick(g.src, Place{From: Initial}, Place{From: Initial}, Place{From: Next}, Place{From: Edge}, Place{Expected, -1}, Place{Next, 100000})
	if t.Flags&ack != 0 {
		t.Ack = pick(g.src, Place{From: Seen}, Place{From: First}, Place{Seen, 1})
	}
	return Step{Segment: t}
}

// urgent is data with an urgent pointer.
func (g *generator) urgent(p *peer) Step {
	st := g.data(p)
	st.Segment.Flags |= urg
	st.Segment.Urg = pick[uint16](g.src, 0, 1, st.Segment.Len, st.Segment.Len+1, 100, 65535)
	return st
}

// stamps is a segment with a timestamp that is not right.
func (g *generator) stamps(p *peer) Step {
	st := g.ordinary(p)
	st.Segment.Stamp = pick(g.src, StampNone, StampOld, StampOld, StampFuture, StampEcho, StampZero)
	return st
}

// marks is a segment with flags or a mark of ECN.
func (g *generator) marks(p *peer) Step {
	st := g.ordinary(p)
	st.Segment.Mark = pick(g.src, script.ECNUnset, script.ECT0, script.CE, script.CE, script.ECT1)
	st.Segment.Flags |= pick[script.Flags](g.src, 0, script.ECE, script.CWR, script.ECE|script.CWR, script.AE)
	return st
}

// ordinary is a segment with or without data, in order or not.
func (g *generator) ordinary(p *peer) Step {
	return choose(g.src, []weighted[func(*generator, *peer) Step]{
		{3, (*generator).data}, {1, (*generator).beyond}, {1, (*generator).again}, {3, (*generator).acknowledge},
	})(g, p)
}

// malformed is a segment that is damaged or strange.
func (g *generator) malformed(p *peer) Step {
	st := g.ordinary(p)
	t := st.Segment
	switch g.src.IntN(6) {
	case 0:
		t.BadChecksum = true
	case 1:
		t.Reserved = uint8(1 + g.src.IntN(7))
	case 2:
		t.Flags = pick[script.Flags](g.src, 0, psh, urg|psh)
	case 3:
		t.Raw = pick(g.src, []byte{8, 0, 0, 0}, []byte{5, 3, 1}, []byte{99, 4, 1, 2}, []byte{0, 1, 2, 3}, []byte{2, 4, 0, 1}, []byte{3, 3, 9})
	case 4:
		t.Flags |= syn | fin
	default:
		t.Ack = Place{}
		t.Flags &^= ack
	}
	return st
}

// icmp is an ICMP error about a segment of the target, or about one that it never sent.
func (g *generator) icmp(p *peer) Step {
	return Step{ICMP: &ICMP{
		Code:  pick(g.src, "frag_needed", "frag_needed", "frag_needed", "host_unreachable", "port_unreachable", "net_unreachable"),
		MTU:   pick[uint32](g.src, 1400, 1300, 576, 68, 0, 1, 9000),
		Quote: pick(g.src, Place{From: Acked}, Place{From: Acked}, Place{From: Seen}, Place{Seen, -1}, Place{Seen, 100000}),
	}}
}

// write is a write of the application.
func (g *generator) write(p *peer) Step {
	n := pick(g.src, 1, 10, 100, 1000, 1460, 3000, 5000, 10_000, 30_000)
	if p.app.written+n > maxWritten {
		n = 1
	}
	return Step{Call: &Call{Kind: Write, Size: n}}
}

// read is a read of the application.
func (g *generator) read(*peer) Step {
	return Step{Call: &Call{Kind: Read, Size: pick(g.src, 1, 100, 1000, 5000, 8192, 1<<16)}}
}

// otherCalls are the rest of what applications do.
func (g *generator) otherCalls(*peer) Step {
	switch g.src.IntN(6) {
	case 0, 1:
		return Step{Call: &Call{Kind: ShutdownWrite}}
	case 2:
		return Step{Call: &Call{Kind: Close}}
	case 3:
		return Step{Call: &Call{Kind: ShutdownRead}}
	}
	c := pick(g.src, socketOptions...)
	return Step{Call: &c}
}
