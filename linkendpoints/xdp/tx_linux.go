//go:build amd64 || arm64

package xdp

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

const (
	// retryInterval is when the kernel is kicked again after it could take no
	// more of what is in the ring, or a receiver has not kicked it yet.
	retryInterval = time.Millisecond
	// blockInterval is how often a blocked writer looks for room.
	blockInterval = 50 * time.Microsecond
)

// txQueue sends on one socket.
type txQueue struct {
	e        *Endpoint
	k        *socket
	counters txCounters
	// deferred says that there is something in the ring for which a receiver
	// has to kick the kernel.
	deferred atomic.Bool

	mu      sync.Mutex
	frames  frames           // guarded by mu, as are these three
	src     reader           // of the packet at hand
	headers [maxHeaders]byte // of the segment at hand
	parts   [][]byte         // of the frame that was put last
	free    []uint32         // chunks that are ours; guarded by mu
	pending uint32           // entries that were not published yet; guarded by mu
	down    bool             // the last kick found the device down; guarded by mu
	closed  bool             // the rings are no more; guarded by mu
	retry   *time.Timer      // kicks again, nil until it has to; guarded by mu
	armed   bool             // retry runs; guarded by mu
}

// newTxQueue makes a queue whose chunks are all free.
func newTxQueue(e *Endpoint, k *socket, f frames) *txQueue {
	q := &txQueue{e: e, k: k, frames: f, free: make([]uint32, len(f.lent))}
	for i := range q.free {
		q.free[i] = uint32(len(q.free) - 1 - i)
	}
	return q
}

// stop waits for a writer and keeps others from using the rings.
func (q *txQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deferred.Swap(false) {
		q.kick()
	}
	q.closed = true
	if q.retry != nil {
		q.retry.Stop()
	}
}

// WritePackets implements stack.LinkEndpoint. It returns n, the number of
// packets it is done with, from the first on, and an error that concerns
// packet n, if it stopped before the last:
//
//   - *tcpip.ErrNoBufferSpace: there is no room (unless Options.Backpressure says
//     otherwise). Not sent, try later.
//   - *tcpip.ErrNetworkUnreachable: the device is down. Not sent.
//   - *tcpip.ErrClosedForSend: the endpoint is closed. Not sent.
//   - *tcpip.ErrMessageTooLong, *tcpip.ErrMalformedHeader: the packet can
//     never be sent.
//
// A packet that can never be sent does not hold up those behind it: unless it
// is the last, it is counted and passed over.
//
// What is written while frames are being delivered may be sent only after the
// delivery of a batch of up to 64 frames, with one system call for all, or a
// millisecond later.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	return frame.WriteQueues(pkts.AsSlice(), len(e.tx), func(queue int, list []*stack.PacketBuffer) (int, tcpip.Error) {
		return e.tx[queue].write(list)
	})
}

// write writes packets of one queue, as described at WritePackets.
func (q *txQueue) write(list []*stack.PacketBuffer) (n int, err tcpip.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down && !q.closed {
		q.kick() // to see whether it still is
	}
	for i, pkt := range list {
		if err = q.writeLocked(pkt); err == nil {
			continue
		}
		if !q.refused(list[i:], err) {
			err = nil
			continue
		}
		q.flush()
		return i, err
	}
	q.flush()
	return len(list), nil
}

// refused counts that list[0] was not taken because of err, and says whether
// that ends the batch.
func (q *txQueue) refused(list []*stack.PacketBuffer, err tcpip.Error) bool {
	c := &q.counters
	switch err.(type) {
	case *tcpip.ErrNoBufferSpace:
		if q.e.options.Backpressure == Drop {
			c.dropped.Add(1)
			return false
		}
		c.full.Add(uint64(len(list)))
	case *tcpip.ErrNetworkUnreachable:
		c.down.Add(uint64(len(list)))
	case *tcpip.ErrClosedForSend:
		c.closed.Add(uint64(len(list)))
	default:
		c.invalid.Add(1)
		return len(list) == 1
	}
	return true
}

// writeLocked puts one packet into the ring, without telling the kernel. q.mu is
// held.
func (q *txQueue) writeLocked(pkt *stack.PacketBuffer) tcpip.Error {
	size := pkt.Size()
	h := vnet.ForPacket(pkt)
	switch {
	case q.closed || q.e.life.Closed():
		return &tcpip.ErrClosedForSend{}
	case q.down:
		return &tcpip.ErrNetworkUnreachable{}
	case size < header.EthernetMinimumSize:
		return &tcpip.ErrMalformedHeader{}
	case h.GSOType != vnet.GSONone:
		return q.writeSegments(pkt, h)
	case h.Check(min(size, frameSize)) != nil:
		return &tcpip.ErrMalformedHeader{}
	case size > q.e.maxFrame && size > q.e.frameLimit(pkt):
		return &tcpip.ErrMessageTooLong{}
	}
	if n := chunks(size); len(q.free) < n {
		if err := q.makeRoom(n); err != nil {
			return err
		}
	}
	q.src.reset(pkt)
	q.put(nil, size)
	if h.Flags&vnet.FlagNeedsCsum != 0 {
		q.complete(int(h.CsumStart), int(h.CsumStart)+int(h.CsumOffset))
	}
	return nil
}

// chunks returns how many chunks a frame takes.
func chunks(size int) int { return (size + frameSize - 1) / frameSize }

// frameLimit returns the length of the longest frame like pkt that the device
// carries.
func (e *Endpoint) frameLimit(pkt *stack.PacketBuffer) int {
	if link := pkt.LinkHeader().Slice(); len(link) >= header.EthernetMinimumSize && header.Ethernet(link).Type() == protocolVLAN {
		return e.maxFrame + vlanTagSize
	}
	return e.maxFrame
}

// protocolVLAN is the EtherType of a frame with a tag (IEEE 802.1Q).
const protocolVLAN = tcpip.NetworkProtocolNumber(0x8100)

// put writes a frame of size bytes to free chunks, of which there are enough,
// and their descriptors to the ring: head, and then what q.src reads. q.parts
// says where it is.
func (q *txQueue) put(head []byte, size int) {
	c := &q.counters
	c.frames.Add(1)
	c.bytes.Add(uint64(size))
	if size > frameSize {
		c.multi.Add(1)
	}
	q.parts = q.parts[:0]
	for size > 0 {
		i := q.free[len(q.free)-1]
		q.free = q.free[:len(q.free)-1]
		length := min(size, frameSize)
		size -= length
		dst := q.frames.chunk(i)[:length]
		n := copy(dst, head)
		head = head[n:]
		q.src.read(dst[n:])
		q.parts = append(q.parts, dst)
		d := unix.XDPDesc{Addr: q.frames.lend(i), Len: uint32(length)}
		if size > 0 {
			d.Options = unix.XDP_PKT_CONTD
		}
		*q.k.tx.at(q.pending) = d
		q.pending++
	}
}

// makeRoom gets n chunks back from the kernel. Under Block it waits for them.
func (q *txQueue) makeRoom(n int) tcpip.Error {
	q.reap()
	for waited := false; len(q.free) < n; waited = true {
		q.publish()
		q.kick()
		q.reap()
		switch {
		case len(q.free) >= n:
			return nil
		case q.e.life.Closed():
			return &tcpip.ErrClosedForSend{}
		case q.down:
			return &tcpip.ErrNetworkUnreachable{}
		case q.e.options.Backpressure != Block:
			return &tcpip.ErrNoBufferSpace{}
		}
		if !waited {
			q.counters.blocked.Add(1)
		}
		time.Sleep(blockInterval)
	}
	return nil
}

// reap takes back the chunks whose packets have been sent.
func (q *txQueue) reap() {
	ring := q.k.completion
	n, err := ring.available()
	if err != nil {
		q.counters.completion.Add(1)
		go q.e.life.Fail(err)
		return
	}
	for i := range n {
		c, ok := q.frames.takeBack(*ring.at(i))
		if !ok {
			q.counters.completion.Add(1)
			continue
		}
		q.free = append(q.free, c)
	}
	if n > 0 {
		ring.release(n)
	}
}

// publish shows the kernel what was written.
func (q *txQueue) publish() {
	if q.pending > 0 {
		q.k.tx.publish(q.pending)
		q.pending = 0
	}
}

// flush sees to it that what was written is sent: now, or by a receiver that
// is delivering and will send all at once.
func (q *txQueue) flush() {
	if q.pending == 0 || q.closed {
		return
	}
	q.publish()
	q.deferred.Store(true)
	// A receiver stops delivering and then looks at deferred; either it sees
	// the store or we see that it has stopped.
	if q.e.delivering.Load() > 0 {
		q.kickLater() // a delivery may take long
		return
	}
	if q.deferred.Swap(false) {
		q.kick()
	}
	q.reap()
}

// kickDeferred sends what writers left to a receiver.
func (q *txQueue) kickDeferred() {
	if !q.deferred.Load() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deferred.Swap(false) && !q.closed {
		q.kick()
		q.reap()
	}
}

// kick tells the kernel to send what is in the ring, until it has taken all or
// takes no more; then it is told again a little later. q.mu is held.
func (q *txQueue) kick() {
	q.down = false
	if q.e.sockets.needWakeup && !q.k.tx.needWakeup() {
		return
	}
	for range q.k.tx.size { // each turn but the last makes progress
		before := atomic.LoadUint32(q.k.tx.consumer)
		q.counters.kicks.Add(1)
		switch errno := wakeTx(q.k.fd); errno {
		case 0, unix.EINTR:
			if q.e.sockets.mode == ZeroCopy || q.k.tx.drained() {
				return
			}
		case unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM:
			// A number of packets at a time, or one that the device refused,
			// or the completion ring or the send buffer is full.
			q.reap()
		case unix.ENETDOWN:
			q.down = true
			return
		case unix.ENXIO, unix.EBADF, unix.ENOTSOCK:
			go q.e.life.Fail(fmt.Errorf("%w (%w)", errDeviceGone, errno))
			return
		default:
			// The packet at the head was dropped (EOVERFLOW for one with too
			// many fragments, for instance); the next may do.
			q.counters.errors.Add(1)
		}
		if q.k.tx.drained() {
			return
		}
		if atomic.LoadUint32(q.k.tx.consumer) == before {
			break
		}
	}
	q.kickLater()
}

// kickLater kicks the kernel again in a moment if there still is something in the
// ring, whether or not somebody writes until then.
func (q *txQueue) kickLater() {
	switch {
	case q.armed || q.closed:
		return
	case q.retry == nil:
		q.retry = time.AfterFunc(retryInterval, q.kickAgain)
	default:
		q.retry.Reset(retryInterval)
	}
	q.armed = true
}

// kickAgain is what kickLater announced.
func (q *txQueue) kickAgain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = false
	if q.closed || q.down || q.k.tx.drained() {
		return
	}
	q.deferred.Store(false)
	q.kick()
	q.reap()
}

// wakeTx makes the kernel look at the transmit ring of fd. The call does not
// block, so that the scheduler need not know.
func wakeTx(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return errno
}
