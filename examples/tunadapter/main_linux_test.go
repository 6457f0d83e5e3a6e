package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target/adapter"
	"github.com/plumbline/plumbline/internal/nstest"
)

// asAdapter in the environment makes the test program the example.
const asAdapter = "PLUMBLINE_TEST_AS_ADAPTER"

func TestMain(m *testing.M) {
	if os.Getenv(asAdapter) != "" {
		main()
		return
	}
	os.Setenv(asAdapter, "1") // for the processes that the test starts
	os.Exit(m.Run())
}

// echo opens a connection, has data in both directions, and closes it. Its calls
// block, so that it does not depend on how fast the machine is.
const echo = `
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 8) = 0
  +0 < S 0:0(0) win 30000 <mss 1000>
  +0 > S. 0:0(0) ack 1 <...>
  +0 < . 1:1(0) ack 1 win 30000
  +0...0.1 accept(3, ..., ...) = 4
  +0 < P. 1:101(100) ack 1 win 30000
   * > . 1:1(0) ack 101
  +0 read(4, ..., 1000) = 100
  +0 getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4]) = 0
  +0 write(4, ..., 50) = 50
  +0 > P. 1:51(50) ack 101
  +0 < . 101:101(0) ack 51 win 30000
  +0 close(4) = 0
   * > F. 51:51(0) ack 101
  +0 < F. 101:101(0) ack 52 win 30000
   * > . 52:52(0) ack 102
`

// TestOnTUN judges the example on its TUN device.
func TestOnTUN(t *testing.T) {
	if os.Geteuid() != 0 {
		nstest.Missing(t, "a network namespace with a TUN device needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Start(adapter.Options{Command: []string{self}, TUN: true, Patience: time.Minute})
	if err != nil {
		nstest.Missing(t, "%v", err)
	}
	defer a.Close()
	for text, want := range map[string]runner.Verdict{
		echo: runner.Pass,
		strings.Replace(echo, "write(4, ..., 50) = 50", "write(4, ..., 50) = 49", 1): runner.Fail,
		strings.Replace(echo, "SO_REUSEADDR", "SO_REUSEPORT", 1):                     runner.Unsupported,
	} {
		s, err := script.Parse("echo.pkt", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range []runner.IPVersion{4, 6} {
			res := runner.Run(s, a.Kind(), ip, runner.Options{Tolerance: 20 * time.Second, Oracle: true})
			if res.Verdict != want {
				t.Errorf("%s, want %s: %s", res.Verdict, want, res.Reason)
				for _, e := range res.Trace {
					t.Log(e)
				}
			}
		}
	}
}
