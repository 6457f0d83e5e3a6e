//go:build !linux

package kernel

import (
	"context"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Lab does not exist here.
type Lab struct{}

// Check returns ErrUnsupported.
func Check(...string) error { return ErrUnsupported }

// New returns ErrUnsupported.
func New(Config) (*Lab, error) { return nil, ErrUnsupported }

func loaded() []string { return nil }

// Elapsed is never called, as there is no Lab; nor are the others.
func (*Lab) Elapsed() time.Duration { return 0 }

// RunUntil returns ErrUnsupported.
func (*Lab) RunUntil(context.Context, time.Duration) error { return ErrUnsupported }

// Forward returns nothing.
func (*Lab) Forward() emulated.Stats { return emulated.Stats{} }

// State returns nothing.
func (*Lab) State(int) State { return State{} }

// Reverse returns nothing.
func (*Lab) Reverse() emulated.Stats { return emulated.Stats{} }

// Missed returns nothing.
func (*Lab) Missed() (uint64, error) { return 0, ErrUnsupported }

// Close does nothing.
func (*Lab) Close() {}
