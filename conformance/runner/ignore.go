package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
)

// Ignored is a set of parts of packets that are not compared: what two TCPs may
// choose as they like, and what would hide the rest of a script that was written
// for one of them. The zero value compares everything.
type Ignored uint8

// What can be left out of comparisons.
const (
	// IgnoreWindows leaves out the window field, the shift of the window scale
	// option, and the size of receive buffers that getsockopt tells. It does not see a window that shrinks, stays closed, or is
	// larger than the buffer.
	IgnoreWindows Ignored = 1 << iota
	// IgnoreECT leaves out the ECN field of the IP header, but for that of SYN:
	// RFC 3168 6.1.4 and 6.1.5 forbid ECT on pure ACKs and retransmissions, which
	// the experiments that RFC 8311 4.3 allows mark. It does not see which
	// segments are ECN-capable.
	IgnoreECT
)

// ignoredNames are the names of the members of a set.
var ignoredNames = []string{"windows", "ect"}

// IgnoredNames returns the names that ParseIgnored knows.
func IgnoredNames() []string { return slices.Clone(ignoredNames) }

// ParseIgnored returns the set with the members named; IgnoredNames lists them.
func ParseIgnored(names []string) (Ignored, error) {
	var set Ignored
	for _, n := range names {
		i := slices.Index(ignoredNames, n)
		if i < 0 {
			return 0, fmt.Errorf("%q cannot be ignored: want %s", n, strings.Join(ignoredNames, " or "))
		}
		set |= 1 << i
	}
	return set, nil
}

// String returns the names of the members, separated by commas.
func (g Ignored) String() string {
	var names []string
	for i, n := range ignoredNames {
		if g&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// has reports whether any of set is ignored.
func (g Ignored) has(set Ignored) bool { return g&set != 0 }

// expected returns what a packet has to be like: want, but with what is ignored
// taken from got.
func (g Ignored) expected(want, got *script.Packet) *script.Packet {
	if g == 0 || want.TCP == nil || got.TCP == nil {
		return want
	}
	w := *want
	t := *want.TCP
	w.TCP = &t
	if g.has(IgnoreWindows) {
		t.Win.Set = false
		t.Options = slices.Clone(t.Options)
		for i, o := range t.Options {
			if have := findOption(got.TCP, o.Kind); o.Kind == script.KindWScale && have != nil {
				t.Options[i].Shift = have.Shift
			}
		}
	}
	if g.has(IgnoreECT) && t.Flags&script.SYN == 0 {
		w.IP.ECN = script.ECNUnset
	}
	return &w
}
