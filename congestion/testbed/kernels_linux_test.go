package testbed

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// A scenario between two kernels has the same results as one in virtual time, and how late the emulator was.
func TestRealTime(t *testing.T) {
	nstest.New(t) // or the test is skipped
	s := &Scenario{Name: "real", Seed: 1, Duration: time.Second, Warmup: 200 * time.Millisecond}
	s.Forward, s.Reverse = bottleneck(5*emulated.Mbps, 20*ms, 2)
	s.Flows = []Flow{{Stack: "linux", Algorithm: "cubic"}, {Stack: "linux", Algorithm: "bbr1", Bytes: 20_000, Delay: 5 * ms}}
	if err := CheckRealTime([]*Scenario{s}); err != nil {
		nstest.Missing(t, "%v", err)
	}
	virtual := *s
	virtual.Flows = []Flow{{Stack: "tcpx", Algorithm: "cubic"}}
	var last Progress
	sweep := Sweep{Scenarios: []*Scenario{s, &virtual}, Progress: func(p Progress) { last = p }}
	results, err := sweep.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, d := results[0], results[0].Detail
	if r.Stack != "linux" || r.Algorithm != "cubic+bbr1" || r.GoodputMbps <= 0 || r.GoodputMbps > 5.5 {
		t.Errorf("%+v", r)
	}
	if last.Simulated != 2*time.Second || last.Finished != 2 || last.Real != 0 {
		t.Errorf("progress ends with %+v", last)
	}
	if len(d.Series) < DefaultSamples/10 || d.PerFlow[0].Series[len(d.Series)-1].Cwnd == 0 || d.PerFlow[0].Series[len(d.Series)-1].RTTMs < 20 {
		t.Errorf("a series of %d points that ends with %+v", len(d.Series), d.PerFlow[0].Series[len(d.Series)-1])
	}
	if d.RealTime == nil || d.RealTime.LateMaxMs <= 0 || d.RealTime.LateP50Ms > d.RealTime.LateP99Ms || d.RealTime.Missed != 0 {
		t.Errorf("%+v", d.RealTime)
	}
	if results[1].Detail.RealTime != nil {
		t.Error("virtual time is late")
	}
	var table bytes.Buffer
	if err := WriteTable(&table, results); err != nil || !strings.Contains(table.String(), "late p99") {
		t.Errorf("%v\n%s", err, table.String())
	}
}

// What cannot be compared has a mark in the table.
func TestTrustworthy(t *testing.T) {
	for _, tt := range []struct {
		r    *RealTime
		rtt  float64
		want bool
		cell string
	}{
		{&RealTime{LateP99Ms: 3.9}, 40, true, "3.9"},
		{&RealTime{LateP99Ms: 4}, 40, false, "4.0!"},
		{&RealTime{LateP99Ms: 0.1, Missed: 1}, 40, false, "0.1! 1 missed"},
		{nil, 40, true, ""},
	} {
		d := &Detail{RealTime: tt.r, BaseRTTMs: tt.rtt}
		if got := tt.r == nil || tt.r.Trustworthy(tt.rtt); got != tt.want || d.late() != tt.cell {
			t.Errorf("%+v: %v, %q", tt.r, got, d.late())
		}
	}
}
