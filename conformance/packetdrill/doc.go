// Package packetdrill compares the verdicts of this project's runner with those
// of packetdrill itself, on the same scripts, the same kernel and the same
// machine.
//
// The scripts are those of a checkout that lies outside this repository, and so
// is the program, whose path is given when the comparison runs:
//
//	plumbline conform --corpus packetdrill/gtests/net/tcp --target linux \
//	    --packetdrill packetdrill/gtests/net/packetdrill/packetdrill
//
// Both take turns, script by script, each run in a network namespace of its own.
// Packetdrill is started as its own tool run_all.py starts it: with the same
// addresses, the same symbols, and the commands of a script run in a shell.
//
// # What agreement means
//
// A script passes if one of its runs passes, and fails if none does. Both sides
// agree if the verdicts are the same. If they are not, both run again, since in
// real time a busy machine makes either fail: up to [Comparer].Rounds times. A
// script on which the sides differ in the end is a difference, unless one of them
// failed in nothing but time in every run; that is named as a matter of timing,
// and left out of the rate.
package packetdrill
