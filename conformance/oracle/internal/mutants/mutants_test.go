package mutants

import (
	"fmt"
	"slices"
	"testing"

	"github.com/plumbline/plumbline/conformance/oracle"
)

// TestNames checks that names can be told apart, and that all of RFC 2525 is
// there.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	sections := make(map[string]bool)
	for _, m := range All() {
		if seen[m.Name] || m.Title == "" {
			t.Errorf("mutant %q is there twice, or has no title", m.Name)
		}
		seen[m.Name] = true
		sections[m.RFC2525] = true
	}
	for i := 1; i <= 18; i++ {
		if !sections[fmt.Sprintf("2.%d", i)] {
			t.Errorf("section 2.%d of RFC 2525 has no mutant", i)
		}
	}
	if n := len(seen) - 18; n < 30 {
		t.Errorf("%d mutants beside those of RFC 2525", n)
	}
}

// findings returns what the oracle holds against the mutant, and what against
// its peer, by rule.
func findings(rep *oracle.Report) (mutant, peer []oracle.Finding) {
	for _, f := range rep.Findings {
		if f.From.Addr() == mutantAddr {
			mutant = append(mutant, f)
		} else {
			peer = append(peer, f)
		}
	}
	return mutant, peer
}

// tierOf returns the tier of a rule.
func tierOf(t *testing.T, id string) oracle.Tier {
	i := slices.IndexFunc(oracle.Rules(), func(r oracle.Rule) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("there is no rule %q", id)
	}
	return oracle.Rules()[i].Tier
}

// TestKilled runs every mutant, and the TCP without the fault in the same
// scenario: the oracle finds the fault by the rule that it breaks, and nothing
// of the hard tier without it.
func TestKilled(t *testing.T) {
	for _, m := range All() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && m.scenario.sends+m.scenario.receives > 500_000 {
				t.Skip("a long transfer")
			}
			rep, err := m.Run(true)
			if err != nil {
				t.Fatal(err)
			}
			found, _ := findings(rep)
			if !slices.ContainsFunc(found, func(f oracle.Finding) bool { return f.Rule == m.Rule }) {
				t.Errorf("not found by %s in %d segments; found %v", m.Rule, rep.Segments, found)
			}
			if tierOf(t, m.Rule) == oracle.Soft {
				for _, f := range found {
					if f.Tier == oracle.Hard {
						t.Errorf("it breaks a rule of the hard tier: %v", &f)
						break
					}
				}
			}
			if m.fault == nil && m.set == nil {
				return // what is wrong is the application
			}
			rep, err = m.Run(false)
			if err != nil {
				t.Fatal(err)
			}
			found, _ = findings(rep)
			for _, f := range found {
				if f.Tier == oracle.Hard || f.Rule == m.Rule {
					t.Errorf("without the fault: %v", &f)
					break
				}
			}
		})
	}
}
