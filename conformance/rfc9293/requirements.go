package rfc9293

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// Level is how strongly a requirement binds (RFC 2119).
type Level string

// The levels.
const (
	Must      Level = "MUST"
	MustNot   Level = "MUST NOT"
	Should    Level = "SHOULD"
	ShouldNot Level = "SHOULD NOT"
	May       Level = "MAY"
)

// Requirement is one row of the table.
type Requirement struct {
	// ID is the RFC's name for it, as in "MUST-13". A few IDs have several
	// rows, which are parts of one requirement.
	ID string
	// Level is the level in the RFC's table, which need not be that in the
	// ID.
	Level Level
	// Section is the section of the RFC that states it, as in "3.6.1".
	Section string
	// Group is the heading that it has in the RFC's table.
	Group string
	// Feature says what is required, in a few words.
	Feature string
}

//go:embed requirements.tsv
var table string

// rows are the requirements in the order of the RFC's table.
var rows = parse(table)

// parse reads the table: a line of headings, then five fields a line.
func parse(text string) []Requirement {
	var out []Requirement
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			panic(fmt.Sprintf("rfc9293: line %d of the table has %d fields", i+1, len(f)))
		}
		if i > 0 {
			out = append(out, Requirement{ID: f[0], Level: Level(f[1]), Section: f[2], Group: f[3], Feature: f[4]})
		}
	}
	return out
}

// All returns every row, in the order of the RFC's table.
func All() []Requirement { return slices.Clone(rows) }

// IDs returns the ID of every requirement once, in the order of the RFC's
// table: 119 of them.
func IDs() []string {
	var ids []string
	seen := make(map[string]bool)
	for _, r := range rows {
		if !seen[r.ID] {
			seen[r.ID] = true
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Lookup returns the rows of an ID, nil if there is no such requirement.
func Lookup(id string) []Requirement {
	var out []Requirement
	for _, r := range rows {
		if r.ID == id {
			out = append(out, r)
		}
	}
	return out
}

// notApplicable are the requirements that no script can prove, with the
// reason. A MAY is here if the interface that scripts use, sockets, has no way
// to ask for it; one that a TCP may do of its own accord has a script that
// allows both.
var notApplicable = map[string]string{
	"SHLD-13": "binds applications: they should not use urgent data",
	"SHLD-23": "binds applications: they should not change Diffserv during a connection",
	"MUST-50": "binds the IP layer: netstack hands TCP no IP options",
	"MUST-51": "binds the interface to IP: source routes, which hosts reject today (RFC 7126)",
	"MUST-52": "binds the interface to IP: source routes, which hosts reject today (RFC 7126)",
	"MUST-53": "binds the interface to IP: source routes, which hosts reject today (RFC 7126)",
	"SHLD-24": "binds the interface to IP: source routes, which hosts reject today (RFC 7126)",
	"MAY-10":  "binds the IP layer: the timestamp option of IPv4",
	"MAY-11":  "binds the IP layer: the record route option of IPv4",
	"MAY-4":   "a choice without consequence: the identification of a datagram that must not be fragmented has no meaning (RFC 6864)",
	"MAY-9":   "an option that sockets have no place for: a stream is read without the headers that it came with",
	"MAY-14":  "an option that sockets have no call for: nothing discards what was written",
	"MAY-17":  "an option that sockets have no place for: read does not tell where PSH was",
	"MUST-9":  "shows nowhere: the secret of the ISN generator is not computable from outside",
}

// NotApplicable returns why no script can prove a requirement, and whether
// that is so.
func NotApplicable(id string) (reason string, ok bool) {
	reason, ok = notApplicable[id]
	return reason, ok
}
