package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/plumbline/plumbline/congestion/testbed"
)

// command runs a command line in this process.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

// wallTime is what differs between two runs of a seed.
var wallTime = regexp.MustCompile(`"wall_s": [0-9.e-]+`)

func readReport(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return wallTime.ReplaceAllString(string(b), `"wall_s": 0`)
}

// Whoever called bench cc wrongly learns in one line what to change, and nothing has run.
func TestBenchCCWrongUsage(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`[{"scenario":"clean","speed":1}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	wrongFile := filepath.Join(dir, "wrong.yaml")
	if err := os.WriteFile(wrongFile, []byte("scenarios:\n- name: x\n  forward:\n    rate: -5Mbit/s\n  flows: [{}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--scenario", "nonesuch"}, `--scenario: there is no scenario "nonesuch"; there are clean,`},
		{[]string{"--scenario", "loss/7%"}, `--scenario: scenario loss has no variant "7%"; it has 0.01%,`},
		{[]string{"--cc", "vegas"}, `--cc: tcpx has no "vegas"; it has bbr, bbr1, cubic, reno`},
		{[]string{"--cc", "cubic,vegas", "--stack", "tcpx,gvisor"}, `--cc: tcpx has no "vegas"`},
		{[]string{"--cc", "bbr", "--stack", "gvisor"}, `--cc: gvisor has no "bbr"; it has cubic, reno`},
		{[]string{"--stack", "lwip"}, `--stack: there is no stack "lwip"; there are tcpx, tcpx-paced, tcpx-no-timestamps, gvisor`},
		{[]string{"--cc", "vegas", "--stack", "linux"}, `--cc: linux has no "vegas"; it has `},
		{[]string{"--rounds", "0"}, "--rounds 0, want 1 to 1000"},
		{[]string{"--rounds", "2", "--scenario", "clean", "--pcapng", filepath.Join(dir, "x")}, "--pcapng records one round"},
		{[]string{"--compare-linux", "--stack", "tcpx"}, "--compare-linux without linux in --stack"},
		{[]string{"--shard", "4/3"}, `--shard: "4/3" is not of the form i/n with 1 <= i <= n`},
		{[]string{"--duration", "-1s"}, "--duration -1s is negative"},
		{[]string{"--duration", "48h"}, "scenario clean: Duration: 48h0m0s is not between"},
		{[]string{"--duration", "soon"}, `invalid argument "soon" for "--duration"`},
		{[]string{"--parallel", "-2"}, "--parallel -2 is negative"},
		{[]string{"--seed", "-2"}, `invalid argument "-2" for "--seed"`},
		{[]string{"--json", filepath.Join(dir, "no", "such", "file")}, "--json: open " + filepath.Join(dir, "no", "such", "file") + ": no such file"},
		{[]string{"--html", filepath.Join(dir, "no", "such", "file")}, "--html: open " + filepath.Join(dir, "no", "such", "file") + ": no such file"},
		{[]string{"--pcapng", filepath.Join(dir, "x.pcapng")}, "--pcapng: " + filepath.Join(dir, "x.pcapng") + " is one file for 9 scenarios; name a directory"},
		{[]string{"--pcapng", broken}, "--pcapng: mkdir " + broken + ": "},
		{[]string{"--scenario", "coexist", "--cc", "cubic"}, "nothing to run: these scenarios need more than one algorithm"},
		{[]string{"--file", wrongFile}, wrongFile + ":4: rate: -5Mbit/s is negative"},
		{[]string{"--file", wrongFile, "--scenario", "clean"}, wrongFile + ":4: rate"},
		{[]string{"--file", filepath.Join(dir, "gone.yaml")}, "open " + filepath.Join(dir, "gone.yaml") + ": no such file"},
		{[]string{"nonesuch"}, `unknown command "nonesuch"`},
		{[]string{"merge"}, "requires at least 1 arg"},
		{[]string{"merge", filepath.Join(dir, "gone.json")}, "open " + filepath.Join(dir, "gone.json") + ": no such file"},
		{[]string{"merge", broken}, broken + `: not a report of bench cc: json: unknown field "speed"`},
	} {
		status, stdout, stderr := command(t, append([]string{"bench", "cc"}, tt.args...)...)
		if status != exitUsage || stdout != "" {
			t.Errorf("%q: status %d, output %q", tt.args, status, stdout)
		}
		if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q says %q, want one line with %q", tt.args, stderr, tt.want)
		}
	}
}

func TestBenchCCList(t *testing.T) {
	status, stdout, _ := command(t, "bench", "cc", "--list")
	for _, want := range []string{"clean", "bufferbloat", "1bdp 10bdp 50bdp 100bdp", "aqm"} {
		if status != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("status %d, %q not in %q", status, want, stdout)
		}
	}
}

// The JSON is an array of objects with these names and no others: programs rely on it.
func TestBenchCCJSONNames(t *testing.T) {
	status, stdout, stderr := command(t, "bench", "cc", "--scenario", "loss/1%", "--cc", "reno", "--duration", "1s", "--json", "-")
	if status != exitOK || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var results []map[string]any
	if err := json.Unmarshal([]byte(stdout), &results); err != nil {
		t.Fatal(err)
	}
	want := []string{"scenario", "stack", "algorithm", "flows", "goodput_mbps", "queue_p50_ms", "queue_p95_ms", "retransmits", "rtos", "jain", "wall_s", "sim_s"}
	slices.Sort(want)
	if len(results) != 1 {
		t.Fatalf("%d results", len(results))
	}
	var got []string
	for name := range results[0] {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

// Parts that machines of a matrix run, merged in any order, are the report of the whole.
func TestBenchCCShardsMerge(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a sweep twice")
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	bench := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := command(t, append([]string{"bench", "cc"}, args...)...)
		if status != exitOK || stderr != "" {
			t.Fatalf("%q: status %d: %s", args, status, stderr)
		}
		return stdout
	}
	what := []string{"--scenario", "coexist,loss/1%", "--stack", "tcpx,gvisor", "--duration", "300ms"}
	table := bench(append(what, "--json", file("whole.json"))...)
	for _, want := range []string{"scenario", "Mbit/s", "coexist/0.1bdp", "reno+cubic", "gvisor"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in the table:\n%s", want, table)
		}
	}
	for _, i := range []string{"1", "2", "3"} {
		bench(append(what, "--shard", i+"/3", "--json", file("part"+i+".json"))...)
	}
	merged := bench("merge", "--json", file("merged.json"), file("part3.json"), file("part1.json"), file("part2.json"))
	if got, want := readReport(t, file("merged.json")), readReport(t, file("whole.json")); got != want {
		t.Errorf("merged:\n%s\nwhole:\n%s", got, want)
	}
	if got, want := strings.Count(merged, "tcpx")+strings.Count(merged, "gvisor"), strings.Count(readReport(t, file("whole.json")), `"stack"`); got != want {
		t.Errorf("the merged table has %d rows, want %d:\n%s", got, want, merged)
	}
}

// A page and captures are written beside the table; captures change nothing.
func TestBenchCCFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	what := []string{"bench", "cc", "--scenario", "path/reorder", "--cc", "reno,bbr", "--duration", "500ms"}
	for _, extra := range [][]string{
		{"--json", file("plain.json"), "--html", file("page.html")},
		{"--json", file("captured.json"), "--pcapng", file("packets")},
	} {
		if status, _, stderr := command(t, append(what, extra...)...); status != exitOK || stderr != "" {
			t.Fatalf("status %d: %s", status, stderr)
		}
	}
	if a, b := readReport(t, file("plain.json")), readReport(t, file("captured.json")); a != b {
		t.Errorf("captured:\n%s\nwithout:\n%s", b, a)
	}
	page := readReport(t, file("page.html"))
	for _, want := range []string{"plumbline bench cc --cc reno,bbr --duration 500ms --scenario path/reorder", "Congestion window", "</html>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, name := range []string{"path_reorder-tcpx-reno.pcapng", "path_reorder-tcpx-bbr.pcapng"} {
		f, err := os.Open(filepath.Join(dir, "packets", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		packets := 0
		for {
			_, info, err := r.ReadPacketData()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			// Virtual time, from the same instant on in every run.
			if packets == 0 && info.Timestamp.UTC().Format("2006-01-02 15:04:05.000") != "2000-01-01 00:00:00.000" {
				t.Errorf("%s begins at %v", name, info.Timestamp)
			}
			packets++
		}
		if packets < 20 {
			t.Errorf("%s has %d packets", name, packets)
		}
	}
}

// The scenarios of a file run with each algorithm, and without those that are built in.
func TestBenchCCFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cc.yaml")
	text := "scenarios:\n- name: dsl\n  forward: {rate: 16Mbit/s, delay: 15ms, queue: {bytes: 100kB}}\n  reverse: {rate: 2Mbit/s, delay: 15ms}\n  flows: [{}]\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := command(t, "bench", "cc", "--file", name, "--cc", "reno,cubic", "--duration", "2s", "--json", "-")
	if status != exitOK || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	results, err := testbed.ReadJSON(strings.NewReader(stdout))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, r.Scenario+" "+r.Algorithm)
		if r.SimSeconds != 2 || r.GoodputMbps < 5 || r.GoodputMbps > 16 {
			t.Errorf("%+v", r)
		}
	}
	if want := []string{"dsl reno", "dsl cubic"}; !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// --seed changes what is random and nothing else does, --parallel nothing; --pcapng FILE is one file.
func TestBenchCCSeedParallelAndOneCapture(t *testing.T) {
	dir := t.TempDir()
	report := func(args ...string) string {
		t.Helper()
		name := filepath.Join(dir, "report.json")
		status, _, stderr := command(t, append([]string{"bench", "cc", "--scenario", "loss/1%", "--duration", "1s", "--json", name}, args...)...)
		if status != exitOK || stderr != "" {
			t.Fatalf("%q: status %d: %s", args, status, stderr)
		}
		return readReport(t, name)
	}
	plain := report()
	for _, same := range [][]string{{"--seed", "1"}, {"--parallel", "1"}, {"--parallel", "2"}} {
		if got := report(same...); got != plain {
			t.Errorf("%q:\n%s\nwithout:\n%s", same, got, plain)
		}
	}
	if report("--seed", "2") == plain {
		t.Error("--seed 2 changes nothing")
	}
	name := filepath.Join(dir, "one.pcapng")
	report("--cc", "reno", "--pcapng", name) // for one scenario with one algorithm
	if info, err := os.Stat(name); err != nil || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}
