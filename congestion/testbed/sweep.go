package testbed

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shard is one part of several of a sweep. The zero value is all of it.
type Shard struct {
	// Index counts from 1 to Count.
	Index, Count int
}

// ParseShard reads a shard in the form "i/n".
func ParseShard(text string) (Shard, error) {
	a, b, ok := strings.Cut(text, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || n < 1 || i < 1 || i > n {
		return Shard{}, fmt.Errorf("%q is not of the form i/n with 1 <= i <= n", text)
	}
	return Shard{i, n}, nil
}

// Select returns the scenarios of the shard: each n-th, so that the variants of a family are spread.
func (s Shard) Select(all []*Scenario) []*Scenario {
	if s.Count <= 1 {
		return all
	}
	var out []*Scenario
	for i := s.Index - 1; i < len(all); i += s.Count {
		out = append(out, all[i])
	}
	return out
}

// Sweep runs many scenarios.
type Sweep struct {
	Scenarios []*Scenario
	// Parallel is how many run at a time; 0 means the number of processors that Go uses. Results do not depend on it. Those in real time run alone, one after the other, behind
	// all others.
	Parallel int
	// Retries is how often a run in real time is repeated if the machine was too busy for it to be trusted; the last one counts, trusted or not.
	Retries int
	// Options returns those of one scenario; nil means none.
	Options func(i int, s *Scenario) Options
	// Progress, if set, is told now and then how far all is. It may be called by several goroutines at a time.
	Progress func(Progress)
}

// Progress tells how far a sweep is.
type Progress struct {
	// Finished of Scenarios scenarios are complete.
	Finished, Scenarios int
	// Simulated is how much time of the scenarios has passed of Total. Real is how much of what is left passes in real time.
	Simulated, Total, Real time.Duration
}

// Run runs them and returns the results in the order of the scenarios. The first error ends it.
func (s *Sweep) Run(ctx context.Context) ([]*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := s.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	t := &tracker{sweep: s, done: make([]time.Duration, len(s.Scenarios))}
	for _, sc := range s.Scenarios {
		t.state.Total += sc.Duration
		if sc.RealTime() {
			t.state.Real += sc.Duration
		}
	}
	t.state.Scenarios = len(s.Scenarios)

	var virtual, real []int
	for i, sc := range s.Scenarios {
		if sc.RealTime() {
			real = append(real, i)
		} else {
			virtual = append(virtual, i)
		}
	}
	results := make([]*Result, len(s.Scenarios))
	run := func(i int) {
		r, err := persist(s.Retries, func() (*Result, error) { return Run(ctx, s.Scenarios[i], s.options(i, t)) })
		if err != nil {
			cancel(err)
			return
		}
		results[i] = r
		t.finish(i)
	}
	each(ctx, virtual, workers, run)
	each(ctx, real, 1, run)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return results, nil
}

// persist runs again, so many times at most, until the result can be trusted.
func persist(retries int, run func() (*Result, error)) (*Result, error) {
	for {
		r, err := run()
		if err != nil || r.trusted() || retries <= 0 {
			return r, err
		}
		retries--
	}
}

// each calls run for all of items, in that order and so many at a time, until ctx ends.
func each(ctx context.Context, items []int, workers int, run func(int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, len(items)) {
		wg.Go(func() {
			for i := range next {
				run(i)
			}
		})
	}
	for _, i := range items {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
}

func (s *Sweep) options(i int, t *tracker) Options {
	var o Options
	if s.Options != nil {
		o = s.Options(i, s.Scenarios[i])
	}
	o.Progress = func(done, _ time.Duration) { t.update(i, done) }
	return o
}

// tracker adds up the progress of several runs.
type tracker struct {
	sweep *Sweep
	mu    sync.Mutex
	done  []time.Duration
	state Progress
}

func (t *tracker) update(i int, done time.Duration) {
	t.mu.Lock()
	t.state.Simulated += done - t.done[i]
	if t.sweep.Scenarios[i].RealTime() {
		t.state.Real -= done - t.done[i]
	}
	t.done[i] = done
	state := t.state
	t.mu.Unlock()
	if t.sweep.Progress != nil {
		t.sweep.Progress(state)
	}
}

func (t *tracker) finish(i int) {
	t.mu.Lock()
	t.state.Finished++
	t.mu.Unlock()
	t.update(i, t.sweep.Scenarios[i].Duration)
}
