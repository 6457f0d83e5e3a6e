// Package report tells people and programs what came of conformance runs: a
// table for the terminal with every failure beside it, one page of HTML with
// ladder diagrams, JSON, JUnit XML and TAP; what became of each requirement of
// RFC 9293 and of other RFCs; and a [Snapshot] of all verdicts, to be compared
// with the one before.
package report
