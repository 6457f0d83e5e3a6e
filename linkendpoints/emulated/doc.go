// Package emulated is a network in memory: link endpoints on two sides, joined by a path whose two directions have a rate, a delay, a queue and faults of their
// own.
//
//	path, err := emulated.New(emulated.Options{
//		Forward: emulated.Link{Rate: 100 * emulated.Mbps, Delay: 50 * time.Millisecond, Queue: emulated.FIFO{Bytes: 1_250_000}},
//		Reverse: emulated.Link{Delay: 50 * time.Millisecond},
//	})
//	server, client := path.Left(0), path.Right(0) // for stack.CreateNIC
//
// A packet passes through the stages of a [Link] in this order:
//
//	policer → queue discipline → serialisation at the rate or by a trace → loss, CE marks, duplication → delay, jitter, reordering → host
//
// Loss is that of a wire: it happens behind the queue, so that a lost packet has taken up capacity.
//
// # Time and chance
//
// All time comes from a [tcpip.Clock] and all randomness from a seed. On a virtual clock a run repeats to the byte: each stage has a random source of its
// own, so that switching one on does not change what another does. The package starts no goroutine. A direction needs one timer however many packets are under
// way; what happens between two timers (a packet leaves the queue, a controlled queue drops one) is computed when it is next looked at, with
// the instants at which it happened. Serialisation is exact: the remainder of a division is carried over to the next packet.
//
// # Many hosts
//
// Each side may have several hosts, which share the path, as a dumbbell. Packets go to the host that has their destination address. A host's own delay, that
// of its access link, is added behind the path in both directions.
package emulated
