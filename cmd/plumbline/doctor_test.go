package main

import (
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/plumbline/plumbline/internal/doctor"
)

// bare is a machine without anything.
type bare struct{}

func (bare) Release() string              { return "6.1" }
func (bare) Has(doctor.Capability) bool   { return false }
func (bare) TUNFeatures() (uint32, error) { return 0, syscall.ENOENT }
func (bare) PacketSocket() error          { return syscall.EPERM }
func (bare) PacketOption(string) error    { return syscall.EPERM }
func (bare) XDPSocket() error             { return syscall.EAFNOSUPPORT }
func (bare) XDPProgram() error            { return syscall.EPERM }
func (bare) LockedMemory() uint64         { return 0 }
func (bare) UserNamespaces() (int, error) { return 0, nil }

// The exit status tells a script what the report tells people.
func TestDoctor(t *testing.T) {
	var out strings.Builder
	cmd := newDoctorCommandFor(bare{})
	cmd.SetOut(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"--json"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	var r doctor.Report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.Usable["xdp"] != doctor.Missing {
		t.Errorf("%v in %s", err, out.String())
	}
	cmd.SetArgs([]string{"--json=false", "--require", "tap,xdp"})
	var failed *checkFailed
	if err := cmd.Execute(); !errors.As(err, &failed) || !strings.Contains(err.Error(), "tap is not usable") {
		t.Errorf("--require: %v", err)
	}
	var stdout, stderr strings.Builder
	if status := run(t.Context(), []string{"doctor", "--require", "dpdk"}, &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), `--require "dpdk"`) {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}
