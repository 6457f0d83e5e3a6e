package emulated

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/tcpip"
)

const ms = time.Millisecond

// Packet n of a burst arrives after exactly n times its serialisation time plus the delay, to the nanosecond and without drift.
func TestSerialisationIsExact(t *testing.T) {
	for _, rate := range []BitRate{1, 56 * Kbps, 3 * Mbps, 7 * Mbps, 100 * Mbps, 7 * Gbps} {
		t.Run(rate.String(), func(t *testing.T) {
			r := forward(t, Link{Rate: rate, Delay: 50 * ms, Queue: FIFO{Packets: 2000}})
			const count, size = 1000, 1500
			r.burst(0, count, size)
			r.run(maxTime)
			if len(r.got[0]) != count {
				t.Fatalf("%d packets arrived, want %d", len(r.got[0]), count)
			}
			for i, a := range r.got[0] {
				bits := uint64(i+1) * size * 8
				want := 50*ms + time.Duration(bits/uint64(rate))*time.Second + time.Duration(bits%uint64(rate)*uint64(time.Second)/uint64(rate))
				if a.At != want || a.N != i {
					t.Fatalf("packet %d arrived as number %d at %d ns, want %d", a.N, i, a.At, want)
				}
			}
		})
	}
}

// A link that was idle starts at once, and a link without a rate has no queue at all.
func TestIdleLink(t *testing.T) {
	r := forward(t, Link{Rate: 12 * Mbps, Delay: 10 * ms})
	r.burst(0, 2, 1500)
	r.run(100 * ms)
	r.burst(2, 1, 750)
	r.run(200 * ms)
	want := []arrival{{11 * ms, 0, 1500, 0}, {12 * ms, 1, 1500, 0}, {110*ms + 500*time.Microsecond, 2, 750, 0}}
	if diff := cmp.Diff(want, r.got[0]); diff != "" {
		t.Errorf("arrivals (-want +got)\n%s", diff)
	}

	r = forward(t, Link{Delay: 10 * ms})
	r.burst(0, 5000, 1500)
	r.run(time.Second)
	if n := len(r.got[0]); n != 5000 || r.got[0][n-1].At != 10*ms {
		t.Errorf("%d packets arrived, the last at %v", n, r.got[0][n-1].At)
	}
}

// The FIFO holds what fits, in bytes or in packets, besides the packet that is being sent.
func TestFIFOBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		fifo FIFO
		want int
	}{
		{"bytes", FIFO{Bytes: 15_000}, 11},
		{"a byte short", FIFO{Bytes: 14_999}, 10},
		{"packets", FIFO{Packets: 7}, 8},
		{"both", FIFO{Packets: 7, Bytes: 4500}, 4},
		{"default", FIFO{}, 1001},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := forward(t, Link{Rate: Mbps, Queue: tt.fifo})
			r.burst(0, 1200, 1500)
			st := r.path.Forward()
			if got := 1200 - int(st.Dropped[DropOverflow].Packets); got != tt.want {
				t.Errorf("%d packets were taken, want %d", got, tt.want)
			}
			if st.Queue.Packets != uint64(tt.want-1) || st.MaxQueue != uint64(tt.want-1)*1500 {
				t.Errorf("queue of %+v, at most %d bytes", st.Queue, st.MaxQueue)
			}
			r.run(time.Hour)
			if len(r.got[0]) != tt.want {
				t.Errorf("%d packets arrived, want %d", len(r.got[0]), tt.want)
			}
		})
	}
}

// A change of rate applies to what is left of the packet under way, to the nanosecond.
func TestSteps(t *testing.T) {
	link := func(steps ...Step) Link {
		return Link{Rate: 12 * Mbps, Delay: 10 * ms, Steps: steps} // 1 ms for a packet
	}
	us := time.Microsecond
	for _, tt := range []struct {
		name string
		link Link
		want []time.Duration
	}{
		{"none", link(), []time.Duration{11 * ms, 12 * ms, 13 * ms}},
		{"slower by ten, in the middle of a packet", link(Step{At: 500 * us, Rate: 1200 * Kbps, Delay: 10 * ms}), []time.Duration{15*ms + 500*us, 25*ms + 500*us, 35*ms + 500*us}},
		{"faster by ten", link(Step{At: 500 * us, Rate: 120 * Mbps, Delay: 10 * ms}), []time.Duration{10*ms + 550*us, 10*ms + 650*us, 10*ms + 750*us}},
		{"blackout", link(Step{At: 1500 * us, Rate: 12 * Mbps, Delay: 10 * ms, Down: true}, Step{At: 101500 * us, Rate: 12 * Mbps, Delay: 10 * ms}), []time.Duration{11 * ms, 112 * ms, 113 * ms}},
		{"blackout that ends slower", link(Step{At: 1500 * us, Down: true}, Step{At: 101500 * us, Rate: 6 * Mbps, Delay: 10 * ms}), []time.Duration{11 * ms, 112*ms + 500*us, 114*ms + 500*us}},
		{"longer", link(Step{At: 1500 * us, Rate: 12 * Mbps, Delay: 40 * ms}), []time.Duration{11 * ms, 42 * ms, 43 * ms}},
		{"shorter does not reorder", link(Step{At: 1500 * us, Rate: 12 * Mbps}), []time.Duration{11 * ms, 11 * ms, 11 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := forward(t, tt.link)
			r.burst(0, 3, 1500)
			r.run(time.Hour)
			var got []time.Duration
			for _, a := range r.got[0] {
				got = append(got, a.At)
			}
			if !slices.Equal(got, tt.want) || !slices.Equal(numbers(r.got[0]), []int{0, 1, 2}) {
				t.Errorf("arrivals %v at %v, want %v", numbers(r.got[0]), got, tt.want)
			}
		})
	}
}

// A packet that takes decades at the new rate neither overflows nor ends the link.
func TestStepToCrawl(t *testing.T) {
	r := forward(t, Link{Rate: 10_000 * Gbps, Steps: []Step{{At: 1, Rate: 1}, {At: time.Hour, Rate: Gbps}}})
	r.burst(0, 2, 1500)
	r.run(2 * time.Hour)
	if len(r.got[0]) != 2 {
		t.Fatalf("%d packets arrived, want 2", len(r.got[0]))
	}
}

// Jitter is uniform in [0, Jitter] and keeps the order unless it is told otherwise.
func TestJitter(t *testing.T) {
	for _, reorders := range []bool{false, true} {
		r := forward(t, Link{Delay: 10 * ms, Jitter: 5 * ms, JitterReorders: reorders})
		sent := r.every(ms, 2*time.Second, 100)
		r.run(time.Hour)
		if len(r.got[0]) != sent {
			t.Fatalf("%d of %d packets arrived", len(r.got[0]), sent)
		}
		if sorted := slices.IsSorted(numbers(r.got[0])); sorted == reorders {
			t.Errorf("JitterReorders %t: sorted %t", reorders, sorted)
		}
		var sum time.Duration
		for _, a := range r.got[0] {
			d := a.At - time.Duration(a.N)*ms
			sum += d
			if d < 10*ms || d > 15*ms {
				t.Fatalf("packet %d took %v", a.N, d)
			}
		}
		if mean := sum / time.Duration(sent); reorders && (mean-12500*time.Microsecond).Abs() > 100*time.Microsecond {
			t.Errorf("mean delay %v, want 12.5 ms", mean)
		}
	}
}

// Aggregated packets arrive in slots.
func TestAggregate(t *testing.T) {
	r := forward(t, Link{Delay: 3 * ms, Aggregate: 10 * ms})
	r.every(ms, 30*ms, 100)
	r.run(time.Second)
	for _, a := range r.got[0] {
		if want := (time.Duration(a.N)*ms + 3*ms + 9*ms) / (10 * ms) * (10 * ms); a.At != want {
			t.Errorf("packet %d arrived at %v, want %v", a.N, a.At, want)
		}
	}
}

// The chosen packets are late by the delay given and no other is.
func TestReorder(t *testing.T) {
	r := forward(t, Link{Delay: 10 * ms, Reorder: Reorder{Probability: 0.02, Delay: 25 * ms}})
	sent := r.every(ms, 10*time.Second, 100)
	r.run(time.Hour)
	late := 0
	for _, a := range r.got[0] {
		switch a.At - time.Duration(a.N)*ms {
		case 10 * ms:
		case 35 * ms:
			late++
		default:
			t.Fatalf("packet %d arrived at %v", a.N, a.At)
		}
	}
	if got := float64(late) / float64(sent); math.Abs(got-0.02) > 0.004 || late != int(r.path.Forward().Reordered) {
		t.Errorf("%d of %d packets were late, the statistics say %d", late, sent, r.path.Forward().Reordered)
	}
}

func TestDuplicate(t *testing.T) {
	r := forward(t, Link{Rate: Gbps, Duplicate: 0.1})
	sent := r.every(ms, 10*time.Second, 100)
	r.run(time.Hour)
	st := r.path.Forward()
	if math.Abs(float64(st.Duplicated)/float64(sent)-0.1) > 0.01 || len(r.got[0]) != sent+int(st.Duplicated) || st.Delivered.Packets != uint64(len(r.got[0])) {
		t.Errorf("%d sent, %d duplicated, %d arrived, %d delivered", sent, st.Duplicated, len(r.got[0]), st.Delivered.Packets)
	}
}

// Random loss takes its share; a pattern takes exactly what it says.
func TestLoss(t *testing.T) {
	r := forward(t, Link{Rate: Gbps, Loss: RandomLoss(0.01)})
	const sent = 50_000
	for range sent / 1000 {
		r.burst(0, 1000, 100)
		r.run(r.clock.Elapsed() + ms)
	}
	if lost := float64(r.path.Forward().Dropped[DropLoss].Packets) / sent; math.Abs(lost-0.01) > 0.0015 {
		t.Errorf("lost %v, want 0.01", lost)
	}

	r = forward(t, Link{Loss: LossPattern{0: true, 3: true}})
	r.burst(0, 6, 100)
	r.run(time.Second)
	if got := numbers(r.got[0]); !slices.Equal(got, []int{1, 2, 4, 5}) {
		t.Errorf("arrived %v", got)
	}
}

// The lengths of bursts and the share of loss are those of the Markov chain.
func TestGilbertElliott(t *testing.T) {
	r := forward(t, Link{Loss: GilbertElliott{ToBad: 0.01, ToGood: 0.25, Bad: 1}})
	const sent = 50_000
	for i := range sent / 1000 {
		r.burst(i*1000, 1000, 100)
		r.run(r.clock.Elapsed() + ms)
	}
	bursts, lost, next := 0, 0, 0
	for _, a := range r.got[0] {
		if a.N > next {
			bursts++
			lost += a.N - next
		}
		next = a.N + 1
	}
	if share, want := float64(lost)/sent, 0.01/0.26; math.Abs(share-want) > 0.003 {
		t.Errorf("lost %v, want %v", share, want)
	}
	if mean := float64(lost) / float64(bursts); math.Abs(mean-4) > 0.3 {
		t.Errorf("mean burst %v, want 4", mean)
	}
}

// A policer lets the burst and then exactly the rate pass.
func TestPolicer(t *testing.T) {
	r := forward(t, Link{Policer: &Policer{Rate: 8 * Mbps, Burst: 10_000}}) // a byte a microsecond
	r.burst(0, 20, 1000)
	r.run(ms - 1)
	r.burst(20, 1, 1000)
	r.run(ms)
	r.burst(21, 2, 1000)
	r.run(time.Hour)
	r.burst(100, 20, 1000)
	r.run(2 * time.Hour)
	want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109}
	if got := numbers(r.got[0]); !slices.Equal(got, want) {
		t.Errorf("passed %v, want %v", got, want)
	}
}

// Marks reach only what is ECN-capable, and leave headers whole.
func TestMarkCE(t *testing.T) {
	r := forward(t, Link{MarkCE: 1})
	r.send(
		packetSpec{n: 0, size: 100}, packetSpec{n: 1, size: 100, ecn: 1}, packetSpec{n: 2, size: 100, ecn: 2}, packetSpec{n: 3, size: 100, ecn: 3},
		packetSpec{n: 4, size: 100, v6: true}, packetSpec{n: 5, size: 100, ecn: 1, v6: true}, packetSpec{n: 6, size: 100, ecn: 2, v6: true},
	)
	r.run(time.Second)
	var got []uint8
	for _, a := range r.got[0] {
		got = append(got, a.ECN)
	}
	if want := []uint8{0, 3, 3, 3, 0, 3, 3}; !slices.Equal(got, want) {
		t.Errorf("ECN fields %v, want %v", got, want)
	}
}

// A FIFO with a threshold marks what finds more than that.
func TestMarkThreshold(t *testing.T) {
	r := forward(t, Link{Rate: Mbps, Queue: FIFO{Packets: 100, MarkBytes: 4500}})
	for i := range 8 {
		r.send(packetSpec{n: i, size: 1500, ecn: 2})
	}
	r.run(time.Hour)
	for _, a := range r.got[0] {
		if want := a.N > 4; (a.ECN == ecnCE) != want {
			t.Errorf("packet %d: ECN %d", a.N, a.ECN)
		}
	}
}

// Packets go to the host that has their address, after the delay of its own link, or to the one without addresses.
func TestHosts(t *testing.T) {
	addr := func(n byte) tcpip.Address { return tcpip.AddrFrom4([4]byte{198, 51, 100, n}) }
	r := newRig(t, Options{
		Forward: Link{Rate: 12 * Mbps, Delay: 10 * ms},
		Right:   []Host{{Addresses: []tcpip.Address{addr(1), addr(2)}, Delay: 40 * ms}, {Addresses: []tcpip.Address{addr(3)}, Delay: 5 * ms}, {}},
	})
	r.send(packetSpec{n: 0, size: 1500, dst: 1}, packetSpec{n: 1, size: 1500, dst: 3}, packetSpec{n: 2, size: 1500, dst: 2}, packetSpec{n: 3, size: 1500, dst: 9})
	r.run(time.Second)
	want := [][]arrival{{{51 * ms, 0, 1500, 0}, {53 * ms, 2, 1500, 0}}, {{17 * ms, 1, 1500, 0}}, {{14 * ms, 3, 1500, 0}}}
	if diff := cmp.Diff(want, r.got); diff != "" {
		t.Errorf("arrivals (-want +got)\n%s", diff)
	}
}

// What has no host, or one that is gone, is counted.
func TestNobody(t *testing.T) {
	r := newRig(t, Options{Right: []Host{{Addresses: []tcpip.Address{tcpip.AddrFrom4([4]byte{198, 51, 100, 1})}}}})
	r.send(packetSpec{n: 0, size: 100, dst: 2})
	r.send(packetSpec{n: 1, size: 100, dst: 1})
	r.path.Right(0).Close()
	r.run(time.Second)
	if st := r.path.Forward(); st.Dropped[DropNobody].Packets != 2 || st.Delivered.Packets != 0 || st.Drops() != 2 {
		t.Errorf("statistics %+v", st.Dropped)
	}
}

// Samples hold the state just before their instant.
func TestSeries(t *testing.T) {
	r := forward(t, Link{Rate: 12 * Mbps, SampleInterval: ms, Queue: FIFO{Packets: 3}})
	r.run(500 * time.Microsecond)
	r.burst(0, 5, 1500) // four taken; they leave at 1.5, 2.5, 3.5, 4.5 ms
	r.run(6 * ms)
	type point struct {
		At            time.Duration
		Queue         int
		Delay         time.Duration
		Sent, Dropped uint64
	}
	var got []point
	for _, s := range r.path.Forward().Series {
		got = append(got, point{s.At, s.QueueBytes, s.Delay, s.Sent, s.Dropped})
	}
	want := []point{{0, 0, 0, 0, 0}, {ms, 4500, 0, 1500, 1}, {2 * ms, 3000, ms, 3000, 1}, {3 * ms, 1500, 2 * ms, 4500, 1}, {4 * ms, 0, 3 * ms, 6000, 1}, {5 * ms, 0, 0, 6000, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got)\n%s", diff)
	}
}

// everything is a link with every stage.
func everything() Link {
	return Link{
		Rate: 10 * Mbps, Delay: 20 * ms, Jitter: 3 * ms, Queue: PIE{ECN: true}, Loss: GilbertElliott{ToBad: 0.01, ToGood: 0.2, Bad: 0.5}, MarkCE: 0.01,
		Reorder: Reorder{0.02, 5 * ms}, Duplicate: 0.01, Policer: &Policer{Rate: 15 * Mbps, Burst: 50_000}, Steps: []Step{{At: time.Second, Rate: 5 * Mbps, Delay: 30 * ms}},
	}
}

// The same seed gives the same arrivals, another seed others, and a stage that is switched on does not change the chances of the rest.
func TestDeterminism(t *testing.T) {
	run := func(seed uint64, l Link) []arrival {
		r := newRig(t, Options{Forward: l, Seed: seed})
		for i := range 4000 {
			r.send(packetSpec{n: i, size: 1000, ecn: uint8(i % 3)})
			r.run(r.clock.Elapsed() + 700*time.Microsecond)
		}
		r.run(time.Hour)
		return r.got[0]
	}
	a, b, c := run(1, everything()), run(1, everything()), run(2, everything())
	if !slices.Equal(a, b) {
		t.Error("two runs with one seed differ")
	}
	if slices.Equal(a, c) {
		t.Error("runs with two seeds are the same")
	}
	plain := run(1, Link{Loss: RandomLoss(0.05)})
	jitter := run(1, Link{Loss: RandomLoss(0.05), Jitter: 2 * ms})
	if !slices.Equal(numbers(plain), numbers(jitter)) {
		t.Error("jitter changed what is lost")
	}
}

// Closing in the middle of everything releases everything (TestMain looks) and stops the timers.
func TestCloseReleases(t *testing.T) {
	for _, q := range []Queue{FIFO{}, CoDel{}, FQCoDel{}, PIE{}, DualPI2{}} {
		r := forward(t, Link{Rate: Mbps, Delay: 50 * ms, Queue: q, Steps: []Step{{At: time.Hour, Rate: Mbps}}})
		r.every(ms, 400*ms, 1500)
		r.path.Close()
		if n := r.clock.Armed(); n != 0 {
			t.Errorf("%v: %d timers are armed after Close", q, n)
		}
		r.path.Close()
	}
}
