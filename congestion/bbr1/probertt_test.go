package bbr1

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestProbeRTT checks §4.3.5: ten seconds after the last minimum the flight falls to four segments for 200 ms and a round trip, and the window comes back.
func TestProbeRTT(t *testing.T) {
	s := alone(rate, rtt, 4*bdp, nil)
	s.until(t, probeBW)
	for range 2 {
		s.Run(s.Now() + 9*time.Second)
		stamp, cwnd := s.rtPropStamp, s.cwnd
		s.until(t, probeRTT)
		entry := s.Now()
		if d := entry - stamp; d < rtPropFilterLen || d > rtPropFilterLen+rtt {
			t.Errorf("ProbeRTT begins %v after the last minimum", d)
		}
		if s.cwnd != minPipeSegments*mss {
			t.Errorf("the window is %d", s.cwnd)
		}
		for !s.probeRTTTimed {
			s.Run(s.Now() + time.Millisecond)
		}
		small, round := s.Now(), s.roundCount
		s.until(t, probeBW)
		if d := s.Now() - small; d < probeRTTDuration || d > probeRTTDuration+2*rtt || s.roundCount == round {
			t.Errorf("ProbeRTT lasted for %v and %d rounds with four segments in flight", d, s.roundCount-round)
		}
		if s.cwnd < cwnd {
			t.Errorf("the window was %d and is %d", cwnd, s.cwnd)
		}
		if s.rtProp > rtt+2*time.Millisecond {
			t.Errorf("RTprop is %v", s.rtProp)
		}
		if bw := float64(s.btlBw); !near(bw, rate, 0.02) {
			t.Errorf("BtlBw is %.0f after ProbeRTT: its low rates were taken", bw)
		}
	}
}

// TestProbeRTTCost checks the draft's "roughly 2 %" (§4.3.5): 200 ms of ten seconds.
func TestProbeRTTCost(t *testing.T) {
	const rtt = 10 * time.Millisecond
	s := alone(50*mbit, rtt, 4*50*mbit/100, nil)
	s.until(t, probeRTT)
	s.until(t, probeBW)
	s.Run(s.Now() + 100*time.Millisecond)
	from, before := s.Now(), s.flow.Delivered
	for range 2 {
		s.until(t, probeRTT)
		s.until(t, probeBW)
		s.Run(s.Now() + 100*time.Millisecond)
	}
	share := float64(s.flow.Delivered-before) / (50 * mbit * (s.Now() - from).Seconds())
	if math.Abs(share-0.98) > 0.005 {
		t.Errorf("%.4f of the link, want 0.98 ±0.005", share)
	}
}

// TestRTpropExpires checks §4.1.2.3: a minimum holds for ten seconds, also if the path has become longer.
func TestRTpropExpires(t *testing.T) {
	b := New().(*bbr)
	b.Init(congestion.Config{MSS: mss, InitialWindow: 10 * mss})
	for _, x := range []struct {
		at, rtt, want time.Duration
		expired       bool
	}{
		{1 * time.Second, 50, 50, false},
		{2 * time.Second, 60, 50, false},
		{11 * time.Second, 60, 50, false},
		{11*time.Second + 1, 60, 60, true},
		{12 * time.Second, 40, 40, false},
		{22 * time.Second, 40, 40, false}, // an equal one renews it
		{32 * time.Second, 80, 40, false},
	} {
		b.now, b.rs.RTT = x.at, x.rtt*time.Millisecond
		b.updateRTprop()
		if b.rtProp != x.want*time.Millisecond || b.rtPropExpired != x.expired {
			t.Errorf("at %v: RTprop %v, expired %v; want %v, %v", x.at, b.rtProp, b.rtPropExpired, x.want*time.Millisecond, x.expired)
		}
	}
}

// TestIdle checks §4.3.4.4: silence needs no ProbeRTT, and the flow comes back at the rate that it knew.
func TestIdle(t *testing.T) {
	s := alone(rate, rtt, 4*bdp, nil)
	s.until(t, probeBW)
	cwnd := s.cwnd
	now := s.now + 30*time.Second
	s.OnIdleRestart(now, 30*time.Second)
	if c := s.Control(); !near(float64(c.PacingRate), float64(s.btlBw), 0.001) || c.Cwnd != cwnd {
		t.Errorf("after idleness the rate is %d and the window %d, want %d and %d", c.PacingRate, c.Cwnd, s.btlBw, cwnd)
	}
	s.OnAck(ack(s.bbr, now+rtt))
	if s.state != probeBW {
		t.Errorf("the first ACK after idleness begins %v", s.state)
	}
	s.OnAck(ack(s.bbr, now+rtt+rtPropFilterLen+1))
	if s.state != probeRTT {
		t.Error("ProbeRTT did not come ten seconds later")
	}
}

// ack is an ACK of one segment that left a round trip ago.
func ack(b *bbr, now congestion.Time) *congestion.AckEvent {
	return &congestion.AckEvent{
		Now: now, Acked: mss, CumAcked: mss, InFlight: b.inFlight, PriorInFlight: b.inFlight + mss, Delivered: b.delivered + mss,
		RTT: rtt + time.Millisecond, SRTT: rtt + time.Millisecond, MinRTT: rtt,
		Sample: congestion.RateSample{DeliveryRate: b.btlBw, PriorDelivered: b.delivered - min(b.delivered, bdp), RTT: rtt + time.Millisecond, Valid: true, HasPacket: true},
	}
}

// TestMaxFilter checks that BtlBw is the maximum of ten round trips (§4.1.1.4): a slower link is believed after them.
func TestMaxFilter(t *testing.T) {
	s := alone(rate, rtt, 20*bdp, nil)
	s.until(t, probeBW)
	s.Link.SetRate(rate / 2)
	round := s.roundCount
	for !near(float64(s.btlBw), rate/2, 0.1) {
		s.Run(s.Now() + time.Millisecond)
		if s.Now() > 20*time.Second {
			t.Fatalf("BtlBw is %d after %d rounds", s.btlBw, s.roundCount-round)
		}
	}
	if n := s.roundCount - round; n < btlBwFilterLen || n > btlBwFilterLen+2 {
		t.Errorf("the old bandwidth was forgotten after %d rounds, want %d", n, btlBwFilterLen)
	}
}
