package tap

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/endpoint"
	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// A frame is read into two views. The first takes a whole frame of MTU 1500
// and all headers of a larger one; the second takes the rest of a segment of up
// to 64 KiB. Whatever the frame leaves unused is kept for the next, because
// the buffer package clears a chunk each time it hands one out.
const (
	headSize = 2048
	tailSize = buffer.MaxChunkSize
)

// batchSize is how many segments are held at most before the stack gets those that
// were put together.
const batchSize = 64

// maxReadErrors is how many reads may fail in a row before the device counts
// as gone.
const maxReadErrors = 64

// errDeviceGone is reported if the kernel does not say why reading ended.
var errDeviceGone = errors.New("the device is gone")

// rxQueue reads from one queue of the device. Its fields other than counters
// belong to the goroutine of the current session, and to whoever closes the
// endpoint when there is none any more.
type rxQueue struct {
	e        *Endpoint
	fd       int
	counters rxCounters

	header     [vnet.HeaderSize]byte
	head, tail *buffer.View
	iovecs     [3]unix.Iovec
	// held is the length of a frame in the views that was read as a session
	// stopped, and is for the next one; 0 for none.
	held int

	merge endpoint.Merger
	batch int // how many frames merge has taken since the last flush

	waiter *lifecycle.Waiter
	// early is the length of a frame that was read while waiting, and earlyErrno
	// why there is none.
	early      int
	earlyErrno unix.Errno
}

// newRxQueue makes a queue that reads fd, which belongs to its txQueue.
func newRxQueue(e *Endpoint, fd int) *rxQueue {
	q := &rxQueue{e: e, fd: fd}
	q.merge.Init(e.linkHeaderSize())
	q.waiter = lifecycle.NewWaiter(fd, 0, q.readEarly)
	return q
}

// run receives until s stops or the device is gone.
func (q *rxQueue) run(s *lifecycle.Session) {
	q.merge.Begin(s)
	defer q.flush()
	if n := q.held; n > 0 && !s.Stopping() {
		q.held = 0
		q.receive(s, n)
	}
	failed := 0
	for row := 1; !s.Stopping(); row++ {
		n, errno := q.read()
		if errno == unix.EAGAIN {
			q.flush()
			row = 0
			n, errno = q.wait(s)
		}
		if row == batchSize {
			q.waiter.Busy()
		}
		switch {
		case errno == 0 && n > 0:
			if s.Stopping() {
				q.held = n
				return
			}
			failed = 0
			q.receive(s, n)
			continue
		case errno == 0:
			errno = unix.ENODATA // the end of something that is no device
		case errno == unix.EINTR, errno == unix.EAGAIN:
			continue
		}
		q.counters.errors.Add(1)
		failed++
		if err := fatalReadError(errno, failed); err != nil {
			q.e.life.Fail(err)
			return
		}
	}
}

// fatalReadError says whether errno, the latest of failed errors in a row,
// means that the device will give no more frames.
func fatalReadError(errno unix.Errno, failed int) error {
	switch errno {
	case unix.EBADFD, unix.EBADF, unix.ENODEV, unix.ENXIO:
		return fmt.Errorf("%w (%w)", errDeviceGone, errno)
	}
	if failed >= maxReadErrors {
		return fmt.Errorf("%w (%d reads failed, the last with %w)", errDeviceGone, failed, errno)
	}
	return nil
}

// wait waits until there is something to read or s stops. It returns what it
// read, or unix.EAGAIN.
func (q *rxQueue) wait(s *lifecycle.Session) (int, unix.Errno) {
	q.early, q.earlyErrno = 0, unix.EAGAIN
	if q.waiter.Wait(s, q.counters.bytes.Load()) != lifecycle.Poll {
		return q.early, q.earlyErrno
	}
	if errno := q.poll(s); errno != 0 {
		return 0, errno
	}
	return q.read()
}

// readEarly reads and says whether something came of it.
func (q *rxQueue) readEarly() bool {
	q.early, q.earlyErrno = q.read()
	return q.earlyErrno != unix.EAGAIN
}

// poll waits until there is something to read or s stops.
func (q *rxQueue) poll(s *lifecycle.Session) unix.Errno {
	fds := [2]unix.PollFd{
		{Fd: int32(s.Wake()), Events: unix.POLLIN},
		{Fd: int32(q.fd), Events: unix.POLLIN},
	}
	if _, err := unix.Poll(fds[:], -1); err != nil && !errors.Is(err, unix.EINTR) {
		var errno unix.Errno
		errors.As(err, &errno)
		return errno
	}
	if fds[1].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 && fds[1].Revents&unix.POLLIN == 0 {
		return unix.EBADFD
	}
	return 0
}

// read reads one frame and returns its length, the virtio-net header included.
func (q *rxQueue) read() (int, unix.Errno) {
	if q.head == nil {
		q.head = buffer.NewViewSize(headSize)
	}
	if q.tail == nil {
		q.tail = buffer.NewViewSize(tailSize)
	}
	iov := q.iovecs[:0]
	if q.e.vnetHdr {
		iov = frame.AppendIovec(iov, q.header[:])
	}
	iov = frame.AppendIovec(iov, q.head.AsSlice())
	iov = frame.AppendIovec(iov, q.tail.AsSlice())
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(q.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	return int(n), errno
}

// release gives the views back.
func (q *rxQueue) release() {
	if q.held > 0 {
		q.held = 0
		q.counters.detached.Add(1)
	}
	frame.Release(&q.head)
	frame.Release(&q.tail)
	clear(q.iovecs[:])
}

// receive checks the frame of n bytes that was just read and delivers it.
func (q *rxQueue) receive(s *lifecycle.Session, n int) {
	c := &q.counters
	var h vnet.Header
	if q.e.vnetHdr {
		if n < vnet.HeaderSize {
			c.short.Add(1)
			return
		}
		n -= vnet.HeaderSize
		h = vnet.Parse(q.header[:])
	}
	l2 := q.e.linkHeaderSize()
	switch {
	case n < l2 || n == 0:
		c.short.Add(1)
		return
	case n > l2+frame.MaxIPSize:
		// Longer than an IP packet can be; what did not fit was cut off.
		c.giant.Add(1)
		return
	}
	if h.Check(n) != nil {
		c.header.Add(1)
		return
	}
	head := q.head.AsSlice()[:min(n, headSize)]
	tail := q.tail.AsSlice()[:n-len(head)]
	proto, pktType := q.e.classify(head)
	if pktType == tcpip.PacketOtherHost && !q.e.promiscuous {
		c.otherHost.Add(1)
		return
	}
	if q.e.offload && !q.verify(proto, h, l2, vnet.Packet{Head: head[l2:], Tail: tail}) {
		return
	}
	if s.Stopping() {
		c.detached.Add(1)
		return
	}
	c.frames.Add(1)
	c.bytes.Add(uint64(n))
	if h.GSOType != vnet.GSONone {
		c.gso.Add(1)
	}
	if q.merges(h, pktType, len(tail)) && q.merge.Add(head, proto) {
		if q.batch++; q.batch == batchSize {
			q.flush()
		}
		return
	}
	q.deliver(s.Dispatcher, proto, pktType, l2, n)
}

// merges says whether a frame may be put together with others. What came before
// one that may not, and may be of the same flow, is delivered.
func (q *rxQueue) merges(h vnet.Header, pktType tcpip.PacketType, tail int) bool {
	if !q.e.offload || pktType != tcpip.PacketHost {
		return false
	}
	if h.GSOType != vnet.GSONone || tail > 0 {
		// Somebody else has put it together, or it is long enough by itself.
		q.flush()
		return false
	}
	return true
}

// flush delivers the segments that were put together.
func (q *rxQueue) flush() {
	q.batch = 0
	q.merge.Flush()
}

// verify checks what the kernel did not vouch for and counts the outcome.
func (q *rxQueue) verify(proto tcpip.NetworkProtocolNumber, h vnet.Header, l2 int, p vnet.Packet) bool {
	c := &q.counters
	switch vnet.Verify(proto, h, l2, p) {
	case vnet.Good:
		switch {
		case h.Flags&vnet.FlagNeedsCsum != 0:
			c.partial.Add(1)
		case h.Flags&vnet.FlagDataValid == 0:
			c.verified.Add(1)
		}
		return true
	case vnet.Malformed:
		c.malformed.Add(1)
	default:
		c.checksum.Add(1)
	}
	return false
}

// classify reads the link header: the protocol of the packet and who it is for.
func (e *Endpoint) classify(b []byte) (tcpip.NetworkProtocolNumber, tcpip.PacketType) {
	if e.mode == TUN {
		switch header.IPVersion(b) {
		case header.IPv4Version:
			return header.IPv4ProtocolNumber, tcpip.PacketHost
		case header.IPv6Version:
			return header.IPv6ProtocolNumber, tcpip.PacketHost
		}
		return 0, tcpip.PacketHost // for the NIC to count as unknown
	}
	return frame.Classify(b, e.LinkAddress())
}

// deliver passes the frame of n bytes in the queue's views to the stack.
func (q *rxQueue) deliver(d stack.NetworkDispatcher, proto tcpip.NetworkProtocolNumber, pktType tcpip.PacketType, l2, n int) {
	payload := buffer.MakeWithView(frame.Take(&q.head, min(n, headSize)))
	if n > headSize {
		// The view is the caller's no more once it is appended.
		payload.Append(frame.Take(&q.tail, n-headSize))
	}
	frame.Deliver(d, proto, pktType, l2, payload)
}
