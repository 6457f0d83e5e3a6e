package runner

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// patience is how long, in virtual time, an outbound packet with the time "*"
// may take.
const patience = 24 * time.Hour

// run is a script under way.
type run struct {
	script *script.Script
	kind   target.Kind
	opt    Options
	result *Result
	v6     bool
	strict bool
	target target.Target

	settings
	local, remote netip.Addr
	// freeBSD says that the script was written for FreeBSD.
	freeBSD bool

	// epoch is when the script began, in the time of the target: settings
	// that were made before take time on a target in real time.
	epoch time.Duration
	// event is the event under way, last the time of the one before it, in
	// script time: what tolerances are a share of.
	event       *script.Event
	last        time.Duration
	lastInbound bool
	// out holds the packets that the target has sent and no event has
	// taken.
	out   []*outbound
	trace trace

	conns   []*conn
	current *conn
	// nextPort is the port of the next connection that the peer opens.
	nextPort uint16

	files    map[int64]*file
	inflight *inflight
	// vars are the variables of %{ }% blocks.
	vars map[string]int64
	// unknown says which values the target does not know that an assertion
	// needed, or is "".
	unknown string
}

// outbound is a packet that the target has sent, or the rest of one.
type outbound struct {
	target.Packet
	// entry is its place in the trace.
	entry *Entry
	// mapped is the packet in script space, of connection conn, if it is
	// known already; it is for the rest of a packet that was split.
	mapped  *script.Packet
	conn    *conn
	payload []byte
}

// execute performs the script and returns why it did not work, or nil.
func (r *run) execute() error {
	if err := r.prepare(); err != nil {
		return err
	}
	r.epoch = r.target.Now()
	r.last = r.epoch
	for _, ev := range r.script.Events {
		r.event = ev
		if err := r.perform(ev); err != nil {
			return err
		}
	}
	if err := r.await(); err != nil {
		return err
	}
	return r.checkLeftovers()
}

// perform does one event.
func (r *run) perform(ev *script.Event) error {
	w := r.schedule(ev)
	var err error
	inbound := false
	switch a := ev.Action.(type) {
	case *script.Packet:
		if a.Dir == script.Inbound {
			inbound = true
			r.waitUntil(w.at)
			err = r.inject(a)
		} else {
			err = r.expect(a, w)
		}
	case *script.Alternatives:
		err = r.expectOne(a, w)
	case *script.NoPacket:
		err = r.expectNone(w)
	case *script.Syscall:
		err = r.syscall(a, w)
	case *script.Command:
		r.waitUntil(w.at)
		err = r.command(a)
	case *script.Code:
		r.waitUntil(w.at)
		err = r.code(a)
	default:
		err = target.Unsupportedf("an event of type %T", a)
	}
	r.last, r.lastInbound = w.at, inbound
	return err
}

// window is when an event may happen.
type window struct {
	// at and end are what the script says; for a moment they are equal.
	at, end time.Duration
	// tolerance widens both.
	tolerance time.Duration
	// any says that the time does not matter.
	any bool
}

// contains reports whether t is in the window.
func (w window) contains(t time.Duration) bool {
	return w.any || t >= w.at-w.tolerance && t <= w.end+w.tolerance
}

// deadline is the last moment of the window.
func (w window) deadline() time.Duration {
	if w.any {
		return w.at + patience
	}
	return w.end + w.tolerance
}

// String describes the window for a message, in seconds.
func (w window) String() string {
	tolerance := fmt.Sprintf("±%gs", w.tolerance.Seconds())
	switch {
	case w.any:
		return "at any time"
	case w.at == w.end:
		return fmt.Sprintf("at %gs %s", w.at.Seconds(), tolerance)
	default:
		return fmt.Sprintf("at %gs~%gs %s", w.at.Seconds(), w.end.Seconds(), tolerance)
	}
}

// schedule turns the time of an event into a window. Relative times count
// from now, except between two inbound packets, where they count from the
// time at which the first was due: on a target in real time, delays of the
// machine do not add up.
func (r *run) schedule(ev *script.Event) window {
	t := ev.Time
	base := r.epoch
	if t.IsRelative() || t.Kind == script.AnyTime {
		base = r.target.Now()
		if p, ok := ev.Action.(*script.Packet); ok && p.Dir == script.Inbound && r.lastInbound {
			base = r.last
		}
	}
	w := window{at: base + t.At, end: base + t.At, any: t.Kind == script.AnyTime}
	if t.IsRange() || t.IsSpan() {
		w.end = base + t.End
	}
	since := w.at - r.last
	if t.IsSpan() && r.strict {
		since = max(since, w.end-w.at) // as packetdrill: of how long the call takes
	}
	share := time.Duration(float64(since) * r.tolerancePercent / 100)
	w.tolerance = max(r.tolerance, share)
	return w
}

// collect takes over what the target has sent.
func (r *run) collect() {
	for _, p := range r.target.Drain() {
		if !isRelevant(p.Data) {
			continue
		}
		o := &outbound{Packet: p, entry: &Entry{At: p.At, Kind: Outbound, Data: p.Data}}
		r.trace.add(o.entry)
		r.out = append(r.out, o)
	}
}

// runUntil lets time pass until t or until something happens.
func (r *run) runUntil(t time.Duration) {
	r.target.RunUntil(t)
	r.collect()
	r.checkInflight()
}

// waitUntil lets time pass until t. What the target sends is kept.
func (r *run) waitUntil(t time.Duration) {
	for r.target.Now() < t {
		r.runUntil(t)
	}
}

// front returns the first packet that no event has taken, waiting for it
// until deadline, or nil. Skip is how many packets to pass over.
func (r *run) front(skip int, deadline time.Duration) *outbound {
	r.collect()
	for len(r.out) <= skip && r.target.Now() < deadline {
		r.runUntil(deadline)
	}
	if len(r.out) <= skip {
		return nil
	}
	return r.out[skip]
}

// expectNone is the event "> none": no packet leaves until the end of the
// window. Tolerances do not apply to what must not happen.
func (r *run) expectNone(w window) error {
	r.collect()
	for len(r.out) == 0 && r.target.Now() < w.end {
		r.runUntil(w.end)
	}
	if len(r.out) == 0 {
		return nil
	}
	o := r.out[0]
	got := r.render(o)
	f := r.failf("a packet left at %gs, expected none until %gs", o.At.Seconds(), w.end.Seconds())
	f.Expected, f.Actual = "none", got
	return f
}

// checkLeftovers fails if the target has sent more than the script says.
func (r *run) checkLeftovers() error {
	r.collect()
	if r.opt.IgnoreLeftovers || len(r.out) == 0 {
		return nil
	}
	o := r.out[0]
	f := r.failf("%d packets are left over at the end of the script, the first of %gs", len(r.out), o.At.Seconds())
	if len(r.out) == 1 {
		f.Message = fmt.Sprintf("a packet of %gs is left over at the end of the script", o.At.Seconds())
	}
	f.Expected, f.Actual = "none", r.render(o)
	return f
}

// failf is a failure of the event under way.
func (r *run) failf(format string, args ...any) *Failure {
	f := &Failure{Message: fmt.Sprintf(format, args...)}
	if r.target != nil {
		f.At = r.target.Now()
	}
	f.Pos = script.Position{File: r.script.Name, Line: 1, Column: 1}
	if r.event != nil {
		f.Pos, f.Event, f.Expected = r.event.Pos, r.event.Source, r.event.Action.String()
	}
	return f
}

// note adds a remark to the result, once.
func (r *run) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	for _, have := range r.result.Notes {
		if have == n {
			return
		}
	}
	r.result.Notes = append(r.result.Notes, n)
}

// addr returns the address that ip stands for, or the default if ip is not
// valid or of the other version.
func (r *run) addr(ip, def netip.Addr) netip.Addr {
	if ip.IsValid() && ip.Is6() == r.v6 {
		return ip
	}
	return def
}
