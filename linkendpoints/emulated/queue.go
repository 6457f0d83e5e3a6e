package emulated

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Queue is the configuration of a queue discipline: FIFO, CoDel, FQCoDel, PIE or DualPI2.
type Queue interface {
	// validate reports the first mistake, naming the field.
	validate() error
	// discipline makes the queue of one direction.
	discipline(env *queueEnv) discipline
}

// discipline is a queue at work. Each packet given to enqueue comes out of dequeue or is handed to queueEnv.drop, exactly once. Times never decrease from call to call.
type discipline interface {
	enqueue(now time.Duration, p packet)
	dequeue(now time.Duration) (packet, bool)
	// packets and bytes tell what waits.
	packets() int
	bytes() int
}

// queueEnv is what a discipline may use of its direction.
type queueEnv struct {
	// drop takes a packet that the discipline gives up.
	drop func(packet, DropCause)
	// mark sets CE, counts it, and reports whether the packet allowed it.
	mark func(*packet) bool
	// rng is the discipline's own.
	rng *rand.Rand
	// mtu is the size of the largest packet in bytes.
	mtu int
}

// FIFO is a queue that drops what arrives when it is full.
type FIFO struct {
	// Bytes and Packets bound the queue, without the packet that is being serialised; 0 means no bound. If both are 0, Packets is DefaultQueuePackets.
	Bytes, Packets int
	// MarkBytes marks ECN-capable packets that find more than this waiting (RFC 8257's threshold K); 0 marks none.
	MarkBytes int
}

func (f FIFO) validate() error {
	for _, err := range []error{
		checkRange("Bytes", f.Bytes, 0, math.MaxInt),
		checkRange("Packets", f.Packets, 0, math.MaxInt),
		checkRange("MarkBytes", f.MarkBytes, 0, math.MaxInt),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (f FIFO) discipline(env *queueEnv) discipline {
	if f.Bytes == 0 && f.Packets == 0 {
		f.Packets = DefaultQueuePackets
	}
	return &fifo{FIFO: f, env: env}
}

// String describes the queue in a few words.
func (f FIFO) String() string {
	switch {
	case f.Bytes > 0:
		return fmt.Sprintf("FIFO %d bytes", f.Bytes)
	case f.Packets > 0:
		return fmt.Sprintf("FIFO %d packets", f.Packets)
	}
	return fmt.Sprintf("FIFO %d packets", DefaultQueuePackets)
}

type fifo struct {
	FIFO
	env *queueEnv
	q   backlog
}

func (f *fifo) enqueue(now time.Duration, p packet) {
	if f.Bytes > 0 && f.q.size+int(p.size) > f.Bytes || f.Packets > 0 && f.q.len() >= f.Packets {
		f.env.drop(p, DropOverflow)
		return
	}
	if f.MarkBytes > 0 && f.q.size > f.MarkBytes {
		f.env.mark(&p)
	}
	p.at = now
	f.q.push(p)
}

func (f *fifo) dequeue(time.Duration) (packet, bool) { return f.q.pop() }
func (f *fifo) packets() int                         { return f.q.len() }
func (f *fifo) bytes() int                           { return f.q.size }

// backlog is a first-in-first-out queue of packets that knows its size.
type backlog struct {
	ring ring[packet]
	size int // in bytes
}

func (b *backlog) len() int { return b.ring.len() }

func (b *backlog) push(p packet) {
	b.ring.push(p)
	b.size += int(p.size)
}

// pop removes the oldest packet; it reports false if there is none.
func (b *backlog) pop() (packet, bool) {
	if b.ring.len() == 0 {
		return packet{}, false
	}
	p := b.ring.pop()
	b.size -= int(p.size)
	return p, true
}
