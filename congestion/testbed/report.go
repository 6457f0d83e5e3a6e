package testbed

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is one of a table.
type column struct {
	title string
	// cell returns what a row shows, "" for nothing. A column without any cell is left out.
	cell func(*Result) string
	// ofFlow does so for the row of a flow; nil means nothing.
	ofFlow func(*FlowResult) string
}

// columns are those of WriteTable.
var columns = []column{
	{"scenario", func(r *Result) string { return r.Scenario }, nil},
	{"stack", func(r *Result) string { return r.Stack }, func(f *FlowResult) string { return f.Stack }},
	{"algorithm", func(r *Result) string { return r.Algorithm }, func(f *FlowResult) string { return f.Algorithm }},
	{"flows", func(r *Result) string { return fmt.Sprint(r.Flows) }, nil},
	{"Mbit/s", func(r *Result) string { return fmt.Sprintf("%.2f", r.GoodputMbps) }, func(f *FlowResult) string { return fmt.Sprintf("%.2f", f.GoodputMbps) }},
	{"of max", detail(func(d *Detail) string {
		return unless(d.Utilisation == 0, "%.1f%%", 100*d.Utilisation)
	}), func(f *FlowResult) string { return fmt.Sprintf("%.1f%%", 100*f.Share) }},
	{"queue p50", func(r *Result) string { return fmt.Sprintf("%.1f", r.QueueP50Ms) }, nil},
	{"p95", func(r *Result) string { return fmt.Sprintf("%.1f", r.QueueP95Ms) }, nil},
	{"p99 ms", detail(func(d *Detail) string { return fmt.Sprintf("%.1f", d.QueueP99Ms) }), nil},
	{"dropped", detail(func(d *Detail) string { return fmt.Sprint(d.Dropped) }), nil},
	{"lost", detail(func(d *Detail) string { return unless(d.DropRate == 0, "%.2f%%", 100*d.DropRate) }), nil},
	{"retrans", func(r *Result) string { return fmt.Sprint(r.Retransmits) }, func(f *FlowResult) string { return fmt.Sprint(f.Retransmits) }},
	{"RTOs", func(r *Result) string { return fmt.Sprint(r.RTOs) }, func(f *FlowResult) string { return fmt.Sprint(f.RTOs) }},
	{"Jain", func(r *Result) string { return unless(r.Flows < 2, "%.3f", r.Jain) }, nil},
	{"fair after s", detail(func(d *Detail) string { return unless(d.ConvergenceSeconds <= 0, "%.1f", d.ConvergenceSeconds) }), nil},
	{"power", detail(func(d *Detail) string { return unless(d.Power == 0, "%.2f", d.Power) }), nil},
	{"FCT p50", detail(func(d *Detail) string { return unless(d.CompletionP50Ms == 0, "%.0f", d.CompletionP50Ms) }), nil},
	{"p95 ms", detail(func(d *Detail) string { return unless(d.CompletionP95Ms == 0, "%.0f", d.CompletionP95Ms) }), nil},
	{"late p99", detail(func(d *Detail) string { return d.late() }), nil},
	{"measured", func(r *Result) string {
		if r.Check == nil {
			return ""
		}
		return strings.TrimSpace(fmt.Sprintf("%.4g %s", r.Check.Value, r.Check.Unit))
	}, nil},
	{"right", func(r *Result) string {
		if r.Check == nil {
			return ""
		}
		return fmt.Sprintf("%.3g to %.3g: %s", r.Check.Least, r.Check.Most, map[bool]string{true: "yes", false: "NO"}[r.Check.OK()])
	}, nil},
	{"sim s", func(r *Result) string { return fmt.Sprintf("%.0f", r.SimSeconds) }, nil},
	{"wall s", func(r *Result) string { return fmt.Sprintf("%.1f", r.WallSeconds) }, nil},
}

// detail makes a cell of a Result of one of its Detail, empty if there is none.
func detail(cell func(*Detail) string) func(*Result) string {
	return func(r *Result) string {
		if r.Detail == nil {
			return ""
		}
		return cell(r.Detail)
	}
}

// late is how late the emulator was in real time, with a mark if the run cannot be compared with others.
func (d *Detail) late() string {
	switch r := d.RealTime; {
	case r == nil:
		return ""
	case r.Missed > 0:
		return fmt.Sprintf("%.1f! %d missed", r.LateP99Ms, r.Missed)
	case !r.Trustworthy(d.BaseRTTMs):
		return fmt.Sprintf("%.1f!", r.LateP99Ms)
	default:
		return fmt.Sprintf("%.1f", r.LateP99Ms)
	}
}

func unless(empty bool, format string, args ...any) string {
	if empty {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// Table returns results as a table for people: the titles of the columns that have anything in them, and a row for each result, with one for each flow below it where flows
// differ in stack or algorithm.
func Table(results []*Result) (titles []string, rows [][]string) {
	shown := slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(results, func(r *Result) bool { return c.cell(r) != "" })
	})
	row := func(cell func(*column) string) []string {
		cells := make([]string, len(shown))
		for i := range shown {
			cells[i] = cell(&shown[i])
		}
		return cells
	}
	titles = row(func(c *column) string { return c.title })
	for _, r := range results {
		rows = append(rows, row(func(c *column) string { return cmp.Or(c.cell(r), "-") }))
		if !r.mixed() {
			continue
		}
		for i := range r.Detail.PerFlow {
			rows = append(rows, row(func(c *column) string {
				if c.ofFlow == nil {
					return ""
				}
				return c.ofFlow(&r.Detail.PerFlow[i])
			}))
		}
	}
	return titles, rows
}

// WriteTable writes the Table of results for a terminal.
func WriteTable(w io.Writer, results []*Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	titles, rows := Table(results)
	for _, cells := range slices.Insert(rows, 0, titles) {
		fmt.Fprintln(tw, strings.Join(cells, "\t")+"\t")
	}
	return tw.Flush()
}

// mixed tells whether the flows differ in stack or algorithm and are few enough to be listed.
func (r *Result) mixed() bool {
	const few = 10
	if !strings.Contains(r.Stack+r.Algorithm, "+") || r.Detail == nil {
		return false
	}
	return len(r.Detail.PerFlow) <= few
}

// WriteJSON writes results as an array of objects, with the names that Result's fields are tagged with.
func WriteJSON(w io.Writer, results []*Result) error {
	if results == nil {
		results = []*Result{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(results)
}

// ReadJSON reads what WriteJSON wrote. Unknown fields are an error, lest a file of another kind passes for an empty result.
func ReadJSON(r io.Reader) ([]*Result, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var results []*Result
	if err := dec.Decode(&results); err != nil {
		return nil, fmt.Errorf("not a report of bench cc: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a report of bench cc: something follows the array")
	}
	for i, res := range results {
		if res == nil || res.Scenario == "" {
			return nil, fmt.Errorf("not a report of bench cc: result %d has no scenario", i+1)
		}
	}
	return results, nil
}
