package script

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// corpusDefines are the symbols that the runner of the public corpus defines
// for IPv4.
var corpusDefines = map[string]string{
	"TFO_COOKIE":        "3021b9d889017eeb",
	"CODE":              "host_unreachable",
	"CMSG_LEVEL_IP":     "SOL_IP",
	"CMSG_TYPE_RECVERR": "IP_RECVERR",
}

// TestCorpus parses every script under the directory that PLUMBLINE_CORPUS
// names and prints what it does not support. Every script must parse.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("PLUMBLINE_CORPUS")
	if dir == "" {
		t.Skip("PLUMBLINE_CORPUS is not set to a directory of packetdrill scripts")
	}
	scripts, failed, partial := 0, 0, 0
	reasons := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".pkt" {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		scripts++
		s, err := ParseWith(path, src, corpusDefines)
		if err != nil {
			failed++
			t.Error(err)
			return nil
		}
		if mine := unsupported(s); len(mine) > 0 {
			partial++
			for _, r := range mine {
				reasons[r]++
			}
		}
		roundTrip(t, s)
		for _, name := range unknownNames(s) {
			t.Errorf("%s: the constant %s is not known", path, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d scripts: %d parsed whole, %d with parts that are not supported, %d refused", scripts, scripts-failed-partial, partial, failed)
	for _, r := range slices.Sorted(mapKeys(reasons)) {
		t.Logf("%4d scripts: %s", reasons[r], r)
	}
}

// unsupported returns the reasons in a script, each once.
func unsupported(s *Script) []string {
	var list []string
	for _, e := range s.Events {
		if r := e.Action.Unsupported(); r != "" && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

// unknownNames returns the names in the arguments of system calls that have no
// value.
func unknownNames(s *Script) []string {
	var list []string
	for _, e := range s.Events {
		call, ok := e.Action.(*Syscall)
		if !ok {
			continue
		}
		for _, a := range append(call.Args, call.Result) {
			walk(a, func(e Expr) {
				if n, ok := e.(*Name); ok {
					if _, ok := Constant(n.Name); !ok {
						list = append(list, n.Name)
					}
				}
			})
		}
		if call.Errno != "" {
			if _, ok := Errno(call.Errno); !ok {
				list = append(list, call.Errno)
			}
		}
	}
	return list
}

// walk calls f for e and everything in it.
func walk(e Expr, f func(Expr)) {
	f(e)
	switch e := e.(type) {
	case *List:
		for _, x := range e.Elems {
			walk(x, f)
		}
	case *Struct:
		for _, x := range e.Fields {
			walk(x.Value, f)
		}
	case *Call:
		for _, x := range e.Args {
			walk(x, f)
		}
	case *Or:
		walk(e.X, f)
		walk(e.Y, f)
	}
}
