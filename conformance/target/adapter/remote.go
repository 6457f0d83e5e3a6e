package adapter

import (
	"errors"
	"fmt"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// remote is one instance. It implements [target.Target].
type remote struct {
	adapter *Adapter
	process *process
	// tunnel has the packets, if they are not in the protocol.
	tunnel   *tunnel
	realTime bool
	opened   time.Time
	// now is the time of the last reply, in virtual time.
	now     time.Duration
	out     []target.Packet
	pending map[int64]*pending
	lastID  int64
	// completed counts the calls that have ended.
	completed int
	// err is why the process is of no use any more.
	err error
}

var (
	_ target.Target    = (*remote)(nil)
	_ target.Breakable = (*remote)(nil)
)

// pending is a call under way. It implements [target.Pending].
type pending struct {
	result target.Result
	done   bool
}

// Result implements [target.Pending].
func (p *pending) Result() (target.Result, bool) { return p.result, p.done }

// Broken implements [target.Breakable].
func (r *remote) Broken() error { return r.err }

// Now implements [target.Target].
func (r *remote) Now() time.Duration {
	if r.realTime && r.err == nil {
		r.now = max(r.now, time.Since(r.opened))
	}
	return r.now
}

// errorOf is what a reply says went wrong, or nil.
func errorOf(rep *reply) error {
	switch {
	case rep.Unsupported != "":
		return &target.UnsupportedError{What: clean(rep.Unsupported)}
	case rep.Error != "":
		return errors.New(clean(rep.Error))
	}
	return nil
}

// ask sends a request and takes over what every reply has. The reply is empty if
// the process is broken.
func (r *remote) ask(req *request, longer time.Duration) *reply {
	if r.err != nil {
		return &reply{}
	}
	rep, err := r.process.ask(req, longer)
	if err == nil {
		if err = r.take(rep); err != nil {
			err = r.process.broken(req, err)
		}
	}
	if err != nil {
		r.err = err
		return &reply{}
	}
	return rep
}

// take checks what a reply tells and keeps it. On a target in real time the
// clock of the process counts for nothing but how long ago something was.
func (r *remote) take(rep *reply) error {
	now := time.Duration(rep.Now)
	if !r.realTime && now < r.now {
		return fmt.Errorf("its time goes back from %v to %v", r.now, now)
	}
	mine := func(at int64) (time.Duration, error) {
		t := time.Duration(at)
		if t < 0 || t > now {
			return 0, fmt.Errorf("something happened at %v, and it is %v", t, now)
		}
		if r.realTime {
			return max(0, r.Now()-(now-t)), nil
		}
		return t, nil
	}
	for _, p := range rep.Packets {
		at, err := mine(p.At)
		if err != nil {
			return err
		}
		if len(p.Data) == 0 || len(p.Data) > maxPacket {
			return fmt.Errorf("a packet has %d octets", len(p.Data))
		}
		r.out = append(r.out, target.Packet{At: at, Data: p.Data})
	}
	for _, d := range rep.Done {
		p := r.pending[d.ID]
		if p == nil {
			return fmt.Errorf("call %d has ended, which is not under way", d.ID)
		}
		at, err := mine(d.At)
		if err != nil {
			return err
		}
		delete(r.pending, d.ID)
		d.Errno = target.Errno(clean(string(d.Errno)))
		p.result, p.done = d.result(), true
		p.result.At = at
		r.completed++
	}
	if !r.realTime {
		r.now = now
	}
	return nil
}

// Configure implements [target.Target].
func (r *remote) Configure(name, value string) error {
	return r.outcome(r.ask(&request{Op: "configure", Name: name, Value: value}, 0))
}

// outcome is the error of a request that has no other result.
func (r *remote) outcome(rep *reply) error {
	if r.err != nil {
		return r.err
	}
	return errorOf(rep)
}

// Syscall implements [target.Target].
func (r *remote) Syscall(c target.Call) (target.Pending, error) {
	name, args, err := encodeCall(c)
	if err != nil {
		return nil, err
	}
	r.lastID++
	p := &pending{}
	r.pending[r.lastID] = p
	rep := r.ask(&request{Op: "call", ID: r.lastID, Call: name, Args: args}, 0)
	if err := r.outcome(rep); err != nil {
		delete(r.pending, r.lastID)
		return nil, err
	}
	return p, nil
}

// Inject implements [target.Target].
func (r *remote) Inject(packet []byte) error {
	if r.tunnel == nil {
		return r.outcome(r.ask(&request{Op: "inject", Packet: packet}, 0))
	}
	if r.err == nil {
		if err := r.tunnel.send(packet); err != nil {
			return err
		}
		// The process has to be woken up to see it, and does not tell.
		r.tunnel.wait(grace)
	}
	r.Settle()
	return nil
}

// Drain implements [target.Target].
func (r *remote) Drain() []target.Packet {
	r.receive()
	out := r.out
	r.out = nil
	return out
}

// receive reads what the tunnel has.
func (r *remote) receive() {
	if r.tunnel == nil || r.err != nil {
		return
	}
	for _, data := range r.tunnel.receive() {
		r.out = append(r.out, target.Packet{At: r.Now(), Data: data})
	}
}

// Settle implements [target.Target].
func (r *remote) Settle() {
	r.ask(&request{Op: "settle"}, 0)
	r.receive()
}

// RunUntil implements [target.Target].
func (r *remote) RunUntil(t time.Duration) time.Duration {
	completed := r.completed
	for r.err == nil && len(r.out) == 0 && r.completed == completed && r.Now() < t {
		if r.tunnel != nil {
			// Calls that end show in the answers only, so it has to ask
			// now and then.
			r.tunnel.wait(min(t-r.Now(), nap))
			r.Settle()
			continue
		}
		before := r.now
		longer := time.Duration(0)
		if r.realTime {
			longer = t - r.Now()
		}
		req := &request{Op: "run", For: int64(t - r.Now())}
		r.ask(req, longer)
		switch {
		case r.err != nil || r.realTime:
		case r.now > t:
			r.err = r.process.broken(req, fmt.Errorf("it was to let time pass until %v at most, and it is %v", t, r.now))
		case r.now == before && len(r.out) == 0 && r.completed == completed:
			r.err = r.process.broken(req, fmt.Errorf("its time stands still at %v", r.now))
		}
	}
	if r.err != nil {
		r.now = max(r.now, t) // whoever waits for t shall not wait for ever
	}
	return r.Now()
}

// grace is how long a stack on a TUN device has for a packet, at most, before
// the next call.
const grace = 3 * time.Millisecond

// nap is how long to wait for packets before asking for calls that have ended.
const nap = time.Millisecond

// Info implements [target.Target].
func (r *remote) Info(fd target.FD) (target.Info, error) {
	rep := r.ask(&request{Op: "info", FD: fd}, 0)
	if err := r.outcome(rep); err != nil {
		return nil, err
	}
	return rep.Info, nil
}

// Close implements [target.Target].
func (r *remote) Close() {
	var rep *reply
	if r.err == nil {
		// Nothing of the instance matters any more, its clock included.
		rep, r.err = r.process.ask(&request{Op: "close"}, 0)
	}
	switch {
	case r.err != nil:
		r.adapter.breakdown(r.err)
		r.adapter.forget(r.process)
	case r.tunnel != nil || rep.Error != "":
		r.adapter.forget(r.process)
		r.adapter.wentWell()
	default:
		r.adapter.release(r.process)
	}
	if r.tunnel != nil {
		r.tunnel.close()
	}
}
