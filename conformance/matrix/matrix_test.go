package matrix

import (
	"strings"
	"testing"
)

func TestEveryStateMeetsEveryKindOfEvent(t *testing.T) {
	scripts, err := Scripts()
	if err != nil {
		t.Fatal(err)
	}
	cells := make(map[string]bool)
	for _, s := range scripts {
		if cells[s.Name] {
			t.Errorf("two cells are called %s", s.Name)
		}
		cells[s.Name] = true
	}
	everywhere := []string{"text-at-left-edge", "RST-exact", "SYN", "SYN-ACK", "ACK-valid", "no-flags", "FIN", "URG", "bad-checksum"}
	inWindow := []string{
		"text-left-of-window", "text-across-left-edge", "text-inside-window", "text-before-right-edge", "text-across-right-edge",
		"text-at-right-edge", "text-right-of-window", "RST-in-window", "RST-left-of-window", "RST-at-right-edge", "ACK-old", "ACK-future",
	}
	for _, s := range states {
		events := everywhere
		if s.section == "3.10.7.4" {
			events = append(append([]string{}, everywhere...), inWindow...)
		}
		for _, e := range events {
			// These two are the same as others for the state.
			if (e == "SYN-ACK") && strings.HasPrefix(s.name, "SYN-RECEIVED") {
				continue
			}
			if !cells[Prefix+s.name+"/"+e] {
				t.Errorf("the table does not say what %s does at %s", s.name, e)
			}
		}
	}
}

func TestTextOfACell(t *testing.T) {
	events, err := parseTable(tableText)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.name != "FIN" {
			continue
		}
		c := &cell{event: e, from: *stateOf("FIN-WAIT-2")}
		got, err := c.text("ack 1 -> TIME-WAIT; = read({FD}, ..., 1000) = 0", []string{"other=fail it is another"})
		if err != nil {
			t.Fatal(err)
		}
		want := `// FIN-WAIT-2: the FIN of the peer
//@ title: FIN-WAIT-2: the FIN of the peer
//@ section: RFC 9293 3.10.7.4
//@ expect: other=fail it is another

` + finWait2 + `
+.02 < F. 101:101(0) ack 102 win 30000
+0~+.5 > . 102:102(0) ack 102
+0 read(4, ..., 1000) = 0
+1 < F. 101:101(0) ack 102 win 30000
+0 > . 102:102(0) ack 102
`
		if got != want {
			t.Errorf("the script is\n%s\nwant\n%s", got, want)
		}
		return
	}
	t.Error("the table has no event FIN")
}

func TestNumbersWrap(t *testing.T) {
	c := &cell{event: &event{}, from: *stateOf("SYN-SENT")}
	if got, _ := c.fill("{UNA-50} {NXT+1} {FD}"); got != "4294967246 2 3" {
		t.Errorf("numbers are %s", got)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"\nnonsense":                             "table:2: expected an event",
		"event X\n  nonsense":                    "table:2: expected a name and a colon",
		"event X\n  ESTABLISHED BAD-STATE: ack":  `table:2: there is no state "BAD-STATE"`,
		"event X\n  with: other things in space": "table:2: there is no",
	} {
		if _, err := parseTable(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error of %q is %v, want %s...", text, err, want)
		}
	}
	for steps, want := range map[string]string{
		"perhaps":            `table:7: unknown step "perhaps"`,
		"ack many":           "table:7: expected a number of octets",
		"nothing -> NOWHERE": "table:7: there is no state",
		"= read({FD}) = 0":   "table:7: SYN-RECEIVED has no descriptor",
	} {
		c := &cell{event: &event{after: ".1"}, from: *stateOf("SYN-RECEIVED"), line: 7}
		if _, err := c.text(steps, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error of %q is %v, want %s...", steps, err, want)
		}
	}
	if _, err := parseKnown("# fine\nmatrix/X/Y"); err == nil || !strings.HasPrefix(err.Error(), "known:2:") {
		t.Errorf("error is %v, want one of line 2", err)
	}
}

// TestWhatIsProved has, for each way to end, what a script sends to see that the
// state is the one that the table has.
func TestWhatIsProved(t *testing.T) {
	another := "+0 < 50999 > 8080 S 0:0(0) win 30000 <mss 1000>\n"
	for _, tt := range []struct{ from, steps, want string }{
		{"ESTABLISHED", "nothing", "+0...0.05 > none\n+0 %{ assert tcpi_state == 1, tcpi_state }%\n"},
		{"ESTABLISHED", "ack 1 -> CLOSE-WAIT", "+0~+.5 > . 101:101(0) ack 102\n+0 %{ assert tcpi_state == 8, tcpi_state }%\n"},
		{"ESTABLISHED", "nothing -> CLOSED", "+0...0.05 > none\n+0 < . 101:101(0) ack 101 win 30000\n+0 > R 101:101(0)\n"},
		{"ESTABLISHED", "nothing -> any", "+0...0.05 > none\n"},
		{"SYN-RECEIVED", "nothing -> LISTEN", "+0 > R 1:1(0)\n" + another + "+0 > 8080 > 50999 S. 0:0(0) ack 1 <...>\n"},
		{"LISTEN", "nothing", "+0...0.05 > none\n" + another + "+0 > 8080 > 50999 S. 0:0(0) ack 1 <...>\n"},
		{"LISTEN", "nothing -> CLOSED", another + "+0 > 8080 > 50999 R. 0:0(0) ack 1\n"},
	} {
		c := &cell{event: &event{after: ".1"}, from: *stateOf(tt.from)}
		if got, err := c.text(tt.steps, nil); err != nil || !strings.HasSuffix(got, "\n"+tt.want) {
			t.Errorf("%s in %s: %v\n%s\nwant at the end\n%s", tt.steps, tt.from, err, got, tt.want)
		}
	}
}
