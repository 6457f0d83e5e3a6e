package script

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testEnv knows a few fields of TCP_INFO.
func testEnv(name string) (int64, bool) {
	v, ok := map[string]int64{"tcpi_snd_cwnd": 10, "tcpi_rtt": 30_000, "tcpi_options": 7, "tcpi_zero": 0}[name]
	return v, ok
}

func TestFormula(t *testing.T) {
	for _, tc := range []struct {
		src     string
		want    int64
		unknown string
	}{
		{"1", 1, ""},
		{"0x10 + 010", 24, ""},
		{"2 + 3 * 4", 14, ""},
		{"(2 + 3) * 4", 20, ""},
		{"10 - 2 - 3", 5, ""},
		{"-7 / 2", -4, ""},
		{"-7 // 2", -4, ""},
		{"-7 % 3", 2, ""},
		{"7 % -3", -2, ""},
		{"-8 / 2", -4, ""},
		{"1 << 4 >> 2", 4, ""},
		{"6 & 3 | 8 ^ 1", 11, ""},
		{"1 | 2 == 3", 1, ""},
		{"~0", -1, ""},
		{"- -+3", 3, ""},
		{"0xffffffffffffffff == -1", 1, ""},
		{"not 0", 1, ""},
		{"not 1 == 2", 1, ""},
		{"1 and 2", 1, ""},
		{"0 or 0", 0, ""},
		{"True and not False", 1, ""},
		{"1 < 2 < 3", 1, ""},
		{"1 < 3 < 2", 0, ""},
		{"20000 <= tcpi_rtt <= 40000", 1, ""},
		{"tcpi_snd_cwnd != 10", 0, ""},
		{"tcpi_snd_cwnd in (9, 10)", 1, ""},
		{"tcpi_snd_cwnd not in [9, 10,]", 0, ""},
		{"1 in ()", 0, ""},
		{"abs(3 - 5) + min(4, 2) + max(1, 2, 3)", 7, ""},
		{"(tcpi_options & TCPI_OPT_SACK) != 0", 1, ""},
		{"TCP_CA_Loss", 4, ""},
		{"tcpi_lost", 0, "tcpi_lost"},
		{"tcpi_lost + tcpi_b == 0", 0, "tcpi_b,tcpi_lost"},
		{"tcpi_lost == 0 and tcpi_zero", 0, ""},
		{"tcpi_zero and tcpi_lost == 0", 0, ""},
		{"tcpi_lost == 0 or 1", 1, ""},
		{"tcpi_lost == 0 and 1", 0, "tcpi_lost"},
		{"not tcpi_lost", 0, "tcpi_lost"},
		{"1 < tcpi_lost < 0", 0, "tcpi_lost"},
		{"2 < 1 < tcpi_lost", 0, ""},
		{"1 in (tcpi_lost, 1)", 1, ""},
		{"1 in (tcpi_lost, 2)", 0, "tcpi_lost"},
		{"max(tcpi_lost, 2)", 0, "tcpi_lost"},
		{"tcpi_lost / 0", 0, "tcpi_lost"},
	} {
		f, err := ParseExpr("x", tc.src)
		if err != nil {
			t.Errorf("%s: %v", tc.src, err)
			continue
		}
		got, unknown, err := f.Eval(testEnv)
		if err != nil || got != tc.want || strings.Join(unknown, ",") != tc.unknown {
			t.Errorf("%s: got %d, unknown %v, error %v; want %d, unknown %q", tc.src, got, unknown, err, tc.want, tc.unknown)
		}
		again, err := ParseExpr("x", f.String())
		if err != nil || again.String() != f.String() {
			t.Errorf("%s: is printed as %s, which parses as %s, %v", tc.src, f, again, err)
		}
	}
}

func TestFormulaErrors(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"1 / 0", "division by zero"},
		{"1 % tcpi_zero", "division by zero"},
		{"(-9223372036854775807 - 1) / -1", "overflows"},
		{"1 << 64", "shift by 64"},
		{"1 >> -1", "shift by -1"},
		{"not 1 / 0", "division by zero"},
		{"1 and 1 / 0", "division by zero"},
		{"1 < 2 < 1 / 0", "division by zero"},
		{"1 in (1 / 0, 1)", "division by zero"},
		{"abs(1 / 0)", "division by zero"},
	} {
		f, err := ParseExpr("x", tc.src)
		if err != nil {
			t.Errorf("%s: %v", tc.src, err)
			continue
		}
		if _, _, err := f.Eval(testEnv); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want %q", tc.src, err, tc.want)
		}
	}
	for _, tc := range []struct{ src, want string }{
		{"", "expected a number or a name, found the end of the code"},
		{"1 +", "found the end of the code"},
		{"(1", `expected ")"`},
		{"1 2", `"2" is not expected there`},
		{"1 ** 2", `"**" is not expected there`},
		{"99999999999999999999", "not an integer of 64 bits"},
		{"1x", "not an integer of 64 bits"},
		{"len(1)", `the function "len" is not known`},
		{"abs(1, 2)", "the wrong number of arguments"},
		{"min(1)", "the wrong number of arguments"},
		{"1 not 2", `needs "in"`},
		{"1 in 2", "needs a list in parentheses"},
		{"1 in (1", "no ) to end it"},
		{"'a' == 1", "expected a number or a name"},
		{"1 if 2 else 3", `"if" is not expected there`},
		{"a.b", `"." is not expected there`},
		{"'open", "a string has no end"},
		{"1;", "the end of the statement is not expected there"},
	} {
		if f, err := ParseExpr("x", tc.src); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, error %v, want %q", tc.src, f, err, tc.want)
		}
	}
}

func TestCode(t *testing.T) {
	for _, tc := range []struct {
		name, src       string
		failed, detail  string
		unknown, reason string
	}{
		{name: "holds", src: "assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd"},
		{name: "fails", src: "assert tcpi_snd_cwnd == 9, 'cwnd=%d' % tcpi_snd_cwnd",
			failed: "assert tcpi_snd_cwnd == 9, 'cwnd=%d' % tcpi_snd_cwnd", detail: "tcpi_snd_cwnd is 10"},
		{name: "first failure", src: "assert 1\nassert tcpi_zero == 1; assert tcpi_rtt == 1",
			failed: "assert tcpi_zero == 1", detail: "tcpi_zero is 0"},
		{name: "details once", src: "assert tcpi_snd_cwnd < tcpi_zero < tcpi_snd_cwnd",
			failed: "assert tcpi_snd_cwnd < tcpi_zero < tcpi_snd_cwnd", detail: "tcpi_snd_cwnd is 10, tcpi_zero is 0"},
		{name: "unknown", src: "assert tcpi_lost == 0; assert tcpi_b + tcpi_lost == 0", unknown: "tcpi_b tcpi_lost"},
		{name: "unknown and failed", src: "assert tcpi_lost == 0; assert tcpi_zero == 1",
			failed: "assert tcpi_zero == 1", detail: "tcpi_zero is 0", unknown: "tcpi_lost"},
		{name: "variables", src: "cwnd = 4; cwnd += 5; cwnd -= 1; cwnd *= 2; cwnd //= 3; cwnd |= 8; assert cwnd == 13, '((4+5-1)*2//3)|8'"},
		{name: "unknown variable", src: "x = 1; x = tcpi_lost; assert x == 1", unknown: "tcpi_lost x"},
		{name: "print", src: "print(tcpi_snd_cwnd); print 'a'; assert 1"},
		{name: "comments", src: "# a comment\nassert 1 == 1, 'x # y' # another\n"},
		{name: "continuation", src: "assert 1 == 1;\\\n  assert (1 ==\n 1);\\"},
		{name: "message with brackets", src: "assert 1, 'a %d %d' % (1,\n 2)"},
		{name: "empty", src: "\n;;\n"},
		{name: "import", src: "import os", reason: `not one that begins with "import"`},
		{name: "loop", src: "for x in (1, 2): assert x", reason: `not one that begins with "for"`},
		{name: "comparison as a statement", src: "x == 1", reason: `not one that begins with "x"`},
		{name: "power", src: "assert 2 ** 3 == 8", reason: `"**" is not expected there`},
		{name: "open string", src: "assert 1, 'a", reason: "a string has no end"},
	} {
		c := parseEvent(t, "0 %{ "+tc.src+" }%").Action.(*Code)
		if tc.reason != "" {
			if !strings.Contains(c.Unsupported(), tc.reason) || c.Statements != nil {
				t.Errorf("%s: the reason is %q, want %q", tc.name, c.Unsupported(), tc.reason)
			}
			if _, err := c.Eval(testEnv, map[string]int64{}); err == nil {
				t.Errorf("%s: ran", tc.name)
			}
			continue
		}
		if c.Reason != "" {
			t.Errorf("%s: unsupported: %s", tc.name, c.Reason)
			continue
		}
		out, err := c.Eval(testEnv, map[string]int64{})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		failed := ""
		if out.Failed != nil {
			failed = out.Failed.String()
		}
		if failed != tc.failed || out.Detail != tc.detail || strings.Join(out.Unknown, " ") != tc.unknown {
			t.Errorf("%s: got failed %q, detail %q, unknown %v; want %q, %q, %q",
				tc.name, failed, out.Detail, out.Unknown, tc.failed, tc.detail, tc.unknown)
		}
	}
}

// TestCodeKeepsVariables runs two blocks with the same variables.
func TestCodeKeepsVariables(t *testing.T) {
	vars := map[string]int64{}
	first := parseEvent(t, "0 %{ cwnd = tcpi_snd_cwnd; TCP_INFINITE_SSTHRESH = 5 }%").Action.(*Code)
	second := parseEvent(t, "0 %{ cwnd += 1; assert cwnd == 11 and TCP_INFINITE_SSTHRESH == 5 }%").Action.(*Code)
	for _, c := range []*Code{first, second} {
		if out, err := c.Eval(testEnv, vars); err != nil || out.Failed != nil || out.Unknown != nil {
			t.Errorf("%s: %+v, %v", c, out, err)
		}
	}
	if diff := cmp.Diff(map[string]int64{"cwnd": 11, "TCP_INFINITE_SSTHRESH": 5}, vars); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	broken := parseEvent(t, "0 %{ x = 1\n  x /= 0 }%").Action.(*Code)
	_, err := broken.Eval(testEnv, vars)
	if err == nil || err.Error() != "t.pkt:2:3: division by zero" {
		t.Errorf("error is %v", err)
	}
}
