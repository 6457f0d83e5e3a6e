package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
	"github.com/plumbline/plumbline/tcpx"
)

// brief is d, and a fifth of it in short runs.
func brief(d time.Duration) time.Duration {
	if testing.Short() {
		return d / 5
	}
	return d
}

// expand returns the scenarios of names in a shortened form.
func expand(t *testing.T, p Params, names ...string) []*Scenario {
	t.Helper()
	var all []*Scenario
	for _, name := range names {
		s, err := Expand(name, p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s...)
	}
	return all
}

// sweep runs scenarios and returns everything that is found, without the wall time.
func sweep(t *testing.T, scenarios []*Scenario, parallel int) []*Result {
	t.Helper()
	s := Sweep{Scenarios: scenarios, Parallel: parallel}
	results, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		r.WallSeconds = 0
	}
	return results
}

// trace puts everything that results say into bytes.
func trace(t *testing.T, results []*Result) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range results {
		if err := errors.Join(enc.Encode(r), enc.Encode(r.Detail)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestSameSeedSameBytesAtAnyGOMAXPROCS(t *testing.T) {
	for _, tt := range []struct {
		stack      string
		algorithms []string
		scenarios  []string
	}{
		{"tcpx", []string{"reno", "cubic", "bbr"}, []string{"loss/1%", "fairness/4", "coexist/1bdp", "path/reorder", "path/jitter", "short/100KB-bulk", "trace", "aqm/pie"}},
		{"gvisor", []string{"reno", "cubic"}, []string{"loss/1%", "coexist/0.1bdp", "path/reorder"}},
	} {
		t.Run(tt.stack, func(t *testing.T) {
			run := func(procs int, seed uint64) []byte {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				p := Params{Stack: tt.stack, Algorithms: tt.algorithms, Duration: brief(time.Second), Seed: seed}
				return trace(t, sweep(t, expand(t, p, tt.scenarios...), procs))
			}
			one, two := run(1, 7), run(2, 7)
			if !bytes.Equal(one, two) {
				i := 0
				for ; i < min(len(one), len(two)) && one[i] == two[i]; i++ {
				}
				t.Errorf("GOMAXPROCS 1 and 2 differ at byte %d:\n%.200s\n%.200s", i, one[max(i-50, 0):], two[max(i-50, 0):])
			}
			if bytes.Equal(one, run(2, 8)) {
				t.Error("another seed gives the same results")
			}
		})
	}
}

func TestShardsMakeTheWhole(t *testing.T) {
	p := Params{Stack: "tcpx", Algorithms: []string{"reno", "cubic", "bbr"}, Duration: brief(time.Second), Seed: 3}
	all := expand(t, p, "coexist", "clean")
	report := func(results []*Result) string {
		var b bytes.Buffer
		Sort(results)
		if err := WriteJSON(&b, results); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	whole := report(sweep(t, all, 2))
	var parts []*Result
	for i := 4; i >= 1; i-- { // The order in which parts come does not matter.
		var b bytes.Buffer
		if err := WriteJSON(&b, sweep(t, Shard{i, 4}.Select(all), 1)); err != nil {
			t.Fatal(err)
		}
		part, err := ReadJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part...)
	}
	if got := report(parts); got != whole {
		t.Errorf("four parts together:\n%s\nwant the whole:\n%s", got, whole)
	}
}

func TestShardSelectsEachScenarioOnce(t *testing.T) {
	all := make([]*Scenario, 10)
	for i := range all {
		all[i] = new(Scenario)
	}
	for n := 1; n <= 12; n++ {
		seen := make(map[*Scenario]int)
		for i := 1; i <= n; i++ {
			for _, s := range (Shard{i, n}).Select(all) {
				seen[s]++
			}
		}
		for i, s := range all {
			if seen[s] != 1 {
				t.Errorf("of %d parts, %d have scenario %d", n, seen[s], i)
			}
		}
	}
	if got := (Shard{}).Select(all); len(got) != len(all) {
		t.Errorf("the zero shard has %d of %d", len(got), len(all))
	}
}

func TestParseShard(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Shard // zero for an error
	}{
		{"1/1", Shard{1, 1}}, {"2/5", Shard{2, 5}}, {"5/5", Shard{5, 5}},
		{"0/5", Shard{}}, {"6/5", Shard{}}, {"-1/5", Shard{}}, {"1/0", Shard{}}, {"", Shard{}}, {"/", Shard{}}, {"1", Shard{}},
		{"a/b", Shard{}}, {"1/2/3", Shard{}}, {"1.5/2", Shard{}}, {"1/99999999999999999999", Shard{}},
	} {
		got, err := ParseShard(tt.in)
		if got != tt.want || (err == nil) != (tt.want != Shard{}) {
			t.Errorf("ParseShard(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestExpandNamesWhatIsWrong(t *testing.T) {
	p := Params{Stack: "tcpx", Algorithms: []string{"cubic"}}
	for name, want := range map[string]string{
		"nonesuch":       `there is no scenario "nonesuch"; there are clean, loss,`,
		"":               `there is no scenario ""`,
		"loss/2%":        `scenario loss has no variant "2%"; it has 0.01%, 0.1%, 1%, burst`,
		"clean/1":        `scenario clean has no variants`,
		"clean/":         `scenario clean has no variants`,
		"loss/":          `scenario loss has no variant ""`,
		"coexist/1bdp/x": `scenario coexist has no variant "1bdp/x"`,
	} {
		if s, err := Expand(name, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Expand(%q) = %d scenarios, %v; want %s", name, len(s), err, want)
		}
	}
}

// Every built-in scenario is valid and moves data.
func TestEveryFamilyRuns(t *testing.T) {
	for _, f := range Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			p := Params{Stack: "tcpx", Algorithms: []string{"cubic"}, Duration: 400 * time.Millisecond, Seed: 1}
			if f.Name == "coexist" {
				p.Algorithms = append(p.Algorithms, "reno")
			}
			if f.Name == "deviation" {
				return // TestDeviations runs them; their durations are fixed
			}
			all := expand(t, p, f.Name)
			if want := max(len(f.Variants), 1); len(all) < want {
				t.Errorf("%d scenarios, want at least %d", len(all), want)
			}
			for i, r := range sweep(t, all, 1) {
				if r.GoodputMbps <= 0 || r.SimSeconds != p.Duration.Seconds() || r.Flows != len(all[i].Flows) || r.Scenario != all[i].Name {
					t.Errorf("%s: %+v", all[i].Name, r)
				}
				if d := r.Detail; len(d.PerFlow) != r.Flows || d.About == "" || len(d.Series) != DefaultSamples {
					t.Errorf("%s: %d flows, about %q, %d points", all[i].Name, len(d.PerFlow), d.About, len(d.Series))
				}
			}
		})
	}
}

func TestStockStackRuns(t *testing.T) {
	p := Params{Stack: "gvisor", Algorithms: []string{"reno", "cubic"}, Duration: brief(time.Second), Seed: 1}
	for _, r := range sweep(t, expand(t, p, "path/app-limited", "coexist/1bdp"), 2) {
		if r.GoodputMbps <= 0.1 || r.Stack != "gvisor" {
			t.Errorf("%+v", r)
		}
	}
}

// What is counted at different places agrees: receivers cannot read more than the bottleneck let through, and a sender retransmits what was dropped.
func TestCountsAgree(t *testing.T) {
	s := Scenario{Name: "counts", Duration: 10 * time.Second, Seed: 1, Flows: []Flow{{Stack: "tcpx", Algorithm: "cubic"}}}
	s.Forward, s.Reverse = bottleneck(10*emulated.Mbps, 40*ms, 1)
	s.Forward.Loss = emulated.LossPattern{50: true, 500: true, 501: true, 3000: true}
	r, err := Run(t.Context(), &s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := r.Detail
	if d.Dropped < 4 || r.Retransmits != d.Dropped {
		t.Errorf("%d dropped, %d retransmitted", d.Dropped, r.Retransmits)
	}
	if want := float64(d.Dropped-4) / float64(d.Sent); d.DropRate != want || want == 0 {
		t.Errorf("%v of the packets dropped by the queue, want all that were dropped but 4: %v", d.DropRate, want)
	}
	// A full queue of one BDP takes a round trip to leave; quantiles are those of a histogram.
	if full := 1.05 * d.BaseRTTMs; r.QueueP50Ms <= 0 || r.QueueP95Ms < r.QueueP50Ms || d.QueueP99Ms < r.QueueP95Ms || d.QueueP99Ms > full || d.QueueP99Ms < full/2 {
		t.Errorf("quantiles of the wait: %v, %v, %v ms, want them to ascend to about %v", r.QueueP50Ms, r.QueueP95Ms, d.QueueP99Ms, full)
	}
	if d.Power >= d.Utilisation || d.Power < d.Utilisation/2 {
		t.Errorf("power is %v, want the utilisation of %v over one to two round trips", d.Power, d.Utilisation)
	}
	if most := s.Ceiling() / 1e6; r.GoodputMbps > most || r.GoodputMbps < 0.8*most {
		t.Errorf("%.2f Mbit/s of %.2f", r.GoodputMbps, most)
	}
	sum := 0.0
	for _, p := range d.Series {
		sum += p.Mbps
	}
	if mean := sum / float64(len(d.Series)); math.Abs(mean-r.GoodputMbps) > 1e-6*mean {
		t.Errorf("the series' mean is %f Mbit/s, the whole %f", mean, r.GoodputMbps)
	}
}

func TestFlowOfCertainSizeCompletes(t *testing.T) {
	s := Scenario{Name: "sizes", Duration: 5 * time.Second, Seed: 1}
	s.Forward, s.Reverse = bottleneck(10*emulated.Mbps, 40*ms, 1)
	s.Flows = []Flow{
		{Stack: "tcpx", Algorithm: "cubic", Bytes: 1},
		{Stack: "tcpx", Algorithm: "cubic", Bytes: 14480, Start: time.Second},
		{Stack: "gvisor", Algorithm: "reno", Bytes: 10_000, Start: 2 * time.Second},
		{Stack: "tcpx", Algorithm: "cubic", Bytes: 1 << 40, Start: 3 * time.Second},
	}
	r, err := Run(t.Context(), &s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// A handshake and a one-way trip are two round trips; serialisation of ten segments takes 12 ms.
	for i, f := range r.Detail.PerFlow[:3] {
		if f.CompletionMs < 60 || f.CompletionMs > 60+14 {
			t.Errorf("flow %d took %.1f ms, want one and a half round trips of 40 ms and 1.2 ms a segment", i, f.CompletionMs)
		}
	}
	if d := r.Detail; d.Unfinished != 1 || d.PerFlow[3].CompletionMs != 0 || d.CompletionP50Ms == 0 {
		t.Errorf("%+v", d)
	}
}

// What a flow gets is for its congestion window alone to decide: the send buffer never limits it, not even in BBR's start.
func TestSendBufferLimitsNothing(t *testing.T) {
	for _, s := range expand(t, Params{Stack: "tcpx", Algorithms: []string{"reno", "cubic", "bbr"}, Duration: brief(10 * time.Second), Seed: 1}, "clean", "loss/1%") {
		w, err := newWorld(s, &Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.runUntil(t.Context(), s.Duration); err != nil {
			t.Fatal(err)
		}
		for _, f := range w.flows {
			if limited := f.sender.ep.(*tcpx.Endpoint).TCPInfo().SndbufLimited; limited != 0 || f.received == 0 {
				t.Errorf("%s, %s: limited by the send buffer for %v, %d bytes received", s.Name, s.Algorithm(), limited, f.received)
			}
		}
		w.close()
	}
}

func TestApplicationWithARate(t *testing.T) {
	s := Scenario{Name: "rate", Duration: 10 * time.Second, Warmup: time.Second, Seed: 1}
	s.Forward, s.Reverse = bottleneck(50*emulated.Mbps, 40*ms, 1)
	s.Flows = []Flow{{Stack: "tcpx", Algorithm: "bbr", Rate: 5 * emulated.Mbps}}
	r, err := Run(t.Context(), &s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.GoodputMbps-5) > 0.05 {
		t.Errorf("%.3f Mbit/s, want the application's 5", r.GoodputMbps)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	good := func() *Scenario {
		s := &Scenario{Name: "x", Duration: time.Second, Flows: []Flow{{Stack: "tcpx", Algorithm: "cubic"}}}
		s.Forward, s.Reverse = bottleneck(emulated.Mbps, 40*ms, 1)
		return s
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Scenario)
		want   string
	}{
		{"no duration", func(s *Scenario) { s.Duration = 0 }, "Duration: 0s is not between"},
		{"negative duration", func(s *Scenario) { s.Duration = -1 }, "Duration: -1ns is not between"},
		{"endless", func(s *Scenario) { s.Duration = 25 * time.Hour }, "Duration: 25h"},
		{"all warm-up", func(s *Scenario) { s.Warmup = s.Duration }, "Warmup: 1s is not between"},
		{"no flows", func(s *Scenario) { s.Flows = nil }, "Flows: 0 are not between"},
		{"too many flows", func(s *Scenario) { s.Flows = make([]Flow, 10_001) }, "Flows: 10001 are not between"},
		{"MTU", func(s *Scenario) { s.MTU = 67 }, "MTU: 67 is not between"},
		{"forward", func(s *Scenario) { s.Forward.Delay = -1 }, "Forward.Delay: -1ns"},
		{"reverse", func(s *Scenario) { s.Reverse.Loss = emulated.RandomLoss(2) }, "Reverse.Loss.Probability: 2"},
		{"stack", func(s *Scenario) { s.Flows[0].Stack = "" }, `Flows[0].Stack: there is no stack ""; there are tcpx, tcpx-paced, tcpx-no-timestamps, gvisor`},
		{"algorithm", func(s *Scenario) { s.Flows[0].Algorithm = "vegas" }, `Flows[0].Algorithm: stack tcpx has no "vegas"; it has bbr, bbr1, cubic, reno`},
		{"start", func(s *Scenario) { s.Flows[0].Start = s.Duration }, "Flows[0].Start: 1s is not within"},
		{"bytes", func(s *Scenario) { s.Flows[0].Bytes = -1 }, "Flows[0].Bytes: -1 is negative"},
		{"delay", func(s *Scenario) { s.Flows[0].Delay = -1 }, "Flows[0].Delay: -1ns"},
		{"both times", func(s *Scenario) { s.Flows = append(s.Flows, Flow{Stack: "linux", Algorithm: "reno"}) }, "Flows[0].Stack: tcpx runs in virtual time and linux in real time"},
		{"many of the kernel", func(s *Scenario) { s.Flows = slices.Repeat([]Flow{{Stack: "linux", Algorithm: "reno"}}, 1001) }, "Flows: 1001 are more than the 1000 that stack linux"},
		{"many hosts of the kernel", func(s *Scenario) {
			s.Flows = slices.Repeat([]Flow{{Stack: "linux", Algorithm: "reno"}}, 17)
			for i := range s.Flows {
				s.Flows[i].Delay = time.Duration(i)
			}
		}, "Flows: 17 different delays are more than the 16 that stack linux"},
	} {
		s := good()
		tt.change(s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if _, err := Run(t.Context(), s, Options{}); err == nil {
			t.Errorf("%s: Run accepts it", tt.name)
		}
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	all := expand(t, Params{Stack: "tcpx", Algorithms: []string{"cubic", "reno", "bbr"}, Seed: 1}, "clean", "bufferbloat")
	s := Sweep{Scenarios: all, Parallel: 2, Progress: func(Progress) { cancel(stop) }}
	if _, err := s.Run(ctx); !errors.Is(err, stop) {
		t.Errorf("err = %v, want %v", err, stop)
	}
}

func TestProgressAddsUp(t *testing.T) {
	all := expand(t, Params{Stack: "tcpx", Algorithms: []string{"cubic", "reno"}, Duration: time.Second, Seed: 1}, "clean", "loss/1%")
	var last Progress
	s := Sweep{Scenarios: all, Parallel: 1, Progress: func(p Progress) {
		if p.Simulated < last.Simulated || p.Finished < last.Finished || p.Simulated > p.Total {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	}}
	if _, err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := (Progress{Finished: 4, Scenarios: 4, Simulated: 4 * time.Second, Total: 4 * time.Second}); last != want {
		t.Errorf("at the end %+v, want %+v", last, want)
	}
}

// Nothing of a run is left behind.
func TestRunLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, stack := range []string{"tcpx", "gvisor"} {
		sweep(t, expand(t, Params{Stack: stack, Algorithms: []string{"cubic"}, Duration: brief(time.Second), Seed: 1}, "fairness/4", "short/100KB"), 1)
	}
	deadline := time.After(20 * time.Second)
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		default:
			runtime.Gosched()
		}
	}
}

func TestJain(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{
		{nil, 1}, {[]float64{0, 0}, 1}, {[]float64{5}, 1}, {[]float64{3, 3, 3}, 1}, {[]float64{1, 0, 0, 0}, 0.25}, {[]float64{3, 1}, 0.8},
	} {
		if got := Jain(tt.in); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("Jain(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

// The time to convergence is that after which fairness lasts, not that at which it is first seen.
func TestConvergenceLasts(t *testing.T) {
	const points = 100
	for _, tt := range []struct {
		name   string
		second func(at int) float64 // the rate of the second flow, which starts at 10 s; the first has 10
		want   float64
	}{
		{"always", func(int) float64 { return 10 }, 1}, // from the first point after the start of the last flow
		{"never", func(int) float64 { return 1 }, -1},
		{"what came before the start of the last does not count", func(at int) float64 {
			if at <= 10 {
				return 0
			}
			return 10
		}, 1},
		// Nothing for 10 s, then equal: (10+2n)²/2((10+n)²+n²) is 0.95 from n = 17 on.
		{"late", func(at int) float64 {
			if at <= 20 {
				return 0
			}
			return 10
		}, 10 + 17},
		{"lost again", func(at int) float64 {
			if at <= 30 {
				return 10
			}
			return 0
		}, -1},
	} {
		m := &meter{scenario: &Scenario{Flows: []Flow{{}, {Start: 10 * time.Second}}}, flows: make([][]FlowPoint, 2)}
		for at := 1; at <= points; at++ {
			m.series = append(m.series, Point{At: float64(at)})
			m.flows[0] = append(m.flows[0], FlowPoint{Mbps: 10})
			m.flows[1] = append(m.flows[1], FlowPoint{Mbps: tt.second(at)})
		}
		if got := m.convergence(); got != tt.want {
			t.Errorf("%s: %v s, want %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	for _, flows := range []int{1, 100} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			var packets uint64
			for b.Loop() {
				s := &Scenario{Name: "speed", Duration: 10 * time.Second, Seed: 1}
				s.Forward, s.Reverse = bottleneck(100*emulated.Mbps, 100*ms, 1)
				for range flows {
					s.Flows = append(s.Flows, Flow{Stack: "tcpx", Algorithm: "cubic"})
				}
				// As many samples a second as a run of a minute has.
				r, err := Run(b.Context(), s, Options{Samples: DefaultSamples / 6})
				if err != nil {
					b.Fatal(err)
				}
				packets += r.Detail.Sent
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
