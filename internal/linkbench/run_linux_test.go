package linkbench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/plumbline/plumbline/internal/nstest"
)

// Every quantity is measured on everything that can be closed again.
func TestRun(t *testing.T) {
	nstest.New(t) // or the test is skipped
	steps := 0
	r, err := Run(t.Context(), Options{
		Contenders: []string{"kernel", "afpacket", "tap"}, Rounds: 2, Time: 40 * time.Millisecond,
		Progress: func(done, total int) { steps = total - done },
	})
	if err != nil {
		t.Fatal(err)
	}
	if steps != 0 {
		t.Errorf("%d measurements were announced and not made", steps)
	}
	for _, c := range r.Contenders {
		if c.Error != "" {
			t.Errorf("%s: %s", c.Name, c.Error)
		}
		for _, q := range r.Quantities {
			v := c.Values[q.Name]
			if onEndpoints := q.Unit == "Gbit/s" || q.Name == "rtt"; c.Name == "kernel" && !onEndpoints {
				continue
			}
			if v == nil || len(v.All) != 2 || v.Min > v.Median || v.Median > v.Max {
				t.Errorf("%s, %s: %+v", c.Name, q.Name, v)
			}
			if mayBeZero := q.Name == "rx-loss" || q.Name == "rx-allocs"; v != nil && v.Max <= 0 && !mayBeZero {
				t.Errorf("%s, %s: %+v", c.Name, q.Name, v)
			}
		}
	}
}

// A run that is called off says why.
func TestRunCancelled(t *testing.T) {
	nstest.New(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if _, err := Run(ctx, Options{Contenders: []string{"kernel"}, Time: time.Millisecond}); !errors.Is(err, reason) {
		t.Errorf("Run = %v", err)
	}
}
