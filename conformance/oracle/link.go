package oracle

import "encoding/binary"

// Link types, as https://www.tcpdump.org/linktypes.html numbers them.
const (
	LinkNull     = 0
	LinkEthernet = 1
	LinkPPP      = 9
	LinkRaw      = 101
	LinkLoop     = 108
	LinkSLL      = 113
	LinkIPv4     = 228
	LinkIPv6     = 229
	LinkSLL2     = 276
)

// rawAliases are numbers that some systems write for raw IP.
var rawAliases = map[int]bool{LinkRaw: true, LinkIPv4: true, LinkIPv6: true, 12: true, 14: true}

// EtherTypes.
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherQinQ2 = 0x9100
)

// skipLinkHeader returns what stands behind the link header of a packet. If
// that is not IP, it says why.
func skipLinkHeader(linkType int, b []byte) (ip []byte, skip string) {
	switch {
	case rawAliases[linkType]:
		return b, ""
	case linkType == LinkEthernet:
		return skipEther(b, 12)
	case linkType == LinkSLL:
		return skipEther(b, 14)
	case linkType == LinkSLL2:
		if len(b) < 20 {
			return nil, skipSnapped
		}
		return byEtherType(binary.BigEndian.Uint16(b), b[20:])
	case linkType == LinkNull || linkType == LinkLoop:
		if len(b) < 4 {
			return nil, skipSnapped
		}
		return b[4:], "" // The family is in the byte order of some host; the IP version tells as much.
	case linkType == LinkPPP:
		return skipPPP(b)
	}
	return nil, skipLink
}

// skipEther follows the EtherType at off, and VLAN tags.
func skipEther(b []byte, off int) ([]byte, string) {
	for {
		if len(b) < off+2 {
			return nil, skipSnapped
		}
		switch t := binary.BigEndian.Uint16(b[off:]); t {
		case etherVLAN, etherQinQ, etherQinQ2:
			off += 4
		default:
			return byEtherType(t, b[off+2:])
		}
	}
}

func byEtherType(t uint16, b []byte) ([]byte, string) {
	if t == etherIPv4 || t == etherIPv6 {
		return b, ""
	}
	return nil, skipNoIP
}

// skipPPP skips a header with or without address and control (RFC 1661).
func skipPPP(b []byte) ([]byte, string) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b = b[2:]
	}
	if len(b) < 2 {
		return nil, skipSnapped
	}
	switch binary.BigEndian.Uint16(b) {
	case 0x0021, 0x0057:
		return b[2:], ""
	}
	return nil, skipNoIP
}
