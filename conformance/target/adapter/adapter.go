package adapter

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// Options say how to run the process of an adapter.
type Options struct {
	// Command is the program with its arguments; no shell is involved.
	Command []string
	// Patience is how long the process may take for an answer, beyond the
	// time that it was told to let pass in real time. 0 means 10 s.
	Patience time.Duration
	// TUN runs the process in a network namespace of its own with a TUN
	// device, whose name is in the environment variable PLUMBLINE_TUN: its
	// packets go there, and its time is real. It needs Linux and root.
	TUN bool
}

// maxBreakdowns is how many instances in a row may end in a broken process
// before there are no more.
const maxBreakdowns = 5

// Adapter is a stack in other processes: one for each instance that is open, and
// used again for the next. It is safe for concurrent use.
type Adapter struct {
	opt   Options
	hello *hello

	mu         sync.Mutex
	idle       []*process
	all        map[*process]bool
	breakdowns int   // in a row
	last       error // of the last breakdown
	closed     bool
}

// Start starts the first process and asks what its stack is. The caller ends
// all processes with Close.
func Start(opt Options) (*Adapter, error) {
	if len(opt.Command) == 0 {
		return nil, errors.New("adapter: no command")
	}
	if opt.Patience <= 0 {
		opt.Patience = 10 * time.Second
	}
	if opt.TUN {
		if err := checkTUN(); err != nil {
			return nil, fmt.Errorf("adapter: %w", err)
		}
	}
	a := &Adapter{opt: opt, all: make(map[*process]bool)}
	p, err := a.launch(nil, (*exec.Cmd).Start)
	if err != nil {
		return nil, err
	}
	if opt.TUN {
		// This one lives in no namespace: it was to say hello only.
		a.forget(p)
		return a, nil
	}
	a.idle = append(a.idle, p)
	return a, nil
}

// plainName is what the name of a target may be.
var plainName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// launch starts a process and greets it. The stack has to be the one that it
// was before.
func (a *Adapter) launch(env []string, start func(*exec.Cmd) error) (*process, error) {
	p, err := launch(a.opt.Command, env, a.opt.Patience, start)
	if err != nil {
		return nil, fmt.Errorf("adapter: cannot start %s: %w", clean(a.opt.Command[0]), err)
	}
	req := &request{Op: "hello", Protocol: Version}
	rep, err := p.ask(req, 0)
	if err != nil {
		return nil, err
	}
	h := rep.Hello
	switch {
	case h == nil:
		return nil, p.broken(req, errors.New("no hello in its answer"))
	case h.Protocol != Version:
		return nil, p.broken(req, fmt.Errorf("it speaks version %d of the protocol, not %d", h.Protocol, Version))
	case !plainName.MatchString(h.Name):
		return nil, p.broken(req, fmt.Errorf("its name is %q: lower case letters, digits, - and _ are wanted", clean(h.Name)))
	}
	h.Description = clean(h.Description)
	h.RealTime = h.RealTime || a.opt.TUN
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.hello == nil:
		a.hello = h
	case *a.hello != *h:
		return nil, p.broken(req, fmt.Errorf("it is %q now and was %q", h.Name, a.hello.Name))
	}
	if a.closed {
		p.stop()
		return nil, errClosed
	}
	a.all[p] = true
	return p, nil
}

var errClosed = errors.New("adapter: closed")

// Kind returns the kind of target that the adapter is.
func (a *Adapter) Kind() target.Kind {
	return target.Kind{
		Name: a.hello.Name, Description: a.hello.Description, Capabilities: a.hello.capabilities(), Open: a.open,
	}
}

// Close ends all processes, and with them the instances that are open.
func (a *Adapter) Close() {
	a.mu.Lock()
	a.closed = true
	all := a.all
	a.all, a.idle = make(map[*process]bool), nil
	a.mu.Unlock()
	for p := range all {
		p.stop()
	}
}

// open opens an instance.
func (a *Adapter) open(cfg target.Config) (target.Target, error) {
	a.mu.Lock()
	switch {
	case a.closed:
		a.mu.Unlock()
		return nil, errClosed
	case a.breakdowns >= maxBreakdowns:
		a.mu.Unlock()
		return nil, fmt.Errorf("given up after %d breakdowns in a row, of which the last was: %w", a.breakdowns, a.last)
	}
	var p *process
	if n := len(a.idle); n > 0 {
		p = a.idle[n-1]
		a.idle = a.idle[:n-1]
	}
	a.mu.Unlock()
	var wires *tunnel
	var err error
	switch {
	case a.opt.TUN:
		if wires, err = openTunnel(cfg); err == nil {
			p, err = a.launch([]string{tunVariable + "=" + wires.name()}, wires.start)
		}
	case p == nil:
		p, err = a.launch(nil, (*exec.Cmd).Start)
	}
	if err != nil {
		if wires != nil {
			wires.close()
		}
		a.breakdown(err)
		return nil, err
	}
	r := &remote{adapter: a, process: p, tunnel: wires, realTime: a.hello.RealTime, opened: time.Now(), pending: make(map[int64]*pending)}
	rep := r.ask(&request{Op: "open", Open: openArgsOf(cfg)}, 0)
	if err := errorOf(rep); err != nil {
		r.Close()
		return nil, fmt.Errorf("adapter: open: %w", err)
	}
	if r.err != nil {
		r.Close()
		return nil, r.err
	}
	r.opened = time.Now()
	return r, nil
}

// tunVariable is the environment variable with the name of the device.
const tunVariable = "PLUMBLINE_TUN"

// breakdown counts an instance that ended in a broken process.
func (a *Adapter) breakdown(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.breakdowns++
	a.last = err
}

// forget ends a process.
func (a *Adapter) forget(p *process) {
	p.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, p)
}

// release takes a process back that is fit for another instance.
func (a *Adapter) release(p *process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.breakdowns = 0
	if a.closed {
		return
	}
	a.idle = append(a.idle, p)
}

// wentWell notes an instance that did not end in a broken process.
func (a *Adapter) wentWell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.breakdowns = 0
}
