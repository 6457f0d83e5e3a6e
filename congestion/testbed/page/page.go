package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/congestion/testbed"
)

// Options are what a page says beside the results.
type Options struct {
	// Command is the command line that repeats the results, if there is one.
	Command string
}

//go:embed page.html
var source string

//go:embed style.css
var style string

var document = template.Must(template.New("page").Parse(source))

// content is what the template shows.
type content struct {
	Style      template.CSS
	Command    string
	Legend     []key
	Comparison []figure
	Columns    []string
	Rows       [][]string
	Sections   []section
}

// key is an entry of a legend.
type key struct {
	Name         string
	Colour, Dash int
}

// figure is a chart with its heading.
type figure struct {
	Title, Unit string
	SVG         template.HTML
}

// section is one scenario over time.
type section struct {
	Name, About, Path string
	Legend            []key
	Figures           []figure
}

// Write writes a page. Results that were read from JSON have no series, so that the page compares them and shows nothing over time.
func Write(w io.Writer, results []*testbed.Result, o Options) error {
	p := &palette{}
	for _, r := range results {
		p.of(r)
	}
	columns, rows := testbed.Table(results)
	c := content{
		Style: template.CSS(style), Command: o.Command, // the style is this package's own
		Legend: p.legend(), Comparison: comparison(results, p), Columns: columns, Rows: rows,
	}
	for _, group := range byScenario(results) {
		if s, ok := overTime(group, p); ok {
			c.Sections = append(c.Sections, s)
		}
	}
	return document.Execute(w, &c)
}

// colours is how many the style has.
const colours = 8

// palette gives each algorithm of each stack a colour of its own, the same on the whole page.
type palette struct {
	names []string
	stack string // the stack of all results, "" if there are several
	many  bool
}

// of returns the place of a result's name.
func (p *palette) of(r *testbed.Result) int {
	name := r.Algorithm + "\x00" + r.Stack
	i := slices.Index(p.names, name)
	if i < 0 {
		i = len(p.names)
		p.names = append(p.names, name)
		p.many = p.many || p.stack != "" && p.stack != r.Stack
		p.stack = r.Stack
	}
	return i
}

func (p *palette) colour(r *testbed.Result) int { return p.of(r) % colours }

// name returns what a legend calls a result.
func (p *palette) name(r *testbed.Result) string {
	if p.many {
		return r.Algorithm + ", " + r.Stack
	}
	return r.Algorithm
}

func (p *palette) legend() []key {
	var keys []key
	for i, n := range p.names {
		algorithm, stack, _ := strings.Cut(n, "\x00")
		if p.many {
			algorithm += ", " + stack
		}
		keys = append(keys, key{Name: algorithm, Colour: i % colours})
	}
	return keys
}

// byScenario groups results, in the order of their first appearance.
func byScenario(results []*testbed.Result) [][]*testbed.Result {
	place := make(map[string]int)
	var groups [][]*testbed.Result
	for _, r := range results {
		i, ok := place[r.Scenario]
		if !ok {
			i = len(groups)
			place[r.Scenario] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// comparison draws the figures of all results side by side.
func comparison(results []*testbed.Result, p *palette) []figure {
	shared := slices.ContainsFunc(results, func(r *testbed.Result) bool { return r.Flows > 1 })
	var out []figure
	for _, f := range []struct {
		title, unit string
		value       func(*testbed.Result) (value, beyond float64)
		skip        func(*testbed.Result) bool
	}{
		{"Goodput", "Mbit/s", func(r *testbed.Result) (float64, float64) { return r.GoodputMbps, 0 }, nil},
		{"Wait in the queue", "ms, median … 95th percentile", func(r *testbed.Result) (float64, float64) { return r.QueueP50Ms, r.QueueP95Ms }, nil},
		{"Retransmits", "segments", func(r *testbed.Result) (float64, float64) { return float64(r.Retransmits), 0 }, nil},
		{"Fairness among flows", "Jain's index", func(r *testbed.Result) (float64, float64) { return r.Jain, 0 }, func(r *testbed.Result) bool { return r.Flows < 2 }},
	} {
		c := bars{title: f.title, unit: f.unit}
		for _, group := range byScenario(results) {
			g := barGroup{name: group[0].Scenario}
			for _, r := range group {
				if f.skip != nil && f.skip(r) {
					continue
				}
				v, beyond := f.value(r)
				g.bars = append(g.bars, bar{p.name(r), p.colour(r), v, beyond})
			}
			if len(g.bars) > 0 {
				c.groups = append(c.groups, g)
			}
		}
		if f.skip == nil || shared {
			out = append(out, figure{f.title, f.unit, template.HTML(c.svg())}) // svg escapes names
		}
	}
	return out
}

// The most flows of a result that get curves of their own, and the patterns that tell them apart.
const (
	mostFlows = 4
	dashes    = 4
)

// overTime draws the curves of one scenario; it reports false if the results have none.
func overTime(group []*testbed.Result, p *palette) (section, bool) {
	group = slices.DeleteFunc(slices.Clone(group), func(r *testbed.Result) bool { return r.Detail == nil || len(r.Detail.Series) == 0 })
	if len(group) == 0 {
		return section{}, false
	}
	d := group[0].Detail
	s := section{Name: group[0].Scenario, About: d.About, Path: path(d)}
	all := chart{title: "Throughput of all flows", unit: "Mbit/s", limit: d.CapacityMbps, limitName: "capacity of the link"}
	each := chart{title: "Throughput of each flow", unit: "Mbit/s"}
	queue := chart{title: "Queue at the bottleneck", unit: "ms"}
	rtt := chart{title: "Round-trip time (smoothed)", unit: "ms", limit: d.BaseRTTMs, limitName: "round-trip time without a queue"}
	cwnd := chart{title: "Congestion window", unit: "kB"}
	flight := chart{title: "In flight", unit: "kB"}
	for _, r := range group {
		series := r.Detail.Series
		curve := func(name string, dash int, y func(i int) float64) line {
			l := line{name: name, colour: p.colour(r), dash: dash % dashes}
			for i, pt := range series {
				l.x, l.y = append(l.x, pt.At), append(l.y, y(i))
			}
			return l
		}
		name := p.name(r)
		s.Legend = append(s.Legend, key{Name: name, Colour: p.colour(r)})
		all.lines = append(all.lines, smooth(curve(name, 0, func(i int) float64 { return series[i].Mbps })))
		queue.lines = append(queue.lines, curve(name, 0, func(i int) float64 { return series[i].QueueMs }))
		for n, f := range r.Detail.PerFlow[:min(mostFlows, len(r.Detail.PerFlow))] {
			flow := fmt.Sprintf("%s, flow %d (%s)", name, n+1, f.Algorithm)
			each.lines = append(each.lines, smooth(curve(flow, n, func(i int) float64 { return f.Series[i].Mbps })))
			rtt.lines = append(rtt.lines, curve(flow, n, func(i int) float64 { return f.Series[i].RTTMs }))
			cwnd.lines = append(cwnd.lines, curve(flow, n, func(i int) float64 { return float64(f.Series[i].Cwnd) / 1000 }))
			flight.lines = append(flight.lines, curve(flow, n, func(i int) float64 { return float64(f.Series[i].InFlight) / 1000 }))
		}
	}
	charts := []*chart{&all, &queue, &rtt, &cwnd, &flight}
	if most := mostFlowsOf(group); most > 1 {
		charts = slices.Insert(charts, 1, &each)
		for n := range min(most, mostFlows) {
			s.Legend = append(s.Legend, key{Name: fmt.Sprintf("flow %d", n+1), Colour: -1, Dash: n % dashes})
		}
	}
	for _, c := range charts {
		s.Figures = append(s.Figures, figure{c.title, c.unit, template.HTML(c.svg())})
	}
	return s, true
}

func mostFlowsOf(group []*testbed.Result) int {
	most := 0
	for _, r := range group {
		most = max(most, r.Flows)
	}
	return most
}

// path describes the path of a scenario.
func path(d *testbed.Detail) string {
	var parts []string
	if d.CapacityMbps > 0 {
		parts = append(parts, number(d.CapacityMbps)+" Mbit/s")
	}
	if d.BaseRTTMs > 0 {
		parts = append(parts, number(d.BaseRTTMs)+" ms round trip")
	}
	return strings.Join(parts, ", ")
}

// smooth takes the mean of five points around each, so that bursts of a round trip do not hide the rate.
func smooth(l line) line {
	const around = 2
	y := make([]float64, len(l.y))
	for i := range y {
		from, to := max(i-around, 0), min(i+around+1, len(l.y))
		for _, v := range l.y[from:to] {
			y[i] += v
		}
		y[i] /= float64(to - from)
	}
	l.y = y
	return l
}
