package congestion_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestOutside builds and tests an algorithm that lives in a module of its own, with nothing but the public packages.
func TestOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	cmd := exec.Command(goCommand, "test", "-short", "./...")
	cmd.Dir = "testdata/outside"
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDocumentShowsTheExample keeps the text of docs/congestion.md and the code that is tested the same.
func TestDocumentShowsTheExample(t *testing.T) {
	code, err := os.ReadFile("testdata/outside/breeze.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/congestion.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "```go\n"+string(code)+"```") {
		t.Error("docs/congestion.md does not show congestion/testdata/outside/breeze.go as it is")
	}
}
