package vclock

import (
	"container/heap"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// start is the monotonic reading of a new clock. It is not zero because
// netstack takes the zero [tcpip.MonotonicTime] for "never".
const start = time.Hour

// epoch is the wall-clock reading of a new clock. Any constant would do: what
// matters is that it is the same in every run.
var epoch = time.Unix(946684800, 0).UTC()

// Clock is a [tcpip.Clock] in virtual time. It is safe for concurrent use; one
// goroutine at a time should move it. Use [New].
type Clock struct {
	// now is the virtual time since New, in nanoseconds. A stack asks for it several times a packet, so that reading it takes no lock; mu guards its changes.
	now atomic.Int64

	mu sync.Mutex
	// seq numbers the armings of timers, for first-come order among equals.
	seq    uint64
	timers timerHeap
}

var _ tcpip.Clock = (*Clock)(nil)

// New returns a clock at virtual time zero without timers.
func New() *Clock { return &Clock{} }

// Elapsed returns the virtual time that has passed since New.
func (c *Clock) Elapsed() time.Duration { return time.Duration(c.now.Load()) }

// advance moves the clock to t, never backwards. The caller holds c.mu.
func (c *Clock) advance(t time.Duration) { c.now.Store(int64(max(c.Elapsed(), t))) }

// Now implements [tcpip.Clock]. A new clock reads midnight of 1 January 2000.
func (c *Clock) Now() time.Time { return epoch.Add(c.Elapsed()) }

// NowMonotonic implements [tcpip.Clock].
func (c *Clock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(start + c.Elapsed())
}

// AfterFunc implements [tcpip.Clock]. Unlike the real clock's, f runs on the
// goroutine that moves the clock. A d of zero or less fires at the next Step.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, f: f, index: -1}
	t.Reset(d)
	return t
}

// Next returns the virtual time at which the next timer falls due, never
// before Elapsed. It reports false if no timer is armed.
func (c *Clock) Next() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return 0, false
	}
	return max(c.timers[0].due, c.Elapsed()), true
}

// Step moves the clock to the next timer due at or before limit and runs it,
// and reports true; the caller lets the system settle and calls again. If no
// timer is due by then, Step moves the clock to limit and reports false. A
// limit in the past does not move the clock backwards.
func (c *Clock) Step(limit time.Duration) bool {
	c.mu.Lock()
	if len(c.timers) == 0 || c.timers[0].due > limit {
		c.advance(limit)
		c.mu.Unlock()
		return false
	}
	t := heap.Pop(&c.timers).(*timer)
	c.advance(t.due)
	c.mu.Unlock()

	t.f()
	return true
}

// Armed returns the number of timers that are waiting to fire.
func (c *Clock) Armed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

// timer is one timer of a Clock. Its fields after f are guarded by clock.mu.
type timer struct {
	clock *Clock
	f     func()
	due   time.Duration
	seq   uint64
	// index is the timer's place in the heap, or -1 if it is not armed.
	index int
}

// Stop implements [tcpip.Timer].
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
	return true
}

// Reset implements [tcpip.Timer]. A timer that is reset queues behind those
// already due at the same instant, as if it were new.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Elapsed()
	due := now + max(d, 0)
	if due < now {
		due = math.MaxInt64 // "never": stacks park timers at the largest duration.
	}
	t.due, t.seq = due, c.seq
	c.seq++
	if t.index < 0 {
		heap.Push(&c.timers, t)
		return
	}
	heap.Fix(&c.timers, t.index)
}

// timerHeap orders timers by due time, then by arming. It implements
// [heap.Interface].
type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
