package report

import (
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/rfcs"
	"github.com/plumbline/plumbline/conformance/runner"
)

// Covered is what became of one requirement, of RFC 9293 or of package rfcs.
type Covered struct {
	// ID, Level, Section, Group and Feature are those of the requirement.
	// Features of several rows are joined.
	ID      string `json:"id"`
	Level   string `json:"level"`
	Section string `json:"section"`
	Group   string `json:"group"`
	Feature string `json:"feature"`
	// Verdicts has one verdict for each target: that of the worst script.
	Verdicts map[string]runner.Verdict `json:"verdicts"`
	// Scripts are the names of the scripts that name the requirement.
	Scripts []string `json:"scripts,omitempty"`
	// Reason says why a requirement is not applicable.
	Reason string `json:"reason,omitempty"`
}

// Coverage returns what became of every requirement of RFC 9293, in the order
// of the RFC's table.
func Coverage(results []*runner.Result) []Covered {
	targets := targetsOf(results)
	var out []Covered
	for _, id := range rfc9293.IDs() {
		rows := rfc9293.Lookup(id)
		c := Covered{
			ID: id, Level: string(rows[0].Level), Section: rows[0].Section, Group: rows[0].Group,
			Feature: features(rows), Verdicts: make(map[string]runner.Verdict),
		}
		for _, t := range targets {
			c.Verdicts[t] = verdictOf(id, t, results)
		}
		for _, r := range results {
			if slices.Contains(r.Tags.Requirements, id) && !slices.Contains(c.Scripts, r.Script) {
				c.Scripts = append(c.Scripts, r.Script)
			}
		}
		if len(c.Scripts) == 0 {
			c.Reason, _ = rfc9293.NotApplicable(id)
		}
		out = append(out, c)
	}
	return out
}

// OtherCoverage returns what became of the requirements of other RFCs, in the
// order of package rfcs. It returns nil if no result is of a test of theirs.
func OtherCoverage(results []*runner.Result) []Covered {
	verdicts := make(map[string]map[string]runner.Verdict) // by test and target
	for _, r := range results {
		if verdicts[r.Script] == nil {
			verdicts[r.Script] = make(map[string]runner.Verdict)
		}
		verdicts[r.Script][r.Target] = worse(verdicts[r.Script][r.Target], r.Verdict)
	}
	targets := targetsOf(results)
	any := false
	var out []Covered
	for _, row := range rfcs.All() {
		c := Covered{
			ID: row.ID, Level: string(row.Level), Section: row.Section, Group: row.Group(), Feature: row.Feature,
			Verdicts: make(map[string]runner.Verdict), Reason: row.NotApplicable + row.Unsupported,
		}
		for _, n := range row.Tests {
			if verdicts[n] != nil {
				c.Scripts = append(c.Scripts, n)
			}
		}
		for _, t := range targets {
			c.Verdicts[t] = otherVerdict(row, c.Scripts, t, verdicts)
		}
		any = any || len(c.Scripts) > 0
		out = append(out, c)
	}
	if !any {
		return nil
	}
	return out
}

// otherVerdict is the verdict of a target on a requirement of another RFC.
func otherVerdict(row rfcs.Requirement, tests []string, target string, verdicts map[string]map[string]runner.Verdict) runner.Verdict {
	var v runner.Verdict
	for _, n := range tests {
		v = worse(v, verdicts[n][target])
	}
	switch {
	case v != "":
		return v
	case row.NotApplicable != "":
		return runner.NotApplicable
	case row.Unsupported != "":
		return runner.Unsupported
	default:
		return runner.Untested
	}
}

// worse returns the worse of two verdicts of scripts, of which either may be "".
func worse(a, b runner.Verdict) runner.Verdict {
	if slices.Index(severity, b) > slices.Index(severity, a) {
		return b
	}
	return a
}

// features joins what the rows of one ID require.
func features(rows []rfc9293.Requirement) string {
	var parts []string
	for _, r := range rows {
		parts = append(parts, r.Feature)
	}
	return strings.Join(parts, "; ")
}

// severity orders the verdicts of scripts from best to worst.
var severity = []runner.Verdict{runner.Unsupported, runner.Pass, runner.XPass, runner.XFail, runner.Fail}

// verdictOf is the worst verdict of the scripts that name a requirement. One
// that passes outweighs those that the target does not support; without a
// script the requirement is untested, or not applicable.
func verdictOf(id, target string, results []*runner.Result) runner.Verdict {
	var v runner.Verdict
	for _, r := range results {
		if r.Target == target && slices.Contains(r.Tags.Requirements, id) {
			v = worse(v, r.Verdict)
		}
	}
	if v != "" {
		return v
	}
	if _, ok := rfc9293.NotApplicable(id); ok {
		return runner.NotApplicable
	}
	return runner.Untested
}
