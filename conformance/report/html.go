package report

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/matrix"
	"github.com/plumbline/plumbline/conformance/runner"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/page.js
var pageJS string

// page is the skeleton of an HTML report.
var page = template.Must(template.New("page").Parse(pageHTML))

// HTMLOptions say what HTML writes.
type HTMLOptions struct {
	// Seed is the seed of the suite.
	Seed uint64
	// Version names the version of the program, or is "".
	Version string
}

// HTML writes results as one page that needs nothing but a browser: which
// requirement each target meets, the matrix of states and events, every script
// with its verdicts, and what happened in each as a ladder diagram. Of runs
// that failed, expected or not, the packets can be saved as pcapng, unless
// there are too many.
func HTML(w io.Writer, results []*runner.Result, opt HTMLOptions) error {
	data, err := json.Marshal(pageOf(results, opt))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	err = page.Execute(out, map[string]any{
		"CSS":  template.CSS(pageCSS),
		"JS":   template.JS(pageJS),
		"Data": template.JS(data), // json.Marshal escapes what could end the element.
		"OK":   CountOf(results).OK(),
		"Runs": len(results),

		// For browsers without JavaScript.
		"Targets":      targetsOf(results),
		"Failed":       plainFailures(results),
		"Requirements": slices.Concat(Coverage(results), OtherCoverage(results)),
		"Rows":         verdictRows(results),
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// plainFailures are the first of the runs that failed unexpectedly, with the first
// of what happened in them, for browsers without JavaScript.
func plainFailures(results []*runner.Result) []runner.Result {
	const mostRuns, mostEntries = 50, 100
	failed := selectResults(results, func(r *runner.Result) bool { return !r.Verdict.OK() })
	var out []runner.Result
	for _, r := range failed[:min(len(failed), mostRuns)] {
		short := *r
		short.Trace = r.Trace[:min(len(r.Trace), mostEntries)]
		out = append(out, short)
	}
	return out
}

// verdictRows are the tests with their verdicts by target, for browsers without
// JavaScript.
func verdictRows(results []*runner.Result) [][]string {
	scripts := SnapshotOf(results).scripts
	var rows [][]string
	for _, name := range scriptsOf(results) {
		row := []string{name}
		for _, t := range targetsOf(results) {
			row = append(row, scripts[name][t])
		}
		rows = append(rows, row)
	}
	return rows
}

// The types of the data in a page. Names are short: there are thousands.
type (
	pageData struct {
		Targets      []pageTarget `json:"targets"`
		Seed         uint64       `json:"seed"`
		Version      string       `json:"version"`
		OK           bool         `json:"ok"`
		Requirements []Covered    `json:"requirements"`
		Others       []Covered    `json:"others"`
		Events       []pageEvent  `json:"events"`
		States       []string     `json:"states"`
		Scripts      []pageScript `json:"scripts"`
	}
	pageTarget struct {
		Name string `json:"name"`
		// Runs and Requirements are counts by verdict.
		Runs         map[runner.Verdict]int `json:"runs"`
		Requirements map[runner.Verdict]int `json:"requirements"`
	}
	pageEvent struct {
		Name    string `json:"name"`
		Title   string `json:"title"`
		Section string `json:"section"`
	}
	pageScript struct {
		Name         string    `json:"n"`
		Title        string    `json:"t,omitempty"`
		Section      string    `json:"s,omitempty"`
		Requirements []string  `json:"r,omitempty"`
		Source       string    `json:"src,omitempty"`
		Runs         []pageRun `json:"runs"`
	}
	pageRun struct {
		// Target is an index into the targets, IP "4", "6" or "4+6".
		Target  int            `json:"g"`
		IP      string         `json:"ip"`
		Verdict runner.Verdict `json:"v"`
		Reason  string         `json:"why,omitempty"`
		Failure *pageFailure   `json:"f,omitempty"`
		Notes   []string       `json:"notes,omitempty"`
		// Findings are the oracle's, each with its tier and its text.
		Findings [][2]string `json:"o,omitempty"`
		Trace    [][4]any    `json:"tr,omitempty"`
		// Packets is a pcapng file.
		Packets []byte `json:"pcap,omitempty"`
	}
	pageFailure struct {
		Line     int    `json:"l"`
		Micros   int64  `json:"us"`
		Event    string `json:"e,omitempty"`
		Message  string `json:"m"`
		Expected string `json:"x,omitempty"`
		Actual   string `json:"a,omitempty"`
	}
)

// The bounds of what a page holds, in bytes and entries.
const (
	maxPagePackets = 4 << 20  // pcapng files in all
	maxRunPackets  = 64 << 10 // one of them
	maxRunTrace    = 400      // entries of a ladder diagram
)

// pageOf collects the data of a page.
func pageOf(results []*runner.Result, opt HTMLOptions) *pageData {
	targets := targetsOf(results)
	d := &pageData{Seed: opt.Seed, Version: opt.Version, OK: CountOf(results).OK(), Requirements: Coverage(results), Others: OtherCoverage(results)}
	for _, t := range targets {
		own := slices.DeleteFunc(slices.Clone(results), func(r *runner.Result) bool { return r.Target != t })
		p := pageTarget{Name: t, Runs: CountOf(own), Requirements: make(Count)}
		for _, c := range d.Requirements {
			p.Requirements[c.Verdicts[t]]++
		}
		d.Targets = append(d.Targets, p)
	}
	if slices.ContainsFunc(results, func(r *runner.Result) bool { return strings.HasPrefix(r.Script, matrix.Prefix) }) {
		if events, states, err := matrix.Layout(); err == nil {
			d.States = states
			for _, e := range events {
				d.Events = append(d.Events, pageEvent(e))
			}
		}
	}
	budget := maxPagePackets
	at := make(map[string]int)
	for _, r := range results {
		i, ok := at[r.Script]
		if !ok {
			i = len(d.Scripts)
			at[r.Script] = i
			d.Scripts = append(d.Scripts, pageScript{
				Name: r.Script, Title: r.Tags.Title, Section: r.Tags.Section,
				Requirements: r.Tags.Requirements, Source: r.Source,
			})
		}
		d.Scripts[i].add(r, slices.Index(targets, r.Target), &budget)
	}
	return d
}

// add appends a run, or merges it with that over the other version of IP if
// both ended alike.
func (s *pageScript) add(r *runner.Result, target int, budget *int) {
	run := pageRun{Target: target, IP: r.IP.String()[3:], Verdict: r.Verdict, Reason: r.Reason, Notes: r.Notes}
	for i := range s.Runs {
		if have := &s.Runs[i]; have.Target == target && have.Verdict == r.Verdict && have.Reason == r.Reason && len(have.Findings) == len(r.Findings) {
			have.IP += "+" + strings.TrimPrefix(run.IP, "v")
			return
		}
	}
	run.IP = strings.TrimPrefix(run.IP, "v")
	for i := range r.Findings {
		run.Findings = append(run.Findings, [2]string{string(r.Findings[i].Tier), r.Findings[i].String()})
	}
	for _, e := range r.Trace[:min(len(r.Trace), maxRunTrace)] {
		run.Trace = append(run.Trace, [4]any{e.At.Microseconds(), e.Kind, e.Line, e.Text})
	}
	if f := r.Failure; f != nil {
		run.Failure = &pageFailure{
			Line: f.Pos.Line, Micros: f.At.Microseconds(), Event: f.Event, Message: f.Message, Expected: f.Expected, Actual: f.Actual,
		}
		if p := PCAPNG(r); len(p) <= min(maxRunPackets, *budget) {
			run.Packets = p
			*budget -= len(p)
		}
	}
	s.Runs = append(s.Runs, run)
}
