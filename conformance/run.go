package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

// Run runs the suite on a kind of target, each script and each case in Go as a subtest for each
// version of IP. What the target does not support is skipped, with the reason.
// Subtests run in parallel unless the target lives in real time.
func Run(t *testing.T, kind target.Kind) {
	t.Helper()
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	RunScripts(t, kind, scripts, runner.Options{Seed: 1})
	for _, c := range suite.Cases() {
		for _, ip := range c.Versions() {
			subtest(t, kind, fmt.Sprintf("%s/%v", c.Name, ip), func() *runner.Result {
				return runner.RunCase(c, kind, ip, runner.Options{Seed: 1})
			})
		}
	}
}

// RunScripts is Run with scripts and options of the caller's.
func RunScripts(t *testing.T, kind target.Kind, scripts []*script.Script, opt runner.Options) {
	t.Helper()
	for _, s := range scripts {
		for _, ip := range runner.Versions(s) {
			subtest(t, kind, fmt.Sprintf("%s/%v", s.Name, ip), func() *runner.Result {
				return runner.Run(s, kind, ip, opt)
			})
		}
	}
}

// subtest makes a run a subtest.
func subtest(t *testing.T, kind target.Kind, name string, run func() *runner.Result) {
	t.Run(name, func(t *testing.T) {
		if !kind.Capabilities.RealTime {
			t.Parallel()
		}
		judge(t, run())
	})
}

// judge makes the outcome of a run that of a test.
func judge(t *testing.T, res *runner.Result) {
	t.Helper()
	switch {
	case res.Verdict == runner.Unsupported:
		t.Skip("unsupported: ", res.Reason)
	case res.Verdict == runner.XFail:
		t.Skip("expected to fail: ", res.Reason)
	case res.Verdict.OK():
		return
	case res.Failure == nil:
		t.Errorf("%s: %s", res.Verdict, res.Reason)
		return
	}
	f := res.Failure
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n  event    %s\n  expected %s\n  actual   %s\n", f, f.Event, f.Expected, f.Actual)
	for _, n := range res.Notes {
		fmt.Fprintf(&b, "  note: %s\n", n)
	}
	for _, e := range res.Trace {
		fmt.Fprintf(&b, "  %v\n", e)
	}
	t.Error(b.String())
}
