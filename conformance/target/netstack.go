package target

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/internal/seeded"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// nicID is the number of the only interface of a netstack target.
const nicID = tcpip.NICID(1)

// Netstack returns a kind of target that runs a TCP transport of gVisor's
// netstack in memory and in virtual time. The protocol is the only thing that
// distinguishes two such kinds.
//
// An endpoint of the protocol may offer more than [tcpip.Endpoint] does, by
// [TCPOptions], [RecvLowat], [Urgent] and [TCPInfo]; the protocol may by
// [Sysctls].
func Netstack(name, description string, caps Capabilities, protocol stack.TransportProtocolFactory) Kind {
	return Kind{
		Name:         name,
		Description:  description,
		Capabilities: caps,
		Open: func(cfg Config) (Target, error) {
			return openNetstack(cfg, protocol)
		},
	}
}

// GVisor returns the kind of target that runs the TCP that gVisor comes with.
func GVisor() Kind {
	return Netstack("gvisor", "the TCP that comes with gVisor's netstack", Capabilities{}, tcp.NewProtocol)
}

// netstack is a Target around a [stack.Stack].
type netstack struct {
	clock *vclock.Clock
	link  *link
	stack *stack.Stack
	proto stack.TransportProtocol

	fds    map[FD]descriptor
	nextFD FD
	// ops are the calls that block, in the order in which they were made.
	ops []*op
	// cfg is what the target was opened with, and configured the settings
	// since, in order.
	cfg        Config
	configured [][2]string
	// rebuild, if set, returns a protocol made with settings, among them
	// name, and whether name is one that it can be made with.
	rebuild func(settings map[string]string, name string) (stack.TransportProtocolFactory, bool)
	// reconfigure, if set, changes a setting of the protocol in use, and reports
	// whether it is one that it has.
	reconfigure func(n *netstack, name, value string) (bool, error)
	// builtWith are the settings that the protocol was made with.
	builtWith map[string]string

	// completed counts the calls that have ended, for RunUntil to notice.
	completed int
}

var _ Target = (*netstack)(nil)

// openNetstack makes a stack with the protocol and its one interface.
func openNetstack(cfg Config, protocol stack.TransportProtocolFactory) (*netstack, error) {
	cfg = cfg.withDefaults()
	n := &netstack{
		clock:     vclock.New(),
		fds:       make(map[FD]descriptor),
		nextFD:    3,
		cfg:       cfg,
		builtWith: make(map[string]string),
	}
	if err := n.build(protocol); err != nil {
		return nil, err
	}
	return n, nil
}

// build makes the stack with its interface.
func (n *netstack) build(protocol stack.TransportProtocolFactory) error {
	cfg := n.cfg
	n.link = &link{clock: n.clock, mtu: uint32(cfg.MTU)}
	n.stack = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{DADConfigs: stack.DADConfigurations{}}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{protocol},
		Clock:              n.clock,
		SecureRNG:          seeded.Reader(cfg.Seed),
		RandSource:         seeded.Source(cfg.Seed),
	})
	n.proto = n.stack.TransportProtocolInstance(header.TCPProtocolNumber)
	if n.proto == nil {
		return fmt.Errorf("the protocol does not answer to number %d", header.TCPProtocolNumber)
	}
	if err := n.configureInterface(cfg.Addrs); err != nil {
		return err
	}
	if err := n.applyDefaults(); err != nil {
		return err
	}
	n.Settle()
	n.link.drain()
	return nil
}

// reopen makes the stack anew with one more setting for its protocol. It
// reports false if the setting is none that the protocol can be made with, or
// if it comes too late, since the stack is in use.
func (n *netstack) reopen(name, value string) (bool, error) {
	if n.rebuild == nil || len(n.fds) > 0 || n.clock.Elapsed() > 0 {
		return false, nil
	}
	settings := maps.Clone(n.builtWith)
	settings[name] = value
	protocol, ok := n.rebuild(settings, name)
	if !ok {
		return false, nil
	}
	n.builtWith = settings
	n.stack.Destroy()
	n.clock = vclock.New()
	if err := n.build(protocol); err != nil {
		return true, err
	}
	for _, c := range n.configured {
		if err := n.set(c[0], c[1]); err != nil {
			return true, err
		}
	}
	return true, nil
}

// configureInterface adds the interface with its addresses and routes. The
// link has no addresses to resolve, so a route names no gateway.
func (n *netstack) configureInterface(a Addrs) error {
	if err := n.stack.CreateNIC(nicID, n.link); err != nil {
		return fmt.Errorf("create interface: %v", err)
	}
	for _, addr := range []struct {
		proto tcpip.NetworkProtocolNumber
		addr  netip.Addr
		bits  int
	}{
		{ipv4.ProtocolNumber, a.Local4, 16},
		{ipv6.ProtocolNumber, a.Local6, 64},
	} {
		pa := tcpip.ProtocolAddress{
			Protocol: addr.proto,
			AddressWithPrefix: tcpip.AddressWithPrefix{
				Address:   tcpip.AddrFromSlice(addr.addr.AsSlice()),
				PrefixLen: addr.bits,
			},
		}
		if err := n.stack.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("add address %v: %v", addr.addr, err)
		}
	}
	n.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	return nil
}

// applyDefaults switches on what a host has on by default and netstack has
// not: SACK, Nagle's algorithm and receive buffer tuning.
func (n *netstack) applyDefaults() error {
	sack, delay, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPDelayEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &delay, &moderate} {
		if err := n.setProtocolOption(opt); err != nil {
			return fmt.Errorf("set %T: %v", opt, err)
		}
	}
	return nil
}

// setProtocolOption sets an option of the TCP of the stack.
func (n *netstack) setProtocolOption(opt tcpip.SettableTransportProtocolOption) tcpip.Error {
	return n.stack.SetTransportProtocolOption(header.TCPProtocolNumber, opt)
}

// Now implements [Target].
func (n *netstack) Now() time.Duration { return n.clock.Elapsed() }

// Inject implements [Target].
func (n *netstack) Inject(packet []byte) error {
	if err := n.link.inject(packet); err != nil {
		return err
	}
	n.Settle()
	return nil
}

// Drain implements [Target].
func (n *netstack) Drain() []Packet { return n.link.drain() }

// maxStepsPerInstant is how many timers may fire at one instant. A stack that
// arms a timer for "now" again and again would otherwise never end.
const maxStepsPerInstant = 100_000

// RunUntil implements [Target]. Between two timers the stack settles. It panics
// if time stands still.
func (n *netstack) RunUntil(t time.Duration) time.Duration {
	completed := n.completed
	steps, since := 0, n.clock.Elapsed()
	for !n.link.pending() && n.completed == completed {
		if !n.clock.Step(t) {
			break
		}
		n.Settle()
		if now := n.clock.Elapsed(); now != since {
			steps, since = 0, now
		} else if steps++; steps > maxStepsPerInstant {
			panic(fmt.Sprintf("%d timers fired at %v and more are due", steps, now))
		}
	}
	return n.clock.Elapsed()
}

// Settle implements [Target]: it lets the goroutines of the protocol finish,
// then retries the calls that block, until neither changes anything.
//
// Pause returns when every goroutine of gVisor's TCP has found its queue
// empty. Without it the order of their work, and with it the bytes on the
// wire, would be the scheduler's.
func (n *netstack) Settle() {
	n.quiesce()
	for n.retryOps() {
		n.quiesce()
	}
}

// quiesce waits for the goroutines of the protocol. One may hand a segment to
// another that was found idle already, as when a SYN ends TIME-WAIT and goes to
// the listener, so it waits twice.
func (n *netstack) quiesce() {
	for range 2 {
		n.proto.Pause()
		n.proto.Resume()
	}
}

// Close implements [Target].
func (n *netstack) Close() {
	for _, d := range n.fds {
		if s, ok := d.(*socket); ok {
			s.ep.Abort()
		}
	}
	n.fds, n.ops = nil, nil
	n.stack.Destroy()
}
