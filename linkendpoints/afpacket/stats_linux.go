package afpacket

import "sync/atomic"

// Stats are the counters of an endpoint since it was made. Every frame that
// the kernel put into a ring is counted once on its way in (RxFrames, RxSplit,
// RxErrors or one of the RxDropped fields) and every packet once on its way out.
// They do not count what the stack drops later.
type Stats struct {
	// RxFrames were delivered to the stack, RxBytes with their link headers.
	RxFrames, RxBytes uint64
	// RxGSO of the RxFrames were segments of more than one MSS.
	RxGSO uint64
	// RxCoalesced of the RxFrames were segments that the stack got together with
	// others, as one packet.
	RxCoalesced uint64
	// RxSplit super-segments were cut by the endpoint; their parts are counted
	// in RxFrames.
	RxSplit uint64
	// RxPartialChecksum of the RxFrames came without a checksum from the
	// kernel's own transport.
	RxPartialChecksum uint64
	// RxVerified of the RxFrames had their checksums verified by the endpoint.
	RxVerified uint64

	// RxDroppedKernel frames were dropped by the kernel because a ring was full
	// (PACKET_STATISTICS).
	RxDroppedKernel uint64
	// RxDroppedLarge frames did not fit into a slot, and the receive queue for
	// large frames was full.
	RxDroppedLarge uint64
	// RxDroppedShort frames were too short for a link header.
	RxDroppedShort uint64
	// RxDroppedGiant frames were longer than an IP packet can be.
	RxDroppedGiant uint64
	// RxDroppedHeader frames had a virtio-net header that contradicts them.
	RxDroppedHeader uint64
	// RxDroppedMalformed frames had an IP or transport header that contradicts
	// their length.
	RxDroppedMalformed uint64
	// RxDroppedChecksum frames had a wrong IPv4, TCP or UDP checksum.
	RxDroppedChecksum uint64
	// RxDroppedOtherHost frames were for another unicast Ethernet address.
	RxDroppedOtherHost uint64
	// RxDroppedOtherVLAN frames were tagged for a VLAN that the endpoint is not a
	// member of, or untagged although it is a member of one.
	RxDroppedOtherVLAN uint64
	// RxDroppedOutgoing frames were sent by this machine on the same device.
	// Kernels before 4.20 show them to every packet socket.
	RxDroppedOutgoing uint64
	// RxDroppedDetached of the RxFrames were not delivered after all, because the
	// stack let go of the endpoint.
	RxDroppedDetached uint64
	// RxErrors counts events of the socket, such as a device that went down, and
	// frames that could not be read. The endpoint went on unless the device was
	// gone.
	RxErrors uint64
	// RxRingRebuilt counts how often a ring had to be replaced because the kernel
	// no longer filled it.
	RxRingRebuilt uint64

	// TxFrames were taken by the device, TxBytes with their link headers.
	TxFrames, TxBytes uint64
	// TxGSO of the TxFrames were left to the kernel to segment.
	TxGSO uint64
	// TxPartialChecksum of the TxFrames were left to the kernel to checksum.
	TxPartialChecksum uint64
	// TxWaits counts how often WritePackets waited for room (Block).
	TxWaits uint64

	// TxRefusedFull packets were not sent because the kernel had no room
	// (Refuse).
	TxRefusedFull uint64
	// TxRefusedDown packets were not sent because the device was down.
	TxRefusedDown uint64
	// TxRefusedClosed packets were not sent because the endpoint is closed or
	// its device deleted.
	TxRefusedClosed uint64
	// TxDroppedFull packets were dropped because the kernel had no room (Drop).
	TxDroppedFull uint64
	// TxDroppedInvalid packets were longer than a frame may be, lacked a link
	// header, or were refused by the device for another reason of their own.
	TxDroppedInvalid uint64
}

// RxDropped returns the number of frames that arrived and were not delivered, but
// for RxDroppedDetached.
func (s Stats) RxDropped() uint64 {
	return s.RxDroppedKernel + s.RxDroppedLarge + s.RxDroppedShort + s.RxDroppedGiant + s.RxDroppedHeader +
		s.RxDroppedMalformed + s.RxDroppedChecksum + s.RxDroppedOtherHost + s.RxDroppedOtherVLAN + s.RxDroppedOutgoing
}

// TxRefused returns the number of packets that were not sent and might be
// later.
func (s Stats) TxRefused() uint64 { return s.TxRefusedFull + s.TxRefusedDown + s.TxRefusedClosed }

// TxDropped returns the number of packets that were taken and not sent.
func (s Stats) TxDropped() uint64 { return s.TxDroppedFull + s.TxDroppedInvalid }

// rxCounters are the counters of one receive queue. Only its goroutine adds.
type rxCounters struct {
	frames, bytes, gso, split, partial, verified     atomic.Uint64
	large, short, giant, header, malformed, checksum atomic.Uint64
	otherHost, otherVLAN, outgoing, errors, rebuilt  atomic.Uint64
}

// txCounters are the counters of one transmit queue.
type txCounters struct {
	frames, bytes, gso, partial, waits   atomic.Uint64
	full, down, closed, dropped, invalid atomic.Uint64
}

// Stats returns a snapshot of the counters. It may be called at any time, also
// after Close.
func (e *Endpoint) Stats() Stats {
	var s Stats
	for _, q := range e.rx {
		c := &q.counters
		s.RxFrames += c.frames.Load()
		s.RxBytes += c.bytes.Load()
		s.RxGSO += c.gso.Load()
		s.RxCoalesced += q.merge.Coalesced.Load()
		s.RxDroppedDetached += q.merge.Detached.Load()
		s.RxSplit += c.split.Load()
		s.RxPartialChecksum += c.partial.Load()
		s.RxVerified += c.verified.Load()
		s.RxDroppedKernel += q.kernelStats().drops
		s.RxDroppedLarge += c.large.Load()
		s.RxDroppedShort += c.short.Load()
		s.RxDroppedGiant += c.giant.Load()
		s.RxDroppedHeader += c.header.Load()
		s.RxDroppedMalformed += c.malformed.Load()
		s.RxDroppedChecksum += c.checksum.Load()
		s.RxDroppedOtherHost += c.otherHost.Load()
		s.RxDroppedOtherVLAN += c.otherVLAN.Load()
		s.RxDroppedOutgoing += c.outgoing.Load()
		s.RxErrors += c.errors.Load()
		s.RxRingRebuilt += c.rebuilt.Load()
	}
	for _, q := range e.tx {
		c := &q.counters
		s.TxFrames += c.frames.Load()
		s.TxBytes += c.bytes.Load()
		s.TxGSO += c.gso.Load()
		s.TxPartialChecksum += c.partial.Load()
		s.TxWaits += c.waits.Load()
		s.TxRefusedFull += c.full.Load()
		s.TxRefusedDown += c.down.Load()
		s.TxRefusedClosed += c.closed.Load()
		s.TxDroppedFull += c.dropped.Load()
		s.TxDroppedInvalid += c.invalid.Load()
	}
	return s
}
