package script

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// packetAction parses a packet, its alternatives, or "> none".
func (p *parser) packetAction() Action {
	t := p.next()
	dir := Inbound
	if t.is(">") {
		dir = Outbound
	}
	pos := p.position(t.off)
	switch next := p.peek(); {
	case dir == Outbound && next.is("{"):
		return p.alternatives(pos)
	case dir == Outbound && next.is("none"):
		p.next()
		return &NoPacket{Pos: pos}
	}
	return p.packet(dir, pos)
}

// alternatives parses { packet } or { packet } or none.
func (p *parser) alternatives(pos Position) *Alternatives {
	a := &Alternatives{Pos: pos}
	for p.err == nil {
		if p.accept("none") {
			a.OrNone = true
			break
		}
		t := p.peek()
		p.expect("{", "before an alternative")
		a.Packets = append(a.Packets, p.packet(Outbound, p.position(t.off)))
		p.expect("}", "behind an alternative")
		if !p.accept("or") {
			break
		}
	}
	return a
}

// packet parses what stands behind the direction.
func (p *parser) packet(dir Direction, pos Position) *Packet {
	start := p.peek().off
	pkt := &Packet{Pos: pos, Dir: dir}
	p.reason = ""
	p.outerHeaders()
	if t := p.peek(); t.is("[") || t.is("(") {
		pkt.IP = p.ip(dir)
	}
	if t := p.peek(); t.is("encap") {
		p.encap()
	}
	switch t := p.peek(); {
	case t.is("icmp"):
		p.next()
		pkt.ICMP = p.icmp()
	case t.is("udp"):
		p.next()
		pkt.Ports = p.ports()
		pkt.UDP = &UDP{Len: p.parenthesized("the length of the payload")}
	default:
		pkt.Ports = p.ports()
		pkt.TCP = p.tcp(dir)
	}
	if p.accept("/") {
		p.inUDP()
	}
	if p.err == nil && p.reason != "" {
		pkt.Reason, pkt.Text = p.reason, p.src[start:p.last]
	}
	p.reason = ""
	return pkt
}

// outerHeaders skips the headers of tunnels, which end in a colon.
func (p *parser) outerHeaders() {
	for p.err == nil {
		t := p.peek()
		switch {
		case t.is("ipv4"), t.is("ipv6"):
			p.skipHeader("> ")
			p.unsupported("IP in IP is not supported")
		case t.is("gre"), t.is("GREv0"), t.is("mpls"):
			p.skipHeader("")
			p.unsupported("encapsulation in " + strings.ToUpper(strings.TrimSuffix(t.text, "v0")) + " is not supported")
		default:
			return
		}
	}
}

// skipHeader skips the rest of a header of a tunnel: behind the text after,
// as far as the first colon that ends a word, on the same line.
func (p *parser) skipHeader(after string) {
	start := p.rewind()
	line, _, _ := strings.Cut(p.src[start:], "\n")
	from := max(strings.Index(line, after), 0) + len(after)
	for i := from; i < len(line); i++ {
		if line[i] == ':' && (i+1 == len(line) || isSpace(line[i+1])) {
			p.skipTo(start + i + 1)
			return
		}
	}
	p.fail(start, "the header of the tunnel has no colon to end it")
}

// inUDP parses "udp(SRC > DST)" behind a packet that travels in UDP.
func (p *parser) inUDP() {
	p.expect("udp", `behind "/"`)
	p.expect("(", `behind "udp"`)
	if !p.ports().Set {
		p.fail(p.peek().off, "expected the ports of the UDP header, found %s", p.peek().describe())
	}
	p.expect(")", "behind the ports of the UDP header")
	p.unsupported("encapsulation in UDP is not supported")
}

// encap parses "encap psp spi N".
func (p *parser) encap() {
	p.next()
	p.expect("psp", `behind "encap"`)
	p.expect("spi", `behind "psp"`)
	p.number(math.MaxUint32, "the security parameter index")
	p.unsupported("encapsulation in PSP is not supported")
}

// symbol reports whether a word looks like a symbol that a --define option
// is meant to give a value to.
func symbol(t token) bool {
	return t.kind == tokWord && strings.ToUpper(t.text) == t.text && !isDigit(t.text[0])
}

// number parses an integer from 0 to most. A symbol without a value makes
// the packet unsupported.
func (p *parser) number(most uint64, what string) uint64 {
	t := p.next()
	if p.err != nil {
		return 0
	}
	if symbol(t) {
		p.unsupported(fmt.Sprintf("the symbol %s has no value; --define=%s=... gives it one", clip(t.text), clip(t.text)))
		return 0
	}
	if t.kind != tokInt && t.kind != tokHex {
		p.fail(t.off, "expected %s, found %s", what, t.describe())
		return 0
	}
	v, ok := parseUint(t)
	if !ok || v > most {
		p.fail(t.off, "%s is out of range: %s is not within 0 and %d", what, clip(t.text), most)
		return 0
	}
	return v
}

func (p *parser) parenthesized(what string) uint16 {
	p.expect("(", "before "+what)
	n := p.number(math.MaxUint16, what)
	p.expect(")", "behind "+what)
	return uint16(n)
}

// ip parses what stands in brackets about the IP header.
func (p *parser) ip(dir Direction) IP {
	var ip IP
	end := "]"
	if p.next().is("(") {
		end = ")"
	}
	for {
		p.ipItem(&ip, dir)
		if !p.accept(",") {
			break
		}
	}
	p.expect(end, "behind what is said about the IP header")
	return ip
}

func (p *parser) ipItem(ip *IP, dir Direction) {
	t := p.next()
	set := false
	switch {
	case t.is("tos"), t.is("class"):
		set, ip.TOS = ip.TOS.Set || ip.ECN != ECNUnset, Some(uint8(p.number(math.MaxUint8, "the type of service")))
	case t.is("ttl"), t.is("hlim"):
		set, ip.TTL = ip.TTL.Set, Some(uint8(p.number(math.MaxUint8, "the time to live")))
	case t.is("flowlabel"):
		set, ip.FlowLabel = ip.FlowLabel.Set, Some(uint32(p.number(1<<20-1, "the flow label")))
	case t.is("src"):
		set, ip.Src = ip.Src.IsValid(), p.address()
	case t.is("dst"):
		set, ip.Dst = ip.Dst.IsValid(), p.address()
	default:
		set = ip.TOS.Set || ip.ECN != ECNUnset
		ip.ECN = ecnByName[t.text]
		if t.kind != tokWord || ip.ECN == ECNUnset {
			p.fail(t.off, "the IP header has no part %s; it has ect0, ect1, ect01, ce, noecn, tos, class, ttl, hlim, flowlabel, src and dst", t.describe())
		} else if ip.ECN == AnyECT && dir == Inbound {
			p.fail(t.off, "[ect01] is for outbound packets only")
		}
	}
	if set {
		p.fail(t.off, "%s is given twice, or together with its opposite", t.describe())
	}
}

// ecnByName is the inverse of ecnNames.
var ecnByName = func() map[string]ECN {
	m := make(map[string]ECN, len(ecnNames))
	for e, name := range ecnNames {
		m[name] = e
	}
	return m
}()

// address parses an IP address, which the lexer has no token for.
func (p *parser) address() netip.Addr {
	start := p.rewind()
	end := start
	for end < len(p.src) && !isSpace(p.src[end]) && !strings.ContainsRune(",])", rune(p.src[end])) {
		end++
	}
	a, err := netip.ParseAddr(p.src[start:end])
	if err != nil || a.Zone() != "" {
		p.fail(start, "expected an IP address, found %q", clip(p.src[start:end]))
		return netip.Addr{}
	}
	p.skipTo(end)
	return a
}

// ports parses "SRC > DST" if it comes next.
func (p *parser) ports() Opt[Ports] {
	if p.peek().kind != tokInt || !p.peekAt(1).is(">") {
		return Opt[Ports]{}
	}
	var ports Ports
	ports.Src = uint16(p.number(math.MaxUint16, "the source port"))
	p.expect(">", "between the ports")
	ports.Dst = uint16(p.number(math.MaxUint16, "the destination port"))
	return Some(ports)
}

func (p *parser) tcp(dir Direction) *TCP {
	t := &TCP{}
	start := p.peek().off
	p.flags(t)
	if p.fromEdge(t, dir); !t.FromEdge {
		p.sequenceOf(t, dir)
	}
	for p.err == nil && p.tcpField(t, dir) {
	}
	if p.peek().is("<") {
		p.options(t, dir)
	}
	if s := p.peek(); s.kind == tokString {
		t.Payload = p.payload(t)
	}
	if dir == Inbound && !t.Win.Set {
		p.fail(start, "an inbound segment needs a window, as in \"win 65535\"")
	}
	return t
}

// flags parses the flags: letters, a dot for ACK, a digit for ACE, or "-".
func (p *parser) flags(t *TCP) {
	start := p.rewind()
	end := start
	for end < len(p.src) && (isWord(p.src[end]) || p.src[end] == '.' || p.src[end] == '-') {
		end++
	}
	text := p.src[start:end]
	if text == "" {
		p.fail(start, "expected the flags of a TCP segment, found %s", p.peek().describe())
		return
	}
	p.skipTo(end)
	if text == "-" {
		return
	}
	for i := range len(text) {
		switch c := text[i]; {
		case '0' <= c && c <= '7' && !t.ACE.Set:
			t.ACE = Some(c - '0')
		case flagByLetter[c] != 0 && t.Flags&flagByLetter[c] == 0:
			t.Flags |= flagByLetter[c]
		case flagByLetter[c] != 0 || '0' <= c && c <= '7':
			p.fail(start+i, "the flag %q is given twice", c)
		default:
			p.fail(start+i, "%q is not a TCP flag; the flags are S F R P U E W A and the dot for ACK", c)
		}
	}
	if t.ACE.Set && t.Flags&(AE|CWR|ECE) != 0 {
		p.fail(start, "a digit for the ACE field takes the place of the flags A, W and E")
	}
}

// flagByLetter is the inverse of flagLetters.
var flagByLetter = func() map[byte]Flags {
	m := make(map[byte]Flags, len(flagLetters))
	for _, l := range flagLetters {
		m[l.letter] = l.flag
	}
	return m
}()

// sequence parses START:END(LENGTH).
func (p *parser) sequence() (seq uint32, length uint16) {
	t := p.peek()
	first := uint32(p.number(math.MaxUint32, "the first sequence number"))
	p.expect(":", "between sequence numbers")
	last := uint32(p.number(math.MaxUint32, "the last sequence number"))
	n := p.parenthesized("the length of the payload")
	if first+uint32(n) != last && p.reason == "" {
		p.fail(t.off, "the sequence numbers and the length do not agree: %d + %d is %d", first, n, first+uint32(n))
	}
	return first, n
}

// sequenceOf parses sequence numbers that may be left open: "...(LENGTH)", or
// numbers with a "!" behind them, which do not count.
func (p *parser) sequenceOf(t *TCP, dir Direction) {
	mark := p.peek()
	if mark.kind == tokEllipsis {
		p.next()
		t.AnySeq, t.Len = true, p.parenthesized("the length of the payload")
	} else {
		t.Seq, t.Len = p.sequence()
		mark = p.peek()
		t.AnySeq = p.accept("!")
	}
	if t.AnySeq && dir == Inbound {
		p.fail(mark.off, "what an inbound segment carries cannot be left open")
	}
}

// edgeSequence is a range of sequence numbers that counts from the right edge
// of the window.
var edgeSequence = regexp.MustCompile(`^edge([+-][0-9]{1,9})?:edge([+-][0-9]{1,9})?\(([0-9]{1,5})\)`)

// fromEdge parses edge+N:edge+N(LENGTH), if it comes next.
func (p *parser) fromEdge(t *TCP, dir Direction) {
	start := p.rewind()
	if !strings.HasPrefix(p.src[start:], "edge") {
		return
	}
	t.FromEdge = true
	m := edgeSequence.FindStringSubmatch(p.src[start:])
	if m == nil {
		p.fail(start, `expected sequence numbers from the edge of the window, as in "edge+100:edge+200(100)"`)
		return
	}
	first, _ := strconv.Atoi(cmp.Or(m[1], "0"))
	last, _ := strconv.Atoi(cmp.Or(m[2], "0"))
	n, _ := strconv.Atoi(m[3])
	switch {
	case n > math.MaxUint16 || first+n != last:
		p.fail(start, "the sequence numbers and the length do not agree: %d + %d is %d", first, n, first+n)
	case dir == Outbound:
		p.fail(start, `"edge" is for inbound segments only`)
	}
	t.Seq, t.Len = uint32(int32(first)), uint16(n)
	p.skipTo(start + len(m[0]))
}

// tcpField parses one of the fields behind the sequence numbers, if one
// comes next.
func (p *parser) tcpField(t *TCP, dir Direction) bool {
	tok := p.peek()
	if tok.kind != tokWord {
		return false
	}
	again, hostile := false, false
	switch tok.text {
	case "ack":
		p.next()
		again, t.Ack = t.Ack.Set, Some(uint32(p.number(math.MaxUint32, "the acknowledgment number")))
	case "win":
		p.next()
		op := p.peek()
		if t.WinOp = p.comparison(); t.WinOp != Equal && dir == Inbound {
			p.fail(op.off, "the window of an inbound segment needs a value")
		}
		again, t.Win = t.Win.Set, Some(uint16(p.number(math.MaxUint16, "the window")))
	case "urg":
		p.next()
		again, t.Urg = t.Urg.Set, Some(uint16(p.number(math.MaxUint16, "the urgent pointer")))
	case "doff":
		p.next()
		again, t.DataOffset = t.DataOffset.Set, Some(uint8(p.number(15, "the data offset")))
		hostile = true
	case "rsv":
		p.next()
		again, t.Reserved = t.Reserved.Set, Some(uint8(p.number(7, "the reserved field")))
		hostile = true
	case "badsum":
		p.next()
		again, t.BadChecksum = t.BadChecksum, true
		hostile = true
	default:
		return false
	}
	if again {
		p.fail(tok.off, "%q is given twice", tok.text)
	}
	if hostile && dir == Outbound {
		p.fail(tok.off, "%q is for inbound segments only", tok.text)
	}
	return true
}

// comparison parses a sign of comparison, if one comes next. Longer signs are
// tried before those that they begin with.
func (p *parser) comparison() Comparison {
	start := p.rewind()
	for _, c := range []Comparison{NotEqual, LessOrEqual, GreaterOrEqual, Less, Greater} {
		if sign := comparisons[c]; strings.HasPrefix(p.src[start:], sign) {
			p.skipTo(start + len(sign))
			return c
		}
	}
	return Equal
}

// payload parses the content of the payload, which must be as long as the
// sequence numbers say.
func (p *parser) payload(t *TCP) []byte {
	var content []byte
	start := p.peek().off
	for p.peek().kind == tokString {
		content = append(content, p.unescape(p.next())...)
	}
	if len(content) != int(t.Len) {
		p.fail(start, "the payload has %d octets, but the sequence numbers say %d", len(content), t.Len)
	}
	if content == nil {
		content = []byte{}
	}
	return content
}

// icmp parses a message behind the word "icmp".
func (p *parser) icmp() *ICMP {
	m := &ICMP{}
	t := p.next()
	if t.kind != tokWord || !knownICMPType(t.text) {
		p.fail(t.off, "%s is not a type of ICMP message", t.describe())
		return m
	}
	m.Type = t.text
	if c := p.peek(); c.kind == tokWord && !c.is("mtu") && !c.is("id") {
		p.next()
		switch {
		case knownICMPCode(m.Type, c.text):
			m.Code = c.text
		case symbol(c):
			p.unsupported(fmt.Sprintf("the symbol %s has no value; --define=%s=... gives it one", clip(c.text), clip(c.text)))
		default:
			p.fail(c.off, "the ICMP message %s has no code %s", m.Type, c.describe())
		}
	}
	if p.accept("mtu") {
		m.MTU = Some(uint32(p.number(math.MaxUint32, "the next-hop MTU")))
	}
	if p.accept("id") {
		m.ID = Some(uint16(p.number(math.MaxUint16, "the identifier")))
	}
	if p.accept("[") {
		m.Quote = Some(p.quote())
		p.expect("]", "behind the quoted packet")
	}
	return m
}

// quote parses the packet that an ICMP message quotes.
func (p *parser) quote() (q Quote) {
	switch {
	case p.accept("udp"):
		q = Quote{Kind: QuoteUDP, Len: p.parenthesized("the length of the quoted payload")}
	case p.accept("raw"):
		q = Quote{Kind: QuoteRaw, Len: p.parenthesized("the length of the quoted payload")}
	default:
		q.Seq, q.Len = p.sequence()
		if p.accept("/") {
			p.inUDP()
		}
	}
	if p.accept("cut") {
		q.Cut = Some(uint16(p.number(math.MaxUint16, "how many octets are quoted")))
	}
	return q
}
