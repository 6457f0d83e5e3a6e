// Command runsc is gVisor's OCI runtime with tcpx as the TCP of its sandboxes.
//
// runsc has no option for its transport protocols, so its source is patched: in a vendored copy, one line of the file that makes a sandbox's netstack. Three commands
// build it:
//
//	go mod vendor
//	go run ./patch
//	CGO_ENABLED=0 go build -o runsc .
//
// docs/runsc.md has the rest.
package main

import (
	"gvisor.dev/gvisor/runsc/cli/maincli"

	// The patched file imports tcpx; without the import here it would not be vendored. It has Reno and CUBIC by itself, other algorithms if they are imported.
	_ "github.com/plumbline/plumbline/congestion/bbr"
	_ "github.com/plumbline/plumbline/tcpx"
)

func main() { maincli.Main() }
