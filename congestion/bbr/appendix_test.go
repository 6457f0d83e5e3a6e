package bbr

import (
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// These are the example tests of draft-ietf-ccwg-bbr-06, appendix A, by their numbers.

func TestA01_StartupExitOnPlateau(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	var counts []int
	l.onAck = func(*congestion.AckEvent) {
		if n := len(counts); n == 0 || counts[n-1] != l.fullBWCount {
			counts = append(counts, l.fullBWCount)
		}
		if l.state == drain {
			l.onAck = nil
		}
	}
	l.untilState(drain)
	l.expect("max_bw within 2 % of the link", near(l.maxBW, rate, 0.02))
	l.expect("full_bw_count went up to 3", l.fullBWCount == 3 && slices.Equal(counts[len(counts)-4:], []int{0, 1, 2, 3}))
	l.expect("full_bw_now and full_bw_reached", l.fullBWNow && l.fullBWReached)
	l.expect("Startup was followed by Drain", slices.Equal(l.entered, []state{startup, drain}))
}

func TestA02_StartupExitOnLossWhenAppLimited(t *testing.T) {
	l := newLab(t, labConfig{rtt: 200 * time.Millisecond, buffer: 8 * bdp})
	l.limitApp(rate / 3)
	l.run(3 * time.Second)
	l.expect("still in Startup", l.state == startup)
	l.loss = 0.2
	l.until("end of Startup", 3*time.Second, func() bool { return l.state != startup })
	l.expect("the samples were application-limited", l.rs.AppLimited)
	l.expect("full_bw_now and full_bw_reached", l.fullBWNow && l.fullBWReached)
	l.expect("Startup was followed by Drain or, with nothing to drain, by ProbeBW", l.entered[1] == drain || l.entered[1] == probeBWDown || l.entered[1] == probeBWCruise)
	l.expect("undo_state is Startup", l.undoState == startup)
}

func TestA03_DrainExitOnInflight(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(drain)
	l.expect("pacing_gain is 0.5", l.pacingGain == 50)
	l.onAck = func(*congestion.AckEvent) {
		if l.state == drain {
			l.expect("the flight is above the BDP", l.bbr.inFlight > l.inflight(l.bw, 100))
		}
	}
	entry := l.roundCount
	l.onEnter = func(s state) {
		l.expect("the flight is down to the BDP", l.bbr.inFlight <= l.inflight(l.maxBW, 100))
	}
	next := l.nextState()
	l.expect("ProbeBW follows", next == probeBWDown || next == probeBWCruise)
	l.expect("in less than three rounds", l.roundCount < entry+3)
}

// The draft lowers the bandwidth by 10 %, which a gain of 0.5 drains all the same; this lowers it by 60 %.
func TestA04_DrainExitOnTime(t *testing.T) {
	l := newLab(t, labConfig{buffer: 20 * bdp})
	l.onEnter = func(s state) {
		if s == drain {
			l.sim.Link.SetRate(rate * 4 / 10)
		}
	}
	l.untilState(drain)
	start := l.drainStartRound
	l.nextState()
	l.expect("after three rounds", l.roundCount == start+3)
	l.expect("ProbeBW_DOWN follows", l.state == probeBWDown)
	l.expect("the flight is above the BDP", l.flow.InFlight() > l.inflight(l.bw, 100))
}

func TestA05_ProbeUpExitOnPlateau(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	start := l.roundCount
	l.expect("gains are 1.25 and 2.25", l.pacingGain == 125 && l.cwndGain == 225)
	next := l.nextState()
	l.expect("ProbeBW_DOWN follows", next == probeBWDown)
	l.expect("after three rounds without growth", l.fullBWNow && l.fullBWCount == 3 && l.roundCount == start+3)
	l.expect("nothing was lost", l.flow.Lost == 0)
}

// The draft wants inflight_longterm "updated appropriately, regardless of the application-limited state"; its HandleInflightTooHigh leaves it alone when the lost
// packet was application-limited, since its flight says little of the path.
func TestA06_ProbeUpExitOnLossWhenAppLimited(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	l.limitApp(rate / 2)
	l.run(2 * rtt)
	l.expect("still in ProbeBW_UP", l.state == probeBWUp)
	l.loss = 0.2
	next := l.nextState()
	l.expect("ProbeBW_DOWN follows, or with nothing to drain ProbeBW_CRUISE", next == probeBWDown || next == probeBWCruise)
	l.expect("because the loss was too high", l.prevProbeTooHigh && l.undoState == probeBWUp)
	l.expect("inflight_longterm is open", l.inflightLongterm == noVolume)
}

func TestA07_NoExitWhenAppLimited(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.limitApp(rate / 4)
	l.run(4900 * time.Millisecond)
	l.expect("Startup only", slices.Equal(l.entered, []state{startup}))

	l = newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	l.limitApp(rate / 4)
	// ProbeRTT, which falls due five seconds after the last one, ends the phase for another reason.
	l.until("end of ProbeBW_UP", 10*time.Second, func() bool { return l.state != probeBWUp })
	l.expect("only ProbeRTT ended it", l.state == probeRTT)
}

func TestA08_ProbeDownExitOnInflight(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	l.untilState(probeBWDown)
	l.expect("pacing_gain is 0.9", l.pacingGain == 90)
	l.onAck = func(*congestion.AckEvent) {
		if l.state == probeBWDown {
			l.expect("the flight is above the BDP or the headroom", l.bbr.inFlight > l.inflight(l.maxBW, 100) || l.bbr.inFlight > l.inflightWithHeadroom())
		}
	}
	l.expect("ProbeBW_CRUISE follows", l.nextState() == probeBWCruise)
	l.expect("pacing_gain is 1", l.pacingGain == 100)
}

func TestA09_ProbeDownExitOnTime(t *testing.T) {
	l := newLab(t, labConfig{buffer: 8 * bdp, seed: 2})
	l.untilState(probeRTT) // so that none is due in the seconds that follow
	l.onEnter = func(s state) {
		if s == probeBWDown {
			l.sim.Link.SetRate(rate * 85 / 100)
		}
	}
	l.untilState(probeBWUp)
	l.untilState(probeBWDown)
	start, rounds, wait := l.cycleStamp, l.roundsSinceProbeUp, l.probeWait
	next := l.nextState()
	l.expect("ProbeBW_REFILL follows", next == probeBWRefill)
	waited := l.now-start > wait || l.roundsSinceProbeUp >= min(l.targetInflight()/mss, 63)
	l.expect("after the wait", waited && l.roundsSinceProbeUp > rounds)
}

func TestA10_ProbeRTT(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWCruise)
	stamp := l.probeRTTMinStamp
	l.untilState(probeRTT)
	l.expect("five seconds after the last minimum", l.now > stamp+5*time.Second && l.now < stamp+5100*time.Millisecond)
	l.expect("cwnd_gain is 0.5", l.cwndGain == 50)
	entry, round := l.now, l.roundCount
	l.until("half a BDP in flight", time.Second, func() bool { return l.probeRTTTimed })
	l.expect("the window is half of the BDP", near(l.cwnd, l.bdpMultiple(l.bw, 50), 0.01))
	next := l.nextState()
	l.expect("200 ms and a round have passed", l.now >= entry+200*time.Millisecond && l.roundCount > round)
	l.expect("but not much more", l.now < entry+350*time.Millisecond)
	l.expect("ProbeBW_CRUISE follows", next == probeBWCruise)
	l.expect("the window is restored", l.cwnd > bdp)
	l.expect("min_rtt is that of the path", l.minRTT <= rtt+2*time.Millisecond)
}

func TestA11_NoProbeRTTAfterIdle(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWCruise)
	l.pauseApp()
	l.run(6 * time.Second)
	l.expect("nothing is in flight", l.flow.InFlight() == 0)
	cwnd := l.cwnd
	l.limitApp(0)
	l.expect("idle_restart", l.idleRestart)
	l.expect("the window is kept", l.cwnd == cwnd)
	l.expect("the rate is bw", near(l.pacingRate, l.bw*99/100, 0.001))
	l.run(time.Second)
	l.expect("no ProbeRTT", !slices.Contains(l.entered, probeRTT))
	l.expect("idle_restart is over", !l.idleRestart)
}

// aggregate makes the link deliver only every d, as a slotted link layer does.
func (l *lab) aggregate(d time.Duration) {
	l.sim.Link.Release = func(t congestion.Time) congestion.Time { return (t + d - 1) / d * d }
}

func TestA12_StartupWithAggregation(t *testing.T) {
	l := newLab(t, labConfig{buffer: 8 * bdp})
	l.aggregate(20 * time.Millisecond)
	largest := uint64(0)
	l.onAck = func(ev *congestion.AckEvent) {
		largest = max(largest, l.aggregation.Extra())
		// A slot bunches what the link delivered evenly, and what was sent so is no faster.
		l.expect("no rate above the link's by more than a slot's worth", ev.Sample.DeliveryRate < rate*3/2)
	}
	l.untilState(drain)
	l.expect("extra_acked is a slot's worth or more", largest > 15*mss)
	l.expect("cwnd is more than two BDP", l.cwnd > 2*bdp)
	l.expect("the bandwidth was found", near(l.maxBW, rate, 0.15))
}

func TestA13_CruiseWithAggregation(t *testing.T) {
	l := newLab(t, labConfig{buffer: 8 * bdp})
	l.untilState(probeBWCruise)
	before := l.aggregation.Extra()
	l.aggregate(20 * time.Millisecond)
	l.run(3 * rtt)
	l.expect("extra_acked has risen", l.aggregation.Extra() > before+10*mss)
	l.untilState(probeBWCruise)
	l.expect("max_inflight contains it", l.maxInflight >= l.bdpMultiple(l.bw, 200)+l.aggregation.Extra())
	if g := l.goodput(10*time.Second, rate); g < 0.9 {
		t.Errorf("%.3f of the link is used, want 0.9", g)
	}
}

func TestA14_SubPacketBDP(t *testing.T) {
	const slow = 8000 // 64 kbit/s
	l := newLab(t, labConfig{rate: slow, rtt: time.Millisecond, buffer: 20 * mss})
	l.untilState(probeBWCruise)
	l.onAck = func(*congestion.AckEvent) {
		l.expect("cwnd is four segments or more", l.cwnd >= 4*mss)
		if l.state == probeBWCruise {
			l.expect("the rate is the link's", near(l.pacingRate, slow, 0.05))
		}
	}
	if g := l.goodput(60*time.Second, slow); g < 0.9 {
		t.Errorf("%.3f of the link is used, want 0.9", g)
	}
}

func TestA15_TenTimesTheBandwidth(t *testing.T) {
	l := newLab(t, labConfig{buffer: 20 * bdp})
	l.untilState(probeBWCruise)
	l.sim.Link.SetRate(10 * rate)
	l.untilState(probeBWUp)
	round := l.roundCount
	l.until("the new bandwidth", 20*time.Second, func() bool { return near(l.maxBW, 10*rate, 0.05) })
	// Each round grows the rate by 1.25; ln(10)/ln(1.25) is 10.3.
	l.expect("within twenty rounds of probing", l.roundCount-round <= 20)
	t.Logf("%d rounds", l.roundCount-round)
}

// TestA15_InflightLongtermSteps checks that the growth of inflight_longterm doubles each round.
func TestA15_InflightLongtermSteps(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	b := l.bbr
	b.inflightLongterm, b.cwnd = 64*mss, 64*mss
	b.upRounds, b.upAcked = 0, 0
	b.raiseInflightLongtermSlope()
	b.cwndLimited, b.newlyAcked = true, mss
	for round := range 6 {
		before := b.inflightLongterm
		for i := range before / mss {
			b.roundStart = i == before/mss-1
			b.cwnd = b.inflightLongterm
			b.probeInflightLongtermUpward()
		}
		if got, want := (b.inflightLongterm-before)/mss, uint64(1)<<round; got+1 < want || got > want+1 {
			t.Errorf("round %d added %d segments, want %d", round, got, want)
		}
	}
}

func TestA16_ATenthOfTheBandwidth(t *testing.T) {
	l := newLab(t, labConfig{rate: 10 * rate, buffer: 5 * bdp})
	l.untilState(probeBWCruise)
	l.sim.Link.SetRate(rate)
	l.until("bw_shortterm", 2*time.Second, func() bool { return l.bwShortterm < 5*rate })
	l.until("the new bandwidth", 30*time.Second, func() bool { return near(l.maxBW, rate, 0.1) })
	cycles := 0
	for _, s := range l.entered {
		if s == probeBWUp {
			cycles++
		}
	}
	l.expect("within three cycles", cycles <= 3)
	t.Logf("after %v and %d cycles", l.sim.Now(), cycles)
}

func TestA17_Policer(t *testing.T) {
	l := newLab(t, labConfig{rate: 10 * rate, buffer: 20 * bdp})
	const burst = 2 * bdp
	tokens, last := float64(burst), congestion.Time(0)
	l.sim.Link.Police = func(now congestion.Time, size uint64) bool {
		tokens = min(burst, tokens+rate*(now-last).Seconds())
		last = now
		if tokens < float64(size) {
			return true
		}
		tokens -= float64(size)
		return false
	}
	l.until("the short-term model", 10*time.Second, func() bool { return l.bwShortterm != noRate && l.inflightShortterm != noVolume })
	l.run(20 * time.Second)
	lost, sent := l.flow.Lost, l.flow.Sent
	g := l.goodput(60*time.Second, rate)
	share := float64(l.flow.Lost-lost) / float64(l.flow.Sent-sent)
	t.Logf("%.3f of the token rate, %.2f %% lost", g, 100*share)
	if g < 0.8 || share > 0.1 {
		t.Errorf("%.3f of the token rate is used and %.2f %% lost, want 0.8 and less than 10 %%", g, 100*share)
	}
}

// spuriousIn puts a flow into ProbeBW_UP, makes it lose more than it tolerates, and undoes that.
func spuriousIn(t *testing.T, s congestion.Signal) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	l.run(rtt + rtt/2) // packets of the probe are in flight
	l.expect("still in ProbeBW_UP", l.state == probeBWUp)
	b := l.bbr
	cwnd, longterm := b.cwnd, b.inflightLongterm
	flight := b.inFlight
	b.bwProbeSample = true
	for i := range uint64(10) {
		p := congestion.PacketState{SentTime: b.now - rtt, Size: mss, InFlight: flight, Delivered: b.delivered - flight, TxSeq: 1000 + 2*i}
		b.OnLost(&congestion.LossEvent{Now: b.now, Size: mss, Packet: &p, InFlight: flight - (i+1)*mss, TotalLost: (i + 1) * mss, Delivered: b.delivered})
	}
	b.OnSignal(&congestion.SignalEvent{Now: b.now, Signal: s, PriorInFlight: flight, InFlight: flight - 10*mss, NewlyLost: 10 * mss, Delivered: b.delivered})
	l.expect("the losses ended the probe", b.state == probeBWDown)
	l.expect("and bound inflight_longterm", b.inflightLongterm < longterm)
	if s == congestion.RTO {
		l.expect("the timeout leaves room for one segment", b.cwnd == flight-10*mss+mss)
	}
	l.expect("the state before was saved", b.undoState == probeBWUp && b.undoInflightLongterm == longterm && b.priorCwnd == cwnd)
	b.OnSpurious(b.now, s, flight)
	l.expect("the probe starts again", b.state == probeBWRefill)
	l.expect("the model is restored", b.inflightLongterm == longterm && b.bwShortterm == noRate && b.inflightShortterm == noVolume)
	l.expect("the window is restored", b.cwnd >= cwnd)
	l.untilState(probeBWUp)
}

func TestA18_SpuriousFastRecovery(t *testing.T) { spuriousIn(t, congestion.FastRecovery) }

func TestA19_SpuriousRTO(t *testing.T) { spuriousIn(t, congestion.RTO) }

func TestA18_SpuriousInStartup(t *testing.T) {
	l := newLab(t, labConfig{rtt: 200 * time.Millisecond, buffer: 8 * bdp})
	l.limitApp(rate / 3)
	l.run(2 * time.Second)
	l.loss = 0.2
	l.until("end of Startup", 3*time.Second, func() bool { return l.state != startup })
	l.loss = 0
	l.OnSpurious(l.sim.Now(), congestion.FastRecovery, l.flow.InFlight())
	l.expect("back in Startup", l.state == startup && !l.fullBWReached)
	l.expect("inflight_longterm is open again", l.inflightLongterm == noVolume)
}

func TestA20_ProbeRTTInStartup(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.limitApp(rate / 4)
	l.untilState(probeRTT)
	l.expect("the pipe was never full", !l.fullBWReached)
	l.expect("Startup follows", l.nextState() == startup)
	l.limitApp(0)
	l.untilState(drain)
	l.expect("the bandwidth was found", near(l.maxBW, rate, 0.02))
}

func TestA21_LossInProbeUp(t *testing.T) {
	l := newLab(t, labConfig{buffer: bdp / 4})
	l.until("inflight_longterm", 30*time.Second, func() bool { return l.inflightLongterm != noVolume && l.state == probeBWCruise })
	// A shallow buffer: the probe goes too high, or stops early as it did before.
	l.untilState(probeBWUp)
	l.loss = 0.1
	next := l.nextState()
	l.loss = 0
	l.expect("ProbeBW_DOWN follows at once", next == probeBWDown)
	l.expect("because the loss was too high", l.prevProbeTooHigh || l.prevPrecautionary)
	l.expect("inflight_longterm holds", l.inflightLongterm < 3*bdp)
}

func TestA22_AppLimitedInRefill(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWRefill)
	maxBW := l.maxBW
	l.limitApp(rate / 10)
	l.until("ProbeBW_UP", time.Second, func() bool { return l.state == probeBWUp })
	l.expect("the samples are application-limited", l.rs.AppLimited)
	l.expect("max_bw is not theirs", l.maxBW >= maxBW)
	l.limitApp(0)
	l.expect("ProbeBW_DOWN follows", l.nextState() == probeBWDown)
	l.expect("max_bw holds", near(l.maxBW, rate, 0.02))
}
