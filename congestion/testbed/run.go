package testbed

import (
	"context"
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Options are what a run needs beside its scenario. They do not change its results.
type Options struct {
	// Samples is how many points the series of a result have; 0 means DefaultSamples.
	Samples int
	// Progress, if set, is told now and then how much of the simulation is done.
	Progress func(done, total time.Duration)
	// Capture, if set, wraps the link endpoint of each host on the left, to record what crosses it.
	Capture func(stack.LinkEndpoint, tcpip.Clock) (stack.LinkEndpoint, error)
}

// DefaultSamples is the number of points of a series.
const DefaultSamples = 600

// Run simulates a scenario. It returns an error if the scenario is impossible, if ctx ends, or if a connection fails.
func Run(ctx context.Context, s *Scenario, opts Options) (*Result, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	if opts.Samples <= 0 {
		opts.Samples = DefaultSamples
	}
	began := time.Now()
	w, err := newWorld(s, &opts)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	defer w.close()

	m := newMeter(w, &opts)
	for i := 1; i <= opts.Samples; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m.runUntil(s.Duration * time.Duration(i) / time.Duration(opts.Samples))
		if opts.Progress != nil {
			opts.Progress(w.clock.Elapsed(), s.Duration)
		}
	}
	for _, f := range w.flows {
		if f.err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.Name, f.err)
		}
	}
	r := m.result()
	r.WallSeconds = time.Since(began).Seconds()
	return r, nil
}

// meter observes a world.
type meter struct {
	world   *world
	warm    bool // the warm-up is over
	atWarm  snapshot
	series  []Point
	flows   [][]FlowPoint
	lastAt  time.Duration
	lastGot []int64
}

// snapshot is what counters said at one instant.
type snapshot struct {
	at       time.Duration
	link     emulated.Stats
	received []int64
	views    []view
}

func newMeter(w *world, opts *Options) *meter {
	n := len(w.flows)
	m := &meter{world: w, lastGot: make([]int64, n), flows: make([][]FlowPoint, n)}
	m.series = make([]Point, 0, opts.Samples)
	if w.scenario.Warmup == 0 {
		m.warm, m.atWarm = true, m.snapshot()
	}
	return m
}

func (m *meter) snapshot() snapshot {
	s := snapshot{at: m.world.clock.Elapsed(), link: m.world.path.Forward()}
	for _, f := range m.world.flows {
		s.received = append(s.received, f.received)
		s.views = append(s.views, f.observe())
	}
	return s
}

// runUntil lets time pass until t and takes a point of each series. The end of the warm-up is noted at its instant.
func (m *meter) runUntil(t time.Duration) {
	if warmup := m.world.scenario.Warmup; !m.warm && warmup <= t {
		m.world.runUntil(warmup)
		m.warm, m.atWarm = true, m.snapshot()
	}
	m.world.runUntil(t)
	m.sample()
}

// sample takes a point.
func (m *meter) sample() {
	now := m.world.clock.Elapsed()
	if now == m.lastAt {
		return
	}
	seconds := (now - m.lastAt).Seconds()
	link := m.world.path.Forward()
	p := Point{At: now.Seconds(), QueueBytes: int(link.Queue.Bytes), Drops: link.Drops()}
	if c := m.world.scenario.Capacity(); c > 0 {
		p.QueueMs = float64(link.Queue.Bytes) * 8 / float64(c) * 1000
	}
	for i, f := range m.world.flows {
		v := f.observe()
		rate := float64(f.received-m.lastGot[i]) * 8 / seconds / 1e6
		m.lastGot[i] = f.received
		p.Mbps += rate
		m.flows[i] = append(m.flows[i], FlowPoint{Cwnd: int(v.cwnd), InFlight: int(v.inFlight), RTTMs: milliseconds(v.srtt), Mbps: rate})
	}
	m.series = append(m.series, p)
	m.lastAt = now
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
