package tcpx

import (
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// ConnectWithData is Connect and Write in one, as sendto with MSG_FASTOPEN is on Linux: an active OPEN whose SYN carries data if there is a cookie of the server (RFC 7413). It returns
// how much of the data was taken, at most what one SYN holds. Without a cookie, or without data, it returns ErrConnectStarted, having taken nothing and asked the server for a
// cookie: the caller writes when the socket is writable. On a connection that exists it is Write. Beside the errors of these two it returns ErrNotSupported if the stack is no client
// of Fast Open, and ErrAlreadyConnecting. The data may reach the server's program twice: see FastOpenConfig.
func (e *Endpoint) ConnectWithData(addr tcpip.FullAddress, p tcpip.Payloader) (int64, tcpip.Error) {
	e.lock()
	defer e.leave()
	switch state := e.stateLocked(); {
	case e.phase == phaseDeferred:
	case connecting(state) && !e.usable(state):
		return 0, &tcpip.ErrAlreadyConnecting{}
	case e.phase != phaseInitial && e.phase != phaseBound:
		return e.writeLocked(p, false, false)
	case !e.proto.fastOpenConfig().Client:
		return 0, &tcpip.ErrNotSupported{}
	default:
		if err := e.prepare(addr); err != nil {
			e.connectFailed(err)
			return 0, err
		}
	}
	n, err := e.start(p)
	if err == nil && n == 0 {
		err = &tcpip.ErrConnectStarted{}
	}
	return int64(n), err
}

// deferredWrite is the first write to a socket whose Connect has waited for it. The caller holds e.mu.
func (e *Endpoint) deferredWrite(p tcpip.Payloader) (int64, tcpip.Error) {
	empty := p.Len() == 0
	n, err := e.start(p)
	if err == nil && n == 0 && !empty {
		err = &tcpip.ErrWouldBlock{}
	}
	return int64(n), err
}

// start sends the SYN, with data of p if there is any and Fast Open lets it, and returns how much. p is nil for a connection that wants no part in Fast Open. The caller holds e.mu.
func (e *Endpoint) start(p tcpip.Payloader) (int, tcpip.Error) {
	e.disarm()
	e.phase = phaseOpen
	e.tcb.Init(e.currentConfig(), (*owner)(e), e.tcb.Settings)
	now := e.proto.now()
	params := e.openParams(now)
	e.proto.tcpStats.ActiveConnectionOpenings.Increment()
	f, text := e.fastOpenAttempt(now, p != nil)
	if f == nil {
		e.tcb.OpenActive(now, &params)
		e.collect()
		return 0, nil
	}
	e.tcb.Tune().FastOpen = f
	size := 0
	if text {
		size = p.Len()
	}
	n, err := e.tcb.OpenFast(now, &params, p, size)
	if n > 0 {
		e.proto.stats.FastOpenActive.Increment()
	}
	e.collect()
	if err != nil && n == 0 && size > 0 {
		return 0, &tcpip.ErrBadBuffer{}
	}
	return n, nil
}

// fastOpenAttempt decides how an active OPEN takes part in Fast Open, nil for not at all, and whether its SYN may carry text. The caller holds e.mu.
func (e *Endpoint) fastOpenAttempt(now tcb.Time, wanted bool) (f *tcb.FastOpen, text bool) {
	c := e.proto.fastOpenConfig()
	if !wanted || !c.Client {
		return nil, false
	}
	known, avoid := e.proto.fast.cache.lookup(&e.id, now)
	f = &tcb.FastOpen{MSS: known.mss}
	switch {
	case c.ClientWithoutCookie || e.fastOptions().noCookie:
		if f.MSS == 0 {
			f.MSS = maxMSS // the path is what bounds it
		}
		return f, !avoid.text
	case known.cookie.Present:
		if avoid.text {
			return nil, false
		}
		f.Offer = known.cookie
		return f, true
	case avoid.request:
		return nil, false
	}
	f.Offer.Present = true
	f.Offer.Experimental = c.Experimental && known.tried == 1
	return f, false
}

// defersConnect tells whether Connect is to wait for the first write. The caller holds e.mu.
func (e *Endpoint) defersConnect() bool {
	if !e.fastOptions().connect {
		return false
	}
	_, text := e.fastOpenAttempt(e.proto.now(), true)
	return text
}

// deferLimit is for how long a socket that has been read waits for its first write: with a server that speaks first there may never be one.
const deferLimit = 200 * time.Millisecond

// deferredRead makes a connection that waits for its first write begin without it before long. The caller holds e.mu.
func (e *Endpoint) deferredRead() {
	if e.timer == nil {
		e.timer = e.proto.stack.Clock().AfterFunc(deferLimit, e.onTimer)
	}
}

// fastOpenAnswered remembers what the server's answer tells. The caller holds e.mu.
func (e *Endpoint) fastOpenAnswered(f *tcb.FastOpen) {
	p, now := e.proto, e.proto.now()
	c := p.fastOpenConfig()
	p.fast.cache.answered(&e.id, f, now, max(c.CacheSize, 1))
	switch {
	case f.SynText == 0:
	case f.Taken > 0:
		p.stats.FastOpenActiveAccepted.Increment()
	default:
		p.stats.FastOpenActiveRefused.Increment()
	}
}

// fastOpenFailed remembers that nobody answered an attempt, if that is how it ended. The caller holds e.mu.
func (e *Endpoint) fastOpenFailed() {
	f := e.tcb.FastOpen
	if f == nil || f.Accept || f.Answered {
		return
	}
	switch e.tcb.Err() {
	case tcb.ReasonTimeout, tcb.ReasonHostUnreachable, tcb.ReasonNetUnreachable, tcb.ReasonPortUnreachable, tcb.ReasonProtoUnreachable:
		c := e.proto.fastOpenConfig()
		e.proto.fast.cache.failed(&e.id, f.SynText > 0, e.proto.now(), max(c.CacheSize, 1))
	}
}

// pathKey names a path as the cache does.
func pathKey(id *stack.TransportEndpointID, port uint16) fastOpenPath {
	return fastOpenPath{id.LocalAddress, id.RemoteAddress, port}
}

// noText is no data to go with a SYN.
type noText struct{}

// Read implements io.Reader.
func (noText) Read([]byte) (int, error) { return 0, io.EOF }

// Len implements tcpip.Payloader.
func (noText) Len() int { return 0 }
