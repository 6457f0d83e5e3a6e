package afpacket

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

const (
	// batchSize is the most packets that go to the kernel in one call.
	batchSize = 64
	// How long a writer that waits for room sleeps at a time: until the send
	// buffer has room or the endpoint may have been closed, and for a full
	// device, which tells nobody when it is no longer.
	bufferWait = 10 // milliseconds
	deviceWait = 1  // milliseconds
)

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// txQueue writes to one socket.
type txQueue struct {
	e        *Endpoint
	counters txCounters

	mu sync.Mutex
	fd int // -1 once closed; guarded by mu

	// What a batch needs, reused by every write. Guarded by mu.
	messages [batchSize]mmsghdr
	headers  [batchSize][vnet.HeaderSize]byte
	places   [batchSize]int // of the packets in the list
	iovecs   []unix.Iovec
}

// newTxQueue makes a queue that owns fd.
func newTxQueue(e *Endpoint, fd int) *txQueue {
	return &txQueue{e: e, fd: fd, iovecs: make([]unix.Iovec, 0, frame.MaxIovecs)}
}

// close closes the descriptor.
func (q *txQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
}

// WritePackets implements stack.LinkEndpoint. It returns n, the number of
// packets it is done with, from the first on, and an error that concerns
// packet n, if it stopped before the last:
//
//   - *tcpip.ErrNoBufferSpace: there is no room. Not sent, try later. Only with
//     the policy Refuse.
//   - *tcpip.ErrNetworkUnreachable: the device is down. Not sent.
//   - *tcpip.ErrClosedForSend: the endpoint is closed, or the device gone. Not
//     sent.
//   - *tcpip.ErrMessageTooLong, *tcpip.ErrMalformedHeader: the packet can
//     never be sent.
//
// A packet that can never be sent does not hold up those behind it: unless it
// is the last, it is counted and passed over.
//
// The packets' payload is not copied.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	return frame.WriteQueues(pkts.AsSlice(), len(e.tx), func(queue int, list []*stack.PacketBuffer) (int, tcpip.Error) {
		return e.tx[queue].write(list)
	})
}

// write writes packets of one queue, as described at WritePackets.
func (q *txQueue) write(list []*stack.PacketBuffer) (int, tcpip.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := 0
	for next < len(list) {
		n, after, err := q.fill(list, next)
		if n > 0 {
			if at, err := q.send(list, n); err != nil {
				return at, err
			}
		}
		if err != nil {
			return after, err
		}
		next = after
	}
	return len(list), nil
}

// fill makes a batch of the packets from list[next] on and returns how many are
// in it and the place of the first that is not. An error is about that packet,
// the last of the list, which can never be sent. q.mu is held.
func (q *txQueue) fill(list []*stack.PacketBuffer, next int) (n, after int, err tcpip.Error) {
	q.iovecs = q.iovecs[:0]
	for ; next < len(list) && n < batchSize; next++ {
		pkt := list[next]
		if err := q.checkPacket(pkt); err != nil {
			q.counters.invalid.Add(1)
			if next == len(list)-1 {
				return n, next, err
			}
			continue
		}
		first := len(q.iovecs)
		if !q.addIovecs(pkt, n) {
			if n > 0 {
				break // it has to be first in a batch
			}
			// Hundreds of tiny views, in an arena of its own.
			q.flatten(pkt)
		}
		iov := q.iovecs[first:]
		q.messages[n].hdr.Iov = &iov[0]
		q.messages[n].hdr.SetIovlen(len(iov))
		q.places[n] = next
		n++
	}
	return n, next, nil
}

// checkPacket says what is wrong with a packet that can never be sent.
func (q *txQueue) checkPacket(pkt *stack.PacketBuffer) tcpip.Error {
	switch size, least := pkt.Size(), int(q.e.MaxHeaderLength()); {
	case size > least+frame.MaxIPSize:
		return &tcpip.ErrMessageTooLong{}
	case size < least:
		return &tcpip.ErrMalformedHeader{}
	}
	return nil
}

// addIovecs adds the headers and the views of pkt, which is number n of its
// batch. It reports false, and adds nothing, if there is no room. q.mu is held.
func (q *txQueue) addIovecs(pkt *stack.PacketBuffer, n int) bool {
	iov := q.iovecs
	var h vnet.Header
	if q.e.offload {
		h = vnet.ForPacket(pkt)
	}
	h.Put(q.headers[n][:])
	iov = frame.AppendIovec(iov, q.headers[n][:])
	iov = frame.AppendPacket(iov, pkt)
	if len(iov) > frame.MaxIovecs {
		clear(q.iovecs[len(q.iovecs):cap(q.iovecs)])
		return false
	}
	q.iovecs = iov
	return true
}

// flatten makes the batch of a single packet that consists of too many views.
// The header of addIovecs, which failed, is in place.
func (q *txQueue) flatten(pkt *stack.PacketBuffer) {
	flat := pkt.ToView()
	defer flat.Release()
	q.iovecs = frame.AppendIovec(q.iovecs[:0], q.headers[0][:])
	q.iovecs = frame.AppendIovec(q.iovecs, flat.ToSlice())
}

// send sends the first n messages, and counts. If it stops before the last, it
// returns the place of the packet that the error is about. q.mu is held.
func (q *txQueue) send(list []*stack.PacketBuffer, n int) (int, tcpip.Error) {
	defer func() {
		clear(q.iovecs) // or the arena would keep the payload alive
		runtime.KeepAlive(list)
	}()
	sent, wasDown := 0, false
	for sent < n {
		if q.fd < 0 || q.e.life.Closed() {
			return q.refuse(list, sent, &q.counters.closed, &tcpip.ErrClosedForSend{})
		}
		m, errno := q.sendmmsg(sent, n)
		if errno == 0 {
			for i := range m {
				q.count(list[q.places[sent+i]], sent+i)
			}
			sent += m
			continue
		}
		switch err := writeError(errno); err.(type) {
		case nil: // interrupted
		case *tcpip.ErrNoBufferSpace:
			switch q.e.backpressure {
			case Refuse:
				return q.refuse(list, sent, &q.counters.full, err)
			case Drop:
				q.counters.dropped.Add(1)
				sent++
			case Block:
				q.counters.waits.Add(1)
				q.waitForRoom(errno)
			}
		case *tcpip.ErrNetworkUnreachable:
			// A socket reports once that the device was down, even if it is
			// up again.
			if wasDown {
				return q.refuse(list, sent, &q.counters.down, err)
			}
			wasDown = true
		case *tcpip.ErrClosedForSend:
			return q.refuse(list, sent, &q.counters.closed, err)
		default:
			q.counters.invalid.Add(1)
			if q.places[sent] == len(list)-1 {
				return q.places[sent], err
			}
			sent++
		}
	}
	return len(list), nil
}

// refuse counts the packets from message i on as not sent.
func (q *txQueue) refuse(list []*stack.PacketBuffer, i int, counter *atomic.Uint64, err tcpip.Error) (int, tcpip.Error) {
	counter.Add(uint64(len(list) - q.places[i]))
	return q.places[i], err
}

// count counts a packet that was sent as message i.
func (q *txQueue) count(pkt *stack.PacketBuffer, i int) {
	c := &q.counters
	c.frames.Add(1)
	c.bytes.Add(uint64(pkt.Size()))
	if q.headers[i][0] != 0 {
		c.partial.Add(1)
	}
	if q.headers[i][1] != vnet.GSONone {
		c.gso.Add(1)
	}
}

// sendmmsg sends messages from one to another and returns how many the kernel
// took. The kernel may do a lot of work in it, up to what the peer's stack does
// with the packets, so the scheduler knows.
func (q *txQueue) sendmmsg(from, to int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(q.fd), uintptr(unsafe.Pointer(&q.messages[from])), uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// waitForRoom sleeps for a moment.
func (q *txQueue) waitForRoom(errno unix.Errno) {
	if errno == unix.EAGAIN {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLOUT}}, bufferWait)
		return
	}
	_, _ = unix.Poll(nil, deviceWait)
}

// writeError says what errno of a write means to a stack.
func writeError(errno unix.Errno) tcpip.Error {
	switch errno {
	case unix.EINTR:
		return nil
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return &tcpip.ErrNoBufferSpace{}
	case unix.ENETDOWN, unix.EIO:
		return &tcpip.ErrNetworkUnreachable{}
	case unix.EBADF, unix.ENODEV, unix.ENXIO:
		return &tcpip.ErrClosedForSend{}
	case unix.EMSGSIZE:
		return &tcpip.ErrMessageTooLong{}
	default:
		return &tcpip.ErrMalformedHeader{}
	}
}
