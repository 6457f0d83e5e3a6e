package suite_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	gocmp "github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/conformance/report"
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

// first are the results of the whole suite on every target, once for all tests.
var first = sync.OnceValues(func() ([]*runner.Result, error) { return runAll(0, 1) })

// runAll runs the suite, or of its scripts one in every so many, and so many at a
// time.
func runAll(parallel, every int) ([]*runner.Result, error) {
	all, err := suite.Load()
	if err != nil {
		return nil, err
	}
	var scripts []*script.Script
	for i, s := range all {
		if i%every == 0 {
			scripts = append(scripts, s)
		}
	}
	s := runner.Suite{
		Scripts: scripts, Cases: suite.Cases(), Targets: target.Kinds(),
		Options: runner.Options{Seed: 1}, Parallel: parallel,
	}
	return s.Run(context.Background())
}

// TestVerdicts has a subtest for every run of the suite. A test has to end as
// its tags say: pass, unless there is an expect tag.
func TestVerdicts(t *testing.T) {
	results, err := first()
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range results {
		t.Run(res.Name(), func(t *testing.T) { check(t, res) })
	}
}

// TestSnapshot compares all verdicts with those in the repository, so that none
// changes silently.
func TestSnapshot(t *testing.T) {
	results, err := first()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("../snapshot.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old, err := report.ReadSnapshot(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range report.SnapshotOf(results).Diff(old, false) {
		t.Error(line)
	}
	if t.Failed() {
		t.Log("if that is meant: go run ./cmd/plumbline conform --snapshot conformance/snapshot.txt --update")
	}
}

// TestCases looks at what the tests in Go say about themselves.
func TestCases(t *testing.T) {
	for _, c := range suite.Cases() {
		if c.Tags.Title == "" || c.Tags.Section == "" || len(c.Tags.Requirements) == 0 || len(c.Versions()) == 0 {
			t.Errorf("%s lacks a title, a section, a requirement or a version of IP", c.Name)
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

// TestSameSeedSameBytes runs the whole suite once more, in another order of
// execution, and compares every packet, call and time. In short it is a part of
// the suite.
func TestSameSeedSameBytes(t *testing.T) {
	one, err := first()
	if err != nil {
		t.Fatal(err)
	}
	every := 1
	if testing.Short() {
		every = 5
	}
	two, err := runAll(8, every)
	if err != nil {
		t.Fatal(err)
	}
	if every == 1 && len(one) != len(two) {
		t.Fatalf("%d runs, then %d", len(one), len(two))
	}
	again := make(map[string]*runner.Result)
	for _, r := range two {
		again[r.Name()] = r
	}
	compared := 0
	for _, r := range one {
		other := again[r.Name()]
		if other == nil {
			continue
		}
		compared++
		if !slices.EqualFunc(r.Trace, other.Trace, sameEntry) {
			t.Errorf("%s differs (-first +second):\n%s", r.Name(), gocmp.Diff(r.Trace, other.Trace))
		}
	}
	if compared != len(two) {
		t.Errorf("%d runs compared of %d", compared, len(two))
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
