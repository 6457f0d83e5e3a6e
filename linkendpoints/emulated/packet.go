package emulated

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// packet is a packet under way. It owns a reference to pkt.
type packet struct {
	pkt *stack.PacketBuffer
	// at is when it was queued while it waits, and when it is due behind that.
	at time.Duration
	// seq breaks ties in the order of arrival.
	seq uint64
	// size is what it takes up of the link, in bytes.
	size int32
	// host is the number of the destination, and flow a hash of the addresses and ports.
	host int32
	flow uint32
	// ecn are the two bits of RFC 3168 §5; those of what is not IP are 0.
	ecn uint8
}

// The codepoints of RFC 3168 §5.
const (
	ecnNotECT = 0
	ecnECT1   = 1
	ecnCE     = 3
)

// clonePacket returns a packet of its own with the bytes of pkt, which shares the memory, and nothing else of it.
func clonePacket(pkt *stack.PacketBuffer) *stack.PacketBuffer {
	c := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
	c.NetworkProtocolNumber = pkt.NetworkProtocolNumber
	return c
}

// networkHeader returns the first bytes of the packet's network header, which may be all that is there of it, and the transport header's if the stack told.
func networkHeader(pkt *stack.PacketBuffer) (network, transport []byte) {
	if network = pkt.NetworkHeader().Slice(); len(network) > 0 {
		return network, pkt.TransportHeader().Slice()
	}
	n := min(pkt.Data().Size(), header.IPv6MinimumSize+4)
	b, ok := pkt.Data().PullUp(n)
	if !ok {
		return nil, nil
	}
	return b, nil
}

// protocolOf returns the number of the network protocol, by the version in the header if the stack did not tell.
func protocolOf(pkt *stack.PacketBuffer, network []byte) tcpip.NetworkProtocolNumber {
	if pkt.NetworkProtocolNumber != 0 || len(network) == 0 {
		return pkt.NetworkProtocolNumber
	}
	switch header.IPVersion(network) {
	case header.IPv4Version:
		return header.IPv4ProtocolNumber
	case header.IPv6Version:
		return header.IPv6ProtocolNumber
	}
	return 0
}

// fields is what the path has to know of a packet's headers.
type fields struct {
	ecn      uint8
	protocol uint8
	src, dst []byte
}

// parseFields reads an IP header. It reports false for what is not IP, and for headers that are cut short.
func parseFields(b []byte) (fields, bool) {
	switch {
	case len(b) >= header.IPv4MinimumSize && b[0]>>4 == header.IPv4Version:
		return fields{ecn: b[1] & 3, protocol: b[9], src: b[12:16], dst: b[16:20]}, true
	case len(b) >= header.IPv6MinimumSize && b[0]>>4 == header.IPv6Version:
		return fields{ecn: b[1] >> 4 & 3, protocol: b[6], src: b[8:24], dst: b[24:40]}, true
	}
	return fields{}, false
}

// flowHash returns a hash of addresses, protocol and ports. The last are the first four bytes of the transport header, if it is there.
func flowHash(seed uint64, f fields, transport []byte) uint32 {
	const prime = 0x100000001b3 // FNV-1a
	h := uint64(0xcbf29ce484222325) ^ seed
	mix := func(b []byte) {
		for _, c := range b {
			h = (h ^ uint64(c)) * prime
		}
	}
	mix(f.src)
	mix(f.dst)
	h = (h ^ uint64(f.protocol)) * prime
	if len(transport) >= 4 {
		mix(transport[:4])
	}
	// FNV is weak in the high bits, and the low ones are taken modulo a power of two.
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return uint32(h)
}

// mark sets CE in the packet's header, in memory of its own, and reports whether it could: only a packet of an ECN-capable transport may be marked.
func (p *packet) mark() bool {
	if p.ecn == ecnNotECT {
		return false
	}
	if p.ecn == ecnCE {
		return true
	}
	v := p.pkt.ToView()
	setCE(v.AsSlice())
	marked := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	marked.NetworkProtocolNumber = p.pkt.NetworkProtocolNumber
	p.pkt.DecRef()
	p.pkt, p.ecn = marked, ecnCE
	return true
}

// setCE sets the CE codepoint in an IP header and corrects an IPv4 checksum (RFC 1624).
func setCE(b []byte) {
	if b[0]>>4 == header.IPv6Version {
		b[1] |= ecnCE << 4
		return
	}
	ip := header.IPv4(b)
	before := binary.BigEndian.Uint16(b)
	b[1] |= ecnCE
	after := binary.BigEndian.Uint16(b)
	// ~C' = ~C + ~m + m'
	ip.SetChecksum(^checksum.Combine(checksum.Combine(^ip.Checksum(), ^before), after))
}
