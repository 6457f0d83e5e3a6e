package testbed

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// socket is an endpoint whose notifications queue it to be served. It acts between two timers, in an order that does not depend on goroutines.
type socket struct {
	world *world
	// id orders sockets that are ready at the same time.
	id     int
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	entry  waiter.Entry
	act    func()
	queued atomic.Bool
}

// open makes an endpoint of a stack.
func (w *world) open(s *stack.Stack, id int, mask waiter.EventMask, act func()) (*socket, error) {
	wq := new(waiter.Queue)
	ep, err := s.NewEndpoint(header.TCPProtocolNumber, ipv4.ProtocolNumber, wq)
	if err != nil {
		return nil, fmt.Errorf("new endpoint: %v", err)
	}
	return w.adopt(ep, wq, id, mask, act), nil
}

// adopt makes a socket of an endpoint and queues it.
func (w *world) adopt(ep tcpip.Endpoint, wq *waiter.Queue, id int, mask waiter.EventMask, act func()) *socket {
	s := &socket{world: w, id: id, ep: ep, wq: wq, act: act}
	s.entry.Init(s, mask)
	wq.EventRegister(&s.entry)
	s.wake()
	return s
}

// NotifyEvent implements waiter.EventListener.
func (s *socket) NotifyEvent(waiter.EventMask) { s.wake() }

// wake queues the socket.
func (s *socket) wake() {
	if s.queued.Swap(true) {
		return
	}
	w := s.world
	w.mu.Lock()
	w.ready = append(w.ready, s)
	w.mu.Unlock()
}

// order puts sockets into an order that does not depend on goroutines.
func (w *world) order(turn []*socket) {
	if len(turn) > 1 {
		slices.SortFunc(turn, func(a, b *socket) int { return cmp.Compare(a.id, b.id) })
	}
}

// close closes the endpoint.
func (s *socket) close() {
	if s == nil || s.ep == nil {
		return
	}
	s.wq.EventUnregister(&s.entry)
	s.act = func() {}
	s.ep.Close()
}

// listen makes the right host of a pair accept the connections of its flows.
func (w *world) listen(p *pair) (*socket, error) {
	var l *socket
	accept := func() {
		for {
			var peer tcpip.FullAddress
			ep, wq, err := l.ep.Accept(&peer)
			if err != nil {
				return // Nothing more to accept.
			}
			f := p.ports[peer.Port]
			if f == nil || f.receiver != nil {
				ep.Abort()
				continue
			}
			f.receiver = w.adopt(ep, wq, 2*f.index+1, waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr, f.receive)
		}
	}
	l, err := w.open(p.right, -1, waiter.ReadableEvents, accept)
	if err != nil {
		return nil, err
	}
	if err := l.ep.Bind(tcpip.FullAddress{Port: serverPort}); err != nil {
		return l, fmt.Errorf("bind: %v", err)
	}
	if err := l.ep.Listen(len(p.ports) + 1); err != nil {
		return l, fmt.Errorf("listen: %v", err)
	}
	return l, nil
}
