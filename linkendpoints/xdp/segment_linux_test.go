//go:build amd64 || arm64

package xdp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// tcpPacket makes a packet as a transport does that leaves segmentation and
// checksum to the link: with the sum of the pseudo-header in the checksum field.
func tcpPacket(e stack.LinkEndpoint, six bool, payload []byte, mss int, flags header.TCPFlags) *stack.PacketBuffer {
	const options = 12
	var body buffer.Buffer
	for b := payload; len(b) > 0; {
		n := min(len(b), 1000)
		part := buffer.MakeWithData(b[:n])
		body.Merge(&part)
		b = b[n:]
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 200, Payload: body})
	tcp := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize + options))
	tcp.Encode(&header.TCPFields{SrcPort: 80, DstPort: 4000, SeqNum: 1<<32 - 2000, AckNum: 7, DataOffset: uint8(len(tcp)), Flags: flags, WindowSize: 99})
	size := uint16(len(tcp) + len(payload))
	g := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: uint16(mss), L3HdrLen: header.IPv4MinimumSize}
	if six {
		g.Type, g.L3HdrLen = stack.GSOTCPv6, header.IPv6MinimumSize
		src, dst := tcpip.AddrFrom16([16]byte{0xfd, 15: 1}), tcpip.AddrFrom16([16]byte{0xfd, 15: 2})
		header.IPv6(pkt.NetworkHeader().Push(header.IPv6MinimumSize)).Encode(&header.IPv6Fields{
			PayloadLength: size, TransportProtocol: header.TCPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst,
		})
		tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, size))
		pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	} else {
		ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{
			TotalLength: header.IPv4MinimumSize + size, ID: 0xfffe, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: ourIP, DstAddr: peerIP,
		})
		ip.SetChecksum(^ip.CalculateChecksum())
		tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, ourIP, peerIP, size))
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	}
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = e.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = peerAddress
	pkt.GSOOptions = g
	e.AddHeader(pkt)
	return pkt
}

// frames returns what is in the transmit ring, whole frames, and completes it.
func (f *fakeKernel) frames(t testing.TB) (frames [][]byte) {
	t.Helper()
	var frame []byte
	for _, d := range f.sent() {
		frame = append(frame, f.chunk(d.Addr)[:d.Len]...)
		f.complete(d.Addr)
		if d.Options&unix.XDP_PKT_CONTD == 0 {
			frames, frame = append(frames, frame), nil
		}
	}
	if frame != nil {
		t.Error("the last frame has no end")
	}
	return frames
}

// A packet of many segments becomes frames that a receiver puts together to the
// same payload, each a valid packet of its own.
func TestSegmentation(t *testing.T) {
	const fin, psh, ack, cwr = header.TCPFlagFin, header.TCPFlagPsh, header.TCPFlagAck, flagCWR
	data := make([]byte, 65535)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	for _, tt := range []struct {
		payload, mss, want int
		flags              header.TCPFlags
	}{
		{0, 1448, 1, ack},
		{1, 1448, 1, ack | psh},
		{1448, 1448, 1, ack | psh | fin},
		{1449, 1448, 2, ack | psh | fin},
		{40001, 1448, 28, ack | psh | fin | cwr},
		{65000, 1448, 45, ack},
		{30000, 8928, 4, ack | psh}, // several chunks each
		{5000, 4096, 2, ack},
		{1000, 33, 31, ack | psh}, // odd lengths
	} {
		for _, six := range []bool{false, true} {
			f := newFake(t, Options{})
			proto := header.IPv4ProtocolNumber
			l3 := header.IPv4MinimumSize
			if six {
				proto, l3 = header.IPv6ProtocolNumber, header.IPv6MinimumSize
			}
			if n, err := write(f.e, tcpPacket(f.e, six, data[:tt.payload], tt.mss, tt.flags)); n != 1 || err != nil {
				t.Fatalf("%+v: WritePackets = %d, %v", tt, n, err)
			}
			frames := f.frames(t)
			if len(frames) != tt.want {
				t.Errorf("%+v, IPv6 %t: %d frames", tt, six, len(frames))
			}
			var got []byte
			for i, b := range frames {
				p := b[header.EthernetMinimumSize:]
				if v := vnet.Verify(proto, vnet.Header{}, 0, vnet.Packet{Head: p}); v != vnet.Good {
					t.Errorf("%+v, IPv6 %t, segment %d: verdict %v", tt, six, i, v)
				}
				if !six && header.IPv4(p).ID() != uint16(0xfffe+i) {
					t.Errorf("%+v: segment %d has ID %d", tt, i, header.IPv4(p).ID())
				}
				tcp := header.TCP(p[l3:])
				want := tt.flags
				if i > 0 {
					want &^= cwr
				}
				if i < len(frames)-1 {
					want &^= psh | fin
				}
				if tcp.Flags() != want || tcp.SequenceNumber() != 1<<32-2000+uint32(len(got)) || tcp.AckNumber() != 7 {
					t.Errorf("%+v, IPv6 %t, segment %d: flags %v, sequence number %d", tt, six, i, tcp.Flags(), tcp.SequenceNumber())
				}
				got = append(got, tcp.Payload()...)
				if n := len(tcp.Payload()); n > tt.mss || n < tt.mss && i < len(frames)-1 {
					t.Errorf("%+v: segment %d has %d bytes", tt, i, n)
				}
			}
			if !bytes.Equal(got, data[:tt.payload]) {
				t.Errorf("%+v, IPv6 %t: the payload was altered", tt, six)
			}
			s := f.e.Stats()
			if s.TxFrames != uint64(tt.want) || (s.TxSegmented == 1) != (tt.want > 1) {
				t.Errorf("%+v: counted %d frames, %d packets cut", tt, s.TxFrames, s.TxSegmented)
			}
		}
	}
}

// A packet is cut as a whole or refused, unless no queue could ever hold it.
func TestSegmentationWithoutRoom(t *testing.T) {
	f := newFake(t, Options{})
	write(f.e, manyPackets(f.e, testFrames-9)...)
	data := make([]byte, 10*1000)
	if n, err := write(f.e, tcpPacket(f.e, false, data, 1000, 0)); n != 0 || !isType[*tcpip.ErrNoBufferSpace](err) {
		t.Errorf("ten segments with room for nine: %d, %v", n, err)
	}
	if n, err := write(f.e, tcpPacket(f.e, false, data[:9000], 1000, 0)); n != 1 || err != nil {
		t.Errorf("nine segments with room for nine: %d, %v", n, err)
	}
	f.frames(t)
	data = make([]byte, 100*(testFrames+10))
	if n, err := write(f.e, tcpPacket(f.e, false, data, 100, 0)); n != 1 || err != nil {
		t.Errorf("more segments than chunks: %d, %v", n, err)
	}
	if frames := f.frames(t); len(frames) != testFrames {
		t.Errorf("%d segments of one packet are in the ring, want as many as there are chunks", len(frames))
	}
	if s := f.e.Stats(); s.TxDroppedFull != 1 || s.TxRefusedFull != 1 {
		t.Errorf("%+v", s)
	}
}

// FuzzSegmentation cuts packets whose headers are anything.
func FuzzSegmentation(f *testing.F) {
	f.Add([]byte{0, 0, 80, 0, 80}, uint16(1448), uint8(20), uint8(32), uint16(3000))
	f.Add([]byte{1}, uint16(1), uint8(40), uint8(20), uint16(100))
	f.Add([]byte{}, uint16(65535), uint8(0), uint8(0), uint16(65535))
	fake := newFake(f, Options{})
	f.Fuzz(func(t *testing.T, b []byte, mss uint16, l3, l4 uint8, payload uint16) {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
			ReserveHeaderBytes: 14 + 255 + 255, Payload: buffer.MakeWithData(make([]byte, payload)),
		})
		copy(pkt.TransportHeader().Push(int(l4)), b)
		copy(pkt.NetworkHeader().Push(int(l3)), b)
		fake.e.AddHeader(pkt)
		pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: mss}
		if len(b) > 0 && b[0]&1 != 0 {
			pkt.GSOOptions.Type = stack.GSOTCPv6
		}
		if len(b) > 2 {
			pkt.GSOOptions.CsumOffset = binary.LittleEndian.Uint16(b[1:])
		}
		write(fake.e, pkt)
		for _, frame := range fake.frames(t) {
			if len(frame) > fake.e.maxFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
		}
	})
}
