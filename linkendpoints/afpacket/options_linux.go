package afpacket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/backpressure"
	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
)

// Backpressure says what becomes of a packet for which the kernel has no room:
// the socket's send buffer or the device's queue is full.
type Backpressure = backpressure.Policy

// The policies.
const (
	// Refuse makes WritePackets return *tcpip.ErrNoBufferSpace at once. The
	// packet was not sent, so a transport should neither count it as in flight
	// nor as lost.
	Refuse = backpressure.Refuse
	// Block makes WritePackets wait until there is room, the device goes down
	// or the endpoint is closed. The waiting goroutine may be one that
	// delivers, which then receives nothing meanwhile.
	Block = backpressure.Block
	// Drop drops the packet, counts it and reports success, as a wire does.
	Drop = backpressure.Drop
)

const (
	// maxQueues is the number of sockets of one endpoint. The kernel allows
	// more in a fanout group, but nobody has so many processors to spare.
	maxQueues = 256
	// maxVLAN is the largest VLAN identifier (IEEE 802.1Q, §9.6); 4095 is
	// reserved.
	maxVLAN = 4094

	defaultRingSize = 8 << 20
	// minRingSize holds 128 frames, more than a sender hands over at once.
	minRingSize = 4 * blockSize
	maxRingSize = 1 << 30
)

// Options describe an endpoint. Either Name or FDs is required.
type Options struct {
	// Name is an Ethernet device (or lo) in the network namespace of the
	// calling thread. Opening it takes CAP_NET_RAW in the user namespace that
	// owns the network namespace.
	Name string

	// FDs are packet sockets of type SOCK_RAW, one for each queue, instead of
	// Name. Each is bound to the same device and has no ring; whoever opened them
	// need not have done more. New sets them up, which takes no privilege; if
	// it succeeds they belong to the endpoint, which closes them.
	FDs []int

	// Queues is the number of sockets to open with Name, 1 if zero, 256 at most.
	// Each has a goroutine that receives and a ring. A flow stays on one queue in
	// each direction. More than one requires that the device is up.
	Queues int

	// MTU in bytes, without link header, 65535 at most. Zero means that of the
	// device.
	MTU uint32

	// LinkAddress is the Ethernet address of the netstack. Zero means that of
	// the device; with another, the device is asked to receive for both.
	LinkAddress tcpip.LinkAddress

	// VLAN, from 1 to 4094, makes the endpoint a member of that VLAN (IEEE
	// 802.1Q): it sends tagged frames and receives those tagged with VLAN.
	// Zero means untagged frames, with or without a priority tag. Frames of
	// other VLANs are counted and dropped.
	VLAN uint16

	// Backpressure is what happens to packets for which there is no room.
	Backpressure Backpressure

	// QdiscBypass hands packets to the driver without the device's queueing
	// discipline (PACKET_QDISC_BYPASS): faster, but neither shaped nor
	// buffered.
	QdiscBypass bool

	// NoOffload turns segmentation and checksum offloads off, in both
	// directions: every frame delivered is at most an MTU and carries its
	// checksums, and the stack verifies them. Needed by stacks that forward.
	NoOffload bool

	// Promiscuous puts the device into promiscuous mode and delivers unicast
	// frames for other Ethernet addresses too, as tcpip.PacketOtherHost. They
	// are counted and dropped otherwise.
	Promiscuous bool

	// RingSize is the size in bytes of each queue's receive ring, rounded up to
	// a multiple of 64 KiB, 256 KiB at least and 1 GiB at most. Zero means 8 MiB,
	// which hold 4096 frames. Frames of more than about 1900 bytes are held
	// elsewhere, up to the same number of bytes as far as net.core.rmem_max or
	// CAP_NET_ADMIN allow.
	RingSize int

	// OnFailure, if set, is called at most once, with the error that ended the
	// endpoint, after it closed itself: the device was deleted or its socket
	// became unusable. It runs on a goroutine of the endpoint and must not call
	// Wait.
	OnFailure func(error)
}

// check says what is wrong with o before anything is opened.
func (o *Options) check() error {
	switch {
	case o.Name == "" && len(o.FDs) == 0:
		return errors.New("afpacket: neither a device name nor descriptors given")
	case o.Name != "" && len(o.FDs) != 0:
		return errors.New("afpacket: both a device name and descriptors given")
	case len(o.Name) >= unix.IFNAMSIZ:
		return fmt.Errorf("afpacket: device name %q is longer than %d bytes", o.Name, unix.IFNAMSIZ-1)
	case o.Queues < 0 || o.Queues > maxQueues:
		return fmt.Errorf("afpacket: %d queues, the limit is %d", o.Queues, maxQueues)
	case len(o.FDs) > maxQueues:
		return fmt.Errorf("afpacket: %d descriptors, the limit is %d", len(o.FDs), maxQueues)
	case o.MTU > frame.MaxIPSize:
		return fmt.Errorf("afpacket: MTU %d, the limit is %d", o.MTU, frame.MaxIPSize)
	case o.VLAN > maxVLAN:
		return fmt.Errorf("afpacket: VLAN %d, the limit is %d", o.VLAN, maxVLAN)
	case !o.Backpressure.Valid():
		return fmt.Errorf("afpacket: unknown backpressure policy %d", o.Backpressure)
	case o.RingSize < 0 || o.RingSize > maxRingSize:
		return fmt.Errorf("afpacket: ring of %d bytes, the limit is %d", o.RingSize, maxRingSize)
	case o.LinkAddress != "" && len(o.LinkAddress) != header.EthernetAddressSize:
		return fmt.Errorf("afpacket: link address of %d bytes, want %d", len(o.LinkAddress), header.EthernetAddressSize)
	case o.LinkAddress != "" && o.LinkAddress[0]&1 != 0:
		return fmt.Errorf("afpacket: link address %s is a group address", o.LinkAddress)
	}
	return nil
}

// ringSize returns the size of each ring in bytes, a multiple of blockSize.
func (o *Options) ringSize() int {
	size := o.RingSize
	if size == 0 {
		size = defaultRingSize
	}
	size = max(size, minRingSize)
	return (size + blockSize - 1) / blockSize * blockSize
}

// CapabilityError says that the calling thread lacks a capability
// (capabilities(7)). Its cause is unix.EPERM.
type CapabilityError struct {
	Capability string // as in the manual: "CAP_NET_RAW"
	Op         string // what it is needed for
	Err        error
}

// Error implements error.
func (e *CapabilityError) Error() string {
	return fmt.Sprintf("afpacket: %s: %v (needs %s, or sockets that were opened elsewhere)", e.Op, e.Err, e.Capability)
}

// Unwrap returns the error of the kernel.
func (e *CapabilityError) Unwrap() error { return e.Err }
