package wire

import "encoding/binary"

// Spoil says which parts of a packet Encode makes wrong.
type Spoil struct {
	// Checksum spoils the checksum of the transport header.
	Checksum bool
}

// Encode returns the packet on the wire, with lengths and checksums computed.
// A packet without a transport header has no payload.
func (p *Packet) Encode(spoil Spoil) []byte {
	var transport []byte
	sumAt := 0
	proto := p.IP.Protocol
	v6 := p.IP.Src.Is6()
	switch {
	case p.TCP != nil:
		transport, sumAt, proto = p.TCP.encode(), 16, ProtoTCP
	case p.UDP != nil:
		transport, sumAt, proto = p.UDP.encode(), 6, ProtoUDP
	case p.ICMP != nil:
		transport, sumAt, proto = p.ICMP.encode(), 2, ProtoICMP
		if v6 {
			proto = ProtoICMPv6
		}
	}
	if len(transport) > 0 {
		var sum uint32
		if proto != ProtoICMP {
			sum = p.pseudoHeader(proto, len(transport))
		}
		check := Checksum(transport, sum)
		if spoil.Checksum {
			check ^= 0x5555
		}
		binary.BigEndian.PutUint16(transport[sumAt:], check)
	}
	if v6 {
		return append(p.IP.encode6(proto, len(transport)), transport...)
	}
	return append(p.IP.encode4(proto, len(transport)), transport...)
}

// ttl returns the TTL to write.
func (ip *IP) ttl() uint8 {
	if ip.TTL == 0 {
		return 255
	}
	return ip.TTL
}

func (ip *IP) encode4(proto uint8, length int) []byte {
	b := make([]byte, ipv4HeaderLen, ipv4HeaderLen+length)
	b[0] = 4<<4 | ipv4HeaderLen/4
	b[1] = ip.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4HeaderLen+length))
	binary.BigEndian.PutUint16(b[4:], ip.ID)
	if ip.DontFragment {
		b[6] = 0x40
	}
	b[8], b[9] = ip.ttl(), proto
	copy(b[12:], ip.Src.AsSlice())
	copy(b[16:], ip.Dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], Checksum(b, 0))
	return b
}

func (ip *IP) encode6(proto uint8, length int) []byte {
	b := make([]byte, ipv6HeaderLen, ipv6HeaderLen+length)
	binary.BigEndian.PutUint32(b, 6<<28|uint32(ip.TOS)<<20|ip.FlowLabel&0xfffff)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = proto, ip.ttl()
	copy(b[8:], ip.Src.AsSlice())
	copy(b[24:], ip.Dst.AsSlice())
	return b
}

func (t *TCP) encode() []byte {
	padded := (len(t.Options) + 3) &^ 3
	b := make([]byte, tcpHeaderLen+padded, tcpHeaderLen+padded+len(t.Payload))
	binary.BigEndian.PutUint16(b, t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	binary.BigEndian.PutUint32(b[4:], t.Seq)
	binary.BigEndian.PutUint32(b[8:], t.Ack)
	offset := t.DataOffset
	if offset == 0 {
		offset = uint8(len(b) / 4)
	}
	binary.BigEndian.PutUint16(b[12:], uint16(offset)<<12|uint16(t.Reserved&7)<<9|t.Flags&0x1ff)
	binary.BigEndian.PutUint16(b[14:], t.Window)
	binary.BigEndian.PutUint16(b[18:], t.Urgent)
	copy(b[tcpHeaderLen:], t.Options)
	return append(b, t.Payload...)
}

func (u *UDP) encode() []byte {
	b := make([]byte, udpHeaderLen, udpHeaderLen+len(u.Payload))
	binary.BigEndian.PutUint16(b, u.SrcPort)
	binary.BigEndian.PutUint16(b[2:], u.DstPort)
	binary.BigEndian.PutUint16(b[4:], uint16(udpHeaderLen+len(u.Payload)))
	return append(b, u.Payload...)
}

func (m *ICMP) encode() []byte {
	b := make([]byte, icmpHeaderLen, icmpHeaderLen+len(m.Body))
	b[0], b[1] = m.Type, m.Code
	binary.BigEndian.PutUint32(b[4:], m.Rest)
	return append(b, m.Body...)
}
