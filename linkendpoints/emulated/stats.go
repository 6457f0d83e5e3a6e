package emulated

import "time"

// DropCause says why a packet was dropped.
type DropCause uint8

const (
	// DropOverflow is a full queue.
	DropOverflow DropCause = iota
	// DropAQM is a decision of CoDel, FQ-CoDel, PIE or DualPI2.
	DropAQM
	// DropPolicer is a packet that exceeded the token bucket.
	DropPolicer
	// DropLoss is a loss on the wire.
	DropLoss
	// DropNobody is a packet for which there is no host, or whose host is closed or not attached.
	DropNobody

	// NumDropCauses is the number of causes.
	NumDropCauses
)

// String names the cause in a word.
func (c DropCause) String() string {
	return [...]string{"overflow", "aqm", "policer", "loss", "nobody"}[c]
}

// Count is a number of packets with their size in bytes.
type Count struct {
	Packets, Bytes uint64
}

func (c *Count) add(size int32) {
	c.Packets++
	c.Bytes += uint64(size)
}

// Stats are the counters of one direction of a path.
type Stats struct {
	// Sent is what the hosts of the near side wrote, Delivered what was handed to those of the far side. Both count sizes with Link.Overhead.
	Sent, Delivered Count
	// Dropped is by cause.
	Dropped [NumDropCauses]Count
	// Marked is how many packets were marked as CE, Duplicated and Reordered how many were delivered twice and late by Link.Duplicate and Link.Reorder.
	Marked, Duplicated, Reordered uint64
	// Queue is what waits now, without the packet that is being serialised, and MaxQueue the most bytes that have waited.
	Queue    Count
	MaxQueue uint64
	// Sojourn is how long packets waited before they were serialised.
	Sojourn Histogram
	// Late is how long after its time a packet was handed to its host: not at all in virtual time, on the real clock as late as its timers and the hosts are slow.
	Late Histogram
	// Series are the samples at each Link.SampleInterval, oldest first. The slice is shared: it must not be changed.
	Series []Sample
}

// Drops returns the number of packets dropped for all causes.
func (s *Stats) Drops() uint64 {
	n := uint64(0)
	for _, d := range s.Dropped {
		n += d.Packets
	}
	return n
}

// Sample is the state of a direction at one instant.
type Sample struct {
	// At is the time since the path was made.
	At time.Duration
	// QueueBytes is what waits, and Delay how long the packet that was served last had waited, 0 if nothing waits.
	QueueBytes int
	Delay      time.Duration
	// Sent is the total of bytes that have left the queue, Dropped the total of packets dropped.
	Sent, Dropped uint64
}
