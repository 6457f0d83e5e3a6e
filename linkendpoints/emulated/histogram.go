package emulated

import (
	"math/bits"
	"time"
)

// A Histogram counts durations in buckets that are no wider than 1/32 of their value. The zero value is empty. It is a value: copy it to keep it, and Sub the copy
// from a later one to have what came between. It is not safe for concurrent use.
type Histogram struct {
	buckets [histogramBuckets]uint32
	count   uint64
}

const (
	histogramSub     = 32 // buckets an octave
	histogramSubBits = 5
	histogramOctaves = 43 // up to two and a half hours; what is longer counts as that
	histogramBuckets = histogramOctaves * histogramSub
)

// Add counts d; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(d)]++
	h.count++
}

func bucketOf(d time.Duration) int {
	if d < histogramSub {
		return int(max(d, 0))
	}
	octave := bits.Len64(uint64(d)) - histogramSubBits // at least 1
	i := octave*histogramSub + int(uint64(d)>>(octave-1)) - histogramSub
	return min(i, histogramBuckets-1)
}

// lowest returns the least duration that falls into a bucket.
func lowest(bucket int) time.Duration {
	if bucket < histogramSub {
		return time.Duration(bucket)
	}
	octave := bucket / histogramSub
	return time.Duration(bucket%histogramSub+histogramSub) << (octave - 1)
}

// Count returns how many durations were counted.
func (h *Histogram) Count() uint64 { return h.count }

// Quantile returns a value that the share q of the durations does not exceed, to within a bucket; 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := uint64(q * float64(h.count))
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += uint64(n); seen > rank || seen == h.count {
			return lowest(i)
		}
	}
	return lowest(histogramBuckets - 1)
}

// Mean returns the mean, to within a bucket; 0 if there are none.
func (h *Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	var sum float64
	for i, n := range h.buckets {
		sum += float64(lowest(i)) * float64(n)
	}
	return time.Duration(sum / float64(h.count))
}

// Sub takes away what was counted in earlier, a copy of h of some time ago.
func (h *Histogram) Sub(earlier *Histogram) {
	for i := range h.buckets {
		h.buckets[i] -= earlier.buckets[i]
	}
	h.count -= earlier.count
}
