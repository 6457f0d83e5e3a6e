package fuzz

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// DiffOptions say what to compare.
type DiffOptions struct {
	// A and B are the targets. Cases are made by what A answers.
	A, B target.Kind
	// Seed, Cases and Parallel are those of Options. Cases is how many at most, 0 for
	// until the context ends.
	Seed            uint64
	Cases, Parallel int
	// Progress, if not nil, is called now and then.
	Progress func(Progress)
}

// DiffReport is the outcome of a comparison.
type DiffReport struct {
	A     string `json:"a"`
	B     string `json:"b"`
	Seed  uint64 `json:"seed"`
	Cases int    `json:"cases"`
	// Unsupported is how many cases one of both could not run, Failed how many one of
	// both failed at, which Run tells about, and Differing how many of the others were
	// answered differently.
	Unsupported int `json:"unsupported"`
	Failed      int `json:"failed"`
	Differing   int `json:"differing"`
	// Differences has each kind of difference once, the most frequent first.
	Differences []Difference `json:"differences"`
}

// Difference is one way in which two targets answer differently.
type Difference struct {
	// Class says what differs, at what, in which state: "established, data at the edge:
	// reset".
	Class string `json:"class"`
	// Known is why, if that is known, with the section that allows it or is broken.
	Known string `json:"known,omitempty"`
	// Count is how many cases showed it first, Number the first of them.
	Count  int `json:"count"`
	Number int `json:"case"`
	// A and B are the answers in a few words.
	A string `json:"a"`
	B string `json:"b"`
	// Script is the shrunk case, as A answers it.
	Script string `json:"script"`
	Case   Case   `json:"-"`
}

// settled is how long targets have after each step of a comparison, longer than a
// delayed ACK may take (RFC 9293 section 3.8.6.3).
const settled = 600 * time.Millisecond

// compare runs a case on both targets and returns the first difference.
func (o *DiffOptions) compare(c *Case) (d Difference, ok bool, a, b *outcome) {
	c.Finish = false
	calm := *c
	calm.calm = true
	a = execute(o.A, &calm, replay(&calm))
	b = execute(o.B, &calm, replay(&calm))
	if a.unsupported != "" || b.unsupported != "" {
		return d, false, a, b
	}
	for i := range min(len(a.answers), len(b.answers)) {
		x, y := a.answers[i], b.answers[i]
		if what, ax, by := differs(&x, &y); what != "" {
			d = Difference{Class: x.State + ", " + c.Steps[i].What + ": " + what, A: ax, B: by}
			d.Known = known(o.A.Name, o.B.Name, d.Class)
			return d, true, a, b
		}
	}
	return d, false, a, b
}

// differs says what differs in two answers, and both sides of it. What is a matter of
// congestion control and of buffers is not compared.
func differs(x, y *answer) (what, a, b string) {
	reset := func(n int) string {
		if n > 0 {
			return "a RST"
		}
		return "no RST"
	}
	switch {
	case x.Resets > 0 != (y.Resets > 0):
		return "reset", reset(x.Resets), reset(y.Resets)
	case x.Expected != y.Expected:
		return "acknowledgment", fmt.Sprint("acknowledges ", x.Expected), fmt.Sprint("acknowledges ", y.Expected)
	case x.Read != y.Read:
		return "delivery", fmt.Sprintf("%d octets read", x.Read), fmt.Sprintf("%d octets read", y.Read)
	case x.Errno != y.Errno:
		return "error", orNone(x.Errno), orNone(y.Errno)
	case x.Fin != y.Fin:
		return "FIN", fmt.Sprint("FIN sent: ", x.Fin), fmt.Sprint("FIN sent: ", y.Fin)
	case x.Answered != y.Answered && x.Idle && y.Idle:
		return "answer", fmt.Sprint("answered: ", x.Answered), fmt.Sprint("answered: ", y.Answered)
	}
	return "", "", ""
}

func orNone(errno string) string {
	if errno == "" {
		return "no error"
	}
	return errno
}

// comparison collects differences.
type comparison struct {
	mu       sync.Mutex
	report   DiffReport
	classes  map[string]*Difference
	started  time.Time
	reported time.Time
	broken   error
}

// Differ runs cases on two targets and reports how they answer differently. When ctx
// ends it returns what it found until then.
func Differ(ctx context.Context, opt DiffOptions) (*DiffReport, error) {
	f := &comparison{classes: make(map[string]*Difference), started: time.Now(), reported: time.Now()}
	f.report.A, f.report.B, f.report.Seed = opt.A.Name, opt.B.Name, opt.Seed
	workers := opt.Parallel
	brief := opt.A.Capabilities.RealTime || opt.B.Capabilities.RealTime
	if brief {
		workers = 1
	}
	each(ctx, opt.Cases, workers, func(n int) {
		g := &generator{src: Seeded(opt.Seed, uint64(n)), brief: brief}
		c := g.newCase()
		c.Seed, c.calm = opt.Seed<<20^uint64(n), true
		c.Finish = false
		made := execute(opt.A, &c, g.next)
		c.Steps = made.steps
		d, differ, a, b := opt.compare(&c)
		f.note(&opt, n, &c, d, differ, a, b)
	})
	for _, d := range f.classes {
		f.report.Differences = append(f.report.Differences, *d)
	}
	slices.SortFunc(f.report.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class, b.Class))
	})
	for i := range f.report.Differences {
		f.report.Differences[i].shrink(ctx, &opt, brief)
	}
	return &f.report, f.broken
}

// note counts a case.
func (f *comparison) note(opt *DiffOptions, n int, c *Case, d Difference, differ bool, a, b *outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.report
	r.Cases++
	for _, o := range []*outcome{a, b} {
		if o.broken != nil && f.broken == nil {
			f.broken = o.broken
		}
	}
	switch {
	case a.unsupported != "" || b.unsupported != "":
		r.Unsupported++
	case differ:
		r.Differing++
	case len(a.failures)+len(b.failures) > 0:
		r.Failed++
	}
	if differ {
		have := f.classes[d.Class]
		if have == nil || have.Number > n {
			d.Number, d.Case = n, *c
			if have != nil {
				d.Count = have.Count
			}
			have = &d
			f.classes[d.Class] = have
		}
		have.Count++
	}
	if opt.Progress != nil && time.Since(f.reported) >= between {
		f.reported = time.Now()
		opt.Progress(Progress{Cases: r.Cases, Failing: r.Differing, Classes: len(f.classes), Elapsed: time.Since(f.started)})
	}
}

// shrink makes the case of a difference smaller and writes its script. In real time
// that would take too long.
func (d *Difference) shrink(ctx context.Context, opt *DiffOptions, brief bool) {
	if !brief && ctx.Err() == nil {
		d.Case = shrinkBy(d.Case, func(c Case) bool {
			now, differ, _, _ := opt.compare(&c)
			return differ && now.Class == d.Class
		})
	}
	now, _, a, _ := opt.compare(&d.Case)
	if now.Class == d.Class {
		d.A, d.B = now.A, now.B
	}
	if a.script != nil {
		d.Script = d.Case.text(a, fmt.Sprintf("plumbline fuzz: %s and %s differ: %s\n%s: %s; %s: %s", opt.A.Name, opt.B.Name, d.Class, opt.A.Name, d.A, opt.B.Name, d.B))
	}
}
