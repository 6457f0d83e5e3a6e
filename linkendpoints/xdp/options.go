package xdp

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/backpressure"
)

// Mode says how frames get from the device into the memory of the endpoint.
type Mode int

const (
	// Auto takes the first of ZeroCopy, Copy and Generic that the device
	// supports.
	Auto Mode = iota
	// ZeroCopy lets the device itself write into the endpoint's memory. It needs
	// a driver that can do it.
	ZeroCopy
	// Copy runs the program in the driver ("native XDP"), which copies each frame
	// once.
	Copy
	// Generic runs the program in the kernel's common receive path ("SKB
	// mode"), after the driver made a socket buffer of the frame. Every device
	// can do it.
	Generic
)

// String returns "auto", "zero-copy", "copy" or "generic".
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case ZeroCopy:
		return "zero-copy"
	case Copy:
		return "copy"
	case Generic:
		return "generic"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Backpressure says what becomes of a packet for which there is no room:
// all transmit frames of its queue are with the kernel.
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
	// frameSize is the size in bytes of the chunks that memory shared with the
	// kernel consists of. A page is the most that the kernel takes.
	frameSize = 4096
	// headroom is what the kernel leaves free at the start of a chunk that it
	// fills (XDP_PACKET_HEADROOM).
	headroom = 256

	minFrames     = 64
	maxFrames     = 1 << 16
	defaultFrames = 2048

	// maxQueues is how many queues an endpoint may have. No driver has more.
	maxQueues = 256
	// maxMTU is the size of the largest IP packet that is not a jumbogram.
	maxMTU = 65535
	// maxSingleMTU is the largest MTU whose frames, with a VLAN tag, fit one
	// chunk.
	maxSingleMTU = frameSize - headroom - header.EthernetMinimumSize - vlanTagSize
	// vlanTagSize is the size of an IEEE 802.1Q tag.
	vlanTagSize = 4

	// maxFilterEntries bounds each list of a Filter, and with them the length of
	// the program.
	maxFilterEntries = 64
)

// Options describe an endpoint. Either Name, or FDs and Device, is required.
type Options struct {
	// Name is an Ethernet device in the network namespace of the calling
	// thread. Opening it takes CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
	Name string

	// FDs are descriptors that Prepare made, in the same order, and Device is
	// what it said about them. They replace Name and take no privilege. If New
	// succeeds they belong to the endpoint, which closes them.
	FDs    []int
	Device *Device

	// Queues are the receive queues of the device whose traffic the endpoint
	// takes, counted from 0; all of them if empty. Each has a socket and a
	// goroutine. The other queues stay with the kernel. Ignored with FDs.
	Queues []int

	// Mode is how frames are exchanged. With FDs, it may only be one that
	// Prepare has not ruled out.
	Mode Mode

	// MTU in bytes, without link header. Zero means that of the device, which
	// is also the most.
	MTU uint32

	// LinkAddress is the Ethernet address of the netstack. If empty, it is that
	// of the device; with another, the device is asked to receive for both.
	LinkAddress tcpip.LinkAddress

	// Frames is the number of frames of 4 KiB that each queue has in either
	// direction, a power of two from 64 to 65536. Zero means 2048, or as many
	// fewer as the limit on locked memory asks for (RLIMIT_MEMLOCK, unless the
	// caller has CAP_IPC_LOCK): 2048 frames for one queue are 16 MiB.
	Frames int

	// NoOffload makes the stack cut what it sends into segments and compute
	// checksums, and delivers each frame by itself. Otherwise the endpoint cuts
	// segments and puts received ones together, which is faster. Needed by
	// stacks that forward.
	NoOffload bool

	// Backpressure is what happens to packets for which there is no room.
	Backpressure Backpressure

	// BusyPoll makes a receiving goroutine poll the device for so long before it
	// sleeps (SO_PREFER_BUSY_POLL): lower latency for a processor that is always
	// busy. Zero, the default, means not to; a second is the most.
	BusyPoll time.Duration

	// Filter says what is left to the kernel. Ignored with FDs.
	Filter Filter

	// Promiscuous puts the device into promiscuous mode and delivers unicast
	// frames for other Ethernet addresses too, as tcpip.PacketOtherHost. They
	// are counted and dropped otherwise. With FDs, Prepare has set the mode.
	Promiscuous bool

	// OnFailure, if set, is called at most once, with the error that ended the
	// endpoint, after it closed itself: the device was deleted or moved to
	// another network namespace. It runs on a goroutine of the endpoint and must
	// not call Wait.
	OnFailure func(error)
}

// A Filter says which received frames the kernel keeps. The zero Filter leaves it
// nothing. What the netstack does not get, it cannot answer: a kernel and a
// netstack that share an address need to agree on more than this.
type Filter struct {
	// OtherHosts leaves to the kernel unicast frames that are not for the
	// endpoint's link address, as it is when the device is opened.
	OtherHosts bool
	// EtherTypes leaves to the kernel frames of these protocols, such as ARP
	// (0x0806) or those with a VLAN tag that the device did not remove (0x8100).
	// At most 64.
	EtherTypes []tcpip.NetworkProtocolNumber
	// TCPPorts and UDPPorts leave to the kernel what is sent to these ports over
	// IPv4 or IPv6, such as 22 for SSH. At most 64 each. IPv4 fragments and IPv6
	// packets with extension headers do not count: they go to the netstack.
	TCPPorts, UDPPorts []uint16
}

// looksAtPorts says whether f looks at transport headers.
func (f *Filter) looksAtPorts() bool { return len(f.TCPPorts)+len(f.UDPPorts) != 0 }

// A Device is what an endpoint has to know of a device and cannot ask its
// descriptors. It can be encoded, as with encoding/json, to be passed to
// another process along with them.
type Device struct {
	Name  string
	Index int
	// MTU of the device in bytes.
	MTU uint32
	// LinkAddress has six bytes.
	LinkAddress []byte
	// Queues has the receive queue of each socket.
	Queues []int
	// Generic says that the program runs in Generic mode, so that the sockets
	// can only have this one.
	Generic bool
	// Fragments says that the program lets frames pass that take more than one
	// buffer.
	Fragments bool
	// PartialChecksums says that frames may come without their TCP or UDP
	// checksum, because they never left this machine's memory.
	PartialChecksums bool
}

// check says what is wrong with o before anything is opened.
func (o *Options) check() error {
	switch {
	case o.Name == "" && len(o.FDs) == 0:
		return errors.New("xdp: neither a device name nor descriptors given")
	case o.Name != "" && len(o.FDs) != 0:
		return errors.New("xdp: both a device name and descriptors given")
	case len(o.FDs) != 0 && o.Device == nil:
		return errors.New("xdp: descriptors without their Device given")
	case len(o.Name) > maxNameSize:
		return fmt.Errorf("xdp: device name %q is longer than %d bytes", o.Name, maxNameSize)
	case len(o.Queues) > maxQueues:
		return fmt.Errorf("xdp: %d queues, the limit is %d", len(o.Queues), maxQueues)
	case o.Mode < Auto || o.Mode > Generic:
		return fmt.Errorf("xdp: unknown mode %d", o.Mode)
	case o.MTU > maxMTU:
		return fmt.Errorf("xdp: MTU %d, the limit is %d", o.MTU, maxMTU)
	case o.Frames != 0 && (o.Frames < minFrames || o.Frames > maxFrames || bits.OnesCount(uint(o.Frames)) != 1):
		return fmt.Errorf("xdp: %d frames, want a power of two from %d to %d", o.Frames, minFrames, maxFrames)
	case !o.Backpressure.Valid():
		return fmt.Errorf("xdp: unknown backpressure policy %d", o.Backpressure)
	case o.BusyPoll < 0 || o.BusyPoll > time.Second:
		return fmt.Errorf("xdp: busy polling for %v, want at most %v", o.BusyPoll, time.Second)
	case o.LinkAddress != "" && len(o.LinkAddress) != header.EthernetAddressSize:
		return fmt.Errorf("xdp: link address of %d bytes, want %d", len(o.LinkAddress), header.EthernetAddressSize)
	case o.LinkAddress != "" && o.LinkAddress[0]&1 != 0:
		return fmt.Errorf("xdp: link address %s is a group address", o.LinkAddress)
	case max(len(o.Filter.EtherTypes), len(o.Filter.TCPPorts), len(o.Filter.UDPPorts)) > maxFilterEntries:
		return fmt.Errorf("xdp: a list of the filter has more than %d entries", maxFilterEntries)
	}
	for i, q := range o.Queues {
		if q < 0 || slices.Contains(o.Queues[:i], q) {
			return fmt.Errorf("xdp: queue %d given twice or negative", q)
		}
	}
	if o.Device != nil && len(o.FDs) != 0 {
		return o.Device.check()
	}
	return nil
}

// maxNameSize is how long the name of a device can be (IFNAMSIZ, less the
// terminating zero).
const maxNameSize = 15

// check says what is wrong with d, which may come from another process.
func (d *Device) check() error {
	switch {
	case d.Index <= 0:
		return fmt.Errorf("xdp: device index %d", d.Index)
	case d.MTU == 0 || d.MTU > maxMTU:
		return fmt.Errorf("xdp: device MTU %d, want 1 to %d", d.MTU, maxMTU)
	case len(d.LinkAddress) != header.EthernetAddressSize:
		return fmt.Errorf("xdp: device address of %d bytes, want %d", len(d.LinkAddress), header.EthernetAddressSize)
	case len(d.Queues) == 0 || len(d.Queues) > maxQueues:
		return fmt.Errorf("xdp: device with %d queues, want 1 to %d", len(d.Queues), maxQueues)
	}
	return nil
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
	return fmt.Sprintf("xdp: %s: %v (needs %s, or descriptors that Prepare made elsewhere)", e.Op, e.Err, e.Capability)
}

// Unwrap returns the error of the kernel.
func (e *CapabilityError) Unwrap() error { return e.Err }
