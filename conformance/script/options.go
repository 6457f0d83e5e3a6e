package script

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
)

// maxOptions is the space for options in a TCP header, in octets.
const maxOptions = 40

// options parses a list of options in angle brackets.
func (p *parser) options(t *TCP, dir Direction) {
	start := p.next().off
	if e := p.peek(); e.kind == tokEllipsis {
		p.next()
		p.expect(">", `behind "..."`)
		if t.AnyOptions = true; dir == Inbound {
			p.fail(start, "<...> is for outbound segments only")
		}
		return
	}
	for p.err == nil {
		if e := p.peek(); e.kind == tokEllipsis && len(t.Options) > 0 {
			p.next()
			if t.AnyOptions = true; dir == Inbound {
				p.fail(e.off, "what an inbound segment carries cannot be left open")
			}
			break
		}
		t.Options = append(t.Options, p.tcpOption(dir))
		if !p.accept(",") {
			break
		}
	}
	p.expect(">", "behind the TCP options")
	if n := len(EncodeOptions(t.Options)); p.err == nil && n > maxOptions {
		p.fail(start, "the TCP options take %d octets, but a header has room for %d", n, maxOptions)
	}
}

// open parses "*", which leaves a value open.
func (p *parser) open(dir Direction) bool {
	t := p.peek()
	if !p.accept("*") {
		return false
	}
	if dir == Inbound {
		p.fail(t.off, "what an inbound segment carries cannot be left open")
	}
	return true
}

// openNumber parses a number that may be left open.
func (p *parser) openNumber(dir Direction, most uint64, what string) (v uint64, open bool) {
	if p.open(dir) {
		return 0, true
	}
	return p.number(most, what), false
}

// tcpOption parses one option.
func (p *parser) tcpOption(dir Direction) TCPOption {
	t := p.next()
	name := t.text
	if t.kind != tokWord {
		name = ""
	}
	switch name {
	case "eol":
		return TCPOption{Kind: KindEOL}
	case "nop":
		return TCPOption{Kind: KindNOP}
	case "mss":
		v, open := p.openNumber(dir, math.MaxUint16, "the maximum segment size")
		return TCPOption{Kind: KindMSS, MSS: uint16(v), Any: open}
	case "wscale":
		v, open := p.openNumber(dir, math.MaxUint8, "the window scale")
		return TCPOption{Kind: KindWScale, Shift: uint8(v), Any: open}
	case "sackOK":
		return TCPOption{Kind: KindSACKOK}
	case "sack":
		return p.sack(dir)
	case "TS":
		return p.timestamp(dir)
	case "md5":
		if p.accept("valid") {
			p.unsupported("signatures by TCP MD5 are not computed")
			return TCPOption{Kind: KindMD5}
		}
		return TCPOption{Kind: KindMD5, Data: p.blob()}
	case "FO":
		return TCPOption{Kind: KindFastOpen, Data: p.blob()}
	case "FOEXP":
		return TCPOption{Kind: KindExperiment, Data: p.blob()}
	case "ECN":
		return p.accECN()
	case "raw":
		return p.raw()
	}
	p.fail(t.off, "%s is not a TCP option; the options are eol, nop, mss, wscale, sackOK, sack, TS, md5, FO, FOEXP, ECN and raw", t.describe())
	return TCPOption{}
}

func (p *parser) timestamp(dir Direction) TCPOption {
	o := TCPOption{Kind: KindTimestamp}
	p.expect("val", `behind "TS"`)
	val, open := p.openNumber(dir, math.MaxUint32, "the timestamp value")
	o.TSVal, o.Any = uint32(val), open
	p.expect("ecr", "behind the timestamp value")
	ecr, open := p.openNumber(dir, math.MaxUint32, "the timestamp echo reply")
	o.TSEcr, o.AnyEcr = uint32(ecr), open
	return o
}

func (p *parser) sack(dir Direction) TCPOption {
	o := TCPOption{Kind: KindSACK, Any: p.open(dir)}
	if o.Any {
		return o
	}
	for p.err == nil && p.peek().kind == tokInt {
		var b SACKBlock
		b.Left = uint32(p.number(math.MaxUint32, "the left edge of a SACK block"))
		p.expect(":", "between the edges of a SACK block")
		b.Right = uint32(p.number(math.MaxUint32, "the right edge of a SACK block"))
		o.Blocks = append(o.Blocks, b)
	}
	return o
}

// accECN parses the counters of an AccECN option; the first one says which
// of the two orders they are in.
func (p *parser) accECN() TCPOption {
	o := TCPOption{Kind: KindAccECN0}
	if p.peek().is("e1b") {
		o.Kind = KindAccECN1
	}
	for _, name := range accECNNames(o.Kind) {
		if !p.accept(name) {
			break
		}
		o.Counters = append(o.Counters, uint32(p.number(1<<24-1, "the counter "+name)))
	}
	return o
}

// blob parses octets in hexadecimal, if there are any.
func (p *parser) blob() []byte {
	t := p.peek()
	if t.kind != tokWord && t.kind != tokInt {
		return nil
	}
	p.next()
	b, err := hex.DecodeString(t.text)
	if err == nil {
		return b
	}
	if symbol(t) {
		p.unsupported("the symbol " + clip(t.text) + " has no value; --define=" + clip(t.text) + "=... gives it one")
	} else {
		p.fail(t.off, "expected octets in hexadecimal, two digits each, found %s", t.describe())
	}
	return nil
}

// raw parses the octets of a whole option, right or wrong.
func (p *parser) raw() TCPOption {
	t := p.next()
	digits, ok := strings.CutPrefix(t.text, "0x")
	b, err := hex.DecodeString(digits)
	if t.kind != tokHex || !ok || err != nil {
		p.fail(t.off, `expected the octets of an option, as in "raw 0x02040001", found %s`, t.describe())
	}
	return TCPOption{Kind: KindRaw, Data: b}
}

// parseUint returns the value of an integer token, and whether it fits.
func parseUint(t token) (uint64, bool) {
	text, base := t.text, 10
	if t.kind == tokHex {
		text, base = text[2:], 16
	}
	v, err := strconv.ParseUint(text, base, 64)
	return v, err == nil
}

// EncodeOptions returns the options as they are on the wire, without
// padding. Nothing is added or corrected.
func EncodeOptions(options []TCPOption) []byte {
	var b []byte
	for _, o := range options {
		b = o.append(b)
	}
	return b
}

// fastOpenMagic marks an experimental Fast Open option (RFC 7413 appendix A).
const fastOpenMagic = "\xf9\x89"

// append appends the option as it is on the wire.
func (o TCPOption) append(b []byte) []byte {
	start := len(b)
	switch o.Kind {
	case KindRaw:
		return append(b, o.Data...)
	case KindEOL, KindNOP:
		return append(b, byte(o.Kind))
	}
	b = append(b, byte(o.Kind), 0)
	switch o.Kind {
	case KindMSS:
		b = append(b, byte(o.MSS>>8), byte(o.MSS))
	case KindWScale:
		b = append(b, o.Shift)
	case KindSACK:
		for _, s := range o.Blocks {
			b = appendUint32(appendUint32(b, s.Left), s.Right)
		}
	case KindTimestamp:
		b = appendUint32(appendUint32(b, o.TSVal), o.TSEcr)
	case KindAccECN0, KindAccECN1:
		for _, c := range o.Counters {
			b = append(b, byte(c>>16), byte(c>>8), byte(c))
		}
	case KindExperiment:
		b = append(b, fastOpenMagic...)
	}
	b = append(b, o.Data...)
	b[start+1] = byte(len(b) - start)
	return b
}

func appendUint32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// DecodeOptions returns the options that a TCP header carries. An option that
// has no notation of its own, or a length that is wrong for its kind, comes
// back as KindRaw; so do the octets behind the end of the list that are not
// zero, and an option that runs past the end of b.
func DecodeOptions(b []byte) []TCPOption {
	var options []TCPOption
	for len(b) > 0 {
		switch kind := OptionKind(b[0]); {
		case kind == KindEOL:
			if strings.Trim(string(b), "\x00") != "" {
				return append(options, TCPOption{Kind: KindRaw, Data: b})
			}
			for range b {
				options = append(options, TCPOption{Kind: KindEOL})
			}
			return options
		case kind == KindNOP:
			options = append(options, TCPOption{Kind: KindNOP})
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return append(options, TCPOption{Kind: KindRaw, Data: b})
		}
		options = append(options, decodeOption(b[:b[1]]))
		b = b[b[1]:]
	}
	return options
}

// decodeOption decodes one option whose length octet is that of b.
func decodeOption(b []byte) TCPOption {
	o, data := TCPOption{Kind: OptionKind(b[0])}, b[2:]
	switch {
	case o.Kind == KindMSS && len(data) == 2:
		o.MSS = uint16(data[0])<<8 | uint16(data[1])
	case o.Kind == KindWScale && len(data) == 1:
		o.Shift = data[0]
	case o.Kind == KindSACKOK && len(data) == 0:
	case o.Kind == KindSACK && len(data)%8 == 0:
		for ; len(data) > 0; data = data[8:] {
			o.Blocks = append(o.Blocks, SACKBlock{uint32At(data), uint32At(data[4:])})
		}
	case o.Kind == KindTimestamp && len(data) == 8:
		o.TSVal, o.TSEcr = uint32At(data), uint32At(data[4:])
	case (o.Kind == KindAccECN0 || o.Kind == KindAccECN1) && len(data)%3 == 0 && len(data) <= 9:
		for ; len(data) > 0; data = data[3:] {
			o.Counters = append(o.Counters, uint32(data[0])<<16|uint32(data[1])<<8|uint32(data[2]))
		}
		if o.Kind == KindAccECN1 && o.Counters == nil {
			return TCPOption{Kind: KindRaw, Data: b}
		}
	case o.Kind == KindMD5 || o.Kind == KindFastOpen:
		o.Data = nonEmpty(data)
	case o.Kind == KindExperiment && strings.HasPrefix(string(data), fastOpenMagic):
		o.Data = nonEmpty(data[2:])
	default:
		return TCPOption{Kind: KindRaw, Data: b}
	}
	return o
}

// nonEmpty returns b, or nil if it is empty, as the parser does.
func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func uint32At(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
