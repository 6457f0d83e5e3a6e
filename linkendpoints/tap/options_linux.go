package tap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
)

// Mode says what the frames of a device are.
type Mode int

const (
	// TAP devices carry Ethernet frames.
	TAP Mode = iota
	// TUN devices carry IP packets.
	TUN
)

// String returns "tap" or "tun".
func (m Mode) String() string {
	if m == TUN {
		return "tun"
	}
	return "tap"
}

// maxQueues is the kernel's limit for one device (MAX_TAP_QUEUES).
const maxQueues = 256

// Options describe an endpoint. Either Name or FDs is required.
type Options struct {
	// Name is the device to open in the network namespace of the calling
	// thread. It is created if it does not exist, which takes CAP_NET_ADMIN,
	// and then vanishes with the endpoint. A name with "%d" in it lets the
	// kernel choose a number; Endpoint.Name tells.
	Name string

	// FDs are open descriptors of /dev/net/tun, one for each queue of the same
	// device, instead of Name. TUNSETIFF has been done, with IFF_NO_PI; the
	// endpoint finds out the mode and whether there is a virtio-net header. New makes them
	// non-blocking; if it succeeds they belong to the endpoint, which closes
	// them.
	FDs []int

	// Mode is TAP or TUN. Ignored with FDs.
	Mode Mode

	// Queues is the number of queues to open with Name, 1 if zero. Each has a
	// goroutine that receives. A flow stays on one queue in each direction.
	Queues int

	// MTU in bytes, without link header. Zero means that of the device, or
	// 1500 if the device is in another network namespace.
	MTU uint32

	// LinkAddress is the Ethernet address of the stack's end. If empty, it is
	// derived from the address of the device, which is that of the kernel's end
	// and must differ: the last bit is flipped. Not used by TUN.
	LinkAddress tcpip.LinkAddress

	// NoOffload turns segmentation and checksum offloads off, in both
	// directions: every frame is at most an MTU and carries its checksums, and
	// the stack verifies them. Needed by stacks that forward.
	NoOffload bool

	// Promiscuous delivers unicast frames for other Ethernet addresses too, as
	// tcpip.PacketOtherHost. They are counted and dropped otherwise.
	Promiscuous bool

	// OnFailure, if set, is called at most once, with the error that ended the
	// endpoint, after it closed itself: the device was deleted or its
	// descriptor became unusable. It runs on a goroutine of the endpoint and must
	// not call Wait.
	OnFailure func(error)
}

// check says what is wrong with o before anything is opened.
func (o *Options) check() error {
	switch {
	case o.Name == "" && len(o.FDs) == 0:
		return errors.New("tap: neither a device name nor descriptors given")
	case o.Name != "" && len(o.FDs) != 0:
		return errors.New("tap: both a device name and descriptors given")
	case len(o.Name) >= unix.IFNAMSIZ:
		return fmt.Errorf("tap: device name %q is longer than %d bytes", o.Name, unix.IFNAMSIZ-1)
	case o.Mode != TAP && o.Mode != TUN:
		return fmt.Errorf("tap: unknown mode %d", o.Mode)
	case o.Queues < 0 || o.Queues > maxQueues:
		return fmt.Errorf("tap: %d queues, the limit is %d", o.Queues, maxQueues)
	case len(o.FDs) > maxQueues:
		return fmt.Errorf("tap: %d descriptors, the limit is %d", len(o.FDs), maxQueues)
	case o.MTU > frame.MaxIPSize:
		return fmt.Errorf("tap: MTU %d, the limit is %d", o.MTU, frame.MaxIPSize)
	case o.LinkAddress != "" && len(o.LinkAddress) != header.EthernetAddressSize:
		return fmt.Errorf("tap: link address of %d bytes, want %d", len(o.LinkAddress), header.EthernetAddressSize)
	case o.LinkAddress != "" && o.LinkAddress[0]&1 != 0:
		return fmt.Errorf("tap: link address %s is a group address", o.LinkAddress)
	}
	return nil
}
