package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const before = `package boot

import (
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A comment about tcp.NewProtocol stays.
var protos = []stack.TransportProtocolFactory{
	tcp.NewProtocol, // one
}

var number = tcp.ProtocolNumber
`

const after = `package boot

import (
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"github.com/plumbline/plumbline/tcpx"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A comment about tcp.NewProtocol stays.
var protos = []stack.TransportProtocolFactory{
	tcpx.NewProtocol, // one
}

var number = tcp.ProtocolNumber
`

func TestPatchChangesTheProtocolAndNothingElse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "loader.go")
	if err := os.WriteFile(name, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, time := range []string{"first", "second"} {
		if err := run(name); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if sorted(string(got)) != sorted(after) {
			t.Errorf("the %s time:\n%s", time, got)
		}
	}
}

// sorted puts the imports, whose order the formatter chooses, aside.
func sorted(src string) string {
	line := "\t\"github.com/plumbline/plumbline/tcpx\"\n"
	return strings.Replace(src, line, "", 1)
}

func TestPatchRefuses(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"no Go", "package", "loader.go:1:8"},
		{"no import", "package boot\n", "does not import"},
		{"a name of its own", strings.Replace(before, `"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"`, `t "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"`, 1), "does not import"},
		{"no use", strings.Replace(before, "\ttcp.NewProtocol, // one\n", "", 1), "has 0 uses"},
		{"two uses", strings.Replace(before, "// one", "tcp.NewProtocol,", 1), "has 2 uses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := patch("loader.go", []byte(c.src)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if err := run(filepath.Join(t.TempDir(), "loader.go")); err == nil || !strings.Contains(err.Error(), "go mod vendor") {
		t.Errorf("without a copy: got %v", err)
	}
}
