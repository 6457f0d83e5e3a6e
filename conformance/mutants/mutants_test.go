package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each mutant still fits the sources: its text occurs once, the file that results is Go, and no two mutants are the same. (That it compiles, a run shows.)
func TestTable(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	names, edits := make(map[string]bool), make(map[[3]string]string)
	for _, m := range table() {
		src, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		edited, err := m.apply(src)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if bytes.Equal(src, edited) {
			t.Errorf("%s changes nothing", m.name)
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, edited, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] || m.breaks == "" {
			t.Errorf("%s: the name is taken, or no rule is named", m.name)
		}
		names[m.name] = true
		key := [3]string{m.file, m.old, m.new}
		if edits[key] != "" {
			t.Errorf("%s is the same as %s", m.name, edits[key])
		}
		edits[key] = m.name
	}
	if len(names) < 100 {
		t.Errorf("%d mutants, of more than 100", len(names))
	}
}

// A text that is gone from the source, or that is there twice, is an error and not a mutant.
func TestApplyWantsOnePlace(t *testing.T) {
	m := mutant{file: "x.go", old: "a", new: "b"}
	for _, src := range []string{"", "aa"} {
		if _, err := m.apply([]byte(src)); err == nil {
			t.Errorf("%q: no error", src)
		}
	}
	if got, err := m.apply([]byte("cat")); err != nil || string(got) != "cbt" {
		t.Errorf("cat became %q, %v", got, err)
	}
}

// What counts as caught, and how it reads.
func TestFound(t *testing.T) {
	soft := found{Soft: map[string]int{"delayed-ack": 2, "backoff": 1}}
	soft.subtractSoft(found{Soft: map[string]int{"delayed-ack": 2}})
	for _, x := range []struct {
		found  found
		caught bool
		text   string
	}{
		{found{}, false, "SURVIVED"},
		{soft, false, "SURVIVED; soft: backoff"},
		{found{Scripts: []string{"a.pkt", "b.pkt"}}, true, "scripts: 2, a.pkt"},
		{found{Hard: map[string]int{"window": 1}, Fuzz: []string{"payload"}}, true, "oracle: window; fuzz: payload"},
		{found{Died: "panic: x"}, true, "panic: x"},
	} {
		if x.found.caught() != x.caught || x.found.String() != x.text {
			t.Errorf("%+v: caught %v, %q", x.found, x.found.caught(), x.found)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-run", "("}, {"-run", "no such mutant"}, {"x"}, {"-cases", "-1"}, {"-nonsense"}} {
		var said bytes.Buffer
		status, err := run(t.Context(), args, io.Discard, &said)
		if status != 2 || err == nil && said.Len() == 0 {
			t.Errorf("%q: status %d, %v, %q", args, status, err, said.String())
		}
	}
	var out bytes.Buffer
	if status, err := run(t.Context(), []string{"-list", "-run", "^no-paws$"}, &out, io.Discard); status != 0 || err != nil || !strings.Contains(out.String(), "RFC 7323 5.3") {
		t.Errorf("-list: status %d, %v, %q", status, err, out.String())
	}
}

// The judge finds nothing wrong with the TCP as it is. (A few random cases: the suite has tests of its own.)
func TestOriginalPasses(t *testing.T) {
	got := found{Hard: make(map[string]int), Soft: make(map[string]int)}
	if err := got.byFuzzing(t.Context(), 1, 10); err != nil {
		t.Fatal(err)
	}
	if got.caught() {
		t.Errorf("found %v", got)
	}
}
