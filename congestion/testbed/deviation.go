package testbed

import (
	"fmt"
	"math"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// deviation is a rule that gVisor's TCP, of the version that the module requires, departs from, as a scenario that measures one number.
type deviation struct {
	name, about, algorithm string
	check                  check
	path                   func() (forward, reverse emulated.Link)
	duration               time.Duration
	// writes are what the application writes; none means as much as it can.
	writes []write
	// paced asks for a stack that paces what its algorithm does not, if there is one.
	paced bool
}

// write is one of an application that writes at certain times. NoDelay is set, so that small ones leave as they are.
type write struct {
	at    time.Duration
	bytes int64
}

// repeated are n writes, one after the other.
func repeated(n int, every time.Duration, bytes int64) []write {
	out := make([]write, n)
	for i := range out {
		out[i] = write{time.Duration(i) * every, bytes}
	}
	return out
}

// lossy is a path with a buffer of four BDP that loses the n-th packets of the sender, counted from its SYN as 0.
func lossy(rate emulated.BitRate, rtt time.Duration, n ...uint64) func() (emulated.Link, emulated.Link) {
	return func() (emulated.Link, emulated.Link) {
		f, r := bottleneck(rate, rtt, 4)
		pattern := make(emulated.LossPattern)
		for _, i := range n {
			pattern[i] = true
		}
		f.Loss = pattern
		return f, r
	}
}

// stepped is a path that changes.
func stepped(rate emulated.BitRate, rtt time.Duration, steps ...emulated.Step) func() (emulated.Link, emulated.Link) {
	return func() (emulated.Link, emulated.Link) {
		f, r := bottleneck(rate, rtt, 1)
		for _, s := range steps {
			s.Rate = rate
			f.Steps = append(f.Steps, s)
		}
		return f, r
	}
}

// regrowth measures how long CUBIC takes to bring back a window of so many segments after a loss: K of RFC 9438 §4.2, where C is 0.4 and the window begins at 0.7 of it.
func regrowth(window int, duration time.Duration) deviation {
	k := math.Cbrt(float64(window) * (1 - 0.7) / 0.4)
	return deviation{
		name: "cubic-regrowth", algorithm: "cubic",
		about: fmt.Sprintf("one loss at a window of %d segments, 100 ms: when is the window as large again?", window),
		check: check{
			Check{Quantity: "time to come back to W_max", Unit: "s", Source: fmt.Sprintf("RFC 9438 §4.2: K = %.2f s", k), Least: 0.95 * k, Most: 1.05 * k},
			func(r *recording) (float64, error) { return measureRegrowth(r, float64(window)) },
		},
		path:     lossy(emulated.Gbps, 100*ms, uint64(window)-8), // slow start has the initial window and what was acknowledged
		duration: duration,
	}
}

const (
	pauseEnds  = 65 * time.Second
	spikeAt    = 5 * time.Second
	outageAt   = 5 * time.Second
	outageEnds = 8 * time.Second
	burstAt    = 400 * time.Millisecond

	epochRTT      = 200 * ms
	friendlyRTT   = 20 * ms
	stallRate     = 10 * emulated.Mbps
	stallDuration = 16 * time.Second
)

// deviations are the scenarios of the family "deviation".
func deviations() []deviation {
	return []deviation{
		{
			name: "second-rto", algorithm: "cubic",
			about: "an outage of several time-outs: what threshold is left?",
			check: check{Check{Quantity: "threshold after the last time-out, of that after the first", Unit: "", Source: "RFC 5681 §3.1: held constant", Least: 1, Most: 1}, measureSecondRTO},
			path: stepped(10*emulated.Mbps, 100*ms,
				emulated.Step{At: outageAt, Delay: 50 * ms, Down: true}, emulated.Step{At: outageEnds, Delay: 50 * ms}),
			duration: 12 * time.Second,
		},
		{
			name: "rack-burst", algorithm: "reno",
			about: "one loss in a burst that left at one instant: how much is sent again?",
			check: check{Check{Quantity: "retransmissions for one loss", Unit: "segments", Source: "RFC 8985 §6.2: ties go by sequence", Least: 1, Most: 1}, measureRetransmissions},
			path:  lossy(10*emulated.Mbps, 40*ms, 4), duration: 2 * time.Second,
			writes: []write{{0, 10 * 1400}},
		},
		{
			name: "recovery-volume", algorithm: "reno",
			about: "one loss at a window of some 160 segments: how much leaves in recovery?",
			check: check{Check{Quantity: "sent in recovery beyond the threshold", Unit: "segments", Source: "RFC 9937 §4", Least: -1, Most: 1}, measureRecoveryVolume},
			path:  lossy(10*emulated.Mbps, 100*ms, 150), duration: 4 * time.Second,
		},
		{
			name: "recovery-clock", algorithm: "reno",
			about: "the same loss: how long is the sender silent in recovery?",
			check: check{Check{Quantity: "longest silence in recovery", Unit: "ms", Source: "RFC 9937 §1: no half a round trip of silence", Least: 0, Most: 10}, measureSilence},
			path:  lossy(10*emulated.Mbps, 100*ms, 150), duration: 4 * time.Second,
		},
		{
			name: "spurious", algorithm: "reno",
			about: "a delay of 500 ms lets the timer expire for nothing: is the window given back?",
			check: check{Check{Quantity: "window a second later, of that before", Unit: "", Source: "RFC 4015 §3, RFC 5682 §2", Least: 0.9, Most: 1.5}, measureSpurious},
			path: stepped(20*emulated.Mbps, 40*ms,
				emulated.Step{At: spikeAt, Delay: 520 * ms}, emulated.Step{At: spikeAt + 50*ms, Delay: 20 * ms}),
			duration: 8 * time.Second,
		},
		{
			name: "unused-window", algorithm: "reno",
			about: "500 exchanges of one segment: what window do they earn?",
			check: check{Check{Quantity: "window at the end", Unit: "segments", Source: "RFC 7661 §4.2", Least: 1, Most: 20}, measureLastWindow},
			path:  lossy(10*emulated.Mbps, 10*ms), duration: 31 * time.Second,
			writes: repeated(500, 60*ms, 1000),
		},
		{
			name: "byte-counting", algorithm: "reno",
			about: "segments of 100 bytes: how far does the window grow for a byte that is acknowledged?",
			check: check{Check{Quantity: "growth for each byte acknowledged", Unit: "bytes", Source: "RFC 3465 §2.2", Least: 0, Most: 1}, measureByteCounting},
			path:  lossy(10*emulated.Mbps, 40*ms), duration: 2 * time.Second,
			writes: repeated(1000, ms, 100),
		},
		{
			name: "dsack", algorithm: "reno",
			about: "one packet in twenty arrives twice: how many of them does the receiver report?",
			check: check{Check{Quantity: "duplicates reported by DSACK", Unit: "", Source: "RFC 2883 §4", Least: 0.98, Most: 1}, measureDSACK},
			path: func() (emulated.Link, emulated.Link) {
				f, r := bottleneck(10*emulated.Mbps, 40*ms, 4)
				f.Duplicate = 0.05
				return f, r
			},
			duration: 5 * time.Second,
		},
		{
			name: "pacing", algorithm: "reno", paced: true,
			about: "100 kB after a short pause: how much leaves at one instant?",
			check: check{Check{Quantity: "largest burst", Unit: "segments", Source: "a millisecond at the pacing rate, draft-ietf-ccwg-bbr §5.6.3", Least: 1, Most: 4}, measureBurst},
			path:  lossy(10*emulated.Mbps, 40*ms), duration: time.Second,
			writes: []write{{0, 200_000}, {burstAt, 100_000}},
		},
		regrowth(833, 25*time.Second),
		{
			name: "cubic-epoch", algorithm: "cubic",
			about: "a second loss before the window has come back: when is it where fast convergence puts W_max?",
			check: check{Check{Quantity: "time to W_max, of K for cwnd_epoch", Unit: "", Source: "RFC 9438 §4.2, §4.7: K = cbrt((W_max-cwnd_epoch)/C)", Least: 0.9, Most: 1.1}, measureEpoch},
			path:  lossy(emulated.Gbps, epochRTT, 90, 600), duration: 16 * time.Second,
		},
		{
			name: "cubic-friendly", algorithm: "cubic",
			about: "one loss at a window of 40 segments, 20 ms: how fast does the window grow once it is as large again?",
			check: check{Check{Quantity: "growth in a round trip above cwnd_prior", Unit: "segments", Source: "RFC 9438 §4.3: α is 1 from there on", Least: 0.9, Most: 1.1}, measureFriendly},
			path:  lossy(emulated.Gbps, friendlyRTT, 32), duration: 2 * time.Second,
		},
		{
			name: "rto-recovery", algorithm: "reno",
			about: "slow start loses every other segment, and retransmissions with them: how much of the link is used then?",
			check: check{Check{Quantity: "delivered in the second half, of what the link carries", Unit: "", Source: "RFC 8985 §6.3, RFC 5681 §3.1: one episode for a time-out", Least: 0.9, Most: 1.01}, measureDelivered},
			path:  func() (emulated.Link, emulated.Link) { return bottleneck(stallRate, 100*ms, 1) }, duration: stallDuration,
		},
		{
			name: "cubic-idle", algorithm: "cubic",
			about: "60 s of silence after a loss: how far does one ACK open the window then?",
			check: check{Check{Quantity: "largest growth by one ACK after a minute", Unit: "segments", Source: "RFC 9438 §4.2, §5.8", Least: 0, Most: 2}, measureIdle},
			path:  lossy(20*emulated.Mbps, 40*ms, 60), duration: 68 * time.Second,
			writes: []write{{0, 2 << 20}, {pauseEnds, 2 << 20}},
		},
	}
}

func deviationVariants() []string {
	var names []string
	for _, d := range deviations() {
		names = append(names, d.name)
	}
	return names
}

// buildDeviation makes the scenario of one deviation. The algorithm is the one whose rule it is, whatever Params.Algorithms are. A kernel's sender is not seen by the event, and has
// none.
func buildDeviation(p *Params, variant string) []*Scenario {
	if k, err := KindOf(p.Stack); err == nil && k.kernel {
		return nil
	}
	for _, d := range deviations() {
		if d.name != variant {
			continue
		}
		return []*Scenario{d.scenario(p.Stack)}
	}
	panic(fmt.Sprintf("no deviation %q", variant))
}

func (d *deviation) scenario(stack string) *Scenario {
	flow := Flow{Stack: stack, Algorithm: d.algorithm, writes: d.writes}
	if d.paced && stack == "tcpx" {
		flow.Stack = "tcpx-paced"
	}
	s := &Scenario{About: d.about, Duration: d.duration, Flows: []Flow{flow}, check: &d.check}
	s.Forward, s.Reverse = d.path()
	return s
}
