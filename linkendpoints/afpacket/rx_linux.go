package afpacket

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
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

const (
	// A large frame is read into two views: headSize takes the headers, tailSize
	// the rest. What it leaves unused is kept for the next, because the buffer
	// package clears a chunk each time it hands one out.
	headSize = 2048
	tailSize = buffer.MaxChunkSize

	// watchInterval is how often an idle receiver looks for what the kernel
	// reports to nobody: a device that was deleted while it was down, and a ring
	// that the kernel no longer fills.
	watchInterval = 200 * time.Millisecond

	// mergeBatch is after how many frames the stack gets the segments that were put
	// together, and the receiver is busy if it has not waited meanwhile.
	mergeBatch = 64

	// maxSpurious is how often in a row poll(2) may report a frame that is not
	// in the ring. It takes a few while another processor fills the slot.
	maxSpurious = 1000

	l2 = header.EthernetMinimumSize
)

// rxQueue receives from one socket. Its fields other than counters belong to
// the goroutine of the current session, unless it says otherwise.
type rxQueue struct {
	e        *Endpoint
	fd       int // belongs to the txQueue
	ring     ring
	waiter   *lifecycle.Waiter
	merge    endpoint.Merger
	counters rxCounters

	quiet     bool   // nothing was received since the last watch
	lastDrops uint64 // the kernel's drops at the last watch
	spurious  int    // wakeups in a row without a frame

	header     [vnet.HeaderSize]byte
	head, tail *buffer.View
	iovecs     [3]unix.Iovec

	kernelMu sync.Mutex
	kernel   kernelCounters // guarded by kernelMu
	open     bool           // fd is; guarded by kernelMu
}

// kernelCounters are what PACKET_STATISTICS has told so far.
type kernelCounters struct{ frames, drops uint64 }

// newRxQueue makes a queue that receives through r.
func newRxQueue(e *Endpoint, fd int, r ring) *rxQueue {
	q := &rxQueue{e: e, fd: fd, ring: r, open: true}
	q.merge.Init(l2)
	q.waiter = lifecycle.NewWaiter(fd, watchInterval, q.ring.ready)
	return q
}

// kernelStats returns the kernel's counters, which it sets to zero as it tells
// them. It may be called concurrently.
func (q *rxQueue) kernelStats() kernelCounters {
	q.kernelMu.Lock()
	defer q.kernelMu.Unlock()
	return q.kernelStatsLocked()
}

func (q *rxQueue) kernelStatsLocked() kernelCounters {
	if q.open {
		if s, err := unix.GetsockoptTpacketStats(q.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			q.kernel.frames += uint64(s.Packets)
			q.kernel.drops += uint64(s.Drops)
		}
	}
	return q.kernel
}

// close lets go of memory; the descriptor is closed after it.
func (q *rxQueue) close() {
	q.kernelMu.Lock()
	q.kernelStatsLocked()
	q.open = false
	q.kernelMu.Unlock()
	frame.Release(&q.head)
	frame.Release(&q.tail)
	clear(q.iovecs[:])
	q.ring.unmap()
}

// run receives until s stops or the device is gone.
func (q *rxQueue) run(s *lifecycle.Session) {
	q.quiet = false
	q.merge.Begin(s)
	defer q.merge.Flush()
	for batch := 1; !s.Stopping(); batch++ {
		if q.ring.ready() {
			q.quiet, q.spurious = false, 0
			q.take(s)
			q.ring.advance()
			if batch%mergeBatch == 0 {
				q.merge.Flush()
				q.waiter.Busy()
			}
			continue
		}
		q.merge.Flush()
		if err := q.wait(s); err != nil {
			q.e.life.Fail(err)
			return
		}
	}
}

// wait returns when there may be a frame or s stops. An error means that there
// will be no more.
func (q *rxQueue) wait(s *lifecycle.Session) error {
	switch q.waiter.Wait(s, q.counters.bytes.Load()) {
	case lifecycle.Ready:
		return nil
	case lifecycle.Idle:
		return q.watch()
	}
	fds := [2]unix.PollFd{
		{Fd: int32(s.Wake()), Events: unix.POLLIN},
		{Fd: int32(q.fd), Events: unix.POLLIN},
	}
	n, err := unix.Poll(fds[:], int(watchInterval.Milliseconds()))
	switch {
	case err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("cannot receive: %w", os.NewSyscallError("poll", err))
	case n == 0:
		return q.watch()
	case fds[1].Revents&unix.POLLNVAL != 0:
		return fmt.Errorf("%w (%w)", errDeviceGone, unix.EBADF)
	case fds[1].Revents&unix.POLLERR != 0:
		// The device went down. Reading the error takes it away, so that poll
		// waits again.
		_, _ = unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		q.counters.errors.Add(1)
		return q.checkDevice()
	case fds[1].Revents&unix.POLLIN != 0 && !q.ring.ready():
		q.spurious++
		if q.spurious < maxSpurious {
			runtime.Gosched()
			return nil
		}
		// A frame in the receive queue belongs to no slot.
		q.spurious = 0
		q.counters.errors.Add(1)
		discardQueue(q.fd)
	}
	return nil
}

// checkDevice returns an error if the device is gone.
func (q *rxQueue) checkDevice() error {
	index, _, err := socketName(q.fd)
	switch {
	case err != nil:
		return fmt.Errorf("%w (%w)", errDeviceGone, err)
	case index <= 0:
		return errDeviceGone
	}
	return nil
}

// watch looks after an idle queue. A kernel that cannot describe a frame by a
// virtio-net header drops it and leaves the slot that it had taken for it marked
// as being filled, for ever. So frames that are dropped although the ring was
// empty all the time mean that it has to be made anew.
func (q *rxQueue) watch() error {
	if err := q.checkDevice(); err != nil {
		return err
	}
	drops := q.kernelStats().drops
	if q.quiet && drops != q.lastDrops && !q.ring.ready() {
		if err := q.ring.rebuild(q.fd); err != nil {
			return fmt.Errorf("cannot receive: %w", err)
		}
		q.counters.rebuilt.Add(1)
	}
	q.quiet, q.lastDrops = true, drops
	return nil
}

// take receives the frame in the ring's next slot.
func (q *rxQueue) take(s *lifecycle.Session) {
	sl, ok := parseSlot(q.ring.current())
	if !ok {
		q.counters.errors.Add(1)
		return
	}
	if sl.status&unix.TP_STATUS_COPY == 0 {
		if len(sl.frame) < sl.length {
			q.counters.large.Add(1)
			return
		}
		q.receive(s.Dispatcher, sl, sl.frame, nil)
		return
	}
	n, ok := q.readLarge(sl.length)
	if !ok {
		q.counters.errors.Add(1)
		return
	}
	sl.header = vnet.Parse(q.header[:])
	head := q.head.AsSlice()[:min(n, headSize)]
	q.receive(s.Dispatcher, sl, head, q.tail.AsSlice()[:n-len(head)])
}

// readLarge reads the frame of length bytes, as its slot says, from the receive
// queue into the queue's views. It returns how many bytes of it there are.
func (q *rxQueue) readLarge(length int) (int, bool) {
	want := min(length, headSize+tailSize)
	failed := 0
	for {
		n, errno := q.read()
		switch {
		case errno == 0 && n == vnet.HeaderSize+want:
			return want, true
		case errno == 0:
			// The frame of a slot that was discarded; ours is behind it.
			q.counters.errors.Add(1)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, false
		default:
			// The error of a device that went down is reported once, before
			// what was received earlier.
			if failed++; failed > 1 {
				return 0, false
			}
		}
	}
}

// read reads one frame and returns its length, the virtio-net header included.
func (q *rxQueue) read() (int, unix.Errno) {
	if q.head == nil {
		q.head = buffer.NewViewSize(headSize)
	}
	if q.tail == nil {
		q.tail = buffer.NewViewSize(tailSize)
	}
	iov := frame.AppendIovec(q.iovecs[:0], q.header[:])
	iov = frame.AppendIovec(iov, q.head.AsSlice())
	iov = frame.AppendIovec(iov, q.tail.AsSlice())
	// The descriptor does not block, so that the scheduler need not know.
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(q.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	return int(n), errno
}

// receive checks a frame, which lies in head and tail, and delivers it. A tail
// that is not nil means that both are the queue's views.
func (q *rxQueue) receive(d stack.NetworkDispatcher, sl slot, head, tail []byte) {
	c, e, n := &q.counters, q.e, len(head)+len(tail)
	switch {
	case sl.pktType == unix.PACKET_OUTGOING:
		c.outgoing.Add(1)
		return
	case n < l2:
		c.short.Add(1)
		return
	case n > l2+frame.MaxIPSize:
		c.giant.Add(1)
		return
	case !e.member(sl.tag):
		c.otherVLAN.Add(1)
		return
	}
	proto, pktType := frame.Classify(head, e.LinkAddress())
	if pktType == tcpip.PacketOtherHost && !e.promiscuous {
		c.otherHost.Add(1)
		return
	}
	p := vnet.Packet{Head: head[l2:], Tail: tail}
	h := sl.header
	if gso := h.GSOType &^ vnet.GSOECN; gso == gsoUDPL4 || gso != vnet.GSONone && !e.offload {
		q.split(d, proto, pktType, h, head[:l2], p)
		return
	}
	if h.Check(n) != nil {
		c.header.Add(1)
		return
	}
	if !q.verify(proto, h, p) {
		return
	}
	c.frames.Add(1)
	c.bytes.Add(uint64(n))
	if h.GSOType != vnet.GSONone {
		c.gso.Add(1)
	}
	if e.offload && pktType == tcpip.PacketHost {
		if tail == nil && h.GSOType == vnet.GSONone {
			if q.merge.Add(head, proto) {
				return
			}
		} else {
			// Somebody else has put it together, or it is long enough by itself;
			// what came before it may be of the same flow.
			q.merge.Flush()
		}
	}
	var payload buffer.Buffer
	if tail == nil {
		payload = buffer.MakeWithView(buffer.NewViewWithData(head))
	} else {
		payload = buffer.MakeWithView(frame.Take(&q.head, len(head)))
		if len(tail) > 0 {
			payload.Append(frame.Take(&q.tail, len(tail)))
		}
	}
	frame.Deliver(d, proto, pktType, l2, payload)
}

// member says whether a frame with tag t is for this endpoint. A tag with
// identifier zero carries a priority only (IEEE 802.1Q, §9.6).
func (e *Endpoint) member(t vlanTag) bool {
	if e.vlan == 0 {
		return !t.present || t.id() == 0
	}
	return t.present && t.tpid == unix.ETH_P_8021Q && t.id() == e.vlan
}

// verify makes sure of a packet's checksums and counts the outcome: those that
// the kernel did not vouch for are verified if the stack will not look, and
// those that are missing are completed if it will.
func (q *rxQueue) verify(proto tcpip.NetworkProtocolNumber, h vnet.Header, p vnet.Packet) bool {
	c := &q.counters
	partial := h.Flags&vnet.FlagNeedsCsum != 0
	verdict := vnet.Good
	if q.e.offload {
		verdict = vnet.Verify(proto, h, l2, p)
	} else if partial && !vnet.Complete(h, l2, p) {
		verdict = vnet.Malformed
	}
	switch verdict {
	case vnet.Good:
		switch {
		case partial:
			c.partial.Add(1)
		case q.e.offload && h.Flags&vnet.FlagDataValid == 0:
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

// split delivers the packets that a super-segment stands for.
func (q *rxQueue) split(d stack.NetworkDispatcher, proto tcpip.NetworkProtocolNumber, pktType tcpip.PacketType, h vnet.Header, link []byte, p vnet.Packet) {
	c := &q.counters
	partial := h.Flags&vnet.FlagNeedsCsum != 0
	if !partial && h.Flags&vnet.FlagDataValid == 0 {
		// The checksums of the parts are lost, and nobody looked at them.
		c.checksum.Add(1)
		return
	}
	sp, ok := newSplitter(proto, h, l2, p)
	if !ok {
		c.malformed.Add(1)
		return
	}
	c.split.Add(1)
	if partial {
		c.partial.Add(uint64(sp.count()))
	}
	for i := range sp.count() {
		v := buffer.NewViewSize(l2 + sp.length(i))
		b := v.AsSlice()
		copy(b, link)
		sp.put(i, b[l2:], partial)
		c.frames.Add(1)
		c.bytes.Add(uint64(len(b)))
		frame.Deliver(d, proto, pktType, l2, buffer.MakeWithView(v))
	}
}
