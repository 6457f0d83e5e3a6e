//go:build amd64 || arm64

package xdp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errCorrupt is reported if a ring's indices make no sense.
var errCorrupt = errors.New("a ring shared with the kernel is corrupt")

// ring is one of the four rings that a socket shares with the kernel: an array
// of entries between a producer and a consumer, each of which owns one index.
// Indices run freely through 32 bits; entries lie at the index modulo the size.
//
// What the other side wrote is read with acquire semantics and what we wrote is
// published with release semantics, so that an entry is whole when its index
// says that it is there. Go's atomic operations are sequentially consistent,
// which includes that and the full barrier between publishing an entry and
// looking whether the kernel wants to be woken.
type ring struct {
	producer, consumer, flags *uint32
	mem                       []byte // the mapping, nil if there is none
	size                      uint32
	own                       uint32 // our index; published by release or publish
}

// descRing is a ring of descriptors (receive and transmit).
type descRing struct {
	ring
	entries []unix.XDPDesc
}

// addrRing is a ring of chunk addresses (fill and completion).
type addrRing struct {
	ring
	entries []uint64
}

// newRing finds the indices of a ring in mem, of which off says where they are.
func newRing(mem []byte, off unix.XDPRingOffset, size uint32) (ring, error) {
	for _, at := range []uint64{off.Producer, off.Consumer, off.Flags} {
		if at%4 != 0 || at > uint64(len(mem)) || uint64(len(mem))-at < 4 {
			return ring{}, fmt.Errorf("%w: an index at offset %d of %d", errCorrupt, at, len(mem))
		}
	}
	return ring{
		producer: (*uint32)(unsafe.Pointer(&mem[off.Producer])),
		consumer: (*uint32)(unsafe.Pointer(&mem[off.Consumer])),
		flags:    (*uint32)(unsafe.Pointer(&mem[off.Flags])),
		mem:      mem,
		size:     size,
	}, nil
}

// entriesAt returns the size entries of type T at offset off of mem.
func entriesAt[T any](mem []byte, off uint64, size uint32) ([]T, error) {
	var entry T
	need := uint64(size) * uint64(unsafe.Sizeof(entry))
	if off%8 != 0 || off > uint64(len(mem)) || uint64(len(mem))-off < need {
		return nil, fmt.Errorf("%w: %d entries at offset %d of %d", errCorrupt, size, off, len(mem))
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[off])), size), nil
}

// newDescRing makes a ring of size descriptors, a power of two, of its mapping.
func newDescRing(mem []byte, off unix.XDPRingOffset, size uint32) (*descRing, error) {
	r, err := newRing(mem, off, size)
	if err != nil {
		return nil, err
	}
	entries, err := entriesAt[unix.XDPDesc](mem, off.Desc, size)
	return &descRing{r, entries}, err
}

// newAddrRing makes a ring of size addresses, a power of two, of its mapping.
func newAddrRing(mem []byte, off unix.XDPRingOffset, size uint32) (*addrRing, error) {
	r, err := newRing(mem, off, size)
	if err != nil {
		return nil, err
	}
	entries, err := entriesAt[uint64](mem, off.Desc, size)
	return &addrRing{r, entries}, err
}

// available returns how many entries the kernel has produced that were not
// consumed, of a ring that we consume.
func (r *ring) available() (uint32, error) {
	n := atomic.LoadUint32(r.producer) - r.own
	if n > r.size {
		return 0, errCorrupt
	}
	return n, nil
}

// release gives n consumed entries back to the kernel.
func (r *ring) release(n uint32) {
	r.own += n
	atomic.StoreUint32(r.consumer, r.own)
}

// publish hands n entries that were written behind the own index to the kernel.
func (r *ring) publish(n uint32) {
	r.own += n
	atomic.StoreUint32(r.producer, r.own)
}

// drained says whether the kernel has consumed all that we produced.
func (r *ring) drained() bool { return atomic.LoadUint32(r.consumer) == r.own }

// needWakeup says whether the kernel sleeps until a system call wakes it.
func (r *ring) needWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

// at returns the entry n behind the own index.
func (r *descRing) at(n uint32) *unix.XDPDesc { return &r.entries[(r.own+n)&(r.size-1)] }

// at returns the entry n behind the own index.
func (r *addrRing) at(n uint32) *uint64 { return &r.entries[(r.own+n)&(r.size-1)] }

// unmap removes the mapping.
func (r *ring) unmap() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
}

// frames are the chunks of shared memory that one queue has for one direction.
// Each is either lent to the kernel or ours.
type frames struct {
	mem   []byte // all of the shared memory
	first uint64 // address of the first chunk, that is, its offset in mem
	lent  []bool
}

// newFrames makes n chunks of those at first.
func newFrames(mem []byte, first uint64, n int) frames {
	return frames{mem: mem, first: first, lent: make([]bool, n)}
}

// address returns the address of chunk i.
func (f *frames) address(i uint32) uint64 { return f.first + uint64(i)*frameSize }

// chunk returns the bytes of chunk i.
func (f *frames) chunk(i uint32) []byte {
	at := f.address(i)
	return f.mem[at : at+frameSize : at+frameSize]
}

// lend marks chunk i as the kernel's and returns its address.
func (f *frames) lend(i uint32) uint64 {
	f.lent[i] = true
	return f.address(i)
}

// takeBack finds the chunk that the kernel returned with an address within it
// and marks it as ours. It reports false for an address that is none of these
// chunks', or of one that was not lent.
func (f *frames) takeBack(addr uint64) (i uint32, ok bool) {
	n := (addr - f.first) / frameSize
	if addr < f.first || n >= uint64(len(f.lent)) || !f.lent[n] {
		return 0, false
	}
	f.lent[n] = false
	return uint32(n), true
}

// content returns the bytes that a received descriptor describes, which have to
// lie within one chunk.
func (f *frames) content(d unix.XDPDesc) ([]byte, bool) {
	within := (d.Addr - f.first) % frameSize
	if uint64(d.Len) > frameSize-within {
		return nil, false
	}
	return f.mem[d.Addr : d.Addr+uint64(d.Len)], true
}
