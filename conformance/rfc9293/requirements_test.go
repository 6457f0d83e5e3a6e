package rfc9293_test

import (
	"regexp"
	"testing"

	"github.com/plumbline/plumbline/conformance/rfc9293"
)

func TestTableIsComplete(t *testing.T) {
	ids := rfc9293.IDs()
	if len(ids) != 119 {
		t.Errorf("%d IDs, RFC 9293 appendix B has 119", len(ids))
	}
	must := 0
	for _, id := range ids {
		if rfc9293.Lookup(id) == nil {
			t.Errorf("Lookup(%s) finds nothing", id)
		}
		if len(id) > 5 && id[:5] == "MUST-" {
			must++
		}
	}
	if must != 69 {
		t.Errorf("%d IDs are MUST-n, want 69", must)
	}
	if rfc9293.Lookup("MUST-70") != nil {
		t.Error("Lookup finds MUST-70, which does not exist")
	}
}

func TestRowsAreWellFormed(t *testing.T) {
	levels := map[rfc9293.Level]bool{
		rfc9293.Must: true, rfc9293.MustNot: true, rfc9293.Should: true, rfc9293.ShouldNot: true, rfc9293.May: true,
	}
	id := regexp.MustCompile(`^(MUST|SHLD|MAY|REC)-[1-9][0-9]?$`)
	section := regexp.MustCompile(`^3\.[0-9.]*[0-9]$`)
	for _, r := range rfc9293.All() {
		if !levels[r.Level] || !id.MatchString(r.ID) || !section.MatchString(r.Section) || r.Group == "" || r.Feature == "" {
			t.Errorf("malformed row %+v", r)
		}
	}
}

func TestSeveralRowsOfOneID(t *testing.T) {
	// Destination Unreachable, Time Exceeded and Parameter Problem.
	if rows := rfc9293.Lookup("MUST-56"); len(rows) != 3 {
		t.Errorf("MUST-56 has rows %+v, want 3", rows)
	}
}

func TestNotApplicableNamesRequirements(t *testing.T) {
	count := 0
	for _, id := range rfc9293.IDs() {
		if reason, ok := rfc9293.NotApplicable(id); ok {
			count++
			if reason == "" {
				t.Errorf("%s has no reason", id)
			}
		}
	}
	if count == 0 {
		t.Error("no requirement is beyond a script")
	}
	if _, ok := rfc9293.NotApplicable("MUST-13"); ok {
		t.Error("MUST-13 can be seen from outside")
	}
}
