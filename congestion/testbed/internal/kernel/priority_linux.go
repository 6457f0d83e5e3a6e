package kernel

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgent makes all threads of this process real-time ones of the lowest priority, if the kernel lets it: a lab needs little of the processor, but that at once, and in
// Go a thread that waits for the processor may keep another from running goroutines. Threads that are made later inherit it. The function that it returns undoes it.
func urgent() (undo func()) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return func() {}
	}
	setPolicy(&unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1})
	return func() { setPolicy(before) }
}

// setPolicy sets the scheduling of all threads that there are.
func setPolicy(attr *unix.SchedAttr) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			unix.SchedSetAttr(tid, attr, 0) // Refused without CAP_SYS_NICE: then the lab is late at times, and says so.
		}
	}
}
