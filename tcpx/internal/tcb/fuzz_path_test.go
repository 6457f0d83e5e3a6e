package tcb

import "math/rand/v2"

// hostilePath answers as no sane finder of path MTUs would: sizes jump, probes are of any size up to the limit, and each report may be called a black hole.
type hostilePath struct {
	rng   *rand.Rand
	limit int
	mtu   int
}

// MTU implements PathMTU. A size stays for a while, as core and path agree on one within a call.
func (p *hostilePath) MTU(Time) int {
	if p.mtu == 0 || p.rng.IntN(16) == 0 {
		p.mtu = [...]int{0, 1, 60, 500, 1460, 9000, 65535}[p.rng.IntN(7)]
	}
	return p.mtu
}

// Probe implements PathMTU.
func (p *hostilePath) Probe() int { return p.rng.IntN(2) * p.rng.IntN(p.limit+1) }

// Fallback implements PathMTU.
func (p *hostilePath) Fallback() int { return p.rng.IntN(3000) }

func (p *hostilePath) ProbeSent()              {}
func (p *hostilePath) ProbeLost(Time)          {}
func (p *hostilePath) ProbeUnsent()            {}
func (p *hostilePath) Acked(Time, int)         {}
func (p *hostilePath) Lost(Time, int) bool     { return p.rng.IntN(4) == 0 }
func (p *hostilePath) TimedOut(Time, int) bool { return p.rng.IntN(4) == 0 }
