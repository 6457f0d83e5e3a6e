package tap

import "sync/atomic"

// Stats are the counters of an endpoint since it was made. Every frame is
// counted once on its way in (RxFrames or one of the RxDropped fields) and
// every packet once on its way out. They do not count what the stack drops
// later.
type Stats struct {
	// RxFrames were delivered to the stack, RxBytes with their link headers.
	RxFrames, RxBytes uint64
	// RxGSO of the RxFrames were segments of more than one MSS.
	RxGSO uint64
	// RxCoalesced of the RxFrames were segments that the stack got together with
	// others, as one packet.
	RxCoalesced uint64
	// RxPartialChecksum of the RxFrames came without a checksum from the
	// kernel's own transport.
	RxPartialChecksum uint64
	// RxVerified of the RxFrames had their checksums verified by the endpoint.
	RxVerified uint64

	// RxDroppedShort frames were too short for their virtio-net or link header.
	RxDroppedShort uint64
	// RxDroppedGiant frames were longer than any that a device may send.
	RxDroppedGiant uint64
	// RxDroppedHeader frames had a virtio-net header that contradicts them.
	RxDroppedHeader uint64
	// RxDroppedMalformed frames had an IP header that contradicts their length.
	RxDroppedMalformed uint64
	// RxDroppedChecksum frames had a wrong IPv4, TCP or UDP checksum.
	RxDroppedChecksum uint64
	// RxDroppedOtherHost frames were for another unicast Ethernet address.
	RxDroppedOtherHost uint64
	// RxDroppedDetached frames arrived as the stack let go of the endpoint. Those
	// that waited to be put together with others are RxFrames as well.
	RxDroppedDetached uint64
	// RxErrors counts reads that failed. The endpoint went on unless the device
	// was gone.
	RxErrors uint64

	// TxFrames were taken by the device, TxBytes with their link headers.
	TxFrames, TxBytes uint64
	// TxGSO of the TxFrames were left to the kernel to segment.
	TxGSO uint64
	// TxPartialChecksum of the TxFrames were left to the kernel to checksum.
	TxPartialChecksum uint64

	// TxRefusedFull packets were not sent because the device had no room.
	TxRefusedFull uint64
	// TxRefusedDown packets were not sent because the device was down.
	TxRefusedDown uint64
	// TxRefusedClosed packets were not sent because the endpoint is closed or
	// its device deleted.
	TxRefusedClosed uint64
	// TxDroppedInvalid packets were longer than a frame may be, lacked a link
	// header, or were refused by the device for another reason of their own.
	TxDroppedInvalid uint64
}

// RxDropped returns the number of frames that were received and not delivered.
func (s Stats) RxDropped() uint64 {
	return s.RxDroppedShort + s.RxDroppedGiant + s.RxDroppedHeader + s.RxDroppedMalformed +
		s.RxDroppedChecksum + s.RxDroppedOtherHost + s.RxDroppedDetached
}

// TxRefused returns the number of packets that were not sent and might be
// later.
func (s Stats) TxRefused() uint64 { return s.TxRefusedFull + s.TxRefusedDown + s.TxRefusedClosed }

// rxCounters are the counters of one receive queue. Only its goroutine adds.
type rxCounters struct {
	frames, bytes, gso, partial, verified                                  atomic.Uint64
	short, giant, header, malformed, checksum, otherHost, detached, errors atomic.Uint64
}

// txCounters are the counters of one transmit queue.
type txCounters struct {
	frames, bytes, gso, partial atomic.Uint64
	full, down, closed, invalid atomic.Uint64
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
		s.RxPartialChecksum += c.partial.Load()
		s.RxVerified += c.verified.Load()
		s.RxDroppedShort += c.short.Load()
		s.RxDroppedGiant += c.giant.Load()
		s.RxDroppedHeader += c.header.Load()
		s.RxDroppedMalformed += c.malformed.Load()
		s.RxDroppedChecksum += c.checksum.Load()
		s.RxDroppedOtherHost += c.otherHost.Load()
		s.RxDroppedDetached += c.detached.Load() + q.merge.Detached.Load()
		s.RxErrors += c.errors.Load()
	}
	for _, q := range e.tx {
		c := &q.counters
		s.TxFrames += c.frames.Load()
		s.TxBytes += c.bytes.Load()
		s.TxGSO += c.gso.Load()
		s.TxPartialChecksum += c.partial.Load()
		s.TxRefusedFull += c.full.Load()
		s.TxRefusedDown += c.down.Load()
		s.TxRefusedClosed += c.closed.Load()
		s.TxDroppedInvalid += c.invalid.Load()
	}
	return s
}
