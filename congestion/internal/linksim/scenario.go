package linksim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Scenario is flows over a shared link, measured over the second half of its duration.
type Scenario struct {
	// Rate is the link's, in bytes per second, RTT the propagation time of all flows, and Queue the size of its buffer in BDP.
	Rate  uint64
	RTT   time.Duration
	Queue float64
	// Loss is the probability with which the network loses a packet.
	Loss float64
	// Seed determines all that is random.
	Seed uint64
	// Duration is how long it lasts.
	Duration time.Duration
	// Flows make the controllers of the flows, which start 73 ms apart.
	Flows []func() congestion.Controller
}

// Outcome is what a Scenario measured.
type Outcome struct {
	// Shares are the flows' parts of the link, to three places, and Total their sum.
	Shares []float64
	Total  float64
	// Jain is Jain's index of fairness.
	Jain float64
	// Retransmits is the part of what was sent that was lost.
	Retransmits float64
	// QueueMedian is the median time in the queue, and Timeouts counts those of the whole run.
	QueueMedian time.Duration
	Timeouts    int
}

// ScenarioMSS is the size of a Scenario's packets in bytes.
const ScenarioMSS = 1448

// Run runs the scenario. The same scenario has the same outcome.
func (s Scenario) Run() Outcome {
	sim := New(s.Rate, uint64(s.Queue*float64(s.Rate)*s.RTT.Seconds()))
	r := rand.New(rand.NewPCG(s.Seed, 2))
	flows := make([]*Flow, len(s.Flows))
	for i, f := range s.Flows {
		flows[i] = sim.Add(FlowConfig{
			Controller: f(), RTT: s.RTT, MSS: ScenarioMSS, Seed: 100*s.Seed + uint64(i), Start: time.Duration(i) * 73 * time.Millisecond,
			Drop: func(uint64) bool { return r.Float64() < s.Loss },
		})
	}
	sim.Run(s.Duration / 2)
	before := make([]Flow, len(flows))
	for i, f := range flows {
		before[i] = *f
	}
	var queues []uint64
	for sim.Now() < s.Duration {
		sim.Run(sim.Now() + 20*time.Millisecond)
		queues = append(queues, sim.Link.Waiting())
	}
	slices.Sort(queues)

	o := Outcome{QueueMedian: time.Duration(float64(queues[len(queues)/2]) / float64(s.Rate) * 1e9)}
	var squares float64
	var sent, lost uint64
	for i, f := range flows {
		share := float64(f.Delivered-before[i].Delivered) / (float64(s.Rate) * (s.Duration / 2).Seconds())
		o.Shares = append(o.Shares, math.Round(1000*share)/1000)
		o.Total += share
		squares += share * share
		sent += f.Sent - before[i].Sent
		lost += f.Lost - before[i].Lost
		o.Timeouts += f.RTOs
	}
	o.Jain = o.Total * o.Total / (squares * float64(len(flows)))
	o.Retransmits = float64(lost) / float64(sent)
	return o
}
