package tcpx

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/siphash"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// FastOpenKey is a secret from which a server makes the cookies of TCP Fast Open.
type FastOpenKey [16]byte

// FastOpenConfig tells how a stack takes part in TCP Fast Open (RFC 7413). Its zero value is how a stack starts: not at all.
//
// Fast Open saves a round trip: a client that has a server's cookie sends data with its SYN, and the server's program gets it, and may answer, before the handshake is
// complete. The price is that **a SYN may arrive twice**, when the network doubles it or it is sent again after the server has restarted, and the program then sees its data
// twice (RFC 7413 §6.1). Only what may be done twice without harm is to be sent like this, as a GET of HTTP or the first flight of TLS.
type FastOpenConfig struct {
	// Client lets sockets ask for cookies and send data with SYN, if they want to: see Endpoint.ConnectWithData and OptFastOpenConnect.
	Client bool
	// Deferred makes new sockets start with OptFastOpenConnect, so that programs use Fast Open without knowing: Connect returns at once if there is a cookie, and the first write
	// goes with the SYN. It is for programs none of whose first writes does harm when it arrives twice.
	Deferred bool
	// Server lets listeners take part, each with its own limit of connections whose handshake is not complete: see OptFastOpen. Backlog is the limit of a listener that has not set
	// one: 0, the default, keeps such listeners out, and a negative number means as many as its backlog.
	Server  bool
	Backlog int
	// Keys are the secrets that cookies are made of: the first makes them, the second, if there is one, made earlier ones that are still good. Servers behind one address need the same.
	// Without keys they are drawn from the stack's randomness, and every KeyLifetime anew; a cookie is good for that long at least and twice that long at most. 0 means 12 hours.
	Keys        []FastOpenKey
	KeyLifetime time.Duration
	// CacheSize bounds the servers that a client remembers, by pairs of addresses; 0 means 1024. Those not used for longest are forgotten first.
	CacheSize int
	// Experimental makes a client whose wish for a cookie was not heard try the option's experimental number once (RFC 7413 appendix A), as Linux does. Servers understand both.
	Experimental bool
	// ClientWithoutCookie and ServerWithoutCookie do without cookies. Whoever can forge a sender's address can then make a server work, and answer somebody else: they are for networks
	// in which nobody can.
	ClientWithoutCookie, ServerWithoutCookie bool
}

// WithFastOpen makes a stack take part in TCP Fast Open. It panics if there are more than two keys or a time is negative.
func WithFastOpen(c FastOpenConfig) Option {
	if len(c.Keys) > 2 || c.KeyLifetime < 0 || c.CacheSize < 0 {
		panic(fmt.Sprintf("tcpx: impossible Fast Open configuration: %d keys, lifetime %v, cache of %d", len(c.Keys), c.KeyLifetime, c.CacheSize))
	}
	if c.KeyLifetime == 0 {
		c.KeyLifetime = defaultKeyLifetime
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultFastOpenCache
	}
	c.Keys = append([]FastOpenKey(nil), c.Keys...)
	return func(o *protocolOptions) { o.fastOpen = &c }
}

const (
	defaultKeyLifetime   = 12 * time.Hour
	defaultFastOpenCache = 1024
)

// FlushFastOpen makes a stack's TCP forget the cookies of servers, and which of them did not like Fast Open.
func FlushFastOpen(s *stack.Stack) {
	if p := protocolOf(s); p != nil {
		p.fast.cache.flush()
	}
}

// fastOpen is what a stack knows for Fast Open.
type fastOpen struct {
	cache fastOpenCache

	mu sync.Mutex
	// keys are drawn from the stack's randomness: the first makes cookies since drawn, the second did before. n is how many there are.
	keys  [2]FastOpenKey
	n     int
	drawn tcb.Time
}

// fastOpenConfig returns the configuration.
func (p *protocol) fastOpenConfig() FastOpenConfig {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.opts.fastOpen == nil {
		return FastOpenConfig{}
	}
	return *p.opts.fastOpen
}

// cookieKeys returns the keys of cookies: the first makes them.
func (p *protocol) cookieKeys(now tcb.Time, c *FastOpenConfig, own []FastOpenKey) []FastOpenKey {
	switch {
	case len(own) > 0:
		return own
	case len(c.Keys) > 0:
		return c.Keys
	}
	f := &p.fast
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 || now-f.drawn >= c.KeyLifetime {
		if f.n > 0 && now-f.drawn >= 2*c.KeyLifetime {
			f.n = 0 // the one before is too old, too
		}
		f.keys[1] = f.keys[0]
		f.n = min(f.n+1, 2)
		f.drawn = now
		if _, err := io.ReadFull(p.stack.SecureRNG().Reader, f.keys[0][:]); err != nil {
			panic(fmt.Sprintf("tcpx: the stack's secure random source failed: %v", err)) // as in secrets.init
		}
	}
	keys := f.keys
	return keys[:f.n]
}

// fastOpenCookie makes the cookie of a peer: SipHash of both addresses, as Linux does, so that servers of both kinds behind one address can share a key.
func fastOpenCookie(key *FastOpenKey, id *stack.TransportEndpointID) (c [8]byte) {
	var b [32]byte
	n := id.RemoteAddress.Len()
	putAddress(b[:], id.RemoteAddress)
	putAddress(b[n:], id.LocalAddress)
	binary.LittleEndian.PutUint64(c[:], siphash.Sum64((*[16]byte)(key), b[:n+id.LocalAddress.Len()]))
	return c
}

// fastSocket is a socket's part in Fast Open.
type fastSocket struct {
	// connect is TCP_FASTOPEN_CONNECT, noCookie TCP_FASTOPEN_NO_COOKIE.
	connect, noCookie bool
	// limit is TCP_FASTOPEN, if limited is set; keys are TCP_FASTOPEN_KEY.
	limited bool
	limit   int
	keys    []FastOpenKey
	// pending is the listener that counts the connection among those whose handshake is not complete.
	pending *listener
}

// fastSocket returns e's part in Fast Open and makes it if need be. The caller holds e.mu.
func (e *Endpoint) fastSocket() *fastSocket {
	x := e.makeExtra()
	if x.fast == nil {
		x.fast = &fastSocket{connect: e.proto.fastOpenConfig().Deferred}
	}
	return x.fast
}

// fastOptions returns e's part in Fast Open, to read. The caller holds e.mu.
func (e *Endpoint) fastOptions() fastSocket {
	if e.extra == nil || e.extra.fast == nil {
		return fastSocket{connect: e.proto.fastOpenConfig().Deferred}
	}
	return *e.extra.fast
}

// SetFastOpenKeys sets a listener's own keys (TCP_FASTOPEN_KEY): one, or a second that made earlier cookies; none makes it use the stack's again. It returns ErrInvalidOptionValue
// for more.
func (e *Endpoint) SetFastOpenKeys(keys ...FastOpenKey) tcpip.Error {
	if len(keys) > 2 {
		return &tcpip.ErrInvalidOptionValue{}
	}
	e.lock()
	defer e.leave()
	e.fastSocket().keys = append([]FastOpenKey(nil), keys...)
	return nil
}

// setFastOpen sets an option of Fast Open by its number.
func (e *Endpoint) setFastOpen(opt, v int) tcpip.Error {
	c := e.proto.fastOpenConfig()
	e.lock()
	defer e.leave()
	switch opt {
	case OptFastOpen:
		if v < 0 || e.phase != phaseInitial && e.phase != phaseBound && e.phase != phaseListen {
			return &tcpip.ErrInvalidOptionValue{}
		}
		f := e.fastSocket()
		f.limited, f.limit = true, v
	case OptFastOpenConnect:
		switch {
		case v < 0 || v > 1:
			return &tcpip.ErrInvalidOptionValue{}
		case !c.Client:
			return &tcpip.ErrNotSupported{}
		case e.phase != phaseInitial && e.phase != phaseBound:
			return &tcpip.ErrInvalidOptionValue{}
		}
		e.fastSocket().connect = v != 0
	case OptFastOpenNoCookie:
		if v < 0 || v > 1 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		e.fastSocket().noCookie = v != 0
	}
	return nil
}

// getFastOpen returns an option of Fast Open by its number.
func (e *Endpoint) getFastOpen(opt int) int {
	e.lock()
	defer e.leave()
	f := e.fastOptions()
	switch opt {
	case OptFastOpen:
		return f.limit
	case OptFastOpenConnect:
		return boolInt(f.connect)
	}
	return boolInt(f.noCookie)
}

// fastOpenFor decides how a SYN takes part in Fast Open (RFC 7413 §4.1.2, §4.2.2), nil if it does not. What it accepts counts as pending. The caller holds e.mu of the listener.
func (e *Endpoint) fastOpenFor(s *inbound, c *FastOpenConfig, now tcb.Time) *tcb.FastOpen {
	if c == nil || !c.Server {
		return nil
	}
	own := e.fastOptions()
	limit := c.Backlog
	if own.limited {
		limit = own.limit
	}
	o := &s.seg.Opts.FastOpen
	open := (c.ServerWithoutCookie || own.noCookie) && s.seg.Len > 0
	if limit == 0 || !o.Present && !open {
		return nil
	}
	stats := &e.proto.stats
	if !e.lst.reserveFast(limit, now) {
		stats.FastOpenOverflows.Increment()
		return nil
	}
	f := &tcb.FastOpen{Accept: open}
	if !open {
		e.checkFastOpen(f, s, e.proto.cookieKeys(now, c, own.keys))
	}
	if !f.Accept {
		e.lst.releaseFast(false, now)
	}
	return f
}

// checkFastOpen judges the Fast Open option of a SYN: f accepts it, or gives a cookie, or both if the peer's is of the key before.
func (e *Endpoint) checkFastOpen(f *tcb.FastOpen, s *inbound, keys []FastOpenKey) {
	o, stats := &s.seg.Opts.FastOpen, &e.proto.stats
	for i := range keys {
		c := fastOpenCookie(&keys[i], &s.id)
		if o.Len == 0 || subtle.ConstantTimeCompare(c[:], o.Cookie()) != 1 {
			continue
		}
		// A connection without data waits for some in SYN-RECEIVED, if the listener wants that.
		if f.Accept = s.seg.Len > 0 || e.tcb.DeferAccept == 0; i == 0 {
			return
		}
		break
	}
	switch {
	case o.Len == 0:
		stats.FastOpenCookiesGiven.Increment()
	case !f.Accept:
		stats.FastOpenPassiveRefused.Increment()
	}
	c := fastOpenCookie(&keys[0], &s.id)
	f.Offer.SetCookie(c[:])
	f.Offer.Experimental = o.Experimental
}

// fastOpenNews takes the news of tcb.EventFastOpen: of a passive open that the connection can be accepted, of which the listener to notify is returned, of an active one what the
// server answered. The caller holds e.mu.
func (e *Endpoint) fastOpenNews() *Endpoint {
	f := e.tcb.FastOpen
	switch {
	case f == nil:
		return nil
	case !f.Accept:
		e.fastOpenAnswered(f)
		return nil
	case e.parent == nil:
		return nil
	}
	e.proto.stats.FastOpenPassive.Increment()
	return e.handOver()
}

// fastOpenEnd takes e off the connections whose handshake is not complete. reset tells that the peer ended it. The caller holds e.mu.
func (e *Endpoint) fastOpenEnd(reset bool) {
	if x := e.extra; x != nil && x.fast != nil && x.fast.pending != nil {
		x.fast.pending.releaseFast(reset, e.proto.now())
		x.fast.pending = nil
	}
}

// fastResetTime is for how long a connection that the peer reset still counts, so that an attacker who forges both SYN and RST gains nothing by the latter (RFC 7413 §5.1).
const fastResetTime = 60 * time.Second

// fastQueue counts a listener's connections of Fast Open whose handshake is not complete (RFC 7413 §4.2, PendingFastOpenRequests).
type fastQueue struct {
	pending int
	// resets are when those that the peer reset stop to count, oldest first.
	resets []tcb.Time
}

// reserveFast counts a connection more if there is room for it. A negative limit stands for the backlog.
func (l *listener) reserveFast(limit int, now tcb.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit < 0 {
		limit = l.backlog
	}
	q := &l.fast
	for len(q.resets) > 0 && q.resets[0] <= now {
		q.resets = q.resets[1:]
	}
	if q.pending+len(q.resets) >= limit {
		return false
	}
	q.pending++
	return true
}

// releaseFast counts one connection less, or later if the peer reset it.
func (l *listener) releaseFast(reset bool, now tcb.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fast.pending--
	if reset {
		l.fast.resets = append(l.fast.resets, now+fastResetTime)
	}
}
