package linux

import (
	"fmt"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RunIsolated runs a command in a network namespace of its own, in which only
// the loopback interface exists and is up. It returns what the command printed,
// on both outputs, and the error of running it. It needs root, as [Check] says.
func RunIsolated(cmd *exec.Cmd) ([]byte, error) {
	type end struct {
		out []byte
		err error
	}
	done := make(chan end)
	go func() {
		// The thread stays in the namespace and ends with the goroutine,
		// which does not unlock it.
		runtime.LockOSThread()
		if err := enterNamespace(); err != nil {
			done <- end{err: err}
			return
		}
		out, err := cmd.CombinedOutput()
		done <- end{out, err}
	}()
	e := <-done
	return e.out, e.err
}

// enterNamespace makes a network namespace for the calling thread.
func enterNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace, which needs root: %w", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	return nl.LinkSetUp(lo)
}
