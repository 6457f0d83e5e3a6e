package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/internal/relay"
)

// dialTimeout is how long either side may take to connect.
const dialTimeout = 30 * time.Second

// Proxy is a running proxy. Its methods may be called concurrently.
type Proxy struct {
	stack *stack.Stack
	link  stack.LinkEndpoint
	host  Host
	log   *slog.Logger

	ctx    context.Context // ends when connections are to be aborted
	cancel context.CancelFunc

	accepting sync.WaitGroup // accept loops
	relaying  sync.WaitGroup // connections

	mu        sync.Mutex
	listeners []io.Closer             // guarded by mu
	conns     map[relay.Conn]struct{} // guarded by mu, nil once aborted

	toHost   relay.Counters // A is the netstack, B the host
	accepted atomic.Uint64
	active   atomic.Int64
	failed   atomic.Uint64
	broken   atomic.Uint64
	done     atomic.Uint64
}

// Stats count what the proxy did.
type Stats struct {
	// Accepted connections, on either side. Active of them are being relayed
	// or connected.
	Accepted uint64
	Active   int64
	// DialFailed connections were reset because the other side could not be
	// reached, Aborted ones because one side failed, and Completed ones ended
	// with a FIN in both directions.
	DialFailed, Aborted, Completed uint64
	// ToHost and FromHost are bytes of payload relayed.
	ToHost, FromHost uint64
	// Stack are the counters of the netstack.
	Stack tcpip.Stats
}

// New starts a proxy. The error is a *ConfigError if c cannot work. The link is
// the proxy's to close on success and the caller's after an error.
func New(c Config) (*Proxy, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Host == nil {
		c.Host = system{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s, err := newStack(&c)
	if err != nil {
		return nil, err
	}
	p := &Proxy{stack: s, link: c.Link, host: c.Host, log: c.Log, conns: make(map[relay.Conn]struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.start(&c); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// start opens all listeners and then accepts.
func (p *Proxy) start(c *Config) error {
	var loops []func()
	for _, r := range c.Listen {
		for _, proto := range families(c, r.Listen.Addr()) {
			l, err := listen(p.stack, proto, r.Listen)
			if err != nil {
				return err
			}
			p.listeners = append(p.listeners, l)
			p.log.Info("listening in the netstack", "address", listenName(r.Listen.Addr(), proto, l.port()), "to", r.To)
			loops = append(loops, func() { p.acceptNetstack(l, r) })
		}
	}
	for _, r := range c.Dial {
		l, err := p.host.Listen(p.ctx, r.Listen)
		if err != nil {
			return err
		}
		p.listeners = append(p.listeners, l)
		p.log.Info("listening on the host", "address", l.Addr().String(), "to", r.To.String())
		loops = append(loops, func() { p.acceptHost(l, r) })
	}
	for _, loop := range loops {
		p.accepting.Go(loop)
	}
	return nil
}

// families returns the IP versions to listen on for an address.
func families(c *Config, a netip.Addr) []tcpip.NetworkProtocolNumber {
	if a.IsValid() {
		return []tcpip.NetworkProtocolNumber{protocolOf(a)}
	}
	var v4, v6 bool
	for _, p := range c.Addresses {
		v4 = v4 || p.Addr().Is4()
		v6 = v6 || p.Addr().Is6()
	}
	var protos []tcpip.NetworkProtocolNumber
	if v4 {
		protos = append(protos, header.IPv4ProtocolNumber)
	}
	if v6 {
		protos = append(protos, header.IPv6ProtocolNumber)
	}
	return protos
}

// listenName names a listener for people.
func listenName(a netip.Addr, proto tcpip.NetworkProtocolNumber, port uint16) string {
	switch {
	case a.IsValid():
	case proto == header.IPv4ProtocolNumber:
		a = netip.IPv4Unspecified()
	default:
		a = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(a, port).String()
}

// acceptNetstack relays what is accepted in the netstack to the host.
func (p *Proxy) acceptNetstack(l *listener, r ListenRule) {
	for {
		c, err := l.accept()
		if err != nil {
			return
		}
		p.handle(c, func(ctx context.Context) (relay.Conn, error) {
			return p.host.Dial(ctx, r.To)
		}, true)
	}
}

// acceptHost relays what is accepted on the host into the netstack.
func (p *Proxy) acceptHost(l HostListener, r DialRule) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or the peer gave up. Neither ends a server, but
			// the first would make this a busy loop.
			p.log.Warn("accepting on the host", "error", err)
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		p.handle(c, func(ctx context.Context) (relay.Conn, error) {
			nc, err := dial(ctx, p.stack, r.To)
			if err != nil {
				return nil, err
			}
			return nc, nil
		}, false)
	}
}

// handle relays one connection on a goroutine of its own. Connections of the
// netstack satisfy HostConn as well.
func (p *Proxy) handle(c HostConn, dial func(context.Context) (relay.Conn, error), fromNetstack bool) {
	p.accepted.Add(1)
	p.active.Add(1)
	peer := describe(c)
	p.relaying.Go(func() {
		defer p.active.Add(-1)
		if !p.track(c) {
			c.Abort()
			return
		}
		defer p.untrack(c)
		ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
		other, err := dial(ctx)
		cancel()
		if err != nil {
			// Who connected sees a reset: the nearest thing to a refusal that is
			// left once the connection is accepted.
			c.Abort()
			p.failed.Add(1)
			p.log.Warn("connection not relayed", "peer", peer, "error", err)
			return
		}
		if !p.track(other) {
			other.Abort()
			c.Abort()
			return
		}
		defer p.untrack(other)
		p.log.Debug("connection relayed", "peer", peer)
		a, b := relay.Conn(c), other
		if !fromNetstack {
			a, b = other, relay.Conn(c)
		}
		if err := relay.Join(a, b, &p.toHost); err != nil {
			p.broken.Add(1)
			p.log.Debug("connection aborted", "peer", peer, "error", err)
			return
		}
		p.done.Add(1)
		p.log.Debug("connection completed", "peer", peer)
	})
}

// track remembers a connection for Close. It reports false if that has begun.
func (p *Proxy) track(c relay.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

// untrack forgets a connection.
func (p *Proxy) untrack(c relay.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// Shutdown stops accepting, and returns when the connections that there are
// have ended, and what the netstack had to send has been acknowledged, or ctx
// ends, which is an error. Close is still to be called.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.closeListeners()
	ended := make(chan struct{})
	go func() {
		p.accepting.Wait()
		p.relaying.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// A closed connection goes on sending what was written to it.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.unacknowledged() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// unacknowledged says whether a connection of the netstack waits for the ACK of
// its FIN, which is the last thing that it sends.
func (p *Proxy) unacknowledged() bool {
	for _, ep := range p.stack.RegisteredEndpoints() {
		e, ok := ep.(interface{ State() uint32 })
		if !ok {
			continue
		}
		switch tcp.EndpointState(e.State()) {
		case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			return true
		}
	}
	return false
}

// closeListeners ends the accept loops.
func (p *Proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		_ = l.Close()
	}
	p.listeners = nil
}

// Close resets all connections, removes the NIC, which closes the link, and
// returns when nothing of the proxy is left. It may be called again.
func (p *Proxy) Close() {
	p.closeListeners()
	p.cancel()
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for c := range conns {
		c.Abort()
	}
	p.accepting.Wait()
	p.relaying.Wait()
	// Who still waits for something from a closed connection sees a reset.
	for _, ep := range p.stack.RegisteredEndpoints() {
		ep.Abort()
	}
	// Destroy would wait for the link with the stack locked, and a delivery
	// under way may be waiting for that lock. So the NIC goes first.
	p.stack.RemoveNIC(nicID)
	p.link.Wait()
	p.stack.Destroy()
}

// Stats returns a snapshot of the counters.
func (p *Proxy) Stats() Stats {
	return Stats{
		Accepted:   p.accepted.Load(),
		Active:     p.active.Load(),
		DialFailed: p.failed.Load(),
		Aborted:    p.broken.Load(),
		Completed:  p.done.Load(),
		ToHost:     p.toHost.AToB.Load(),
		FromHost:   p.toHost.BToA.Load(),
		Stack:      p.stack.Stats(),
	}
}

// Print writes s for people.
func (s Stats) Print(w io.Writer) error {
	t := s.Stack.TCP
	_, err := fmt.Fprintf(w, `connections: %d accepted, %d active, %d completed, %d aborted, %d not connected
bytes:       %d to the host, %d from the host
tcp:         %d segments sent, %d received, %d retransmitted, %d timeouts, %d fast recoveries
             %d resets sent, %d received, %d bad checksums, %d segments not sent
ip:          %d packets sent, %d received, %d malformed
`,
		s.Accepted, s.Active, s.Completed, s.Aborted, s.DialFailed,
		s.ToHost, s.FromHost,
		t.SegmentsSent.Value(), t.ValidSegmentsReceived.Value(), t.Retransmits.Value(), t.Timeouts.Value(),
		t.FastRecovery.Value()+t.SACKRecovery.Value(),
		t.ResetsSent.Value(), t.ResetsReceived.Value(), t.ChecksumErrors.Value(), t.SegmentSendErrors.Value(),
		s.Stack.IP.PacketsSent.Value(), s.Stack.IP.PacketsReceived.Value(), s.Stack.IP.MalformedPacketsReceived.Value())
	return err
}
