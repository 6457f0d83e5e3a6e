package bbr

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

func TestInflightAtLoss(t *testing.T) {
	for _, c := range []struct {
		name                 string
		size, inFlight, lost uint64
		want                 uint64
	}{
		// lost_prefix = (0.02·99000 - 0)/0.98 = 2020, of a burst that lost it all.
		{"within a burst", 64000, 163000, 64000, 99000 + 2020},
		{"crossed before", 1000, 100_000, 5000, 99_000},
		{"nonsense", 2000, 1000, 500, 0},
	} {
		if got := inflightAtLoss(c.size, c.inFlight, c.lost); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestMaxBWFilterKeepsTwoCycles checks §5.5.6.
func TestMaxBWFilterKeepsTwoCycles(t *testing.T) {
	b := New().(*bbr)
	b.Init(congestion.Config{MSS: 1000, InitialWindow: 10000})
	sample := func(rate uint64) uint64 {
		b.rs = congestion.RateSample{DeliveryRate: rate, Valid: true, HasPacket: true}
		b.updateMaxBW()
		return b.maxBW
	}
	if got := sample(1000); got != 1000 {
		t.Fatalf("max_bw %d", got)
	}
	b.advanceMaxBWFilter()
	if got := sample(100); got != 1000 {
		t.Errorf("max_bw in the next cycle is %d, want that of the one before", got)
	}
	b.advanceMaxBWFilter()
	if got := sample(100); got != 100 {
		t.Errorf("max_bw two cycles later is %d, want the present one", got)
	}
	b.advanceMaxBWFilter()
	b.advanceMaxBWFilter() // a cycle without samples
	if b.maxBWFilter[0] != 100 {
		t.Error("a cycle without samples emptied the filter")
	}
	b.rs = congestion.RateSample{DeliveryRate: 50, AppLimited: true, Valid: true, HasPacket: true}
	if b.updateMaxBW(); b.maxBWFilter[1] == 50 {
		t.Error("an application-limited sample below max_bw was taken")
	}
	b.rs.DeliveryRate = 500
	if b.updateMaxBW(); b.maxBW != 500 {
		t.Error("an application-limited sample above max_bw was not taken")
	}
}

// TestFirstRTTSetsThePacingRate checks §5.6.2: the initial rate is 2.77 initial windows in a round trip, once one is known.
func TestFirstRTTSetsThePacingRate(t *testing.T) {
	l := newLab(t, labConfig{rtt: 100 * time.Millisecond})
	if want := uint64(2.77 * 10 * mss * 1000); !near(l.pacingRate, want, 0.001) {
		t.Errorf("before the first round trip %d byte/s, want %d", l.pacingRate, want)
	}
	l.run(105 * time.Millisecond)
	if want := uint64(2.77 * 10 * mss * 10); !near(l.pacingRate, want, 0.02) {
		t.Errorf("after it %d byte/s, want %d", l.pacingRate, want)
	}
}

// TestTimeoutRestores checks §5.6.4.4: a timeout leaves one segment; the end of recovery brings back the window as far as the model allows.
func TestTimeoutRestores(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWCruise)
	l.run(500 * time.Millisecond)
	b, before := l.bbr, l.cwnd
	b.OnSignal(&congestion.SignalEvent{Now: b.now, Signal: congestion.RTO, PriorInFlight: b.inFlight, Delivered: b.delivered})
	if b.cwnd != mss {
		t.Errorf("cwnd after the timeout is %d", b.cwnd)
	}
	b.OnSignal(&congestion.SignalEvent{Now: b.now, Signal: congestion.PersistentCongestion, Delivered: b.delivered})
	if b.cwnd != mss {
		t.Errorf("cwnd after the second timeout is %d", b.cwnd)
	}
	b.OnRecoveryExit(b.now, mss)
	if b.cwnd != before {
		t.Errorf("cwnd after recovery is %d, want %d", b.cwnd, before)
	}
}

// TestECNIsCongestion checks §3.7 in three states.
func TestECNIsCongestion(t *testing.T) {
	mark := func(b *bbr) {
		b.OnSignal(&congestion.SignalEvent{Now: b.now, Signal: congestion.ClassicECN, PriorInFlight: b.inFlight, InFlight: b.inFlight, Delivered: b.delivered})
	}
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.run(rtt + rtt/2)
	mark(l.bbr)
	l.until("end of Startup", time.Second, func() bool { return l.state != startup })

	l.untilState(probeBWCruise)
	l.run(200 * time.Millisecond)
	mark(l.bbr)
	l.until("the short-term model", time.Second, func() bool { return l.inflightShortterm != noVolume })

	l.untilState(probeBWUp)
	l.run(rtt)
	mark(l.bbr)
	l.expect("the probe has ended", l.state == probeBWDown && l.prevProbeTooHigh)
}

func TestSnapshot(t *testing.T) {
	l := newLab(t, labConfig{buffer: 4 * bdp})
	l.untilState(probeBWUp)
	var s congestion.Snapshot
	l.Snapshot(&s)
	if s.State != "ProbeBW_UP" || s.MinRTT == 0 || s.Bandwidth != l.bw || len(s.Values) != 10 {
		t.Errorf("%+v", s)
	}
	if n := testing.AllocsPerRun(100, func() { l.Snapshot(&s) }); n != 0 {
		t.Errorf("a Snapshot that has room allocates %v times", n)
	}
}

func BenchmarkOnAck(b *testing.B) {
	c := New().(*bbr)
	c.Init(congestion.Config{MSS: 1000, InitialWindow: 10000})
	ev := congestion.AckEvent{Acked: 2000, CumAcked: 2000, InFlight: 100_000, PriorInFlight: 102_000, SRTT: rtt, RTT: rtt, CwndLimited: true}
	for b.Loop() {
		ev.Now += time.Millisecond
		ev.Delivered += 2000
		ev.Sample = congestion.RateSample{
			DeliveryRate: rate, Delivered: 100_000, PriorDelivered: ev.Delivered - 100_000, TxInFlight: 100_000, Interval: rtt, RTT: rtt, Valid: true, HasPacket: true,
		}
		c.OnAck(&ev)
	}
}
