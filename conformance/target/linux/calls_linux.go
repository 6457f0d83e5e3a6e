package linux

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/target"
)

// file is what the target remembers about a descriptor. In the kernel all of
// them are nonblocking.
type file struct {
	nonblock bool
	epoll    bool
	// recvTimeout and sendTimeout are SO_RCVTIMEO and SO_SNDTIMEO; 0 means
	// none. Linger says that close may wait.
	recvTimeout, sendTimeout time.Duration
	linger                   bool
	// fastOpen is TCP_FASTOPEN_CONNECT. Deferred says that connect returned
	// at once because of it: the SYN leaves with the first write.
	fastOpen, deferred bool
}

// op is a system call under way. It implements [target.Pending].
type op struct {
	// try makes one attempt. It returns false if the call has to wait.
	try func() (target.Result, bool)
	// waits are what poll(2) is to wait for, nil if it cannot.
	waits []unix.PollFd
	// deadline is when the wait ends with what expire returns, 0 for never.
	deadline time.Duration
	expire   func() target.Result

	result target.Result
	done   bool
}

// Result implements [target.Pending].
func (o *op) Result() (target.Result, bool) { return o.result, o.done }

// attempt tries a call once and reports whether it ended.
func (h *host) attempt(o *op) bool {
	r, ok := o.try()
	if !ok {
		if o.deadline == 0 || h.Now() < o.deadline {
			return false
		}
		r = o.expire()
	}
	r.At = h.Now()
	if r.Errno != "" {
		r.Value = -1
	}
	o.result, o.done = r, true
	h.completed++
	return true
}

// retryOps tries the calls that wait again, oldest first.
func (h *host) retryOps() {
	waiting := h.ops[:0]
	for _, o := range h.ops {
		if !h.attempt(o) {
			waiting = append(waiting, o)
		}
	}
	clear(h.ops[len(waiting):])
	h.ops = waiting
}

// start makes the first attempt of a call, and files it if it has to wait.
// Without a timeout of more than zero it waits for ever.
func (h *host) start(o *op, timeout time.Duration) target.Pending {
	if timeout > 0 {
		o.deadline = h.Now() + timeout
	}
	if !h.attempt(o) {
		h.ops = append(h.ops, o)
	}
	h.receive()
	return o
}

// immediate files a call that never waits.
func (h *host) immediate(r target.Result) (target.Pending, error) {
	return h.start(&op{try: func() (target.Result, bool) { return r, true }}, 0), nil
}

// failed is the result of a call that ended in err.
func failed(err error) target.Result {
	if e, ok := err.(unix.Errno); ok {
		return target.Result{Errno: target.Errno(unix.ErrnoName(e))}
	}
	return target.Result{Errno: target.Errno(err.Error())}
}

// outcome is the result of a call that returns 0 or an error.
func outcome(err error) target.Result {
	if err != nil {
		return failed(err)
	}
	return target.Result{}
}

// wouldBlock is what a call returns when its time is up.
func wouldBlock() target.Result { return failed(unix.EAGAIN) }

// waitFor is what an op waits for on a descriptor.
func waitFor(fd target.FD, events int16) []unix.PollFd {
	return []unix.PollFd{{Fd: int32(fd), Events: events}}
}

// Syscall implements [target.Target].
func (h *host) Syscall(call target.Call) (target.Pending, error) {
	switch c := call.(type) {
	case target.Socket:
		return h.immediate(h.socket(c))
	case target.EpollCreate:
		return h.immediate(h.epollCreate())
	case target.Poll:
		return h.pollCall(c), nil
	}
	fd := descriptorOf(call)
	f := h.files[fd]
	if f == nil {
		return h.immediate(failed(unix.EBADF))
	}
	n := int(fd)
	switch c := call.(type) {
	case target.EpollCtl:
		ev := &unix.EpollEvent{Events: c.Target.Events, Fd: int32(c.Target.Data), Pad: int32(c.Target.Data >> 32)}
		return h.immediate(outcome(unix.EpollCtl(n, int(c.Op), int(c.Target.FD), ev)))
	case target.EpollWait:
		return h.epollWait(c), nil
	case target.Close:
		return h.close(c, f)
	case target.Bind:
		return h.immediate(outcome(unix.Bind(n, sockaddr(c.Addr))))
	case target.Listen:
		return h.immediate(outcome(unix.Listen(n, c.Backlog)))
	case target.Accept:
		return h.accept(c, f), nil
	case target.Connect:
		return h.connect(c, f), nil
	case target.Read:
		return h.read(c, f)
	case target.Write:
		return h.write(c, f)
	case target.Shutdown:
		return h.immediate(shutdown(c))
	case target.SetOption:
		return h.setOption(c, f)
	case target.GetOption:
		return h.getOption(c, f)
	case target.SetNonblock:
		f.nonblock = c.On
		return h.immediate(target.Result{})
	case target.GetFlags:
		r := target.Result{Value: unix.O_RDWR}
		if f.nonblock {
			r.Value |= unix.O_NONBLOCK
		}
		return h.immediate(r)
	case target.GetName:
		return h.immediate(getName(c))
	case target.QueueSize:
		return h.immediate(queueSize(c))
	}
	return nil, target.Unsupportedf("system call %v", call)
}

// descriptorOf returns the descriptor that a call is about.
func descriptorOf(call target.Call) target.FD {
	switch c := call.(type) {
	case target.EpollCtl:
		return c.FD
	case target.EpollWait:
		return c.FD
	case target.Close:
		return c.FD
	case target.Bind:
		return c.FD
	case target.Listen:
		return c.FD
	case target.Accept:
		return c.FD
	case target.Connect:
		return c.FD
	case target.Read:
		return c.FD
	case target.Write:
		return c.FD
	case target.Shutdown:
		return c.FD
	case target.SetOption:
		return c.FD
	case target.GetOption:
		return c.FD
	case target.SetNonblock:
		return c.FD
	case target.GetFlags:
		return c.FD
	case target.GetName:
		return c.FD
	case target.QueueSize:
		return c.FD
	}
	return -1
}

func (h *host) socket(c target.Socket) target.Result {
	family := unix.AF_INET
	if c.IPv6 {
		family = unix.AF_INET6
	}
	var fd int
	var err error
	h.inside(func() {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	})
	if err != nil {
		return failed(err)
	}
	h.files[target.FD(fd)] = &file{nonblock: c.Nonblock}
	return target.Result{Value: int64(fd)}
}

// sockaddr converts an address.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort converts an address of the kernel's.
func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

func (h *host) accept(c target.Accept, f *file) target.Pending {
	try := func() (target.Result, bool) {
		fd, peer, err := unix.Accept4(int(c.FD), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EAGAIN && !f.nonblock:
			return target.Result{}, false
		case err != nil:
			return failed(err), true
		}
		h.files[target.FD(fd)] = &file{nonblock: c.Nonblock}
		return target.Result{Value: int64(fd), Addr: addrPort(peer)}, true
	}
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLIN), expire: wouldBlock}, f.recvTimeout)
}

// connect starts the handshake with the first attempt. A blocking call then
// waits until the socket can be written to, and asks how it went.
func (h *host) connect(c target.Connect, f *file) target.Pending {
	started := false
	try := func() (target.Result, bool) {
		if !c.Addr.IsValid() {
			return outcome(dissolve(int(c.FD))), true
		}
		if !started {
			err := unix.Connect(int(c.FD), sockaddr(c.Addr))
			f.deferred = err == nil && f.fastOpen
			if err != unix.EINPROGRESS || f.nonblock {
				return outcome(err), true
			}
			started = true
		}
		if ready(c.FD, unix.POLLOUT) == 0 {
			return target.Result{}, false
		}
		return outcome(pendingError(c.FD)), true
	}
	expire := func() target.Result { return failed(unix.EINPROGRESS) }
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLOUT), expire: expire}, f.sendTimeout)
}

// pendingError returns the error that SO_ERROR tells, which that clears.
func pendingError(fd target.FD) error {
	pending, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && pending != 0 {
		err = unix.Errno(pending)
	}
	return err
}

// ready returns which of the events are true of a descriptor.
func ready(fd target.FD, events int16) int16 {
	fds := waitFor(fd, events)
	if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
		return 0
	}
	return fds[0].Revents
}

// The flags that calls may have.
const (
	readFlags = target.MsgPeek | target.MsgTrunc | target.MsgDontWait | target.MsgWaitAll | target.MsgNoSignal | target.MsgOOB |
		target.MsgErrQueue
	writeFlags = target.MsgOOB | target.MsgDontWait | target.MsgEOR | target.MsgNoSignal | target.MsgMore |
		target.MsgZeroCopy | target.MsgFastOpen
	// maxTransfer bounds the buffer of one read, in octets.
	maxTransfer = 64 << 20
)

func (h *host) read(c target.Read, f *file) (target.Pending, error) {
	if bad := c.Flags &^ readFlags; bad != 0 {
		return nil, target.Unsupportedf("recv flags %#x", uint32(bad))
	}
	if c.Max < 0 || c.Max > maxTransfer {
		return h.immediate(failed(unix.EINVAL))
	}
	if c.Unmapped || c.Message {
		return h.readMessage(c, f), nil
	}
	var data []byte
	flags := int(c.Flags&^target.MsgWaitAll) | unix.MSG_DONTWAIT
	try := func() (target.Result, bool) {
		for {
			buf := make([]byte, c.Max-len(data))
			n, _, err := unix.Recvfrom(int(c.FD), buf, flags)
			if n > 0 {
				data = append(data, buf[:min(n, len(buf))]...)
			}
			switch {
			case err == nil && n > 0 && len(data) < c.Max && c.Flags&target.MsgWaitAll != 0:
				continue
			case err == unix.EAGAIN && !f.nonblock && c.Flags&target.MsgDontWait == 0:
				return target.Result{}, false
			case err != nil && len(data) == 0:
				return failed(err), true
			}
			return target.Result{Value: int64(len(data)), Data: data}, true
		}
	}
	expire := func() target.Result {
		if len(data) > 0 {
			return target.Result{Value: int64(len(data)), Data: data}
		}
		return wouldBlock()
	}
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLIN), expire: expire}, f.recvTimeout), nil
}

func (h *host) write(c target.Write, f *file) (target.Pending, error) {
	if bad := c.Flags &^ writeFlags; bad != 0 {
		return nil, target.Unsupportedf("send flags %#x", uint32(bad))
	}
	if c.NoFamily {
		return nil, target.Unsupportedf("an address of no family")
	}
	if c.Unmapped {
		return h.immediate(writeUnmapped(c))
	}
	var to unix.Sockaddr
	if c.To.IsValid() {
		to = sockaddr(c.To)
	}
	wait := !f.nonblock && c.Flags&target.MsgDontWait == 0
	flags := int(c.Flags) | unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	data, taken := append([]byte(nil), c.Data...), 0
	if wait && (f.deferred || c.Flags&target.MsgFastOpen != 0) {
		f.deferred = false
		return h.start(h.blockingSend(c, to), 0), nil
	}
	full := false
	try := func() (target.Result, bool) {
		// A call that waits is woken when there is a good deal of room, not
		// the first octet.
		if full && ready(c.FD, unix.POLLOUT) == 0 {
			return target.Result{}, false
		}
		for {
			n, err := unix.SendmsgBuffers(int(c.FD), remaining(data, c.Parts, taken), nil, to, flags)
			taken += max(n, 0)
			switch {
			case err == nil && taken < len(data) && n > 0:
				continue
			case err == unix.EAGAIN && wait:
				full = true
				return target.Result{}, false
			case err != nil && taken == 0:
				return failed(err), true
			}
			return target.Result{Value: int64(taken)}, true
		}
	}
	expire := func() target.Result {
		if taken > 0 {
			return target.Result{Value: int64(taken)}
		}
		return wouldBlock()
	}
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLOUT), expire: expire}, f.sendTimeout), nil
}

// blockingSend is a call that sends data in a SYN and blocks until the handshake
// is over. That somebody blocks there decides what the kernel answers a SYN-ACK
// with, so the call really blocks, elsewhere.
func (h *host) blockingSend(c target.Write, to unix.Sockaddr) *op {
	fd, flags := int(c.FD), int(c.Flags)|unix.MSG_NOSIGNAL
	buffers := remaining(append([]byte(nil), c.Data...), c.Parts, 0)
	_ = unix.SetNonblock(fd, false)
	done := make(chan target.Result, 1)
	go func() {
		hurry()
		defer relax()
		n, err := unix.SendmsgBuffers(fd, buffers, nil, to, flags)
		if err != nil {
			done <- failed(err)
			return
		}
		done <- target.Result{Value: int64(n)}
	}()
	return &op{try: func() (target.Result, bool) {
		select {
		case r := <-done:
			_ = unix.SetNonblock(fd, true)
			return r, true
		case <-time.After(nap / 4):
			return target.Result{}, false
		}
	}}
}

// remaining returns the buffers of a call that are left when some octets were
// taken: those that the application has, as long as none were.
func remaining(data []byte, parts []int, taken int) [][]byte {
	if taken > 0 || len(parts) == 0 {
		return [][]byte{data[taken:]}
	}
	// The kernel joins buffers that lie side by side, so that none does.
	const apart = 64
	var buffers [][]byte
	for _, n := range parts {
		n = min(n, len(data))
		b := make([]byte, n+apart)
		copy(b, data[:n])
		buffers = append(buffers, b[:n])
		data = data[n:]
	}
	return buffers
}

func shutdown(c target.Shutdown) target.Result {
	how := unix.SHUT_WR
	switch {
	case c.Read && c.Write:
		how = unix.SHUT_RDWR
	case c.Read:
		how = unix.SHUT_RD
	}
	return outcome(unix.Shutdown(int(c.FD), how))
}

// close lets go of a descriptor. With SO_LINGER and a time the kernel waits in
// the call, which is then made elsewhere.
func (h *host) close(c target.Close, f *file) (target.Pending, error) {
	delete(h.files, c.FD)
	if !f.linger {
		return h.immediate(outcome(unix.Close(int(c.FD))))
	}
	done := make(chan error, 1)
	go func() { done <- unix.Close(int(c.FD)) }()
	return h.start(&op{try: func() (target.Result, bool) {
		select {
		case err := <-done:
			return outcome(err), true
		case <-time.After(nap / 4): // most such calls return at once
			return target.Result{}, false
		}
	}}, 0), nil
}

func getName(c target.GetName) target.Result {
	get := unix.Getsockname
	if c.Peer {
		get = unix.Getpeername
	}
	a, err := get(int(c.FD))
	if err != nil {
		return failed(err)
	}
	return target.Result{Addr: addrPort(a)}
}

func queueSize(c target.QueueSize) target.Result {
	requests := map[target.Queue]uint{
		target.RecvQueue: unix.SIOCINQ, target.SendQueue: unix.SIOCOUTQ, target.UnsentQueue: 0x894b, target.AtMark: unix.SIOCATMARK,
	}
	n, err := unix.IoctlGetInt(int(c.FD), requests[c.Queue])
	if err != nil {
		return failed(err)
	}
	return target.Result{Option: n}
}

// pollCall is the system call poll.
func (h *host) pollCall(c target.Poll) target.Pending {
	fds := make([]unix.PollFd, len(c.FDs))
	for i, want := range c.FDs {
		fds[i] = unix.PollFd{Fd: int32(want.FD), Events: int16(want.Events)}
		if h.files[want.FD] == nil {
			fds[i].Fd = 1<<30 - 1 // POLLNVAL, whatever else the process has open
		}
	}
	try := func() (target.Result, bool) {
		n, err := unix.Poll(fds, 0)
		if err != nil {
			return failed(err), true
		}
		r := target.Result{Value: int64(n)}
		for i, f := range fds {
			r.Ready = append(r.Ready, target.Ready{FD: c.FDs[i].FD, Events: uint32(uint16(f.Revents))})
		}
		return r, n > 0 || c.Timeout == 0
	}
	expire := func() target.Result {
		r, _ := try()
		return r
	}
	return h.start(&op{try: try, waits: fds, expire: expire}, c.Timeout)
}

func (h *host) epollCreate() target.Result {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return failed(err)
	}
	h.files[target.FD(fd)] = &file{epoll: true}
	return target.Result{Value: int64(fd)}
}

func (h *host) epollWait(c target.EpollWait) target.Pending {
	const most = 1024
	try := func() (target.Result, bool) {
		events := make([]unix.EpollEvent, max(1, min(c.Max, most)))
		n, err := unix.EpollWait(int(c.FD), events, 0)
		if err != nil {
			return failed(err), true
		}
		r := target.Result{Value: int64(n)}
		for _, e := range events[:n] {
			r.Ready = append(r.Ready, target.Ready{Events: e.Events, Data: int64(e.Pad)<<32 | int64(uint32(e.Fd))})
		}
		return r, n > 0 || c.Timeout == 0
	}
	expire := func() target.Result {
		r, _ := try()
		return r
	}
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLIN), expire: expire}, c.Timeout)
}
