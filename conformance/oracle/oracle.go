package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Options say what is known about a capture. The zero value is right for a file
// of which nothing is known.
type Options struct {
	// Near are the addresses of hosts that the capture was made at: what they
	// send is seen in the order in which they send it, and all that is seen on
	// its way to them arrives. NearAll says so of every host, as where both
	// ends are on one link.
	Near    []netip.Addr
	NearAll bool
	// Complete says that the capture has missed no packet. Without it, rules
	// that depend on that are judged as long as no connection shows a gap;
	// what was found by then is withdrawn if one does, and an acknowledgment
	// of data that was not seen counts as a gap, not as a fault.
	Complete bool
	// Wire says that packets are as they are on the wire: that no device was
	// still to cut segments up or to fill in checksums, and none had joined
	// them.
	Wire bool
	// MaxConnections is how many connections are followed at a time. The one
	// that was silent for longest makes room. 0 means 65536.
	MaxConnections int
	// MaxMemory is about how many octets are kept of all connections together:
	// ranges, times, and data to compare retransmissions with. Connections that
	// were silent for longest make room. 0 means 256 MiB.
	MaxMemory int
	// MaxFindings is how many findings are kept with their text; the rest are
	// counted. 0 means 1000.
	MaxFindings int
	// Observe, if not nil, is called with each segment after it was judged. The
	// segment is valid until it returns.
	Observe func(*Segment)
	// Found, if not nil, is called with each finding as it is made, whether it
	// is kept or not. A finding may be withdrawn later; see Complete.
	Found func(Finding)
}

// Finding is one segment, or the lack of one, that breaks a rule.
type Finding struct {
	Rule string `json:"rule"`
	Tier Tier   `json:"tier"`
	// Confidence is how sure the finding is, above 0 and at most 1, which
	// findings of the hard tier have.
	Confidence float64 `json:"confidence"`
	Section    string  `json:"section"`
	// Packet is the number of the packet that shows it, from 1, and At its
	// time since the first packet.
	Packet int64         `json:"packet"`
	At     time.Duration `json:"at_ns"`
	// From is the end of the connection that broke the rule, To the other.
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"`
	// Connection numbers the connection, from 1 in the order of their first
	// segments, and Segment the segment in it.
	Connection int64 `json:"connection"`
	Segment    int64 `json:"segment"`
	// Text says in one line what is wrong. Sequence numbers in it count from
	// the initial sequence number if that was seen.
	Text string `json:"text"`

	rule ruleID
}

// String returns the finding on one line.
func (f *Finding) String() string {
	sure := string(f.Tier)
	if f.Tier == Soft {
		sure = fmt.Sprintf("soft %.1f", f.Confidence)
	}
	return fmt.Sprintf("%-8s #%d %.6f %v > %v %s: %s (%s)", sure, f.Packet, f.At.Seconds(), f.From, f.To, f.Rule, f.Text, f.Section)
}

// Checker judges the packets of a trace. It is not for concurrent use.
type Checker struct {
	opt  Options
	near map[netip.Addr]bool

	conns map[connKey]*conn
	// oldest and newest are the ends of a list of connections, by when they
	// last had a packet.
	oldest, newest *conn
	seen           int64 // connections
	memory         int   // octets that connections hold
	gaps           int64 // connections of which packets were missed
	missed         uint64

	packets, segments, octets int64
	started                   bool
	first, last               time.Duration
	backwards                 int64

	findings []Finding
	judged   [ruleCount]int64
	broken   [ruleCount]int64
	skipped  map[string]int64
	unknown  map[string]int64
	done     bool

	seg segment
}

// Limits.
const (
	defaultConnections = 1 << 16
	defaultFindings    = 1000
	defaultMemory      = 256 << 20
)

// New returns a Checker.
func New(opt Options) *Checker {
	if opt.MaxConnections <= 0 {
		opt.MaxConnections = defaultConnections
	}
	if opt.MaxMemory <= 0 {
		opt.MaxMemory = defaultMemory
	}
	if opt.MaxFindings <= 0 {
		opt.MaxFindings = defaultFindings
	}
	c := &Checker{
		opt: opt, near: make(map[netip.Addr]bool), conns: make(map[connKey]*conn),
		skipped: make(map[string]int64), unknown: make(map[string]int64),
	}
	for _, a := range opt.Near {
		c.near[a.Unmap()] = true
	}
	return c
}

// Missed notes that the capture has missed n packets, which makes rules that
// need every packet unknown unless Options.Complete says otherwise.
func (c *Checker) Missed(n uint64) { c.missed += n }

// Frame judges a packet that begins with a link header of the type linkType.
// Otherwise it is as IP.
func (c *Checker) Frame(at time.Duration, linkType int, data []byte, length int) {
	if c.done {
		return
	}
	ip, skip := skipLinkHeader(linkType, data)
	if skip != "" {
		c.packets++
		c.skipped[skip]++
		return
	}
	c.IP(at, ip, length-(len(data)-len(ip)))
}

// IP judges a packet that begins with its IP header. Of its length octets, data
// are those that were captured. At is its time, from any moment; times should
// not go backwards. The checker does not keep data.
func (c *Checker) IP(at time.Duration, data []byte, length int) {
	if c.done {
		return
	}
	c.packets++
	p := &c.seg
	*p = segment{num: c.packets}
	if skip := decodeIP(p, data, max(length, len(data))); skip != "" {
		c.skipped[skip]++
		if skip == skipNoTCP {
			c.icmp(data)
		}
		return
	}
	if !c.started {
		c.started, c.first, c.last = true, at, at
	}
	if at < c.last {
		c.backwards++
		at = c.last
	}
	c.last = at
	p.at = at - c.first
	c.segments++
	c.octets += int64(p.length)
	c.segment(p)
}

// segment judges one segment.
func (c *Checker) segment(p *segment) {
	cn, dir := c.connOf(p)
	cn.segments++
	cn.lastNum = p.num
	s, r := &cn.h[dir], &cn.h[1-dir]
	x := &exchange{c: c, cn: cn, s: s, r: r, p: p}
	if x.sound() {
		x.follow()
	}
	c.account(cn)
	if c.opt.Observe != nil {
		c.opt.Observe(x.describe())
	}
}

// follow judges a segment that is sound and notes what it means for both ends.
func (x *exchange) follow() {
	s, p := x.s, x.p
	s.noteOrder(p)
	x.header()
	switch {
	case p.has(flagSYN | flagRST):
		x.broke(ruleState, "SYN and RST in one segment")
	case p.has(flagRST):
		x.reset()
	case p.has(flagSYN | flagACK):
		x.synAck()
	case p.has(flagSYN):
		x.syn()
	default:
		x.regular()
	}
	s.noteRaw(p)
}

// icmp notes an ICMP error about a connection: its sender may send anything
// again, in shorter segments.
func (c *Checker) icmp(data []byte) {
	src, dst, ok := quotedByICMP(data)
	if !ok {
		return
	}
	key := connKey{src, dst}
	if cn := c.conns[key]; cn != nil {
		cn.h[0].soft.icmp = true
	} else if cn := c.conns[connKey{dst, src}]; cn != nil {
		cn.h[1].soft.icmp = true
	}
}

// sound judges what needs no connection, and reports whether the segment may be
// taken for what its sender meant.
func (x *exchange) sound() bool {
	c, p := x.c, x.p
	if p.ipSum == sumPartial && !c.opt.Wire {
		c.unknown["checksums that a device was to fill in"]++
		p.ipSum = sumGood
	}
	if p.hasID {
		if x.breaks(ruleIPChecksum, p.ipSum == sumGood) {
			x.add(ruleIPChecksum, 1, "the checksum of the IPv4 header is wrong")
		}
	}
	switch p.sum {
	case sumBad:
		x.broke(ruleChecksum, "the checksum is wrong")
		return false
	case sumGood:
		x.c.judged[ruleChecksum]++
	case sumPartial:
		if c.opt.Wire {
			x.broke(ruleChecksum, "the checksum is that of the pseudo-header alone")
			return false
		}
		c.unknown["checksums that a device was to fill in"]++
	case sumUnknown:
		c.unknown["checksums of segments that were not captured whole"]++
	}
	return p.ipSum == sumGood || !p.hasID
}

// exchange is one segment on its way from s to r.
type exchange struct {
	c    *Checker
	cn   *conn
	s, r *half
	p    *segment
}

// breaks counts that a rule was applied, and reports whether it is broken. The
// caller adds what to say: nearly always there is nothing, and arguments for it
// would cost more than the judgment.
func (x *exchange) breaks(rule ruleID, ok bool) bool {
	x.c.judged[rule]++
	return !ok
}

// broke counts and adds a finding.
func (x *exchange) broke(rule ruleID, format string, args ...any) {
	x.c.judged[rule]++
	x.add(rule, 1, format, args...)
}

// add adds a finding.
func (x *exchange) add(rule ruleID, confidence float64, format string, args ...any) {
	c := x.c
	c.broken[rule]++
	if c.opt.Found == nil && len(c.findings) >= c.opt.MaxFindings {
		return
	}
	f := Finding{
		Rule: rules[rule].ID, Tier: rules[rule].Tier, Section: rules[rule].Section, Confidence: confidence,
		Packet: x.p.num, At: x.p.at, From: x.s.addr, To: x.r.addr, Connection: x.cn.num, Segment: x.cn.segments, Text: fmt.Sprintf(format, args...), rule: rule,
	}
	if c.opt.Found != nil {
		c.opt.Found(f)
	}
	if len(c.findings) < c.opt.MaxFindings {
		c.findings = append(c.findings, f)
	}
}

// gap notes that the capture has missed packets of the connection.
func (x *exchange) gap() {
	if !x.cn.gap {
		x.cn.gap = true
		x.c.gaps++
	}
}

// complete reports whether rules that need every packet can be judged.
func (x *exchange) complete() bool { return x.c.opt.Complete || !x.cn.gap }

// settle withdraws the findings that depend on a complete capture if it was
// not.
func (c *Checker) settle() {
	if c.opt.Complete || c.gaps == 0 && c.missed == 0 {
		return
	}
	c.findings = slices.DeleteFunc(c.findings, func(f Finding) bool { return rules[f.rule].Complete })
	for i := range rules {
		if rules[i].Complete && c.broken[i] > 0 {
			c.unknown["findings withdrawn, since the capture has missed packets"] += c.broken[i]
			c.judged[i], c.broken[i] = 0, 0
		}
	}
}
