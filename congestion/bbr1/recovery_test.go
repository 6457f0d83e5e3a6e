package bbr1

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
)

// steady is a flow in ProbeBW that has not lost anything.
func steady(t *testing.T) *single {
	t.Helper()
	s := alone(rate, rtt, 4*bdp, nil)
	s.until(t, probeBW)
	s.Run(s.Now() + time.Second)
	if s.flow.Lost != 0 {
		t.Fatal("something was lost")
	}
	return s
}

// lose marks n segments lost and signals what follows.
func (s *single) lose(n uint64, signal congestion.Signal) {
	prior := s.inFlight
	for range n {
		s.OnLost(&congestion.LossEvent{Now: s.now, Size: mss, Packet: &congestion.PacketState{Size: mss}, InFlight: s.inFlight - mss, Delivered: s.delivered})
	}
	s.OnSignal(&congestion.SignalEvent{Now: s.now, Signal: signal, PriorInFlight: prior, InFlight: s.inFlight, NewlyLost: n * mss, Delivered: s.delivered})
}

// arrive processes an ACK for one segment that left when prior bytes had been delivered; sent tells how much has left since the ACK before.
func (s *single) arrive(prior, sent uint64) {
	ev := ack(s.bbr, s.now+time.Millisecond)
	ev.PriorInFlight = s.inFlight + sent
	ev.InFlight = ev.PriorInFlight - mss
	ev.Sample.PriorDelivered = prior
	s.OnAck(ev)
}

// TestConservation checks §4.2.3.4: in the first round of fast recovery a segment leaves for each that is delivered; then the window grows by what is delivered, up to the
// target; at the end it is what it was.
func TestConservation(t *testing.T) {
	s := steady(t)
	cwnd, entry := s.cwnd, s.delivered
	s.lose(3, congestion.FastRecovery)
	flight := s.inFlight
	if s.cwnd != flight+mss {
		t.Fatalf("cwnd is %d with %d in flight: recovery begins with one segment", s.cwnd, flight)
	}
	sent := uint64(0)
	for range 10 {
		s.arrive(entry-bdp, sent)
		if s.cwnd != s.inFlight+mss {
			t.Fatalf("an ACK for a segment lets out %d bytes", s.cwnd-s.inFlight)
		}
		sent = s.cwnd - s.inFlight
	}
	if s.inFlight+sent != flight {
		t.Errorf("%d in flight after ten ACKs, want %d", s.inFlight+sent, flight)
	}
	before := s.cwnd
	s.arrive(entry+1, sent) // the first round is over
	s.arrive(entry+2, mss)
	if s.cwnd != before+2*mss {
		t.Errorf("two ACKs in the second round took cwnd from %d to %d", before, s.cwnd)
	}
	s.OnRecoveryExit(s.now, s.inFlight)
	if s.cwnd != cwnd {
		t.Errorf("cwnd after recovery is %d, was %d", s.cwnd, cwnd)
	}
	if s.btlBw < rate*98/100 {
		t.Error("the loss changed the model")
	}
}

// TestLostLeavesTheWindow checks that what is lost in later rounds is taken out of the window.
func TestLostLeavesTheWindow(t *testing.T) {
	s := steady(t)
	entry := s.delivered
	s.lose(1, congestion.FastRecovery)
	s.arrive(entry, 0)
	before := s.cwnd
	s.OnLost(&congestion.LossEvent{Now: s.now, Size: 5 * mss, Packet: &congestion.PacketState{Size: 5 * mss}, InFlight: s.inFlight - 5*mss, Delivered: s.delivered})
	s.arrive(entry+1, 0)
	if want := before - 5*mss + mss; s.cwnd != want {
		t.Errorf("five lost and one delivered took cwnd from %d to %d, want %d", before, s.cwnd, want)
	}
}

// TestTimeout checks §4.2.3.4: one segment after a timeout, four with the first ACK, and at the end the window that was.
func TestTimeout(t *testing.T) {
	s := steady(t)
	cwnd := s.cwnd
	s.lose(s.inFlight/mss, congestion.RTO)
	if s.cwnd != mss {
		t.Errorf("cwnd after a timeout is %d", s.cwnd)
	}
	s.lose(0, congestion.PersistentCongestion)
	if s.cwnd != mss {
		t.Errorf("cwnd after a second timeout is %d", s.cwnd)
	}
	s.arrive(s.delivered, mss)
	if s.cwnd != minPipeSegments*mss {
		t.Errorf("cwnd after the first ACK is %d", s.cwnd)
	}
	s.OnRecoveryExit(s.now, s.inFlight)
	if s.cwnd != cwnd {
		t.Errorf("cwnd after recovery is %d, was %d", s.cwnd, cwnd)
	}
}

// TestMark checks that an ECN mark conserves packets for one round trip.
func TestMark(t *testing.T) {
	s := steady(t)
	cwnd, entry := s.cwnd, s.delivered
	s.lose(0, congestion.ClassicECN)
	s.arrive(entry-bdp, 0)
	if s.cwnd != s.inFlight+mss {
		t.Errorf("cwnd is %d with %d in flight", s.cwnd, s.inFlight)
	}
	s.arrive(entry+1, mss)
	if s.cwnd != cwnd {
		t.Errorf("cwnd is %d a round trip after the mark, was %d", s.cwnd, cwnd)
	}
}

// TestRandomLoss checks what version 1 is known for: at 1 % of random loss it keeps 90 of 100 Mbit/s.
func TestRandomLoss(t *testing.T) {
	for _, loss := range []float64{1e-3, 1e-2} {
		if testing.Short() && loss < 1e-2 {
			continue
		}
		s := linksim.Scenario{
			Rate: 100 * mbit, RTT: 100 * time.Millisecond, Queue: 1, Loss: loss, Seed: 1, Duration: 24 * time.Second,
			Flows: []func() congestion.Controller{New},
		}
		if o := s.Run(); o.Total < 0.90 {
			t.Errorf("loss %v: %.3f of the link, want 0.90", loss, o.Total)
		}
	}
}

// TestFairness checks Jain's index among four flows, and that their median wait is the window's excess: 2 BDP in all, of which one waits.
func TestFairness(t *testing.T) {
	s := linksim.Scenario{Rate: 50 * mbit, RTT: 30 * time.Millisecond, Queue: 4, Seed: 1, Duration: 40 * time.Second}
	for range 4 {
		s.Flows = append(s.Flows, New)
	}
	o := s.Run()
	t.Logf("%+v", o)
	if o.Jain < 0.95 || o.Total < 0.95 {
		t.Errorf("Jain's index is %.3f and %.3f of the link used", o.Jain, o.Total)
	}
	if o.QueueMedian > 45*time.Millisecond {
		t.Errorf("the median wait is %v", o.QueueMedian)
	}
}
