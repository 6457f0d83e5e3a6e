package target

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Target is one instance of a TCP under test: a host with a socket interface
// and one network interface whose other end the caller holds.
//
// A target is used by one goroutine. Its time starts at zero when it is opened
// and moves only in RunUntil; a target in real time lets it move as it does.
type Target interface {
	// Now returns the time since the target was opened.
	Now() time.Duration

	// Configure sets one setting of the whole stack, named as Linux names
	// its sysctls ("net.ipv4.tcp_sack") with a value in Linux's notation.
	// It returns an *[UnsupportedError] for a setting or value that the
	// target cannot express.
	Configure(name, value string) error

	// Syscall starts a system call. It never blocks: a call that has to
	// wait completes during a later RunUntil or Settle. It returns an
	// *[UnsupportedError] if the target has no such call.
	Syscall(Call) (Pending, error)

	// Inject hands the target a packet that begins with its IP header, as
	// if it had arrived on the interface now, and settles.
	Inject(packet []byte) error

	// Drain returns the packets that the target has sent since the last
	// Drain, in the order in which they left.
	Drain() []Packet

	// RunUntil lets time pass until t, or until the target has something
	// to tell if that is earlier: a packet for Drain or a completed call.
	// It returns the time at which it stopped, which is t if the target
	// had nothing to tell.
	RunUntil(t time.Duration) time.Duration

	// Settle waits until the target has done all that it can do without
	// time passing.
	Settle()

	// Info returns what the target tells about the connection of a socket.
	Info(FD) (Info, error)

	// Close releases the target. Its sockets vanish without a trace.
	Close()
}

// Host is a Target that is a host of its own, in which commands can be run.
type Host interface {
	Target
	// Command runs a command of the shell in the host, with dir for its
	// working directory, and waits for it. The error says how it failed, and
	// with what last words.
	Command(dir, command string) error
}

// Forgetful is a target that can forget what it has learned about peers, as the
// command "ip tcp_metrics flush" makes Linux do.
type Forgetful interface {
	Forget()
}

// Breakable is a target that may stop to work, as one that lives in another
// process does when that ends. From then on its methods return at once, and what
// they return means nothing.
type Breakable interface {
	// Broken returns why, in one line, or nil.
	Broken() error
}

// Packet is one packet that a target has sent.
type Packet struct {
	// At is when it left.
	At time.Duration
	// Data is the packet, which begins with its IP header.
	Data []byte
}

// Capabilities say what a kind of target can do. A runner reports a script
// that needs more as unsupported.
type Capabilities struct {
	// RealTime targets live in real time: they run one at a time, and a
	// failure in timing may be the machine's.
	RealTime bool
	// FastOpen targets implement RFC 7413.
	FastOpen bool
	// AccECN targets implement RFC 9768.
	AccECN bool
	// ECN targets implement RFC 3168.
	ECN bool
	// MD5 targets implement RFC 2385.
	MD5 bool
}

// Kind is a kind of target: a stack that can be tested.
type Kind struct {
	// Name is how reports, flags and //@ expect lines call the target: one
	// word in lower case.
	Name string
	// Description is one line for people.
	Description string
	// Capabilities say what the target can do.
	Capabilities Capabilities
	// Open makes a fresh instance. Instances share nothing, so that they
	// may run at the same time unless Capabilities.RealTime says otherwise.
	Open func(Config) (Target, error)
}

// Config is what every instance of a target is opened with.
type Config struct {
	// Seed determines all that is random in the target. Two instances with
	// one seed, driven alike, behave alike to the byte.
	Seed uint64
	// MTU is that of the interface, in bytes; 0 means 1500.
	MTU int
	// Addrs are the addresses of the link; the zero value means
	// [DefaultAddrs].
	Addrs Addrs
}

// Addrs are the addresses at both ends of the link of a target.
type Addrs struct {
	// Local4 and Local6 are the target's own addresses.
	Local4, Local6 netip.Addr
	// Remote4 and Remote6 are those of its peer, which is reached through
	// a gateway.
	Remote4, Remote6 netip.Addr
}

// DefaultAddrs are those that packetdrill uses by default; the addresses of
// the peer are reserved for documentation (RFC 5737, RFC 3849).
func DefaultAddrs() Addrs {
	return Addrs{
		Local4:  netip.AddrFrom4([4]byte{192, 168, 0, 1}),
		Local6:  netip.MustParseAddr("fd3d:fa7b:d17d::1"),
		Remote4: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
		Remote6: netip.MustParseAddr("2001:db8::1"),
	}
}

// withDefaults returns c with the defaults filled in.
func (c Config) withDefaults() Config {
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Addrs == (Addrs{}) {
		c.Addrs = DefaultAddrs()
	}
	return c
}

// Info are the values that a target tells about a connection, under the names
// of Linux's struct tcp_info without their prefix: "snd_cwnd", "state",
// "unacked". Units are Linux's: times in microseconds, windows in segments. A
// name that is missing is one that the target does not know.
type Info map[string]int64

// UnsupportedError says that a target, or the runner, cannot do what a script
// asks for. It is no verdict on the target's TCP.
type UnsupportedError struct {
	// What is the thing that is missing, as in "sysctl net.ipv4.tcp_frto".
	What string
	// Why explains it, or is "".
	Why string
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	if e.Why == "" {
		return e.What
	}
	return e.What + ": " + e.Why
}

// Unsupportedf returns an *UnsupportedError with a formatted What.
func Unsupportedf(format string, args ...any) error {
	return &UnsupportedError{What: fmt.Sprintf(format, args...)}
}

// IsUnsupported returns the UnsupportedError in err's chain, or nil.
func IsUnsupported(err error) *UnsupportedError {
	var u *UnsupportedError
	if errors.As(err, &u) {
		return u
	}
	return nil
}
