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
	l, err := newLab(s, &opts)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	defer l.close()

	m := newMeter(s, l, &opts)
	for i := 1; i <= opts.Samples; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.runUntil(ctx, s.Duration*time.Duration(i)/time.Duration(opts.Samples)); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		if opts.Progress != nil {
			opts.Progress(min(l.elapsed(), s.Duration), s.Duration)
		}
	}
	r, err := m.result()
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	if w, ok := l.(*world); ok {
		if err := w.evaluate(r); err != nil {
			return nil, fmt.Errorf("scenario %s, stack %s: %w", s.Name, s.Stack(), err)
		}
	}
	r.WallSeconds = time.Since(began).Seconds()
	return r, nil
}

// lab is what the flows of a scenario run on: stacks of this module in virtual time, or kernels in real time.
type lab interface {
	// elapsed returns the time since the start.
	elapsed() time.Duration
	// runUntil lets time pass. The error says why it cannot go on.
	runUntil(ctx context.Context, t time.Duration) error
	// forward returns the counters of the direction in which data flows.
	forward() emulated.Stats
	// observe returns the state of a flow.
	observe(flow int) view
	// realTime tells how well the lab kept to real time; nil if it runs in virtual time.
	realTime() (*RealTime, error)
	// close gives everything back.
	close()
}

// newLab makes what a scenario runs on; its time begins.
func newLab(s *Scenario, opts *Options) (lab, error) {
	if s.RealTime() {
		return newKernels(s, opts)
	}
	return newWorld(s, opts)
}

// view is what is known of a flow at one instant.
type view struct {
	// received is how much the receiver has read, and finished when it had everything, 0 if it has not.
	received int64
	finished time.Duration
	// The rest is what the sender's endpoint tells of the connection.
	cwnd, inFlight uint64 // bytes
	ssthresh       uint32 // segments; 0 if there is no limit
	srtt           time.Duration
	pacing         uint64 // bytes per second; 0 if it does not pace
	retransmits    uint64
	timeouts       uint64
	algorithm      string
}

// meter observes a lab.
type meter struct {
	scenario *Scenario
	lab      lab

	warm    bool // the warm-up is over
	atWarm  snapshot
	series  []Point
	flows   [][]FlowPoint
	lastAt  time.Duration
	lastGot []int64
}

// snapshot is what counters said at one instant.
type snapshot struct {
	at    time.Duration
	link  emulated.Stats
	views []view
}

func newMeter(s *Scenario, l lab, opts *Options) *meter {
	n := len(s.Flows)
	m := &meter{scenario: s, lab: l, lastGot: make([]int64, n), flows: make([][]FlowPoint, n)}
	m.series = make([]Point, 0, opts.Samples)
	if s.Warmup == 0 {
		m.warm, m.atWarm = true, m.snapshot()
	}
	return m
}

func (m *meter) snapshot() snapshot {
	s := snapshot{at: m.lab.elapsed(), link: m.lab.forward()}
	for i := range m.flows {
		s.views = append(s.views, m.lab.observe(i))
	}
	return s
}

// runUntil lets time pass until t and takes a point of each series. The end of the warm-up is noted at its instant.
func (m *meter) runUntil(ctx context.Context, t time.Duration) error {
	if warmup := m.scenario.Warmup; !m.warm && warmup <= t {
		if err := m.lab.runUntil(ctx, warmup); err != nil {
			return err
		}
		m.warm, m.atWarm = true, m.snapshot()
	}
	if err := m.lab.runUntil(ctx, t); err != nil {
		return err
	}
	m.sample()
	return nil
}

// sample takes a point.
func (m *meter) sample() {
	now := m.lab.elapsed()
	if now == m.lastAt {
		return
	}
	seconds := (now - m.lastAt).Seconds()
	link := m.lab.forward()
	p := Point{At: now.Seconds(), QueueBytes: int(link.Queue.Bytes), Drops: link.Drops()}
	if c := m.scenario.Capacity(); c > 0 {
		p.QueueMs = float64(link.Queue.Bytes) * 8 / float64(c) * 1000
	}
	for i := range m.flows {
		v := m.lab.observe(i)
		rate := float64(v.received-m.lastGot[i]) * 8 / seconds / 1e6
		m.lastGot[i] = v.received
		p.Mbps += rate
		m.flows[i] = append(m.flows[i], FlowPoint{Cwnd: int(v.cwnd), InFlight: int(v.inFlight), RTTMs: milliseconds(v.srtt), Mbps: rate})
	}
	m.series = append(m.series, p)
	m.lastAt = now
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
