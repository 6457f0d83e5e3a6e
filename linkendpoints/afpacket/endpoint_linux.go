package afpacket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/endpoint"
	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// vlanTagSize is the size of an 802.1Q tag in bytes.
const vlanTagSize = 4

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// base is what the endpoint does as those on other devices do.
type base = endpoint.Ethernet

// Endpoint is a stack.LinkEndpoint on packet sockets. All its methods may be
// called concurrently. SetMTU limits what the stack sends; the device has an MTU
// of its own, which limits what it takes and is not changed.
//
// Attach(nil) and Close do not wait for a delivery that is under way; Wait does.
// Close lets go of the device as soon as the last delivery returned. Err says
// why an endpoint closed itself.
type Endpoint struct {
	base
	life lifecycle.Lifecycle

	name         string
	ifindex      int
	deviceAddr   tcpip.LinkAddress
	vlan         uint16
	offload      bool // segmentation and checksums may be left to either side
	promiscuous  bool
	backpressure Backpressure

	rx []*rxQueue
	tx []*txQueue
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
		life.Waiters = append(life.Waiters, e.rx[len(e.rx)-1].waiter)
	}
	e.life.Init(life)
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.mtu
	}
	addr := opts.LinkAddress
	if addr == "" {
		addr = d.addr
	}
	endpoint.Init(&e.base, &e.life, frame.MaxIPSize, mtu, addr)
	return e
}

// Name returns the name that the device had when the endpoint was made.
func (e *Endpoint) Name() string { return e.name }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 {
	if e.vlan != 0 {
		return header.EthernetMinimumSize + vlanTagSize
	}
	return header.EthernetMinimumSize
}

// SetLinkAddress implements stack.LinkEndpoint. The device is asked to receive
// for addr as well; if it cannot, frames for it may not arrive.
func (e *Endpoint) SetLinkAddress(addr tcpip.LinkAddress) {
	e.base.SetLinkAddress(addr)
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

// SupportedGSO implements stack.GSOEndpoint.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.offload {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// AddHeader implements stack.LinkEndpoint. With Options.VLAN it adds a tag.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	if e.vlan == 0 {
		e.base.AddHeader(pkt)
		return
	}
	b := pkt.LinkHeader().Push(header.EthernetMinimumSize + vlanTagSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    unix.ETH_P_8021Q,
	})
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

// release lets go of buffers and descriptors.
func (e *Endpoint) release() {
	for _, q := range e.rx {
		q.close()
	}
	for _, q := range e.tx {
		q.close()
	}
}
