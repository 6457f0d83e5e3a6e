// Package testbed runs congestion control in whole TCP stacks over an emulated bottleneck, in virtual time, and measures what came of it.
//
// A [Scenario] is a path (linkendpoints/emulated) and flows over it. [Run] builds the hosts, lets them run on a clock that jumps from one event to the next, and returns
// a [Result]:
//
//	scenarios, err := testbed.Expand("loss/1%", testbed.Params{Stack: "tcpx", Algorithms: []string{"cubic", "bbr"}, Seed: 1})
//	…
//	sweep := testbed.Sweep{Scenarios: scenarios}
//	results, err := sweep.Run(ctx)
//	…
//	err = testbed.WriteTable(os.Stdout, results)
//
// The scenarios of [Families] are built in. The command `plumbline bench cc` runs all that from a terminal.
//
// # Hosts
//
//	left host ──┐                 forward: data                ┌── right host
//	            ├── bottleneck: rate, queue, loss, delay ... ──┤
//	left host ──┘             reverse: acknowledgments         └── right host
//
// Flows of the same kind of stack and the same access delay share a pair of hosts. Everything above the link is the real thing: IP, TCP, sockets with buffers that
// limit nothing, an application that writes when it may.
//
// # Time and chance
//
// The same scenario with the same seed gives the same packets, to the byte, at any GOMAXPROCS: timers fire one at a time, goroutines of a stack come to rest
// before the next one does, applications act in the order of their flows. Only Result.WallSeconds differs.
//
// # The kernel's TCP
//
// Flows of the stack "linux" are the kernel's: the scenario runs between network namespaces, through the same emulated path but in real time, which takes root and Linux. What
// the machine's load did to such a run is in Detail.RealTime; [CheckRealTime] tells beforehand what is missing. [Repeat], [Medians] and [Compare] set other stacks beside it.
package testbed
