//go:build !linux || !(amd64 || arm64)

package xdp

import (
	"errors"
	"fmt"
	"os"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// errUnsupported is what New and Prepare return here.
var errUnsupported = fmt.Errorf("xdp: AF_XDP needs Linux on amd64 or arm64: %w", errors.ErrUnsupported)

// Endpoint is what New would return on Linux.
type Endpoint struct{ stack.LinkEndpoint }

// Prepared is what Prepare would return on Linux.
type Prepared struct {
	Device Device
	Files  []*os.File
}

// Close does nothing.
func (*Prepared) Close() {}

// New fails with an error that wraps errors.ErrUnsupported.
func New(Options) (*Endpoint, error) { return nil, errUnsupported }

// Prepare fails with an error that wraps errors.ErrUnsupported.
func Prepare(Options) (*Prepared, error) { return nil, errUnsupported }
