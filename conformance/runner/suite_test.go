package runner_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// names returns the names of results.
func names(results []*runner.Result) []string {
	var out []string
	for _, r := range results {
		out = append(out, r.Name())
	}
	return out
}

// smallSuite is a suite of two scripts.
func smallSuite(t *testing.T) *runner.Suite {
	t.Helper()
	var scripts []*script.Script
	for _, s := range []struct{ name, src string }{
		{"b.pkt", "//@ req: MUST-3\n0 %{ assert 1 }%\n"},
		{"a.pkt", "//@ ip: 4\n0 %{ assert 1 }%\n"},
	} {
		parsed, err := script.Parse(s.name, []byte(s.src))
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, parsed)
	}
	open := func(target.Config) (target.Target, error) { return &fake{}, nil }
	return &runner.Suite{Scripts: scripts, Targets: []target.Kind{
		{Name: "one", Open: open},
		{Name: "slow", Capabilities: target.Capabilities{RealTime: true}, Open: open},
	}}
}

func TestSuiteOrder(t *testing.T) {
	results, err := smallSuite(t).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.pkt/ipv4/one", "a.pkt/ipv4/slow",
		"b.pkt/ipv4/one", "b.pkt/ipv4/slow", "b.pkt/ipv6/one", "b.pkt/ipv6/slow",
	}
	if got := names(results); !slices.Equal(got, want) {
		t.Errorf("runs = %v, want %v", got, want)
	}
}

func TestSuiteMatch(t *testing.T) {
	for pattern, want := range map[string][]string{
		"^a":          {"a.pkt/ipv4/one", "a.pkt/ipv4/slow"},
		"ipv6/one$":   {"b.pkt/ipv6/one"},
		"^MUST-3$":    {"b.pkt/ipv4/one", "b.pkt/ipv4/slow", "b.pkt/ipv6/one", "b.pkt/ipv6/slow"},
		"no such run": nil,
	} {
		s := smallSuite(t)
		s.Match = regexp.MustCompile(pattern)
		results, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := names(results); !slices.Equal(got, want) {
			t.Errorf("%q selects %v, want %v", pattern, got, want)
		}
	}
}

func TestSuiteStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	results, err := smallSuite(t).Run(ctx)
	if !errors.Is(err, context.Canceled) || len(results) != 0 {
		t.Errorf("%d results, error %v", len(results), err)
	}
}

func TestBrokenScriptsCount(t *testing.T) {
	s := &runner.Suite{
		Broken:  []runner.Broken{{Name: "x.pkt", Err: errors.New("x.pkt:1:1: what")}},
		Targets: []target.Kind{{Name: "one"}},
	}
	results, err := s.Run(context.Background())
	if err != nil || len(results) != 2 || results[0].Verdict != runner.Unsupported {
		t.Errorf("results = %+v, error %v", results, err)
	}
}

func TestLoadCorpus(t *testing.T) {
	scripts, broken, err := runner.LoadCorpus(fstest.MapFS{
		".git/x.pkt":   {Data: []byte("nothing")},
		"a/good.pkt":   {Data: []byte("0 < S 0:0(0) win 1\n")},
		"a/bad.pkt":    {Data: []byte("0 < Q\n")},
		"a/readme.txt": {Data: []byte("no script")},
		"b/v6.pkt":     {Data: []byte("//@ ip: 6\n0 < S 0:0(0) win 1\n")},
	})
	if err != nil || len(broken) != 1 || broken[0].Name != "a/bad.pkt" {
		t.Errorf("broken = %v, error %v", broken, err)
	}
	var got []string
	for _, s := range scripts {
		if s.Tags.Profile != script.ProfileLinux {
			t.Errorf("%s has the profile %s", s.Name, s.Tags.Profile)
		}
		got = append(got, s.Name)
	}
	if want := []string{"a/good.pkt", "a/good.pkt", "b/v6.pkt"}; !slices.Equal(got, want) {
		t.Errorf("scripts = %v, want %v", got, want)
	}
}

func TestRealTimeTargetsHaveASecondChance(t *testing.T) {
	opened := 0
	// The first instance answers late, the second in time.
	kind := target.Kind{Name: "fake", Capabilities: target.Capabilities{RealTime: true}, Open: func(target.Config) (target.Target, error) {
		opened++
		answer := synACK
		if opened == 1 {
			answer.at = 50 * time.Millisecond
		}
		return &fake{sends: []sending{answer}}, nil
	}}
	const src = `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 8) = 0
+0 < S 0:0(0) win 1000 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
`
	res := runner.Run(parse(t, src), kind, 4, runner.Options{})
	if res.Verdict != runner.Pass || res.Retried == "" || opened != 2 {
		t.Errorf("%s after %d runs, the first failed because %q", res.Verdict, opened, res.Retried)
	}
	opened = 0
	if res := runner.Run(parse(t, src), kind, 4, runner.Options{Tolerance: time.Second}); res.Verdict != runner.Pass || res.Retried != "" {
		t.Errorf("%s with a tolerance of a second (%s)", res.Verdict, res.Reason)
	}
	opened = 1
	res = runner.Run(parse(t, strings.Replace(src, "> S.", "> R.", 1)), kind, 4, runner.Options{})
	if res.Verdict != runner.Fail || res.Retried != "" {
		t.Errorf("%s, and tried again because of %q, which was no matter of time", res.Verdict, res.Retried)
	}
}

func TestLongScriptsInRealTime(t *testing.T) {
	kind := target.Kind{Name: "fake", Capabilities: target.Capabilities{RealTime: true}, Open: func(target.Config) (target.Target, error) {
		return &fake{}, nil
	}}
	for src, want := range map[string]time.Duration{
		"0...9 > none\n+1 < . 1:1(0) ack 1 win 1\n": 10 * time.Second,
		"+.5~+2 > { . 1:1(0) ack 1 } or none\n":     2 * time.Second,
		"3 < . 1:1(0) ack 1 win 1\n":                3 * time.Second,
	} {
		s := parse(t, src)
		if got := runner.Length(s); got != want {
			t.Errorf("%q lasts %v, want %v", src, got, want)
		}
		for limit, verdict := range map[time.Duration]runner.Verdict{want: runner.Pass, want - 1: runner.Unsupported} {
			if res := runner.Run(s, kind, 4, runner.Options{MaxRealTime: limit}); res.Verdict != verdict {
				t.Errorf("%q with a limit of %v: %s (%s), want %s", src, limit, res.Verdict, res.Reason, verdict)
			}
		}
	}
}
