package suite_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	gocmp "github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/conformance/rfc9293"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

func TestMain(m *testing.M) {
	// gVisor logs what hostile packets make it do; scripts send them on
	// purpose.
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	os.Exit(m.Run())
}

// load returns the scripts of the suite.
func load(t *testing.T) []*script.Script {
	t.Helper()
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) == 0 {
		t.Fatal("the suite is empty")
	}
	return scripts
}

// TestVerdicts runs every script on every target over both versions of IP. A
// script has to end as its tags say: pass, unless there is an expect tag.
func TestVerdicts(t *testing.T) {
	for _, s := range load(t) {
		for _, kind := range target.Kinds() {
			for _, ip := range runner.Versions(s) {
				t.Run(fmt.Sprintf("%s/%v/%s", s.Name, ip, kind.Name), func(t *testing.T) {
					t.Parallel()
					check(t, runner.Run(s, kind, ip, runner.Options{Seed: 1}))
				})
			}
		}
	}
}

// TestCases runs every test in Go on every target.
func TestCases(t *testing.T) {
	for _, c := range suite.Cases() {
		if c.Tags.Title == "" || c.Tags.Section == "" || len(c.Tags.Requirements) == 0 {
			t.Errorf("%s lacks a title, a section or a requirement", c.Name)
		}
		for _, kind := range target.Kinds() {
			for _, ip := range c.Versions() {
				t.Run(fmt.Sprintf("%s/%v/%s", c.Name, ip, kind.Name), func(t *testing.T) {
					t.Parallel()
					check(t, runner.RunCase(c, kind, ip, runner.Options{Seed: 1}))
				})
			}
		}
	}
}

// check compares the verdict of a run with what its script expects.
func check(t *testing.T, res *runner.Result) {
	t.Helper()
	expect, _ := res.Tags.Expectation(res.Target)
	want := map[script.Verdict]runner.Verdict{
		script.ExpectPass:        runner.Pass,
		script.ExpectFail:        runner.XFail,
		script.ExpectUnsupported: runner.Unsupported,
	}[expect.Verdict]
	if res.Verdict == want {
		return
	}
	t.Errorf("%s, want %s: %s", res.Verdict, want, res.Reason)
	if f := res.Failure; f != nil {
		t.Errorf("%v\nexpected %s\nactual   %s", f, f.Expected, f.Actual)
	}
	for _, n := range res.Notes {
		t.Log(n)
	}
	for _, e := range res.Trace {
		t.Log(e)
	}
}

func TestTags(t *testing.T) {
	targets := target.Names()
	described := make(map[string]string)
	for _, s := range load(t) {
		says := cmp.Or(s.Tags.Title, s.Description)
		if says == "" {
			t.Errorf("%s has neither a title nor a comment at the top that says what it proves", s.Name)
		} else if other := described[says]; other != "" {
			t.Errorf("%s and %s say that they prove the same", s.Name, other)
		}
		described[says] = s.Name
		if s.Tags.Section == "" {
			t.Errorf("%s has no section tag", s.Name)
		}
		for _, id := range s.Tags.Requirements {
			if ours(id) && rfc9293.Lookup(id) == nil {
				t.Errorf("%s: RFC 9293 has no requirement %s", s.Name, id)
			}
		}
		for _, e := range s.Tags.Expectations {
			if !strings.Contains(" "+strings.Join(targets, " ")+" linux ", " "+e.Target+" ") {
				t.Errorf("%s: no target %s", e.Pos, e.Target)
			}
			if e.Target == "tcpx" {
				t.Errorf("%s: tcpx has to pass every script", e.Pos)
			}
		}
	}
}

// ours reports whether an ID has the form of those of RFC 9293. Those of other
// RFCs name their RFC.
func ours(id string) bool {
	for _, prefix := range []string{"MUST-", "SHLD-", "MAY-", "REC-"} {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// TestSameSeedSameBytes runs the whole suite twice, the second time in another
// order of execution, and compares every packet, call and time.
func TestSameSeedSameBytes(t *testing.T) {
	scripts := load(t)
	runs := func(parallel int) []*runner.Result {
		s := runner.Suite{Scripts: scripts, Cases: suite.Cases(), Targets: target.Kinds(), Options: runner.Options{Seed: 7}, Parallel: parallel}
		results, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	first, second := runs(1), runs(8)
	if len(first) != len(second) {
		t.Fatalf("%d runs, then %d", len(first), len(second))
	}
	for i := range first {
		if !slices.EqualFunc(first[i].Trace, second[i].Trace, sameEntry) {
			t.Errorf("%s differs (-first +second):\n%s", first[i].Name(), gocmp.Diff(first[i].Trace, second[i].Trace))
		}
	}
}

// sameEntry compares two entries of a trace, packets to the byte.
func sameEntry(a, b runner.Entry) bool {
	return a.At == b.At && a.Kind == b.Kind && a.Line == b.Line && a.Text == b.Text && bytes.Equal(a.Data, b.Data)
}

func TestAnotherSeedIsAnotherISN(t *testing.T) {
	scripts := load(t)
	for _, kind := range target.Kinds() {
		packets := make(map[string]bool)
		for seed := range uint64(4) {
			for _, s := range scripts {
				if s.Name != "open/active.pkt" {
					continue
				}
				for _, e := range runner.Run(s, kind, 4, runner.Options{Seed: seed}).Trace {
					if e.Kind == runner.Outbound {
						packets[string(e.Data)] = true
						break
					}
				}
			}
		}
		if len(packets) != 4 {
			t.Errorf("%s: 4 seeds give %d different SYNs", kind.Name, len(packets))
		}
	}
}

func TestLoadFSNamesTheFaultyLine(t *testing.T) {
	_, err := suite.LoadFS(fstest.MapFS{
		"a/good.pkt":   {Data: []byte("0 < S 0:0(0) win 1\n")},
		"a/readme.txt": {Data: []byte("no script")},
		"a/wrong.pkt":  {Data: []byte("// nothing\n0 < Q 0:0(0) win 1\n")},
	})
	if err == nil || !strings.HasPrefix(err.Error(), "a/wrong.pkt:2:") {
		t.Errorf("error = %v, want one at a/wrong.pkt:2", err)
	}
}
