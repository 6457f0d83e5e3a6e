package linux_test

import (
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target/linux"
	"github.com/plumbline/plumbline/internal/nstest"
)

// TestFastOpen has a client send data in its SYN, once it has a cookie, from a
// call that returns at once and from one that blocks.
func TestFastOpen(t *testing.T) {
	expect(t, run(t, 4, `//@ option: fastopen=1
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
  +0 sendto(3, ..., 0, MSG_FASTOPEN, ..., ...) = -1 EINPROGRESS
  +0 > S 0:0(0) <...>
  +0 < S. 123:123(0) ack 1 win 5840 <mss 1000,sackOK,FO abcd1234,nop,nop>
  +0 > . 1:1(0) ack 1
  +0 close(3) = 0
  +0 > F. 1:1(0) ack 1
  +0 < F. 1:1(0) ack 2 win 92
  +0 > . 2:2(0) ack 2
 +.1 socket(..., SOCK_STREAM, IPPROTO_TCP) = 4
+0...0.02 sendto(4, ..., 500, MSG_FASTOPEN, ..., ...) = 500
  +0 > S 0:500(500) <mss *,FO abcd1234,...>
+.02 < S. 7:7(0) ack 501 win 5840 <mss 1000,sackOK>
  +0 > . 501:501(0) ack 1
`), runner.Pass)
}

// TestErrorQueue sends from memory that the kernel does not copy, and reads from
// the error queue that it is done with it.
func TestErrorQueue(t *testing.T) {
	expect(t, run(t, 4, `
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0
  +0 < S 0:0(0) win 32792 <mss 1000>
  +0 > S. 0:0(0) ack 1 <...>
  +0 < . 1:1(0) ack 1 win 32792
+0...0.01 accept(3, ..., ...) = 4
  +0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 0}], msg_flags=MSG_ERRQUEUE, msg_control=[]}, MSG_ERRQUEUE) = -1 EAGAIN
  +0 sendmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 1}, {..., 99}], msg_flags=0}, MSG_ZEROCOPY) = 100
  +0 > P. 1:101(100) ack 1
  +0 < . 1:1(0) ack 101 win 32792
+.01 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 0}], msg_flags=MSG_ERRQUEUE, msg_control=[
       {cmsg_level=SOL_IP, cmsg_type=IP_RECVERR,
        cmsg_data={ee_errno=0, ee_origin=SO_EE_ORIGIN_ZEROCOPY, ee_info=0, ee_data=0}}]}, MSG_ERRQUEUE) = 0
  +0 write(4, NULL, 10) = -1 EFAULT
  +0 < P. 1:11(10) ack 101 win 32792
  +0 > . 101:101(0) ack 11
  +0 read(4, NULL, 10) = -1 EFAULT
`), runner.Pass)
}

// TestControlMessages compares a control message that comes with what a script
// expects, in each part of it.
func TestControlMessages(t *testing.T) {
	const before = `
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0
  +0 < S 0:0(0) win 32792 <mss 1000>
  +0 > S. 0:0(0) ack 1 <...>
  +0 < . 1:1(0) ack 1 win 32792
+0...0.01 accept(3, ..., ...) = 4
  +0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0
  +0 < P. 1:101(100) ack 1 win 32792
  +0 > . 1:1(0) ack 101
`
	for _, tc := range []struct {
		control, flags string
		want           runner.Verdict
	}{
		{"{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=90}", "0", runner.Pass},
		{"{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=91}", "0", runner.Fail},
		{"{cmsg_level=SOL_IP, cmsg_type=TCP_CM_INQ, cmsg_data=90}", "0", runner.Fail},
		{"{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=90}", "MSG_TRUNC", runner.Fail},
		{"", "0", runner.Fail},
	} {
		res := run(t, 4, before+"+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags="+tc.flags+
			", msg_control=["+tc.control+"]}, 0) = 10\n")
		if res.Verdict != tc.want {
			t.Errorf("%q, flags %s: %s %s, want %s", tc.control, tc.flags, res.Verdict, res.Reason, tc.want)
		}
	}
}

// TestCommandsInAShell runs a script whose commands change the namespace, which
// it may only if the caller says so.
func TestCommandsInAShell(t *testing.T) {
	if err := linux.Check(); err != nil {
		nstest.Missing(t, "%v", err)
	}
	const src = "`exec 3</proc/sys/net/ipv4/tcp_sack; read v <&3; test \"$v\" = 1`\n" +
		"0 `ls /proc/self/cwd/here > seen`\n+0 `test $PACKETDRILL_PID -gt 1`\n`test -s seen`\n"
	s, err := script.Parse("t.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if res := runner.Run(s, linux.Kind(), 4, runner.Options{}); res.Verdict != runner.Unsupported {
		t.Errorf("without a shell: %s %s", res.Verdict, res.Reason)
	}
	res := runner.Run(s, linux.Kind(), 4, runner.Options{Shell: t.TempDir(), Tolerance: tolerance})
	if res.Verdict != runner.Fail || !strings.Contains(res.Reason, "here") {
		t.Errorf("a command that fails: %s %s", res.Verdict, res.Reason)
	}
}
