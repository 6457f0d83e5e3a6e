package runner

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Case is a test that is written in Go, for what no script can say: how numbers
// of many connections relate to each other, say. It is judged, counted and
// reported as a script is.
type Case struct {
	// Name is as the name of a script, with the suffix ".go".
	Name string
	// Tags say what the case proves and how targets are expected to do.
	// Tags.IP must be set.
	Tags script.Tags
	// Run is the test. It returns nil, a *Failure that Peer.Failf made, an
	// error of the target's, or a *target.UnsupportedError.
	Run func(*Peer) error
}

// Peer is what a [Case] has in its hands: a fresh target, and the other end of
// its link. Numbers are those on the wire.
type Peer struct {
	run *run
}

// RunCase runs a case on a fresh instance of a target, as [Run] runs a script.
func RunCase(c *Case, kind target.Kind, ip IPVersion, opt Options) *Result {
	return withRetry(kind, func() *Result { return runCaseOnce(c, kind, ip, opt) })
}

// runCaseOnce runs a case.
func runCaseOnce(c *Case, kind target.Kind, ip IPVersion, opt Options) (res *Result) {
	s := &script.Script{Name: c.Name, Tags: c.Tags}
	res = &Result{Script: c.Name, Target: kind.Name, IP: ip, Tags: c.Tags, Level: levelOf(s, opt)}
	r := &run{script: s, kind: kind, opt: opt, result: res, v6: ip == 6}
	defer func() {
		if p := recover(); p != nil {
			r.note("%s", debug.Stack())
			r.finish(r.failf("the target panicked: %v", p))
		}
	}()
	if err := r.prepare(); err != nil {
		r.finish(err)
		return res
	}
	r.finish(c.Run(&Peer{run: r}))
	return res
}

// RealTime reports whether the target lives in real time.
func (p *Peer) RealTime() bool { return p.run.kind.Capabilities.RealTime }

// Now returns the time since the target was opened.
func (p *Peer) Now() time.Duration { return p.run.target.Now() }

// Listen opens a listening socket on a port of the target.
func (p *Peer) Listen(port uint16) error {
	s, err := p.Syscall(target.Socket{IPv6: p.run.v6})
	if err != nil {
		return err
	}
	fd := target.FD(s.Value)
	if _, err := p.Syscall(target.Bind{FD: fd, Addr: netip.AddrPortFrom(p.run.local, port)}); err != nil {
		return err
	}
	_, err = p.Syscall(target.Listen{FD: fd, Backlog: 8})
	return err
}

// Syscall makes a system call that must succeed at once.
func (p *Peer) Syscall(c target.Call) (target.Result, error) {
	p.run.log(Called, nil, c.String())
	pending, err := p.run.target.Syscall(c)
	if err != nil {
		return target.Result{}, err
	}
	res, done := pending.Result()
	switch {
	case !done:
		return res, p.Failf("a result of "+c.String(), "no return", "the call %v blocks", c)
	case res.Errno != "":
		return res, p.Failf("success of "+c.String(), string(res.Errno), "the call %v ended in %s", c, res.Errno)
	}
	return res, nil
}

// Send makes a segment arrive at the target. The script.TCP needs no more than
// flags and numbers.
func (p *Peer) Send(from, to uint16, t script.TCP) error {
	seg := &wire.TCP{
		SrcPort: from, DstPort: to, Seq: t.Seq, Ack: t.Ack.Value, Flags: uint16(t.Flags),
		Window: t.Win.Value, Options: script.EncodeOptions(t.Options), Payload: make([]byte, t.Len),
	}
	data := (&wire.Packet{IP: wire.IP{Src: p.run.remote, Dst: p.run.local}, TCP: seg}).Encode(wire.Spoil{})
	text := script.Packet{Dir: script.Inbound, TCP: &t, Ports: script.Some(script.Ports{Src: from, Dst: to})}
	p.run.log(Inbound, data, text.String())
	err := p.run.target.Inject(data)
	p.run.collect()
	return err
}

// Receive returns the next segment that the target sends, waiting for it no
// longer than the given time. It returns nil if there is none.
func (p *Peer) Receive(patience time.Duration) (*script.Packet, error) {
	r := p.run
	o := r.front(0, r.target.Now()+patience)
	if o == nil {
		return nil, nil
	}
	r.out = r.out[1:]
	d, err := wire.Decode(o.Data)
	if err != nil || d.TCP == nil {
		return nil, p.Failf("a TCP segment", "something else", "what the target sent is no TCP segment")
	}
	raw := conn{haveLocal: true} // Without numbers of its own it leaves those on the wire.
	got := raw.toScript(d, &script.Packet{Ports: script.Some(script.Ports{})})
	o.entry.Text = got.String()
	return got, nil
}

// Wait lets time pass. What the target sends meanwhile is kept for Receive.
func (p *Peer) Wait(d time.Duration) { p.run.waitUntil(p.run.target.Now() + d) }

// Failf is a failure with both sides of a comparison.
func (p *Peer) Failf(expected, actual, format string, args ...any) *Failure {
	f := p.run.failf("%s", fmt.Sprintf(format, args...))
	f.Expected, f.Actual = expected, actual
	return f
}
