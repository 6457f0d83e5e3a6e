package fuzz

import (
	"cmp"
	"slices"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// maxAttempts is how many smaller cases shrinking tries.
const maxAttempts = 600

// Shrink returns a case that fails in the same class as c, with as few steps and as
// little in them as it finds in some hundred attempts. It returns c if c does not fail
// so.
func Shrink(kind target.Kind, c Case, class string) Case {
	return shrinkBy(c, func(c Case) bool {
		_, bad := execute(kind, &c, replay(&c)).fails(class)
		return bad
	})
}

// shrinkBy returns a smaller case of which fails is true, or c.
func shrinkBy(c Case, fails func(Case) bool) Case {
	s := &shrinker{test: fails, left: maxAttempts}
	if !s.fails(c) {
		return c
	}
	s.best = c
	for s.pass() && s.left > 0 {
	}
	return s.best
}

// shrinker tries smaller cases.
type shrinker struct {
	test func(Case) bool
	best Case
	left int
}

// fails reports whether a case still fails.
func (s *shrinker) fails(c Case) bool {
	s.left--
	return s.test(c)
}

// try keeps a case if it fails too, and reports whether it does.
func (s *shrinker) try(change func(c *Case)) bool {
	if s.left <= 0 {
		return false
	}
	c := s.best
	c.Steps, c.Options, c.Settings = slices.Clone(c.Steps), slices.Clone(c.Options), slices.Clone(c.Settings)
	change(&c)
	if !s.fails(c) {
		return false
	}
	s.best = c
	return true
}

// pass tries everything once, and reports whether the case became smaller.
func (s *shrinker) pass() bool {
	smaller := s.removeSteps()
	smaller = s.simplifyCase() || smaller
	for i := range s.best.Steps {
		smaller = s.simplifyStep(i) || smaller
	}
	return smaller
}

// removeSteps removes ever shorter runs of steps, the last first, since nothing depends
// on those.
func (s *shrinker) removeSteps() bool {
	smaller := false
	for size := max(len(s.best.Steps)/2, 1); size > 0; size /= 2 {
		for from := len(s.best.Steps) - size; from >= 0; from-- {
			if from+size > len(s.best.Steps) {
				continue
			}
			if s.try(func(c *Case) { c.Steps = slices.Delete(c.Steps, from, from+size) }) {
				smaller = true
				from -= size - 1
			}
		}
	}
	return smaller
}

// simplifyCase tries a plainer connection.
func (s *shrinker) simplifyCase() bool {
	c := &s.best
	smaller := false
	change := func(applies bool, f func(*Case)) {
		if applies && s.try(f) {
			smaller = true
		}
	}
	change(c.Finish, func(c *Case) { c.Finish = false })
	change(c.IP != 4, func(c *Case) { c.IP = 4 })
	change(c.SYN.ISN != 0, func(c *Case) { c.SYN.ISN = 0 })
	change(c.SYN.Timestamps, func(c *Case) { c.SYN.Timestamps = false })
	change(c.SYN.SACK, func(c *Case) { c.SYN.SACK = false })
	change(c.SYN.ECN, func(c *Case) { c.SYN.ECN = false })
	change(c.SYN.WScale >= 0, func(c *Case) { c.SYN.WScale = -1 })
	change(c.SYN.MSS != 1000, func(c *Case) { c.SYN.MSS = 1000 })
	change(c.SYN.Window != 30000, func(c *Case) { c.SYN.Window = 30000 })
	for i := len(c.Options) - 1; i >= 0; i-- {
		change(true, func(c *Case) { c.Options = slices.Delete(c.Options, i, i+1) })
	}
	for i := len(c.Settings) - 1; i >= 0; i-- {
		change(true, func(c *Case) { c.Settings = slices.Delete(c.Settings, i, i+1) })
	}
	return smaller
}

// simplifyStep tries a plainer step.
func (s *shrinker) simplifyStep(i int) bool {
	smaller := false
	for _, d := range []time.Duration{0, 10 * time.Millisecond, time.Second} {
		if s.best.Steps[i].After > d && s.try(func(c *Case) { c.Steps[i].After = d }) {
			smaller = true
			break
		}
	}
	if call := s.best.Steps[i].Call; call != nil {
		for _, n := range []int{1, 100, 1000} {
			if call.Size > n && s.try(func(c *Case) { x := *call; x.Size = n; c.Steps[i].Call = &x }) {
				return true
			}
		}
		return smaller
	}
	if s.best.Steps[i].Segment == nil {
		return smaller
	}
	for _, f := range simplifications {
		before := *s.best.Steps[i].Segment
		after := before
		if f(&after); same(&before, &after) {
			continue
		}
		if s.try(func(c *Case) { c.Steps[i].Segment = &after }) {
			smaller = true
		}
	}
	return smaller
}

// simplifications make a segment plainer.
var simplifications = []func(*Segment){
	func(g *Segment) { g.Raw = nil },
	func(g *Segment) { g.SACK = nil },
	func(g *Segment) { g.SACK = g.SACK[:max(len(g.SACK)-1, min(len(g.SACK), 1))] },
	func(g *Segment) { g.Stamp = StampRight },
	func(g *Segment) { g.Mark = script.ECNUnset },
	func(g *Segment) { g.Reserved, g.BadChecksum = 0, false },
	func(g *Segment) { g.Flags &^= script.ECE | script.CWR | script.AE },
	func(g *Segment) { g.Flags &^= urg; g.Urg = 0 },
	func(g *Segment) { g.Flags &^= psh },
	func(g *Segment) { g.Flags &^= fin },
	func(g *Segment) { g.Len = 0 },
	func(g *Segment) { g.Len = min(g.Len, 1) },
	func(g *Segment) { g.Len = min(g.Len, 100) },
	func(g *Segment) { g.Seq = plainly(g, Place{From: Next}) },
	func(g *Segment) { g.Ack = Place{From: Seen} },
	func(g *Segment) { g.Seq.Plus = min(max(g.Seq.Plus, -1), 1) },
	func(g *Segment) { g.Ack.Plus = min(max(g.Ack.Plus, -1), 1) },
	func(g *Segment) { g.Win = 30000 },
}

// plainly is where a segment begins that is nothing special: a SYN at the initial
// sequence number, any other at pl.
func plainly(g *Segment, pl Place) Place {
	if g.Flags&syn != 0 {
		return Place{From: Initial}
	}
	return pl
}

// same reports whether a simplification has changed nothing.
func same(a, b *Segment) bool {
	x, y := *a, *b
	x.SACK, y.SACK, x.Raw, y.Raw = nil, nil, nil, nil
	return len(a.SACK) == len(b.SACK) && len(a.Raw) == len(b.Raw) &&
		x.Flags == y.Flags && x.Seq == y.Seq && x.Len == y.Len && x.Ack == y.Ack && x.Win == y.Win && x.Urg == y.Urg &&
		x.Stamp == y.Stamp && x.Mark == y.Mark && x.BadChecksum == y.BadChecksum && x.Reserved == y.Reserved
}

// sortFailures sorts by the number of the case, then by class.
func sortFailures(fs []Failure) {
	slices.SortFunc(fs, func(a, b Failure) int { return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Class, b.Class)) })
}
