package tcpx

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// listener is what a listening endpoint has more than others: two queues of connections (RFC 4987 §3.1).
type listener struct {
	// waiting is the length of the accept queue, for those who hold no lock.
	waiting atomic.Int32
	// segments counts what arrived for the listener itself, guarded by the endpoint's lock.
	segments uint64

	mu sync.Mutex
	// backlog bounds the accept queue; so it does the SYN queue if the protocol sets no other bound.
	backlog int
	// syn holds connections in SYN-RECEIVED, ready those that wait to be accepted.
	syn, ready endpointList
	// fast counts connections of Fast Open.
	fast fastQueue
	// shut tells that no connection is taken any more.
	shut bool
}

func newListener(backlog int) *listener {
	return &listener{backlog: backlog, syn: endpointList{kind: synQueue}, ready: endpointList{kind: acceptQueue}}
}

// Listen implements tcpip.Endpoint.Listen: a passive OPEN (RFC 9293 §3.10.1). backlog bounds the connections that wait to be accepted, at least one. A second
// call changes the backlog or revives a listener that was shut down; a socket that is not bound gets an ephemeral port.
func (e *Endpoint) Listen(backlog int) tcpip.Error {
	e.lock()
	defer e.leave()
	err := e.listen(max(backlog, 1))
	if err != nil && !err.IgnoreStats() {
		e.proto.tcpStats.FailedConnectionAttempts.Increment()
		e.statistics().FailedConnectionAttempts.Increment()
	}
	return err
}

func (e *Endpoint) listen(backlog int) tcpip.Error {
	if e.phase == phaseListen {
		return e.lst.resize(backlog)
	}
	if e.phase == phaseInitial {
		if err := e.bind(tcpip.FullAddress{}); err != nil {
			return err
		}
	}
	if e.phase != phaseBound {
		e.statistics().ReadErrors.InvalidEndpointState.Increment()
		return &tcpip.ErrInvalidEndpointState{}
	}
	e.lst = newListener(backlog)
	e.phase = phaseListen // Before packets come.
	if err := e.register(); err != nil {
		e.cleanup()
		return err
	}
	return nil
}

// resize changes the backlog and lets the listener take connections again.
func (l *listener) resize(backlog int) tcpip.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ready.n > backlog {
		return &tcpip.ErrInvalidEndpointState{}
	}
	l.backlog, l.shut = backlog, false
	return nil
}

// Accept implements tcpip.Endpoint.Accept; the endpoint returned is an *Endpoint. It returns ErrWouldBlock if no connection waits.
func (e *Endpoint) Accept(peer *tcpip.FullAddress) (tcpip.Endpoint, *waiter.Queue, tcpip.Error) {
	if e.State() != uint32(tcb.StateListen) {
		return nil, nil, &tcpip.ErrInvalidEndpointState{}
	}
	c, err := e.lst.accept()
	if err != nil {
		return nil, nil, err
	}
	if peer != nil {
		c.lock()
		*peer = c.remoteAddress()
		c.leave()
	}
	return c, c.waiterQueue, nil
}

func (l *listener) accept() (*Endpoint, tcpip.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return nil, &tcpip.ErrInvalidEndpointState{}
	}
	c := l.ready.popFront()
	if c == nil {
		return nil, &tcpip.ErrWouldBlock{}
	}
	l.waiting.Store(int32(l.ready.n))
	return c, nil
}

// add puts a connection into the SYN queue, and reports false if the listener takes none.
func (l *listener) add(c *Endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return false
	}
	l.syn.pushBack(c)
	return true
}

// complete moves a connection to the accept queue, and reports false if nobody can accept it any more.
func (l *listener) complete(c *Endpoint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syn.remove(c)
	if l.shut {
		return false
	}
	l.ready.pushBack(c)
	l.waiting.Store(int32(l.ready.n))
	return true
}

// forget takes a connection out of the SYN queue.
func (l *listener) forget(c *Endpoint) {
	l.mu.Lock()
	l.syn.remove(c)
	l.mu.Unlock()
}

// full reports that the accept queue has no room, and that the SYN queue has none. limit is the protocol's bound of the SYN queue, 0 for none.
func (l *listener) full(limit int) (ready, syn, shut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit <= 0 {
		limit = l.backlog
	}
	return l.ready.n >= l.backlog, l.syn.n >= limit, l.shut
}

// reset aborts all connections that wait, and takes no more if shut. The caller holds no endpoint's lock.
func (l *listener) reset(shut bool) {
	l.mu.Lock()
	l.shut = shut
	var all []*Endpoint
	for _, q := range []*endpointList{&l.syn, &l.ready} {
		for c := q.popFront(); c != nil; c = q.popFront() {
			all = append(all, c)
		}
	}
	l.waiting.Store(0)
	l.mu.Unlock()
	for _, c := range all {
		c.Abort()
		c.Close()
	}
}

// GetAcceptConn implements tcpip.SocketOptionsHandler.GetAcceptConn.
func (e *Endpoint) GetAcceptConn() bool { return e.State() == uint32(tcb.StateListen) }
