//go:build !linux

package linux

import (
	"errors"
	"os/exec"
	"runtime"

	"github.com/plumbline/plumbline/conformance/target"
)

// errNotLinux is the error of everything here on other systems.
var errNotLinux = errors.New("the target linux needs a Linux kernel")

// Check returns an error that says what is missing to open instances, or nil.
func Check() error { return errNotLinux }

// capabilities are those of no TCP.
func capabilities() target.Capabilities { return target.Capabilities{RealTime: true} }

// RunIsolated runs a command in a network namespace of its own.
func RunIsolated(*exec.Cmd) ([]byte, error) { return nil, errNotLinux }

func open(target.Config) (target.Target, error) { return nil, errNotLinux }

// Version returns the name of the kernel below, which is not Linux.
func Version() string { return runtime.GOOS }
