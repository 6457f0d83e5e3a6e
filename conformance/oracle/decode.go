package oracle

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"
)

// Flags of a TCP header.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
	flagECE
	flagCWR
)

// sumState says what is known about a TCP checksum.
type sumState uint8

const (
	sumGood sumState = iota
	sumBad
	// sumPartial is what a host leaves to its device: the sum of the
	// pseudo-header alone.
	sumPartial
	// sumUnknown is that of a packet of which a part was not captured.
	sumUnknown
)

// block is one block of a SACK option.
type block struct{ left, right uint32 }

// options are the options of a segment that the rules speak about.
type options struct {
	mss           uint16
	wscale        uint8
	hasMSS, hasWS bool
	sackOK, hasTS bool
	tsval, tsecr  uint32
	sack          [4]block
	blocks        int
	hasSACK       bool
	size          int // of all options, padding included
	malformed     string
}

// segment is a TCP segment with what the rules need of its packet.
type segment struct {
	num      int64
	at       time.Duration
	src, dst netip.AddrPort

	seq, ack uint32
	flags    uint8
	reserved uint8 // the three bits beside AE
	window   uint16
	// payload is what was captured of it; length is that on the wire.
	payload []byte
	length  int
	opts    options

	id    uint16 // the identification of IPv4
	hasID bool
	sum   sumState
	ipSum sumState // of the IPv4 header; sumPartial is a checksum of zero
}

// has reports whether all these flags are set.
func (p *segment) has(flags uint8) bool { return p.flags&flags == flags }

// span is the length of the segment in sequence space.
func (p *segment) span() int64 {
	n := int64(p.length)
	if p.has(flagSYN) {
		n++
	}
	if p.has(flagFIN) {
		n++
	}
	return n
}

// The reasons why a packet is not judged.
const (
	skipLink     = "packets with a link header that is not understood"
	skipNoIP     = "packets that are not IP"
	skipNoTCP    = "IP packets that are not TCP"
	skipFragment = "IP fragments"
	skipSnapped  = "packets of which the headers were not captured whole"
	skipDamaged  = "packets with headers that contradict themselves"
)

// decodeIP decodes a packet that begins with its IP header, of which data was
// captured and length octets were on the wire. The segment refers to data. It
// returns why the packet is not judged, or "".
func decodeIP(p *segment, data []byte, length int) string {
	if len(data) == 0 {
		return skipSnapped
	}
	switch data[0] >> 4 {
	case 4:
		return decodeIPv4(p, data, length)
	case 6:
		return decodeIPv6(p, data, length)
	}
	return skipNoIP
}

func decodeIPv4(p *segment, b []byte, length int) string {
	if len(b) < 20 {
		return skipSnapped
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = length // A segment for a device to cut up may leave it out.
	}
	switch {
	case header < 20 || total < header || total > length:
		return skipDamaged
	case len(b) < header:
		return skipSnapped
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0:
		return skipFragment
	case b[9] != 6:
		return skipNoTCP
	}
	p.id, p.hasID = binary.BigEndian.Uint16(b[4:]), true
	switch {
	case fold(sum(b[:header], 0)) == 0xffff:
		p.ipSum = sumGood
	case binary.BigEndian.Uint16(b[10:]) == 0:
		p.ipSum = sumPartial
	default:
		p.ipSum = sumBad
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	pseudo := sum(b[12:20], 0)
	return decodeTCP(p, b[header:min(total, len(b))], total-header, src, dst, pseudo)
}

func decodeIPv6(p *segment, b []byte, length int) string {
	if len(b) < 40 {
		return skipSnapped
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n == 0 {
		n = length - 40 // a jumbo, or as in decodeIPv4
	}
	if n < 0 || n > length-40 {
		return skipDamaged
	}
	p.hasID = false
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	pseudo := sum(b[8:40], 0)
	next := b[6]
	b = b[40:min(40+n, len(b))]
	for next != 6 {
		switch next {
		case 0, 43, 60: // hop-by-hop, routing and destination options
		case 44:
			return skipFragment
		default:
			return skipNoTCP
		}
		if len(b) < 8 {
			return skipSnapped
		}
		ext := 8 * (int(b[1]) + 1)
		if ext > n {
			return skipDamaged
		}
		if ext > len(b) {
			return skipSnapped
		}
		next, b, n = b[0], b[ext:], n-ext
	}
	return decodeTCP(p, b, n, src, dst, pseudo)
}

// decodeTCP decodes a segment of length octets, of which b was captured.
func decodeTCP(p *segment, b []byte, length int, src, dst netip.Addr, pseudo uint64) string {
	if len(b) < 20 {
		if length < 20 {
			return skipDamaged
		}
		return skipSnapped
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > length {
		return skipDamaged
	}
	if header > len(b) {
		return skipSnapped
	}
	p.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	p.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.seq, p.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	p.flags, p.reserved = b[13], b[12]>>1&7
	p.window = binary.BigEndian.Uint16(b[14:])
	p.payload, p.length = b[header:], length-header
	p.opts = decodeOptions(b[20:header])
	p.sum = sumUnknown
	if len(b) == length {
		p.sum = checkSum(b, pseudo+6+uint64(length))
	}
	return ""
}

// checkSum judges the checksum of a whole segment. The sum of the pseudo-header
// is less than 2^37, so that nothing is lost by adding to it.
func checkSum(b []byte, pseudo uint64) sumState {
	if fold(sum(b, pseudo)) == 0xffff {
		return sumGood
	}
	if binary.BigEndian.Uint16(b[16:]) == fold(pseudo) {
		return sumPartial
	}
	return sumBad
}

// sum adds the octets of b, as 16-bit words, to s in ones' complement
// arithmetic (RFC 1071), eight at a time.
func sum(b []byte, s uint64) uint64 {
	var carry uint64
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	s, carry = bits.Add64(s, binary.BigEndian.Uint64(tail[:]), carry)
	s, carry = bits.Add64(s, carry, 0)
	return s + carry
}

// fold brings a sum to 16 bits.
func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// decodeOptions reads a list of options. It goes on as far as it makes sense.
func decodeOptions(b []byte) options {
	o := options{size: len(b)}
	for len(b) > 0 {
		switch b[0] {
		case 0:
			return o
		case 1:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			o.malformed = "an option's length is less than 2 or runs past the header"
			return o
		}
		if !o.add(b[0], b[2:b[1]]) {
			o.malformed = "an option has a length that is wrong for its kind"
		}
		b = b[b[1]:]
	}
	return o
}

// add takes one option and reports whether its length fits.
func (o *options) add(kind byte, data []byte) bool {
	switch kind {
	case 2:
		if len(data) != 2 {
			return false
		}
		o.mss, o.hasMSS = binary.BigEndian.Uint16(data), true
	case 3:
		if len(data) != 1 {
			return false
		}
		o.wscale, o.hasWS = min(data[0], 14), true // RFC 7323 section 2.3
	case 4:
		o.sackOK = len(data) == 0
		return o.sackOK
	case 5:
		o.hasSACK = true
		if len(data) == 0 || len(data)%8 != 0 || len(data) > 32 {
			return false
		}
		for o.blocks = 0; len(data) > 0; data = data[8:] {
			o.sack[o.blocks] = block{binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:])}
			o.blocks++
		}
	case 8:
		if len(data) != 8 {
			return false
		}
		o.tsval, o.tsecr, o.hasTS = binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), true
	}
	return true
}

// quotedByICMP returns both ends of the TCP segment that an ICMP error quotes,
// as far as data is one.
func quotedByICMP(data []byte) (src, dst netip.AddrPort, ok bool) {
	var quote []byte
	switch {
	case len(data) >= 28 && data[0]>>4 == 4 && data[9] == 1:
		if h := int(data[0]&0xf) * 4; h >= 20 && len(data) >= h+8 && (data[h] == 3 || data[h] == 11) {
			quote = data[h+8:]
		}
	case len(data) >= 48 && data[0]>>4 == 6 && data[6] == 58 && data[40] >= 1 && data[40] <= 4:
		quote = data[48:]
	}
	var ports []byte
	var a, b netip.Addr
	switch {
	case len(quote) >= 20 && quote[0]>>4 == 4 && quote[9] == 6:
		if h := int(quote[0]&0xf) * 4; h >= 20 && len(quote) >= h+4 {
			ports = quote[h:]
		}
		a, b = netip.AddrFrom4([4]byte(quote[12:16])), netip.AddrFrom4([4]byte(quote[16:20]))
	case len(quote) >= 44 && quote[0]>>4 == 6 && quote[6] == 6:
		ports = quote[40:]
		a, b = netip.AddrFrom16([16]byte(quote[8:24])), netip.AddrFrom16([16]byte(quote[24:40]))
	}
	if ports == nil {
		return src, dst, false
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(b, binary.BigEndian.Uint16(ports[2:])), true
}
