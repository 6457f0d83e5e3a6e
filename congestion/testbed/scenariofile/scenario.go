package scenariofile

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/plumbline/plumbline/congestion/testbed"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// The defaults of a scenario: those of the shortest built-in ones.
const (
	defaultDuration = 30 * time.Second
	warmupShare     = 3 // the warm-up is a third of the duration
)

// maxFlows bounds a scenario of a file, as the testbed bounds every scenario.
const maxFlows = 10_000

// draft is a scenario under way. Its queue may depend on what follows.
type draft struct {
	testbed.Scenario
	warmupSet bool
	flows     []testbed.Flow // Stack and Algorithm are empty for each in turn
	bdp       [2]float64     // the queues of both directions in BDPs, 0 if given otherwise
}

// scenario decodes one element of the list.
func (d *document) scenario(n ast.Node) error {
	s := &draft{Scenario: testbed.Scenario{Seed: d.params.Seed, Duration: defaultDuration}}
	err := d.mapping(n, "a scenario", map[string]decode{
		"name":     textValue(&s.Name),
		"about":    textValue(&s.About),
		"duration": durationValue(&s.Duration),
		"warmup": func(n ast.Node) error {
			s.warmupSet = true
			return durationValue(&s.Warmup)(n)
		},
		"seed":    seedValue(&s.Seed),
		"mtu":     sizeValue(&s.MTU, 1),
		"forward": func(n ast.Node) error { return d.link(n, &s.Forward, &s.bdp[0]) },
		"reverse": func(n ast.Node) error { return d.link(n, &s.Reverse, &s.bdp[1]) },
		"flows": func(n ast.Node) error {
			return d.sequence(n, func(n ast.Node) error { return d.flow(n, s) })
		},
	})
	if err != nil {
		return err
	}
	if !nameable(s.Name) {
		return fmt.Errorf("name: a scenario needs one of letters, digits and the likes, at most 60 bytes")
	}
	if !s.warmupSet {
		s.Warmup = s.Duration / warmupShare
	}
	s.sizeQueues()
	return d.expand(s)
}

// nameable tells whether a name can stand in tables and be told from options.
func nameable(name string) bool {
	if name == "" || len(name) > 60 {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd || r == '+' })
}

// sizeQueues computes queues that are given in bandwidth-delay products of the path.
func (s *draft) sizeQueues() {
	for i, l := range []*emulated.Link{&s.Forward, &s.Reverse} {
		if s.bdp[i] == 0 {
			continue
		}
		rate := l.Rate
		if l.Trace != nil {
			rate = l.Trace.Rate()
		}
		l.Queue = emulated.FIFO{Bytes: max(int(s.bdp[i]*float64(rate.Bytes(s.BaseRTT()))), 2*emulated.DefaultMTU)}
	}
}

// expand makes the scenarios of all algorithms.
func (d *document) expand(s *draft) error {
	algorithms := d.params.Algorithms
	if !slices.ContainsFunc(s.flows, func(f testbed.Flow) bool { return f.Algorithm == "" }) {
		algorithms = []string{""} // No flow has a choice.
	}
	for _, a := range algorithms {
		one := s.Scenario
		one.Forward.Steps, one.Reverse.Steps = slices.Clone(s.Forward.Steps), slices.Clone(s.Reverse.Steps)
		one.Flows = slices.Clone(s.flows)
		for i := range one.Flows {
			f := &one.Flows[i]
			if f.Algorithm == "" {
				f.Algorithm = a
			}
			if f.Stack == "" {
				f.Stack = d.params.Stack
			}
		}
		if err := one.Validate(); err != nil {
			return err
		}
		if len(d.scenarios) == maxScenarios {
			return fmt.Errorf("more than %d scenarios", maxScenarios)
		}
		d.scenarios = append(d.scenarios, &one)
	}
	return nil
}

// flow decodes one or, with a count, several flows.
func (d *document) flow(n ast.Node, s *draft) error {
	var f testbed.Flow
	count, apart := 1, time.Duration(0)
	err := d.mapping(n, "a flow", map[string]decode{
		"stack":     d.stack(&f.Stack),
		"algorithm": textValue(&f.Algorithm),
		"start":     durationValue(&f.Start),
		"bytes":     sizeValue(&f.Bytes, 1),
		"delay":     durationValue(&f.Delay),
		"rate":      rateValue(&f.Rate),
		"count":     sizeValue(&count, 1),
		"apart":     durationValue(&apart),
	})
	if err != nil {
		return err
	}
	if count > maxFlows-len(s.flows) {
		return fmt.Errorf("more than %d flows", maxFlows)
	}
	for range count {
		s.flows = append(s.flows, f)
		f.Start += apart
	}
	return nil
}

// stack decodes the name of a kind of stack.
func (d *document) stack(to *string) decode {
	return func(n ast.Node) error {
		if err := textValue(to)(n); err != nil {
			return err
		}
		_, err := testbed.KindOf(*to)
		return err
	}
}

// link decodes one direction.
func (d *document) link(n ast.Node, l *emulated.Link, bdp *float64) error {
	var policer emulated.Policer
	err := d.mapping(n, "a direction", map[string]decode{
		"rate":      rateValue(&l.Rate),
		"trace":     d.trace(l),
		"overhead":  sizeValue(&l.Overhead, 0),
		"delay":     durationValue(&l.Delay),
		"jitter":    durationValue(&l.Jitter),
		"aggregate": durationValue(&l.Aggregate),
		"queue":     func(n ast.Node) error { return d.queue(n, l, bdp) },
		"loss":      func(n ast.Node) error { return d.loss(n, l) },
		"mark":      probabilityValue(&l.MarkCE),
		"duplicate": probabilityValue(&l.Duplicate),
		"reorder": func(n ast.Node) error {
			return d.mapping(n, "reorder", map[string]decode{"probability": probabilityValue(&l.Reorder.Probability), "delay": durationValue(&l.Reorder.Delay)})
		},
		"policer": func(n ast.Node) error {
			l.Policer = &policer
			return d.mapping(n, "policer", map[string]decode{"rate": rateValue(&policer.Rate), "burst": sizeValue(&policer.Burst, 1)})
		},
		"steps": func(n ast.Node) error {
			return d.sequence(n, func(n ast.Node) error { return d.step(n, l) })
		},
	})
	if err != nil {
		return err
	}
	for i := range l.Steps { // What a step does not change stays.
		if l.Steps[i].Rate == 0 {
			l.Steps[i].Rate = l.Rate
		}
		if l.Steps[i].Delay == unchanged {
			l.Steps[i].Delay = l.Delay
		}
	}
	return l.Validate()
}

// unchanged stands for the delay of a step that names none.
const unchanged = -1

func (d *document) step(n ast.Node, l *emulated.Link) error {
	s := emulated.Step{Delay: unchanged}
	err := d.mapping(n, "a step", map[string]decode{
		"at": durationValue(&s.At), "rate": rateValue(&s.Rate), "delay": durationValue(&s.Delay), "down": boolValue(&s.Down),
	})
	l.Steps = append(l.Steps, s)
	return err
}

// trace decodes the name of a trace and reads it.
func (d *document) trace(l *emulated.Link) decode {
	return func(n ast.Node) error {
		name, err := scalar(n)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(d.dir, name)
		}
		l.Trace, err = emulated.LoadTrace(name)
		return err
	}
}

// loss decodes a probability or the parameters of bursts.
func (d *document) loss(n ast.Node, l *emulated.Link) error {
	if _, err := scalar(n); err == nil {
		var p float64
		err := probabilityValue(&p)(n)
		l.Loss = emulated.RandomLoss(p)
		return err
	}
	var g emulated.GilbertElliott
	err := d.mapping(n, "loss", map[string]decode{
		"to-bad": probabilityValue(&g.ToBad), "to-good": probabilityValue(&g.ToGood), "good": probabilityValue(&g.Good), "bad": probabilityValue(&g.Bad),
	})
	l.Loss = g
	return err
}

// queue decodes a queue discipline.
func (d *document) queue(n ast.Node, l *emulated.Link, bdp *float64) error {
	var (
		kind             string
		bytes, packets   int
		target, interval time.Duration
		ecn              bool
	)
	keys := map[string]decode{
		"type": textValue(&kind), "packets": sizeValue(&packets, 1), "bytes": sizeValue(&bytes, 1), "bdp": factorValue(bdp, 1e6),
		"target": durationValue(&target), "interval": durationValue(&interval), "ecn": boolValue(&ecn),
	}
	used := make(map[string]bool)
	for name, set := range keys {
		keys[name] = func(n ast.Node) error {
			used[name] = true
			return set(n)
		}
	}
	if err := d.mapping(n, "a queue", keys); err != nil {
		return err
	}
	allowed := []string{"type", "packets"}
	switch kind {
	case "fifo", "":
		l.Queue = emulated.FIFO{Bytes: bytes, Packets: packets}
		allowed = append(allowed, "bytes", "bdp")
		if *bdp != 0 && (bytes != 0 || packets != 0) {
			return errors.New("bdp: not with bytes or packets")
		}
	case "codel":
		l.Queue = emulated.CoDel{Target: target, Interval: interval, Packets: packets, ECN: ecn}
		allowed = append(allowed, "target", "interval", "ecn")
	case "fq-codel":
		l.Queue = emulated.FQCoDel{Target: target, Interval: interval, Packets: packets, ECN: ecn}
		allowed = append(allowed, "target", "interval", "ecn")
	case "pie":
		l.Queue = emulated.PIE{Target: target, Packets: packets, ECN: ecn}
		allowed = append(allowed, "target", "ecn")
	default:
		return fmt.Errorf("type: %.40q is none of fifo, codel, fq-codel, pie", kind)
	}
	for _, name := range []string{"bytes", "bdp", "target", "interval", "ecn"} {
		if used[name] && !slices.Contains(allowed, name) {
			return fmt.Errorf("%s: not of type %s", name, kind)
		}
	}
	return nil
}
