package script

import (
	"fmt"
	"strconv"
	"strings"
)

// icmpNumber is a type or code of ICMP and ICMPv6; -1 where the version has
// none that corresponds.
type icmpNumber struct{ v4, v6 int }

// icmpTypes are the names of types (RFC 792, RFC 1122, RFC 4443). What the
// other version calls by another name is given its number all the same, so
// that one script serves both.
var icmpTypes = map[string]icmpNumber{
	"echo_reply":           {0, 129},
	"unreachable":          {3, 1},
	"source_quench":        {4, -1},
	"redirect":             {5, 137},
	"echo_request":         {8, 128},
	"time_exceeded":        {11, 3},
	"parameter_problem":    {12, 4},
	"timestamp_request":    {13, -1},
	"timestamp_reply":      {14, -1},
	"information_request":  {15, -1},
	"information_reply":    {16, -1},
	"address_mask_request": {17, -1},
	"address_mask_reply":   {18, -1},
	"packet_too_big":       {3, 2},
}

// icmpCodes are the names of codes, by type.
var icmpCodes = map[string]map[string]icmpNumber{
	"unreachable": {
		"net_unreachable":          {0, 0},
		"host_unreachable":         {1, 3},
		"protocol_unreachable":     {2, -1},
		"port_unreachable":         {3, 4},
		"frag_needed":              {4, -1}, // packet_too_big: see Numbers
		"source_route_failed":      {5, -1},
		"net_unknown":              {6, 0},
		"host_unknown":             {7, 3},
		"source_host_isolated":     {8, -1},
		"net_prohibited":           {9, 1},
		"host_prohibited":          {10, 1},
		"net_unreachable_for_tos":  {11, 0},
		"host_unreachable_for_tos": {12, 3},
		"packet_filtered":          {13, 1},
		"precedence_violation":     {14, -1},
		"precedence_cutoff":        {15, -1},
		"no_route":                 {0, 0},
		"admin_prohibited":         {13, 1},
		"not_neighbour":            {-1, 2},
		"address_unreachable":      {1, 3},
		"source_policy":            {-1, 5},
		"reject_route":             {-1, 6},
	},
	"time_exceeded": {
		"ttl_exceeded":            {0, 0},
		"ttl_exceeded_in_transit": {0, 0},
		"frag_reass_exceeded":     {1, 1},
		"reassembly_exceeded":     {1, 1},
		"exceeded_hop_limit":      {0, 0},
		"exceeded_frag_time":      {1, 1},
	},
	"parameter_problem": {
		"header_field":        {0, 0},
		"unknown_next_header": {-1, 1},
		"unknown_option":      {-1, 2},
	},
}

// numbered returns N of a name such as "type_N" or "code_N".
func numbered(name, prefix string) (uint8, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 10, 8)
	return uint8(n), ok && err == nil && strconv.FormatUint(n, 10) == digits
}

func knownICMPType(name string) bool {
	if _, ok := icmpTypes[name]; ok {
		return true
	}
	_, ok := numbered(name, "type_")
	return ok
}

func knownICMPCode(typ, name string) bool {
	if _, ok := icmpCodes[typ][name]; ok {
		return true
	}
	_, ok := numbered(name, "code_")
	return ok
}

// Numbers returns the type and code of the message in ICMP, or in ICMPv6 if
// v6 is true. A name of the one version is translated to what corresponds to
// it in the other, as "unreachable frag_needed" to Packet Too Big; an error
// says that nothing does.
func (m *ICMP) Numbers(v6 bool) (typ, code uint8, err error) {
	if m.Type == "packet_too_big" && !v6 {
		return 3, 4, nil
	}
	if m.Type == "unreachable" && m.Code == "frag_needed" && v6 {
		return 2, 0, nil
	}
	if n, ok := numbered(m.Type, "type_"); ok {
		typ = n
	} else if typ, ok = icmpTypes[m.Type].in(v6); !ok {
		return 0, 0, fmt.Errorf("%s has no message %s", icmpName(v6), m.Type)
	}
	if m.Code == "" {
		return typ, 0, nil
	}
	if n, ok := numbered(m.Code, "code_"); ok {
		return typ, n, nil
	}
	code, ok := icmpCodes[m.Type][m.Code].in(v6)
	if !ok {
		return 0, 0, fmt.Errorf("%s has no code %s of the message %s", icmpName(v6), m.Code, m.Type)
	}
	return typ, code, nil
}

// in returns the number in the given version, and whether there is one.
func (n icmpNumber) in(v6 bool) (uint8, bool) {
	v := n.v4
	if v6 {
		v = n.v6
	}
	return uint8(max(v, 0)), v >= 0
}

func icmpName(v6 bool) string {
	if v6 {
		return "ICMPv6"
	}
	return "ICMP"
}
