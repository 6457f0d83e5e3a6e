// Package gro puts received TCP segments together (generic receive offload), for
// link endpoints whose device does not: a stack then handles one packet where
// there were dozens.
//
// Segments are put together only if a sender that cuts a larger one (RFC 9293
// knows no borders between segments) would have made them: they follow each other,
// are of one size but for the last, and have the same headers, options and time
// stamps included. Whatever differs, as a mark of congestion does (RFC 3168), ends a
// group, so that nothing is lost that a transport would want to know.
package gro
