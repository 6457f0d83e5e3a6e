//go:build amd64 || arm64

package xdp

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/endpoint"
	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

const (
	// batchSize is how many descriptors are handled before their chunks go back
	// to the kernel and what was sent meanwhile is kicked.
	batchSize = 64
	// busyRow is after how many batches without a wait in between a receiver is
	// busy.
	busyRow = 4
	// idleInterval is how often a receiver that waits looks whether the device
	// still exists: the kernel does not wake it for that.
	idleInterval = time.Second
)

// rxQueue receives from one socket. Its fields other than counters belong to the
// goroutine of the current session.
type rxQueue struct {
	e        *Endpoint
	k        *socket
	frames   frames
	counters rxCounters

	chain   []unix.XDPDesc // of the frame at hand
	pieces  [][]byte       // what they describe
	merge   endpoint.Merger
	session *lifecycle.Session
	waiter  *lifecycle.Waiter
	touched byte // so that prefetch has a result
}

// newRxQueue makes a queue all of whose chunks are with the kernel.
func newRxQueue(e *Endpoint, k *socket, f frames) *rxQueue {
	for i := range f.lent {
		f.lent[i] = true
	}
	q := &rxQueue{e: e, k: k, frames: f}
	q.merge.Init(header.EthernetMinimumSize)
	q.waiter = lifecycle.NewWaiter(k.fd, idleInterval, q.ready)
	return q
}

// run receives until s stops or the device is gone.
func (q *rxQueue) run(s *lifecycle.Session) {
	for row := 1; !s.Stopping(); row++ {
		n, err := q.k.rx.available()
		if err == nil && n == 0 {
			row = 0
			err = q.wait(s)
		}
		if row == busyRow {
			q.waiter.Busy()
		}
		if err != nil {
			q.counters.errors.Add(1)
			q.e.life.Fail(err)
			return
		}
		if n > 0 {
			q.batch(s, n)
		}
	}
}

// batch handles some of the n descriptors that are there.
func (q *rxQueue) batch(s *lifecycle.Session, n uint32) {
	q.e.delivering.Add(1)
	q.session = s
	q.merge.Begin(s)
	q.prefetch(min(n, batchSize))
	var done, refilled uint32
	for done < min(n, batchSize) && !s.Stopping() {
		used := q.gather(done, n)
		q.receive(s)
		done += used
		refilled += q.giveBack(refilled)
	}
	q.k.fill.publish(refilled)
	q.k.rx.release(done)
	q.merge.Flush()
	if q.k.fill.needWakeup() {
		q.poke()
	}
	q.e.delivering.Add(-1)
	for _, t := range q.e.tx {
		t.kickDeferred()
	}
}

// prefetch reads a byte of each of the next n frames. They are in another
// processor's cache, and reads that do not depend on each other wait for it
// together.
func (q *rxQueue) prefetch(n uint32) {
	mem := q.frames.mem
	for i := range n {
		if at := q.k.rx.at(i).Addr; at < uint64(len(mem)) {
			q.touched += mem[at]
		}
	}
}

// gather copies the descriptors of the next frame, from the one at offset from
// of n that are there, to q.chain. It returns how many they are.
func (q *rxQueue) gather(from, n uint32) uint32 {
	q.chain = q.chain[:0]
	for i := from; i < n; i++ {
		// One copy of the entry: whoever else has the ring mapped may change it.
		d := *q.k.rx.at(i)
		q.chain = append(q.chain, d)
		if d.Options&unix.XDP_PKT_CONTD == 0 {
			break
		}
	}
	return uint32(len(q.chain))
}

// giveBack puts the chunks of q.chain that are ours now on the fill ring, behind
// offset entries that were not published yet.
func (q *rxQueue) giveBack(offset uint32) (n uint32) {
	for _, d := range q.chain {
		if d.Options == returned {
			*q.k.fill.at(offset + n) = q.frames.lend(uint32((d.Addr - q.frames.first) / frameSize))
			n++
		}
	}
	return n
}

// returned marks, in q.chain, a descriptor whose chunk is ours. The kernel has
// no such option.
const returned = 1 << 31

// take checks the descriptors of q.chain, makes their chunks ours and sets
// q.pieces to what they describe. The kernel puts all descriptors of a frame into
// the ring at once, so the last says that it is.
func (q *rxQueue) take() (size int, ok bool) {
	q.pieces = q.pieces[:0]
	ok = q.chain[len(q.chain)-1].Options&unix.XDP_PKT_CONTD == 0
	for i := range q.chain {
		d := &q.chain[i]
		d.Options = 0
		if _, mine := q.frames.takeBack(d.Addr); !mine {
			ok = false
			continue
		}
		d.Options = returned
		piece, whole := q.frames.content(*d)
		ok = ok && whole
		q.pieces = append(q.pieces, piece)
		size += len(piece)
	}
	return size, ok
}

// receive checks the frame whose descriptors are in q.chain and delivers it.
func (q *rxQueue) receive(s *lifecycle.Session) {
	c := &q.counters
	size, ok := q.take()
	switch {
	case !ok:
		c.descriptor.Add(1)
		return
	case size < header.EthernetMinimumSize || len(q.pieces[0]) < header.EthernetMinimumSize:
		c.short.Add(1)
		return
	case size > header.EthernetMinimumSize+frame.MaxIPSize:
		c.giant.Add(1)
		return
	}
	proto, pktType := frame.Classify(q.pieces[0], q.e.LinkAddress())
	if pktType == tcpip.PacketOtherHost && !q.e.promiscuous {
		c.otherHost.Add(1)
		return
	}
	if len(q.pieces) > 1 {
		q.receiveMany(proto, pktType, size)
		return
	}
	piece := q.pieces[0]
	if !q.verify(proto, vnet.Packet{Head: piece[header.EthernetMinimumSize:]}) {
		return
	}
	c.frames.Add(1)
	c.bytes.Add(uint64(size))
	if pktType == tcpip.PacketHost && !q.e.options.NoOffload && q.merge.Add(piece, proto) {
		return
	}
	frame.Deliver(s.Dispatcher, proto, pktType, header.EthernetMinimumSize, buffer.MakeWithView(buffer.NewViewWithData(piece)))
}

// receiveMany delivers the frame of size bytes in several chunks that q.pieces
// describes.
func (q *rxQueue) receiveMany(proto tcpip.NetworkProtocolNumber, pktType tcpip.PacketType, size int) {
	head := buffer.NewViewWithData(q.pieces[0])
	tail := buffer.NewViewSize(size - len(q.pieces[0]))
	at := tail.AsSlice()
	for _, piece := range q.pieces[1:] {
		at = at[copy(at, piece):]
	}
	if !q.verify(proto, vnet.Packet{Head: head.AsSlice()[header.EthernetMinimumSize:], Tail: tail.AsSlice()}) {
		frame.Release(&head)
		frame.Release(&tail)
		return
	}
	c := &q.counters
	c.frames.Add(1)
	c.bytes.Add(uint64(size))
	c.multi.Add(1)
	q.merge.Flush() // what came before it may be of the same flow
	payload := buffer.MakeWithView(head)
	_ = payload.Append(tail)
	frame.Deliver(q.session.Dispatcher, proto, pktType, header.EthernetMinimumSize, payload)
}

// verify checks the checksums of a packet and counts the outcome.
func (q *rxQueue) verify(proto tcpip.NetworkProtocolNumber, p vnet.Packet) bool {
	c := &q.counters
	var v vnet.Verdict
	if q.e.device.PartialChecksums {
		var completed bool
		if v, completed = vnet.VerifyPartial(proto, p); completed {
			c.partial.Add(1)
		}
	} else {
		v = vnet.Verify(proto, vnet.Header{}, 0, p)
	}
	switch v {
	case vnet.Good:
		return true
	case vnet.Malformed:
		c.malformed.Add(1)
	default:
		c.checksum.Add(1)
	}
	return false
}

// wait waits until there is something to receive or s stops. It returns an
// error if the device is gone.
func (q *rxQueue) wait(s *lifecycle.Session) error {
	if q.spin(s) {
		return nil
	}
	if q.k.fill.needWakeup() {
		q.poke()
	}
	// Only poll(2) polls a device.
	if q.e.options.BusyPoll == 0 {
		switch q.waiter.Wait(s, q.counters.bytes.Load()) {
		case lifecycle.Ready:
			return nil
		case lifecycle.Idle:
			return q.checkDevice()
		}
	}
	fds := [2]unix.PollFd{
		{Fd: int32(s.Wake()), Events: unix.POLLIN},
		{Fd: int32(q.k.fd), Events: unix.POLLIN},
	}
	n, err := unix.Poll(fds[:], int(idleInterval.Milliseconds()))
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return os.NewSyscallError("poll", err)
	case n > 0 && fds[1].Revents&^unix.POLLIN == 0:
		return nil
	}
	return q.checkDevice()
}

// ready says whether there is something to receive, or that the ring is corrupt.
func (q *rxQueue) ready() bool {
	n, err := q.k.rx.available()
	return n > 0 || err != nil
}

// checkDevice returns an error if the device is gone.
func (q *rxQueue) checkDevice() error {
	switch errno := wakeTx(q.k.fd); errno {
	case unix.ENXIO, unix.EBADF, unix.ENOTSOCK:
		return fmt.Errorf("%w (%w)", errDeviceGone, errno)
	}
	return nil
}

// spin polls the device for a while, if the endpoint is to. It reports true if
// there is something to do.
func (q *rxQueue) spin(s *lifecycle.Session) bool {
	limit := q.e.options.BusyPoll
	if limit == 0 {
		return false
	}
	for start := time.Now(); time.Since(start) < limit; {
		q.poke()
		if q.ready() || s.Stopping() {
			return true
		}
	}
	return false
}

// poke makes the kernel look at the fill ring, and poll the device if the socket
// is to.
func (q *rxQueue) poke() {
	_, _, _ = unix.Syscall6(unix.SYS_RECVFROM, uintptr(q.k.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}
