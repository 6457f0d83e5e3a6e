package vnet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// HeaderSize is the size in bytes of struct virtio_net_hdr without the
// num_buffers field, the form that TUNSETVNETHDRSZ and PACKET_VNET_HDR use
// unless told otherwise.
const HeaderSize = 10

// The flags of a Header (VIRTIO 1.2, §5.1.6).
const (
	FlagNeedsCsum = 1 // the sum from CsumStart on is to be completed at CsumStart+CsumOffset
	FlagDataValid = 2 // the device has verified the checksum
)

// The values of Header.GSOType (VIRTIO 1.2, §5.1.6). GSOECN is a bit beside
// the others: the segment carries CWR, which only the first packet cut from it
// may carry on (RFC 3168, §6.1.2).
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOECN   = 0x80
)

// Header is struct virtio_net_hdr. Its offsets count from the first byte of
// the frame that follows.
type Header struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // length of all headers, a hint
	GSOSize    uint16 // payload bytes of each packet to be cut, the last may be shorter
	CsumStart  uint16
	CsumOffset uint16
}

// Put encodes h into the first HeaderSize bytes of b, little-endian, which is
// what a device does after TUNSETVNETLE and what x86 and arm64 do anyway.
func (h Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	b[0] = h.Flags
	b[1] = h.GSOType
	binary.LittleEndian.PutUint16(b[2:], h.HdrLen)
	binary.LittleEndian.PutUint16(b[4:], h.GSOSize)
	binary.LittleEndian.PutUint16(b[6:], h.CsumStart)
	binary.LittleEndian.PutUint16(b[8:], h.CsumOffset)
}

// Parse decodes the first HeaderSize bytes of b. Whether the header fits its
// frame is for Check to say.
func Parse(b []byte) Header {
	_ = b[HeaderSize-1]
	return Header{
		Flags:      b[0],
		GSOType:    b[1],
		HdrLen:     binary.LittleEndian.Uint16(b[2:]),
		GSOSize:    binary.LittleEndian.Uint16(b[4:]),
		CsumStart:  binary.LittleEndian.Uint16(b[6:]),
		CsumOffset: binary.LittleEndian.Uint16(b[8:]),
	}
}

// The reasons for which Check refuses a header.
var (
	ErrGSOType   = errors.New("vnet: segmentation type that was not negotiated")
	ErrGSOSize   = errors.New("vnet: segmentation without a segment size")
	ErrCsumRange = errors.New("vnet: checksum outside the frame")
)

// Check says whether h makes sense for a received frame of frameLen bytes from
// a device that was offered TSO4 and TSO6 and nothing else. A device that
// keeps to the protocol never fails it.
func (h Header) Check(frameLen int) error {
	switch h.GSOType &^ GSOECN {
	case GSONone:
	case GSOTCPv4, GSOTCPv6:
		if h.GSOSize == 0 {
			return ErrGSOSize
		}
	default:
		return fmt.Errorf("%w: %d", ErrGSOType, h.GSOType)
	}
	if h.Flags&FlagNeedsCsum != 0 && int(h.CsumStart)+int(h.CsumOffset)+2 > frameLen {
		return fmt.Errorf("%w: start %d, offset %d, frame %d", ErrCsumRange, h.CsumStart, h.CsumOffset, frameLen)
	}
	return nil
}

// ForPacket derives the header of an outgoing packet whose headers, the link
// header included, are set. It is the zero header unless the transport left
// the checksum to the link (stack.GSO.NeedsCsum).
//
// A transport leaves segmentation to the link by giving pkt more payload than
// one MSS. The offsets come from the packet's headers rather than from
// GSO.L3HdrLen, which does not know of IP options and extension headers.
func ForPacket(pkt *stack.PacketBuffer) Header {
	gso := &pkt.GSOOptions
	if !gso.NeedsCsum {
		return Header{}
	}
	var gsoType uint8
	switch gso.Type {
	case stack.GSOTCPv4:
		gsoType = GSOTCPv4
	case stack.GSOTCPv6:
		gsoType = GSOTCPv6
	default:
		return Header{} // GSONone and GSOGvisor: the transport did the work
	}
	l2 := len(pkt.LinkHeader().Slice())
	l3 := len(pkt.NetworkHeader().Slice())
	if l3 == 0 {
		l3 = int(gso.L3HdrLen)
	}
	h := Header{
		Flags:      FlagNeedsCsum,
		CsumStart:  uint16(l2 + l3),
		CsumOffset: gso.CsumOffset,
	}
	if gso.MSS == 0 || pkt.Data().Size() <= int(gso.MSS) {
		return h
	}
	h.GSOType = gsoType
	h.GSOSize = gso.MSS
	h.HdrLen = uint16(pkt.HeaderSize())
	if tcp := header.TCP(pkt.TransportHeader().Slice()); len(tcp) >= header.TCPMinimumSize && tcp.Flags()&flagCWR != 0 {
		h.GSOType |= GSOECN
	}
	return h
}

// flagCWR is the Congestion Window Reduced flag (RFC 3168, §6.1).
const flagCWR header.TCPFlags = 0x80
