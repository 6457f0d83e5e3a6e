package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/ext/arp"
)

// nicID is the number of the one NIC.
const nicID = 1

// backlog is the length of a listener's accept queue.
const backlog = 4096

// newStack makes a stack with its NIC, addresses and routes.
func newStack(c *Config) (*stack.Stack, error) {
	transport, err := transport(c.Transport)
	if err != nil {
		return nil, err
	}
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			arp.NewProtocol,
			ipv4.NewProtocol,
			// The addresses are given, so that nothing is asked of routers, and
			// usable at once, without duplicate address detection.
			ipv6.NewProtocolWithOptions(ipv6.Options{AutoGenLinkLocal: true}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			transport,
			udp.NewProtocol, // answers that a port is unreachable
			icmp.NewProtocol4,
			icmp.NewProtocol6,
		},
	})
	if err := configure(s, c); err != nil {
		s.Destroy()
		return nil, err
	}
	return s, nil
}

// configure sets the options of TCP and makes the NIC.
func configure(s *stack.Stack, c *Config) error {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("setting %T: %s", opt, err)
		}
	}
	if c.Congestion != "" {
		cc := tcpip.CongestionControlOption(c.Congestion)
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &cc); err != nil {
			return invalid("unknown congestion control %q, have %s", c.Congestion, strings.Join(congestionControls(s), ", "))
		}
	}
	if err := s.CreateNIC(nicID, c.Link); err != nil {
		return fmt.Errorf("creating the NIC: %s", err)
	}
	var routes []tcpip.Route
	for _, p := range c.Addresses {
		addr := tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()},
		}
		if err := s.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("adding the address %s: %s", p, err)
		}
		routes = append(routes, tcpip.Route{Destination: addr.AddressWithPrefix.Subnet(), NIC: nicID})
	}
	for _, gw := range c.Gateways {
		routes = append(routes, tcpip.Route{Destination: everything(gw), Gateway: address(gw), NIC: nicID})
	}
	if c.Link.Capabilities()&stack.CapabilityResolutionRequired == 0 {
		// There is nobody to choose between at the other end.
		routes = append(routes,
			tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: nicID},
			tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	}
	s.SetRouteTable(routes)
	return nil
}

// congestionControls returns the names that the transport knows.
func congestionControls(s *stack.Stack) []string {
	var opt tcpip.TCPAvailableCongestionControlOption
	if err := s.TransportProtocolOption(tcp.ProtocolNumber, &opt); err != nil {
		return nil
	}
	return strings.Fields(string(opt))
}

// protocolOf returns the network protocol of an address.
func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// everything returns the subnet of all addresses of a's IP version.
func everything(a netip.Addr) tcpip.Subnet {
	if a.Is4() {
		return header.IPv4EmptySubnet
	}
	return header.IPv6EmptySubnet
}

// conn is a connection of the netstack that can be reset, which gonet's cannot.
type conn struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	abort sync.Once
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint) *conn {
	// The relay writes what there is; nothing is gained by waiting for more.
	ep.SocketOptions().SetDelayOption(false)
	ep.SocketOptions().SetKeepAlive(true)
	return &conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
}

// Abort implements relay.Conn.
func (c *conn) Abort() {
	c.abort.Do(func() {
		c.ep.Abort()
		c.ep.Close()
	})
}

// dial connects in the netstack.
func dial(ctx context.Context, s *stack.Stack, to netip.AddrPort) (*conn, error) {
	addr := tcpip.FullAddress{NIC: nicID, Addr: address(to.Addr()), Port: to.Port()}
	wq := &waiter.Queue{}
	ep, terr := s.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), wq)
	if terr != nil {
		return nil, fmt.Errorf("dialling %s: %s", to, terr)
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(addr)
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Abort()
			ep.Close()
			return nil, fmt.Errorf("dialling %s: %w", to, context.Cause(ctx))
		case <-writable:
			terr = ep.LastError()
		}
	}
	if terr != nil {
		ep.Close()
		return nil, fmt.Errorf("dialling %s: %s", to, terr)
	}
	return newConn(wq, ep), nil
}

// listener accepts connections in the netstack.
type listener struct {
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	closed chan struct{}
	once   sync.Once
}

// listen listens on one address, or on all of an IP version.
func listen(s *stack.Stack, proto tcpip.NetworkProtocolNumber, addr netip.AddrPort) (*listener, error) {
	l := &listener{wq: &waiter.Queue{}, closed: make(chan struct{})}
	ep, err := s.NewEndpoint(tcp.ProtocolNumber, proto, l.wq)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %s", addr, err)
	}
	ep.SocketOptions().SetV6Only(true)
	ep.SocketOptions().SetReuseAddress(true)
	full := tcpip.FullAddress{Port: addr.Port()}
	if addr.Addr().IsValid() {
		full.Addr = address(addr.Addr())
	}
	err = ep.Bind(full)
	if err == nil {
		err = ep.Listen(backlog)
	}
	if err != nil {
		ep.Close()
		return nil, fmt.Errorf("listening on port %d: %s", addr.Port(), err)
	}
	l.ep = ep
	return l, nil
}

// port returns the port that the listener has.
func (l *listener) port() uint16 {
	addr, err := l.ep.GetLocalAddress()
	if err != nil {
		return 0
	}
	return addr.Port
}

// accept waits for a connection, or returns net.ErrClosed.
func (l *listener) accept() (*conn, error) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, err := l.ep.Accept(nil)
		switch err.(type) {
		case nil:
			return newConn(wq, ep), nil
		case *tcpip.ErrWouldBlock:
		default:
			return nil, fmt.Errorf("%w: %s", net.ErrClosed, err)
		}
		select {
		case <-readable:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close ends accept and resets connections that wait to be accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
	})
	return nil
}
