package script

import (
	"strings"
	"testing"
)

func TestEval(t *testing.T) {
	for _, tc := range []struct {
		src  string
		want int64
		err  string
	}{
		{"7", 7, ""},
		{"-1", -1, ""},
		{"0x10", 16, ""},
		{"O_RDWR|O_NONBLOCK", 0x802, ""},
		{"EPOLLIN|EPOLLET", 1<<31 | 1, ""},
		{"htons(0x1234)", 0x3412, ""},
		{"EAGAIN", 11, ""},
		{"NO_SUCH", 0, "the constant NO_SUCH is not known"},
		{"1|NO_SUCH", 0, "the constant NO_SUCH is not known"},
		{"NO_SUCH|1", 0, "the constant NO_SUCH is not known"},
		{"htons(65536)", 0, "does not fit into 16 bits"},
		{"htons(NO_SUCH)", 0, "is not known"},
		{"inet_addr(\"1.2.3.4\")", 0, "is not a number"},
		{"...", 0, "is not a number"},
		{"[1]", 0, "is not a number"},
	} {
		call := parseEvent(t, "0 f("+tc.src+") = 0").Action.(*Syscall)
		got, err := Eval(call.Args[0])
		if got != tc.want && tc.err == "" || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: got %d, %v; want %d, %q", tc.src, got, err, tc.want, tc.err)
		}
	}
	if _, err := Eval(nil); err == nil {
		t.Error("Eval(nil) has no error")
	}
}

func TestErrnoName(t *testing.T) {
	for n, want := range map[int64]string{11: "EAGAIN", 95: "EOPNOTSUPP", 104: "ECONNRESET", 0: "errno 0", 9999: "errno 9999"} {
		if got := ErrnoName(n); got != want {
			t.Errorf("ErrnoName(%d) = %s, want %s", n, got, want)
		}
	}
	for name, n := range errnos {
		if _, ok := constants[name]; ok {
			t.Errorf("%s is in both tables", name)
		}
		if back, ok := Errno(ErrnoName(n)); !ok || back != n {
			t.Errorf("%s: ErrnoName(%d) leads to %d", name, n, back)
		}
	}
}
