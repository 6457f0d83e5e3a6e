package endpoint

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// Ethernet is an endpoint as far as its device does not matter. It is usable
// after Init. All its methods may be called concurrently.
type Ethernet struct {
	life   *lifecycle.Lifecycle
	maxMTU uint32
	mtu    atomic.Uint32
	addr   atomic.Pointer[tcpip.LinkAddress]
}

// Init sets e up for use, with an MTU of at most maxMTU bytes. It is no method,
// since those become methods of who embeds e.
func Init(e *Ethernet, life *lifecycle.Lifecycle, maxMTU, mtu uint32, addr tcpip.LinkAddress) {
	e.life, e.maxMTU = life, maxMTU
	e.SetMTU(mtu)
	e.SetLinkAddress(addr)
}

// MTU implements stack.LinkEndpoint.
func (e *Ethernet) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint. It limits what the stack sends; the MTU
// of the device stays as it is.
func (e *Ethernet) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, e.maxMTU)) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*Ethernet) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (e *Ethernet) LinkAddress() tcpip.LinkAddress { return *e.addr.Load() }

// SetLinkAddress implements stack.LinkEndpoint. The device is not told.
func (e *Ethernet) SetLinkAddress(addr tcpip.LinkAddress) { e.addr.Store(&addr) }

// GSOMaxSize implements stack.GSOEndpoint.
func (*Ethernet) GSOMaxSize() uint32 { return frame.MaxIPSize }

// ARPHardwareType implements stack.LinkEndpoint.
func (*Ethernet) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (*Ethernet) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize))
	eth.Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (*Ethernet) ParseHeader(pkt *stack.PacketBuffer) bool {
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
func (e *Ethernet) Attach(dispatcher stack.NetworkDispatcher) { e.life.Attach(dispatcher) }

// IsAttached implements stack.LinkEndpoint.
func (e *Ethernet) IsAttached() bool { return e.life.IsAttached() }

// Wait implements stack.LinkEndpoint: it returns when the receivers that
// Attach(nil) or Close stopped have returned, and with them the last delivery.
// While the endpoint is attached it blocks, so a stack that is to be destroyed
// has to remove its NIC first. It must not be called from a delivery.
func (e *Ethernet) Wait() { e.life.Wait() }

// Close implements stack.LinkEndpoint. It runs the on-close action, stops
// receiving, and lets go of the device as soon as the last delivery returned,
// which Wait waits for. Calls after the first do nothing.
func (e *Ethernet) Close() { e.life.Close() }

// SetOnCloseAction implements stack.LinkEndpoint: action runs once, when the
// endpoint is closed or closes itself, before it lets go of the device.
func (e *Ethernet) SetOnCloseAction(action func()) { e.life.SetOnCloseAction(action) }

// Err returns the error that made the endpoint close itself, or nil.
func (e *Ethernet) Err() error { return e.life.Err() }
