// Package kernel runs flows between the TCPs of two Linux kernels, or rather of one kernel in two network namespaces, over an emulated path in real time.
//
//	left namespace                                            right namespace
//	  socket ── TCP ── TAP ──┐    this process            ┌── TAP ── TCP ── socket
//	                         └── emulated.Path in between ┘
//
// What the kernel sends into a TAP device comes to this process as a frame, which hands the packet in it to the path; what the path delivers goes into the TAP of the other
// side. Nothing is offloaded to the devices, so that the path sees packets of an MTU with all their checksums.
//
// The namespaces have no names and the devices belong to this process: however it ends, nothing is left. No packet leaves them.
//
// # Time
//
// The path runs on the real clock. Its timers have a thread of their own, since those of Go's runtime may be a millisecond late in a process that has little to
// do. What is late all the same is measured (emulated.Stats.Late). The bottleneck keeps its rate even so, since the path computes the instants at which
// packets leave the queue; what is late is only their delivery.
package kernel
