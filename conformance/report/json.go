package report

import (
	"encoding/json"
	"io"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
)

// Schema is the value of the field "schema" of a JSON report. It changes when
// a field changes its meaning or goes away; fields may be added without that.
const Schema = "plumbline-conformance/1"

// Document is a JSON report.
type Document struct {
	// Schema is the constant Schema.
	Schema string `json:"schema"`
	// Seed is the seed of the suite.
	Seed uint64 `json:"seed"`
	// OK says that no run failed unexpectedly.
	OK bool `json:"ok"`
	// Counts are the number of runs by verdict.
	Counts map[runner.Verdict]int `json:"counts"`
	// Runs are the runs, ordered by script, version of IP and target.
	Runs []Run `json:"runs"`
	// Requirements are those of RFC 9293, each with a verdict per target.
	Requirements []Covered `json:"requirements"`
	// OtherRequirements are those of other RFCs.
	OtherRequirements []Covered `json:"other_requirements,omitempty"`
}

// Run is one run in a JSON report.
type Run struct {
	Script string `json:"script"`
	Target string `json:"target"`
	// IP is 4 or 6.
	IP           int            `json:"ip"`
	Level        runner.Level   `json:"level"`
	Title        string         `json:"title,omitempty"`
	Section      string         `json:"section,omitempty"`
	Requirements []string       `json:"requirements,omitempty"`
	Verdict      runner.Verdict `json:"verdict"`
	Reason       string         `json:"reason,omitempty"`
	// ElapsedMicros is how much virtual time the run took.
	ElapsedMicros int64    `json:"elapsed_us"`
	Failure       *Failure `json:"failure,omitempty"`
	// Retried is why the run was done a second time, in real time.
	Retried string   `json:"retried,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Findings are what the oracle holds against the target, if it was asked.
	Findings []oracle.Finding `json:"findings,omitempty"`
	// Trace is what happened; only runs with a failure have one.
	Trace []Step `json:"trace,omitempty"`
}

// Failure is the first thing that went wrong in a run.
type Failure struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	AtMicros int64  `json:"at_us"`
	Event    string `json:"event,omitempty"`
	Message  string `json:"message"`
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
}

// Step is one entry of a trace.
type Step struct {
	AtMicros int64 `json:"at_us"`
	// Line is the line of the script, or 0 for a packet that no line
	// expected.
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
	// Packet is the packet on the wire, in base64.
	Packet []byte `json:"packet,omitempty"`
}

// JSON writes results as one Document.
func JSON(w io.Writer, results []*runner.Result, seed uint64) error {
	counts := CountOf(results)
	doc := Document{
		Schema: Schema, Seed: seed, OK: counts.OK(), Counts: counts,
		Runs: make([]Run, 0, len(results)), Requirements: Coverage(results),
		OtherRequirements: OtherCoverage(results),
	}
	for _, r := range results {
		doc.Runs = append(doc.Runs, runOf(r))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// runOf converts a result.
func runOf(r *runner.Result) Run {
	run := Run{
		Script: r.Script, Target: r.Target, IP: int(r.IP), Level: r.Level,
		Title: r.Tags.Title, Section: r.Tags.Section, Requirements: r.Tags.Requirements,
		Verdict: r.Verdict, Reason: r.Reason, Retried: r.Retried, ElapsedMicros: r.Elapsed.Microseconds(), Notes: r.Notes,
		Findings: r.Findings,
	}
	if f := r.Failure; f != nil {
		run.Failure = &Failure{
			File: f.Pos.File, Line: f.Pos.Line, Column: f.Pos.Column, AtMicros: f.At.Microseconds(),
			Event: f.Event, Message: f.Message, Expected: f.Expected, Actual: f.Actual,
		}
		for _, e := range r.Trace {
			run.Trace = append(run.Trace, Step{AtMicros: e.At.Microseconds(), Line: e.Line, Text: e.Text, Packet: e.Data})
		}
	}
	return run
}
