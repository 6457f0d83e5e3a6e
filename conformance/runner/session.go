package runner

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Session drives a target event by event in the terms of a script, for a program
// that decides what to do next by what the target did last. Everything that
// happens is recorded: [Drive] returns a script that makes it happen again.
//
// Calls have to be such that they return at once. A Session is for one goroutine.
type Session struct {
	run    *run
	events []*script.Event
	// last is when the last event happened.
	last time.Duration
	// firstTS is the first timestamp of the target; the script calls it
	// firstTimestamp.
	firstTS     uint32
	haveFirstTS bool
}

// firstTimestamp is what a recorded script calls the target's first timestamp.
const firstTimestamp = 1000

// Drive opens a target as a script of that name with those tags would, lets f
// drive it, and judges what happened as [Run] does. The error that f returns is
// what went wrong, or nil. Events of the script that Drive returns are those that
// were recorded. Neither panics if the target does: that is a failure.
func Drive(name string, tags script.Tags, kind target.Kind, ip IPVersion, opt Options, f func(*Session) error) (*Result, *script.Script) {
	s := &script.Script{Name: name, Tags: tags}
	res := &Result{Script: name, Target: kind.Name, IP: ip, Tags: tags, Level: levelOf(s, opt)}
	r := &run{script: s, kind: kind, opt: opt, result: res, v6: ip == 6}
	d := &Session{run: r}
	r.finish(d.protect(f))
	s.Events = d.events
	return res, s
}

// protect calls f and makes a panic of the target a failure.
func (d *Session) protect(f func(*Session) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.run.note("%s", debug.Stack())
			err = d.run.failf("the target panicked: %v", p)
		}
	}()
	if err := d.run.prepare(); err != nil {
		return err
	}
	return f(d)
}

// Now returns the time since the target was opened.
func (d *Session) Now() time.Duration { return d.run.target.Now() }

// record appends what happened at a time.
func (d *Session) record(at time.Duration, a script.Action) *script.Event {
	ev := &script.Event{Time: script.Time{Kind: script.Relative, At: max(0, at-d.last)}, Action: a}
	ev.Pos.Line = len(d.events) + 1
	d.last = max(d.last, at)
	d.events = append(d.events, ev)
	d.run.event = ev
	return ev
}

// Expect records an event that has not happened, but should have, within some time
// from now: the recorded script fails at it.
func (d *Session) Expect(within time.Duration, a script.Action) {
	ev := d.record(d.Now(), a)
	if p, ok := a.(*script.Packet); ok && p.Dir == script.Outbound && within > 0 {
		ev.Time = script.Time{Kind: script.RelativeRange, At: ev.Time.At, End: ev.Time.At + within}
	}
}

// Call makes a system call and returns its result, which the recorded script then
// expects. An error is one of the target's, or a *Failure: the data that was read
// is not what the peer sent, or the call did not return.
func (d *Session) Call(c *script.Syscall) (target.Result, error) {
	r := d.run
	call := *c
	ev := d.record(d.Now(), &call)
	p, err := r.lower(&call)
	if err != nil {
		return target.Result{}, err
	}
	if p.before != nil {
		p.before()
	}
	r.log(Called, nil, "")
	entry := r.trace.list[len(r.trace.list)-1]
	pending, err := r.target.Syscall(p.call)
	if err != nil {
		d.events = d.events[:len(d.events)-1]
		return target.Result{}, err
	}
	res, done := pending.Result()
	if !done && r.kind.Capabilities.RealTime {
		r.runUntil(d.Now() + time.Millisecond)
		res, done = pending.Result()
	}
	r.collect()
	if !done {
		return res, r.failf("the call blocks")
	}
	if p.ended != nil {
		p.ended(res)
	}
	call.Errno = string(res.Errno)
	if res.Errno != "" || !p.makesFD {
		call.Result = &script.Int{Value: res.Value}
	}
	entry.Text = call.String()
	ev.Source = ""
	if res.Errno == "" && p.after != nil {
		if problem := p.after(res); problem != "" {
			return res, r.failf("%s", problem)
		}
	}
	return res, nil
}

// Send makes a packet arrive.
func (d *Session) Send(p *script.Packet) error {
	d.record(d.Now(), p)
	return d.run.inject(p)
}

// Receive returns the next packet that the target has sent, and lets time pass
// until then, but not beyond the given time. It returns nil if there is none. The
// error is a *Failure that says what no packet may be.
func (d *Session) Receive(until time.Duration) (*script.Packet, error) {
	r := d.run
	r.collect()
	for len(r.out) == 0 && r.target.Now() < until {
		r.runUntil(until)
	}
	if len(r.out) == 0 {
		return nil, nil
	}
	o := r.out[0]
	want := &script.Packet{Dir: script.Outbound}
	if p, err := wire.Decode(o.Data); err == nil {
		want.TCP = d.timestamps(p)
	}
	c := r.connFor(want)
	cand, problem := r.identify(c, o, want)
	if cand == nil {
		r.out = r.out[1:]
		return nil, r.failf("%s", problem)
	}
	if problem == "" && cand.got.TCP != nil {
		problem = c.checkPayload(cand, nil)
	}
	d.record(o.At, recordable(cand.got))
	r.take(cand)
	if problem != "" {
		f := r.failf("%s", problem)
		f.Actual = cand.got.String()
		return cand.got, f
	}
	return cand.got, nil
}

// timestamps returns a segment that gives the target's timestamp the value that
// it has in the script, for the connection to learn.
func (d *Session) timestamps(p *wire.Packet) *script.TCP {
	if p.TCP == nil {
		return nil
	}
	t := &script.TCP{Flags: script.Flags(p.TCP.Flags)}
	for _, o := range script.DecodeOptions(p.TCP.Options) {
		if o.Kind != script.KindTimestamp {
			continue
		}
		if !d.haveFirstTS {
			d.firstTS, d.haveFirstTS = o.TSVal, true
		}
		o.TSVal += firstTimestamp - d.firstTS
		t.Options = append(t.Options, o)
	}
	return t
}

// recordable is a packet as the script expects it: no padding, no reserved bits, no
// value of the window unless it is closed, which is a matter of buffers.
func recordable(p *script.Packet) *script.Packet {
	out := *p
	if p.TCP == nil {
		return &out
	}
	t := *p.TCP
	if t.Win.Value != 0 {
		t.Win = script.Opt[uint16]{}
	}
	t.Reserved = script.Opt[uint8]{} // which they never are
	t.Options = slices.DeleteFunc(slices.Clone(t.Options), func(o script.TCPOption) bool {
		return o.Kind == script.KindNOP || o.Kind == script.KindEOL
	})
	out.TCP = &t
	return &out
}

// Edge returns the right edge of the window that the target has offered, as a
// sequence number of the peer in the script, and whether it has offered one.
func (d *Session) Edge() (uint32, bool) {
	c := d.run.current
	if c == nil {
		return 0, false
	}
	return c.edge, c.haveEdge
}

// Streams returns how much the application has written to a descriptor of the
// script and how much it has read from it, in octets, and whether what it reads
// can be foretold: urgent data may leave the stream.
func (d *Session) Streams(fd int64) (written, read int, verified bool) {
	f := d.run.files[fd]
	if f == nil {
		return 0, 0, false
	}
	return len(f.written), int(f.read), f.conn != nil && !f.conn.unverified
}

// Failf is a failure at the last event.
func (d *Session) Failf(format string, args ...any) *Failure {
	return d.run.failf("%s", fmt.Sprintf(format, args...))
}
