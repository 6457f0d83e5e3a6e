package emulated

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parseTrace(t *testing.T, text string) *Trace {
	t.Helper()
	tr, err := ReadTrace("test", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Each opportunity takes 1504 bytes; what is left of one goes to the next packet in the queue, and is lost if there is none.
func TestTrace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		trace string
		send  map[time.Duration][]int // sizes
		want  []time.Duration
	}{
		{"one packet an opportunity", "1\n2\n2\n5\n", map[time.Duration][]int{0: {1500, 1500, 1500, 1500, 1500}}, []time.Duration{1 * ms, 2 * ms, 2 * ms, 5 * ms, 6 * ms}},
		{"many small packets in one", "1\n9\n", map[time.Duration][]int{0: {148, 148, 148, 148, 148, 148, 148, 148, 148, 148, 148}},
			[]time.Duration{ms, ms, ms, ms, ms, ms, ms, ms, ms, 9 * ms, 9 * ms}},
		{"a packet over two", "1\n4\n", map[time.Duration][]int{0: {1000, 1000}}, []time.Duration{ms, 4 * ms}},
		{"opportunities without packets are lost", "1\n2\n3\n4\n", map[time.Duration][]int{2500 * time.Microsecond: {1500}}, []time.Duration{3 * ms}},
		{"so is what is left of one", "1\n3\n", map[time.Duration][]int{0: {100}, 1500 * time.Microsecond: {100}}, []time.Duration{ms, 3 * ms}},
		{"many repetitions later", "1\n3\n", map[time.Duration][]int{3*time.Second - ms: {1500}}, []time.Duration{3 * time.Second}},
		{"at an opportunity", "1\n3\n", map[time.Duration][]int{4 * ms: {1500}}, []time.Duration{4 * ms}},
		{"at the end of a repetition", "1\n3\n", map[time.Duration][]int{6 * ms: {1500, 1500}}, []time.Duration{6 * ms, 7 * ms}},
		{"at zero", "0\n10\n", map[time.Duration][]int{0: {1500, 1500, 1500}}, []time.Duration{0, 10 * ms, 10 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := forward(t, Link{Trace: parseTrace(t, tt.trace)})
			var instants []time.Duration
			for at := range tt.send {
				instants = append(instants, at)
			}
			slices.Sort(instants)
			for _, at := range instants {
				r.run(at)
				for _, size := range tt.send[at] {
					r.send(packetSpec{size: size})
				}
			}
			r.run(time.Hour)
			var got []time.Duration
			for _, a := range r.got[0] {
				got = append(got, a.At)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("arrivals at %v, want %v", got, tt.want)
			}
		})
	}
}

// The mean rate of a trace is what a full link delivers.
func TestTraceRate(t *testing.T) {
	tr := parseTrace(t, strings.Repeat("0\n", 3)+"7\n20\n20\n33\n")
	if got, want := tr.Period(), 33*ms; got != want {
		t.Errorf("Period = %v, want %v", got, want)
	}
	r := forward(t, Link{Trace: tr, Queue: FIFO{Packets: 5000}})
	r.burst(0, 4000, 1500)
	r.run(10 * time.Second)
	got := float64(len(r.got[0])) * TraceOpportunity * 8 / 10
	if want := float64(tr.Rate()); got < want*0.99 || got > want*1.01 {
		t.Errorf("%.0f bit/s, want %.0f", got, want)
	}
}

func TestReadTraceErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "f: no times"},
		{"blank", "\n \n", "f: no times"},
		{"word", "1\ntwo\n", `f:2: "two" is not a time in milliseconds`},
		{"negative", "-1\n", `f:1: "-1" is not a time in milliseconds`},
		{"descending", "1\n5\n\n4\n", "f:4: 4 is before the line above it"},
		{"no length", "0\n0\n", "f:2: the last time is 0, so that the trace has no length"},
		{"too long", "100000000\n", "f:1: 100000000 ms is more than a day"},
		{"long word", strings.Repeat("x", 100), `f:1: "xxxxxxxxxxxxxxxxxxxx" is not a time in milliseconds`},
		{"endless line", strings.Repeat("1", 1<<20), "f:1: bufio.Scanner: token too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadTrace("f", strings.NewReader(tt.text)); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLoadTrace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "trace")
	if err := os.WriteFile(name, []byte("1\r\n2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := LoadTrace(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tr.Rate(), BitRate(2*TraceOpportunity*8*500); got != want {
		t.Errorf("Rate = %v, want %v", got, want)
	}
	for _, name := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := LoadTrace(name); err == nil {
			t.Errorf("LoadTrace(%s) succeeded", name)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add("1\n2\n")
	f.Add("0\n0\n7\n")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := ReadTrace("f", strings.NewReader(text))
		if err != nil {
			return
		}
		c := &cursor{trace: tr}
		for at := time.Duration(0); at < 100*ms; {
			end := c.serve(at, 1504)
			if end < at {
				t.Fatalf("served at %v before %v", end, at)
			}
			at = end + ms/3
		}
	})
}
