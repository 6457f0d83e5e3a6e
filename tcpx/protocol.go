package tcpx

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// ProtocolNumber is TCP's number in the IP header.
const ProtocolNumber = header.TCPProtocolNumber

// protocol is one stack's TCP.
type protocol struct {
	stack *stack.Stack
	// tcpStats and dropped are the stack's own counters: Stack.Stats copies a large structure at each call.
	tcpStats tcpip.TCPStats
	dropped  *tcpip.StatCounter
	stats    ProtocolStats
	memory   account
	ports    portTable
	// pmtu knows the MTUs of paths, nil without WithPMTU; pmtuConfig is what a connection starts its search from.
	pmtu       *pmtu.Cache
	pmtuConfig pmtu.Config
	// smaller are the segment sizes of Base and Min, for IPv4 and IPv6, which a SYN announces once the peer's large segments vanish; 0 without probing.
	smaller, smaller6 [2]uint16
	secrets           secrets
	fast              fastOpen

	// cfg is what new connections start from. It is replaced, never changed, when an option changes.
	cfg atomic.Pointer[tcb.Config]

	mu sync.RWMutex
	// opts and tuning are guarded by mu; tuning is what new sockets share, replaced and never changed.
	opts   protocolOptions
	tuning *tcb.Tuning

	// timeWait holds the endpoints in TIME-WAIT, oldest first, guarded by timeWaitMu.
	timeWaitMu sync.Mutex
	timeWait   endpointList
	orphans    atomic.Int64

	// lastCookie is when the last SYN cookie was sent, 0 if never: ACKs are tried as cookies only for a while after that.
	lastCookie atomic.Int64
	// forwarding tells that a forwarder exists, which may want a SYN that no endpoint does.
	forwarding atomic.Bool

	pause pauseState
	rng   *rand.Rand
}

var (
	_ stack.TransportProtocol = (*protocol)(nil)
	_ stack.SendBufSizeProto  = (*protocol)(nil)
)

// NewProtocol returns the TCP of a stack with the default configuration. It has the signature of stack.TransportProtocolFactory and takes the place of gVisor's
// tcp.NewProtocol or tcp.NewProtocolCUBIC in stack.Options.TransportProtocols.
func NewProtocol(s *stack.Stack) stack.TransportProtocol { return newProtocol(s, nil) }

// New returns a factory of a TCP with a configuration of its own. It panics if an option is impossible, as an unknown congestion control algorithm is.
func New(opts ...Option) stack.TransportProtocolFactory {
	newOptions(opts) // Report a mistake here and not when a stack is made.
	return func(s *stack.Stack) stack.TransportProtocol { return newProtocol(s, opts) }
}

func newProtocol(s *stack.Stack, opts []Option) *protocol {
	p := &protocol{stack: s}
	p.init(newOptions(opts))
	return p
}

// init prepares the protocol of p.stack.
func (p *protocol) init(o protocolOptions) {
	s := p.stack
	stats := s.Stats()
	p.tcpStats, p.dropped = stats.TCP, stats.DroppedPackets
	p.opts, p.rng = o, newRand(s)
	p.memory.limit = o.memoryBudget
	if o := o.pmtu; o != nil {
		p.pmtu, p.pmtuConfig = pmtu.New(s.Clock(), o.cache), o.config
		p.smaller, p.smaller6 = smallerMSS(o.config, header.IPv4MinimumSize), smallerMSS(o.config, header.IPv6MinimumSize)
	}
	p.timeWait.kind = timeWaitList
	p.secrets.init(s.SecureRNG().Reader)
	p.storeConfig()
}

// protocolOf returns the Plumbline TCP of a stack, nil if it has none.
func protocolOf(s *stack.Stack) *protocol {
	p, _ := s.TransportProtocolInstance(ProtocolNumber).(*protocol)
	return p
}

// now returns the present instant for the core, greater than 0.
func (p *protocol) now() tcb.Time {
	return p.stack.Clock().NowMonotonic().Sub(tcpip.MonotonicTime{}) + 1
}

// Number implements stack.TransportProtocol.Number.
func (*protocol) Number() tcpip.TransportProtocolNumber { return ProtocolNumber }

// NewEndpoint implements stack.TransportProtocol.NewEndpoint.
func (p *protocol) NewEndpoint(netProto tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return p.newEndpoint(netProto, q), nil
}

// NewRawEndpoint implements stack.TransportProtocol.NewRawEndpoint.
func (p *protocol) NewRawEndpoint(netProto tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return raw.NewEndpoint(p.stack, netProto, ProtocolNumber, q)
}

// MinimumPacketSize implements stack.TransportProtocol.MinimumPacketSize.
func (*protocol) MinimumPacketSize() int { return header.TCPMinimumSize }

// ParsePorts implements stack.TransportProtocol.ParsePorts.
func (*protocol) ParsePorts(v []byte) (src, dst uint16, err tcpip.Error) {
	h := header.TCP(v)
	return h.SourcePort(), h.DestinationPort(), nil
}

// Parse implements stack.TransportProtocol.Parse.
func (*protocol) Parse(pkt *stack.PacketBuffer) bool { return parse.TCP(pkt) }

// HandleUnknownDestinationPacket implements stack.TransportProtocol.HandleUnknownDestinationPacket: a segment for a connection that does not exist is answered
// with RST (RFC 9293 §3.10.7.1).
func (p *protocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	s := p.parse(id, pkt, nil)
	if s == nil {
		return stack.UnknownDestinationPacketMalformed
	}
	p.refuse(s)
	s.release()
	return stack.UnknownDestinationPacketHandled
}

// SendBufferSize implements stack.SendBufSizeProto.
func (p *protocol) SendBufferSize() tcpip.TCPSendBufferSizeRangeOption {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.opts.sndBuf
}

// Close implements stack.TransportProtocol.Close. There is nothing to stop: the protocol owns no goroutine.
func (*protocol) Close() {}

// Wait implements stack.TransportProtocol.Wait.
func (*protocol) Wait() {}
