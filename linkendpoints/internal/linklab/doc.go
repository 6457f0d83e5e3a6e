// Package linklab is what the tests of link endpoints on a device of this machine
// run on: a veth pair in a network namespace of its own, and the far end of a
// device as a descriptor that reads and writes frames.
package linklab
