package packetdrill

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// outcomes reads one letter an outcome: p for a pass, f for a failure, t for a
// failure in time, u for unsupported.
func outcomes(letters string) []Outcome {
	var out []Outcome
	for _, l := range letters {
		switch l {
		case 'p':
			out = append(out, Outcome{Verdict: runner.Pass})
		case 'u':
			out = append(out, Outcome{Verdict: runner.Unsupported, Message: "no such thing"})
		default:
			out = append(out, Outcome{Verdict: runner.Fail, Timing: l == 't', Message: "wrong"})
		}
	}
	return out
}

func TestAgreement(t *testing.T) {
	for _, tc := range []struct {
		ours, theirs string
		want         Agreement
		flaky        bool
	}{
		{"p", "p", Agree, false},
		{"f", "f", Agree, false},
		{"t", "f", Agree, false},
		{"p", "f", Differ, false},
		{"f", "p", Differ, false},
		{"p", "t", Timing, false},
		{"tp", "pp", Agree, true},
		{"ftp", "ppp", Agree, true},
		{"tft", "ppp", Differ, false},
		{"ppp", "ttt", Timing, false},
		{"u", "p", Differ, false},
		{"u", "f", Differ, false},
		{"u", "t", Timing, false},
	} {
		p := &Pair{Ours: outcomes(tc.ours), Theirs: outcomes(tc.theirs)}
		if got := p.Agreement(); got != tc.want || p.Flaky() != tc.flaky {
			t.Errorf("%s and %s: %s, flaky %t; want %s, %t", tc.ours, tc.theirs, got, p.Flaky(), tc.want, tc.flaky)
		}
	}
}

// TestRounds runs scripts on two sides that say what the test says, a letter a
// round.
func TestRounds(t *testing.T) {
	for _, tc := range []struct {
		ours, theirs string
		rounds       int
	}{
		{"ppp", "ppp", 1},
		{"tpp", "ppp", 2},
		{"ttt", "ppp", 3},
		{"fff", "ppp", 3},
		{"uuu", "ppp", 1},
	} {
		s, err := script.Parse("a.pkt", []byte("//@ ip: 4\n0 < S 0:0(0) win 1\n"))
		if err != nil {
			t.Fatal(err)
		}
		round := 0
		told := 0
		c := Comparer{
			Ours: func(context.Context, *script.Script, runner.IPVersion) Outcome { return outcomes(tc.ours)[round] },
			Theirs: func(_ context.Context, name string, ip runner.IPVersion) Outcome {
				if name != "a.pkt" || ip != 4 {
					t.Errorf("packetdrill runs %s over %v", name, ip)
				}
				round++
				return outcomes(tc.theirs)[round-1]
			},
			Progress: func(*Pair) { told++ },
		}
		pairs, err := c.Run(t.Context(), []*script.Script{s})
		if err != nil || len(pairs) != 1 || len(pairs[0].Ours) != tc.rounds || told != 1 {
			t.Errorf("%s and %s: %d rounds, error %v, want %d", tc.ours, tc.theirs, round, err, tc.rounds)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s, err := script.Parse("a.pkt", []byte("0 < S 0:0(0) win 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := Comparer{
		Ours: func(context.Context, *script.Script, runner.IPVersion) Outcome {
			cancel()
			return Outcome{Verdict: runner.Fail}
		},
		Theirs: func(context.Context, string, runner.IPVersion) Outcome { return Outcome{Verdict: runner.Pass} },
	}
	if pairs, err := c.Run(ctx, []*script.Script{s}); !errors.Is(err, context.Canceled) || len(pairs) != 0 {
		t.Errorf("%d pairs, error %v", len(pairs), err)
	}
}

func TestReport(t *testing.T) {
	pairs := []*Pair{
		{Name: "a.pkt/ipv4", Ours: outcomes("p"), Theirs: outcomes("p")},
		{Name: "b.pkt/ipv4", Ours: outcomes("fff"), Theirs: outcomes("ppp")},
		{Name: "c.pkt/ipv4", Ours: outcomes("ppp"), Theirs: outcomes("ttt")},
		{Name: "d.pkt/ipv4", Ours: outcomes("tp"), Theirs: outcomes("pp")},
		{Name: "e.pkt/ipv4", Ours: outcomes("f"), Theirs: outcomes("f")},
	}
	var b bytes.Buffer
	if err := Report(&b, pairs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"differ  b.pkt/ipv4\n        plumbline   FAIL wrong\n        packetdrill PASS\n",
		"timing  c.pkt/ipv4\n", "flaky   d.pkt/ipv4\n",
		"5 runs: 3 agree, 1 differ, 1 are a matter of timing; agreement 75.0 %",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
	if got := Rate(nil); got != 1 {
		t.Errorf("the rate of nothing is %g", got)
	}
}

func TestComplaint(t *testing.T) {
	for _, tc := range []struct{ out, want string }{
		{"noise\na.pkt:3: wrong\nmore\n", "a.pkt:3: wrong"},
		{"noise\nlast words\n", "last words"},
		{"", ""},
	} {
		if got := complaint(tc.out, "a.pkt"); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.out, got, tc.want)
		}
	}
}

func TestAProgramThatIsNone(t *testing.T) {
	for _, path := range []string{"no/such/file", t.TempDir(), "doc.go"} {
		if err := (&Tool{Path: path}).Check(); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}
