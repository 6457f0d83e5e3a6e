package runner

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// lowerings translate system calls, by name.
var lowerings map[string]func(*args) prepared

func init() {
	lowerings = map[string]func(*args) prepared{
		"socket":        (*args).socket,
		"bind":          (*args).bind,
		"listen":        (*args).listen,
		"accept":        (*args).accept,
		"accept4":       (*args).accept,
		"connect":       (*args).connect,
		"read":          (*args).recv,
		"recv":          (*args).recv,
		"recvfrom":      (*args).recv,
		"readv":         func(a *args) prepared { return a.read(a.file(0), a.vectorSize(a.at(1)), 0) },
		"recvmsg":       (*args).recvmsg,
		"write":         func(a *args) prepared { return a.send(0, netip.AddrPort{}) },
		"send":          func(a *args) prepared { return a.send(a.flags(3), netip.AddrPort{}) },
		"sendto":        (*args).sendto,
		"writev":        func(a *args) prepared { return a.gather(a.at(1), 0, netip.AddrPort{}) },
		"sendmsg":       (*args).sendmsg,
		"shutdown":      (*args).shutdown,
		"close":         (*args).close,
		"fcntl":         (*args).fcntl,
		"ioctl":         (*args).ioctl,
		"setsockopt":    (*args).setsockopt,
		"getsockopt":    (*args).getsockopt,
		"getsockname":   func(a *args) prepared { return prepared{call: target.GetName{FD: a.file(0).live}} },
		"getpeername":   func(a *args) prepared { return prepared{call: target.GetName{FD: a.file(0).live, Peer: true}} },
		"poll":          (*args).poll,
		"epoll_create":  (*args).epollCreate,
		"epoll_create1": (*args).epollCreate,
		"epoll_ctl":     (*args).epollCtl,
		"epoll_wait":    (*args).epollWait,
	}
}

// Linux's numbers of what the arguments of socket and fcntl hold.
const (
	sockNonblock = 0o4000
	sockTypeMask = 0xf
	sockStream   = 1
	oNonblock    = 0o4000
)

func (a *args) socket() prepared {
	if t := a.integer(1); t&sockTypeMask != sockStream {
		a.fail("only SOCK_STREAM is supported")
	}
	if p := a.at(2); p != nil {
		if _, any := p.(*script.Ellipsis); !any {
			if n := a.eval(p); n != 0 && n != 6 {
				a.fail("protocol %d", n)
			}
		}
	}
	r := a.run
	n, ok := a.resultFD()
	return prepared{
		call:    target.Socket{IPv6: r.v6, Nonblock: a.integer(1)&sockNonblock != 0},
		makesFD: true,
		after: func(res target.Result) string {
			f := &file{live: target.FD(res.Value)}
			f.conn = &conn{file: f}
			r.current = r.addConn(f.conn)
			r.likeFreeBSD(f.live)
			return r.open(n, ok, f)
		},
	}
}

// open files a descriptor under the number that the script gives it. As in
// packetdrill, at level Strict a number may stand for another descriptor later
// on, while the first stays open.
func (r *run) open(n int64, ok bool, f *file) string {
	if !ok {
		return "the call succeeded, expected an error"
	}
	if _, taken := r.files[n]; taken && !r.strict {
		return fmt.Sprintf("descriptor %d of the script is open already", n)
	}
	r.files[n] = f
	return ""
}

// address returns the address in an argument, or def where the script has
// "...". It is not valid for AF_UNSPEC.
func (a *args) address(i int, def netip.AddrPort) netip.AddrPort {
	switch e := a.at(i).(type) {
	case *script.Struct:
		return a.sockaddr(e, def)
	case *script.Ellipsis, nil:
		return def
	case *script.Name:
		if e.Name == "AF_UNSPEC" {
			return netip.AddrPort{}
		}
		a.fail("argument %d is not an address", i+1)
		return def
	default:
		a.fail("argument %d is not an address", i+1)
		return def
	}
}

// isZero reports whether an argument is NULL.
func isZero(e script.Expr) bool {
	v, err := script.Eval(e)
	n, isName := e.(*script.Name)
	return err == nil && v == 0 || isName && n.Name == "NULL"
}

// sockaddr reads a struct sockaddr.
func (a *args) sockaddr(s *script.Struct, def netip.AddrPort) netip.AddrPort {
	addr, port := def.Addr(), def.Port()
	for _, f := range s.Fields {
		switch f.Name {
		case "sa_family":
			if n, ok := f.Value.(*script.Name); ok && n.Name == "AF_UNSPEC" {
				return netip.AddrPort{}
			}
		case "sin_port", "sin6_port":
			port = uint16(a.hostShort(f.Value))
		case "sin_addr", "sin6_addr":
			addr = a.ipAddr(f.Value, addr)
		}
	}
	return netip.AddrPortFrom(addr, port)
}

// hostShort returns N of htons(N).
func (a *args) hostShort(e script.Expr) int64 {
	if c, ok := e.(*script.Call); ok && c.Name == "htons" && len(c.Args) == 1 {
		e = c.Args[0]
	}
	return a.eval(e)
}

// ipAddr reads inet_addr("...") and inet_pton(AF_INET6, "..."). An address of
// the other version of IP leaves the default.
func (a *args) ipAddr(e script.Expr, def netip.Addr) netip.Addr {
	c, ok := e.(*script.Call)
	if !ok {
		return def
	}
	for _, arg := range c.Args {
		if s, ok := arg.(*script.Str); ok {
			ip, err := netip.ParseAddr(s.Value)
			if err != nil {
				a.fail("%v", err)
			} else if ip.Is6() == a.run.v6 {
				return ip
			}
		}
	}
	return def
}

// unspecified is the address that stands for every local one.
func (r *run) unspecified() netip.Addr {
	if r.v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (a *args) bind() prepared {
	f := a.file(0)
	addr := a.address(1, netip.AddrPortFrom(a.run.unspecified(), a.run.bindPort))
	return prepared{
		call: target.Bind{FD: f.live, Addr: addr},
		after: func(target.Result) string {
			if f.conn != nil {
				f.conn.localPort = addr.Port()
			}
			return ""
		},
	}
}

func (a *args) listen() prepared {
	f := a.file(0)
	r := a.run
	return prepared{
		call: target.Listen{FD: f.live, Backlog: int(a.integer(1))},
		after: func(target.Result) string {
			if f.conn != nil {
				f.conn.listening = true
				if r.current == nil {
					r.current = f.conn
				}
			}
			return ""
		},
	}
}

func (a *args) accept() prepared {
	f := a.file(0)
	r := a.run
	nonblock := false
	if a.call.Name == "accept4" {
		nonblock = a.integer(3)&sockNonblock != 0
	}
	n, ok := a.resultFD()
	return prepared{
		call:    target.Accept{FD: f.live, Nonblock: nonblock},
		makesFD: true,
		after: func(res target.Result) string {
			accepted := &file{live: target.FD(res.Value)}
			for i := len(r.conns) - 1; i >= 0; i-- {
				if c := r.conns[i]; c.remotePort == res.Addr.Port() && c.file == nil {
					c.file, accepted.conn = accepted, c
					break
				}
			}
			if accepted.conn == nil {
				return fmt.Sprintf("accept returned a connection with %v, which the script knows nothing about", res.Addr)
			}
			return r.open(n, ok, accepted)
		},
	}
}

func (a *args) connect() prepared {
	f := a.file(0)
	r := a.run
	addr := a.address(1, netip.AddrPortFrom(r.remote, r.connectPort))
	return prepared{
		call: target.Connect{FD: f.live, Addr: addr},
		before: func() {
			if f.conn == nil {
				return
			}
			if f.conn.remotePort == 0 {
				f.conn.remotePort = addr.Port()
			}
			if !addr.IsValid() {
				*f.conn = conn{file: f, localPort: f.conn.localPort}
			}
		},
	}
}

func (a *args) read(f *file, size int, flags target.MsgFlags) prepared {
	return prepared{
		call: target.Read{FD: f.live, Max: size, Flags: flags},
		after: func(res target.Result) string {
			if flags&(target.MsgOOB|target.MsgErrQueue) != 0 {
				return ""
			}
			return f.checkRead(res.Data, flags&target.MsgPeek != 0)
		},
	}
}

// recv is read, recv and recvfrom, which differ in whether they have flags.
func (a *args) recv() prepared {
	flags := target.MsgFlags(0)
	if a.call.Name != "read" {
		flags = a.flags(3)
	}
	p := a.read(a.file(0), a.size(2), flags)
	if a.unmapped(1) {
		call := p.call.(target.Read)
		call.Unmapped = true
		p.call = call
	}
	return p
}

// vectorSize is the length of all the parts of a list of struct iovec.
func (a *args) vectorSize(e script.Expr) int {
	total := int64(0)
	for _, part := range a.parts(e) {
		total += a.eval(part.Fields[len(part.Fields)-1].Value)
	}
	if total < 0 || total > maxStream {
		a.fail("the length %d", total)
		return 0
	}
	return int(total)
}

// parts returns the elements of a list of struct iovec.
func (a *args) parts(e script.Expr) []*script.Struct {
	l, ok := e.(*script.List)
	if !ok {
		a.fail("a list of buffers is missing")
		return nil
	}
	var parts []*script.Struct
	for _, elem := range l.Elems {
		s, ok := elem.(*script.Struct)
		if !ok || len(s.Fields) == 0 {
			a.fail("%v is not a buffer", elem)
			return nil
		}
		parts = append(parts, s)
	}
	return parts
}

// message returns the struct msghdr in the second argument.
func (a *args) message() *script.Struct {
	s, ok := a.at(1).(*script.Struct)
	if !ok {
		a.fail("the message is missing")
		return &script.Struct{}
	}
	return s
}

// unmapped reports whether a buffer is NULL. No other address can be given:
// scripts know nothing of address spaces.
func (a *args) unmapped(i int) bool {
	switch e := a.at(i).(type) {
	case *script.Int, *script.Name:
		if !isZero(e) {
			a.fail("a buffer at a given address")
		}
		return true
	}
	return false
}

// buffer returns what to write: the string in argument i, or as many octets as
// argument n says.
func (a *args) buffer(i, n int) []byte {
	size := a.size(n)
	if s, ok := a.at(i).(*script.Str); ok && !s.Prefix {
		b := []byte(s.Value)
		return b[:min(len(b), size)]
	}
	return a.octets(size)
}

// octets returns the next n octets of the stream of the call's descriptor.
func (a *args) octets(n int) []byte {
	f := a.file(0)
	if len(f.written)+n > maxStream {
		a.fail("more than %d octets in one stream", maxStream)
		return nil
	}
	return f.produce(n)
}

// vector returns what to write from a list of struct iovec. A part with a
// string for its base is that string.
func (a *args) vector(e script.Expr) []byte {
	data := a.octets(a.vectorSize(e))
	at := 0
	for _, part := range a.parts(e) {
		n := int(a.eval(part.Fields[len(part.Fields)-1].Value))
		if s, ok := part.Fields[0].Value.(*script.Str); ok && at+n <= len(data) && n >= 0 {
			copy(data[at:at+n], s.Value)
		}
		at += n
	}
	return data
}

func (a *args) sendto() prepared {
	var to netip.AddrPort
	flags := a.flags(3)
	if e := a.at(4); flags&target.MsgFastOpen != 0 && e != nil {
		to = a.address(4, netip.AddrPortFrom(a.run.remote, a.run.connectPort))
	}
	p := a.opening(a.send(flags, to), to)
	if call := p.call.(target.Write); flags&target.MsgFastOpen != 0 && a.at(4) != nil && !to.IsValid() {
		call.NoFamily = true
		p.call = call
	}
	return p
}

// opening is a call that may begin a connection with an address, as connect
// does.
func (a *args) opening(p prepared, to netip.AddrPort) prepared {
	f, before := a.file(0), p.before
	if !to.IsValid() || f.conn == nil || f.conn.remotePort != 0 {
		return p
	}
	p.before = func() {
		f.conn.remotePort = to.Port()
		before()
	}
	return p
}

// gather writes from a list of struct iovec.
func (a *args) gather(e script.Expr, flags target.MsgFlags, to netip.AddrPort) prepared {
	p := a.write(a.vector(e), flags, to)
	call := p.call.(target.Write)
	for _, part := range a.parts(e) {
		call.Parts = append(call.Parts, int(a.eval(part.Fields[len(part.Fields)-1].Value)))
	}
	p.call = call
	return a.opening(p, to)
}

// send is write, send and sendto, which have a buffer.
func (a *args) send(flags target.MsgFlags, to netip.AddrPort) prepared {
	p := a.write(a.buffer(1, 2), flags, to)
	if a.unmapped(1) {
		call := p.call.(target.Write)
		call.Unmapped = true
		p.call = call
	}
	return p
}

func (a *args) sendmsg() prepared {
	if control, ok := a.message().Field("msg_control").(*script.List); ok && len(control.Elems) > 0 {
		a.fail("control messages")
	}
	var to netip.AddrPort
	flags := a.flags(2)
	if flags&target.MsgFastOpen != 0 {
		to = netip.AddrPortFrom(a.run.remote, a.run.connectPort)
	}
	return a.gather(a.message().Field("msg_iov"), flags, to)
}

// write sends data. While the call is under way the data counts as written,
// since segments may leave before it returns.
func (a *args) write(data []byte, flags target.MsgFlags, to netip.AddrPort) prepared {
	f := a.file(0)
	start := len(f.written)
	return prepared{
		call:   target.Write{FD: f.live, Data: data, Flags: flags, To: to},
		before: func() { f.written = append(f.written, data...) },
		ended:  func(res target.Result) { f.written = f.written[:start+int(max(res.Value, 0))] },
	}
}

func (a *args) shutdown() prepared {
	how := a.integer(1)
	if how < 0 || how > 2 {
		a.fail("how is %d", how)
	}
	return prepared{call: target.Shutdown{FD: a.file(0).live, Read: how != 1, Write: how != 0}}
}

func (a *args) close() prepared {
	n := a.integer(0)
	return prepared{
		call:  target.Close{FD: a.fdOf(n)},
		ended: func(target.Result) { delete(a.run.files, n) },
	}
}

func (a *args) fcntl() prepared {
	fd := a.file(0).live
	switch cmd := a.name(1); cmd {
	case "F_GETFL":
		return prepared{call: target.GetFlags{FD: fd}}
	case "F_SETFL":
		return prepared{call: target.SetNonblock{FD: fd, On: a.integer(2)&oNonblock != 0}}
	default:
		a.fail("%s", cmd)
		return prepared{}
	}
}

func (a *args) ioctl() prepared {
	queues := map[string]target.Queue{
		"SIOCINQ": target.RecvQueue, "FIONREAD": target.RecvQueue,
		"SIOCOUTQ": target.SendQueue, "SIOCOUTQNSD": target.UnsentQueue, "SIOCATMARK": target.AtMark,
	}
	q, ok := queues[a.name(1)]
	if !ok {
		a.fail("%s", a.name(1))
	}
	want := a.at(2)
	return prepared{
		call:  target.QueueSize{FD: a.file(0).live, Queue: q},
		after: func(res target.Result) string { return compareValue(want, res.Option) },
	}
}

// milliseconds turns the timeout of poll and epoll_wait into a duration.
func milliseconds(n int64) time.Duration {
	if n < 0 {
		return -1
	}
	return time.Duration(min(n, int64(time.Hour/time.Millisecond)*24)) * time.Millisecond
}
