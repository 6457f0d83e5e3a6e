//go:build !unix

package main

import "os"

// What ends a command that lasts, and what makes it print statistics.
var (
	endSignals   = []os.Signal{os.Interrupt}
	statsSignals = []os.Signal{os.Signal(nil)}[:0]
)
