package tcpx

import (
	"container/list"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// fastOpenCache is what a client remembers of servers (RFC 7413 §4.1.3): their cookies and MSS by pairs of addresses, and for pairs with a port that they did not like
// Fast Open (§4.1.3.1). Its zero value is empty.
type fastOpenCache struct {
	mu      sync.Mutex
	entries map[fastOpenPath]*list.Element
	// recent holds the entries, the one used last in front.
	recent list.List
}

// fastOpenPath is a pair of addresses, with the server's port for what is known of a service and not of a server.
type fastOpenPath struct {
	local, remote tcpip.Address
	port          uint16
}

// fastOpenEntry is what is known of a path: a cookie, if cookie.Present, and an MSS; or of a service, how text with SYN and wishes for cookies have failed.
type fastOpenEntry struct {
	path   fastOpenPath
	cookie tcb.FastOpenOption
	mss    uint16
	// tried counts wishes for a cookie that were not heard.
	tried         uint8
	text, request backOff
}

// The bounds of the time for which a path is left alone: it doubles with each failure in a row.
const (
	minFastOpenRest = time.Minute
	maxFastOpenRest = 24 * time.Hour
	// requestTries is how often in a row a SYN with the wish for a cookie must be lost for the option to be suspected, and not the network.
	requestTries = 2
)

// backOff counts failures in a row and tells until when to desist.
type backOff struct {
	failures uint8
	until    tcb.Time
}

// fail counts one more failure, of which those up to free bring no rest.
func (b *backOff) fail(now tcb.Time, free uint8) {
	b.failures = min(b.failures+1, 100)
	if b.failures <= free {
		return
	}
	rest := minFastOpenRest
	for i := free + 1; i < b.failures && rest < maxFastOpenRest; i++ {
		rest *= 2
	}
	b.until = now + min(rest, maxFastOpenRest)
}

// avoidance tells what is not to be tried on a path.
type avoidance struct{ text, request bool }

// lookup returns what is known of a server and what to avoid.
func (c *fastOpenCache) lookup(id *stack.TransportEndpointID, now tcb.Time) (known fastOpenEntry, avoid avoidance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.find(pathKey(id, 0)); e != nil {
		known = *e
	}
	if e := c.find(pathKey(id, id.RemotePort)); e != nil {
		avoid = avoidance{now < e.text.until, now < e.request.until}
	}
	return known, avoid
}

// find returns an entry and counts it as used. The caller holds c.mu.
func (c *fastOpenCache) find(p fastOpenPath) *fastOpenEntry {
	el := c.entries[p]
	if el == nil {
		return nil
	}
	c.recent.MoveToFront(el)
	return el.Value.(*fastOpenEntry)
}

// make returns an entry, a new one if there is none. The caller holds c.mu.
func (c *fastOpenCache) make(p fastOpenPath, limit int) *fastOpenEntry {
	if e := c.find(p); e != nil {
		return e
	}
	if c.entries == nil {
		c.entries = make(map[fastOpenPath]*list.Element)
	}
	for c.recent.Len() >= limit {
		old := c.recent.Back()
		delete(c.entries, c.recent.Remove(old).(*fastOpenEntry).path)
	}
	e := &fastOpenEntry{path: p}
	c.entries[p] = c.recent.PushFront(e)
	return e
}

// answered learns from the answer to a SYN that took part in Fast Open. A cookie that was neither asked for nor the answer to another is not taken.
func (c *fastOpenCache) answered(id *stack.TransportEndpointID, f *tcb.FastOpen, now tcb.Time, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := f.Offer.Present && f.Answer.Len > 0
	if e := c.make(pathKey(id, 0), limit); f.AnswerMSS != 0 || got {
		if f.AnswerMSS != 0 {
			e.mss = f.AnswerMSS
		}
		if got {
			e.cookie = f.Answer
		}
		if f.Offer.Present && f.Offer.Len == 0 && !got && !f.Lost {
			e.tried = min(e.tried+1, 2)
		}
	}
	service := pathKey(id, id.RemotePort)
	switch asked := f.Offer.Present && f.Offer.Len == 0; {
	case f.Taken > 0 || got:
		if el := c.entries[service]; el != nil { // nothing is wrong with it any more
			delete(c.entries, c.recent.Remove(el).(*fastOpenEntry).path)
		}
	case f.SynText > 0:
		c.make(service, limit).text.fail(now, 0)
	case asked && f.Lost:
		c.make(service, limit).request.fail(now, requestTries-1)
	case asked:
		if e := c.find(service); e != nil {
			e.request = backOff{} // it came through, though it was not heard
		}
	}
}

// failed learns that nobody answered a SYN that took part in Fast Open, with text or with the wish for a cookie.
func (c *fastOpenCache) failed(id *stack.TransportEndpointID, text bool, now tcb.Time, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.make(pathKey(id, id.RemotePort), limit)
	if text {
		e.text.fail(now, 0)
	} else {
		e.request.fail(now, requestTries-1)
	}
}

// flush forgets everything.
func (c *fastOpenCache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = nil
	c.recent.Init()
}
