package pmtu

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// ClampMSS lowers the MSS option of a TCP segment with SYN in an IPv4 or IPv6 packet to what fits an MTU, adjusts the checksum, and reports whether it changed
// anything: what a router does for hosts whose path MTU discovery is broken. mtu is at least 68 for IPv4 and 1280 for IPv6, less changes nothing. A SYN without the
// option is left alone (it means an MSS of 536 or 1220), as are fragments and packets with extension headers. Everything in packet is checked; it may be truncated.
func ClampMSS(packet []byte, mtu uint32) bool {
	ipHeader, tcp := tcpOf(packet)
	if len(tcp) < header.TCPMinimumSize || tcp[header.TCPFlagsOffset]&byte(header.TCPFlagSyn) == 0 {
		return false
	}
	if mtu < header.IPv4MinimumMTU || ipHeader == header.IPv6MinimumSize && mtu < header.IPv6MinimumMTU {
		return false
	}
	limit := uint16(min(mtu-ipHeader-header.TCPMinimumSize, 65535))
	end := min(int(tcp[header.TCPDataOffset]>>4)*4, len(tcp))
	changed := false
	for i := header.TCPMinimumSize; i < end; {
		kind := tcp[i]
		if kind == header.TCPOptionEOL {
			break
		}
		if kind == header.TCPOptionNOP {
			i++
			continue
		}
		if i+1 >= end || tcp[i+1] < 2 || i+int(tcp[i+1]) > end {
			break
		}
		size := int(tcp[i+1])
		if kind == header.TCPOptionMSS && size == header.TCPOptionMSSLength {
			changed = replace16(tcp, i+2, limit) || changed // a second one would count with some receivers
		}
		i += size
	}
	return changed
}

// tcpOf returns the size of the IP header that an MSS is computed with, and the TCP segment; nil if there is none.
func tcpOf(b []byte) (uint32, []byte) {
	switch header.IPVersion(b) {
	case 4:
		ip := header.IPv4(b)
		if ip.IsValid(len(b)) && ip.TransportProtocol() == header.TCPProtocolNumber && ip.FragmentOffset() == 0 && !ip.More() {
			return header.IPv4MinimumSize, b[ip.HeaderLength():ip.TotalLength()]
		}
	case 6:
		ip := header.IPv6(b)
		if ip.IsValid(len(b)) && ip.NextHeader() == uint8(header.TCPProtocolNumber) {
			return header.IPv6MinimumSize, b[header.IPv6MinimumSize : header.IPv6MinimumSize+int(ip.PayloadLength())]
		}
	}
	return 0, nil
}

// replace16 lowers the number at offset i of a TCP segment to limit, and updates the checksum (RFC 1624) whatever the parity of i.
func replace16(tcp []byte, i int, limit uint16) bool {
	if binary.BigEndian.Uint16(tcp[i:]) <= limit {
		return false
	}
	from, to := i&^1, min((i+3)&^1, len(tcp))
	before := checksum.Checksum(tcp[from:to], 0)
	binary.BigEndian.PutUint16(tcp[i:], limit)
	after := checksum.Checksum(tcp[from:to], 0)
	sum := ^binary.BigEndian.Uint16(tcp[header.TCPChecksumOffset:])
	sum = checksum.Combine(checksum.Combine(sum, ^before), after)
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], ^sum)
	return true
}
