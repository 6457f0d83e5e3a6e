// Package fq is a queueing discipline for netstack that shares a link fairly among flows and can pace them, as Linux's fq does: a stack.QueueingDiscipline, to be given to
// a NIC in place of gVisor's fifo.
//
//	link, err := tap.New(tap.Options{Name: "tap0"})
//	…
//	s.CreateNICWithOptions(1, link, stack.NICOptions{QDisc: fq.New(link, s.Clock(), fq.Options{LinkRate: 12_500_000})})
//
// # Sharing
//
// Packets wait in a queue for each flow, which takes turns by deficit round robin (RFC 8290 §4.1 with flows as queues): each turn is worth Options.Quantum bytes. A flow
// that has just come gets its first turn before those that already wait, so that a sparse flow, as one that asks for a name or types in a terminal, waits for one turn
// at most and not behind a bulk transfer.
//
// # Pacing
//
// Options.FlowRate bounds each flow, Options.LinkRate all of them together. A packet leaves when the one before it has had its time at that rate; up to a
// millisecond that passed unused, since timers are late, is made up for. A connection that needs a
// rate of its own is better paced by its transport (tcpx does, for BBR and SO_MAX_PACING_RATE); this is for transports that cannot, for forwarded packets, and to keep
// the queue here, where it is fair, and not behind the link, where it is not.
//
// # No goroutine
//
// Whoever writes a packet sends what is due, also for others, unless somebody does already; a timer of the stack's clock goes on when nobody writes. So a run in virtual
// time repeats, and an idle discipline costs nothing. What the link has no room for is kept and tried again after a millisecond.
//
// When Options.Limit packets wait, or Options.FlowLimit of one flow, the next one is refused with ErrNoBufferSpace: tcpx keeps such a segment and sends it later, since
// it was not lost but not sent.
package fq
