package oracle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what became of a trace.
type Report struct {
	// Packets are all that were given, Segments those that were judged, and
	// Octets the data in them.
	Packets  int64 `json:"packets"`
	Segments int64 `json:"segments"`
	Octets   int64 `json:"octets"`
	// Connections were seen, of which Gaps show packets that the capture has
	// missed.
	Connections int64         `json:"connections"`
	Gaps        int64         `json:"connections_with_gaps"`
	Duration    time.Duration `json:"duration_ns"`
	// Findings are those that were kept, in the order of their packets.
	Findings []Finding `json:"findings"`
	// Rules counts each rule that was applied.
	Rules []RuleCount `json:"rules"`
	// Skipped counts packets that are not judged, and Unknown what could not
	// be judged, each by reason.
	Skipped []Count `json:"not_judged"`
	Unknown []Count `json:"unknown"`
}

// RuleCount counts how often a rule was applied and how often it was broken.
type RuleCount struct {
	Rule
	Judged int64
	Broken int64
}

// MarshalJSON implements json.Marshaler.
func (r RuleCount) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Rule    string `json:"rule"`
		Tier    Tier   `json:"tier"`
		Section string `json:"section"`
		Judged  int64  `json:"judged"`
		Broken  int64  `json:"broken"`
	}{r.ID, r.Tier, r.Section, r.Judged, r.Broken})
}

// Count is a number of packets or events with what they have in common.
type Count struct {
	What string `json:"what"`
	N    int64  `json:"count"`
}

// Broken returns how often rules of a tier were broken.
func (r *Report) Broken(tier Tier) int64 {
	var n int64
	for _, c := range r.Rules {
		if c.Tier == tier {
			n += c.Broken
		}
	}
	return n
}

// Report ends the trace and says what became of it. The Checker takes no more
// packets then; further calls return the same.
func (c *Checker) Report() *Report {
	if !c.done {
		for c.oldest != nil {
			c.finish(c.oldest)
		}
		c.settle()
		c.done = true
	}
	if c.backwards > 0 {
		c.unknown["times that went backwards"] = c.backwards
	}
	if c.missed > 0 {
		c.unknown["packets that the capture says it has missed"] = int64(min(c.missed, math.MaxInt64))
	}
	r := &Report{
		Packets: c.packets, Segments: c.segments, Octets: c.octets, Connections: c.seen, Gaps: c.gaps, Duration: c.last - c.first,
		Findings: c.findings, Rules: []RuleCount{}, Skipped: counts(c.skipped), Unknown: counts(c.unknown),
	}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Packet, b.Packet) })
	for i := range rules {
		if c.judged[i] > 0 || c.broken[i] > 0 {
			r.Rules = append(r.Rules, RuleCount{rules[i], c.judged[i], c.broken[i]})
		}
	}
	return r
}

// counts returns a map in a fixed order, the largest first.
func counts(m map[string]int64) []Count {
	out := []Count{}
	for _, what := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Count{what, m[what]})
	}
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.N, a.N) })
	return out
}

// TextOptions say what Text prints.
type TextOptions struct {
	// Confidence is the least that findings of the soft tier need to be
	// printed.
	Confidence float64
	// Rules prints the table of all rules that were applied, not only of those
	// that were broken.
	Rules bool
}

// Text prints the report for people.
func (r *Report) Text(w io.Writer, opt TextOptions) error {
	ew := &errWriter{w: w}
	hidden := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Tier == Soft && f.Confidence < opt.Confidence {
			hidden++
			continue
		}
		fmt.Fprintln(ew, f)
	}
	if kept, all := int64(len(r.Findings)), r.Broken(Hard)+r.Broken(Soft); all > kept {
		fmt.Fprintf(ew, "... and %d more\n", all-kept)
	}
	if hidden > 0 {
		fmt.Fprintf(ew, "(%d findings of less confidence than %.1f)\n", hidden, opt.Confidence)
	}
	r.table(ew, opt.Rules)
	for _, c := range r.Skipped {
		fmt.Fprintf(ew, "not judged: %d %s\n", c.N, c.What)
	}
	for _, c := range r.Unknown {
		fmt.Fprintf(ew, "unknown: %d %s\n", c.N, c.What)
	}
	verdict := "ok"
	if r.Broken(Hard) > 0 {
		verdict = "BROKEN"
	}
	fmt.Fprintf(ew, "%s: %d packets, %d segments, %d connections, %.3f s; %d hard, %d soft\n",
		verdict, r.Packets, r.Segments, r.Connections, r.Duration.Seconds(), r.Broken(Hard), r.Broken(Soft))
	return ew.err
}

// table prints how often rules were applied and broken.
func (r *Report) table(w io.Writer, all bool) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printed := false
	for _, c := range r.Rules {
		if !all && c.Broken == 0 {
			continue
		}
		if !printed {
			fmt.Fprintln(tw, "rule\ttier\tjudged\tbroken\twhat it demands")
			printed = true
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%s (%s)\n", c.ID, c.Tier, c.Judged, c.Broken, c.Rule.Text, c.Section)
	}
	tw.Flush()
}

// errWriter keeps the first error.
type errWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (e *errWriter) Write(b []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.w.Write(b)
	e.err = err
	return n, err
}
