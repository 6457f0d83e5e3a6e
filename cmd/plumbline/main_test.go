package main

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this binary the program plumbline as well, so that tests run
// the very command: in scripts, in namespaces, with signals.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"plumbline": main})
}

// TestScripts runs testdata/script. Beside testscript's own commands there is
//
//	exits STATUS PROGRAM ARG...
//
// which runs a program and wants that exit status, and
//
//	unhex OUT IN
//
// which makes a file from its octets in hexadecimal.
//
// Each command is a process of its own and most of them are about usage: with the race detector, which makes processes slow to start, they are left out of short runs.
func TestScripts(t *testing.T) {
	if raceEnabled && testing.Short() {
		t.Skip("left out of short runs with the race detector")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits STATUS PROGRAM ARG...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var exit *exec.ExitError
					if !errors.As(err, &exit) {
						ts.Fatalf("%v", err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("exit status %d, want %d", got, want)
				}
			},
			"unhex": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: unhex OUT IN")
				}
				data, err := hex.DecodeString(strings.Join(strings.Fields(ts.ReadFile(args[1])), ""))
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o666))
			},
		},
	})
}
