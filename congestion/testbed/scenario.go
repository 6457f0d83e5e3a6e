package testbed

import (
	"fmt"
	"strings"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Scenario is one simulation: flows over a path.
type Scenario struct {
	// Name identifies the scenario in reports, as "loss/1%". About says in a sentence what it shows.
	Name, About string
	// Forward is the direction in which data flows, Reverse that of the acknowledgments.
	Forward, Reverse emulated.Link
	// Flows are the connections, in the order in which reports list them.
	Flows []Flow
	// Duration is how long the simulation lasts, and Warmup the part at its start that steady-state figures leave out.
	Duration, Warmup time.Duration
	// Seed determines all that is random.
	Seed uint64
	// MTU is that of the path, in bytes; 0 means 1500.
	MTU uint32

	// check is what a scenario of the family "deviation" measures, nil in others.
	check *check
}

// Flow is one connection, whose sender is on the left.
type Flow struct {
	// Stack is the name of the kind of stack at both ends, and Algorithm that of its congestion control.
	Stack, Algorithm string
	// Start is when it connects.
	Start time.Duration
	// Bytes is how much it sends before it closes; 0 means that it sends until the end.
	Bytes int64
	// Delay is that of the flow's access link, added in both directions.
	Delay time.Duration
	// Rate is that at which the application has data, in bits a second; 0 means always.
	Rate emulated.BitRate

	// writes are what an application of a scenario with a check writes, and when; nil means as much as it can.
	writes []write
}

// SegmentPayload is how much a full segment carries on a path of 1500 bytes: IPv4, TCP and timestamps take the rest.
const SegmentPayload = 1448

// Capacity returns the rate of the bottleneck, that of its trace if it has one; 0 means no limit.
func (s *Scenario) Capacity() emulated.BitRate {
	if s.Forward.Trace != nil {
		return s.Forward.Trace.Rate()
	}
	return s.Forward.Rate
}

// BaseRTT returns the round-trip time of a path without a queue, without the flows' own delays and without serialisation.
func (s *Scenario) BaseRTT() time.Duration { return s.Forward.Delay + s.Reverse.Delay }

// BDP returns the bandwidth-delay product of the path in bytes.
func (s *Scenario) BDP() int { return s.Capacity().Bytes(s.BaseRTT()) }

// Ceiling returns the most payload that the bottleneck carries, in bits a second: its capacity without the headers of the stack that has the least.
func (s *Scenario) Ceiling() float64 {
	headers := plainHeaders + timestampsOption
	for i := range s.Flows {
		if k, err := KindOf(s.Flows[i].Stack); err == nil {
			headers = min(headers, k.headers)
		}
	}
	mtu := float64(s.mtu())
	return float64(s.Capacity()) * (mtu - float64(headers)) / mtu
}

// RealTime tells whether the scenario runs in real time: its flows are the kernel's.
func (s *Scenario) RealTime() bool {
	for i := range s.Flows {
		if k, err := KindOf(s.Flows[i].Stack); err == nil && k.kernel {
			return true
		}
	}
	return false
}

func (s *Scenario) mtu() uint32 {
	if s.MTU == 0 {
		return emulated.DefaultMTU
	}
	return s.MTU
}

// Stack returns the names of the kinds of stack in use, joined by "+".
func (s *Scenario) Stack() string { return s.join(func(f Flow) string { return f.Stack }) }

// Algorithm returns the names of the algorithms in use, joined by "+".
func (s *Scenario) Algorithm() string { return s.join(func(f Flow) string { return f.Algorithm }) }

func (s *Scenario) join(field func(Flow) string) string {
	var names []string
	seen := make(map[string]bool)
	for _, f := range s.Flows {
		if n := field(f); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return strings.Join(names, "+")
}

// The limits of a scenario: what is beyond them would take all memory or never end.
const (
	maxFlows    = 10_000
	minMTU      = 68
	maxMTU      = 65_535
	maxDuration = 24 * time.Hour
)

// wrong makes the error that a field has an impossible value.
func wrong(field, format string, args ...any) error {
	return fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...))
}

// Validate reports the first mistake in s, naming the field.
func (s *Scenario) Validate() error {
	switch {
	case s.Duration <= 0 || s.Duration > maxDuration:
		return wrong("Duration", "%v is not between 0 and %v", s.Duration, maxDuration)
	case s.Warmup < 0 || s.Warmup >= s.Duration:
		return wrong("Warmup", "%v is not between 0 and the duration of %v", s.Warmup, s.Duration)
	case len(s.Flows) == 0 || len(s.Flows) > maxFlows:
		return wrong("Flows", "%d are not between 1 and %d", len(s.Flows), maxFlows)
	}
	if s.MTU != 0 && (s.MTU < minMTU || s.MTU > maxMTU) {
		return wrong("MTU", "%d is not between %d and %d", s.MTU, minMTU, maxMTU)
	}
	if err := s.Forward.Validate(); err != nil {
		return fmt.Errorf("Forward.%w", err)
	}
	if err := s.Reverse.Validate(); err != nil {
		return fmt.Errorf("Reverse.%w", err)
	}
	for i := range s.Flows {
		if err := s.Flows[i].validate(s.Duration); err != nil {
			return fmt.Errorf("Flows[%d].%w", i, err)
		}
	}
	if s.RealTime() {
		return s.validateRealTime()
	}
	return nil
}

func (f *Flow) validate(duration time.Duration) error {
	k, err := KindOf(f.Stack)
	switch {
	case err != nil:
		return wrong("Stack", "%w", err)
	case !k.has(f.Algorithm):
		return wrong("Algorithm", "stack %s has no %q; it has %s", k.Name, f.Algorithm, strings.Join(k.Algorithms(), ", "))
	case f.Start < 0 || f.Start >= duration:
		return wrong("Start", "%v is not within the duration of %v", f.Start, duration)
	case f.Bytes < 0:
		return wrong("Bytes", "%d is negative", f.Bytes)
	case f.Delay < 0 || f.Delay > time.Hour:
		return wrong("Delay", "%v is not between 0 and an hour", f.Delay)
	}
	return nil
}
