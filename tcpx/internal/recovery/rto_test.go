package recovery

import (
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

// TestRTOEstimator checks RFC 6298 §2 by its formulas.
func TestRTOEstimator(t *testing.T) {
	for _, c := range []struct {
		name         string
		samples      []time.Duration
		expected     int
		srtt, rttvar time.Duration
	}{
		{"the first sample", []time.Duration{100 * ms}, 1, 100 * ms, 50 * ms},
		{"a second, equal one", []time.Duration{100 * ms, 100 * ms}, 1, 100 * ms, 37500 * time.Microsecond},
		{"RTTVAR before SRTT", []time.Duration{100 * ms, 180 * ms}, 1, 110 * ms, 57500 * time.Microsecond},
		{"a shorter one", []time.Duration{100 * ms, 20 * ms}, 1, 90 * ms, 57500 * time.Microsecond},
		{"gains shrink with the samples of a round trip", []time.Duration{100 * ms, 180 * ms}, 10, 101 * ms, 50750 * time.Microsecond},
		{"0 counts as 1 ns", []time.Duration{0}, 1, 1, 0},
	} {
		var e RTO
		for _, s := range c.samples {
			e.Sample(s, c.expected)
		}
		if e.SRTT != c.srtt || e.RTTVar != c.rttvar {
			t.Errorf("%s: SRTT %v RTTVAR %v, want %v and %v", c.name, e.SRTT, e.RTTVar, c.srtt, c.rttvar)
		}
	}
}

// TestRTOClosedForm compares long runs with the solution of the recurrences: for a constant RTT, RTTVAR = RTT/2*(3/4)^n; after a step of the RTT by d, SRTT
// misses the new one by d*(7/8)^n.
func TestRTOClosedForm(t *testing.T) {
	var e RTO
	e.Sample(80*ms, 1)
	want := float64(40 * ms)
	for n := range 40 {
		if diff := float64(e.RTTVar) - want; diff > 4 || diff < -4 {
			t.Fatalf("after %d equal samples RTTVAR is %v, want %v", n, e.RTTVar, time.Duration(want))
		}
		e.Sample(80*ms, 1)
		want *= 0.75
	}
	miss := float64(40 * ms)
	for n := range 40 {
		e.Sample(120*ms, 1)
		miss *= 7.0 / 8
		if diff := float64(120*ms-e.SRTT) - miss; diff > 8 || diff < -8 {
			t.Fatalf("%d samples after the step SRTT is %v, want %v", n+1, e.SRTT, 120*ms-time.Duration(miss))
		}
	}
}

// TestRTOTimeout checks that the floor is one of the variance: however long the RTT is constant, the timer never comes near it.
func TestRTOTimeout(t *testing.T) {
	var e RTO
	if got := e.Timeout(time.Second, 200*ms, time.Minute); got != time.Second {
		t.Errorf("without a sample: %v", got)
	}
	for _, c := range []struct{ rtt, floor, want time.Duration }{
		{300 * ms, 200 * ms, 500 * ms}, {ms, 200 * ms, 201 * ms}, {2 * time.Second, 200 * ms, 2200 * ms}, {300 * ms, 5 * ms, 305 * ms}, {time.Hour, 200 * ms, time.Minute},
	} {
		var e RTO
		for range 1000 {
			e.Sample(c.rtt, 1)
		}
		if got := e.Timeout(time.Second, c.floor, time.Minute); got != c.want {
			t.Errorf("RTT %v, floor %v: %v, want %v", c.rtt, c.floor, got, c.want)
		}
	}
	e.Sample(100*ms, 1)
	if got := e.Timeout(time.Second, 10*ms, time.Minute); got != 300*ms {
		t.Errorf("first sample: %v, want SRTT + 4*RTTVAR = 300 ms", got)
	}
}

// TestMinRTT compares with the exact minimum of the last five minutes: the filter never lies below it, never above the minimum of the last half, and forgets
// what is older than the window by one sample at the latest.
func TestMinRTT(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var m MinRTT
		if m.Get() != 0 {
			t.Fatal("a minimum without samples")
		}
		type sample struct{ rtt, at time.Duration }
		var all []sample
		now := time.Second
		base := 10 * ms
		for range 3000 {
			now += time.Duration(rng.Int64N(int64(2 * time.Second)))
			switch rng.IntN(200) {
			case 0:
				base = time.Duration(1+rng.IntN(50)) * ms
			case 1:
				now += time.Duration(rng.Int64N(int64(20 * time.Minute)))
			}
			s := sample{base + time.Duration(rng.Int64N(int64(5*ms))), now}
			all = append(all, s)
			m.Update(s.rtt, s.at)
			window, half := time.Hour, time.Hour
			for _, s := range all {
				if now-s.at <= minRTTWindow {
					window = min(window, s.rtt)
				}
				if now-s.at <= minRTTWindow/2 {
					half = min(half, s.rtt)
				}
			}
			if got := m.Get(); got < window || got > half {
				t.Fatalf("seed %d at %v: %v, the minimum of the window is %v, of its second half %v", seed, now, got, window, half)
			}
		}
	}
}

// TestMinRTTStep checks the course after the path has become longer for good.
func TestMinRTTStep(t *testing.T) {
	var m MinRTT
	m.Update(10*ms, 0)
	for at := time.Second; at < 20*time.Minute; at += time.Second {
		m.Update(30*ms, at)
		want := 10 * ms
		if at > minRTTWindow {
			want = 30 * ms
		}
		if m.Get() != want {
			t.Fatalf("after %v the minimum is %v, want %v", at, m.Get(), want)
		}
	}
}
