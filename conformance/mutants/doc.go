// Mutants measures the conformance suite, the oracle and the fuzzer by faults inside tcpx.
//
//	go run ./conformance/mutants              # every mutant: what catches it, or that it survives
//	go run ./conformance/mutants -run '^rto'  # some of them
//	go run ./conformance/mutants -list        # what there is
//
// A mutant is one edit of a source file, and the rule of an RFC that it breaks. Nothing of it is in the sources: the edited
// file goes into a temporary directory, and `go build -overlay` builds the judge, which is this same program, from it. So a mutant costs a normal build nothing.
//
// The judge runs the suite of conformance scripts over IPv4, with the oracle watching, and random cases of package fuzz, all on the mutated tcpx in virtual time.
// A mutant is caught if a script fails that does not fail on the original, if the oracle finds a rule of its hard tier broken, if the fuzzer fails, or if the judge itself
// panics or does not end. Rules of the oracle's soft tier that are broken more often than on the original are reported and do not count.
//
// The exit status is 1 if a mutant survives that the table does not say cannot be seen.
package main
