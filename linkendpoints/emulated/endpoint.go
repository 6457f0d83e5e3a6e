package emulated

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Endpoint is the interface of one host to a Path. It carries IP packets without a link header and resolves no addresses. A packet that the path cannot hold is dropped and
// counted there, as in a router: WritePackets refuses only what exceeds the MTU, and everything once the endpoint is closed.
//
// Packets are delivered by the path's timers, never within WritePackets. Close drops what arrives from then on; what the host has sent is still delivered, until
// Path.Close. Methods may be called concurrently.
type Endpoint struct {
	path    *Path
	out     *direction
	offload bool
	mtu     atomic.Uint32
	closed  atomic.Bool

	mu sync.Mutex
	// idle is signalled when delivering becomes 0; its lock is mu.
	idle sync.Cond
	// All below is guarded by mu.
	dispatcher stack.NetworkDispatcher
	delivering int
	linkAddr   tcpip.LinkAddress
	onClose    func()
}

var _ stack.LinkEndpoint = (*Endpoint)(nil)

// WritePackets implements stack.LinkWriter.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	if e.closed.Load() {
		return 0, &tcpip.ErrClosedForSend{}
	}
	return e.out.send(pkts.AsSlice(), int(e.mtu.Load()))
}

// deliver hands a packet to the stack, and reports false if there is none.
func (e *Endpoint) deliver(pkt *stack.PacketBuffer) bool {
	e.mu.Lock()
	d := e.dispatcher
	if d == nil {
		e.mu.Unlock()
		return false
	}
	e.delivering++
	e.mu.Unlock()

	d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)

	e.mu.Lock()
	if e.delivering--; e.delivering == 0 {
		e.idle.Broadcast()
	}
	e.mu.Unlock()
	return true
}

// Attach implements stack.NetworkLinkEndpoint. It does not wait for a delivery that is under way; Wait does.
func (e *Endpoint) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		d = nil
	}
	e.dispatcher = d
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (e *Endpoint) IsAttached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dispatcher != nil
}

// Wait implements stack.NetworkLinkEndpoint: it returns when no delivery is under way. It must not be called from one, after Attach(nil) or Close.
func (e *Endpoint) Wait() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.delivering > 0 && e.dispatcher == nil {
		e.idle.Wait()
	}
}

// Close implements stack.NetworkLinkEndpoint.
func (e *Endpoint) Close() {
	e.mu.Lock()
	e.dispatcher = nil
	first := e.closed.CompareAndSwap(false, true)
	action := e.onClose
	e.mu.Unlock()
	if first && action != nil {
		action()
	}
}

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (e *Endpoint) SetOnCloseAction(action func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onClose = action
}

// MTU implements stack.NetworkLinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.NetworkLinkEndpoint: it changes what this endpoint takes, not what it delivers.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(mtu) }

// LinkAddress implements stack.NetworkLinkEndpoint.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.linkAddr
}

// SetLinkAddress implements stack.NetworkLinkEndpoint.
func (e *Endpoint) SetLinkAddress(addr tcpip.LinkAddress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.linkAddr = addr
}

// Capabilities implements stack.NetworkLinkEndpoint.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	if e.offload {
		return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
	}
	return 0
}

// MaxHeaderLength implements stack.NetworkLinkEndpoint.
func (*Endpoint) MaxHeaderLength() uint16 { return 0 }

// ARPHardwareType implements stack.NetworkLinkEndpoint.
func (*Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.NetworkLinkEndpoint.
func (*Endpoint) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.NetworkLinkEndpoint.
func (*Endpoint) ParseHeader(*stack.PacketBuffer) bool { return true }
