package afpacket

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// vlanTagSize is the size of an 802.1Q tag in bytes.
const vlanTagSize = 4

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// Endpoint is a stack.LinkEndpoint on packet sockets. All its methods may be
// called concurrently.
type Endpoint struct {
	name         string
	ifindex      int
	deviceAddr   tcpip.LinkAddress
	vlan         uint16
	offload      bool // segmentation and checksums may be left to either side
	promiscuous  bool
	backpressure Backpressure

	rx []*rxQueue
	tx []*txQueue

	addr atomic.Pointer[tcpip.LinkAddress]
	mtu  atomic.Uint32
	life lifecycle.Lifecycle
}

// New opens a device and returns an endpoint that is not attached yet. The
// error says in one line what is missing; if it is a privilege, it is a
// *CapabilityError.
func New(opts Options) (*Endpoint, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	open := openDevice
	if len(opts.FDs) != 0 {
		open = adoptDevice
	}
	d, err := open(&opts)
	if err != nil {
		return nil, err
	}
	return newEndpoint(d, opts), nil
}

// newEndpoint makes an endpoint that owns d.
func newEndpoint(d *device, opts Options) *Endpoint {
	e := &Endpoint{
		name:         d.name,
		ifindex:      d.ifindex,
		deviceAddr:   d.addr,
		vlan:         opts.VLAN,
		offload:      !opts.NoOffload,
		promiscuous:  opts.Promiscuous,
		backpressure: opts.Backpressure,
	}
	life := lifecycle.Config{Name: "afpacket: " + d.name, Release: e.release, OnFailure: opts.OnFailure}
	for i, fd := range d.fds {
		e.rx = append(e.rx, newRxQueue(e, fd, d.rings[i]))
		e.tx = append(e.tx, newTxQueue(e, fd))
		life.Receivers = append(life.Receivers, e.rx[len(e.rx)-1].run)
	}
	e.life.Init(life)
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.mtu
	}
	e.SetMTU(mtu)
	addr := opts.LinkAddress
	if addr == "" {
		addr = d.addr
	}
	e.addr.Store(&addr)
	return e
}

// Name returns the name that the device had when the endpoint was made.
func (e *Endpoint) Name() string { return e.name }

// MTU implements stack.LinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint. It limits what the stack sends and is
// capped at 65535; the device has an MTU of its own, which limits what it takes
// and is not changed.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, frame.MaxIPSize)) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 {
	if e.vlan != 0 {
		return header.EthernetMinimumSize + vlanTagSize
	}
	return header.EthernetMinimumSize
}

// LinkAddress implements stack.LinkEndpoint.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return *e.addr.Load() }

// SetLinkAddress implements stack.LinkEndpoint. The device is asked to receive
// for addr as well; if it cannot, frames for it may not arrive.
func (e *Endpoint) SetLinkAddress(addr tcpip.LinkAddress) {
	e.addr.Store(&addr)
	if len(addr) != header.EthernetAddressSize || addr == e.deviceAddr || e.promiscuous {
		return
	}
	e.life.Use(func() { _ = addUnicast(e.rx[0].fd, e.ifindex, addr) })
}

// Capabilities implements stack.LinkEndpoint.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	caps := stack.LinkEndpointCapabilities(stack.CapabilityResolutionRequired)
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
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint. With Options.VLAN it adds a tag.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	fields := header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	}
	if e.vlan == 0 {
		header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&fields)
		return
	}
	b := pkt.LinkHeader().Push(header.EthernetMinimumSize + vlanTagSize)
	fields.Type = unix.ETH_P_8021Q
	header.Ethernet(b).Encode(&fields)
	binary.BigEndian.PutUint16(b[header.EthernetMinimumSize:], e.vlan)
	binary.BigEndian.PutUint16(b[header.EthernetMinimumSize+2:], uint16(pkt.NetworkProtocolNumber))
}

// ParseHeader implements stack.LinkEndpoint. The tag of a frame is part of its
// link header; its identifier is not looked at.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	size := header.EthernetMinimumSize
	b, ok := pkt.Data().PullUp(size)
	if !ok {
		return false
	}
	proto := header.Ethernet(b).Type()
	if e.vlan != 0 && proto == unix.ETH_P_8021Q {
		size += vlanTagSize
		if b, ok = pkt.Data().PullUp(size); !ok {
			return false
		}
		proto = tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(b[size-2:]))
	}
	if _, ok = pkt.LinkHeader().Consume(size); ok {
		pkt.NetworkProtocolNumber = proto
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
		q.close()
	}
	for _, q := range e.tx {
		q.close()
	}
}
