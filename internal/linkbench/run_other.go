//go:build !linux

package linkbench

import (
	"context"
	"errors"
	"fmt"
)

// Names returns the names of all contenders: there are none here.
func Names() []string { return nil }

// Run fails: the devices that it measures need Linux.
func Run(context.Context, Options) (*Result, error) {
	return nil, fmt.Errorf("link endpoints are measured on Linux: %w", errors.ErrUnsupported)
}
