// Command patch makes the vendored copy of gVisor's runsc use tcpx where it used netstack's own TCP. It runs in the directory that has go.mod, after "go mod vendor",
// and does nothing if the copy is patched already.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"strconv"
)

// loader is the file that makes a sandbox's netstack.
const loader = "vendor/gvisor.dev/gvisor/runsc/boot/loader.go"

const (
	stock = "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	ours  = "github.com/plumbline/plumbline/tcpx"
)

func main() {
	if err := run(loader); err != nil {
		fmt.Fprintln(os.Stderr, "patch:", err)
		os.Exit(1)
	}
}

func run(name string) error {
	src, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s here: run \"go mod vendor\" first, in the directory of go.mod", name)
	}
	if err != nil {
		return err
	}
	out, err := patch(name, src)
	if err != nil || bytes.Equal(out, src) {
		return err
	}
	return os.WriteFile(name, out, 0o644)
}

// patch returns src with tcpx.NewProtocol for tcp.NewProtocol. It wants exactly one such place: more or fewer mean that gVisor has changed, and that somebody has to look.
func patch(name string, src []byte) ([]byte, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if imported(f, ours) != nil {
		return src, nil
	}
	spec := imported(f, stock)
	if spec == nil || spec.Name != nil {
		return nil, fmt.Errorf("%s does not import %q under its own name", name, stock)
	}
	uses := protocolUses(f)
	if len(uses) != 1 {
		return nil, fmt.Errorf("%s has %d uses of tcp.NewProtocol where 1 is expected: this version of gVisor makes its netstacks differently", name, len(uses))
	}
	use, at := fset.Position(uses[0].Pos()).Offset, fset.Position(spec.Pos()).Offset
	var out bytes.Buffer
	out.Write(src[:at])
	fmt.Fprintf(&out, "%q\n\t", ours)
	out.Write(src[at:use])
	out.WriteString("tcpx")
	out.Write(src[use+len("tcp"):])
	return format.Source(out.Bytes())
}

// imported returns the import of path, nil if there is none.
func imported(f *ast.File, path string) *ast.ImportSpec {
	for _, s := range f.Imports {
		if p, err := strconv.Unquote(s.Path.Value); err == nil && p == path {
			return s
		}
	}
	return nil
}

// protocolUses returns every tcp.NewProtocol.
func protocolUses(f *ast.File) []*ast.SelectorExpr {
	var uses []*ast.SelectorExpr
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "NewProtocol" {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "tcp" {
				uses = append(uses, s)
			}
		}
		return true
	})
	return uses
}
