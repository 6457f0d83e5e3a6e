//go:build !linux

package doctor

import (
	"errors"
	"fmt"
	"runtime"
)

// Machine is the Probe of a machine that has none of what endpoints need.
type Machine struct{}

var errOther = fmt.Errorf("not on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Release implements Probe.
func (Machine) Release() string { return runtime.GOOS }

// Has implements Probe.
func (Machine) Has(Capability) bool { return false }

// TUNFeatures implements Probe.
func (Machine) TUNFeatures() (uint32, error) { return 0, errOther }

// PacketSocket implements Probe.
func (Machine) PacketSocket() error { return errOther }

// PacketOption implements Probe.
func (Machine) PacketOption(string) error { return errOther }

// XDPSocket implements Probe.
func (Machine) XDPSocket() error { return errOther }

// XDPProgram implements Probe.
func (Machine) XDPProgram() error { return errOther }

// LockedMemory implements Probe.
func (Machine) LockedMemory() uint64 { return 0 }

// UserNamespaces implements Probe.
func (Machine) UserNamespaces() (int, error) { return 0, errOther }
