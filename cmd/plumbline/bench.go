package main

import "github.com/spf13/cobra"

// newBenchCommand builds `plumbline bench`, which groups the benchmarks.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure",
		Long:  `Bench groups commands that measure. Only link needs root.`,
		Example: `  # Compare congestion control algorithms over an emulated bottleneck.
  plumbline bench cc

  # Compare link endpoints on devices.
  sudo plumbline bench link`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchCCCommand(), newBenchLinkCommand())
	return cmd
}
