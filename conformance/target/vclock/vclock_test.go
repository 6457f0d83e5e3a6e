package vclock_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// drain steps the clock until nothing is due by limit.
func drain(c *vclock.Clock, limit time.Duration) (steps int) {
	for c.Step(limit) {
		steps++
	}
	return steps
}

func TestTimersFireInOrderOfTimeThenOfArming(t *testing.T) {
	c := vclock.New()
	var got []string
	arm := func(d time.Duration, name string) tcpip.Timer {
		return c.AfterFunc(d, func() { got = append(got, fmt.Sprint(name, "@", c.Elapsed())) })
	}
	arm(2*time.Second, "late")
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		arm(time.Second, name)
	}
	arm(0, "now")
	arm(-time.Second, "past")

	if steps := drain(c, 1500*time.Millisecond); steps != 8 {
		t.Errorf("steps by 1.5s = %d, want 8", steps)
	}
	want := []string{"now@0s", "past@0s", "a@1s", "b@1s", "c@1s", "d@1s", "e@1s", "f@1s"}
	if !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
	if c.Elapsed() != 1500*time.Millisecond {
		t.Errorf("clock at %v after Step said nothing is due, want the limit", c.Elapsed())
	}
	if next, ok := c.Next(); !ok || next != 2*time.Second {
		t.Errorf("Next = %v, %v, want 2s", next, ok)
	}
}

func TestResetQueuesBehindEqualInstants(t *testing.T) {
	c := vclock.New()
	var got []string
	first := c.AfterFunc(time.Second, func() { got = append(got, "first") })
	c.AfterFunc(time.Second, func() { got = append(got, "second") })
	first.Reset(time.Second)
	drain(c, time.Minute)
	if want := []string{"second", "first"}; !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
}

func TestStop(t *testing.T) {
	c := vclock.New()
	fired := 0
	tm := c.AfterFunc(time.Second, func() { fired++ })
	if !tm.Stop() {
		t.Error("Stop of an armed timer = false")
	}
	if tm.Stop() {
		t.Error("second Stop = true")
	}
	drain(c, time.Minute)
	tm.Reset(time.Second)
	drain(c, 2*time.Minute)
	if fired != 1 {
		t.Errorf("fired %d times, want 1: stopped, then reset", fired)
	}
	if tm.Stop() {
		t.Error("Stop of a fired timer = true")
	}
}

func TestTimerMayRearmItself(t *testing.T) {
	c := vclock.New()
	var at []time.Duration
	var tm tcpip.Timer
	tm = c.AfterFunc(time.Second, func() {
		at = append(at, c.Elapsed())
		if len(at) < 3 {
			tm.Reset(time.Second)
		}
	})
	drain(c, time.Hour)
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("fired at %v, want %v", at, want)
	}
}

func TestNeverOverflows(t *testing.T) {
	c := vclock.New()
	drain(c, time.Hour)
	c.AfterFunc(math.MaxInt64, func() { t.Error("a timer parked for ever fired") })
	drain(c, 1000*time.Hour)
	if c.Armed() != 1 {
		t.Errorf("Armed = %d, want the parked timer", c.Armed())
	}
	c.Step(time.Second)
	if c.Elapsed() != 1000*time.Hour {
		t.Errorf("a limit in the past moved the clock to %v", c.Elapsed())
	}
}

func TestMonotonicIsNeverZero(t *testing.T) {
	c := vclock.New()
	if c.NowMonotonic() == (tcpip.MonotonicTime{}) {
		t.Error("NowMonotonic of a new clock is the zero time")
	}
	before, wall := c.NowMonotonic(), c.Now()
	c.Step(time.Second)
	if d := c.NowMonotonic().Sub(before); d != time.Second {
		t.Errorf("monotonic moved by %v, want 1s", d)
	}
	if d := c.Now().Sub(wall); d != time.Second {
		t.Errorf("wall moved by %v, want 1s", d)
	}
}
