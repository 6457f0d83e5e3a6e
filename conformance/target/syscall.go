package target

import (
	"fmt"
	"net/netip"
	"time"
)

// FD is a descriptor of a target. A target numbers its descriptors as it
// likes; a runner maps those of a script to them.
type FD int

// Pending is a system call under way.
type Pending interface {
	// Result returns what the call returned, and false while it blocks.
	Result() (Result, bool)
}

// Result is the outcome of a system call.
type Result struct {
	// At is when the call returned.
	At time.Duration
	// Value is the return value of a call that succeeded: a length, a new
	// FD, a number of events, flags. It is -1 if Errno is set.
	Value int64
	// Errno is the name of the error, as in "ECONNRESET", or "".
	Errno Errno
	// Data are the bytes that Read got.
	Data []byte
	// Addr is the address that Accept, GetName or Read with an address
	// returned, if the call returned one.
	Addr netip.AddrPort
	// Option is the value that GetOption got, in the type that the option
	// has in SetOption.
	Option any
	// Flags are the flags that a Read with Message returned, and Control the
	// control messages.
	Flags   MsgFlags
	Control []Control
	// Ready are the events that Poll found, in the order of its argument,
	// or those that EpollWait found.
	Ready []Ready
}

// Control is a control message of recvmsg.
type Control struct {
	// Level and Type are Linux's numbers, as of SOL_IP and IP_RECVERR.
	Level, Type int
	// Fields are the fields of a struct sock_extended_err, by name, or the
	// value of a message that is a number, under the name "".
	Fields map[string]int64
	// At is the time of a software time stamp, in the time of the target.
	At time.Duration
}

// Errno is the name of a Linux error number, as in "EAGAIN"; "" is success.
type Errno string

// Call is one system call: one of the structs of this package that say so. A
// target returns an *[UnsupportedError] for those that it does not have, which
// is how calls can be added.
type Call interface {
	fmt.Stringer
	call()
}

// Socket makes a TCP socket. The result is its FD.
type Socket struct {
	// IPv6 selects the family; a socket of IPv6 carries IPv4 as well.
	IPv6 bool
	// Nonblock is SOCK_NONBLOCK.
	Nonblock bool
}

// Bind gives a socket its local address. The unspecified address of either
// family stands for every local one.
type Bind struct {
	FD   FD
	Addr netip.AddrPort
}

// Listen is a passive OPEN.
type Listen struct {
	FD      FD
	Backlog int
}

// Accept takes a connection from a listening socket. The result is its FD.
type Accept struct {
	FD FD
	// Nonblock makes the new socket nonblocking (accept4 and SOCK_NONBLOCK).
	Nonblock bool
}

// Connect is an active OPEN. A Connect to an address that is not valid
// dissolves the association (AF_UNSPEC).
type Connect struct {
	FD   FD
	Addr netip.AddrPort
}

// Read is RECEIVE, for all calls of the read and recv families.
type Read struct {
	FD FD
	// Max is the size of the buffer.
	Max   int
	Flags MsgFlags
	// Message asks for control messages and flags, as recvmsg does. A target
	// that has none returns none.
	Message bool
	// Unmapped says that the buffer is at an address that is not mapped.
	Unmapped bool
}

// Write is SEND, for all calls of the write and send families.
type Write struct {
	FD    FD
	Data  []byte
	Flags MsgFlags
	// Parts are the lengths of the buffers that Data lies in, if it is more
	// than one (writev and sendmsg). Their sum is the length of Data.
	Parts []int
	// To is the address given to sendto or sendmsg, if one was.
	To netip.AddrPort
	// NoFamily says that the address given is one of no family (AF_UNSPEC).
	NoFamily bool
	// Unmapped says that Data is at an address that is not mapped.
	Unmapped bool
}

// MsgFlags are the flags of Read and Write, with Linux's numbers.
type MsgFlags uint32

// The flags of Read and Write.
const (
	MsgOOB      MsgFlags = 0x1        // MSG_OOB
	MsgPeek     MsgFlags = 0x2        // MSG_PEEK
	MsgTrunc    MsgFlags = 0x20       // MSG_TRUNC
	MsgDontWait MsgFlags = 0x40       // MSG_DONTWAIT
	MsgEOR      MsgFlags = 0x80       // MSG_EOR
	MsgWaitAll  MsgFlags = 0x100      // MSG_WAITALL
	MsgErrQueue MsgFlags = 0x2000     // MSG_ERRQUEUE
	MsgNoSignal MsgFlags = 0x4000     // MSG_NOSIGNAL
	MsgMore     MsgFlags = 0x8000     // MSG_MORE
	MsgZeroCopy MsgFlags = 0x4000000  // MSG_ZEROCOPY
	MsgFastOpen MsgFlags = 0x20000000 // MSG_FASTOPEN
	knownRead            = MsgPeek | MsgTrunc | MsgDontWait | MsgWaitAll | MsgNoSignal
	knownWrite           = MsgOOB | MsgDontWait | MsgEOR | MsgNoSignal | MsgMore
)

// errUnmapped is the answer of a target without an address space to a buffer that
// lies outside it.
var errUnmapped = Unsupportedf("a buffer at an address that is not mapped")

// Shutdown closes one or both directions.
type Shutdown struct {
	FD          FD
	Read, Write bool
}

// Close closes a descriptor.
type Close struct {
	FD FD
}

// SetOption is setsockopt.
type SetOption struct {
	FD FD
	// Level and Name are Linux's names: "SOL_SOCKET", "IPPROTO_TCP",
	// "IPPROTO_IP" or "IPPROTO_IPV6"; "SO_REUSEADDR", "TCP_NODELAY".
	Level, Name string
	// Value is an int, a string (TCP_CONGESTION), a Linger (SO_LINGER) or a
	// time.Duration (SO_RCVTIMEO, SO_SNDTIMEO).
	Value any
}

// GetOption is getsockopt. The value is in Result.Option.
type GetOption struct {
	FD          FD
	Level, Name string
}

// Linger is the value of SO_LINGER.
type Linger struct {
	On      bool
	Seconds int
}

// SetNonblock is fcntl with F_SETFL and O_NONBLOCK or not.
type SetNonblock struct {
	FD FD
	On bool
}

// GetFlags is fcntl with F_GETFL: O_RDWR (2), and O_NONBLOCK (04000) if set.
type GetFlags struct {
	FD FD
}

// GetName is getsockname, or getpeername if Peer.
type GetName struct {
	FD   FD
	Peer bool
}

// QueueSize is an ioctl that asks how much is in a queue, in bytes.
type QueueSize struct {
	FD    FD
	Queue Queue
}

// Queue is a queue that QueueSize can ask for.
type Queue uint8

// The queues.
const (
	// RecvQueue holds what has arrived and was not read: SIOCINQ.
	RecvQueue Queue = iota
	// SendQueue holds what was written and not acknowledged: SIOCOUTQ.
	SendQueue
	// UnsentQueue holds what was written and never sent: SIOCOUTQNSD.
	UnsentQueue
	// AtMark is no queue: the value is 1 if the next octet to read is the
	// urgent one, and 0 otherwise: SIOCATMARK.
	AtMark
)

// Poll waits for events.
type Poll struct {
	FDs []Ready
	// Timeout is how long to wait; negative means for ever.
	Timeout time.Duration
}

// Ready is a descriptor and a set of events of poll(2) in Linux's numbers:
// those asked for, or those found.
type Ready struct {
	FD     FD
	Events uint32
	// Data is the datum of an epoll registration.
	Data int64
}

// Events of Poll, with Linux's numbers.
const (
	PollIn    = 0x1
	PollPri   = 0x2
	PollOut   = 0x4
	PollErr   = 0x8
	PollHup   = 0x10
	PollRdHup = 0x2000
)

// EpollCreate makes an epoll descriptor.
type EpollCreate struct{}

// EpollCtl changes what an epoll descriptor watches.
type EpollCtl struct {
	FD FD
	Op EpollOp
	// Target is the descriptor to watch, with its events and its datum. The
	// events may include EpollET and EpollOneShot.
	Target Ready
}

// EpollOp is what EpollCtl does.
type EpollOp uint8

// The operations of EpollCtl, with Linux's numbers.
const (
	EpollAdd EpollOp = 1 // EPOLL_CTL_ADD
	EpollDel EpollOp = 2 // EPOLL_CTL_DEL
	EpollMod EpollOp = 3 // EPOLL_CTL_MOD
)

// Behaviours of an epoll registration, among its events.
const (
	EpollET      = 1 << 31 // edge-triggered
	EpollOneShot = 1 << 30 // disarmed by its first event
)

// EpollWait waits for events of what an epoll descriptor watches.
type EpollWait struct {
	FD  FD
	Max int
	// Timeout is how long to wait; negative means for ever.
	Timeout time.Duration
}

func (Socket) call()      {}
func (Bind) call()        {}
func (Listen) call()      {}
func (Accept) call()      {}
func (Connect) call()     {}
func (Read) call()        {}
func (Write) call()       {}
func (Shutdown) call()    {}
func (Close) call()       {}
func (SetOption) call()   {}
func (GetOption) call()   {}
func (SetNonblock) call() {}
func (GetFlags) call()    {}
func (GetName) call()     {}
func (QueueSize) call()   {}
func (Poll) call()        {}
func (EpollCreate) call() {}
func (EpollCtl) call()    {}
func (EpollWait) call()   {}

// The String methods are for traces and messages.

// String implements fmt.Stringer.
func (c Socket) String() string {
	if c.IPv6 {
		return "socket(IPv6)"
	}
	return "socket(IPv4)"
}

// String implements fmt.Stringer.
func (c Bind) String() string { return fmt.Sprintf("bind(%d, %v)", c.FD, c.Addr) }

// String implements fmt.Stringer.
func (c Listen) String() string { return fmt.Sprintf("listen(%d, %d)", c.FD, c.Backlog) }

// String implements fmt.Stringer.
func (c Accept) String() string { return fmt.Sprintf("accept(%d)", c.FD) }

// String implements fmt.Stringer.
func (c Connect) String() string { return fmt.Sprintf("connect(%d, %v)", c.FD, c.Addr) }

// String implements fmt.Stringer.
func (c Read) String() string { return fmt.Sprintf("read(%d, %d, %#x)", c.FD, c.Max, uint32(c.Flags)) }

// String implements fmt.Stringer.
func (c Write) String() string {
	return fmt.Sprintf("write(%d, %d bytes, %#x)", c.FD, len(c.Data), uint32(c.Flags))
}

// String implements fmt.Stringer.
func (c Shutdown) String() string {
	return fmt.Sprintf("shutdown(%d, read=%t, write=%t)", c.FD, c.Read, c.Write)
}

// String implements fmt.Stringer.
func (c Close) String() string { return fmt.Sprintf("close(%d)", c.FD) }

// String implements fmt.Stringer.
func (c SetOption) String() string {
	return fmt.Sprintf("setsockopt(%d, %s, %s, %v)", c.FD, c.Level, c.Name, c.Value)
}

// String implements fmt.Stringer.
func (c GetOption) String() string {
	return fmt.Sprintf("getsockopt(%d, %s, %s)", c.FD, c.Level, c.Name)
}

// String implements fmt.Stringer.
func (c SetNonblock) String() string {
	return fmt.Sprintf("fcntl(%d, F_SETFL, nonblock=%t)", c.FD, c.On)
}

// String implements fmt.Stringer.
func (c GetFlags) String() string { return fmt.Sprintf("fcntl(%d, F_GETFL)", c.FD) }

// String implements fmt.Stringer.
func (c GetName) String() string {
	if c.Peer {
		return fmt.Sprintf("getpeername(%d)", c.FD)
	}
	return fmt.Sprintf("getsockname(%d)", c.FD)
}

// String implements fmt.Stringer.
func (c QueueSize) String() string {
	return fmt.Sprintf("ioctl(%d, %s)", c.FD, [...]string{"SIOCINQ", "SIOCOUTQ", "SIOCOUTQNSD", "SIOCATMARK"}[c.Queue%4])
}

// String implements fmt.Stringer.
func (c Poll) String() string { return fmt.Sprintf("poll(%v, %v)", c.FDs, c.Timeout) }

// String implements fmt.Stringer.
func (c EpollCreate) String() string { return "epoll_create()" }

// String implements fmt.Stringer.
func (c EpollCtl) String() string { return fmt.Sprintf("epoll_ctl(%d, %d, %v)", c.FD, c.Op, c.Target) }

// String implements fmt.Stringer.
func (c EpollWait) String() string {
	return fmt.Sprintf("epoll_wait(%d, %d, %v)", c.FD, c.Max, c.Timeout)
}
