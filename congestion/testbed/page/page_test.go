package page

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion/testbed"
)

// results of one scenario with a flow and one with two, as a run gives them.
func results(t *testing.T) []*testbed.Result {
	t.Helper()
	sweep := testbed.Sweep{}
	for _, name := range []string{"loss/1%", "coexist/1bdp"} {
		s, err := testbed.Expand(name, testbed.Params{Stack: "tcpx", Algorithms: []string{"reno", "cubic"}, Duration: 500 * time.Millisecond, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		sweep.Scenarios = append(sweep.Scenarios, s...)
	}
	out, err := sweep.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out {
		r.WallSeconds = 0
	}
	return out
}

func write(t *testing.T, r []*testbed.Result, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var drawing = regexp.MustCompile(`(?s)<svg.*?</svg>`)

// wellFormed checks every drawing of a page and returns how many there are.
func wellFormed(t *testing.T, page string) int {
	t.Helper()
	all := drawing.FindAllString(page, -1)
	for _, svg := range all {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %.200s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a coordinate is no number: %.200s", svg)
		}
	}
	return len(all)
}

func TestPageHasEverything(t *testing.T) {
	r := results(t)
	page := write(t, r, Options{Command: "plumbline bench cc"})
	// Four comparisons, five charts over time for the single flows, six and the keys of two flows for the pair.
	if got, want := wellFormed(t, page), 4+5+6+2; got != want {
		t.Errorf("%d drawings, want %d", got, want)
	}
	for _, want := range []string{
		"Congestion window", "In flight", "Round-trip time", "Queue at the bottleneck", "Throughput of all flows", "Throughput of each flow",
		"Mbit/s", "time, s", ">kB<", ">ms<", "plumbline bench cc", "loss/1%", "coexist/1bdp", "reno&#43;cubic", "prefers-color-scheme: dark", "flow 2",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if page != write(t, r, Options{Command: "plumbline bench cc"}) {
		t.Error("the same results give another page")
	}
}

// Whoever opens the page tells nobody, and whoever is offline sees all of it.
func TestPageNeedsNothingElse(t *testing.T) {
	page := write(t, results(t), Options{})
	if m := regexp.MustCompile(`(?i)(https?:)?//[a-z]|<script|<link|<img|@import|url\(|src=|href=`).FindString(page); m != "" {
		t.Errorf("the page refers to something else: %q", m)
	}
}

// Results that were merged have no series: the page compares them and shows nothing over time.
func TestPageOfMergedResults(t *testing.T) {
	r := results(t)
	for _, res := range r {
		res.Detail = nil
	}
	page := write(t, r, Options{})
	if got := wellFormed(t, page); got != 4 {
		t.Errorf("%d drawings, want the four comparisons", got)
	}
	if strings.Contains(page, "over time\"") || !strings.Contains(page, "<td>coexist/1bdp</td>") {
		t.Error("want the table and no charts over time")
	}
	if write(t, nil, Options{}) == "" {
		t.Error("no page without results")
	}
}

// Names may come from anywhere.
func TestPageEscapesNames(t *testing.T) {
	const evil = `<script>alert("1")</script>&'`
	r := results(t)
	for _, res := range r {
		res.Scenario, res.Algorithm, res.Stack, res.Detail.About = evil, evil, evil, evil
	}
	page := write(t, r, Options{Command: evil})
	wellFormed(t, page)
	if strings.Contains(page, "<script") {
		t.Error("a name became part of the page's own code")
	}
}

func TestChartsOfStrangeNumbers(t *testing.T) {
	for _, y := range [][]float64{nil, {0}, {0, 0}, {1e12, 0}, {1e-9, 1e-9}} {
		x := make([]float64, len(y))
		for i := range x {
			x[i] = float64(i)
		}
		c := chart{title: "t", unit: "u", lines: []line{{name: "n", x: x, y: y}}, limit: 1}
		b := bars{title: "t", unit: "u"}
		for _, v := range y {
			b.groups = append(b.groups, barGroup{"g", []bar{{"n", 0, v, 2 * v}}})
		}
		wellFormed(t, c.svg()+b.svg())
	}
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		most float64
		want []float64
	}{
		{100, []float64{0, 20, 40, 60, 80, 100}},
		{96.5, []float64{0, 20, 40, 60, 80, 100}},
		{0.3, []float64{0, 0.1, 0.2, 0.3}},
		{7, []float64{0, 2, 4, 6, 8}},
		{0, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{math.Inf(1), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{math.NaN(), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
	} {
		got := ticks(tt.most, 5)
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
		if !slices.EqualFunc(got, tt.want, near) {
			t.Errorf("ticks(%v) = %v, want %v", tt.most, got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5951: "0.595", 12.34: "12.3", 123.4: "123", 1669: "1669", 12345: "12.35k", 2.5e6: "2.5M", -3: "-3"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}
