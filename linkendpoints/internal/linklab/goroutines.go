package linklab

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// NoReceivers fails t if a goroutine of an endpoint stays that was closed and waited
// for: a goroutine that has nothing more to do still has to be scheduled to end.
func NoReceivers(t testing.TB) {
	t.Helper()
	b := make([]byte, 1<<20)
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		all := string(b[:runtime.Stack(b, true)])
		if !strings.Contains(all, "linkendpoints/internal/lifecycle.") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines of an endpoint are left:\n%s", all)
		}
	}
}
