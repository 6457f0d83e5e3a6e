package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline/plumbline/internal/doctor"
)

// newDoctorCommand builds `plumbline doctor`.
func newDoctorCommand() *cobra.Command { return newDoctorCommandFor(doctor.Machine{}) }

// newDoctorCommandFor builds the command for a machine.
func newDoctorCommandFor(machine doctor.Probe) *cobra.Command {
	var asJSON bool
	var require []string
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Say which link endpoints work here, and what is missing",
		Long: `Doctor finds out which link endpoints and offloads this machine and this user
can use, and says what is missing: a capability, a device node, a kernel option.
It opens devices and sockets and closes them again; it changes nothing.

The exit status is 1 if an endpoint that --require names is not usable.`,
		Example: `  # What works for me?
  plumbline doctor

  # Stop a script early.
  plumbline doctor --require tap,afpacket`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range require {
				if !slices.Contains(doctor.Endpoints, name) {
					return usageErrorf("doctor: --require %q: there are %s", name, strings.Join(doctor.Endpoints, ", "))
				}
			}
			r := doctor.Examine(machine)
			write := r.WriteTable
			if asJSON {
				write = r.WriteJSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			for _, name := range require {
				if r.Usable[name] == doctor.Missing {
					return &checkFailed{Summary: fmt.Sprintf("doctor: %s is not usable", name)}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringSliceVar(&require, "require", nil, "endpoints that have to be usable: "+strings.Join(doctor.Endpoints, ", "))
	return cmd
}
