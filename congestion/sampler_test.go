package congestion_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline/plumbline/congestion"
)

const (
	ms  = time.Millisecond
	mss = 1000
)

// TestSamplerSteps follows draft-ietf-ccwg-bbr §4.1.2 with three packets that leave at 0, 1 and 2 ms and are acknowledged one round trip of 10 ms and
// 2 ms of serialisation later.
func TestSamplerSteps(t *testing.T) {
	var s congestion.Sampler
	var p [4]congestion.PacketState
	for i := range 3 {
		s.OnSent(&p[i], time.Duration(i)*ms, mss, uint64(i)*mss, false)
	}
	want := []congestion.RateSample{
		{DeliveryRate: 100_000, Delivered: 1000, TxInFlight: 1000, Interval: 10 * ms, AckElapsed: 10 * ms, RTT: 10 * ms, Valid: true, HasPacket: true},
		{DeliveryRate: 166_666, Delivered: 2000, TxInFlight: 2000, Interval: 12 * ms, SendElapsed: ms, AckElapsed: 12 * ms, RTT: 11 * ms, Valid: true, HasPacket: true},
	}
	for i, w := range want {
		now := 10*ms + time.Duration(2*i)*ms
		s.Begin(now)
		s.OnDelivered(&p[i], now)
		got := s.Finish(10*ms, uint64(2-i)*mss)
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("sample %d (-want +got):\n%s", i, diff)
		}
		if i == 0 {
			s.OnSent(&p[3], now, mss, 2*mss, false)
		}
	}
	// The fourth left when one packet had been delivered: its interval starts at that ACK, at 10 ms.
	s.Begin(20 * ms)
	s.OnDelivered(&p[3], 20*ms)
	got := s.Finish(10*ms, mss)
	if got.PriorDelivered != 1000 || got.Delivered != 2000 || got.AckElapsed != 10*ms || got.SendElapsed != 10*ms || got.DeliveryRate != 200_000 {
		t.Errorf("sample of the fourth packet: %+v", got)
	}
	if s.Delivered() != 3000 {
		t.Errorf("delivered %d, want 3000", s.Delivered())
	}
}

func TestSamplerNewestPacketCounts(t *testing.T) {
	for name, order := range map[string][]int{"in order": {0, 1, 2}, "reversed": {2, 1, 0}, "mixed": {1, 2, 0}} {
		var s congestion.Sampler
		var p [3]congestion.PacketState
		for i := range p {
			s.OnSent(&p[i], 5*ms, mss, uint64(i)*mss, false) // one burst: only TxSeq tells them apart
		}
		s.Begin(15 * ms)
		for _, i := range order {
			s.OnDelivered(&p[i], 15*ms)
		}
		if rs := s.Finish(10*ms, 0); rs.TxInFlight != 3000 || rs.Delivered != 3000 {
			t.Errorf("%s: the sample is of the packet with %d in flight, delivered %d, want the last one", name, rs.TxInFlight, rs.Delivered)
		}
	}
}

func TestSamplerCountsADeliveryOnce(t *testing.T) {
	var s congestion.Sampler
	var p congestion.PacketState
	s.OnSent(&p, 0, mss, 0, false)
	for range 3 {
		s.Begin(10 * ms)
		s.OnDelivered(&p, 10*ms)
		s.Finish(0, 0)
	}
	if s.Delivered() != mss {
		t.Errorf("delivered %d, want %d", s.Delivered(), mss)
	}
	s.Begin(20 * ms)
	s.OnDelivered(&p, 20*ms)
	if rs := s.Finish(0, 0); rs.HasPacket || rs.Valid || rs.DeliveryRate != 0 {
		t.Errorf("an ACK without news has the sample %+v", rs)
	}
}

func TestSamplerSplit(t *testing.T) {
	var s congestion.Sampler
	var p congestion.PacketState
	s.OnSent(&p, 0, 3*mss, 0, false)
	head := p.Split(mss)
	if head.Size != mss || p.Size != 2*mss || head.TxSeq != p.TxSeq {
		t.Fatalf("split into %+v and %+v", head, p)
	}
	s.Begin(10 * ms)
	s.OnDelivered(&head, 10*ms)
	s.OnDelivered(&head, 10*ms)
	s.OnLost(&p)
	s.Finish(0, 0)
	if s.Delivered() != mss || s.Lost() != 2*mss {
		t.Errorf("delivered %d and lost %d, want 1000 and 2000", s.Delivered(), s.Lost())
	}
	if rest := p.Split(5 * mss); rest.Size != 2*mss || p.Size != 0 {
		t.Errorf("a split beyond the end gives %d and leaves %d", rest.Size, p.Size)
	}
}

// TestSamplerFiltersShortIntervals checks that an ACK that comes sooner after a retransmission than any round trip gives no rate (draft §4.1.3.5).
func TestSamplerFiltersShortIntervals(t *testing.T) {
	var s congestion.Sampler
	var p congestion.PacketState
	s.OnSent(&p, 0, mss, 0, false)
	s.OnLost(&p)
	s.OnSent(&p, 9*ms, mss, 0, true)
	s.Begin(10 * ms)
	s.OnDelivered(&p, 10*ms)
	if rs := s.Finish(10*ms, 0); rs.Valid || rs.DeliveryRate != 0 || rs.RTT != 0 || !rs.HasPacket || rs.Delivered != mss {
		t.Errorf("the sample is %+v, want one without rate and RTT", rs)
	}
}

func TestSamplerAppLimited(t *testing.T) {
	var s congestion.Sampler
	var p [4]congestion.PacketState
	deliver := func(i int, now congestion.Time, left uint64) congestion.RateSample {
		s.Begin(now)
		s.OnDelivered(&p[i], now)
		return s.Finish(0, left)
	}
	s.OnSent(&p[0], 0, mss, 0, false)
	s.OnSent(&p[1], 0, mss, mss, false)
	s.MarkAppLimited(2 * mss) // the bubble is behind these two
	s.OnSent(&p[2], 5*ms, mss, 2*mss, false)
	for i, want := range []struct{ sample, mark bool }{{false, true}, {false, true}, {true, false}} {
		rs := deliver(i, 10*ms+time.Duration(i)*ms, uint64(2-i)*mss)
		if rs.AppLimited != want.sample || s.AppLimited() != want.mark {
			t.Errorf("packet %d: sample limited %v, connection limited %v, want %+v", i, rs.AppLimited, s.AppLimited(), want)
		}
	}
	s.MarkAppLimited(0)
	if s.OnSent(&p[3], 20*ms, mss, 0, false); !p[3].AppLimited {
		t.Error("a packet after silence is not marked")
	}
}

// TestSamplerBubbleBehindLoss checks that what was lost ahead of the bubble does not keep the mark alive: it will be sent again behind it.
func TestSamplerBubbleBehindLoss(t *testing.T) {
	var s congestion.Sampler
	var p [3]congestion.PacketState
	s.OnSent(&p[0], 0, mss, 0, false)
	s.OnSent(&p[1], 0, mss, mss, false)
	s.MarkAppLimited(2 * mss)
	s.OnLost(&p[0])
	s.Begin(10 * ms)
	s.OnDelivered(&p[1], 10*ms)
	s.Finish(0, 0)
	s.OnSent(&p[0], 10*ms, mss, 0, true)
	s.Begin(20 * ms)
	s.OnDelivered(&p[0], 20*ms)
	s.Finish(0, 0)
	if s.AppLimited() {
		t.Error("the mark outlived the bubble")
	}
}

func TestSamplerCE(t *testing.T) {
	var s congestion.Sampler
	var p [2]congestion.PacketState
	s.OnSent(&p[0], 0, mss, 0, false)
	s.Begin(10 * ms)
	s.OnDelivered(&p[0], 10*ms)
	s.AddCE(mss)
	s.Finish(0, 0)
	s.OnSent(&p[1], 10*ms, mss, 0, false)
	s.Begin(20 * ms)
	s.AddCE(300)
	s.OnDelivered(&p[1], 20*ms)
	if rs := s.Finish(0, 0); rs.DeliveredCE != 300 || s.DeliveredCE() != 1300 {
		t.Errorf("CE over the interval %d and in all %d, want 300 and 1300", rs.DeliveredCE, s.DeliveredCE())
	}
}

// TestSamplerRateNeverExceedsTheLink sends bursts of many sizes over a link of constant rate: no sample is above it, and with the pipe full none is more
// than 1 % below.
func TestSamplerRateNeverExceedsTheLink(t *testing.T) {
	const rate, rtt = 1_250_000, 40 * ms
	for window := 1; window <= 200; window += 7 {
		var s congestion.Sampler
		p := make([]congestion.PacketState, 2000)
		arrival := make([]congestion.Time, len(p))
		var free congestion.Time
		flight, next := 0, 0
		send := func(now congestion.Time) {
			for flight < window && next < len(p) {
				s.OnSent(&p[next], now, mss, uint64(flight)*mss, false)
				free = max(free, now) + mss*time.Second/rate
				arrival[next] = free + rtt
				flight++
				next++
			}
		}
		send(0)
		for i := range p {
			now := arrival[i]
			s.Begin(now)
			s.OnDelivered(&p[i], now)
			flight--
			rs := s.Finish(rtt, uint64(flight)*mss)
			if rs.Valid && rs.DeliveryRate > rate {
				t.Fatalf("window %d, packet %d: %d byte/s on a link of %d", window, i, rs.DeliveryRate, rate)
			}
			if full := window > 52 && i > 2*window && i < len(p)-window; full && float64(rs.DeliveryRate) < 0.99*rate {
				t.Fatalf("window %d, packet %d: %d byte/s with the pipe full, want at least 99 %% of %d", window, i, rs.DeliveryRate, rate)
			}
			send(now)
		}
	}
}

func TestSamplerSurvivesNonsense(t *testing.T) {
	var s congestion.Sampler
	var p congestion.PacketState
	s.OnDelivered(&p, 0)
	if s.Finish(0, 0).HasPacket || s.Delivered() != 0 {
		t.Error("a packet that was never sent was delivered")
	}
	s.OnSent(&p, 10, 1<<32-1, 0, false)
	s.Begin(10)
	s.OnDelivered(&p, 10)
	if rs := s.Finish(0, 0); rs.Valid {
		t.Errorf("a rate over no time: %+v", rs)
	}
}

func TestSamplerAllocatesNothing(t *testing.T) {
	var s congestion.Sampler
	var p congestion.PacketState
	var now congestion.Time
	if n := testing.AllocsPerRun(100, func() {
		now += 10 * ms
		s.OnSent(&p, now, mss, 0, false)
		s.Begin(now + ms)
		s.OnDelivered(&p, now+ms)
		_ = s.Finish(ms, 0)
	}); n != 0 {
		t.Errorf("%v allocations an ACK", n)
	}
}

func BenchmarkSampler(b *testing.B) {
	var s congestion.Sampler
	var p congestion.PacketState
	var now congestion.Time
	for b.Loop() {
		now += 10 * ms
		s.OnSent(&p, now, mss, 0, false)
		s.Begin(now + ms)
		s.OnDelivered(&p, now+ms)
		_ = s.Finish(ms, 0)
	}
}
