// Package linkbench measures link endpoints on real devices: those of this
// module, gVisor's beside them, and the kernel's own stack.
//
// Every contender has a veth pair or a TAP device of its own in a network
// namespace of its own, and stays open from the first round to the last. A round
// measures every quantity on every contender, one after the other, beginning
// with another contender each time, so that whatever else the machine does hits
// all of them. Reported are medians over the rounds.
package linkbench
