package bbr1

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
)

// The path of most tests: 10 Mbit/s and 40 ms are 50 segments.
const (
	mss  = 1000
	rate = 1_250_000
	rtt  = 40 * time.Millisecond
	bdp  = 50 * mss
	mbit = 125_000
)

// single is one flow over a link of its own, and the controller that it uses.
type single struct {
	*bbr
	*linksim.Sim
	flow *linksim.Flow
}

// alone starts a flow over a link of that rate with a buffer in bytes. onAck, if not nil, is called after each ACK.
func alone(rate uint64, rtt time.Duration, buffer uint64, onAck func(*bbr, *linksim.Flow)) *single {
	s := &single{bbr: New().(*bbr), Sim: linksim.New(rate, buffer)}
	s.flow = s.Add(linksim.FlowConfig{Controller: s.bbr, RTT: rtt, MSS: mss, Seed: 1, OnAck: func(*congestion.AckEvent) {
		if onAck != nil {
			onAck(s.bbr, s.flow)
		}
	}})
	return s
}

// until runs to a state, for a minute at most.
func (s *single) until(t *testing.T, want state) {
	t.Helper()
	for end := s.Now() + time.Minute; s.state != want; s.Run(s.Now() + 100*time.Microsecond) {
		if s.Now() > end {
			t.Fatalf("no %v by %v", want, s.Now())
		}
	}
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*want }

// TestGains compares the gains with the formulas of §4.3.2 to §4.3.4.
func TestGains(t *testing.T) {
	if got, want := float64(highGain)/unity, 2/math.Ln2; !near(got, want, 1e-4) {
		t.Errorf("BBRHighGain is %v, want 2/ln 2 = %v", got, want)
	}
	if got, want := float64(drainGain)/unity, math.Ln2/2; !near(got, want, 1e-3) {
		t.Errorf("the gain of Drain is %v, want %v", got, want)
	}
	if want := []uint64{12_500, 7_500, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000}; !slices.Equal(pacingGainCycle[:], want) {
		t.Errorf("the cycle is %v, want %v", pacingGainCycle, want)
	}
}

// TestGainsOfStates checks which state has which gains.
func TestGainsOfStates(t *testing.T) {
	s := alone(rate, rtt, 4*bdp, nil)
	for _, want := range []struct {
		state        state
		pacing, cwnd uint64
	}{{startup, highGain, highGain}, {drain, drainGain, highGain}, {probeBW, 0, 2 * unity}, {probeRTT, unity, unity}, {probeBW, 0, 2 * unity}} {
		s.until(t, want.state)
		if s.cwndGain != want.cwnd || want.pacing != 0 && s.pacingGain != want.pacing {
			t.Errorf("%v has gains of %d and %d, want %d and %d", want.state, s.pacingGain, s.cwndGain, want.pacing, want.cwnd)
		}
	}
}

// TestStartupRounds checks that Startup needs log2(BDP/IW) rounds to find the bandwidth and three to see that it grows no further (§4.3.2), and that it queues
// no more than its window, 2.89 BDP and three bursts, holds beside the BDP.
func TestStartupRounds(t *testing.T) {
	for _, rate := range []uint64{10 * mbit, 100 * mbit, 1000 * mbit} {
		const rtt = 100 * time.Millisecond
		bdp := float64(rate) * rtt.Seconds()
		s := alone(rate, rtt, uint64(4*bdp), nil)
		s.until(t, drain)
		rounds, want := float64(s.roundCount-2), math.Ceil(math.Log2(bdp/(10*mss)))+3
		if math.Abs(rounds-want) > 1 {
			t.Errorf("%d Mbit/s: Startup took %.0f rounds, want %.0f ±1", rate/mbit, rounds, want)
		}
		if !near(float64(s.btlBw), float64(rate), 0.02) {
			t.Errorf("%d Mbit/s: BtlBw is %d byte/s", rate/mbit, s.btlBw)
		}
		// RTprop has the transmission time of packets in it.
		if q, most := float64(s.Link.Waiting()), 1.03*2/math.Ln2*bdp+float64(3*s.sendQuantum)-bdp; q > most {
			t.Errorf("%d Mbit/s: %.2f BDP wait when Startup ends, want %.2f at most", rate/mbit, q/bdp, most/bdp)
		}
	}
}

// TestFullPipe checks §4.3.2.2: growth below 25 % in three rounds, of samples that the application did not limit.
func TestFullPipe(t *testing.T) {
	b := New().(*bbr)
	b.Init(congestion.Config{MSS: mss, InitialWindow: 10 * mss})
	for i, x := range []struct {
		bw         uint64
		appLimited bool
		count      int
		filled     bool
	}{
		{1000, false, 0, false},
		{1250, false, 0, false}, // 25 % more
		{1561, false, 1, false}, // just below
		{1561, true, 1, false},
		{1561, false, 2, false},
		{1563, false, 0, false}, // growth again
		{1600, false, 1, false},
		{1700, false, 2, false},
		{1800, false, 3, true},
	} {
		b.btlBw, b.roundStart, b.rs.AppLimited = x.bw, true, x.appLimited
		b.checkFullPipe()
		if b.fullBWCount != x.count || b.filledPipe != x.filled {
			t.Errorf("step %d: count %d, filled %v; want %d, %v", i, b.fullBWCount, b.filledPipe, x.count, x.filled)
		}
	}
}

// TestDrain checks §4.3.3: it ends when what is in flight fits the path, with three bursts.
func TestDrain(t *testing.T) {
	var before, at uint64
	s := alone(rate, rtt, 4*bdp, func(b *bbr, f *linksim.Flow) {
		if b.state == drain {
			before = b.inFlight
		} else if b.state == probeBW && at == 0 {
			at = b.inFlight
		}
	})
	s.until(t, drain)
	entry := s.roundCount
	s.until(t, probeBW)
	if limit := s.inflight(unity); at > limit || before <= limit {
		t.Errorf("Drain ended with %d bytes in flight, and %d before; it ends at %d", at, before, limit)
	}
	if s.roundCount > entry+2 {
		t.Errorf("Drain took %d rounds", s.roundCount-entry)
	}
}

// TestCycle checks §4.3.4.3: the phases follow each other, last for RTprop, and use the link up.
func TestCycle(t *testing.T) {
	type phase struct {
		index int
		start congestion.Time
	}
	var phases []phase
	s := alone(rate, rtt, 4*bdp, func(b *bbr, f *linksim.Flow) {
		if b.state == probeBW && (len(phases) == 0 || phases[len(phases)-1].start != b.cycleStamp) {
			phases = append(phases, phase{b.cycleIndex, b.cycleStamp})
		}
	})
	s.until(t, probeBW)
	delivered, from := s.flow.Delivered, s.Now()
	s.Run(9 * time.Second)
	if share := float64(s.flow.Delivered-delivered) / (float64(rate) * (s.Now() - from).Seconds()); share < 0.99 {
		t.Errorf("%.3f of the link is used", share)
	}
	for i := 1; i < len(phases); i++ {
		last, p := phases[i-1], phases[i]
		if p.index != (last.index+1)%cycleLength {
			t.Fatalf("phase %d follows phase %d", p.index, last.index)
		}
		// A probe lasts until its surplus is in flight, giving back ends early; ACKs come each 0.8 ms.
		d, least, most := p.start-last.start, rtt, rtt+4*time.Millisecond
		switch last.index {
		case 0:
			most = 3 * rtt
		case 1:
			least = 0
		}
		if d < least || d > most {
			t.Errorf("phase %d lasted for %v, want %v to %v", last.index, d, least, most)
		}
	}
	if len(phases) < 100 {
		t.Errorf("only %d phases", len(phases))
	}
}

const cycleLength = len(pacingGainCycle)

// TestCycleStartsAnywhereButInTheDrain checks that all phases but the second are the first one of some flow.
func TestCycleStartsAnywhereButInTheDrain(t *testing.T) {
	var seen [cycleLength]bool
	for seed := range uint64(100) {
		b := New().(*bbr)
		b.Init(congestion.Config{MSS: mss, InitialWindow: 10 * mss, Rand: seeded(seed)})
		b.enterProbeBW()
		seen[b.cycleIndex] = true
	}
	if want := [cycleLength]bool{true, false, true, true, true, true, true, true}; seen != want {
		t.Errorf("phases that came first: %v, want %v", seen, want)
	}
}

// TestWindow checks that ProbeBW keeps two BDP and three bursts (§4.2.3.2), all of which a link without room for more than the BDP queues.
func TestWindow(t *testing.T) {
	s := alone(rate, rtt, 4*bdp, nil)
	s.until(t, probeBW)
	s.Run(s.Now() + 2*time.Second)
	if want := float64(2*bdp + 3*s.sendQuantum); !near(float64(s.cwnd), want, 0.05) {
		t.Errorf("cwnd is %d, want %.0f", s.cwnd, want)
	}
	if s.flow.Lost != 0 || s.flow.RTOs != 0 {
		t.Errorf("%d bytes lost, %d time-outs", s.flow.Lost, s.flow.RTOs)
	}
}

// TestSendQuantum checks §4.2.2.
func TestSendQuantum(t *testing.T) {
	b := New().(*bbr)
	b.Init(congestion.Config{MSS: 1448, InitialWindow: 14480})
	for _, x := range []struct{ rate, want uint64 }{
		{mbit, 1448}, {12*mbit/10 - 1, 1448}, {12 * mbit / 10, 2 * 1448}, {24*mbit - 1, 2 * 1448}, {24 * mbit, 3000}, {100 * mbit, 12500}, {10_000 * mbit, 64 << 10},
	} {
		b.pacingRate = x.rate
		if b.setSendQuantum(); b.sendQuantum != x.want {
			t.Errorf("at %d byte/s %d, want %d", x.rate, b.sendQuantum, x.want)
		}
	}
}
