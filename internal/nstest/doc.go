// Package nstest gives tests network namespaces of their own, so that they can
// talk to the Linux kernel's stack and to real programs without a packet
// leaving the test.
//
// A namespace has no name: the kernel removes it, and all devices in it, when
// the test ends, in whichever way it ends.
//
// What a test needs and the machine does not offer (a privilege, a program, a
// kernel option) skips the test with the reason. With
// PLUMBLINE_REQUIRE_PRIVILEGED=1 in the environment, as in CI, it fails the test
// instead, so that nothing goes missing unnoticed.
package nstest
