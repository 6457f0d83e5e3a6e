package adapter

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// mode in the environment makes the test program an adapter that misbehaves.
const mode = "PLUMBLINE_TEST_ADAPTER"

const hi = `{"hello":{"protocol":1,"name":"mine"}}`

// misbehaviours answer the lines after the first, whose answer is in greetings
// if it is not hi.
var misbehaviours = map[string]func(line string) string{
	"silent":  func(string) string { select {} },
	"garbage": func(string) string { return "Segmentation fault\x1b[31m" },
	"ends": func(string) string {
		fmt.Fprintln(os.Stderr, "tcp_input.c:17: assertion failed")
		os.Exit(1)
		return ""
	},
	"array":      func(string) string { return "[1,2]" },
	"backwards":  inTurn(`{"now_ns":5}`, `{"now_ns":4}`),
	"standstill": func(string) string { return `{"now_ns":7}` },
	"too far":    inTurn(`{}`, `{"now_ns":9000000000000}`),
	"future":     func(string) string { return `{"now_ns":1,"packets":[{"at_ns":2,"data":"45"}]}` },
	"past":       func(string) string { return `{"packets":[{"at_ns":-2,"data":"45"}]}` },
	"no packet":  func(string) string { return `{"packets":[{"data":""}]}` },
	"odd packet": func(string) string { return `{"packets":[{"data":"4"}]}` },
	"long packet": func(string) string {
		return `{"packets":[{"data":"` + strings.Repeat("45", maxPacket+1) + `"}]}`
	},
	"no call":    func(string) string { return `{"done":[{"id":77,"value":0}]}` },
	"twice":      inTurn(`{}`, `{"done":[{"id":1},{"id":1}]}`),
	"bad option": inTurn(`{}`, `{"done":[{"id":1,"option":[]}]}`),
	"no open":    func(string) string { return `{"error":"no memory\n\u001b[2J"}` },
}

// greetings are answers to "hello".
var greetings = map[string]string{
	"no hello":    `{}`,
	"other":       `{"hello":{"protocol":2,"name":"mine"}}`,
	"loud":        `{"hello":{"protocol":1,"name":"MINE"}}`,
	"no protocol": `{"hello":{"name":"mine"}}`,
}

// inTurn gives one answer after the other, and the last again and again.
func inTurn(answers ...string) func(string) string {
	return func(string) string {
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return a
	}
}

func TestMain(m *testing.M) {
	name := os.Getenv(mode)
	if name == "" {
		os.Exit(m.Run())
	}
	if name == "endless" {
		for {
			os.Stdout.Write(make([]byte, 1<<20))
		}
	}
	in := bufio.NewScanner(os.Stdin)
	for first := true; in.Scan(); first = false {
		answer := hi
		if g, ok := greetings[name]; ok {
			answer = g
		}
		if !first {
			answer = misbehaviours[name](in.Text())
		}
		fmt.Println(answer)
	}
}

// start starts the test program as an adapter in a mode.
func start(t *testing.T, name string) (*Adapter, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Start(Options{Command: []string{"/usr/bin/env", mode + "=" + name, self}, Patience: time.Minute})
	if err != nil {
		return nil, err
	}
	t.Cleanup(a.Close)
	if name == "silent" {
		a.idle[0].patience = 50 * time.Millisecond // it has said hello, and will say no more
	}
	return a, nil
}

// TestHostileGreetings refuses a process that is no adapter, with one line.
func TestHostileGreetings(t *testing.T) {
	for name, want := range map[string]string{
		"no hello":    "no hello in its answer",
		"other":       "it speaks version 2 of the protocol, not 1",
		"no protocol": "it speaks version 0 of the protocol, not 1",
		"loud":        `its name is "MINE"`,
		"endless":     "it wrote a line of more than 32 MiB",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := start(t, name)
			checkLine(t, err, want)
		})
	}
	if _, err := Start(Options{}); err == nil {
		t.Error("no command is a command")
	}
	_, err := Start(Options{Command: []string{"/nonexistent/adapter"}})
	checkLine(t, err, "cannot start /nonexistent/adapter")
}

// checkLine wants one printable line with something in it.
func checkLine(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error is %v, want one with %q", err, want)
	}
	if text := err.Error(); text != strings.TrimSpace(text) || strings.ContainsAny(text, "\n\r\x1b") || len(text) > 1000 {
		t.Errorf("not one printable line: %q", text)
	}
}

const twoCalls = `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+1 < S 0:0(0) win 1000
+0 > S. 0:0(0) ack 1
`

// TestHostileAnswers ends a run with one line that says what the process did,
// and goes on with the next run.
func TestHostileAnswers(t *testing.T) {
	s, err := script.Parse("test.pkt", []byte(twoCalls))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"silent":      `after "open": no answer within 50ms`,
		"garbage":     `after "open": it wrote "Segmentation fault [31m", which is no reply`,
		"ends":        `after "open": it ended; it said: tcp_input.c:17: assertion failed`,
		"array":       "which is no reply",
		"backwards":   `after "call socket": its time goes back from 5ns to 4ns`,
		"future":      "something happened at 2ns, and it is 1ns",
		"past":        "something happened at -2ns",
		"no packet":   "a packet has 0 octets",
		"odd packet":  "octets are in hexadecimal",
		"long packet": "a packet has 65537 octets",
		"no call":     "call 77 has ended, which is not under way",
		"twice":       "call 1 has ended, which is not under way",
		"bad option":  "the value of an option is a number",
		"no open":     "open: no memory  [2J",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := start(t, name)
			if err != nil {
				t.Fatal(err)
			}
			runs := 1
			if name == "ends" {
				runs = 2 // the second has a process of its own
			}
			for range runs {
				res := runner.Run(s, a.Kind(), 4, runner.Options{})
				if res.Verdict != runner.Fail {
					t.Fatalf("%s (%s)", res.Verdict, res.Reason)
				}
				checkLine(t, res.Failure, want)
			}
		})
	}
}

// TestGivesUp starts no more processes if each breaks.
func TestGivesUp(t *testing.T) {
	a, err := start(t, "ends")
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxBreakdowns + 1 {
		_, err := a.Kind().Open(target.Config{})
		if err == nil {
			t.Fatal("it opens")
		}
		if gaveUp := strings.Contains(err.Error(), "given up after 5 breakdowns in a row"); gaveUp != (i == maxBreakdowns) {
			t.Errorf("after %d breakdowns: %v", i, err)
		}
	}
	a.Close()
	if _, err := a.Kind().Open(target.Config{}); err == nil {
		t.Error("it opens after Close")
	}
}

// TestTime checks what a process may do with time that is virtual: it stops
// where it was told to, or earlier if there is something to tell.
func TestTime(t *testing.T) {
	for name, want := range map[string]string{
		"standstill": "its time stands still at 7ns",
		"too far":    "it was to let time pass until 1s at most, and it is 2h30m0s",
	} {
		a, err := start(t, name)
		if err != nil {
			t.Fatal(err)
		}
		live, err := a.Kind().Open(target.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := live.RunUntil(time.Second); got < time.Second {
			t.Errorf("a broken target stops at %v, and whoever waits does so for ever", got)
		}
		checkLine(t, live.(target.Breakable).Broken(), want)
		live.Close()
	}
}

// calls has every call with every argument.
var calls = []target.Call{
	target.Socket{IPv6: true, Nonblock: true},
	target.Bind{FD: 3, Addr: netip.MustParseAddrPort("192.168.0.1:80")},
	target.Listen{FD: 3, Backlog: 5},
	target.Accept{FD: 3, Nonblock: true},
	target.Connect{FD: 3, Addr: netip.MustParseAddrPort("[2001:db8::1]:80")},
	target.Connect{FD: 3},
	target.Read{FD: 4, Max: 1000, Flags: target.MsgPeek},
	target.Write{FD: 4, Data: []byte("hello"), Flags: target.MsgOOB, To: netip.MustParseAddrPort("192.0.2.1:80")},
	target.Shutdown{FD: 4, Read: true},
	target.Shutdown{FD: 4, Write: true},
	target.Close{FD: 4},
	target.SetOption{FD: 4, Level: "SOL_SOCKET", Name: "SO_LINGER", Value: target.Linger{On: true, Seconds: 3}},
	target.SetOption{FD: 4, Level: "SOL_SOCKET", Name: "SO_RCVTIMEO", Value: 1500 * time.Microsecond},
	target.SetOption{FD: 4, Level: "IPPROTO_TCP", Name: "TCP_CONGESTION", Value: "reno"},
	target.SetOption{FD: 4, Level: "IPPROTO_TCP", Name: "TCP_NODELAY", Value: 1},
	target.SetOption{FD: 4, Level: "SOL_SOCKET", Name: "SO_ERROR", Value: target.Errno("")},
	target.GetOption{FD: 4, Level: "SOL_SOCKET", Name: "SO_ERROR"},
	target.SetNonblock{FD: 4, On: true},
	target.GetFlags{FD: 4},
	target.GetName{FD: 4, Peer: true},
	target.QueueSize{FD: 4, Queue: target.UnsentQueue},
	target.Poll{FDs: []target.Ready{{FD: 4, Events: target.PollIn}}, Timeout: -1},
	target.EpollCreate{},
	target.EpollCtl{FD: 5, Op: target.EpollMod, Target: target.Ready{FD: 4, Events: target.EpollET, Data: 9}},
	target.EpollWait{FD: 5, Max: 8, Timeout: time.Second},
}

// TestCalls sends every call through the protocol and back.
func TestCalls(t *testing.T) {
	for _, call := range calls {
		name, args, err := encodeCall(call)
		if err != nil {
			t.Errorf("%v: %v", call, err)
			continue
		}
		line, err := json.Marshal(&request{Op: "call", ID: 1, Call: name, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		var req request
		if err := json.Unmarshal(line, &req); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got, err := decodeCall(req.Call, req.Args)
		if err != nil || !cmp.Equal(got, call, cmpopts.EquateComparable(netip.AddrPort{})) {
			t.Errorf("%s\n is read as %v, %v, and was %v", line, got, err, call)
		}
	}
}

// TestServeRefuses answers what is no request with an error, and goes on.
func TestServeRefuses(t *testing.T) {
	requests := []string{
		"nonsense", `{"op":"settle"}`, `{"op":"open"}`, `{"op":"open","config":{"seed":1,"mtu":1500}}`, `{"op":"fly"}`,
		`{"op":"call","id":1,"call":"fly"}`, `{"op":"call","id":1,"call":"poll"}`, `{"op":"inject","packet":"zz"}`, `{"op":"close"}`,
	}
	want := []string{"not a request", "without an open instance", "without a config", "", `unknown op "fly"`, "system call fly", "", "not a request", ""}
	kind := target.Kind{Name: "none", Open: func(target.Config) (target.Target, error) { return none{}, nil }}
	r, w := io.Pipe()
	go func() { w.CloseWithError(Serve(strings.NewReader(strings.Join(requests, "\n")), w, kind)) }()
	out := bufio.NewScanner(r)
	for i, text := range want {
		if !out.Scan() {
			t.Fatalf("it ended after %d answers: %v", i, out.Err())
		}
		var rep reply
		if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
			t.Fatal(err)
		}
		if got := rep.Error + rep.Unsupported; !strings.Contains(got, text) || text == "" && got != "" && i != 6 {
			t.Errorf("%s is answered with %q, want %q", requests[i], got, text)
		}
	}
	if out.Scan() || out.Err() != nil {
		t.Errorf("more than an answer for each request, or %v", out.Err())
	}
}

// none is a stack that can do nothing.
type none struct{ target.Target }

func (none) Now() time.Duration     { return 0 }
func (none) Drain() []target.Packet { return nil }
func (none) Close()                 {}
func (none) Syscall(c target.Call) (target.Pending, error) {
	return nil, target.Unsupportedf("%v", c)
}

// FuzzReply takes over whatever a process writes: nothing of it panics, and what
// is taken over lies in the past.
func FuzzReply(f *testing.F) {
	f.Add([]byte(hi))
	f.Add([]byte(`{"now_ns":5,"packets":[{"at_ns":2,"data":"4500"}],"done":[{"id":1,"value":3,"errno":"EAGAIN","addr":"192.0.2.1:80","option":{"linger":{"on":true}},"ready":[{"fd":1,"events":1}]}]}`))
	f.Add([]byte(`{"now_ns":-5,"done":[{"id":1},{"id":1}],"unsupported":"\u001b"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var rep reply
		if json.Unmarshal(line, &rep) != nil {
			return
		}
		r := &remote{pending: map[int64]*pending{1: {}}}
		if r.take(&rep) != nil {
			return
		}
		for _, p := range r.out {
			if p.At < 0 || p.At > r.now || len(p.Data) == 0 {
				t.Errorf("a packet of %d octets at %v, and it is %v", len(p.Data), p.At, r.now)
			}
		}
		if err := errorOf(&rep); err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("an error is %q", err)
		}
	})
}
