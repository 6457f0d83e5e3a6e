package linksim_test

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/internal/linksim"
	"github.com/plumbline/plumbline/congestion/reno"
)

// TestTimes checks when the ACKs of a burst of three arrive, to the nanosecond: serialisation one after the other, then the round trip.
func TestTimes(t *testing.T) {
	const rate = 3_000_000 // a packet of 1000 bytes takes 333333⅓ ns
	var got []congestion.Time
	sim := linksim.New(rate, 0)
	sim.Add(linksim.FlowConfig{
		Controller: reno.New(), RTT: 10 * time.Millisecond, InitialWindow: 3000,
		OnAck: func(ev *congestion.AckEvent) { got = append(got, ev.Now) },
	})
	sim.Run(11 * time.Millisecond)
	want := []congestion.Time{10_333_333, 10_666_666, 11_000_000}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("ACKs at %v, want %v", got, want)
	}
}

// TestQueue checks what fits: one packet on the wire and the buffer behind it.
func TestQueue(t *testing.T) {
	sim := linksim.New(1_000_000, 4000)
	flow := sim.Add(linksim.FlowConfig{Controller: reno.New(), RTT: 10 * time.Millisecond, InitialWindow: 10_000})
	sim.Run(0)
	if sim.Link.Waiting() != 4000 || sim.Link.Dropped() != 5000 || flow.InFlight() != 10_000 {
		t.Errorf("%d bytes wait, %d were dropped, want 4000 and 5000", sim.Link.Waiting(), sim.Link.Dropped())
	}
	sim.Run(4 * time.Millisecond)
	if sim.Link.Delivered() != 4000 || sim.Link.MaxWaiting() != 4000 || sim.Link.Waiting() != 0 {
		t.Errorf("%d bytes left the link in 4 ms, %d wait", sim.Link.Delivered(), sim.Link.Waiting())
	}
	// 4000, 3000, 2000 and 1000 bytes waited for a millisecond each.
	if mean := sim.Link.MeanWaiting(0); mean < 1499 || mean > 2501 {
		t.Errorf("a mean of %.0f bytes waited", mean)
	}
}

// TestTimeout checks that a flow that loses all it sent begins again.
func TestTimeout(t *testing.T) {
	var signals []congestion.Signal
	sim := linksim.New(0, 0)
	flow := sim.Add(linksim.FlowConfig{
		Controller: reno.New(), RTT: 10 * time.Millisecond,
		Drop:     func(n uint64) bool { return n < 12 },
		OnSignal: func(ev *congestion.SignalEvent) { signals = append(signals, ev.Signal) },
	})
	sim.Run(10 * time.Second)
	if len(signals) != 3 || signals[0] != congestion.RTO || signals[1] != congestion.PersistentCongestion || flow.RTOs != 3 {
		t.Errorf("signals %v, %d timeouts", signals, flow.RTOs)
	}
	if flow.Delivered == 0 || flow.Lost != 12_000 {
		t.Errorf("%d bytes delivered, %d lost", flow.Delivered, flow.Lost)
	}
}

func TestOffered(t *testing.T) {
	sim := linksim.New(0, 0)
	flow := sim.Add(linksim.FlowConfig{
		Controller: reno.New(), RTT: 10 * time.Millisecond,
		Offered: func(now congestion.Time) (uint64, congestion.Time) {
			second := now / time.Second
			return 2500 * uint64(second+1), (second + 1) * time.Second
		},
	})
	sim.Run(3500 * time.Millisecond)
	if flow.Delivered != 10_000 || flow.Written() != 10_000 {
		t.Errorf("%d bytes delivered of 10000", flow.Delivered)
	}
}

func BenchmarkPacket(b *testing.B) {
	sim := linksim.New(12_500_000, 1_250_000)
	flow := sim.Add(linksim.FlowConfig{Controller: reno.New(), RTT: 100 * time.Millisecond, MSS: 1448})
	sim.Run(20 * time.Second)
	before := flow.Sent
	for b.Loop() {
		sim.Run(sim.Now() + 116*time.Microsecond)
	}
	b.ReportMetric(float64(flow.Sent-before)/1448/float64(b.N), "packets/op")
}
