package matrix

import "slices"

// state is how the table's scripts reach a state, and the numbers there.
type state struct {
	name string
	// enter are the events that lead to the state.
	enter string
	// rcv, una, nxt and ack are what {RCV}, {UNA}, {NXT} and {ACK} stand for.
	rcv, una, nxt, ack uint32
	// fd is the descriptor of the connection, "" if there is none.
	fd string
	// number is Linux's number of the state in TCP_INFO.
	number int
	// sends says that the application may send in this state.
	sends bool
	// section is the part of RFC 9293 about segments that arrive.
	section string
}

// Ways into the states. The peer offers no options but MSS, so that segments
// are bare and windows are not scaled.
const (
	listens = `   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 8) = 0
  +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
`
	synReceived = listens + `  +0 < S 0:0(0) win 30000 <mss 1000>
  +0 > S. 0:0(0) ack 1 <...>
`
	// established has 100 octets exchanged in both directions, so that there
	// are old numbers on both sides.
	established = synReceived + ` +.1 < . 1:1(0) ack 1 win 30000
  +0 accept(3, ..., ...) = 4
  +0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0
  +0 < P. 1:101(100) ack 1 win 30000
+0~+.5 > . 1:1(0) ack 101
  +0 read(4, ..., 1000) = 100
  +0 write(4, ..., 100) = 100
  +0 > P. 1:101(100) ack 101
 +.1 < . 101:101(0) ack 101 win 30000
`
	synSent = `   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
  +0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
  +0 > S 0:0(0) <...>
`
	synReceivedActive = synSent + ` +.1 < S 0:0(0) win 30000 <mss 1000>
  +0 > S. 0:0(0) ack 1 <...>
`
	finWait1 = established + `+.02 shutdown(4, SHUT_WR) = 0
  +0 > F. 101:101(0) ack 101
`
	finWait2 = finWait1 + `+.02 < . 101:101(0) ack 102 win 30000
`
	closing = finWait1 + `+.02 < F. 101:101(0) ack 101 win 30000
  +0 > . 102:102(0) ack 102
`
	timeWait = finWait2 + `+.02 < F. 101:101(0) ack 102 win 30000
  +0 > . 102:102(0) ack 102
`
	closeWait = established + `+.02 < F. 101:101(0) ack 101 win 30000
+0~+.5 > . 101:101(0) ack 102
`
	lastAck = closeWait + `+.02 shutdown(4, SHUT_WR) = 0
  +0 > F. 101:101(0) ack 102
`
)

// listener is the prologue's descriptor of what listens or connects, and
// connection that of what was accepted.
const listener, connection = "3", "4"

// states are those of RFC 9293 section 3.3.2, SYN-RECEIVED twice: whether the
// connection was opened actively or passively makes a difference.
var states = []state{
	{name: "CLOSED", rcv: 5000, una: 7000, nxt: 7000, ack: 7000, fd: listener, section: "3.10.7.1"},
	{name: "LISTEN", enter: listens, rcv: 5000, una: 7000, nxt: 7000, ack: 7000, fd: listener, section: "3.10.7.2"},
	{name: "SYN-SENT", enter: synSent, rcv: 0, una: 0, nxt: 1, ack: 1, fd: listener, number: 2, section: "3.10.7.3"},
	{name: "SYN-RECEIVED", enter: synReceived, rcv: 1, una: 0, nxt: 1, ack: 1, section: "3.10.7.4"},
	{name: "SYN-RECEIVED-ACTIVE", enter: synReceivedActive, rcv: 1, una: 0, nxt: 1, ack: 1, fd: listener, number: 3, section: "3.10.7.4"},
	{name: "ESTABLISHED", enter: established, rcv: 101, una: 101, nxt: 101, ack: 101, fd: connection, number: 1, sends: true, section: "3.10.7.4"},
	{name: "FIN-WAIT-1", enter: finWait1, rcv: 101, una: 101, nxt: 102, ack: 101, fd: connection, number: 4, section: "3.10.7.4"},
	{name: "FIN-WAIT-2", enter: finWait2, rcv: 101, una: 102, nxt: 102, ack: 102, fd: connection, number: 5, section: "3.10.7.4"},
	{name: "CLOSE-WAIT", enter: closeWait, rcv: 102, una: 101, nxt: 101, ack: 101, fd: connection, number: 8, sends: true, section: "3.10.7.4"},
	{name: "CLOSING", enter: closing, rcv: 102, una: 101, nxt: 102, ack: 101, fd: connection, number: 11, section: "3.10.7.4"},
	{name: "LAST-ACK", enter: lastAck, rcv: 102, una: 101, nxt: 102, ack: 101, fd: connection, number: 9, section: "3.10.7.4"},
	{name: "TIME-WAIT", enter: timeWait, rcv: 102, una: 102, nxt: 102, ack: 102, fd: connection, section: "3.10.7.4"},
}

// stateOf returns the state of a name, or nil.
func stateOf(name string) *state {
	i := slices.IndexFunc(states, func(s state) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &states[i]
}
