package tcpx

import (
	"runtime"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Forwarder hands connections for which there is no endpoint to a function, which decides about each. It has the methods of gVisor's tcp.Forwarder:
// HandlePacket is what Stack.SetTransportProtocolHandler takes. See AsyncForwarder for one that cannot run out of slots.
type Forwarder struct {
	core    forwarderCore
	handler func(*ForwarderRequest)
}

// NewForwarder returns a forwarder for a stack whose TCP is Plumbline's; it panics for any other. rcvWnd is the receive buffer of the connections in
// bytes, 0 for the default; maxInFlight bounds the requests that are not completed, beyond which SYNs are dropped. handler is called for each request in a goroutine of
// its own, and must see to it that Complete is called; a request that is garbage without it gives its place back.
func NewForwarder(s *stack.Stack, rcvWnd, maxInFlight int, handler func(*ForwarderRequest)) *Forwarder {
	f := &Forwarder{handler: handler}
	f.core.init(s, rcvWnd, maxInFlight, 0)
	return f
}

// HandlePacket handles a packet if it asks for a connection, that is if it is a sound SYN without ACK. It reports whether it did.
func (f *Forwarder) HandlePacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	s, handled := f.core.take(id, pkt)
	if s == nil {
		return handled
	}
	r := &ForwarderRequest{slot: s}
	runtime.AddCleanup(r, (*slot).free, s)
	go f.handler(r)
	return true
}

// ForwarderRequest is a connection that a peer asks for. Its methods are safe for concurrent use.
type ForwarderRequest struct {
	slot *slot

	mu   sync.Mutex
	done bool
}

// ID returns the connection's addresses and ports; the local ones are where the peer wants to connect to.
func (r *ForwarderRequest) ID() stack.TransportEndpointID { return r.slot.id }

// Complete ends the request, and refuses the connection with RST if sendReset is set. It panics if the request has been completed, as stock's does.
func (r *ForwarderRequest) Complete(sendReset bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		panic("tcpx: forwarder request completed twice")
	}
	r.done = true
	if sendReset {
		r.slot.refuse()
	}
	r.slot.free()
}

// CreateEndpoint answers the SYN and waits until the handshake is over. The connection's events go to queue. It returns the error that ended the handshake, and
// ErrInvalidEndpointState if the request has been completed. The endpoint is an *Endpoint.
func (r *ForwarderRequest) CreateEndpoint(queue *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return nil, &tcpip.ErrInvalidEndpointState{}
	}
	e, err := r.slot.open(queue)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ForwardedPacketExperimentOption returns the value of the SYN's experiment option and whether it has one.
func (r *ForwarderRequest) ForwardedPacketExperimentOption() (uint16, bool) {
	return r.slot.experiment()
}

// forwarderCore is what both forwarders have in common: which requests are in flight.
type forwarderCore struct {
	proto  *protocol
	rcvBuf int
	// max bounds the requests in flight, perHost those towards one local address and port if it is not 0.
	max, perHost int

	mu sync.Mutex
	// slots are the requests in flight, hosts how many go to each local address and port; guarded by mu.
	slots map[stack.TransportEndpointID]*slot
	hosts map[hostPort]int
}

type hostPort struct {
	addr tcpip.Address
	port uint16
}

func (c *forwarderCore) init(s *stack.Stack, rcvBuf, maxInFlight, perHost int) {
	p := protocolOf(s)
	if p == nil {
		panic("tcpx: a forwarder needs a stack with Plumbline's TCP")
	}
	c.proto, c.rcvBuf, c.max, c.perHost = p, rcvBuf, maxInFlight, perHost
	c.slots = make(map[stack.TransportEndpointID]*slot)
	c.hosts = make(map[hostPort]int)
	p.forwarding.Store(true)
}

// slot is one request in flight.
type slot struct {
	core *forwarderCore
	id   stack.TransportEndpointID
	syn  *inbound
	irs  tcb.Seq
	// exp is the SYN's experiment option, -1 for none.
	exp  int32
	once sync.Once
	// canceled is called if the peer gives up; guarded by core.mu.
	canceled func()
}

// take makes a request of a packet. If it makes none it returns whether the packet has been dealt with.
func (c *forwarderCore) take(id stack.TransportEndpointID, pkt *stack.PacketBuffer) (s *slot, handled bool) {
	hdr := header.TCP(pkt.TransportHeader().Slice())
	if len(hdr) < header.TCPMinimumSize {
		return nil, false
	}
	switch flags := tcb.Flags(hdr.Flags()); {
	case flags.Has(tcb.RST):
		c.peerGaveUp(id, tcb.Seq(hdr.SequenceNumber()))
		return nil, false
	case !flags.Has(tcb.SYN) || flags.Has(tcb.ACK):
		return nil, false
	}
	syn := c.proto.parse(id, pkt, nil)
	if syn == nil {
		return nil, false
	}
	s = &slot{core: c, id: id, syn: syn, irs: syn.seg.Seq, exp: experimentOf(pkt)}
	if !c.claim(s) {
		syn.release()
		return nil, true
	}
	return s, true
}

// claim puts s among the requests in flight, unless it is there already or there are too many.
func (c *forwarderCore) claim(s *slot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, dup := c.slots[s.id]; dup {
		return false
	}
	h := hostPort{s.id.LocalAddress, s.id.LocalPort}
	if len(c.slots) >= c.max || (c.perHost > 0 && c.hosts[h] >= c.perHost) {
		c.proto.tcpStats.ForwardMaxInFlightDrop.Increment()
		return false
	}
	c.slots[s.id] = s
	c.hosts[h]++
	return true
}

// peerGaveUp cancels a request whose peer sent RST, if the RST is for its SYN.
func (c *forwarderCore) peerGaveUp(id stack.TransportEndpointID, seq tcb.Seq) {
	c.mu.Lock()
	s := c.slots[id]
	var canceled func()
	if s != nil && seq-s.irs <= 1 {
		canceled = s.canceled
	}
	c.mu.Unlock()
	if canceled != nil {
		canceled()
	}
}

func (c *forwarderCore) inFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}

// experimentOf returns the experiment option of a packet, -1 if it has none. Looking for it is expensive for packets with extension headers only.
func experimentOf(pkt *stack.PacketBuffer) int32 {
	h := pkt.NetworkHeader().Slice()
	switch {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(h) <= header.IPv4MinimumSize:
		return -1
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(h) <= header.IPv6MinimumSize:
		return -1
	}
	if v, ok := pkt.ExperimentOptionValue(); ok {
		return int32(v)
	}
	return -1
}

func (s *slot) experiment() (uint16, bool) { return uint16(s.exp), s.exp >= 0 }

// free ends the request; it may be called more than once.
func (s *slot) free() {
	s.once.Do(func() {
		s.syn.release()
		s.syn = nil
		c := s.core
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.slots, s.id)
		h := hostPort{s.id.LocalAddress, s.id.LocalPort}
		if c.hosts[h]--; c.hosts[h] <= 0 {
			delete(c.hosts, h)
		}
	})
}

// refuse answers the SYN with RST.
func (s *slot) refuse() { s.core.proto.refuse(s.syn) }

// open answers the SYN with SYN-ACK and waits until the handshake is over.
func (s *slot) open(queue *waiter.Queue) (*Endpoint, tcpip.Error) {
	p := s.core.proto
	entry, wakeup := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)

	e, err := p.newChild(s.syn, nil, queue)
	if err != nil {
		return nil, err
	}
	if s.core.rcvBuf > 0 {
		e.tcb.RcvBuf = s.core.rcvBuf
		e.ops.SetReceiveBufferSize(int64(s.core.rcvBuf), false)
	}
	e.connectNotified = true
	now := p.now()
	params := e.openParams(now)
	e.tcb.OpenPassive(now, &params, &s.syn.seg)
	e.collect()
	e.leave()
	for connecting(e.EndpointState()) {
		<-wakeup
	}
	if connected(e.EndpointState()) {
		p.tcpStats.PassiveConnectionOpenings.Increment()
		return e, nil
	}
	err = e.LastError()
	e.Close()
	if err == nil {
		err = &tcpip.ErrConnectionAborted{}
	}
	return nil, err
}
