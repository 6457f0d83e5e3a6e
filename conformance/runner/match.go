package runner

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
)

// candidate is the packet that is compared with one of the script: one that
// was sent, or several that were joined.
type candidate struct {
	conn *conn
	got  *script.Packet
	// first and last are when the first and the last piece left.
	first, last time.Duration
	// entries are the places in the trace of the pieces.
	entries []*Entry
	// taken is how many packets of run.out it takes; rest is what is left
	// of the last, or nil.
	taken int
	rest  *outbound
	// short says that it is a retransmission of less than the script has.
	short bool
	// longest is the length of the longest piece.
	longest int
	// payload is what a segment carries. It is not in got, which would
	// print it.
	payload []byte
}

// expect is the event of an outbound packet.
func (r *run) expect(want *script.Packet, w window) error {
	c := r.connFor(want)
	saved, out := c.clone(), slices.Clone(r.out)
	err := r.match(c, want, w)
	if err != nil {
		*c, r.out = saved, append(out, r.out[min(len(out), len(r.out)):]...)
		return err
	}
	return nil
}

// expectOne is the event of an outbound packet that may take several forms.
func (r *run) expectOne(a *script.Alternatives, w window) error {
	var first error
	for _, want := range a.Packets {
		err := r.expect(want, w)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if a.OrNone {
		return nil
	}
	if f, ok := first.(*Failure); ok {
		f.Expected = a.String()
		if len(a.Packets) > 1 {
			f.Message = "none of the forms fits; of the first, " + f.Message
		}
	}
	return first
}

// match compares the next outbound packet with want, and takes it if it fits.
// If it does not, the caller restores the connection and run.out.
func (r *run) match(c *conn, want *script.Packet, w window) error {
	r.skipOthers(c, w.deadline())
	o := r.front(0, w.deadline())
	if o == nil {
		f := r.failf("no packet was sent, expected one %v", w)
		f.Expected, f.Timing = want.String(), true
		return f
	}
	cand, problem := r.identify(c, o, want)
	if problem == "" {
		if want.TCP != nil && cand.got.TCP != nil {
			r.join(cand, want.TCP, w.deadline())
			r.split(cand, want.TCP)
		}
		problem = r.compare(want, cand)
	}
	timing := false
	if problem == "" {
		problem = r.checkTimes(cand, want, w)
		timing = problem != ""
	}
	if problem == "" && cand.got.TCP != nil {
		problem = c.checkPayload(cand, want.TCP)
	}
	if problem != "" {
		f := r.failf("%s", problem)
		f.Expected, f.At, f.Timing = want.String(), o.At, timing
		if cand != nil {
			f.Actual = cand.got.String()
		} else {
			f.Actual = r.render(o)
		}
		return f
	}
	r.take(cand)
	return nil
}

// skipOthers drops the packets of connections other than c that come first, with
// Options.IgnoreLeftovers.
func (r *run) skipOthers(c *conn, deadline time.Duration) {
	for r.opt.IgnoreLeftovers {
		o := r.front(0, deadline)
		if o == nil || o.mapped != nil {
			return
		}
		p, err := wire.Decode(o.Data)
		if err != nil || p.TCP == nil {
			return
		}
		if owner := r.connOf(p); owner == nil || owner == c {
			return
		}
		o.entry.Text = r.render(o)
		r.out = r.out[1:]
	}
}

// take removes the packets of a candidate from run.out and notes them.
func (r *run) take(cand *candidate) {
	for i, e := range cand.entries {
		if i == 0 {
			e.Text = cand.got.String()
		} else if e.Text == "" {
			e.Text = r.render(r.out[i])
		}
		if e.Line == 0 {
			e.Line = r.event.Pos.Line
		}
	}
	r.out = r.out[cand.taken:]
	if cand.rest != nil {
		r.out = append([]*outbound{cand.rest}, r.out...)
	}
	if t := cand.got.TCP; t != nil {
		cand.conn.noteSent(t)
	}
}

// noteSent keeps track of the highest sequence number.
func (c *conn) noteSent(t *script.TCP) {
	end := t.End()
	if t.Flags&script.SYN != 0 {
		end = 1
	}
	if t.Flags&script.FIN != 0 {
		end++
	}
	if int32(end-c.sent) > 0 {
		c.sent = end
	}
}

// identify decodes a packet, checks that it is sound and belongs to c, and
// translates it into script space. If it says what is wrong there may be no
// candidate.
func (r *run) identify(c *conn, o *outbound, want *script.Packet) (*candidate, string) {
	cand := &candidate{conn: c, first: o.At, last: o.At, entries: []*Entry{o.entry}, taken: 1}
	if o.mapped != nil {
		if o.conn != c {
			return nil, "the packet belongs to another connection"
		}
		cand.got, cand.payload = o.mapped, o.payload
		return cand, ""
	}
	p, err := wire.Decode(o.Data)
	if err != nil {
		return nil, fmt.Sprintf("the packet cannot be decoded: %v", err)
	}
	if len(p.Faults) > 0 {
		return nil, "the packet is malformed: " + p.Faults[0]
	}
	owner := r.connOf(p)
	if owner != c {
		if want.Ports.Set || owner != nil || !c.unbound() {
			return nil, "the packet belongs to another connection: " + endpoints(p)
		}
	}
	if local, _, ok := ports(p); ok && c.localPort == 0 {
		c.localPort = local
	}
	cand.got = c.toScript(p, want)
	if p.TCP != nil {
		cand.payload = p.TCP.Payload
		c.noteWindow(p.TCP)
	}
	if src := r.addr(want.IP.Src, r.local); p.IP.Src != src {
		return cand, fmt.Sprintf("source address %v, expected %v", p.IP.Src, src)
	}
	if dst := r.addr(want.IP.Dst, r.remote); p.IP.Dst != dst {
		return cand, fmt.Sprintf("destination address %v, expected %v", p.IP.Dst, dst)
	}
	return cand, ""
}

// unbound reports whether nothing is known about a connection yet, so that any
// packet may be its first.
func (c *conn) unbound() bool { return c.remotePort == 0 && !c.haveLocal }

// endpoints describes both ends of a packet.
func endpoints(p *wire.Packet) string {
	local, remote, _ := ports(p)
	return fmt.Sprintf("%v port %d > %v port %d", p.IP.Src, local, p.IP.Dst, remote)
}

// join appends the packets that follow to cand until it is as long as want, if
// they continue it.
func (r *run) join(cand *candidate, want *script.TCP, deadline time.Duration) {
	if r.strictSegments && r.strict {
		return
	}
	t := cand.got.TCP
	if t.Flags&(script.SYN|script.RST) != 0 || t.Seq != want.Seq {
		return
	}
	sizes := []int{int(t.Len)}
	defer func() { cand.longest = slices.Max(sizes) }()
	for r.needsMore(t, want) {
		if r.isShortRetransmission(cand.conn, t, want) && !r.continues(cand) {
			return
		}
		o := r.front(cand.taken, deadline)
		if o == nil {
			return
		}
		next, problem := r.identify(cand.conn, o, &script.Packet{TCP: want})
		if problem != "" || !r.joins(t, next.got.TCP, want, sizes) {
			return
		}
		n := next.got.TCP
		sizes = append(sizes, int(n.Len))
		t.Len += n.Len
		cand.payload = append(slices.Clip(cand.payload), next.payload...)
		t.Flags |= n.Flags & (script.PSH | script.FIN)
		t.Win, t.Ack, t.Options = n.Win, n.Ack, n.Options
		cand.entries = append(cand.entries, o.entry)
		cand.taken++
		cand.last = o.At
	}
}

// needsMore reports whether t is shorter than want.
func (r *run) needsMore(t, want *script.TCP) bool {
	if t.Flags&script.FIN != 0 {
		return false
	}
	return t.Len < want.Len ||
		!r.strict && t.Len == want.Len && want.Len > 0 && want.Flags&script.FIN != 0
}

// continues reports whether the packet behind a candidate is there already and
// continues it.
func (r *run) continues(cand *candidate) bool {
	if len(r.out) <= cand.taken {
		return false
	}
	p, err := wire.Decode(r.out[cand.taken].Data)
	if err != nil || p.TCP == nil || r.out[cand.taken].mapped != nil {
		return false
	}
	return p.TCP.Seq-cand.conn.localISN == cand.got.TCP.End()
}

// isShortRetransmission reports whether t is a retransmission that is shorter
// than the script has it, which is a choice of the sender's at level RFC: what
// counts is where it starts.
func (r *run) isShortRetransmission(c *conn, t, want *script.TCP) bool {
	return !r.strict && t.Len > 0 && t.Seq == want.Seq && int32(c.sent-t.End()) >= 0 && 2*int(t.Len) >= int(want.Len)
}

// joins reports whether segment n continues t, on the way to want. Sizes are
// the lengths of the segments so far.
func (r *run) joins(t, n, want *script.TCP, sizes []int) bool {
	if n == nil || n.Seq != t.End() || n.Flags&(script.SYN|script.RST) != 0 {
		return false
	}
	if n.Len == 0 && n.Flags&script.FIN == 0 || int(t.Len)+int(n.Len) > math.MaxUint16 {
		return false
	}
	if !r.strict {
		return n.Flags&script.URG == t.Flags&script.URG
	}
	// As packetdrill: the same headers, and the same size except at the end.
	const ignored = script.PSH | script.FIN | script.CWR
	last := int(t.Len)+int(n.Len) >= int(want.Len)
	return n.Flags&^ignored == t.Flags&^ignored && n.Ack == t.Ack && (n.Win == t.Win || r.opt.Ignore.has(IgnoreWindows)) &&
		(last || int(n.Len) == sizes[len(sizes)-1])
}

// split leaves what cand has beyond want for the next event, at level RFC: a
// sender may put into one segment what the script has in two.
func (r *run) split(cand *candidate, want *script.TCP) {
	t := cand.got.TCP
	if r.strict || r.strictSegments && cand.longest > int(want.Len) || want.Len == 0 || t.Seq != want.Seq || t.Flags&(script.SYN|script.RST) != 0 {
		return
	}
	finEarly := t.Flags&script.FIN != 0 && want.Flags&script.FIN == 0
	switch {
	case t.Len < want.Len && r.isShortRetransmission(cand.conn, t, want):
		r.note("line %d: a retransmission of %d octets where the script has %d", r.event.Pos.Line, t.Len, want.Len)
		cand.short = true
		return
	case t.Len < want.Len, t.Len == want.Len && !finEarly:
		return
	}
	rest := *t
	rest.Seq += uint32(want.Len)
	rest.Len -= want.Len
	head := *t
	head.Len = want.Len
	head.Flags &^= script.PSH | script.FIN
	if rest.Len == 0 {
		head.Flags |= t.Flags & script.PSH
	}
	cand.got.TCP = &head
	last := r.out[cand.taken-1]
	restPacket := *cand.got
	restPacket.TCP = &rest
	cand.rest = &outbound{Packet: last.Packet, entry: last.entry, mapped: &restPacket, conn: cand.conn, payload: cand.payload[want.Len:]}
	cand.payload = cand.payload[:want.Len]
}

// checkTimes says what is wrong with when a candidate left, or "".
func (r *run) checkTimes(cand *candidate, want *script.Packet, w window) string {
	for _, at := range []time.Duration{cand.first, cand.last} {
		if !w.contains(at) {
			return fmt.Sprintf("the packet left at %gs, expected %v", at.Seconds(), w)
		}
	}
	if !r.strict || want.TCP == nil || r.tsTick == 0 || want.TCP.AnyOptions {
		return ""
	}
	wantTS, gotTS := findOption(want.TCP, script.KindTimestamp), findOption(cand.got.TCP, script.KindTimestamp)
	if wantTS == nil || gotTS == nil || wantTS.Any {
		return ""
	}
	tolerance := max(r.tolerance, time.Duration(float64(w.at)*r.tolerancePercent/100))
	off := time.Duration(int32(gotTS.TSVal-wantTS.TSVal)) * r.tsTick
	if off.Abs() > tolerance {
		return fmt.Sprintf("timestamp value %d, expected %d within %gs", gotTS.TSVal, wantTS.TSVal, tolerance.Seconds())
	}
	return ""
}
