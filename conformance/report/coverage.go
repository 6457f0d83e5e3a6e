package report

import (
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/runner"
)

// Covered is what became of one requirement of RFC 9293.
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
	worst := -1
	for _, r := range results {
		if r.Target == target && slices.Contains(r.Tags.Requirements, id) {
			worst = max(worst, slices.Index(severity, r.Verdict))
		}
	}
	if worst >= 0 {
		return severity[worst]
	}
	if _, ok := rfc9293.NotApplicable(id); ok {
		return runner.NotApplicable
	}
	return runner.Untested
}
