package tap

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// defaultMTU is that of Ethernet (RFC 894), for a device that cannot be asked.
const defaultMTU = 1500

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// Endpoint is a stack.LinkEndpoint on a TAP or TUN device. All its methods may
// be called concurrently.
type Endpoint struct {
	name        string
	mode        Mode
	vnetHdr     bool // frames carry a virtio-net header
	offload     bool // segmentation and checksums may be left to either side
	promiscuous bool

	rx []*rxQueue
	tx []*txQueue

	addr atomic.Pointer[tcpip.LinkAddress]
	mtu  atomic.Uint32
	life lifecycle.Lifecycle
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
		e.rx = append(e.rx, newRxQueue(e, fd))
		e.tx = append(e.tx, newTxQueue(e, fd))
		life.Receivers = append(life.Receivers, e.rx[len(e.rx)-1].run)
	}
	e.life.Init(life)
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.mtu
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	e.SetMTU(mtu)
	var addr tcpip.LinkAddress
	if d.mode == TAP {
		addr = opts.LinkAddress
		if addr == "" {
			addr = oppositeAddress(d.addr)
		}
	}
	e.SetLinkAddress(addr)
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

// MTU implements stack.LinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint. It limits what the stack sends and is
// capped at 65535; the MTU of the device limits what the kernel sends and is
// not changed.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, frame.MaxIPSize)) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 { return uint16(e.linkHeaderSize()) }

// linkHeaderSize returns the size of the link header in bytes.
func (e *Endpoint) linkHeaderSize() int {
	if e.mode == TUN {
		return 0
	}
	return header.EthernetMinimumSize
}

// LinkAddress implements stack.LinkEndpoint. It is the stack's address, not
// that of the kernel's end, and empty on TUN.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return *e.addr.Load() }

// SetLinkAddress implements stack.LinkEndpoint.
func (e *Endpoint) SetLinkAddress(addr tcpip.LinkAddress) { e.addr.Store(&addr) }

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

// GSOMaxSize implements stack.GSOEndpoint.
func (e *Endpoint) GSOMaxSize() uint32 { return frame.MaxIPSize }

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
	return header.ARPHardwareEther
}

// AddHeader implements stack.LinkEndpoint.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	if e.mode == TUN {
		return
	}
	eth := header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize))
	eth.Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	if e.mode == TUN {
		return true
	}
	eth, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(eth).Type()
	}
	return ok
}

// Attach implements stack.LinkEndpoint. With a dispatcher it starts to receive;
// while one is attached, or after Close, another changes nothing. With nil it
// stops: one delivery a queue may still be under way, since the stack holds
// locks here that the delivery may need. Wait waits for it. Frames that arrive
// later are for the next dispatcher.
func (e *Endpoint) Attach(dispatcher stack.NetworkDispatcher) { e.life.Attach(dispatcher) }

// IsAttached implements stack.LinkEndpoint.
func (e *Endpoint) IsAttached() bool { return e.life.IsAttached() }

// Wait implements stack.LinkEndpoint: it returns when the receivers that
// Attach(nil) or Close stopped have returned, and with them the last delivery.
// While the endpoint is attached it blocks, so a stack that is to be destroyed
// has to remove its NIC first. It must not be called from a delivery.
func (e *Endpoint) Wait() { e.life.Wait() }

// Close implements stack.LinkEndpoint. It runs the on-close action, stops
// receiving, and lets go of the device as soon as the last delivery returned,
// which Wait waits for. Calls after the first do nothing.
func (e *Endpoint) Close() { e.life.Close() }

// SetOnCloseAction implements stack.LinkEndpoint: action runs once, when the
// endpoint is closed or closes itself, before it lets go of the device.
func (e *Endpoint) SetOnCloseAction(action func()) { e.life.SetOnCloseAction(action) }

// Err returns the error that made the endpoint close itself, or nil.
func (e *Endpoint) Err() error { return e.life.Err() }

// release lets go of buffers and descriptors.
func (e *Endpoint) release() {
	for _, q := range e.rx {
		q.release()
	}
	for _, q := range e.tx {
		q.close()
	}
}
