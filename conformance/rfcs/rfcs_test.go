package rfcs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/rfcs"
	"github.com/plumbline/plumbline/conformance/suite"
)

func TestRowsAreWellFormed(t *testing.T) {
	levels := []rfc9293.Level{rfc9293.Must, rfc9293.MustNot, rfc9293.Should, rfc9293.ShouldNot, rfc9293.May, rfcs.Rule}
	id := regexp.MustCompile(`^RFC([0-9]{4}-[0-9]+(\.[0-9]+)*|826-(generation|reception))(-[a-z])?$`)
	seen := make(map[string]bool)
	for _, r := range rfcs.All() {
		if !id.MatchString(r.ID) || !slices.Contains(levels, r.Level) || r.Feature == "" || r.Group() == "RFC "+r.RFC+": " || r.Section == "" {
			t.Errorf("malformed row %+v", r)
		}
		if seen[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[r.ID] = true
		if got, ok := rfcs.Lookup(r.ID); !ok || got.Feature != r.Feature {
			t.Errorf("Lookup(%s) = %+v, %v", r.ID, got, ok)
		}
	}
	if _, ok := rfcs.Lookup("RFC1149-1"); ok {
		t.Error("Lookup finds what does not exist")
	}
}

func TestTestsExist(t *testing.T) {
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, s := range scripts {
		names[s.Name] = true
	}
	for _, r := range rfcs.All() {
		for _, n := range r.Tests {
			if !names[n] {
				t.Errorf("%s names the test %s, which does not exist", r.ID, n)
			}
		}
	}
}

// TestGoTestsExist finds the functions that the table names, and the subtests by
// their names, which stand in the sources as they are.
func TestGoTestsExist(t *testing.T) {
	n := 0
	for _, r := range rfcs.All() {
		if r.GoPackage == "" {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(r.GoPackage), "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s names the package %s, which has no tests: %v", r.ID, r.GoPackage, err)
		}
		var source strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
		for _, name := range r.GoTests {
			f, sub, _ := strings.Cut(name, "/")
			if !strings.Contains(source.String(), "\nfunc "+f+"(t *testing.T) {") || !strings.Contains(source.String(), strconv.Quote(sub)) && sub != "" {
				t.Errorf("%s names the test %q of %s, which does not exist", r.ID, name, r.GoPackage)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d tests are named", n)
	}
}
