package script

import (
	"iter"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ignoreLayout leaves out of a comparison what String does not keep.
var ignoreLayout = cmp.Options{
	cmpopts.IgnoreTypes(Position{}),
	cmpopts.IgnoreFields(Script{}, "Name", "Description", "Tags"),
	cmpopts.IgnoreFields(Event{}, "Comment", "Source"),
	cmpopts.EquateComparable(netip.Addr{}),
	cmp.Comparer(func(a, b Formula) bool { return a.String() == b.String() }),
}

// roundTrip fails the test unless printing s and parsing the text gives s.
// Definitions are left out: what they stand for is printed in their place.
func roundTrip(t *testing.T, s *Script) {
	t.Helper()
	text := s.String()
	again, err := Parse(s.Name, []byte(text))
	if err != nil {
		t.Fatalf("%s: what was printed does not parse: %v\n%s", s.Name, err, text)
	}
	if diff := cmp.Diff(s, again, ignoreLayout); diff != "" {
		t.Fatalf("%s: what was printed parses as something else (-first +second):\n%s\n%s", s.Name, diff, text)
	}
}

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
