//go:build !linux

package main

import (
	"errors"
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// device is what openLink would open.
type device struct{ stack.LinkEndpoint }

// openLink fails: there are no devices that a netstack could have here.
func openLink(spec linkSpec, _ func(error)) (*device, error) {
	return nil, fmt.Errorf("proxy: %s devices need Linux: %w", spec.kind, errors.ErrUnsupported)
}

func (*device) name() string     { return "" }
func (*device) report(io.Writer) {}
