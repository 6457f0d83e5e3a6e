// Package rfcs is a table of requirements of RFCs beside RFC 9293 that make up
// the TCP of today: congestion control, the retransmission timer, timestamps,
// SACK, RACK, challenge ACKs, ECN, Path MTU discovery; and of those that make up
// ARP below it.
//
// These RFCs do not number their requirements. An ID is made of the RFC and the
// section, with a letter where a section has several: RFC5961-3.2-b. What is
// required is put in our words.
//
// The level is that of the RFC's key word (RFC 2119), or "rule" for what it says
// without one. RECOMMENDED counts as SHOULD, the "must" of RFC 8201, which writes
// key words in lower case, as MUST, and "could" for an action that is left open as
// MAY. The level is that of the step, also where an RFC
// leaves it open whether to do a thing at all: F-RTO, PAWS and the mitigations of
// RFC 5961 are optional, and their steps are MUSTs for who does them.
//
// Section, level and meaning of each row were compared with the text of its RFC,
// those of RFC 826 and RFC 7413 excepted. RFC 826 has neither key words nor numbers of sections: "generation" and
// "reception" are those on packets.
//
// Each row names the tests that prove it. Those of ARP are tests in Go of package
// ext/arp: no packet to a TCP can show them.
package rfcs
