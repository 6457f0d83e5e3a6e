package script

import (
	"strings"
	"testing"
)

// windowsOf parses a script and returns the windows of its events, which the
// tests use to name lines.
func windowsOf(t *testing.T, src string, defines map[string]string) []uint16 {
	t.Helper()
	s, err := ParseWith("t.pkt", []byte(src), defines)
	if err != nil {
		t.Fatal(err)
	}
	var out []uint16
	for _, e := range s.Events {
		out = append(out, e.Action.(*Packet).TCP.Win.Value)
	}
	return out
}

// line is an event that stands for the number n.
func line(n string) string { return "+0 < . 1:1(0) ack 1 win " + n + "\n" }

func TestConditionals(t *testing.T) {
	for _, tc := range []struct {
		name, src string
		defines   string
		want      []uint16
	}{
		{"not defined", line("1") + "#ifdef A\n" + line("2") + "#endif\n" + line("3"), "", []uint16{1, 3}},
		{"defined by the caller", line("1") + "#ifdef A\n" + line("2") + "#endif\n" + line("3"), "A", []uint16{1, 2, 3}},
		{"defined by the script", "--define=A=1\n#ifdef A\n" + line("2") + "#endif\n" + line("3"), "", []uint16{2, 3}},
		{"not yet defined", "#ifdef A\n--define=B=1\n#endif\n#ifdef B\n" + line("1") + "#else\n" + line("2") + "#endif\n", "", []uint16{2}},
		{"not", "#ifndef A\n" + line("1") + "#else\n" + line("2") + "#endif\n", "", []uint16{1}},
		{"not, defined", "#ifndef A\n" + line("1") + "#else\n" + line("2") + "#endif\n", "A", []uint16{2}},
		{"nested in what counts", "#ifdef A\n#ifdef B\n" + line("1") + "#else\n" + line("2") + "#endif\n#endif\n" + line("3"), "A", []uint16{2, 3}},
		{"nested in what does not", "#ifdef B\n#ifdef A\n" + line("1") + "#else\n" + line("2") + "#endif\n#endif\n" + line("3"), "A", []uint16{3}},
		{"indented, and with a note", "  #ifdef A // on A\n" + line("1") + "\t#  endif // A\n" + line("2"), "A", []uint16{1, 2}},
		{"no grammar in what is left out", "#ifdef A\n!!! \"`\n#endif\n" + line("1"), "", []uint16{1}},
		{"a comment of a shell", "`true\n# ifconfig\n#if\n#endif0\n`\n" + line("1"), "", []uint16{1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defines := map[string]string{}
			if tc.defines != "" {
				defines[tc.defines] = "1"
			}
			got := windowsOf(t, tc.src, defines)
			if len(got) != len(tc.want) {
				t.Fatalf("events %v, want %v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Fatalf("events %v, want %v", got, tc.want)
				}
			}
		})
	}
}

// TestConditionalsKeepPlaces checks that an error behind a condition, and the
// source, are those of the file.
func TestConditionalsKeepPlaces(t *testing.T) {
	src := "#ifdef A\n" + line("1") + "#endif\n" + line("2")
	s, err := Parse("t.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if s.Events[0].Pos.Line != 4 || s.Source != src {
		t.Errorf("the event is at %v, the source %q", s.Events[0].Pos, s.Source)
	}
}

func TestConditionalErrors(t *testing.T) {
	deep := strings.Repeat("#ifdef A\n", maxConditions+1)
	for _, tc := range []struct{ src, want string }{
		{"#ifdef A\n" + line("1"), "t.pkt:1:1: the condition has no #endif"},
		{line("1") + "#ifdef A\n#ifndef B\n#endif\n", "t.pkt:2:1: the condition has no #endif"},
		{line("1") + "#endif\n", "t.pkt:2:1: #endif without a condition"},
		{line("1") + "#else\n#endif\n", "t.pkt:2:1: #else without a condition"},
		{"#ifdef A\n#else\n#else\n#endif\n" + line("1"), "t.pkt:3:1: the condition has a second #else"},
		{"#ifdef\n#endif\n" + line("1"), "t.pkt:1:1: #ifdef needs the name of a symbol"},
		{deep, "nested too deeply"},
	} {
		_, err := Parse("t.pkt", []byte(tc.src))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: error %v, want %q", tc.src, err, tc.want)
		}
	}
}
