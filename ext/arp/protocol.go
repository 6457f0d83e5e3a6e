package arp

import (
	"maps"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ProtocolNumber is ARP's EtherType, 0x0806.
const ProtocolNumber = header.ARPProtocolNumber

var _ stack.NetworkProtocol = (*Protocol)(nil)

// Protocol is ARP in one stack. Its methods are safe for concurrent use. Get it with Of.
type Protocol struct {
	stack *stack.Stack
	opts  Options

	mu  sync.Mutex
	eps map[tcpip.NICID]*endpoint
}

// NewProtocol is a stack.NetworkProtocolFactory with default options. It takes the place of gVisor's arp.NewProtocol in stack.Options.NetworkProtocols.
func NewProtocol(s *stack.Stack) stack.NetworkProtocol { return NewProtocolWithOptions(Options{})(s) }

// NewProtocolWithOptions returns a factory for stack.Options.NetworkProtocols. It may serve several stacks.
func NewProtocolWithOptions(opts Options) stack.NetworkProtocolFactory {
	opts = opts.withDefaults()
	return func(s *stack.Stack) stack.NetworkProtocol {
		return &Protocol{stack: s, opts: opts, eps: make(map[tcpip.NICID]*endpoint)}
	}
}

// Of returns the ARP of a stack, and false if the stack has none or another one.
func Of(s *stack.Stack) (*Protocol, bool) {
	p, ok := s.NetworkProtocolInstance(ProtocolNumber).(*Protocol)
	return p, ok
}

// Number implements stack.NetworkProtocol.
func (*Protocol) Number() tcpip.NetworkProtocolNumber { return ProtocolNumber }

// MinimumPacketSize implements stack.NetworkProtocol.
func (*Protocol) MinimumPacketSize() int { return header.ARPSize }

// ParseAddresses implements stack.NetworkProtocol. ARP has no addresses in the sense of the stack.
func (*Protocol) ParseAddresses([]byte) (src, dst tcpip.Address) {
	return tcpip.Address{}, tcpip.Address{}
}

// NewEndpoint implements stack.NetworkProtocol.
func (p *Protocol) NewEndpoint(nic stack.NetworkInterface, _ stack.TransportDispatcher) stack.NetworkEndpoint {
	e := newEndpoint(p, nic)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eps[nic.ID()] = e
	return e
}

// forget drops the endpoint of an interface that is removed, unless another took its number.
func (p *Protocol) forget(nic tcpip.NICID, e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.eps[nic] == e {
		delete(p.eps, nic)
	}
}

// endpoints returns the endpoints of all interfaces, in no order.
func (p *Protocol) endpoints() []*endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.eps))
}

// endpoint returns the endpoint of an interface.
func (p *Protocol) endpoint(nic tcpip.NICID) (*endpoint, tcpip.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.eps[nic]; e != nil {
		return e, nil
	}
	return nil, &tcpip.ErrUnknownNICID{}
}

// SetOption implements stack.NetworkProtocol. There are none.
func (*Protocol) SetOption(tcpip.SettableNetworkProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Option implements stack.NetworkProtocol. There are none.
func (*Protocol) Option(tcpip.GettableNetworkProtocolOption) tcpip.Error {
	return &tcpip.ErrUnknownProtocolOption{}
}

// Close implements stack.NetworkProtocol.
func (*Protocol) Close() {}

// Wait implements stack.NetworkProtocol. There are no goroutines to wait for.
func (*Protocol) Wait() {}

// Parse implements stack.NetworkProtocol.
func (*Protocol) Parse(pkt *stack.PacketBuffer) (tcpip.TransportProtocolNumber, bool, bool) {
	_, ok := pkt.NetworkHeader().Consume(header.ARPSize)
	if ok {
		pkt.NetworkProtocolNumber = ProtocolNumber
	}
	return 0, false, ok
}

// Stats returns the counters of an interface, which stay live; nil if there is no such interface.
func (p *Protocol) Stats(nic tcpip.NICID) *Stats {
	e, err := p.endpoint(nic)
	if err != nil {
		return nil
	}
	return &e.stats
}

// claimable returns the endpoint of an interface on which addr can be claimed, or why it cannot.
func (p *Protocol) claimable(nic tcpip.NICID, addr tcpip.Address) (*endpoint, tcpip.Error) {
	e, err := p.endpoint(nic)
	if err != nil {
		return nil, err
	}
	if addr.BitLen() != 32 || !isHost(addr) {
		return nil, &tcpip.ErrBadAddress{}
	}
	if _, ok := e.owned(addr); ok {
		return nil, &tcpip.ErrDuplicateAddress{}
	}
	return e, nil
}

// Probe asks the link whether anybody has addr (RFC 5227 §2.1), and calls done with the answer, by default after 4 to 7 seconds. done is called by a timer of the
// stack's clock or by whoever delivers packets, with no lock held. Errors: *tcpip.ErrUnknownNICID; *tcpip.ErrBadAddress if addr is not a host's IPv4 address;
// *tcpip.ErrDuplicateAddress if the interface has it already; *tcpip.ErrNotSupported if the link has no link addresses.
func (p *Protocol) Probe(nic tcpip.NICID, addr tcpip.Address, done func(ProbeResult)) tcpip.Error {
	e, err := p.claimable(nic, addr)
	if err != nil {
		return err
	}
	if !e.resolves() {
		return &tcpip.ErrNotSupported{}
	}
	e.probe(addr, done)
	return nil
}

// Announce sends announcements for an address of the interface (RFC 5227 §2.3), now and Timing.AnnounceInterval later, so that neighbours replace what they
// knew. Errors: *tcpip.ErrUnknownNICID, *tcpip.ErrBadLocalAddress, *tcpip.ErrNotSupported if the link has no link addresses.
func (p *Protocol) Announce(nic tcpip.NICID, addr tcpip.Address) tcpip.Error {
	e, err := p.endpoint(nic)
	if err != nil {
		return err
	}
	if _, ok := e.owned(addr); !ok {
		return &tcpip.ErrBadLocalAddress{}
	}
	if !e.resolves() {
		return &tcpip.ErrNotSupported{}
	}
	e.announce(addr)
	return nil
}

// AddressOptions say how AddAddress goes about it.
type AddressOptions struct {
	// Properties are passed to the stack.
	Properties stack.AddressProperties
	// NoProbe adds the address at once.
	NoProbe bool
	// Defence overrides Options.Defence for this address; nil does not.
	Defence *Defence
	// Done is told the outcome, nil for nobody. It is called as Probe's done is, or by AddAddress itself with NoProbe.
	Done func(ProbeResult)
}

// AddAddress probes for addr, adds it to the interface if nobody has it, and announces it. Until then the stack does not have the address. On a link without link
// addresses there is nobody to ask nor to tell: it adds. Errors: as Probe, but for *tcpip.ErrNotSupported; if it adds at once, also what
// Stack.AddProtocolAddress returns.
func (p *Protocol) AddAddress(nic tcpip.NICID, addr tcpip.AddressWithPrefix, o AddressOptions) tcpip.Error {
	e, err := p.claimable(nic, addr.Address)
	if err != nil {
		return err
	}
	done := o.Done
	if done == nil {
		done = func(ProbeResult) {}
	}
	if o.NoProbe || !e.resolves() {
		err := e.add(addr, &o)
		done(ProbeResult{Err: err})
		return err
	}
	e.probe(addr.Address, func(r ProbeResult) {
		if r.Err == nil {
			r.Err = e.add(addr, &o)
		}
		done(r)
	})
	return nil
}

// add gives the interface an address and announces it.
func (e *endpoint) add(addr tcpip.AddressWithPrefix, o *AddressOptions) tcpip.Error {
	pa := tcpip.ProtocolAddress{Protocol: header.IPv4ProtocolNumber, AddressWithPrefix: addr}
	if err := e.p.stack.AddProtocolAddress(e.nic.ID(), pa, o.Properties); err != nil {
		return err
	}
	if !e.resolves() {
		return nil
	}
	e.mu.Lock()
	h := e.hold(addr.Address)
	h.defence, h.conflicted, h.lost = o.Defence, false, false
	e.mu.Unlock()
	e.announce(addr.Address)
	return nil
}

// Announcer returns a dispatcher for stack.AddressProperties.Disp that announces addr when the stack has assigned it: for embedders that call
// Stack.AddProtocolAddress themselves.
func (p *Protocol) Announcer(nic tcpip.NICID, addr tcpip.Address) stack.AddressDispatcher {
	return &announcer{p: p, nic: nic, addr: addr}
}

type announcer struct {
	p    *Protocol
	nic  tcpip.NICID
	addr tcpip.Address
	once sync.Once
}

// OnChanged implements stack.AddressDispatcher. The stack holds its locks: the announcement waits for the clock.
func (a *announcer) OnChanged(_ stack.AddressLifetimes, s stack.AddressAssignmentState) {
	if s == stack.AddressAssigned {
		a.once.Do(func() { a.p.stack.Clock().AfterFunc(0, func() { _ = a.p.Announce(a.nic, a.addr) }) })
	}
}

// OnRemoved implements stack.AddressDispatcher.
func (*announcer) OnRemoved(stack.AddressRemovalReason) {}
