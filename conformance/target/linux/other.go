//go:build !linux

package linux

import (
	"errors"

	"github.com/plumbline/plumbline/conformance/target"
)

// errNotLinux is the error of everything here on other systems.
var errNotLinux = errors.New("the target linux needs a Linux kernel")

// Check returns an error that says what is missing to open instances, or nil.
func Check() error { return errNotLinux }

func open(target.Config) (target.Target, error) { return nil, errNotLinux }
