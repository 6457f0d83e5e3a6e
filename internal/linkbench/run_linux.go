package linkbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plumbline/plumbline/internal/namespace"
)

// steps are what is done for each contender in a round.
var steps = []struct {
	quantities []string
	endpoint   bool // needs an endpoint, which the kernel's own stack is not
	measure    func(*racer, time.Duration, *Contender) error
}{
	{[]string{"rx", "rx-ns", "rx-allocs"}, true, (*racer).rx},
	{[]string{"rx-loss"}, true, (*racer).loss},
	{[]string{"tx"}, true, (*racer).tx},
	{[]string{"tcp-send"}, false, (*racer).send},
	{[]string{"tcp-receive"}, false, (*racer).receive},
	{[]string{"rtt"}, false, (*racer).rtt},
}

// Run measures. A contender that cannot be opened or fails is in the result with
// its error; that no network namespace can be made is an error. Stock endpoints
// cannot be closed and keep goroutines and descriptors until the process ends.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &Result{Rounds: max(o.Rounds, 1), Time: o.Time}
	for _, q := range Quantities {
		if len(o.Quantities) == 0 || slices.Contains(o.Quantities, q.Name) {
			r.Quantities = append(r.Quantities, q)
		}
	}
	racers, err := r.openAll(o.Contenders)
	defer func() {
		for _, racer := range racers {
			if racer != nil {
				racer.close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	total, done := r.Rounds*len(steps)*len(racers), 0
	for round := range r.Rounds {
		for _, step := range steps {
			for i := range racers {
				if err := ctx.Err(); err != nil {
					return nil, context.Cause(ctx)
				}
				i = (i + round) % len(racers)
				c, racer := &r.Contenders[i], racers[i]
				if c.Error == "" && r.wants(step.quantities) && (racer.gate != nil || !step.endpoint) {
					if err := step.measure(racer, o.Time, c); err != nil {
						c.Error = fmt.Sprintf("%s: %v", step.quantities[0], err)
					}
				}
				if done++; o.Progress != nil {
					o.Progress(done, total)
				}
			}
		}
	}
	r.summarize()
	return r, nil
}

// wants says whether one of quantities is asked for.
func (r *Result) wants(quantities []string) bool {
	return slices.ContainsFunc(r.Quantities, func(q Quantity) bool { return slices.Contains(quantities, q.Name) })
}

// openAll opens the contenders. Those that cannot be are nil.
func (r *Result) openAll(names []string) ([]*racer, error) {
	var racers []*racer
	for _, c := range contestants {
		if len(names) != 0 && !slices.Contains(names, c.name) {
			continue
		}
		racer, err := c.ready()
		entry := Contender{Name: c.name, Doc: c.doc, Against: c.against}
		if err != nil {
			entry.Error = err.Error()
			if errors.Is(err, namespace.ErrPrivilege) {
				return racers, err
			}
		}
		racers = append(racers, racer)
		r.Contenders = append(r.Contenders, entry)
	}
	return racers, nil
}
