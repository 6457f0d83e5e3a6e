package doctor

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/internal/nstest"
)

// Root finds the endpoints that the tests of those endpoints use, and nobody is
// told about capabilities.
func TestMachine(t *testing.T) {
	nstest.New(t)
	r := Examine(Machine{})
	if r.Kernel == "" || r.Usable["tap"] != OK || r.Usable["afpacket"] != OK {
		t.Errorf("%+v", r)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread loses its capabilities
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&hdr, &none[0])
		if err == nil {
			if r := Examine(Machine{}); r.Usable["afpacket"] != Missing || r.Usable["xdp"] != Missing || r.Usable["tap"] == OK {
				err = errors.New("without capabilities everything is usable")
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
