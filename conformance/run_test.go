package conformance_test

import (
	"testing"

	"github.com/plumbline/plumbline/conformance"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

func TestRunScripts(t *testing.T) {
	const handshake = `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0 connect(3, ..., ...) = -1 EINPROGRESS
+0 > S 0:0(0) <...>
+.1 < S. 0:0(0) ack 1 win 1000 <mss 1000>
+0 > . 1:1(0) ack 1
`
	var scripts []*script.Script
	for name, src := range map[string]string{
		"handshake.pkt":   handshake,
		"unsupported.pkt": "0 splice(3) = 0\n",
		"known.pkt":       "//@ expect: gvisor=fail one is not two\n0 %{ assert 1 == 2 }%\n",
	} {
		s, err := script.Parse(name, []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, s)
	}
	conformance.RunScripts(t, target.GVisor(), scripts, runner.Options{})
}
