package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/runner"
)

// Snapshot is the verdict of every script, and of every requirement, on every
// target, by name and target. Where the versions of IP differ it has both, as
// in "PASS/XFAIL". Kept in a file beside the sources and compared by
// continuous integration, it lets no verdict change silently.
type Snapshot struct {
	scripts, requirements map[string]map[string]string
	about                 map[string]string
}

// SnapshotOf returns the snapshot of results. Requirements are in it that some
// script among them names.
func SnapshotOf(results []*runner.Result) *Snapshot {
	s := newSnapshot()
	for _, r := range results {
		verdicts := at(s.scripts, r.Script)
		verdicts[r.Target] = joinVerdict(verdicts[r.Target], r.Verdict)
	}
	for _, c := range append(Coverage(results), OtherCoverage(results)...) {
		for target, v := range c.Verdicts {
			if v != runner.Untested {
				at(s.requirements, c.ID)[target] = string(v)
			}
		}
	}
	return s
}

func newSnapshot() *Snapshot {
	return &Snapshot{
		scripts: make(map[string]map[string]string), requirements: make(map[string]map[string]string), about: make(map[string]string),
	}
}

// Describe says what a target was, in one line that Write puts at the top: a
// version, and how it was run. Diff does not compare it.
func (s *Snapshot) Describe(target, text string) { s.about[target] = text }

// Verdict returns the verdict of a test or of a requirement on a target, "" if
// there is none.
func (s *Snapshot) Verdict(name, target string) string {
	if v := s.scripts[name][target]; v != "" {
		return v
	}
	return s.requirements[name][target]
}

// at returns the verdicts of a name, which it adds if need be.
func at(m map[string]map[string]string, name string) map[string]string {
	if m[name] == nil {
		m[name] = make(map[string]string)
	}
	return m[name]
}

// The headings of the parts of a snapshot's file.
const (
	scriptsHeading      = "# Verdicts by script: plumbline conform --snapshot FILE --update writes this file."
	requirementsHeading = "# Verdicts by requirement."
)

// Write writes the snapshot as text, in the order of the names.
func (s *Snapshot) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, part := range []struct {
		heading string
		rows    map[string]map[string]string
		order   func(a, b string) int
	}{
		{scriptsHeading, s.scripts, strings.Compare},
		{requirementsHeading, s.requirements, compareIDs},
	} {
		fmt.Fprintln(out, part.heading)
		if part.heading == scriptsHeading {
			for _, target := range sortedKeys(s.about, strings.Compare) {
				fmt.Fprintf(out, "# %s: %s\n", target, s.about[target])
			}
		}
		for _, name := range sortedKeys(part.rows, part.order) {
			fmt.Fprint(out, name)
			for _, target := range sortedKeys(part.rows[name], strings.Compare) {
				fmt.Fprintf(out, " %s=%s", target, part.rows[name][target])
			}
			fmt.Fprintln(out)
		}
	}
	return out.Flush()
}

// compareIDs orders MUST-9 before MUST-10.
func compareIDs(a, b string) int {
	return compareSections(strings.ReplaceAll(a, "-", " "), strings.ReplaceAll(b, "-", " "))
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V, order func(a, b string) int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, order)
	return keys
}

// maxSnapshotLine is the longest line of a snapshot, in bytes.
const maxSnapshotLine = 64 << 10

// ReadSnapshot reads what Write wrote. Errors name the line.
func ReadSnapshot(r io.Reader) (*Snapshot, error) {
	s := newSnapshot()
	part := s.scripts
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSnapshotLine)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		fields := strings.Fields(line)
		switch {
		case line == requirementsHeading:
			part = s.requirements
		case strings.HasPrefix(line, "#"):
			// A word and a colon begin what Describe was told.
			if target, text, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": "); ok && !strings.Contains(target, " ") {
				s.about[target] = text
			}
		case len(fields) == 0:
		default:
			for _, f := range fields[1:] {
				target, verdict, ok := strings.Cut(f, "=")
				if !ok {
					return nil, fmt.Errorf("line %d: expected target=VERDICT, found %q", n, f)
				}
				at(part, fields[0])[target] = verdict
			}
		}
	}
	return s, lines.Err()
}

// Diff says how s differs from an older snapshot, one line for each verdict. If
// partial is set, not everything was run: what s lacks is no difference, and
// requirements are not compared, since the worst of their tests may be missing.
func (s *Snapshot) Diff(old *Snapshot, partial bool) []string {
	diff := diffRows(old.scripts, s.scripts, partial, strings.Compare)
	if partial {
		return diff
	}
	return append(diff, diffRows(old.requirements, s.requirements, partial, compareIDs)...)
}

// diffRows compares a part of two snapshots. A target that occurs nowhere in
// the newer one was not run.
func diffRows(old, now map[string]map[string]string, partial bool, order func(a, b string) int) []string {
	ran := make(map[string]bool)
	names := make(map[string]bool)
	for name, verdicts := range now {
		names[name] = true
		for target := range verdicts {
			ran[target] = true
		}
	}
	for name := range old {
		names[name] = true
	}
	var out []string
	for _, name := range sortedKeys(names, order) {
		for _, target := range sortedKeys(ran, strings.Compare) {
			a, b := old[name][target], now[name][target]
			if a != b && (b != "" || !partial) {
				out = append(out, fmt.Sprintf("%s on %s: %s, was %s", name, target, cmp.Or(b, "gone"), cmp.Or(a, "not there")))
			}
		}
	}
	return out
}

// Merge adds to s what old has and s does not: targets that were not run, and
// scripts as well if partial is set. Requirements are then those of old.
func (s *Snapshot) Merge(old *Snapshot, partial bool) {
	for target, text := range old.about {
		if _, has := s.about[target]; !has {
			s.Describe(target, text)
		}
	}
	mergeRows(s.scripts, old.scripts, partial)
	if partial {
		clear(s.requirements)
	}
	mergeRows(s.requirements, old.requirements, partial)
}

func mergeRows(now, old map[string]map[string]string, partial bool) {
	ran := make(map[string]bool)
	for _, verdicts := range now {
		for target := range verdicts {
			ran[target] = true
		}
	}
	for name, verdicts := range old {
		for target, v := range verdicts {
			if _, has := now[name][target]; !has && (partial || !ran[target]) {
				at(now, name)[target] = v
			}
		}
	}
}
