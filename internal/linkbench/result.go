package linkbench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Options say what to measure.
type Options struct {
	// Contenders to measure, by name; all if empty.
	Contenders []string
	// Quantities to measure, by name; all if empty.
	Quantities []string
	// Rounds of which the medians are reported, 1 at least.
	Rounds int
	// Time is how long one quantity is measured on one contender in one round.
	Time time.Duration
	// Progress, if set, is called after each measurement.
	Progress func(done, total int)
}

// A Quantity is something that is measured.
type Quantity struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Better is "more" or "less".
	Better string `json:"better"`
	Doc    string `json:"doc"`
}

// Quantities are all quantities, in the order in which they are reported.
var Quantities = []Quantity{
	{"rx", "Mpps", "more", "frames of 60 bytes received a second, as many as come"},
	{"rx-ns", "ns", "less", "CPU time for each frame received in rx, the sender's own not counted"},
	{"rx-allocs", "allocs", "less", "allocations for each frame received in rx"},
	{"rx-loss", "%", "less", "frames lost of 0.5 million offered a second"},
	{"tx", "Mpps", "more", "frames of 60 bytes that reached the far end a second, written 32 at a time"},
	{"tcp-send", "Gbit/s", "more", "one TCP connection to the kernel"},
	{"tcp-receive", "Gbit/s", "more", "one TCP connection from the kernel"},
	{"rtt", "µs", "less", "one byte to the kernel and back over TCP"},
}

// Result is what a run found.
type Result struct {
	Rounds     int           `json:"rounds"`
	Time       time.Duration `json:"time_ns"`
	Quantities []Quantity    `json:"quantities"`
	Contenders []Contender   `json:"contenders"`
}

// Contender is what was measured on one contender.
type Contender struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
	// Against is the contender that it is compared to, "" for none.
	Against string `json:"against,omitempty"`
	// Error says why nothing was measured.
	Error string `json:"error,omitempty"`
	// Values by quantity. What does not apply is missing.
	Values map[string]*Values `json:"values,omitempty"`
}

// Values are the measurements of one quantity.
type Values struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	All    []float64 `json:"all"`
	// Ratio of the median to that of the contender compared to, 0 for none.
	Ratio float64 `json:"ratio,omitempty"`
}

// add adds a measurement.
func (c *Contender) add(quantity string, v float64) {
	if c.Values == nil {
		c.Values = make(map[string]*Values)
	}
	if c.Values[quantity] == nil {
		c.Values[quantity] = &Values{}
	}
	c.Values[quantity].All = append(c.Values[quantity].All, v)
}

// summarize computes medians and ratios.
func (r *Result) summarize() {
	byName := make(map[string]*Contender)
	for i := range r.Contenders {
		c := &r.Contenders[i]
		byName[c.Name] = c
		for _, v := range c.Values {
			sorted := slices.Sorted(slices.Values(v.All))
			v.Min, v.Max = sorted[0], sorted[len(sorted)-1]
			v.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
		}
	}
	for i := range r.Contenders {
		other := byName[r.Contenders[i].Against]
		if other == nil {
			continue
		}
		for name, v := range r.Contenders[i].Values {
			if o := other.Values[name]; o != nil && o.Median > 0 {
				v.Ratio = v.Median / o.Median
			}
		}
	}
}

// WriteJSON writes r as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes r for people: a line for each contender and quantity.
func (r *Result) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, q := range r.Quantities {
		fmt.Fprintf(t, "%s: %s (%s, %s is better)\n", q.Name, q.Doc, q.Unit, q.Better)
		for _, c := range r.Contenders {
			v := c.Values[q.Name]
			if v == nil {
				continue
			}
			fmt.Fprintf(t, "  %s\t%.3g\t(%.3g..%.3g)", c.Name, v.Median, v.Min, v.Max)
			if v.Ratio > 0 {
				fmt.Fprintf(t, "\t%.2f × %s", v.Ratio, c.Against)
			}
			fmt.Fprintln(t)
		}
	}
	for _, c := range r.Contenders {
		if c.Error != "" {
			fmt.Fprintf(t, "not measured: %s: %s\n", c.Name, c.Error)
		}
	}
	fmt.Fprintf(t, "medians of %d rounds, (least..greatest)\n", r.Rounds)
	return t.Flush()
}
