// Package oracle judges TCP by its packets alone: it reads a trace, follows
// every connection in it, and says which segments break a rule of the RFCs.
package oracle
