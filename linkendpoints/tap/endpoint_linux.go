package tap

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/endpoint"
	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// defaultMTU is that of Ethernet (RFC 894), for a device that cannot be asked.
const defaultMTU = 1500

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// base is what the endpoint does as those on other devices do.
type base = endpoint.Ethernet

// Endpoint is a stack.LinkEndpoint on a TAP or TUN device. All its methods may
// be called concurrently. SetMTU limits what the stack sends, not the kernel.
// LinkAddress is the stack's address, not that of the kernel's end, and empty on
// TUN.
//
// Attach(nil) and Close do not wait for a delivery that is under way; Wait does.
// Close lets go of the device as soon as the last delivery returned. Err says
// why an endpoint closed itself.
type Endpoint struct {
	base
	life lifecycle.Lifecycle

	name        string
	mode        Mode
	vnetHdr     bool // frames carry a virtio-net header
	offload     bool // segmentation and checksums may be left to either side
	promiscuous bool

	rx []*rxQueue
	tx []*txQueue
}

// New opens a device and returns an endpoint that is not attached yet. The
// error says in one line what is missing, be it a privilege or the device.
func New(opts Options) (*Endpoint, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	adopted := len(opts.FDs) != 0
	var d *device
	var err error
	if adopted {
		d, err = adoptDevice(opts.FDs)
	} else {
		d, err = openDevice(&opts)
	}
	if err != nil {
		return nil, err
	}
	if err := d.configure(!opts.NoOffload); err != nil {
		if !adopted {
			d.close()
		}
		return nil, err
	}
	return newEndpoint(d, opts), nil
}

// newEndpoint makes an endpoint that owns d.
func newEndpoint(d *device, opts Options) *Endpoint {
	e := &Endpoint{
		name:        d.name,
		mode:        d.mode,
		vnetHdr:     d.vnetHdr,
		offload:     d.vnetHdr && !opts.NoOffload,
		promiscuous: opts.Promiscuous,
	}
	life := lifecycle.Config{Name: "tap: " + d.name, Release: e.release, OnFailure: opts.OnFailure}
	for _, fd := range d.fds {
		q := newRxQueue(e, fd)
		e.rx = append(e.rx, q)
		e.tx = append(e.tx, newTxQueue(e, fd))
		life.Receivers = append(life.Receivers, q.run)
		life.Waiters = append(life.Waiters, q.waiter)
	}
	e.life.Init(life)
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.mtu
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	var addr tcpip.LinkAddress
	if d.mode == TAP {
		addr = opts.LinkAddress
		if addr == "" {
			addr = oppositeAddress(d.addr)
		}
	}
	endpoint.Init(&e.base, &e.life, frame.MaxIPSize, mtu, addr)
	return e
}

// oppositeAddress derives the address of our end from that of the kernel's.
func oppositeAddress(kernel tcpip.LinkAddress) tcpip.LinkAddress {
	b := []byte(kernel)
	b[len(b)-1] ^= 1
	return tcpip.LinkAddress(b)
}

// Name returns the name of the device.
func (e *Endpoint) Name() string { return e.name }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 { return uint16(e.linkHeaderSize()) }

// linkHeaderSize returns the size of the link header in bytes.
func (e *Endpoint) linkHeaderSize() int {
	if e.mode == TUN {
		return 0
	}
	return header.EthernetMinimumSize
}

// Capabilities implements stack.LinkEndpoint.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	caps := stack.CapabilityNone
	if e.mode == TAP {
		caps |= stack.CapabilityResolutionRequired
	}
	if e.offload {
		caps |= stack.CapabilityRXChecksumOffload
	}
	return caps
}

// SupportedGSO implements stack.GSOEndpoint.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.offload {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// ARPHardwareType implements stack.LinkEndpoint.
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType {
	if e.mode == TUN {
		return header.ARPHardwareNone
	}
	return e.base.ARPHardwareType()
}

// AddHeader implements stack.LinkEndpoint.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	if e.mode == TAP {
		e.base.AddHeader(pkt)
	}
}

// ParseHeader implements stack.LinkEndpoint.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	return e.mode == TUN || e.base.ParseHeader(pkt)
}

// release lets go of buffers and descriptors.
func (e *Endpoint) release() {
	for _, q := range e.rx {
		q.release()
	}
	for _, q := range e.tx {
		q.close()
	}
}
