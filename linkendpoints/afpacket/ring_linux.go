package afpacket

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// The geometry of a ring. A slot takes a frame of MTU 1500 with the kernel's
// headers; what does not fit is kept whole in the socket's receive queue
// (PACKET_COPY_THRESH). Blocks are the pieces in which the kernel allocates.
const (
	slotSize  = 2048
	blockSize = 64 << 10
)

// The layout of a slot (linux/if_packet.h): struct tpacket2_hdr, then struct
// sockaddr_ll, then the frame wherever the header says, preceded by its
// virtio-net header.
const (
	slotStatus   = 0
	slotLen      = 4
	slotSnapLen  = 8
	slotMAC      = 12
	slotTCI      = 24
	slotTPID     = 26
	slotSockaddr = 32
	slotPktType  = slotSockaddr + 10
	slotHeader   = slotSockaddr + 20
)

// slot is what the kernel says of a received frame. It holds no reference to
// what it describes but frame, which lies in the ring.
type slot struct {
	status  uint32
	length  int // of the frame as it was received
	tag     vlanTag
	pktType uint8 // unix.PACKET_HOST and so on, the kernel's view
	header  vnet.Header
	frame   []byte // shorter than length if it did not fit
}

// vlanTag is the outermost tag of a frame (IEEE 802.1Q, §9.6), which the
// kernel takes out of it.
type vlanTag struct {
	present bool
	tpid    uint16
	tci     uint16
}

// id returns the VLAN identifier.
func (t vlanTag) id() uint16 { return t.tci & 0xfff }

// parseSlot decodes a slot. It reports false if the slot contradicts itself,
// which a kernel never does.
func parseSlot(b []byte) (slot, bool) {
	if len(b) < slotHeader {
		return slot{}, false
	}
	u16, u32 := binary.NativeEndian.Uint16, binary.NativeEndian.Uint32
	s := slot{
		status:  u32(b[slotStatus:]),
		length:  int(u32(b[slotLen:])),
		pktType: b[slotPktType],
	}
	snap, mac := int(u32(b[slotSnapLen:])), int(u16(b[slotMAC:]))
	if mac < slotHeader+vnet.HeaderSize || mac > len(b) || snap > len(b)-mac || snap > s.length {
		return slot{}, false
	}
	s.header = vnet.Parse(b[mac-vnet.HeaderSize:])
	s.frame = b[mac : mac+snap : mac+snap]
	if s.status&unix.TP_STATUS_VLAN_VALID != 0 {
		s.tag = vlanTag{present: true, tpid: unix.ETH_P_8021Q, tci: u16(b[slotTCI:])}
		if s.status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			s.tag.tpid = u16(b[slotTPID:])
		}
	}
	return s, true
}

// ring is a receive ring that is shared with the kernel.
type ring struct {
	mem  []byte
	next int // the slot that the kernel fills next
}

// newRing gives a socket a ring of size bytes, a multiple of blockSize.
func newRing(fd, size int) (ring, error) {
	req := unix.TpacketReq{
		Block_size: blockSize,
		Block_nr:   uint32(size / blockSize),
		Frame_size: slotSize,
		Frame_nr:   uint32(size / slotSize),
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return ring{}, fmt.Errorf("a ring of %d bytes: %w", size, os.NewSyscallError("PACKET_RX_RING", err))
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return ring{}, fmt.Errorf("a ring of %d bytes: %w", size, os.NewSyscallError("mmap", err))
	}
	return ring{mem: mem}, nil
}

// rebuild replaces the ring by an empty one. What is in it and in the socket's
// receive queue is lost.
func (r *ring) rebuild(fd int) error {
	size := len(r.mem)
	r.unmap()
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{}); err != nil {
		return os.NewSyscallError("PACKET_RX_RING", err)
	}
	again, err := newRing(fd, size)
	if err != nil {
		return err
	}
	*r = again
	return nil
}

// unmap lets go of the memory. It may be called again.
func (r *ring) unmap() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
}

// status returns the word by which a slot changes hands.
func (r *ring) status() *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[r.next*slotSize+slotStatus]))
}

// ready says whether the kernel has filled the next slot.
func (r *ring) ready() bool {
	return len(r.mem) != 0 && atomic.LoadUint32(r.status())&unix.TP_STATUS_USER != 0
}

// current returns the next slot, which is ready.
func (r *ring) current() []byte {
	at := r.next * slotSize
	return r.mem[at : at+slotSize : at+slotSize]
}

// advance gives the slot back to the kernel and goes on to the one after.
func (r *ring) advance() {
	atomic.StoreUint32(r.status(), unix.TP_STATUS_KERNEL)
	r.next++
	if r.next*slotSize >= len(r.mem) {
		r.next = 0
	}
}

// discard empties the ring and the receive queue of its socket.
func (r *ring) discard(fd int) {
	for range len(r.mem) / slotSize {
		if !r.ready() {
			break
		}
		r.advance()
	}
	discardQueue(fd)
}

// discardQueue empties the receive queue of a socket.
func discardQueue(fd int) {
	// More than the queue holds means that it fills as fast as it is emptied.
	const most = 1 << 14
	var b [1]byte
	for range most {
		if _, err := unix.Read(fd, b[:]); err != nil {
			return
		}
	}
}
