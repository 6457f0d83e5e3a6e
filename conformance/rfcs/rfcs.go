package rfcs

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/rfc9293"
)

// Rule is the level of what an RFC states without a key word of RFC 2119.
const Rule rfc9293.Level = "rule"

// Requirement is one row of the table.
type Requirement struct {
	// ID is the RFC, the section, and a letter, as in "RFC5961-3.2-b".
	ID string
	// RFC is the number of the RFC, and Section that of the section.
	RFC, Section string
	// Level is the level of the key word, or Rule.
	Level rfc9293.Level
	// Feature says what is required, or for MUST NOT what is forbidden.
	Feature string
	// Tests are the names of the tests of the suite that prove it.
	Tests []string
	// GoPackage and GoTests are a package of this module, as in "ext/arp", and
	// the names of its tests that prove what is no matter of a TCP. A name may
	// have a slash and the name of a subtest.
	GoPackage string
	GoTests   []string
	// NotApplicable says why no test of the suite can prove it, or is not
	// judged; Unsupported why no target can do it, or why it is not kept.
	NotApplicable, Unsupported string
}

// titles are what the RFCs are about.
var titles = map[string]string{
	"826": "ARP", "5227": "Address conflict detection", "1191": "Path MTU discovery", "2018": "SACK", "2883": "Duplicate SACK", "3168": "ECN", "5681": "Congestion control",
	"5682": "F-RTO", "5961": "Blind in-window attacks", "6298": "Retransmission timer", "7323": "Window scale and timestamps",
	"7413": "Fast Open", "8201": "Path MTU discovery for IPv6", "8985": "RACK-TLP", "9937": "Proportional rate reduction",
}

// Group returns the RFC with its topic, as in "RFC 8985: RACK-TLP".
func (r Requirement) Group() string { return "RFC " + r.RFC + ": " + titles[r.RFC] }

//go:embed requirements.tsv
var table string

// rows are the requirements, by RFC.
var rows = parse(table)

// parse reads the table: a line of headings, then four fields a line.
func parse(text string) []Requirement {
	var out []Requirement
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			panic(fmt.Sprintf("rfcs: line %d of the table has %d fields", i+1, len(f)))
		}
		if i == 0 {
			continue
		}
		r := Requirement{ID: f[0], Level: rfc9293.Level(f[1]), Feature: f[2]}
		rfc, section, _ := strings.Cut(strings.TrimPrefix(f[0], "RFC"), "-")
		r.RFC = rfc
		r.Section, _, _ = strings.Cut(section, "-")
		var ok bool
		if r.NotApplicable, ok = strings.CutPrefix(f[3], "n/a: "); !ok {
			r.NotApplicable = ""
		}
		if r.Unsupported, ok = strings.CutPrefix(f[3], "unsupported: "); !ok {
			r.Unsupported = ""
		}
		if tests, ok := strings.CutPrefix(f[3], "go: "); ok {
			r.GoPackage, tests, _ = strings.Cut(tests, " ")
			r.GoTests = strings.Split(tests, " | ")
			r.NotApplicable = "no matter of a TCP: go test ./" + r.GoPackage + " proves it, by " + strings.Join(r.GoTests, "; ")
		}
		if r.NotApplicable == "" && r.Unsupported == "" {
			r.Tests = strings.Fields(f[3])
		}
		out = append(out, r)
	}
	return out
}

// All returns every row, by RFC.
func All() []Requirement { return slices.Clone(rows) }

// Lookup returns the row of an ID.
func Lookup(id string) (Requirement, bool) {
	i := slices.IndexFunc(rows, func(r Requirement) bool { return r.ID == id })
	if i < 0 {
		return Requirement{}, false
	}
	return rows[i], true
}
