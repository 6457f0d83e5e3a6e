// Adapter is a stack in a process of its own, as plumbline conform tests it:
//
//	go build -o adapter ./examples/adapter
//	plumbline conform --target exec:./adapter
//
// The stack is gVisor's netstack with its own TCP, in virtual time, so that the
// verdicts are those of the target gvisor to the letter. A stack of yours takes
// its place by implementing target.Target; one that is not in Go speaks the
// protocol of docs/adapter.md itself.
package main

import (
	"fmt"
	"io"
	"os"

	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/conformance/target"
	"github.com/plumbline/plumbline/conformance/target/adapter"
)

func main() {
	// Standard output belongs to the protocol. What gVisor logs about hostile
	// packets is of no interest: scripts send them on purpose.
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	if err := adapter.Serve(os.Stdin, os.Stdout, target.GVisor()); err != nil {
		fmt.Fprintln(os.Stderr, "adapter:", err)
		os.Exit(1)
	}
}
