// Package report prints the results of conformance runs: a table for the
// terminal with every failure beside it, JSON and JUnit XML for machines, and
// what became of each requirement of RFC 9293.
package report
