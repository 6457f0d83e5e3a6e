package arp

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var (
	_ stack.NetworkEndpoint          = (*endpoint)(nil)
	_ stack.LinkAddressResolver      = (*endpoint)(nil)
	_ stack.DuplicateAddressDetector = (*endpoint)(nil)
)

// endpoint is ARP on one interface. No call into netstack that may come back (the neighbour cache, the link, address changes) is made under mu.
type endpoint struct {
	p     *Protocol
	nic   stack.NetworkInterface
	stats Stats

	enabled atomic.Bool
	// addrs is the interface's IPv4 endpoint, looked up when first needed: it may be younger than we are.
	addrs atomic.Pointer[stack.AddressableEndpoint]

	guardSet atomic.Pointer[guards]

	// order is held from the judgement of a claim until netstack's cache was told of it: of two packets at once, both get the same one last. It is taken
	// before mu and netstack's own locks, and not held while anything is sent, since a link may deliver the answer before it returns.
	order sync.Mutex

	mu    sync.Mutex
	peers *peers
	// requests and replies (to neighbours known and unknown) and learn are the limits of Options.
	requestsKnown, requestsOther, repliesKnown, repliesOther, learn limiter
	// churn counts what netstack's cache may have evicted entries for, since those that are to stay were last refreshed there.
	churn int
	claims
}

func newEndpoint(p *Protocol, nic stack.NetworkInterface) *endpoint {
	o := &p.opts
	return &endpoint{
		p: p, nic: nic,
		peers:         newPeers(o.MaxPeers),
		requestsKnown: newLimiter(o.Requests),
		requestsOther: newLimiter(o.Requests),
		repliesKnown:  newLimiter(o.Replies),
		repliesOther:  newLimiter(o.Replies),
		learn:         newLimiter(o.Learn),
		claims:        claims{holds: make(map[tcpip.Address]*hold), timing: o.Timing},
	}
}

func (e *endpoint) now() tcpip.MonotonicTime { return e.p.stack.Clock().NowMonotonic() }

// Enable implements stack.NetworkEndpoint. The addresses of the interface are announced once it is up.
func (e *endpoint) Enable() tcpip.Error {
	if !e.nic.Enabled() {
		return &tcpip.ErrNotPermitted{}
	}
	e.enabled.Store(true)
	if !e.p.opts.NoAnnounce && e.resolves() {
		// The interface's lock is held now, and its IPv4 may not be enabled yet.
		e.p.stack.Clock().AfterFunc(0, e.announceAll)
	}
	return nil
}

// resolves reports whether the link has link addresses at all.
func (e *endpoint) resolves() bool {
	return e.nic.Capabilities()&stack.CapabilityResolutionRequired != 0
}

// Enabled implements stack.NetworkEndpoint.
func (e *endpoint) Enabled() bool { return e.nic.Enabled() && e.enabled.Load() }

// Disable implements stack.NetworkEndpoint. The stack empties the neighbour cache as well.
func (e *endpoint) Disable() {
	e.enabled.Store(false)
	e.mu.Lock()
	e.peers.clear()
	done := e.claims.stop()
	e.mu.Unlock()
	if len(done) != 0 {
		e.p.stack.Clock().AfterFunc(0, func() { finish(done, ProbeResult{Err: &tcpip.ErrAborted{}}) })
	}
}

// Close implements stack.NetworkEndpoint.
func (e *endpoint) Close() {
	e.Disable()
	e.p.forget(e.nic.ID(), e)
}

// DefaultTTL implements stack.NetworkEndpoint. ARP has none.
func (*endpoint) DefaultTTL() uint8 { return 0 }

// MTU implements stack.NetworkEndpoint.
func (e *endpoint) MTU() uint32 { return e.nic.MTU() }

// EndpointHeaderSize implements stack.NetworkEndpoint.
func (*endpoint) EndpointHeaderSize() uint32 { return header.ARPSize }

// MaxHeaderLength implements stack.NetworkEndpoint.
func (e *endpoint) MaxHeaderLength() uint16 { return e.nic.MaxHeaderLength() + header.ARPSize }

// WritePacket implements stack.NetworkEndpoint. ARP carries nothing.
func (*endpoint) WritePacket(*stack.Route, stack.NetworkHeaderParams, *stack.PacketBuffer) tcpip.Error {
	return &tcpip.ErrNotSupported{}
}

// WriteHeaderIncludedPacket implements stack.NetworkEndpoint.
func (*endpoint) WriteHeaderIncludedPacket(*stack.Route, *stack.PacketBuffer) tcpip.Error {
	return &tcpip.ErrNotSupported{}
}

// NetworkProtocolNumber implements stack.NetworkEndpoint.
func (*endpoint) NetworkProtocolNumber() tcpip.NetworkProtocolNumber { return ProtocolNumber }

// Stats implements stack.NetworkEndpoint. The value is a *Stats.
func (e *endpoint) Stats() stack.NetworkEndpointStats { return &e.stats }

// send writes p to a link address. RFC 3927 §2.5: what comes from a link-local address is always broadcast.
func (e *endpoint) send(p Packet, to tcpip.LinkAddress) tcpip.Error {
	if header.IsV4LinkLocalUnicastAddress(p.Sender) {
		to = header.EthernetBroadcastAddress
	}
	p.SenderLink = e.nic.LinkAddress()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: int(e.MaxHeaderLength())})
	defer pkt.DecRef()
	pkt.NetworkProtocolNumber = ProtocolNumber
	p.AppendTo(pkt.NetworkHeader().Push(header.ARPSize)[:0])
	err := e.nic.WritePacketToRemote(to, pkt)
	if err != nil {
		e.stats.WriteErrors.Increment()
	}
	return err
}

// ipv4 returns what knows the interface's addresses, nil if it has no IPv4.
func (e *endpoint) ipv4() stack.AddressableEndpoint {
	if a := e.addrs.Load(); a != nil {
		return *a
	}
	ep, err := e.p.stack.GetNetworkEndpoint(e.nic.ID(), header.IPv4ProtocolNumber)
	if err != nil {
		return nil
	}
	a, ok := ep.(stack.AddressableEndpoint)
	if !ok {
		return nil
	}
	e.addrs.Store(&a)
	return a
}

// owned returns addr as the interface holds it. Unlike CheckLocalAddress it does not take every address for ours on a spoofing interface, nor the broadcast address
// that netstack gives every interface.
func (e *endpoint) owned(addr tcpip.Address) (tcpip.AddressWithPrefix, bool) {
	v4 := e.ipv4()
	if v4 == nil || addr.BitLen() != 32 || !isHost(addr) {
		return tcpip.AddressWithPrefix{}, false
	}
	a := v4.AcquireAssignedAddress(addr, false, stack.NeverPrimaryEndpoint, true)
	if a == nil || a.GetKind() != stack.Permanent {
		return tcpip.AddressWithPrefix{}, false
	}
	w := a.AddressWithPrefix()
	return w, w.Address == addr
}

// subnetAddress returns an address of the interface in whose subnet addr is.
func (e *endpoint) subnetAddress(addr tcpip.Address) (tcpip.AddressWithPrefix, bool) {
	v4 := e.ipv4()
	if v4 == nil {
		return tcpip.AddressWithPrefix{}, false
	}
	for _, a := range v4.PrimaryAddresses() {
		if s := a.Subnet(); s.Contains(addr) {
			return a, true
		}
	}
	return tcpip.AddressWithPrefix{}, false
}
