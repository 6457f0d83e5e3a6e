//go:build amd64 || arm64

package xdp

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stats are the counters of an endpoint since it was made. Every frame that the
// kernel gave to the endpoint is counted once (RxFrames or one of the RxDropped
// fields), and so is every one on its way out. They do not count what the
// stack drops later.
type Stats struct {
	// RxFrames were delivered to the stack, RxBytes with their link headers.
	RxFrames, RxBytes uint64
	// RxCoalesced of the RxFrames were segments that the stack got together with
	// others, as one packet.
	RxCoalesced uint64
	// RxMultiBuffer of the RxFrames took more than one chunk.
	RxMultiBuffer uint64
	// RxPartialChecksum of the RxFrames came without a checksum from a sender on
	// this machine, and got one.
	RxPartialChecksum uint64

	// RxDroppedDescriptor frames had a descriptor that points outside the
	// endpoint's receive memory or to a chunk that the kernel did not have, or
	// no last descriptor.
	RxDroppedDescriptor uint64
	// RxDroppedShort frames were too short for their link header.
	RxDroppedShort uint64
	// RxDroppedGiant frames were longer than an IP packet can be.
	RxDroppedGiant uint64
	// RxDroppedMalformed frames had an IP header that contradicts their length.
	RxDroppedMalformed uint64
	// RxDroppedChecksum frames had a wrong IPv4, TCP or UDP checksum.
	RxDroppedChecksum uint64
	// RxDroppedOtherHost frames were for another unicast Ethernet address.
	RxDroppedOtherHost uint64
	// RxDroppedDetached of the RxFrames were not delivered after all, because the
	// stack let go of the endpoint.
	RxDroppedDetached uint64
	// RxErrors counts what ended a receiver: the device was gone or a ring
	// corrupt.
	RxErrors uint64

	// KernelRxDropped frames were dropped by the kernel, most often because they
	// did not fit a chunk or the receive memory was full.
	KernelRxDropped uint64
	// KernelRxRingFull frames were dropped by the kernel because the receive ring
	// was full.
	KernelRxRingFull uint64
	// KernelRxFillRingEmpty counts how often the kernel had a frame and no chunk
	// to put it into.
	KernelRxFillRingEmpty uint64
	// KernelInvalidDescriptors counts descriptors in the fill and transmit rings
	// that the kernel found invalid.
	KernelInvalidDescriptors uint64

	// TxFrames were put into the transmit ring, TxBytes with their link headers.
	// The kernel may still drop one, which the interface's own counters tell.
	TxFrames, TxBytes uint64
	// TxMultiBuffer of the TxFrames took more than one chunk.
	TxMultiBuffer uint64
	// TxSegmented packets were cut by the endpoint, into several of the TxFrames
	// each.
	TxSegmented uint64
	// TxKicks are the system calls that told the kernel to send.
	TxKicks uint64
	// TxErrors are those of TxKicks that returned an unexpected error.
	TxErrors uint64
	// TxBadCompletions counts chunks that the kernel gave back and did not have.
	TxBadCompletions uint64

	// TxRefusedFull packets were not sent because there was no room.
	TxRefusedFull uint64
	// TxRefusedDown packets were not sent because the device was down.
	TxRefusedDown uint64
	// TxRefusedClosed packets were not sent because the endpoint is closed.
	TxRefusedClosed uint64
	// TxDroppedFull packets were dropped because there was no room, under Drop,
	// or lost their end because they were more segments than a queue has frames.
	TxDroppedFull uint64
	// TxDroppedInvalid packets were longer than the device allows, or lacked a
	// link header.
	TxDroppedInvalid uint64
	// TxBlocked counts how often a writer waited for room (Block).
	TxBlocked uint64
}

// RxDropped returns the number of frames that were received and not delivered
// (but for RxDroppedDetached), including those that the kernel dropped for want of room.
func (s Stats) RxDropped() uint64 {
	return s.RxDroppedDescriptor + s.RxDroppedShort + s.RxDroppedGiant + s.RxDroppedMalformed +
		s.RxDroppedChecksum + s.RxDroppedOtherHost + s.KernelRxDropped + s.KernelRxRingFull
}

// TxRefused returns the number of packets that were not sent and might be
// later.
func (s Stats) TxRefused() uint64 { return s.TxRefusedFull + s.TxRefusedDown + s.TxRefusedClosed }

// rxCounters are the counters of one receive queue. Only its goroutine adds.
type rxCounters struct {
	frames, bytes, multi, partial                                    atomic.Uint64
	descriptor, short, giant, malformed, checksum, otherHost, errors atomic.Uint64
}

// txCounters are the counters of one transmit queue.
type txCounters struct {
	frames, bytes, multi, segmented, kicks, errors, completion atomic.Uint64
	full, down, closed, dropped, invalid, blocked              atomic.Uint64
}

// Stats returns a snapshot of the counters. It may be called at any time, also
// after Close.
func (e *Endpoint) Stats() Stats {
	var s Stats
	for _, q := range e.rx {
		c := &q.counters
		s.RxFrames += c.frames.Load()
		s.RxBytes += c.bytes.Load()
		s.RxCoalesced += q.merge.Coalesced.Load()
		s.RxDroppedDetached += q.merge.Detached.Load()
		s.RxMultiBuffer += c.multi.Load()
		s.RxPartialChecksum += c.partial.Load()
		s.RxDroppedDescriptor += c.descriptor.Load()
		s.RxDroppedShort += c.short.Load()
		s.RxDroppedGiant += c.giant.Load()
		s.RxDroppedMalformed += c.malformed.Load()
		s.RxDroppedChecksum += c.checksum.Load()
		s.RxDroppedOtherHost += c.otherHost.Load()
		s.RxErrors += c.errors.Load()
	}
	for _, q := range e.tx {
		c := &q.counters
		s.TxFrames += c.frames.Load()
		s.TxBytes += c.bytes.Load()
		s.TxMultiBuffer += c.multi.Load()
		s.TxSegmented += c.segmented.Load()
		s.TxKicks += c.kicks.Load()
		s.TxErrors += c.errors.Load()
		s.TxBadCompletions += c.completion.Load()
		s.TxRefusedFull += c.full.Load()
		s.TxRefusedDown += c.down.Load()
		s.TxRefusedClosed += c.closed.Load()
		s.TxDroppedFull += c.dropped.Load()
		s.TxDroppedInvalid += c.invalid.Load()
		s.TxBlocked += c.blocked.Load()
	}
	e.life.Use(e.readKernel)
	k := e.kernel.Load()
	s.KernelRxDropped = k.Rx_dropped
	s.KernelRxRingFull = k.Rx_ring_full
	s.KernelRxFillRingEmpty = k.Rx_fill_ring_empty_descs
	s.KernelInvalidDescriptors = k.Rx_invalid_descs + k.Tx_invalid_descs
	return s
}

// readKernel reads the kernel's counters. The sockets are open.
func (e *Endpoint) readKernel() {
	var sum unix.XDPStatistics
	for _, k := range e.sockets.all {
		var s unix.XDPStatistics
		if _, errno := getsockopt(k.fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), unsafe.Sizeof(s)); errno != 0 {
			return
		}
		sum.Rx_dropped += s.Rx_dropped
		sum.Rx_ring_full += s.Rx_ring_full
		sum.Rx_fill_ring_empty_descs += s.Rx_fill_ring_empty_descs
		sum.Rx_invalid_descs += s.Rx_invalid_descs
		sum.Tx_invalid_descs += s.Tx_invalid_descs
	}
	e.kernel.Store(&sum)
}
