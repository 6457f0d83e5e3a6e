package emulated

import "math/rand/v2"

// Loss is the configuration of a loss process: RandomLoss, GilbertElliott or LossPattern.
type Loss interface {
	// validate reports the first mistake, naming the field.
	validate() error
	// process makes the process of one direction.
	process(rng *rand.Rand) lossProcess
}

// lossProcess decides about one packet after the other.
type lossProcess interface {
	lose() bool
}

// RandomLoss loses each packet with the same probability, independently.
type RandomLoss float64

func (l RandomLoss) validate() error { return checkProbability("Probability", float64(l)) }

func (l RandomLoss) process(rng *rand.Rand) lossProcess { return &randomLoss{p: float64(l), rng: rng} }

type randomLoss struct {
	p   float64
	rng *rand.Rand
}

func (l *randomLoss) lose() bool { return l.rng.Float64() < l.p }

// GilbertElliott is a process of two states with a probability of loss in each. Bursts last 1/ToGood packets on average, and the share of time in the bad state is
// ToBad/(ToBad+ToGood).
type GilbertElliott struct {
	// ToBad and ToGood are the probabilities to change state, before each packet.
	ToBad, ToGood float64
	// Good and Bad are the probabilities of loss in the two states.
	Good, Bad float64
}

func (g GilbertElliott) validate() error {
	for _, err := range []error{
		checkProbability("ToBad", g.ToBad), checkProbability("ToGood", g.ToGood), checkProbability("Good", g.Good), checkProbability("Bad", g.Bad),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (g GilbertElliott) process(rng *rand.Rand) lossProcess { return &gilbertElliott{cfg: g, rng: rng} }

type gilbertElliott struct {
	cfg GilbertElliott
	bad bool
	rng *rand.Rand
}

func (g *gilbertElliott) lose() bool {
	change := g.cfg.ToBad
	if g.bad {
		change = g.cfg.ToGood
	}
	if g.rng.Float64() < change {
		g.bad = !g.bad
	}
	p := g.cfg.Good
	if g.bad {
		p = g.cfg.Bad
	}
	return g.rng.Float64() < p
}

// LossPattern loses every packet whose number, counted from 0 in the order in which they reach the wire, is in the set. It serves tests of what a particular loss
// does. The set must not change while the path is in use.
type LossPattern map[uint64]bool

func (LossPattern) validate() error { return nil }

func (l LossPattern) process(*rand.Rand) lossProcess { return &lossPattern{set: l} }

type lossPattern struct {
	set LossPattern
	n   uint64
}

func (l *lossPattern) lose() bool {
	l.n++
	return l.set[l.n-1]
}
