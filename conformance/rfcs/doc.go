// Package rfcs is a table of requirements of RFCs beside RFC 9293 that make up
// the TCP of today: congestion control, the retransmission timer, timestamps,
// SACK, RACK, challenge ACKs, ECN, Path MTU discovery.
//
// These RFCs do not number their requirements. An ID is made of the RFC and the
// section, with a letter where a section has several: RFC5961-3.2-b. The level is
// that of the RFC's key word (RFC 2119), or "rule" for what it says without one.
// What is required is put in our words.
//
// Each row names the tests that prove it.
package rfcs
