package kernel

import (
	"testing"
	"time"
)

// Timers fire in the order of their times, not before them, and not after they were stopped; each time again after Reset.
func TestClock(t *testing.T) {
	c, err := newClock()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	fired := make(chan string, 10)
	early := make(chan time.Duration, 10)
	timer := func(name string, d time.Duration) *timer {
		due := c.elapsed() + d
		return c.AfterFunc(d, func() {
			if now := c.elapsed(); now < due {
				early <- due - now
			}
			fired <- name
		}).(*timer)
	}
	third := timer("third", 60*time.Millisecond)
	timer("second", 40*time.Millisecond)
	stopped := timer("stopped", 30*time.Millisecond)
	timer("first", time.Millisecond) // wakes the thread from a longer sleep
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not tell whether the timer was running")
	}
	for _, want := range []string{"first", "second", "third"} {
		if got := <-fired; got != want {
			t.Errorf("%s fires in place of %s", got, want)
		}
	}
	third.Reset(-time.Second)
	if got := <-fired; got != "third" {
		t.Errorf("%s fires after Reset", got)
	}
	select {
	case d := <-early:
		t.Errorf("early by %v", d)
	default:
	}
	third.Reset(time.Hour)
	if now, then := c.NowMonotonic(), c.NowMonotonic(); then.Before(now) || !third.Stop() {
		t.Error("the clock runs backwards, or a timer is lost")
	}
}
