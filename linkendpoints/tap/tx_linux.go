package tap

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// txQueue writes to one queue of the device.
type txQueue struct {
	e        *Endpoint
	counters txCounters

	mu     sync.Mutex
	fd     int                   // -1 once closed; guarded by mu
	header [vnet.HeaderSize]byte // guarded by mu
	iovecs []unix.Iovec          // reused by every write; guarded by mu
}

// newTxQueue makes a queue that owns fd.
func newTxQueue(e *Endpoint, fd int) *txQueue {
	return &txQueue{e: e, fd: fd, iovecs: make([]unix.Iovec, 0, 64)}
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
//   - *tcpip.ErrNoBufferSpace: the device is full. Not sent, try later.
//   - *tcpip.ErrNetworkUnreachable: the device is down. Not sent.
//   - *tcpip.ErrClosedForSend: the endpoint is closed. Not sent.
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
	for i, pkt := range list {
		err := q.writeLocked(pkt)
		if err == nil {
			continue
		}
		switch err.(type) {
		case *tcpip.ErrNoBufferSpace:
			q.counters.full.Add(uint64(len(list) - i))
		case *tcpip.ErrNetworkUnreachable:
			q.counters.down.Add(uint64(len(list) - i))
		case *tcpip.ErrClosedForSend:
			q.counters.closed.Add(uint64(len(list) - i))
		default:
			q.counters.invalid.Add(1)
			if i < len(list)-1 {
				continue
			}
		}
		return i, err
	}
	return len(list), nil
}

// writeLocked writes one packet. q.mu is held.
func (q *txQueue) writeLocked(pkt *stack.PacketBuffer) tcpip.Error {
	if q.fd < 0 || q.e.life.Closed() {
		return &tcpip.ErrClosedForSend{}
	}
	size := pkt.Size()
	l2 := q.e.linkHeaderSize()
	switch {
	case size > l2+frame.MaxIPSize:
		return &tcpip.ErrMessageTooLong{}
	case size < l2 || size == 0:
		return &tcpip.ErrMalformedHeader{}
	}
	var h vnet.Header
	if q.e.vnetHdr {
		if q.e.offload {
			h = vnet.ForPacket(pkt)
		}
		h.Put(q.header[:])
	}
	errno := q.writev(pkt)
	if errno == 0 {
		c := &q.counters
		c.frames.Add(1)
		c.bytes.Add(uint64(size))
		if h.Flags != 0 {
			c.partial.Add(1)
		}
		if h.GSOType != vnet.GSONone {
			c.gso.Add(1)
		}
	}
	return writeError(errno)
}

// writev hands the header and the views of pkt to the device in one call.
func (q *txQueue) writev(pkt *stack.PacketBuffer) unix.Errno {
	iov := q.iovecs[:0]
	if q.e.vnetHdr {
		iov = frame.AppendIovec(iov, q.header[:])
	}
	iov = frame.AppendPacket(iov, pkt)
	q.iovecs = iov
	if len(iov) > frame.MaxIovecs {
		// Hundreds of tiny views: one copy is cheaper than it looks.
		flat := pkt.ToView()
		defer flat.Release()
		iov = iov[:0]
		if q.e.vnetHdr {
			iov = frame.AppendIovec(iov, q.header[:])
		}
		iov = frame.AppendIovec(iov, flat.AsSlice())
	}
	var errno unix.Errno
	for {
		// The descriptor does not block, so that the scheduler need not know.
		_, _, errno = unix.RawSyscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
		if errno != unix.EINTR {
			break
		}
	}
	runtime.KeepAlive(pkt)
	clear(iov) // or the arena would keep the payload alive
	return errno
}

// writeError says what errno of a write means to a stack.
func writeError(errno unix.Errno) tcpip.Error {
	switch errno {
	case 0:
		return nil
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return &tcpip.ErrNoBufferSpace{}
	case unix.EIO, unix.ENETDOWN:
		return &tcpip.ErrNetworkUnreachable{}
	case unix.EBADFD, unix.EBADF, unix.ENODEV, unix.EPIPE, unix.ECONNRESET:
		return &tcpip.ErrClosedForSend{}
	case unix.EMSGSIZE:
		return &tcpip.ErrMessageTooLong{}
	default:
		return &tcpip.ErrMalformedHeader{}
	}
}
