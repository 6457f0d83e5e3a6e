package main

import "github.com/spf13/cobra"

// newBenchCommand builds `plumbline bench`, which groups the benchmarks.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure",
		Long:  `Bench groups commands that measure. None needs root.`,
		Example: `  # Compare congestion control algorithms over an emulated bottleneck.
  plumbline bench cc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchCCCommand())
	return cmd
}
