package fuzz

import "strings"

// deviation is a difference that is known, with its reason.
type deviation struct {
	// target is the one that does something else than RFC 9293 has first in mind, or
	// uses a choice that it leaves.
	target string
	// class is how the class of the difference begins, or, with a leading "*", what it
	// has in it.
	class, why string
}

// known returns the reason of a difference between two targets, or "".
func known(a, b, class string) string {
	for _, d := range deviations {
		if d.target != a && d.target != b {
			continue
		}
		part, anywhere := strings.CutPrefix(d.class, "*")
		if strings.HasPrefix(class, d.class) || anywhere && strings.Contains(class, part) {
			return d.target + ": " + d.why
		}
	}
	return ""
}

// deviations are the differences that are known.
var deviations = []deviation{
	{"gvisor", "*timestamps: ", "checks no timestamps, PAWS (RFC 7323 5) is missing"},
	{"gvisor", "*SYN again: ", "has no challenge ACKs as RFC 5961 4 has them"},
	{"gvisor", "*RST: ", "has no challenge ACKs as RFC 5961 3 has them"},
	{"gvisor", "*strange ACK: ", "does not challenge ACKs out of range (RFC 5961 5)"},
	{"gvisor", "*urgent: ", "has no urgent data"},
	{"gvisor", "*ICMP: ", "takes ICMP errors that quote what it never sent (RFC 5927 4)"},
}
