package capture

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// record is a packet on its way to the file, or a request to flush.
type record struct {
	at      time.Time
	inbound bool
	length  int          // of the whole packet
	data    *buffer.View // as much of it as is recorded; nil if empty
	dropped uint64       // packets left out before this one
	flushed chan<- struct{}
}

// queue holds records between the link and the file.
type queue struct {
	limit    int // bytes
	lossless bool
	clock    tcpip.Clock

	mu       sync.Mutex
	changed  sync.Cond // on mu: records were added or taken, or closed was set
	records  []record  // guarded by mu
	bytes    int       // in records; guarded by mu
	dropped  uint64    // in total; guarded by mu
	reported uint64    // of dropped, in a record; guarded by mu
	closed   bool      // guarded by mu
}

func newQueue(limit int, lossless bool, clock tcpip.Clock) *queue {
	q := &queue{limit: limit, lossless: lossless, clock: clock}
	q.changed.L = &q.mu
	return q
}

// put adds r, with the present time, and takes ownership of its data. It
// reports false if r was left out.
func (q *queue) put(r record) bool {
	size := 0
	if r.data != nil {
		size = r.data.Size()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.lossless && !q.closed && q.full(size) {
		q.changed.Wait()
	}
	if q.closed || (r.flushed == nil && q.full(size)) {
		if r.flushed == nil {
			q.dropped++
		}
		if r.data != nil {
			r.data.Release()
		}
		return false
	}
	if r.flushed == nil {
		// Read with the lock held, so that times never go back in the file.
		r.at = q.clock.Now()
		r.dropped = q.dropped - q.reported
		q.reported = q.dropped
	}
	q.records = append(q.records, r)
	q.bytes += size
	q.changed.Broadcast()
	return true
}

// full says whether size more bytes are too many. A packet larger than the
// limit fits an empty queue.
func (q *queue) full(size int) bool { return len(q.records) > 0 && q.bytes+size > q.limit }

// take waits for records and returns all of them, or false once the queue is
// closed and empty. spare is where it puts the next ones.
func (q *queue) take(spare []record) ([]record, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.records) == 0 && !q.closed {
		q.changed.Wait()
	}
	taken := q.records
	q.records, q.bytes = spare[:0], 0
	q.changed.Broadcast()
	return taken, len(taken) > 0
}

// empty says whether take would wait.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records) == 0
}

// close makes put refuse and take return what is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}

// drops returns the number of packets left out so far.
func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// isClosed says whether close was called.
func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}
