package bench

import (
	"testing"

	"golang.org/x/sys/unix"
)

// cpu measures the process's CPU time around a timed section, which tells more than wall time on a busy machine. It is called when the section starts and returns
// what is called at its end.
func cpu(b *testing.B) func() {
	start := cpuTime()
	return func() { b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op") }
}

func cpuTime() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
