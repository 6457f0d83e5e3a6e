// Command plumbline runs what the Plumbline packages offer: the conformance
// suite, a checker of packet captures, a TCP proxy on a netstack of its own, and
// the congestion testbed.
//
// The exit status is 0 when all is well, 1 when a check failed or a command
// could not finish, and 2 when it was called wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit statuses of the command. Scripts rely on them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is an error in how the command was called: a flag, an argument or
// a file named by one of them. It ends the command with status 2 and one line
// on the standard error output.
type usageError struct {
	err error
}

// usageErrorf makes a usageError; the format may use %w.
func usageErrorf(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// Error implements error.
func (e *usageError) Error() string { return e.err.Error() }

// Unwrap gives errors.Is and errors.As the cause.
func (e *usageError) Unwrap() error { return e.err }

// checkFailed says that the command did its work and the verdict is negative.
// It ends the command with status 1. Summary, if not empty, is printed as one
// line on the standard error output; a command whose report already says
// everything leaves it empty.
type checkFailed struct {
	Summary string
}

// Error implements error.
func (e *checkFailed) Error() string {
	if e.Summary == "" {
		return "check failed"
	}
	return e.Summary
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line args and returns the exit status. It touches
// no global state, so that tests call it as a function. Commands that last
// stop when ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	// What cobra refuses before a command's own code starts (flags, their
	// values, the number of arguments, unknown commands) is wrong usage.
	started := false
	markStart(root, &started)

	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	status := exitFailed
	var usage *usageError
	if !started || errors.As(err, &usage) {
		status = exitUsage
	}
	var failed *checkFailed
	if errors.As(err, &failed) && failed.Summary == "" {
		return status
	}
	fmt.Fprintf(stderr, "plumbline: %v\n", err)
	return status
}

// markStart makes every command below c set *started when its RunE is called.
func markStart(c *cobra.Command, started *bool) {
	if body := c.RunE; body != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*started = true
			return body(c, args)
		}
	}
	for _, sub := range c.Commands() {
		markStart(sub, started)
	}
}

// newRootCommand builds the command tree. Each subcommand has a file of its
// own and one line here. A subcommand
//
//   - sets RunE, never Run, and Args (cobra.NoArgs and the like);
//   - writes to cmd.OutOrStdout and cmd.ErrOrStderr, and stops when
//     cmd.Context ends;
//   - returns usageErrorf for what the caller did wrong, *checkFailed for a
//     negative verdict, any other error for what it could not do.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "plumbline",
		Short: "Plumbing for gVisor's netstack, and the plumb line to check it by",
		Long: `Plumbline is a TCP transport, link endpoints and extensions for gVisor's
netstack, and a conformance suite that judges any TCP packet by packet.

Exit status: 0 all well, 1 a check failed or the command could not finish,
2 wrong usage.`,
		Example: `  # Which versions are these?
  plumbline version

  # Complete commands and flags in the running bash.
  source <(plumbline completion bash)`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newBenchCommand(),
		newCheckCommand(),
		newConformCommand(),
		newDoctorCommand(),
		newFuzzCommand(),
		newProxyCommand(),
		newVersionCommand(),
	)
	return root
}
