package endpoint

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// The MTU is capped, whoever sets it.
func TestMTU(t *testing.T) {
	var e Ethernet
	var life lifecycle.Lifecycle
	Init(&e, &life, 3000, 9000, "")
	if got := e.MTU(); got != 3000 {
		t.Errorf("MTU %d after Init with 9000, want 3000", got)
	}
	for _, tt := range []struct{ set, want uint32 }{{1500, 1500}, {3000, 3000}, {3001, 3000}, {1<<32 - 1, 3000}} {
		e.SetMTU(tt.set)
		if got := e.MTU(); got != tt.want {
			t.Errorf("MTU %d after SetMTU(%d), want %d", got, tt.set, tt.want)
		}
	}
}

// An Ethernet header: destination, source, type (IEEE 802.3, clause 3.1.1).
func TestHeader(t *testing.T) {
	var e Ethernet
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: int(e.MaxHeaderLength())})
	defer pkt.DecRef()
	pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x01")
	pkt.EgressRoute.RemoteLinkAddress = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x02")
	e.AddHeader(pkt)
	want := []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x86\xdd")
	if got := pkt.LinkHeader().Slice(); !bytes.Equal(got, want) {
		t.Fatalf("header % x, want % x", got, want)
	}

	received := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(want, 1, 2, 3))})
	defer received.DecRef()
	if !e.ParseHeader(received) || received.NetworkProtocolNumber != header.IPv6ProtocolNumber || received.Data().Size() != 3 {
		t.Errorf("parsed as protocol %#x with %d bytes of data, want %#x with 3",
			received.NetworkProtocolNumber, received.Data().Size(), header.IPv6ProtocolNumber)
	}
	short := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(want[:13])})
	defer short.DecRef()
	if e.ParseHeader(short) {
		t.Error("a header of 13 bytes was parsed")
	}
}
