//go:build unix

package main

import (
	"os"
	"syscall"
)

// What ends a command that lasts, and what makes it print statistics.
var (
	endSignals   = []os.Signal{os.Interrupt, syscall.SIGTERM}
	statsSignals = []os.Signal{syscall.SIGUSR1}
)
