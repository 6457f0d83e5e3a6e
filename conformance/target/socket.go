package target

import (
	"bytes"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxTransfer bounds the buffer of one Read, so that a script cannot make the
// target allocate without limit.
const maxTransfer = 64 << 20

// descriptor is what an FD stands for: a *socket or an *epoll.
type descriptor interface {
	// readiness returns which of the events of poll(2) are true, among mask
	// and those that are always reported.
	readiness(mask uint32) uint32
}

// socket is an endpoint with what Linux keeps around it.
type socket struct {
	ep       tcpip.Endpoint
	queue    *waiter.Queue
	ipv6     bool
	nonblock bool
	// recvTimeout and sendTimeout are SO_RCVTIMEO and SO_SNDTIMEO; 0 means
	// none.
	recvTimeout, sendTimeout time.Duration
}

// readiness implements descriptor. Errors and hang-ups are always reported.
func (s *socket) readiness(mask uint32) uint32 {
	m := waiter.EventMask(mask) | waiter.EventErr | waiter.EventHUp
	return (s.ep.Readiness(m) & m).ToLinux()
}

// op is a system call under way. It implements [Pending].
type op struct {
	// try makes one attempt. It returns false if the call has to wait.
	try func() (Result, bool)
	// expire, if set, is the attempt to make when timer has fired.
	expire  func() Result
	expired bool
	timer   tcpip.Timer

	result Result
	done   bool
}

// Result implements [Pending].
func (o *op) Result() (Result, bool) { return o.result, o.done }

// attempt tries the call once and reports whether it ended.
func (n *netstack) attempt(o *op) bool {
	r, ok := o.try()
	if !ok {
		if !o.expired {
			return false
		}
		r = o.expire()
	}
	if o.timer != nil {
		o.timer.Stop()
	}
	r.At = n.clock.Elapsed()
	if r.Errno != "" {
		r.Value = -1
	}
	o.result, o.done = r, true
	n.completed++
	return true
}

// retryOps tries the calls that block again, oldest first, and reports whether
// one of them ended.
func (n *netstack) retryOps() bool {
	progress := false
	waiting := n.ops[:0]
	for _, o := range n.ops {
		if n.attempt(o) {
			progress = true
			continue
		}
		waiting = append(waiting, o)
	}
	clear(n.ops[len(waiting):])
	n.ops = waiting
	return progress
}

// start makes the first attempt of a call, and files it if it has to wait. A
// timeout of zero or more ends the wait with what expire returns.
func (n *netstack) start(try func() (Result, bool), timeout time.Duration, expire func() Result) Pending {
	o := &op{try: try, expire: expire}
	if timeout == 0 {
		o.expired = true
	}
	if !n.attempt(o) {
		if timeout > 0 {
			o.timer = n.clock.AfterFunc(timeout, func() { o.expired = true })
		}
		n.ops = append(n.ops, o)
	}
	n.Settle()
	return o
}

// forever is the timeout of a call that waits as long as it takes.
const forever = time.Duration(-1)

// immediate files a call that never waits.
func (n *netstack) immediate(r Result) Pending {
	return n.start(func() (Result, bool) { return r, true }, forever, nil)
}

// fail is the result of a call that failed with e, or 0 if e is "".
func fail(e Errno) Result { return Result{Errno: e} }

// failed is the result of a call that netstack refused.
func failed(err tcpip.Error) Result { return fail(errnoOf(err)) }

// outcome is the result of a call that returns 0 or an error.
func outcome(err tcpip.Error) Result {
	if err != nil {
		return failed(err)
	}
	return Result{}
}

// wouldBlock is what a call returns when its time is up.
func wouldBlock() Result { return fail(eAgain) }

// Syscall implements [Target].
func (n *netstack) Syscall(call Call) (Pending, error) {
	switch c := call.(type) {
	case Socket:
		return n.socket(c), nil
	case EpollCreate:
		return n.epollCreate(), nil
	case EpollCtl:
		return n.epollCtl(c)
	case EpollWait:
		return n.epollWait(c)
	case Poll:
		return n.poll(c)
	case Close:
		return n.close(c), nil
	case Bind:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.immediate(n.bind(s, c)), nil })
	case Listen:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) {
			return n.immediate(outcome(s.ep.Listen(acceptQueue(c.Backlog)))), nil
		})
	case Accept:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.accept(s, c), nil })
	case Connect:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.connect(s, c), nil })
	case Read:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.read(s, c) })
	case Write:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.write(s, c) })
	case Shutdown:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.immediate(shutdown(s, c)), nil })
	case SetOption:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.setOption(s, c) })
	case GetOption:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.getOption(s, c) })
	case SetNonblock:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) {
			s.nonblock = c.On
			return n.immediate(Result{}), nil
		})
	case GetFlags:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.immediate(getFlags(s)), nil })
	case GetName:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.immediate(getName(s, c)), nil })
	case QueueSize:
		return n.onSocket(c.FD, func(s *socket) (Pending, error) { return n.queueSize(s, c) })
	default:
		return nil, Unsupportedf("system call %v", call)
	}
}

// onSocket calls f with the socket of a descriptor.
func (n *netstack) onSocket(fd FD, f func(*socket) (Pending, error)) (Pending, error) {
	s, ok := n.fds[fd].(*socket)
	if !ok {
		return n.immediate(fail(eBadf)), nil
	}
	return f(s)
}

// newFD files a descriptor under the lowest unused number, as Unix does.
func (n *netstack) newFD(d descriptor) FD {
	fd := n.nextFD
	for n.fds[fd] != nil {
		fd++
	}
	n.fds[fd] = d
	return fd
}

func (n *netstack) socket(c Socket) Pending {
	proto := ipv4.ProtocolNumber
	if c.IPv6 {
		proto = ipv6.ProtocolNumber
	}
	queue := new(waiter.Queue)
	ep, err := n.stack.NewEndpoint(header.TCPProtocolNumber, proto, queue)
	if err != nil {
		return n.immediate(failed(err))
	}
	fd := n.newFD(&socket{ep: ep, queue: queue, ipv6: c.IPv6, nonblock: c.Nonblock})
	return n.immediate(Result{Value: int64(fd)})
}

// fullAddress converts an address for netstack. The unspecified address is
// that of no length.
func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	full := tcpip.FullAddress{Port: a.Port()}
	if !a.Addr().IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(a.Addr().AsSlice())
	}
	return full
}

// addrPort converts an address of netstack.
func addrPort(full tcpip.FullAddress) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(full.Addr.AsSlice())
	return netip.AddrPortFrom(addr, full.Port)
}

func (n *netstack) bind(s *socket, c Bind) Result {
	if c.Addr.Addr().Is6() != s.ipv6 {
		return fail(eAfNoSupport)
	}
	return outcome(s.ep.Bind(fullAddress(c.Addr)))
}

func (n *netstack) accept(s *socket, c Accept) Pending {
	try := func() (Result, bool) {
		var peer tcpip.FullAddress
		ep, queue, err := s.ep.Accept(&peer)
		if isWouldBlock(err) && !s.nonblock {
			return Result{}, false
		}
		if err != nil {
			return failed(err), true
		}
		fd := n.newFD(&socket{ep: ep, queue: queue, ipv6: s.ipv6, nonblock: c.Nonblock})
		return Result{Value: int64(fd), Addr: addrPort(peer)}, true
	}
	return n.start(try, timeoutOr(s.recvTimeout), wouldBlock)
}

// timeoutOr turns "0 means none" into the convention of start.
func timeoutOr(d time.Duration) time.Duration {
	if d == 0 {
		return forever
	}
	return d
}

func isWouldBlock(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrWouldBlock)
	return ok
}

// connect starts the handshake with the first attempt and asks for its outcome
// when the endpoint becomes writable, as an application does.
func (n *netstack) connect(s *socket, c Connect) Pending {
	started := false
	try := func() (Result, bool) {
		if !c.Addr.IsValid() {
			return outcome(s.ep.Disconnect()), true
		}
		if started && s.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
			return Result{}, false
		}
		err := s.ep.Connect(fullAddress(c.Addr))
		switch err.(type) {
		case *tcpip.ErrConnectStarted, *tcpip.ErrAlreadyConnecting:
			if s.nonblock {
				return failed(err), true
			}
			started = true
			return Result{}, false
		}
		return outcome(err), true
	}
	return n.start(try, timeoutOr(s.sendTimeout), func() Result { return fail(eInProgress) })
}

func (n *netstack) read(s *socket, c Read) (Pending, error) {
	if c.Unmapped {
		return nil, errUnmapped
	}
	if bad := c.Flags &^ knownRead; bad != 0 {
		return nil, Unsupportedf("recv flags %#x", uint32(bad))
	}
	if c.Max < 0 || c.Max > maxTransfer {
		return n.immediate(fail(eInval)), nil
	}
	var data []byte
	try := func() (Result, bool) {
		for {
			got, err := readOnce(s, c, c.Max-len(data))
			data = append(data, got...)
			full := len(data) == c.Max
			switch {
			case err == nil && !full && c.Flags&MsgWaitAll != 0 && len(got) > 0:
				continue
			case err == nil:
				return Result{Value: int64(len(data)), Data: data}, true
			case isWouldBlock(err) && !s.nonblock && c.Flags&MsgDontWait == 0:
				return Result{}, false
			case len(data) > 0:
				return Result{Value: int64(len(data)), Data: data}, true
			}
			if _, eof := err.(*tcpip.ErrClosedForReceive); eof {
				return Result{}, true
			}
			return failed(err), true
		}
	}
	expire := func() Result {
		if len(data) > 0 {
			return Result{Value: int64(len(data)), Data: data}
		}
		return wouldBlock()
	}
	return n.start(try, timeoutOr(s.recvTimeout), expire), nil
}

// readOnce reads up to size bytes of what there is.
func readOnce(s *socket, c Read, size int) ([]byte, tcpip.Error) {
	if size == 0 {
		return nil, nil
	}
	buf := make([]byte, size)
	w := tcpip.SliceWriter(buf)
	peek := c.Flags&MsgPeek != 0
	res, err := s.ep.Read(&w, tcpip.ReadOptions{Peek: peek})
	if err != nil {
		return nil, err
	}
	if !peek {
		s.ep.ModerateRecvBuf(res.Count)
	}
	return buf[:res.Count], nil
}

func (n *netstack) write(s *socket, c Write) (Pending, error) {
	if c.Unmapped {
		return nil, errUnmapped
	}
	// A connection that waits for its first write begins with it.
	if c.Flags&MsgFastOpen != 0 || tcp.EndpointState(s.ep.State()) == tcp.StateConnecting {
		if _, ok := s.ep.(FastOpener); ok {
			return n.fastWrite(s, c)
		}
	}
	if bad := c.Flags &^ knownWrite; bad != 0 {
		return nil, Unsupportedf("send flags %#x", uint32(bad))
	}
	opts := tcpip.WriteOptions{More: c.Flags&MsgMore != 0, EndOfRecord: c.Flags&MsgEOR != 0}
	if c.To.IsValid() {
		to := fullAddress(c.To)
		opts.To = &to
	}
	put := func(data []byte) (int64, tcpip.Error) { return s.ep.Write(bytes.NewReader(data), opts) }
	if c.Flags&MsgOOB != 0 {
		u, ok := s.ep.(Urgent)
		if !ok {
			return nil, Unsupportedf("MSG_OOB")
		}
		put = u.WriteUrgent
	}
	wait := !s.nonblock && c.Flags&MsgDontWait == 0
	return n.writeAll(s, append([]byte(nil), c.Data...), put, wait), nil
}

// writeAll writes data piece by piece. A blocking call returns when all of it
// was taken.
func (n *netstack) writeAll(s *socket, data []byte, put func([]byte) (int64, tcpip.Error), wait bool) Pending {
	taken := int64(0)
	try := func() (Result, bool) {
		for {
			count, err := put(data[taken:])
			taken += count
			switch {
			case err == nil && taken < int64(len(data)) && count > 0:
				continue
			case err == nil && taken == int64(len(data)):
				return Result{Value: taken}, true
			case (err == nil || isWouldBlock(err)) && wait:
				return Result{}, false
			case taken > 0:
				return Result{Value: taken}, true
			case err == nil:
				return wouldBlock(), true
			}
			return failed(err), true
		}
	}
	expire := func() Result {
		if taken > 0 {
			return Result{Value: taken}
		}
		return wouldBlock()
	}
	return n.start(try, timeoutOr(s.sendTimeout), expire)
}

// acceptQueue is how many connections Linux lets wait for accept: one more than
// the backlog, which is unsigned and at most somaxconn.
func acceptQueue(backlog int) int {
	const somaxconn = 4096
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	return backlog + 1
}

func shutdown(s *socket, c Shutdown) Result {
	var flags tcpip.ShutdownFlags
	if c.Read {
		flags |= tcpip.ShutdownRead
	}
	if c.Write {
		flags |= tcpip.ShutdownWrite
	}
	return outcome(s.ep.Shutdown(flags))
}

// close lets go of a descriptor. With SO_LINGER and a time the call waits
// until the FIN is acknowledged or the time is up.
func (n *netstack) close(c Close) Pending {
	d := n.fds[c.FD]
	delete(n.fds, c.FD)
	s, ok := d.(*socket)
	if !ok {
		if d == nil {
			return n.immediate(fail(eBadf))
		}
		return n.immediate(Result{})
	}
	n.forget(s)
	linger := s.ep.SocketOptions().GetLinger()
	s.ep.Close()
	if !linger.Enabled || linger.Timeout <= 0 || s.nonblock {
		return n.immediate(Result{})
	}
	try := func() (Result, bool) {
		switch tcp.EndpointState(s.ep.State()) {
		case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			return Result{}, false
		}
		return Result{}, true
	}
	return n.start(try, linger.Timeout, func() Result { return Result{} })
}

// getFlags returns the flags of open(2) that a socket has.
func getFlags(s *socket) Result {
	const rdwr, nonblock = 0o2, 0o4000
	if s.nonblock {
		return Result{Value: rdwr | nonblock}
	}
	return Result{Value: rdwr}
}

func getName(s *socket, c GetName) Result {
	get := s.ep.GetLocalAddress
	if c.Peer {
		get = s.ep.GetRemoteAddress
	}
	full, err := get()
	if err != nil {
		return failed(err)
	}
	return Result{Addr: addrPort(full)}
}

func (n *netstack) queueSize(s *socket, c QueueSize) (Pending, error) {
	var opt tcpip.SockOptInt
	switch c.Queue {
	case RecvQueue:
		opt = tcpip.ReceiveQueueSizeOption
	case SendQueue:
		opt = tcpip.SendQueueSizeOption
	case AtMark:
		u, ok := s.ep.(Urgent)
		if !ok {
			return nil, Unsupportedf("ioctl SIOCATMARK")
		}
		at := 0
		if octets, pending := u.UrgentMark(); pending && octets <= 1 {
			at = 1
		}
		return n.immediate(Result{Option: at}), nil
	default:
		info, err := n.Info(c.FD)
		unsent, ok := info["notsent_bytes"]
		if err != nil || !ok {
			return nil, Unsupportedf("ioctl SIOCOUTQNSD")
		}
		return n.immediate(Result{Option: int(unsent)}), nil
	}
	v, err := s.ep.GetSockOptInt(opt)
	if _, unknown := err.(*tcpip.ErrUnknownProtocolOption); unknown {
		return nil, Unsupportedf("%v", c)
	}
	if err != nil {
		return n.immediate(failed(err)), nil
	}
	return n.immediate(Result{Option: v}), nil
}
