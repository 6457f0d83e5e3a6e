package scenariofile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline/plumbline/congestion/testbed"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

var params = testbed.Params{Stack: "tcpx", Algorithms: []string{"reno", "bbr"}, Seed: 5}

func read(text string) ([]*testbed.Scenario, error) {
	return Read("cc.yaml", strings.NewReader(text), params)
}

func TestEveryKey(t *testing.T) {
	const ms = time.Millisecond
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lte.trace"), []byte("1\n2\n5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "cc.yaml")
	if err := os.WriteFile(name, []byte(`# All that there is.
scenarios:
  - name: everything
    about: "all keys: once"
    duration: 1m
    warmup: 10s
    seed: 9
    mtu: 1400
    forward:
      rate: 16.5Mbit/s
      overhead: 18
      delay: 15ms
      jitter: 2ms
      aggregate: 1ms
      queue: {type: fifo, bytes: 200kB, packets: 300}
      loss: 0.5%
      mark: 0.1
      duplicate: 1%
      reorder: {probability: 2%, delay: 4ms}
      policer: {rate: 1Gbit/s, burst: 64KiB}
      steps:
        - {at: 20s, rate: 500kbit/s}
        - {at: 30s, delay: 30ms}
        - {at: 40s, down: true}
    reverse: {rate: 64000bit/s, delay: 5ms, queue: {type: codel, target: 10ms, interval: 200ms, packets: 50, ecn: true}}
    flows:
      - {}
      - {stack: gvisor, algorithm: cubic, start: 2s, bytes: 3MB, delay: 7ms, rate: 1Mbit/s, count: 2, apart: 500ms}
  - name: defaults
    forward: {trace: lte.trace, queue: {bdp: 2}, loss: {to-bad: 0.001, to-good: 0.2, good: 0, bad: 50%}}
    reverse: {delay: 100ms, queue: {type: fq-codel}}
    flows: [{algorithm: cubic}]
  - {name: pie, forward: {rate: 1Mbit/s, queue: {type: pie, target: 20ms}}, flows: [{algorithm: cubic}]}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Load(name, params)
	if err != nil {
		t.Fatal(err)
	}
	everything := func(algorithm string) *testbed.Scenario {
		return &testbed.Scenario{
			Name: "everything", About: "all keys: once", Duration: time.Minute, Warmup: 10 * time.Second, Seed: 9, MTU: 1400,
			Forward: emulated.Link{
				Rate: 16_500_000, Overhead: 18, Delay: 15 * ms, Jitter: 2 * ms, Aggregate: ms,
				Queue: emulated.FIFO{Bytes: 200_000, Packets: 300}, Loss: emulated.RandomLoss(0.005), MarkCE: 0.1, Duplicate: 0.01,
				Reorder: emulated.Reorder{Probability: 0.02, Delay: 4 * ms}, Policer: &emulated.Policer{Rate: emulated.Gbps, Burst: 65536},
				Steps: []emulated.Step{
					{At: 20 * time.Second, Rate: 500_000, Delay: 15 * ms},
					{At: 30 * time.Second, Rate: 16_500_000, Delay: 30 * ms},
					{At: 40 * time.Second, Rate: 16_500_000, Delay: 15 * ms, Down: true},
				},
			},
			Reverse: emulated.Link{Rate: 64_000, Delay: 5 * ms, Queue: emulated.CoDel{Target: 10 * ms, Interval: 200 * ms, Packets: 50, ECN: true}},
			Flows: []testbed.Flow{
				{Stack: "tcpx", Algorithm: algorithm},
				{Stack: "gvisor", Algorithm: "cubic", Start: 2 * time.Second, Bytes: 3_000_000, Delay: 7 * ms, Rate: emulated.Mbps},
				{Stack: "gvisor", Algorithm: "cubic", Start: 2500 * ms, Bytes: 3_000_000, Delay: 7 * ms, Rate: emulated.Mbps},
			},
		}
	}
	cubic := []testbed.Flow{{Stack: "tcpx", Algorithm: "cubic"}}
	want := []*testbed.Scenario{
		everything("reno"), everything("bbr"),
		{
			Name: "defaults", Duration: 30 * time.Second, Warmup: 10 * time.Second, Seed: 5, Flows: cubic,
			// 3 opportunities of 1504 bytes in 5 ms are 902400 bytes a second.
			Forward: emulated.Link{Queue: emulated.FIFO{Bytes: 180_480}, Loss: emulated.GilbertElliott{ToBad: 0.001, ToGood: 0.2, Bad: 0.5}},
			Reverse: emulated.Link{Delay: 100 * ms, Queue: emulated.FQCoDel{}},
		},
		{
			Name: "pie", Duration: 30 * time.Second, Warmup: 10 * time.Second, Seed: 5, Flows: cubic,
			Forward: emulated.Link{Rate: emulated.Mbps, Queue: emulated.PIE{Target: 20 * ms}},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(&emulated.Trace{}), cmpopts.IgnoreUnexported(testbed.Scenario{}, testbed.Flow{})); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
	if tr := got[2].Forward.Trace; tr == nil || tr.Period() != 5*ms {
		t.Errorf("trace %v, want one of 5 ms", tr)
	}
}

// A mistake is one line with the file's name and the line at which it is.
func TestMistakes(t *testing.T) {
	scenario := func(lines string) string { return "scenarios:\n- name: x\n  flows: [{algorithm: cubic}]\n" + lines }
	for _, tt := range []struct{ text, want string }{
		{"", "cc.yaml: no scenarios"},
		{"# nothing", "cc.yaml: no scenarios"},
		{"scenarios: []", "cc.yaml:1: no scenarios"},
		{"scenarios: 5", "cc.yaml:1: scenarios: a list is wanted"},
		{"- a", "cc.yaml:1: a file has keys: scenarios"},
		{"scenarios:\n- 5", "cc.yaml:2: a scenario has keys: about, duration,"},
		{"\nfoo: 1", `cc.yaml:2: unknown key "foo"; a file has scenarios`},
		{scenario("  forwrd: {}"), `cc.yaml:4: unknown key "forwrd"; a scenario has about, duration, flows, forward,`},
		{scenario("  forward:\n    delay: 1ms\n    rats: 5"), `cc.yaml:6: unknown key "rats"; a direction has aggregate, delay,`},
		{scenario("  forward:\n    delay: 1ms\n    rate: -5Mbit/s"), "cc.yaml:6: rate: -5Mbit/s is negative"},
		{scenario("  forward:\n    rate: 5"), `cc.yaml:5: rate: "5" is not a rate such as "10Mbit/s"`},
		{scenario("  forward:\n    rate: 0Mbit/s"), "cc.yaml:5: rate: 0Mbit/s is less than 1bit/s"},
		{scenario("  forward:\n    rate: 5e9Gbit/s"), "cc.yaml:5: rate: 5e9Gbit/s is more than 10000Gbit/s"},
		{scenario("  forward:\n    rate: NaNMbit/s"), `cc.yaml:5: rate: "NaNMbit/s" is not a rate`},
		{scenario("  forward:\n    rate: [1]"), "cc.yaml:5: rate: a single value is wanted"},
		{scenario("  forward:\n    trace: none.trace"), "cc.yaml:5: trace: open none.trace: no such file or directory"},
		{scenario("  forward:\n    trace: read_test.go"), "cc.yaml:5: trace: read_test.go:1: \"package scenariofile\" is not a time"},
		{scenario("  forward:\n    loss: 101%"), "cc.yaml:5: loss: 101% is more than 1"},
		{scenario("  forward:\n    loss: -1%"), "cc.yaml:5: loss: -1% is negative"},
		{scenario("  forward:\n    loss: .nan"), "cc.yaml:5: loss: "},
		{scenario("  forward:\n    delay: soon"), `cc.yaml:5: delay: "soon" is not a duration such as "20ms"`},
		{scenario("  forward:\n    delay: -2ms"), "cc.yaml:5: delay: -2ms is negative"},
		{scenario("  forward:\n    delay: 99h"), "cc.yaml:4: forward: Delay: 99h0m0s is not between 0 and 24h0m0s"},
		{scenario("  forward:\n    queue:\n      type: red"), `cc.yaml:5: queue: type: "red" is none of fifo, codel, fq-codel, pie`},
		{scenario("  forward:\n    queue: {type: pie, bytes: 5}"), "cc.yaml:5: queue: bytes: not of type pie"},
		{scenario("  forward:\n    queue: {bdp: 1, packets: 5}"), "cc.yaml:5: queue: bdp: not with bytes or packets"},
		{scenario("  forward:\n    queue: {bdp: 0}"), "cc.yaml:5: bdp: 0 is not between 0 and"},
		{scenario("  forward:\n    queue:\n      packets: 1.5"), "cc.yaml:6: packets: 1.5 is not whole"},
		{scenario("  forward:\n    queue:\n      packets: 0"), "cc.yaml:6: packets: 0 is less than 1"},
		{scenario("  forward:\n    queue:\n      bytes: 9e9GB"), "cc.yaml:6: bytes: 9e9GB is more than"},
		{scenario("  forward:\n    steps:\n    - at: 2s\n    - at: 1s"), "cc.yaml:4: forward: Steps[1].At: 1s is not in ascending order"},
		{scenario("  forward:\n    steps:\n    - {at: 2s, down: perhaps}"), "cc.yaml:6: down: true or false is wanted"},
		{scenario("  forward: {rate: 1Mbit/s}\n  forward: {}"), "cc.yaml:5: "},
		{scenario("  duration: 0s"), "cc.yaml:2: Duration: 0s is not between"},
		{scenario("  warmup: 30s"), "cc.yaml:2: Warmup: 30s is not between 0 and the duration of 30s"},
		{scenario("  seed: -1"), `cc.yaml:4: seed: "-1" is not a seed`},
		{scenario("  mtu: 60"), "cc.yaml:2: MTU: 60 is not between 68 and 65535"},
		{"scenarios:\n- name: x", "cc.yaml:2: Flows: 0 are not between 1 and"},
		{"scenarios:\n- name: x\n  flows:\n  - algorithm: cubic\n  - algorithm: vegas", `cc.yaml:2: Flows[1].Algorithm: stack tcpx has no "vegas"`},
		{"scenarios:\n- name: x\n  flows:\n  - stack: lwip", `cc.yaml:4: stack: there is no stack "lwip"`},
		{"scenarios:\n- name: x\n  flows:\n  - count: 10001", "cc.yaml:4: more than 10000 flows"},
		{"scenarios:\n- flows: [{}]", "cc.yaml:2: name: a scenario needs one"},
		{"scenarios:\n- {name: 'a b', flows: [{}]}", "cc.yaml:2: name: a scenario needs one"},
		{"scenarios: [}", "cc.yaml:1: "},
		{"scenarios:\n\t- name: x", "cc.yaml:2: "},
		{"a: &a 1\nscenarios: *a", `cc.yaml:1: unknown key "a"`},
		{"scenarios: *a", "cc.yaml:1: "},
		{"scenarios: []\n---\nscenarios: []", "cc.yaml:3: a second document"},
		{strings.Repeat("[", 5000), "cc.yaml:1: nested deeper than 100"},
		{"\n" + strings.Repeat("- ", 5000), "cc.yaml:2: nested deeper than 100"},
		{strings.Repeat(" ", maxBytes+1), fmt.Sprintf("cc.yaml: more than %d bytes", maxBytes)},
	} {
		s, err := read(tt.text)
		if err == nil {
			t.Errorf("%.80q: %d scenarios, want %s", tt.text, len(s), tt.want)
			continue
		}
		var placed *Error
		if got := err.Error(); !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") || !errors.As(err, &placed) {
			t.Errorf("%.80q:\n%s\nwant\n%s", tt.text, got, tt.want)
		}
	}
}

func TestFileThatIsNone(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "gone.yaml"), params); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	dir := t.TempDir()
	if _, err := Load(dir, params); err == nil || err.Error() != dir+": not a regular file" {
		t.Errorf("a directory: %v", err)
	}
}

func TestNumberOfScenariosIsBounded(t *testing.T) {
	many := "scenarios:\n" + strings.Repeat("- {name: x, flows: [{}]}\n", 501) // two algorithms each
	if _, err := read(many); err == nil || err.Error() != "cc.yaml:502: more than 1000 scenarios" {
		t.Errorf("err = %v", err)
	}
}

// Whatever a file says, reading it ends, in scenarios that are valid or in one line about the file.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"scenarios:\n- name: x\n  forward: {rate: 1Mbit/s, delay: 1ms, queue: {type: fq-codel}}\n  flows: [{}, {count: 3, apart: 1ms}]",
		"scenarios:\n- {name: x, flows: [{rate: 1kbit/s}], forward: {loss: {to-bad: 1}, steps: [{at: 1s, down: true}]}}",
		"scenarios: [a, {b: c}, [d]]", "? a\n: b", "a: &x [*x]", "<<: {a: b}", "%YAML 1.2\n---\n", "scenarios:\n- !!binary x", "a: |\n  b\n", "'", "\"\\", "{", "- - - -", "!", "&", "*",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := read(text)
		if err != nil {
			if msg := err.Error(); !strings.HasPrefix(msg, "cc.yaml:") || strings.Contains(msg, "\n") {
				t.Errorf("error %q", msg)
			}
			return
		}
		if len(got) == 0 || len(got) > maxScenarios {
			t.Errorf("%d scenarios and no error", len(got))
		}
		for _, s := range got {
			if err := s.Validate(); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
	})
}

// The file in docs/congestion.md is one.
func TestDocumentedFile(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/congestion.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "```yaml\nscenarios:")
	text, _, closed := strings.Cut(text, "```")
	if !ok || !closed {
		t.Fatal("no scenarios in the document")
	}
	got, err := read("scenarios:" + text)
	if err != nil || len(got) != len(params.Algorithms) {
		t.Errorf("%d scenarios, %v", len(got), err)
	}
}
