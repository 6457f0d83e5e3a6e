// Package linux is a conformance target (package target) for the TCP of the
// Linux kernel that the program runs on.
//
// Each instance is a host in a network namespace of its own, which vanishes
// with it. It is a target.Host as well: commands can be run in the namespace. Its
// only interface beside loopback is a TUN device whose other end the target holds,
// without offloads, so that packets are seen as a wire would see them. System
// calls are made on real sockets. Calls that block are made on nonblocking
// descriptors and tried again when poll(2) says so: nothing here sleeps in a
// call.
//
// Time is real. Packets have the time at which they were read from the device,
// which is some tens of microseconds after they left; a busy machine adds to
// that. So a run wants a tolerance (runner.Options.Tolerance), runs alone, and a
// failure in timing alone is tried again. The threads involved ask for real-time
// priority, and do without it where that is not allowed. What sends data in a SYN
// and blocks (TCP Fast Open) really blocks, since the kernel's answers depend on
// it; that is the one exception to the rule above, beside close with SO_LINGER.
//
// Settings are sysctls of the namespace. Beyond the kernel's defaults the target
// sets what makes runs comparable: CUBIC, no limit to the rate of ACKs for
// invalid segments, no metrics kept.
//
// Root, or CAP_NET_ADMIN and CAP_SYS_ADMIN, is needed: [Check] says what is
// missing.
package linux
