// Package rfc9293 is the table of the requirements of RFC 9293, the
// specification of TCP: the IDs of its appendix B, with the level of each and
// the section that states it.
//
// Scripts name the requirements that they prove, as in "//@ req: MUST-13", and
// reports list what became of each. Some requirements no script can prove,
// since they bind somebody else than a TCP, or show nowhere outside it:
// [NotApplicable] says why.
package rfc9293
