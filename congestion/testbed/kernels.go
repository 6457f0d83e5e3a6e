package testbed

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/plumbline/plumbline/congestion/testbed/internal/kernel"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// kernels is a lab of this machine's kernel, in real time.
type kernels struct {
	*kernel.Lab
}

// newKernels makes the namespaces and starts the time.
func newKernels(s *Scenario, opts *Options) (lab, error) {
	cfg := kernel.Config{
		Forward: s.Forward, Reverse: s.Reverse, MTU: s.mtu(), Seed: s.Seed,
		Buffer: s.buffer(), Unsent: s.unsent(), Capture: opts.Capture,
	}
	for i := range s.Flows {
		f := &s.Flows[i]
		pair := slices.Index(cfg.Pairs, f.Delay)
		if pair < 0 {
			pair = len(cfg.Pairs)
			cfg.Pairs = append(cfg.Pairs, f.Delay)
		}
		cfg.Flows = append(cfg.Flows, kernel.Flow{Pair: pair, Algorithm: f.Algorithm, Start: f.Start, Bytes: f.Bytes, Rate: f.Rate})
	}
	l, err := kernel.New(cfg)
	if err != nil {
		return nil, err
	}
	return kernels{l}, nil
}

// unsent returns how much an application in real time keeps ready for its kernel, in bytes: enough for a flow to go on while the application waits for the processor.
func (s *Scenario) unsent() int {
	const (
		least = 2 * writeSize
		ahead = 250 * time.Millisecond
		most  = 1 << 24
	)
	rate := s.Capacity()
	for _, step := range s.Forward.Steps {
		rate = max(rate, step.Rate)
	}
	return min(max(rate.Bytes(ahead), least), most)
}

// The methods of a lab.

func (k kernels) elapsed() time.Duration { return k.Elapsed() }

func (k kernels) runUntil(ctx context.Context, t time.Duration) error { return k.RunUntil(ctx, t) }

func (k kernels) forward() emulated.Stats { return k.Forward() }

func (k kernels) close() { k.Close() }

func (k kernels) observe(i int) view {
	s := k.State(i)
	return view{
		received: s.Received, finished: s.Finished, cwnd: s.Cwnd, inFlight: s.InFlight, srtt: s.SRTT, pacing: s.Pacing,
		retransmits: s.Retransmits, timeouts: s.Timeouts,
	}
}

func (k kernels) realTime() (*RealTime, error) {
	missed, err := k.Missed()
	if err != nil {
		return nil, err
	}
	r := &RealTime{Missed: missed}
	for _, link := range []emulated.Stats{k.Forward(), k.Reverse()} {
		r.LateP50Ms = max(r.LateP50Ms, milliseconds(link.Late.Quantile(0.50)))
		r.LateP99Ms = max(r.LateP99Ms, milliseconds(link.Late.Quantile(0.99)))
		r.LateMaxMs = max(r.LateMaxMs, milliseconds(link.Late.Quantile(1)))
	}
	return r, nil
}

// validateRealTime reports what cannot run in real time.
func (s *Scenario) validateRealTime() error {
	pairs := make(map[time.Duration]bool)
	for i := range s.Flows {
		f := &s.Flows[i]
		if k, err := KindOf(f.Stack); err != nil || !k.kernel {
			return fmt.Errorf("Flows[%d].Stack: %s runs in virtual time and linux in real time: not in one scenario", i, f.Stack)
		}
		pairs[f.Delay] = true
	}
	switch {
	case len(s.Flows) > kernel.MaxFlows:
		return wrong("Flows", "%d are more than the %d that stack linux can have", len(s.Flows), kernel.MaxFlows)
	case len(pairs) > kernel.MaxPairs:
		return wrong("Flows", "%d different delays are more than the %d that stack linux can have", len(pairs), kernel.MaxPairs)
	}
	return nil
}

// CheckRealTime says in one line why those of the scenarios that run in real time cannot run on this machine by this user, and what to do about it; nil if they can or
// there are none. It looks, and runs none of them.
func CheckRealTime(scenarios []*Scenario) error {
	var algorithms []string
	some := false
	for _, s := range scenarios {
		if !s.RealTime() {
			continue
		}
		some = true
		for i := range s.Flows {
			if a := s.Flows[i].Algorithm; !slices.Contains(algorithms, a) {
				algorithms = append(algorithms, a)
			}
		}
	}
	if !some {
		return nil
	}
	return kernel.Check(algorithms...)
}
