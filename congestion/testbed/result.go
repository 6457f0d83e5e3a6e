package testbed

import (
	"slices"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Result is what a run found. The fields that have JSON names, which are stable, are what reports for programs have.
//
// Goodput, queue and Jain's index are those of the steady state, without the warm-up; retransmits and time-outs those of the whole run.
type Result struct {
	Scenario string `json:"scenario"`
	// Stack and Algorithm are names, joined by "+" where flows differ.
	Stack     string `json:"stack"`
	Algorithm string `json:"algorithm"`
	// Flows is their number.
	Flows int `json:"flows"`
	// GoodputMbps is the payload that the receivers of all flows read, in Mbit/s.
	GoodputMbps float64 `json:"goodput_mbps"`
	// Quantiles of the time that packets waited at the bottleneck.
	QueueP50Ms float64 `json:"queue_p50_ms"`
	QueueP95Ms float64 `json:"queue_p95_ms"`
	// Retransmits and RTOs are what the senders counted.
	Retransmits uint64 `json:"retransmits"`
	RTOs        uint64 `json:"rtos"`
	// Jain is Jain's index of fairness of the flows' goodputs: 1 if all are equal, 1/n if one of n has everything.
	Jain float64 `json:"jain"`
	// WallSeconds is what the run took, the only field that differs between runs of the same seed. SimSeconds is the virtual time.
	WallSeconds float64 `json:"wall_s"`
	SimSeconds  float64 `json:"sim_s"`

	// Check is the number that a scenario of the family "deviation" measures, nil in others.
	Check *Check `json:"check,omitempty"`

	// Detail is what else the run found. It is nil in a result that was read from JSON.
	Detail *Detail `json:"-"`
}

// Detail is what reports for people have beside the figures of Result. Its rates are those of the steady state.
type Detail struct {
	// About describes the scenario.
	About string
	// Capacity and BaseRTT are the path's.
	CapacityMbps, BaseRTTMs float64
	// Utilisation is the share of what the bottleneck can carry of payload; 0 if it has no limit.
	Utilisation float64
	// QueueP99Ms is a further quantile of the time that packets waited.
	QueueP99Ms float64
	// Sent, Dropped and Marked count packets at the bottleneck and on the wire behind it over the whole run.
	Sent, Dropped, Marked uint64
	// DropRate is the share of packets dropped by the queue or the policer, not by the wire.
	DropRate float64
	// ConvergenceSeconds is the time from the start of the last flow after which Jain's index of what flows have received since that start is 0.95 or more for good; -1 if it
	// never is, 0 for a single flow.
	ConvergenceSeconds float64
	// Power is the utilisation over the mean round-trip time in units of the base round-trip time: 1 is a full link without a queue.
	Power float64
	// Quantiles of the times in which flows of a certain size were complete; 0 if there are none. Unfinished is how many were not complete at the end.
	CompletionP50Ms, CompletionP95Ms float64
	Unfinished                       int
	// PerFlow has the figures of each flow, in the order of the scenario.
	PerFlow []FlowResult
	// Series are the whole run in points at equal distances.
	Series []Point
	// RealTime is set for what ran in real time.
	RealTime *RealTime
	// Rounds is how many Medians was given, 0 if it was not, and RoundsUsed how many it made use of.
	Rounds, RoundsUsed int
}

// RealTime tells how far a run in real time can be trusted.
type RealTime struct {
	// Quantiles of how late the emulator handed packets over, in both directions; the worst is the third. Round-trip times are longer by that much, and what is much in
	// proportion to the path's own makes the run worthless.
	LateP50Ms, LateP99Ms, LateMaxMs float64
	// Missed counts packets that were lost between the kernel and the emulator.
	Missed uint64
}

// Trustworthy tells whether a run on a path of this round-trip time can be compared with others: nothing was missed, and 99 % of the packets were late by less than a tenth of it.
func (r *RealTime) Trustworthy(baseRTTMs float64) bool {
	return r.Missed == 0 && r.LateP99Ms < baseRTTMs/10
}

// FlowResult is what a run found about one flow.
type FlowResult struct {
	Stack, Algorithm string
	// GoodputMbps is its goodput in steady state, and Share its share of that of all flows.
	GoodputMbps, Share float64
	// Retransmits and RTOs are those of the whole run.
	Retransmits, RTOs uint64
	// CompletionMs is the time in which a flow of a certain size was complete; 0 if it has none or was not.
	CompletionMs float64
	// Series are the points of this flow, at the instants of Detail.Series.
	Series []FlowPoint
}

// Point is the state of the path at one instant.
type Point struct {
	At         float64 // seconds
	Mbps       float64 // goodput since the last point
	QueueBytes int
	QueueMs    float64 // QueueBytes at the capacity
	Drops      uint64  // so far
}

// FlowPoint is the state of a flow at one instant.
type FlowPoint struct {
	Cwnd, InFlight int // bytes
	RTTMs          float64
	Mbps           float64 // goodput since the last point
}

// result sums up.
func (m *meter) result() (*Result, error) {
	s := m.scenario
	end := m.snapshot()
	window := (end.at - m.atWarm.at).Seconds()
	r := &Result{Scenario: s.Name, Stack: s.Stack(), Algorithm: s.Algorithm(), Flows: len(s.Flows), SimSeconds: s.Duration.Seconds()}
	d := &Detail{
		About: s.About, CapacityMbps: float64(s.Capacity()) / 1e6, BaseRTTMs: milliseconds(s.BaseRTT()),
		Sent: end.link.Sent.Packets, Dropped: end.link.Drops(), Marked: end.link.Marked, Series: m.series,
	}
	r.Detail = d
	var rates []float64
	for i := range s.Flows {
		spec, v := &s.Flows[i], &end.views[i]
		fr := FlowResult{
			Stack: spec.Stack, Algorithm: spec.Algorithm, Series: m.flows[i],
			GoodputMbps: float64(v.received-m.atWarm.views[i].received) * 8 / window / 1e6,
			Retransmits: v.retransmits, RTOs: v.timeouts,
		}
		if v.finished > 0 {
			fr.CompletionMs = milliseconds(v.finished - spec.Start)
		}
		r.GoodputMbps += fr.GoodputMbps
		r.Retransmits += fr.Retransmits
		r.RTOs += fr.RTOs
		rates = append(rates, fr.GoodputMbps)
		d.PerFlow = append(d.PerFlow, fr)
	}
	for i := range d.PerFlow {
		if r.GoodputMbps > 0 {
			d.PerFlow[i].Share = d.PerFlow[i].GoodputMbps / r.GoodputMbps
		}
	}
	r.Jain = Jain(rates)
	r.path(s, &m.atWarm.link, &end.link)
	d.completions(s)
	d.ConvergenceSeconds = m.convergence()
	var err error
	d.RealTime, err = m.lab.realTime()
	return r, err
}

// path sums up what the bottleneck did between two snapshots.
func (r *Result) path(s *Scenario, from, to *emulated.Stats) {
	wait := to.Sojourn
	wait.Sub(&from.Sojourn)
	r.QueueP50Ms = milliseconds(wait.Quantile(0.50))
	r.QueueP95Ms = milliseconds(wait.Quantile(0.95))
	d := r.Detail
	d.QueueP99Ms = milliseconds(wait.Quantile(0.99))
	if sent := to.Sent.Packets - from.Sent.Packets; sent > 0 {
		d.DropRate = float64(queueDrops(to)-queueDrops(from)) / float64(sent)
	}
	if ceiling := s.Ceiling(); ceiling > 0 {
		d.Utilisation = r.GoodputMbps * 1e6 / ceiling
	}
	if rtt := s.BaseRTT(); rtt > 0 {
		d.Power = d.Utilisation * float64(rtt) / float64(rtt+wait.Mean())
	}
}

// completions sums up the flows of a certain size.
func (d *Detail) completions(s *Scenario) {
	var times []float64
	for i := range s.Flows {
		switch {
		case s.Flows[i].Bytes == 0:
		case d.PerFlow[i].CompletionMs == 0:
			d.Unfinished++
		default:
			times = append(times, d.PerFlow[i].CompletionMs)
		}
	}
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	d.CompletionP50Ms = times[len(times)/2]
	d.CompletionP95Ms = times[len(times)*95/100]
}

// Jain returns Jain's index of fairness: the square of the sum over n times the sum of squares. It is 1 for equal values, and for none.
func Jain(values []float64) float64 {
	var sum, squares float64
	for _, v := range values {
		sum += v
		squares += float64(v * v)
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(values)) * squares)
}

// convergence finds when flows have become fair for good: since the last one started, each has had its share.
func (m *meter) convergence() float64 {
	const fair = 0.95
	if len(m.flows) < 2 {
		return 0
	}
	last := time.Duration(0)
	for _, f := range m.scenario.Flows {
		last = max(last, f.Start)
	}
	first := -1.0
	sums := make([]float64, len(m.flows))
	for at := range m.series {
		t := m.series[at].At
		if t <= last.Seconds() {
			continue
		}
		for i := range m.flows {
			sums[i] += m.flows[i][at].Mbps
		}
		switch {
		case Jain(sums) < fair:
			first = -1
		case first < 0:
			first = t - last.Seconds()
		}
	}
	return first
}

// queueDrops counts what the queue and the policer dropped.
func queueDrops(s *emulated.Stats) uint64 {
	return s.Dropped[emulated.DropOverflow].Packets + s.Dropped[emulated.DropAQM].Packets + s.Dropped[emulated.DropPolicer].Packets
}
