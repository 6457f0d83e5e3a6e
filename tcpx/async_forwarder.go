package tcpx

import (
	"context"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// AsyncForwarderOptions configure an AsyncForwarder.
type AsyncForwarderOptions struct {
	// Decide is called for each request in a goroutine of its own. It may dial first, as long as it takes, and then calls Accept, Reject or Drop; it may
	// also return and leave that to others. A request that nobody decides in time ends by itself, and so does one whose Decide panics.
	Decide func(*AsyncRequest)
	// MaxInFlight bounds the requests that are not decided, beyond which SYNs are dropped; 0 means 1024.
	MaxInFlight int
	// MaxPerDestination bounds those among them that go to one local address and port, so that one dead destination does not take all places; 0 means no bound.
	MaxPerDestination int
	// TimeLimit is how long a decision may take on the stack's clock; 0 means 30 s.
	TimeLimit time.Duration
	// Silent makes requests end without RST when their time is over; the peer tries until its own time is over.
	Silent bool
	// ReceiveBuffer is the receive buffer of the connections in bytes, 0 for the protocol's default.
	ReceiveBuffer int
	// Go runs a function in a goroutine, nil for a go statement. A pool can be put here; it must not run the function inline.
	Go func(func())
}

const (
	defaultAsyncInFlight = 1024
	defaultAsyncLimit    = 30 * time.Second
)

// AsyncForwarder hands connections for which there is no endpoint to a function that accepts or refuses each once it knows whether it can serve it: the peer sees
// SYN-ACK only after, say, the far side has been reached, and RST if it cannot be.
type AsyncForwarder struct {
	core forwarderCore
	opts AsyncForwarderOptions
}

// NewAsyncForwarder returns a forwarder for a stack whose TCP is Plumbline's. It panics for any other stack and without a Decide function.
func NewAsyncForwarder(s *stack.Stack, opts AsyncForwarderOptions) *AsyncForwarder {
	if opts.Decide == nil {
		panic("tcpx: AsyncForwarderOptions without Decide")
	}
	if opts.MaxInFlight <= 0 {
		opts.MaxInFlight = defaultAsyncInFlight
	}
	if opts.TimeLimit <= 0 {
		opts.TimeLimit = defaultAsyncLimit
	}
	if opts.Go == nil {
		opts.Go = func(f func()) { go f() }
	}
	f := &AsyncForwarder{opts: opts}
	f.core.init(s, opts.ReceiveBuffer, opts.MaxInFlight, opts.MaxPerDestination)
	return f
}

// InFlight returns the number of requests that are not decided. It is safe for concurrent use.
func (f *AsyncForwarder) InFlight() int { return f.core.inFlight() }

// HandlePacket is what Stack.SetTransportProtocolHandler takes. It handles a packet if it asks for a connection, that is if it is a sound SYN without ACK, and reports
// whether it did.
func (f *AsyncForwarder) HandlePacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	s, handled := f.core.take(id, pkt)
	if s == nil {
		return handled
	}
	r := &AsyncRequest{slot: s}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	f.core.mu.Lock()
	s.canceled = r.Drop
	f.core.mu.Unlock()
	r.mu.Lock()
	r.timer = f.core.proto.stack.Clock().AfterFunc(f.opts.TimeLimit, func() { r.end(!f.opts.Silent) })
	r.mu.Unlock()
	f.opts.Go(func() {
		returned := false
		defer func() {
			if !returned {
				r.Reject()
			}
		}()
		f.opts.Decide(r)
		returned = true
	})
	return true
}

// AsyncRequest is a connection that a peer asks for. Its methods are safe for concurrent use; the first of Accept, Reject and Drop decides, unless the time limit or the
// peer was faster.
type AsyncRequest struct {
	slot   *slot
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	decided bool
	timer   tcpip.Timer
}

// ID returns the connection's addresses and ports; the local ones are where the peer wants to connect to.
func (r *AsyncRequest) ID() stack.TransportEndpointID { return r.slot.id }

// Context returns a context that is done when there is nothing more to decide: the time limit is over, the peer has given up, or the request is decided.
// It is meant for dialling.
func (r *AsyncRequest) Context() context.Context { return r.ctx }

// ForwardedPacketExperimentOption returns the value of the SYN's experiment option and whether it has one.
func (r *AsyncRequest) ForwardedPacketExperimentOption() (uint16, bool) { return r.slot.experiment() }

// Accept answers the SYN and waits until the handshake is over. The connection's events go to queue. It returns ErrInvalidEndpointState if there was nothing more to
// decide, else the error that ended the handshake.
func (r *AsyncRequest) Accept(queue *waiter.Queue) (*Endpoint, tcpip.Error) {
	if !r.decide() {
		return nil, &tcpip.ErrInvalidEndpointState{}
	}
	defer r.slot.free()
	return r.slot.open(queue)
}

// Reject refuses the connection with RST.
func (r *AsyncRequest) Reject() { r.end(true) }

// Drop forgets the request without an answer.
func (r *AsyncRequest) Drop() { r.end(false) }

func (r *AsyncRequest) end(reset bool) {
	if !r.decide() {
		return
	}
	if reset {
		r.slot.refuse()
	}
	r.slot.free()
}

// decide reports whether the caller is the one to decide.
func (r *AsyncRequest) decide() bool {
	r.mu.Lock()
	first := !r.decided
	r.decided = true
	if first && r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.cancel()
	return first
}
