package runner

import (
	"fmt"
	"strings"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// prepared is a system call of the script, translated for the target.
type prepared struct {
	call target.Call
	// makesFD says that the value returned is a descriptor.
	makesFD bool
	// before, if set, is done just before the call.
	before func()
	// after, if set, checks and notes what the call brought when it
	// succeeded. It returns what is wrong, or "".
	after func(target.Result) string
	// ended, if set, is done when the call has ended in any way.
	ended func(target.Result)
}

// inflight is a system call that has not returned.
type inflight struct {
	prepared
	call    *script.Syscall
	event   *script.Event
	window  window
	pending target.Pending
	entry   *Entry
	// err is what is wrong with how it ended.
	err  error
	done bool
}

// syscall is the event of a system call. A call with a span of time goes on
// while the events that follow happen; any other has to return within the
// tolerance.
func (r *run) syscall(s *script.Syscall, w window) error {
	if err := r.await(); err != nil {
		return err
	}
	r.waitUntil(w.at)
	p, err := r.lower(s)
	if err != nil {
		return err
	}
	if p.before != nil {
		p.before()
	}
	r.log(Called, nil, s.String())
	entry := r.trace.list[len(r.trace.list)-1]
	pending, err := r.target.Syscall(p.call)
	if err != nil {
		return err
	}
	r.inflight = &inflight{prepared: p, call: s, event: r.event, window: w, pending: pending, entry: entry}
	r.collect()
	if r.checkInflight(); r.event.Time.IsSpan() {
		return nil
	}
	return r.await()
}

// await waits until the call under way, if there is one, has returned, and
// checks it.
func (r *run) await() error {
	f := r.inflight
	if f == nil {
		return nil
	}
	for !f.done && r.target.Now() < f.window.deadline() {
		r.runUntil(f.window.deadline())
	}
	r.inflight = nil
	if f.done {
		return f.err
	}
	fail := r.failAt(f, "the call blocks, expected it to return %v", f.window)
	fail.Actual, fail.Timing = "no return", true
	return fail
}

// failAt is a failure of the event of a call.
func (r *run) failAt(f *inflight, format string, args ...any) *Failure {
	fail := r.failf(format, args...)
	fail.Pos, fail.Event, fail.Expected = f.event.Pos, f.event.Source, f.call.String()
	return fail
}

// checkInflight looks whether the call under way has returned.
func (r *run) checkInflight() {
	f := r.inflight
	if f == nil || f.done {
		return
	}
	res, done := f.pending.Result()
	if !done {
		return
	}
	f.done = true
	if f.ended != nil {
		f.ended(res)
	}
	actual := describeResult(f.call, res)
	if f.event.Time.IsSpan() {
		r.trace.add(&Entry{At: res.At, Kind: Called, Line: f.event.Pos.Line, Text: "... " + actual})
	}
	problem := r.checkResult(f, res)
	late := false
	if problem == "" && !f.window.returned(res.At, f.event.Time.IsSpan()) {
		problem, late = fmt.Sprintf("the call returned at %gs, expected %v", res.At.Seconds(), f.window), true
	}
	if problem == "" && res.Errno == "" && f.after != nil {
		problem = f.after(res)
	}
	if problem != "" {
		fail := r.failAt(f, "%s", problem)
		fail.Actual, fail.At, fail.Timing = actual, res.At, late
		f.entry.Text = actual
		f.err = fail
	}
}

// returned reports whether a call may return at t: about the end of its span,
// or at any moment of the window if it has none.
func (w window) returned(t time.Duration, span bool) bool {
	if span {
		return t >= w.end-w.tolerance && t <= w.end+w.tolerance
	}
	return t <= w.end+w.tolerance
}

// describeResult prints a call with the result that it had.
func describeResult(s *script.Syscall, res target.Result) string {
	text, _, _ := strings.Cut(s.String(), ") = ")
	text += ") = " + fmt.Sprint(res.Value)
	if res.Errno != "" {
		text += " " + string(res.Errno)
	}
	return text
}

// checkResult compares the return value and the error of a call.
func (r *run) checkResult(f *inflight, res target.Result) string {
	s := f.call
	if s.Errno != "" || res.Errno != "" {
		if want, err := script.Eval(s.Result); s.Errno == "" && err == nil && want == -1 {
			return "" // any error: the script has none by name
		}
		if !sameErrno(s.Errno, string(res.Errno)) {
			return fmt.Sprintf("the call ended in %s, expected %s", orSuccess(string(res.Errno)), orSuccess(s.Errno))
		}
		return ""
	}
	if f.makesFD {
		return ""
	}
	if _, any := s.Result.(*script.Ellipsis); any {
		return ""
	}
	want, err := script.Eval(s.Result)
	if err != nil {
		return err.Error()
	}
	if want != res.Value {
		return fmt.Sprintf("the call returned %d, expected %d", res.Value, want)
	}
	return ""
}

// sameErrno compares the names of errors; some have two names.
func sameErrno(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := script.Errno(a)
	y, okY := script.Errno(b)
	return okX && okY && x == y
}

func orSuccess(errno string) string {
	if errno == "" {
		return "success"
	}
	return errno
}

// lower translates a call for the target.
func (r *run) lower(s *script.Syscall) (prepared, error) {
	f, ok := lowerings[s.Name]
	if !ok {
		return prepared{}, target.Unsupportedf("the system call %s", s.Name)
	}
	a := &args{run: r, call: s}
	p := f(a)
	return p, a.err
}

// args reads the arguments of a call. The first error stays.
type args struct {
	run  *run
	call *script.Syscall
	err  error
}

// fail notes that the arguments are not understood.
func (a *args) fail(format string, args ...any) {
	if a.err == nil {
		a.err = &target.UnsupportedError{What: a.call.Pos.String(), Why: a.call.Name + ": " + fmt.Sprintf(format, args...)}
	}
}

// at returns an argument, or nil.
func (a *args) at(i int) script.Expr {
	if i < len(a.call.Args) {
		return a.call.Args[i]
	}
	return nil
}

// eval returns the value of an expression, inside brackets if it has them.
func (a *args) eval(e script.Expr) int64 {
	if l, ok := e.(*script.List); ok && len(l.Elems) == 1 {
		e = l.Elems[0]
	}
	v, err := script.Eval(e)
	if err != nil {
		a.fail("%v", err)
	}
	return v
}

// integer returns an argument that is a number; it has to be there.
func (a *args) integer(i int) int64 {
	e := a.at(i)
	if e == nil {
		a.fail("argument %d is missing", i+1)
		return 0
	}
	return a.eval(e)
}

// size returns an argument that is a length in octets.
func (a *args) size(i int) int {
	n := a.integer(i)
	if n < 0 || n > maxStream {
		a.fail("the length %d", n)
		return 0
	}
	return int(n)
}

// flags returns an argument with flags of messages, 0 if it is not there.
func (a *args) flags(i int) target.MsgFlags {
	if a.at(i) == nil {
		return 0
	}
	return target.MsgFlags(a.integer(i))
}

// name returns an argument that is a symbol.
func (a *args) name(i int) string {
	if n, ok := a.at(i).(*script.Name); ok {
		return n.Name
	}
	a.fail("argument %d is not a symbol", i+1)
	return ""
}

// file returns the descriptor in an argument. A descriptor that the script
// never opened is one that the target does not have either.
func (a *args) file(i int) *file {
	n := a.integer(i)
	if f, ok := a.run.files[n]; ok {
		return f
	}
	return &file{live: -1}
}

// fdOf returns the descriptor of the target for one of the script.
func (a *args) fdOf(n int64) target.FD {
	if f, ok := a.run.files[n]; ok {
		return f.live
	}
	return -1
}

// resultFD is the number that the script gives to the descriptor that the call
// makes, and false if it expects an error.
func (a *args) resultFD() (int64, bool) {
	if a.call.Errno != "" {
		return 0, false
	}
	n, err := script.Eval(a.call.Result)
	if err != nil {
		a.fail("the descriptor has no number: %v", err)
	}
	return n, n >= 0
}
