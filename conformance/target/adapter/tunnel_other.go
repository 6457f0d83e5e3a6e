//go:build !linux

package adapter

import (
	"errors"
	"os/exec"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

var errNotLinux = errors.New("a TUN device needs Linux")

func checkTUN() error { return errNotLinux }

// tunnel exists on Linux only.
type tunnel struct{}

func openTunnel(target.Config) (*tunnel, error) { return nil, errNotLinux }

func (*tunnel) name() string          { return "" }
func (*tunnel) start(*exec.Cmd) error { return errNotLinux }
func (*tunnel) send([]byte) error     { return errNotLinux }
func (*tunnel) receive() [][]byte     { return nil }
func (*tunnel) wait(time.Duration)    {}
func (*tunnel) close()                {}
