package pmtu

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Path is what an MTU belongs to: a destination, by a next hop where a host has several. The zero values of NIC and NextHop stand for any.
type Path struct {
	NIC     tcpip.NICID
	NextHop tcpip.Address
	Remote  tcpip.Address
	// Inbound is the way back, from Remote to us: what we tell Remote to send.
	Inbound bool
}

// v6 reports whether the destination is an IPv6 address.
func (p Path) v6() bool { return p.Remote.BitLen() == 8*header.IPv6AddressSize }

// String formats the path as "destination via next-hop dev nic", with "inbound" behind it if that is what it is.
func (p Path) String() string {
	s := p.Remote.String()
	if p.NextHop.BitLen() != 0 {
		s += " via " + p.NextHop.String()
	}
	if p.NIC != 0 {
		s += fmt.Sprint(" dev ", int32(p.NIC))
	}
	if p.Inbound {
		s += " inbound"
	}
	return s
}

// Origin says how an MTU was found.
type Origin uint8

// The origins: an ICMP error that named the MTU, one that did not (RFC 1191 §5), probes, or a black hole: larger packets vanished without an ICMP error, and what
// the path carries is not found yet, or cannot be, as for an inbound path.
const (
	FromICMP Origin = iota
	FromPlateau
	FromProbe
	FromBlackHole
)

// String names the origin.
func (o Origin) String() string {
	switch o {
	case FromICMP:
		return "icmp"
	case FromPlateau:
		return "plateau"
	case FromBlackHole:
		return "black hole"
	}
	return "probe"
}

// Entry is what the cache holds of a path.
type Entry struct {
	Path   Path
	MTU    uint32
	Origin Origin
	// Fragment says that the path carries less than the floor: IPv4 packets should go without DF, so that a router may fragment them.
	Fragment bool
	Since    tcpip.MonotonicTime
	Expires  tcpip.MonotonicTime
}

// Verdict is what the cache made of an ICMP error.
type Verdict uint8

// The verdicts. All but Lowered change nothing.
const (
	Lowered        Verdict = iota
	RefusedForged          // Options.Validate did not know the packet that it quotes
	RefusedRaise           // the MTU is not smaller than what is in use
	RefusedAbsurd          // below what every link carries, or the quoted packet would have fit
	RefusedMissing         // no MTU, and nothing smaller to try

	numVerdicts
)

var verdictNames = [numVerdicts]string{"lowered", "refused: forged", "refused: not smaller", "refused: absurd", "refused: nothing smaller"}

// String names the verdict.
func (v Verdict) String() string {
	if v < numVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Raise says what an expired entry becomes.
type Raise uint8

const (
	// RaiseToLink forgets it: the link's MTU is tried (Linux).
	RaiseToLink Raise = iota
	// RaiseByPlateau goes up to the next plateau every RaiseInterval (RFC 1191 §6.3), until the link's MTU is reached.
	RaiseByPlateau
)

// Options configure a Cache. Zero fields have the defaults named.
type Options struct {
	// Validate reports whether the packet that an error quotes is in flight (RFC 5927 §4). nil believes every error: right only if the caller of TooBig
	// has checked, as a TCP does by the sequence number.
	Validate func(Path, Report) bool
	// FloorIPv4 is the least MTU that an error can bring about for IPv4: 552 by default, as in Linux; what is below is answered with Entry.Fragment.
	FloorIPv4 uint32
	// Expire is how long an MTU below the link's is used until a larger one is tried: 10 minutes by default (RFC 1191 §6.3, RFC 8201 §4).
	Expire time.Duration
	// Raise says how. RaiseInterval is the time between steps of RaiseByPlateau: 2 minutes by default.
	Raise         Raise
	RaiseInterval time.Duration
	// MaxEntries bounds the cache: 4,096 by default. The least recently used entry goes first.
	MaxEntries int
	// Plateaus are the MTUs to try when a router names none, descending: RFC 1191's table 7-1 with Ethernet's, jumbo frames' and IPv6's least by default.
	Plateaus []uint32
	// OnChange is told when the MTU of a path changes by an error, a probe or a black hole, with no lock of the cache held. Whoever reported waits for it: in tcpx that is
	// a connection with its lock held, which OnChange must not use.
	OnChange func(Entry)
}

// plateaus is RFC 1191 §7.1 with 9000, 1500 and 1280.
var plateaus = []uint32{65535, 32000, 17914, 9000, 8166, 4352, 2002, 1500, 1492, 1280, 1006, 576, 508, 296, 68}

// Stats counts what became of ICMP errors, and evictions.
type Stats struct {
	Verdicts [numVerdicts]uint64
	Evicted  uint64
	Expired  uint64
}

// Cache holds the MTUs of paths that are smaller than their link's. It is safe for concurrent use.
type Cache struct {
	clock tcpip.Clock
	opts  Options
	// version changes with every change of an entry that is not due to time.
	version atomic.Uint64

	mu      sync.Mutex
	entries map[Path]*list.Element
	lru     list.List
	stats   Stats
}

// New returns an empty cache with the time of clock: a stack's, by Stack.Clock.
func New(clock tcpip.Clock, opts Options) *Cache {
	if opts.FloorIPv4 == 0 {
		opts.FloorIPv4 = 552
	}
	opts.FloorIPv4 = max(opts.FloorIPv4, header.IPv4MinimumMTU)
	if opts.Expire <= 0 {
		opts.Expire = 10 * time.Minute
	}
	if opts.RaiseInterval <= 0 {
		opts.RaiseInterval = 2 * time.Minute
	}
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = 4096
	}
	if len(opts.Plateaus) == 0 {
		opts.Plateaus = plateaus
	}
	return &Cache{clock: clock, opts: opts, entries: make(map[Path]*list.Element)}
}

// floor returns the least MTU that a path can get.
func (c *Cache) floor(p Path) uint32 {
	if p.v6() {
		return header.IPv6MinimumMTU
	}
	return c.opts.FloorIPv4
}

// MTU returns the MTU of a path over a link with the given one.
func (c *Cache) MTU(p Path, link uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.lookup(p, link); e != nil {
		return min(e.MTU, link)
	}
	return link
}

// Lookup returns the entry of a path, and false if its MTU is that of the link.
func (c *Cache) Lookup(p Path, link uint32) (Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.lookup(p, link); e != nil {
		return *e, true
	}
	return Entry{}, false
}

// lookup returns the entry of p after what its age has made of it, nil for none, and makes it the most recently used.
func (c *Cache) lookup(p Path, link uint32) *Entry {
	el := c.entries[p]
	if el == nil {
		return nil
	}
	e := el.Value.(*Entry)
	for now := c.clock.NowMonotonic(); !now.Before(e.Expires); {
		next := uint32(0)
		if c.opts.Raise == RaiseByPlateau {
			next = c.above(e.MTU)
		}
		if next == 0 || next >= link {
			c.remove(el)
			c.stats.Expired++
			return nil
		}
		e.MTU, e.Since, e.Fragment = next, e.Expires, false
		e.Expires = e.Expires.Add(c.opts.RaiseInterval)
	}
	c.lru.MoveToFront(el)
	return e
}

// above returns the smallest plateau above mtu, below the largest plateau below it; 0 for none.
func (c *Cache) above(mtu uint32) (next uint32) {
	for _, p := range c.opts.Plateaus {
		if p > mtu {
			next = p
		}
	}
	return next
}

// below returns the first of a descending table that is less than mtu, 0 for none.
func below(table []uint32, mtu uint32) uint32 {
	for _, p := range table {
		if p < mtu {
			return p
		}
	}
	return 0
}

func (c *Cache) remove(el *list.Element) {
	delete(c.entries, el.Value.(*Entry).Path)
	c.lru.Remove(el)
}

// put stores an MTU, and evicts another entry if the cache is full.
func (c *Cache) put(e Entry, expire time.Duration) Entry {
	e.Since = c.clock.NowMonotonic()
	e.Expires = e.Since.Add(expire)
	if el := c.entries[e.Path]; el != nil {
		*el.Value.(*Entry) = e
		c.lru.MoveToFront(el)
		c.version.Add(1)
		return e
	}
	if len(c.entries) >= c.opts.MaxEntries {
		c.remove(c.lru.Back())
		c.stats.Evicted++
	}
	kept := e
	c.entries[e.Path] = c.lru.PushFront(&kept)
	c.version.Add(1)
	return e
}

// TooBig takes an ICMP error about a packet on path p, over a link with the given MTU. The error is believed if Options.Validate says that the packet is in
// flight, and if it makes sense: it never raises the MTU (RFC 1191 §3, RFC 8201 §4), cannot concern a packet that would have fit, cannot take
// IPv6 below 1280 (RFC 8201 §4), nor IPv4 below the floor. An error without an MTU, or with one that no IPv4 link may have, makes the next plateau
// below the quoted packet's size (RFC 1191 §5), unless that is more than what is in use: then the packet is older than the last error.
func (c *Cache) TooBig(p Path, link uint32, r Report) Verdict {
	v, e := c.tooBig(p, link, r)
	if v == Lowered && c.opts.OnChange != nil {
		c.opts.OnChange(e)
	}
	return v
}

func (c *Cache) tooBig(p Path, link uint32, r Report) (v Verdict, changed Entry) {
	valid := c.opts.Validate == nil || c.opts.Validate(p, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.stats.Verdicts[v]++ }()
	if !valid {
		return RefusedForged, Entry{}
	}
	current := link
	if e := c.lookup(p, link); e != nil {
		current = min(current, e.MTU)
	}
	e := Entry{Path: p}
	if e, v = c.judge(e, current, r); v != Lowered {
		return v, Entry{}
	}
	return Lowered, c.put(e, c.opts.Expire)
}

// refuse counts an error that does not lower the MTU.
func (c *Cache) refuse(p Path, r Report) Verdict {
	v := RefusedRaise
	if c.opts.Validate != nil && !c.opts.Validate(p, r) {
		v = RefusedForged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Verdicts[v]++
	return v
}

// judge fills in what an error makes of an entry, current being the MTU in use.
func (c *Cache) judge(e Entry, current uint32, r Report) (Entry, Verdict) {
	floor, v6 := c.floor(e.Path), e.Path.v6()
	e.MTU = r.MTU
	switch {
	case v6 && r.MTU < floor:
		return e, RefusedAbsurd
	case r.MTU >= header.IPv4MinimumMTU && r.Size != 0 && r.MTU >= r.Size:
		return e, RefusedAbsurd
	case r.MTU < header.IPv4MinimumMTU && r.Size > current:
		// Sent before the MTU was lowered, in one burst with what another error was about, or a probe: it does not tell that current is too large.
		return e, RefusedRaise
	case r.MTU < header.IPv4MinimumMTU:
		bound := current
		if r.Size != 0 {
			bound = r.Size
		}
		if e.MTU, e.Origin = below(c.opts.Plateaus, bound), FromPlateau; e.MTU == 0 {
			return e, RefusedMissing
		}
	}
	if e.MTU < floor {
		e.MTU, e.Fragment = floor, true
	}
	if e.MTU >= current {
		return e, RefusedRaise
	}
	return e, Lowered
}

// Found stores what probing found: the MTU may go up or down. With an MTU of the link's or more the entry is removed.
func (c *Cache) Found(p Path, link, mtu uint32) {
	c.mu.Lock()
	old := c.lookup(p, link)
	if mtu >= link {
		if old != nil {
			c.remove(c.entries[p])
			c.version.Add(1)
		}
		c.mu.Unlock()
		if old != nil && c.opts.OnChange != nil {
			c.opts.OnChange(Entry{Path: p, MTU: link, Origin: FromProbe, Since: c.clock.NowMonotonic()})
		}
		return
	}
	same := old != nil && old.MTU == mtu
	e := c.put(Entry{Path: p, MTU: max(mtu, header.IPv4MinimumMTU), Origin: FromProbe}, c.opts.Expire)
	c.mu.Unlock()
	if !same && c.opts.OnChange != nil {
		c.opts.OnChange(e)
	}
}

// Vanished stores that packets larger than mtu vanish on path p without an ICMP error, while such of mtu octets pass (RFC 2923 §2.1). It never raises the MTU.
// A Flow does it for its own packets. For an inbound path, who receives can tell: if small packets of Remote arrive and prove that large ones were sent.
func (c *Cache) Vanished(p Path, link, mtu uint32) {
	c.blackHole(p, link, mtu, false)
}

// climbed stores that after a black hole packets of mtu were seen to pass, unless somebody knows better.
func (c *Cache) climbed(p Path, link, mtu uint32) {
	c.blackHole(p, link, mtu, true)
}

// blackHole is Vanished or climbed.
func (c *Cache) blackHole(p Path, link, mtu uint32, up bool) {
	mtu = max(mtu, header.IPv4MinimumMTU)
	c.mu.Lock()
	old := c.lookup(p, link)
	news := old == nil || mtu < old.MTU
	if up {
		news = old != nil && old.Origin == FromBlackHole && mtu > old.MTU
	}
	if mtu >= link || !news {
		c.mu.Unlock()
		return
	}
	e := c.put(Entry{Path: p, MTU: mtu, Origin: FromBlackHole}, c.opts.Expire)
	c.mu.Unlock()
	if c.opts.OnChange != nil {
		c.opts.OnChange(e)
	}
}

// Announce returns the size of the largest packet that p.Remote should be told to send, over a link with the given MTU: less than that if a black hole was found on
// either way, for where no router tells us none tells Remote either. What ICMP errors said of our packets does not count, since the way back may be another
// (RFC 1191 §3.1).
func (c *Cache) Announce(p Path, link uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	mtu := link
	for _, p.Inbound = range [...]bool{false, true} {
		if e := c.lookup(p, link); e != nil && (e.Origin == FromProbe || e.Origin == FromBlackHole) {
			mtu = min(mtu, e.MTU)
		}
	}
	return mtu
}

// Entries lists the entries that have not expired, by destination.
func (c *Cache) Entries() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.NowMonotonic()
	var all []Entry
	for el := c.lru.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*Entry); now.Before(e.Expires) || c.opts.Raise == RaiseByPlateau {
			all = append(all, *e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int {
		if n := slices.Compare(a.Path.Remote.AsSlice(), b.Path.Remote.AsSlice()); n != 0 {
			return n
		}
		if n := slices.Compare(a.Path.NextHop.AsSlice(), b.Path.NextHop.AsSlice()); n != 0 {
			return n
		}
		if a.Path.NIC != b.Path.NIC {
			return cmp.Compare(a.Path.NIC, b.Path.NIC)
		}
		if a.Path.Inbound {
			return 1
		}
		return -1
	})
	return all
}

// Flush removes the entries for which match is true, all if it is nil, and returns their number.
func (c *Cache) Flush(match func(Entry) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for el := c.lru.Front(); el != nil; {
		next := el.Next()
		if match == nil || match(*el.Value.(*Entry)) {
			c.remove(el)
			n++
		}
		el = next
	}
	if n > 0 {
		c.version.Add(1)
	}
	return n
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Len returns the number of entries.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
