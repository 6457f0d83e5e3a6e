package testbed

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Family is a group of scenarios under one name that differ in one property, as "loss" with "loss/0.01%" to "loss/1%".
type Family struct {
	// Name is the part of a scenario's name before the slash. About says what the family shows.
	Name, About string
	// Variants are the parts behind the slash; none means that the family has one scenario, named like itself.
	Variants []string

	// build makes the scenarios of one variant: one for each algorithm, or for what else the family compares.
	build func(p *Params, variant string) []*Scenario
}

// Params are what the built-in scenarios are made for.
type Params struct {
	// Stack is the kind of stack of all flows. Algorithms are those to compare.
	Stack      string
	Algorithms []string
	// Seed determines all that is random.
	Seed uint64
	// Duration replaces that of the scenarios, if not 0; a warm-up keeps its share of it.
	Duration time.Duration
}

// Expand returns the scenarios of a name: a family's, or of one variant of it.
func Expand(name string, p Params) ([]*Scenario, error) {
	prefix, variant, one := strings.Cut(name, "/")
	for _, f := range Families() {
		if f.Name != prefix {
			continue
		}
		variants := f.Variants
		switch {
		case one && len(variants) == 0:
			return nil, fmt.Errorf("scenario %s has no variants", prefix)
		case one && !slices.Contains(variants, variant):
			return nil, fmt.Errorf("scenario %s has no variant %q; it has %s", prefix, variant, strings.Join(variants, ", "))
		case one:
			variants = []string{variant}
		case len(variants) == 0:
			variants = []string{""}
		}
		var out []*Scenario
		for _, v := range variants {
			out = append(out, f.scenarios(&p, v)...)
		}
		return out, nil
	}
	var names []string
	for _, f := range Families() {
		names = append(names, f.Name)
	}
	return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(names, ", "))
}

// scenarios makes those of one variant and puts into them what all have in common.
func (f *Family) scenarios(p *Params, variant string) []*Scenario {
	all := f.build(p, variant)
	for _, s := range all {
		s.Name = f.Name
		if variant != "" {
			s.Name += "/" + variant
		}
		if s.About == "" {
			s.About = f.About
		}
		s.Seed = p.Seed
		if p.Duration > 0 && s.check == nil {
			s.Stretch(p.Duration)
		}
	}
	return all
}

// Stretch changes the duration of a valid scenario; what happens at certain times, as the start of a flow or a change of the link, moves with it.
func (s *Scenario) Stretch(d time.Duration) {
	scale := float64(d) / float64(s.Duration)
	move := func(t *time.Duration) { *t = time.Duration(float64(*t) * scale) }
	move(&s.Warmup)
	for i := range s.Flows {
		move(&s.Flows[i].Start)
	}
	for _, l := range []*emulated.Link{&s.Forward, &s.Reverse} {
		for i := range l.Steps {
			move(&l.Steps[i].At)
		}
	}
	s.Duration = d
}
