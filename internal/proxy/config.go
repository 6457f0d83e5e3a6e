package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/internal/relay"
	"github.com/plumbline/plumbline/tcpx"
)

// transports are the TCP implementations by name, the default first.
var transports = []struct {
	name string
	new  stack.TransportProtocolFactory
}{
	{"tcpx", tcpx.NewProtocol},
	{"gvisor", tcp.NewProtocol},
}

// Transports returns the names that Config.Transport may have, the default
// first.
func Transports() []string {
	var names []string
	for _, t := range transports {
		names = append(names, t.name)
	}
	return names
}

// transport finds an implementation by name; "" is the default.
func transport(name string) (stack.TransportProtocolFactory, error) {
	for _, t := range transports {
		if name == "" || t.name == name {
			return t.new, nil
		}
	}
	return nil, invalid("unknown TCP stack %q, have %s", name, strings.Join(Transports(), ", "))
}

// A ListenRule accepts in the netstack and dials on the host.
type ListenRule struct {
	// Listen is the netstack's side. An invalid address means all of its
	// addresses, port 0 any port.
	Listen netip.AddrPort
	// To is the host's side, "host:port". The name is looked up for each
	// connection.
	To string
}

// A DialRule accepts on the host and dials in the netstack.
type DialRule struct {
	// Listen is the host's side, "[host]:port".
	Listen string
	// To is the netstack's side.
	To netip.AddrPort
}

// Config describes a proxy.
type Config struct {
	// Link is the endpoint of the NIC. The proxy attaches and closes it.
	Link stack.LinkEndpoint
	// Addresses are the netstack's own, with the size of the subnet that the
	// link reaches. At least one.
	Addresses []netip.Prefix
	// Gateways are the routers of everything else, at most one for IPv4 and one
	// for IPv6. A link without link addresses needs none: all goes there.
	Gateways []netip.Addr
	// Transport is the name of the TCP implementation, empty for the default.
	Transport string
	// Congestion is the name of the congestion control algorithm, empty for
	// the transport's default.
	Congestion string

	Listen []ListenRule
	Dial   []DialRule

	// Host dials and listens on the host. Nil means package net.
	Host Host
	// Log gets a line for each rule at the start and, at debug level, for each
	// connection. Nil means silence.
	Log *slog.Logger
}

// Host is the side of the proxy that is not the netstack.
type Host interface {
	// Dial connects to a "host:port".
	Dial(ctx context.Context, addr string) (HostConn, error)
	// Listen listens on a "[host]:port".
	Listen(ctx context.Context, addr string) (HostListener, error)
}

// HostConn is a connection of the host.
type HostConn interface {
	relay.Conn
	RemoteAddr() net.Addr
}

// HostListener accepts connections of the host. After Close, Accept returns
// net.ErrClosed.
type HostListener interface {
	Accept() (HostConn, error)
	Addr() net.Addr
	Close() error
}

// ConfigError says in one line what is wrong with a Config.
type ConfigError struct {
	Reason string
}

// Error implements error.
func (e *ConfigError) Error() string { return e.Reason }

// invalid makes a ConfigError.
func invalid(format string, args ...any) error {
	return &ConfigError{Reason: fmt.Sprintf(format, args...)}
}

// check returns a *ConfigError if c cannot work.
func (c *Config) check() error {
	if len(c.Addresses) == 0 {
		return invalid("the netstack has no address")
	}
	if len(c.Listen)+len(c.Dial) == 0 {
		return invalid("there is nothing to do: neither a listen nor a dial rule")
	}
	for _, p := range c.Addresses {
		if a := p.Addr(); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
			return invalid("%s is not an address that the netstack can have", p)
		}
	}
	for i, gw := range c.Gateways {
		if slices.ContainsFunc(c.Gateways[:i], func(other netip.Addr) bool { return other.Is4() == gw.Is4() }) {
			return invalid("%s is a second gateway of its IP version", gw)
		}
		onLink := gw.Is6() && gw.IsLinkLocalUnicast()
		for _, p := range c.Addresses {
			onLink = onLink || p.Contains(gw) && p.Addr() != gw
		}
		if !onLink {
			return invalid("the gateway %s is in no subnet of the link", gw)
		}
	}
	for _, r := range c.Listen {
		a := r.Listen.Addr()
		if a.IsValid() && !slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return invalid("cannot listen on %s, which is no address of the netstack", r.Listen)
		}
		if _, _, err := net.SplitHostPort(r.To); err != nil {
			return invalid("the target %q is not host:port", r.To)
		}
	}
	for _, r := range c.Dial {
		if !r.To.IsValid() || r.To.Port() == 0 {
			return invalid("cannot dial %s", r.To)
		}
		if !slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == r.To.Addr().Is4() }) {
			return invalid("cannot dial %s: the netstack has no address of its IP version", r.To)
		}
	}
	return nil
}

// address converts an address to the netstack's type.
func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }
