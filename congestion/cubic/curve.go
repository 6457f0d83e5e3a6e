package cubic

import (
	"math"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Constants of RFC 9438 in its notation.
const (
	scaling   = 0.4 // C, in segments per second cubed (§5)
	beta      = betaLoss / 100.0
	alpha     = 3 * (1 - beta) / (1 + beta) // α_cubic (§4.3)
	targetCap = 1.5                         // of cwnd, for the target of a round trip (§4.2)
)

// curve is the window increase function of RFC 9438 §4.2 and §4.3 with its variables. Windows are bytes, with fractions.
//
// Each product that meets a sum is wrapped in a conversion, which keeps compilers from fusing the two: traces are the same on all architectures.
type curve struct {
	frac      float64 // the part of cwnd below one byte
	wMax      float64 // W_max, 0 while undefined
	cwndPrior float64 // cwnd_prior
	wEst      float64 // W_est
	k         float64 // K, in seconds
	epoch     congestion.Time
	started   bool // a congestion avoidance stage is under way: epoch, k and wEst hold

	timedOut bool // the next stage is the first after a timeout (§4.8)
	friendly bool // the last ACK found the window in the Reno-friendly region

	paused   bool // the window is not updated, as the application does not use it (§5.8) ...
	pausedAt congestion.Time
}

// reduce remembers the window before a reduction. With fast convergence it remembers less if the window did not come back to the last one: others need room (§4.7).
func (v *curve) reduce(cwnd float64, fastConvergence, timeout bool) {
	v.cwndPrior = cwnd
	if fastConvergence && cwnd < v.wMax {
		v.wMax = cwnd * (1 + beta) / 2
	} else {
		v.wMax = cwnd
	}
	v.started, v.paused, v.friendly = false, false, false
	v.timedOut = timeout
}

// start begins a congestion avoidance stage.
func (v *curve) start(now congestion.Time, cwnd, mss float64) {
	if v.cwndPrior == 0 {
		v.cwndPrior = cwnd // §4.10: slow start ended without loss
	}
	if v.timedOut || v.wMax <= cwnd {
		v.wMax, v.k = cwnd, 0
	} else {
		v.k = cbrt((v.wMax - cwnd) / (scaling * mss))
	}
	v.wEst = cwnd
	v.epoch = now
	v.started, v.timedOut, v.friendly = true, false, false
}

// pause stops the stage's clock, resume lets it go on (§4.2, §5.8).
func (v *curve) pause(at congestion.Time) {
	if v.started && !v.paused {
		v.paused, v.pausedAt = true, max(at, v.epoch)
	}
}

func (v *curve) resume(now congestion.Time) {
	if v.paused {
		v.epoch += now - v.pausedAt
		v.paused = false
	}
}

// next returns the window after an ACK for acked bytes, at most cwnd (§4.2 to §4.5).
func (v *curve) next(now congestion.Time, srtt time.Duration, cwnd, acked, mss float64) float64 {
	v.wEst += float64(v.alpha() * mss * acked / cwnd)
	t := (now - v.epoch).Seconds()
	if v.friendly = v.window(t, mss) < v.wEst; v.friendly {
		return max(cwnd, v.wEst)
	}
	target := max(cwnd, min(v.window(t+srtt.Seconds(), mss), targetCap*cwnd))
	return cwnd + float64((target-cwnd)*acked/cwnd)
}

// alpha is the growth per round trip of the Reno-friendly window: as much as Reno once it is where the last reduction was (§4.3).
func (v *curve) alpha() float64 {
	if v.wEst >= v.cwndPrior {
		return 1
	}
	return alpha
}

// window is W_cubic(t), t in seconds.
func (v *curve) window(t, mss float64) float64 {
	d := t - v.k
	return v.wMax + float64(scaling*mss*d*d*d)
}

func (v *curve) scale(f float64) {
	v.wMax *= f
	v.cwndPrior *= f
	v.wEst *= f
	v.frac = 0
}

// cbrt is the cube root of a positive number by Newton's method, to the last bit or two. math.Cbrt may round differently where the hardware fuses
// multiplication and addition.
func cbrt(x float64) float64 {
	if x <= 0 {
		return 0
	}
	frac, exp := math.Frexp(x)
	// The exponent's third gives a start within a factor of two.
	third := exp / 3
	r := math.Ldexp(frac, exp-3*third)
	y := max(r, 1)
	for range 64 {
		next := (float64(2*y) + float64(r/float64(y*y))) / 3
		if next == y {
			break
		}
		y = next
	}
	return math.Ldexp(y, third)
}
