package testbed

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

const ms = time.Millisecond

// Families returns the built-in scenarios.
func Families() []Family {
	return []Family{
		{Name: "clean", About: "one flow, 100 Mbit/s, 100 ms, a buffer of one BDP", build: buildClean},
		{Name: "loss", About: "one flow, 100 Mbit/s, 100 ms, a buffer of one BDP, random loss", Variants: []string{"0.01%", "0.1%", "1%", "burst"}, build: buildLoss},
		{Name: "bufferbloat", About: "two flows, 50 Mbit/s, 30 ms, buffers of many BDP", Variants: []string{"1bdp", "10bdp", "50bdp", "100bdp"}, build: buildBufferbloat},
		{Name: "fairness", About: "equal flows, 50 Mbit/s, 40 ms, a buffer of one BDP, started a second apart", Variants: []string{"2", "4", "10"}, build: buildFairness},
		{Name: "coexist", About: "one flow of each of two algorithms, 50 Mbit/s, 30 ms", Variants: []string{"0.1bdp", "0.5bdp", "1bdp", "2bdp", "4bdp", "8bdp", "16bdp"}, build: buildCoexist},
		{Name: "rttfair", About: "two flows of 20 and 80 ms, 50 Mbit/s, a buffer of a BDP of the longer one", build: buildRTTFair},
		{Name: "shallow", About: "flows on 1 Gbit/s, 100 ms, a buffer of 2 % of a BDP", Variants: []string{"1", "10", "100"}, build: buildShallow},
		{Name: "step", About: "a link whose rate or delay changes in the middle of the run", Variants: stepVariants(), build: buildStep},
		{Name: "path", About: "what links do to packets beside losing them", Variants: []string{"policer", "reorder", "ack-aggregation", "sub-packet-bdp", "app-limited", "jitter"}, build: buildPath},
		{Name: "short", About: "a flow of a certain size each 200 ms on the average, 50 Mbit/s, 40 ms", Variants: []string{"10KB", "100KB", "1MB", "10KB-bulk", "100KB-bulk", "1MB-bulk"}, build: buildShort},
		{Name: "trace", About: "a link with the varying rate of a cellular network", build: buildTrace},
		{Name: "aqm", About: "four flows, 50 Mbit/s, 40 ms, under queue management", Variants: []string{"fifo", "codel", "fq-codel", "pie"}, build: buildAQM},
		{Name: "deviation", About: "one number each where gVisor's TCP departs from the RFCs, with its range; algorithm and duration are fixed", Variants: deviationVariants(), build: buildDeviation},
	}
}

// bottleneck is a path of a rate and a round-trip time, half of it in each direction, with a FIFO of so many bandwidth-delay products.
func bottleneck(rate emulated.BitRate, rtt time.Duration, bdp float64) (forward, reverse emulated.Link) {
	size := int(bdp * float64(rate.Bytes(rtt)))
	forward = emulated.Link{Rate: rate, Delay: rtt / 2, Queue: emulated.FIFO{Bytes: max(size, 2*emulated.DefaultMTU)}}
	return forward, emulated.Link{Delay: rtt / 2}
}

// eachAlgorithm makes a scenario of n equal flows for each algorithm, started at a distance.
func (p *Params) eachAlgorithm(n int, apart time.Duration, base Scenario) []*Scenario {
	var out []*Scenario
	for _, a := range p.Algorithms {
		s := base
		s.Flows = nil
		for i := range n {
			s.Flows = append(s.Flows, Flow{Stack: p.Stack, Algorithm: a, Start: time.Duration(i) * apart})
		}
		s.Forward.Steps = append([]emulated.Step(nil), base.Forward.Steps...)
		out = append(out, &s)
	}
	return out
}

func buildClean(p *Params, _ string) []*Scenario {
	f, r := bottleneck(100*emulated.Mbps, 100*ms, 1)
	return p.eachAlgorithm(1, 0, Scenario{Forward: f, Reverse: r, Duration: 60 * time.Second, Warmup: 20 * time.Second})
}

func buildLoss(p *Params, variant string) []*Scenario {
	f, r := bottleneck(100*emulated.Mbps, 100*ms, 1)
	if variant == "burst" {
		f.Loss = emulated.GilbertElliott{ToBad: 0.0005, ToGood: 0.25, Bad: 0.5}
	} else {
		f.Loss = emulated.RandomLoss(percent(variant))
	}
	return p.eachAlgorithm(1, 0, Scenario{Forward: f, Reverse: r, Duration: 60 * time.Second, Warmup: 20 * time.Second})
}

// percent reads a variant such as "0.1%".
func percent(variant string) float64 {
	v, err := strconv.ParseFloat(strings.TrimSuffix(variant, "%"), 64)
	if err != nil {
		panic(err)
	}
	return v / 100
}

// bdps reads a variant such as "10bdp".
func bdps(variant string) float64 { return 100 * percent(strings.TrimSuffix(variant, "bdp")) }

func count(variant string) int {
	n, err := strconv.Atoi(variant)
	if err != nil {
		panic(err)
	}
	return n
}

func buildBufferbloat(p *Params, variant string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 30*ms, bdps(variant))
	return p.eachAlgorithm(2, time.Second, Scenario{Forward: f, Reverse: r, Duration: 60 * time.Second, Warmup: 30 * time.Second})
}

func buildFairness(p *Params, variant string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 40*ms, 1)
	return p.eachAlgorithm(count(variant), time.Second, Scenario{Forward: f, Reverse: r, Duration: 120 * time.Second, Warmup: 60 * time.Second})
}

// buildCoexist makes a scenario for each pair of algorithms.
func buildCoexist(p *Params, variant string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 30*ms, bdps(variant))
	var out []*Scenario
	for i, a := range p.Algorithms {
		for _, b := range p.Algorithms[i+1:] {
			out = append(out, &Scenario{
				Forward: f, Reverse: r, Duration: 120 * time.Second, Warmup: 30 * time.Second,
				Flows: []Flow{{Stack: p.Stack, Algorithm: a}, {Stack: p.Stack, Algorithm: b, Start: time.Second}},
			})
		}
	}
	return out
}

func buildRTTFair(p *Params, _ string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 20*ms, 4)
	all := p.eachAlgorithm(2, time.Second, Scenario{Forward: f, Reverse: r, Duration: 120 * time.Second, Warmup: 60 * time.Second})
	for _, s := range all {
		s.Flows[1].Delay = 30 * ms
	}
	return all
}

func buildShallow(p *Params, variant string) []*Scenario {
	f, r := bottleneck(emulated.Gbps, 100*ms, 0.02)
	return p.eachAlgorithm(count(variant), 10*ms, Scenario{Forward: f, Reverse: r, Duration: 20 * time.Second, Warmup: 10 * time.Second})
}

// steps are the variants of "step": what the link is like between a third and two thirds of the run.
var steps = []struct {
	name string
	step emulated.Step
}{
	{"rate/10", emulated.Step{Rate: 5 * emulated.Mbps, Delay: 20 * ms}},
	{"rate/100", emulated.Step{Rate: 500 * emulated.Kbps, Delay: 20 * ms}},
	{"rate*10", emulated.Step{Rate: 500 * emulated.Mbps, Delay: 20 * ms}},
	{"rtt*5", emulated.Step{Rate: 50 * emulated.Mbps, Delay: 180 * ms}},
	{"rtt/4", emulated.Step{Rate: 50 * emulated.Mbps, Delay: 0}},
	{"delay-spike", emulated.Step{}},
	{"blackout", emulated.Step{}},
}

func stepVariants() []string {
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	return names
}

func buildStep(p *Params, variant string) []*Scenario {
	const rate, total = 50 * emulated.Mbps, 60 * time.Second
	f, r := bottleneck(rate, 40*ms, 1)
	normal := emulated.Step{Rate: rate, Delay: 20 * ms}
	switch variant {
	case "delay-spike":
		f.Steps = delaySpikes(normal, 500*ms, 5*time.Second, total)
	case "blackout":
		f.Steps = []emulated.Step{{At: total / 3, Rate: rate, Delay: 20 * ms, Down: true}, {At: total/3 + 2*time.Second, Rate: rate, Delay: 20 * ms}}
	default:
		for _, s := range steps {
			if s.name == variant {
				f.Steps = []emulated.Step{s.step, normal}
				f.Steps[0].At, f.Steps[1].At = total/3, 2*total/3
			}
		}
	}
	return p.eachAlgorithm(1, 0, Scenario{Forward: f, Reverse: r, Duration: total, Warmup: 5 * time.Second})
}

// delaySpikes are changes of the delay that last for 50 ms: enough for a timer to expire, not for the queue to fill.
func delaySpikes(normal emulated.Step, extra, every, until time.Duration) []emulated.Step {
	var out []emulated.Step
	for at := every; at < until; at += every {
		high, low := normal, normal
		high.At, high.Delay = at, normal.Delay+extra
		low.At = at + 50*ms
		out = append(out, high, low)
	}
	return out
}

func buildPath(p *Params, variant string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 40*ms, 1)
	s := Scenario{Duration: 60 * time.Second, Warmup: 20 * time.Second}
	var app emulated.BitRate
	switch variant {
	case "policer":
		s.About = "a policer of 10 Mbit/s with a burst of 100 ms on a link of 50 Mbit/s"
		f.Policer = &emulated.Policer{Rate: 10 * emulated.Mbps, Burst: (10 * emulated.Mbps).Bytes(100 * ms)}
	case "reorder":
		s.About = "two of a hundred packets late by a quarter of the round-trip time"
		f.Reorder = emulated.Reorder{Probability: 0.02, Delay: 10 * ms}
	case "ack-aggregation":
		s.About = "acknowledgments in bunches each 10 ms"
		r.Aggregate = 10 * ms
	case "jitter":
		s.About = "jitter of up to 10 ms in both directions"
		f.Jitter, r.Jitter = 10*ms, 10*ms
	case "sub-packet-bdp":
		s.About = "a BDP below one packet: 200 kbit/s, 40 ms"
		f, r = bottleneck(200*emulated.Kbps, 40*ms, 1)
		f.Queue = emulated.FIFO{Packets: 8}
	case "app-limited":
		s.About = "an application with 20 Mbit/s on a link of 50"
		app = 20 * emulated.Mbps
	}
	s.Forward, s.Reverse = f, r
	all := p.eachAlgorithm(1, 0, s)
	for _, s := range all {
		s.Flows[0].Rate = app
	}
	return all
}

// buildShort makes flows at times of a Poisson process, alone or against a flow that never ends. Another duration leaves the load as it is.
func buildShort(p *Params, variant string) []*Scenario {
	total := cmp.Or(p.Duration, 30*time.Second)
	warmup := total / 15
	name, bulk := strings.CutSuffix(variant, "-bulk")
	size := map[string]int64{"10KB": 10_000, "100KB": 100_000, "1MB": 1_000_000}[name]
	f, r := bottleneck(50*emulated.Mbps, 40*ms, 1)
	all := p.eachAlgorithm(1, 0, Scenario{Forward: f, Reverse: r, Duration: total, Warmup: warmup})
	for _, s := range all {
		a := s.Flows[0]
		if !bulk {
			s.Flows = nil
		}
		rng := rand.New(rand.NewPCG(p.Seed, 0x73686f7274))
		for at := warmup; at < total-warmup && len(s.Flows) < maxFlows; at += time.Duration(rng.ExpFloat64() * float64(200*ms)) {
			s.Flows = append(s.Flows, Flow{Stack: a.Stack, Algorithm: a.Algorithm, Start: at, Bytes: size})
		}
	}
	return all
}

// buildTrace makes up a trace: a rate that walks between 1 and 40 Mbit/s on a logarithmic scale, with opportunities at random, as those of cellular networks do.
func buildTrace(p *Params, _ string) []*Scenario {
	rng := rand.New(rand.NewPCG(p.Seed, 0x7472616365))
	var text strings.Builder
	rate, due := 10.0, 0.0 // Mbit/s; opportunities
	for t := range 20_000 {
		rate = min(max(rate*math.Exp(0.05*rng.NormFloat64()), 1), 40)
		for due += rate * 1e6 / 8 / emulated.TraceOpportunity / 1000 * rng.ExpFloat64(); due >= 1; due-- {
			fmt.Fprintln(&text, t+1)
		}
	}
	trace, err := emulated.ReadTrace("built-in", strings.NewReader(text.String()))
	if err != nil {
		panic(err)
	}
	f := emulated.Link{Trace: trace, Delay: 20 * ms, Queue: emulated.FIFO{Packets: 200}}
	return p.eachAlgorithm(1, 0, Scenario{Forward: f, Reverse: emulated.Link{Delay: 20 * ms}, Duration: 60 * time.Second, Warmup: 10 * time.Second})
}

func buildAQM(p *Params, variant string) []*Scenario {
	f, r := bottleneck(50*emulated.Mbps, 40*ms, 4)
	switch variant {
	case "codel":
		f.Queue = emulated.CoDel{}
	case "fq-codel":
		f.Queue = emulated.FQCoDel{}
	case "pie":
		f.Queue = emulated.PIE{}
	}
	return p.eachAlgorithm(4, time.Second, Scenario{Forward: f, Reverse: r, Duration: 60 * time.Second, Warmup: 20 * time.Second})
}
