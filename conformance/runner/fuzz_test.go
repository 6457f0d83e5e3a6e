package runner_test

import (
	"errors"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// FuzzRun runs arbitrary scripts on gVisor's TCP. Whatever they say, a run ends,
// and the runner itself does not panic.
func FuzzRun(f *testing.F) {
	f.Add("`sysctl -q net.ipv4.tcp_rmem=\"4096 $((2*3)) 5\" > /dev/null; ./x.sh`\n0 %{ assert tcpi_rtt == 1 }%\n")
	f.Add(preamble + "+0 < P. 1:101(100) ack 1 win 9 \n* > . 1:1(0) ack 101\n+0 read(4, ..., 100) = 100\n+0...0.1 > none\n")
	f.Add(preamble + "+0 write(4, ..., 100) = 100\n+0 > { P. 1:51(50) ack 1 } or { . 1:1(0) ack 1 } or none\n+0 close(4) = 0\n")
	f.Add(preamble + "+0 poll([{fd=4, events=POLLIN, revents=0}], 1, 0) = 0\n+0 < icmp unreachable host_unreachable [1:2(1)]\n")
	f.Add("0 < 1 > 2 [dst 224.0.0.1] FSRPU 5:5(0) ack 9 win 0 doff 3 badsum <raw 0x02>\n+0 > 2 > 1 R. 0:0(0) ack 1 <mss 5,sack 1:2>\n")
	f.Add("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0\n+0 epoll_create(1) = 4\n" +
		"+0 epoll_ctl(4, EPOLL_CTL_ADD, 3, {events=EPOLLIN, fd=3}) = 0\n+0 epoll_wait(4, {events=0, fd=3}, 1, 0) = 0\n+0 connect(3, ..., ...) = -1 EINPROGRESS\n")
	kind := target.GVisor()
	f.Fuzz(func(t *testing.T, src string) {
		s, err := script.Parse("fuzz.pkt", []byte(src))
		if err != nil || tooLong(s) {
			return
		}
		for _, ip := range runner.Versions(s) {
			for _, level := range []runner.Level{runner.RFC, runner.Strict} {
				res := runner.Run(s, kind, ip, runner.Options{Level: level, ReadFile: func(string) ([]byte, error) {
					return nil, errors.New("no files")
				}})
				if len(res.Notes) > 0 && res.Failure != nil && res.Failure.Message != "" && panicked(res) {
					t.Fatalf("%s\n%s", res.Failure.Message, res.Notes[len(res.Notes)-1])
				}
			}
		}
	})
}

// panicked reports whether a run ended in a panic.
func panicked(res *runner.Result) bool {
	const prefix = "the target panicked"
	return len(res.Reason) >= len(prefix) && res.Reason[:len(prefix)] == prefix
}

// tooLong reports whether a script asks for more time than a fuzz run has:
// virtual time is cheap, but keep-alives for years are not.
func tooLong(s *script.Script) bool {
	for _, e := range s.Events {
		if e.Time.At > 1e12 || e.Time.End > 1e12 {
			return true
		}
	}
	return len(s.Events) > 100
}
