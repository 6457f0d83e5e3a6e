package fuzz

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// Options say what to run.
type Options struct {
	// Kind is the target.
	Kind target.Kind
	// Seed determines the cases. The same seed gives the same cases.
	Seed uint64
	// Cases is how many to run; 0 means until the context ends.
	Cases int
	// Parallel is how many run at a time; 0 means GOMAXPROCS. Targets in real time run
	// one at a time.
	Parallel int
	// NoShrink leaves failing cases as they are.
	NoShrink bool
	// Progress, if not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	// Cases is how many have ended, Steps how many steps they had, Failing how many
	// failed, and Classes in how many ways.
	Cases, Steps, Failing, Classes int
	Elapsed                        time.Duration
}

// Report is the outcome of a run.
type Report struct {
	Target string `json:"target"`
	Seed   uint64 `json:"seed"`
	// Cases is how many were run, Steps how many steps and Packets how many packets
	// of the target they had, Finished how many came to the good peer, and Unsupported
	// how many the target could not run.
	Cases       int `json:"cases"`
	Steps       int `json:"steps"`
	Packets     int `json:"packets"`
	Unsupported int `json:"unsupported"`
	// Failing is how many cases failed. Failures has the first of each class, in the
	// order of their cases.
	Failing  int       `json:"failing"`
	Failures []Failure `json:"failures"`
}

// Failure is one way in which a target failed.
type Failure struct {
	// Class names what went wrong, as in "oracle:window" or "stuck-sending": see the
	// documentation of the package.
	Class string `json:"class"`
	// Section is the section of the RFC if a rule of the oracle names it.
	Section string `json:"section,omitempty"`
	// Text says what went wrong.
	Text string `json:"text"`
	// Number is the number of the first case that failed so, from 0, and Count how
	// many did.
	Number int `json:"case"`
	Count  int `json:"count"`
	// Steps is how many steps the case had, and Left how many after shrinking.
	Steps int `json:"steps"`
	Left  int `json:"left"`
	// Script is the script of the case, and Reproduced says that package runner fails
	// at it too.
	Script     string `json:"script"`
	Reproduced bool   `json:"reproduced"`
	// Case is the case after shrinking.
	Case Case `json:"-"`
}

// Generate makes the case of a number under a seed, on a target that answers it. The
// steps depend on what the target answers.
func Generate(kind target.Kind, seed, n uint64) (Case, []Failure) {
	c, o := generate(kind, Seeded(seed, n), seed<<20^n)
	return c, o.failures
}

// generate makes a case from a source.
func generate(kind target.Kind, src Source, seed uint64) (Case, *outcome) {
	g := &generator{src: src, brief: kind.Capabilities.RealTime}
	c := g.newCase()
	c.Seed = seed
	o := execute(kind, &c, g.next)
	c.Steps = o.steps
	return c, o
}

// found collects the outcomes of cases.
type found struct {
	mu       sync.Mutex
	report   Report
	classes  map[string]*Failure
	started  time.Time
	reported time.Time
	broken   error
}

// between is how often Progress is called.
const between = 5 * time.Second

// note counts a case.
func (f *found) note(opt *Options, n int, c Case, o *outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.report
	if o.broken != nil && f.broken == nil {
		f.broken = o.broken
	}
	r.Cases++
	r.Steps += len(o.steps)
	if o.result != nil {
		for i := range o.result.Trace {
			if o.result.Trace[i].Kind == 1 {
				r.Packets++
			}
		}
	}
	if o.unsupported != "" {
		r.Unsupported++
	}
	if len(o.failures) > 0 {
		r.Failing++
	}
	for _, x := range o.failures {
		have := f.classes[x.Class]
		if have == nil || have.Number > n {
			x.Number, x.Case, x.Steps, x.Left = n, c, len(c.Steps), len(c.Steps)
			if have != nil {
				x.Count = have.Count
			}
			have = &x
			f.classes[x.Class] = have
		}
		have.Count++
	}
	if opt.Progress != nil && time.Since(f.reported) >= between {
		f.reported = time.Now()
		opt.Progress(Progress{r.Cases, r.Steps, r.Failing, len(f.classes), time.Since(f.started)})
	}
}

// Run runs cases against a target. When ctx ends it stops, and returns what it found
// until then without an error; an error is one of the machinery.
func Run(ctx context.Context, opt Options) (*Report, error) {
	f := &found{classes: make(map[string]*Failure), started: time.Now(), reported: time.Now()}
	f.report.Target, f.report.Seed = opt.Kind.Name, opt.Seed
	workers := opt.Parallel
	if opt.Kind.Capabilities.RealTime {
		workers = 1
	}
	each(ctx, opt.Cases, workers, func(n int) {
		c, o := generate(opt.Kind, Seeded(opt.Seed, uint64(n)), opt.Seed<<20^uint64(n))
		f.note(&opt, n, c, o)
	})
	f.conclude(&opt)
	return &f.report, f.broken
}

// each calls do with the numbers below cases, or with 0 for ever, until ctx ends.
func each(ctx context.Context, cases, workers int, do func(n int)) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var wg sync.WaitGroup
	numbers := make(chan int)
	for range workers {
		wg.Go(func() {
			for n := range numbers {
				do(n)
			}
		})
	}
	for n := 0; (cases == 0 || n < cases) && ctx.Err() == nil; n++ {
		numbers <- n
	}
	close(numbers)
	wg.Wait()
}

// conclude makes the first failure of each class smaller and writes its script.
func (f *found) conclude(opt *Options) {
	r := &f.report
	r.Failures = make([]Failure, 0, len(f.classes))
	for _, x := range f.classes {
		r.Failures = append(r.Failures, *x)
	}
	sortFailures(r.Failures)
	for i := range r.Failures {
		x := &r.Failures[i]
		if x.Class == "hang" {
			continue // Each attempt would take as long again.
		}
		if !opt.NoShrink {
			x.Case = Shrink(opt.Kind, x.Case, x.Class)
			x.Left = len(x.Case.Steps)
		}
		x.write(opt.Kind)
	}
}
