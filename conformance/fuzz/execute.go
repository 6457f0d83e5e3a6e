package fuzz

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// hangs is how long a case may take in real time on a target in virtual time. A case
// takes milliseconds; this long it takes only if something waits for ever.
const hangs = time.Minute

// outcome is what became of a case on a target.
type outcome struct {
	// steps are those that were performed.
	steps []Step
	// failures are what went wrong, the first first, one of each class.
	failures []Failure
	// unsupported is why the case could not be run, or "".
	unsupported string
	// broken is an error of the machinery, not of the target.
	broken error
	script *script.Script
	result *runner.Result
	// answers are what the target did in answer to each step.
	answers []answer
}

// fails returns the failure of a class.
func (o *outcome) fails(class string) (Failure, bool) {
	for _, f := range o.failures {
		if f.Class == class {
			return f, true
		}
	}
	return Failure{}, false
}

// add adds a failure unless there is one of its class.
func (o *outcome) add(f Failure) {
	if _, have := o.fails(f.Class); !have {
		o.failures = append(o.failures, f)
	}
}

// execute runs a case whose steps next gives, one after the other, for as long as it
// reports true.
func execute(kind target.Kind, c *Case, next func(*peer) (Step, bool)) *outcome {
	if kind.Capabilities.RealTime {
		return executeNow(kind, c, next)
	}
	done := make(chan *outcome, 1)
	go func() { done <- executeNow(kind, c, next) }()
	timer := time.NewTimer(hangs)
	defer timer.Stop()
	select {
	case o := <-done:
		return o
	case <-timer.C:
		return &outcome{failures: []Failure{{Class: "hang", Text: fmt.Sprintf("the case has not come to its end in %v of real time", hangs)}}}
	}
}

// executeNow is execute without a watch.
func executeNow(kind target.Kind, c *Case, next func(*peer) (Step, bool)) *outcome {
	o := &outcome{}
	blurred := 0
	tags := script.Tags{IP: script.BothIP, TargetOptions: c.Settings}
	o.result, o.script = runner.Drive("fuzz", tags, kind, c.IP, runner.Options{Seed: c.Seed, Oracle: true, Level: runner.RFC}, func(s *runner.Session) (err error) {
		p := &peer{c: c, s: s, isn: c.SYN.ISN, next: 1, sound: true, window: uint32(c.SYN.Window), mss: 536}
		defer func() {
			o.answers, blurred = p.log, p.blurred
			if f, ok := err.(*fault); ok {
				o.add(Failure{Class: f.class, Text: f.text})
			} else if err != nil && target.IsUnsupported(err) == nil {
				o.broken = err
			}
		}()
		defer func() {
			if x := recover(); x != nil {
				err = panicked(x, string(debug.Stack()))
			}
		}()
		return p.run(o, next)
	})
	for _, f := range o.result.Findings {
		if f.Tier != oracle.Hard || blurred > 0 && f.Packet >= int64(blurred) && !alone[f.Rule] {
			continue
		}
		o.add(Failure{Class: "oracle:" + f.Rule, Section: f.Section, Text: f.Text})
	}
	if o.result.Verdict == runner.Unsupported {
		o.unsupported = o.result.Reason
	} else if o.result.Verdict == runner.Fail && len(o.failures) == 0 && len(o.result.Findings) == 0 && o.broken == nil {
		o.broken = fmt.Errorf("%s", o.result.Reason)
	}
	return o
}

// alone are the rules of the oracle that judge a segment by itself. The others need to
// know which connection it belongs to, which nobody can tell by the packets once a peer
// has sent a SYN that is not the one that it began with.
var alone = map[string]bool{
	"checksum": true, "ip-checksum": true, "option-format": true, "reserved": true, "ack-flag": true, "syn-options": true,
}

// run is a case from its beginning to its end.
func (p *peer) run(o *outcome, next func(*peer) (Step, bool)) error {
	if err := p.start(); err != nil {
		return err
	}
	if err := p.take(p.s.Now()); err != nil {
		return err
	}
	for {
		st, more := next(p)
		if !more {
			break
		}
		o.steps = append(o.steps, st)
		before, packets, resets := p.state(), p.packets, p.resets
		if err := p.perform(&st); err != nil {
			return err
		}
		if p.c.calm {
			if err := p.wait(settled); err != nil {
				return err
			}
		}
		p.log = append(p.log, p.answer(before, packets, resets))
	}
	if !p.c.Finish {
		return nil
	}
	return p.finish()
}

// panicked is the fault of a panic: its class is the function in which it happened, so
// that the same one has the same class.
func panicked(x any, stack string) *fault {
	text := fmt.Sprint(x)
	if strings.Contains(text, "timers fired at") {
		return &fault{"hang", text}
	}
	where := "unknown"
	_, after, _ := strings.Cut(stack, "\npanic(")
	for line := range strings.Lines(after) {
		if line == "" || line[0] == '\t' || strings.HasPrefix(line, "runtime.") || !strings.Contains(line, "(") || strings.HasPrefix(line, "{") || strings.HasPrefix(line, "0x") {
			continue
		}
		fn := line[:strings.LastIndexByte(line, '(')]
		where = fn[strings.LastIndexByte(fn, '/')+1:]
		break
	}
	return &fault{"panic:" + where, text}
}

// replay returns the function that gives the steps of a case as they are.
func replay(c *Case) func(*peer) (Step, bool) {
	i := -1
	return func(*peer) (Step, bool) {
		if i++; i >= len(c.Steps) {
			return Step{}, false
		}
		return c.Steps[i], true
	}
}
