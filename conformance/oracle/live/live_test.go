package live_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/oracle/live"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.2")
)

// syn is a first SYN from a port of src to dst.
func syn(src, dst netip.Addr, from uint16, spoil bool) *stack.PacketBuffer {
	p := wire.Packet{IP: wire.IP{Src: src, Dst: dst}, TCP: &wire.TCP{SrcPort: from, DstPort: 80, Flags: wire.SYN, Options: []byte{2, 4, 5, 180}}}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.Encode(wire.Spoil{Checksum: spoil}))})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	return pkt
}

// sink is a dispatcher that counts.
type sink struct{ delivered int }

func (s *sink) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { s.delivered++ }
func (*sink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)      {}

// write sends a packet through an endpoint.
func write(t *testing.T, e stack.LinkEndpoint, pkt *stack.PacketBuffer) {
	var list stack.PacketBufferList
	list.PushBack(pkt)
	if n, err := e.WritePackets(list); n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v", n, err)
	}
	list.DecRef()
}

// TestWrap judges both directions and lets every packet pass.
func TestWrap(t *testing.T) {
	child := channel.New(8, 1500, "")
	defer child.Close()
	var found []string
	e := live.Wrap(child, live.Options{Oracle: oracle.Options{
		Near: []netip.Addr{here}, Wire: true,
		Found: func(f oracle.Finding) { found = append(found, f.Rule) },
	}})
	s := &sink{}
	e.Attach(s)
	write(t, e, syn(here, there, 1000, true))
	pkt := syn(there, here, 2000, true)
	child.InjectInbound(ipv4.ProtocolNumber, pkt)
	pkt.DecRef()
	write(t, e, syn(here, there, 3000, false))
	if s.delivered != 1 || child.NumQueued() != 2 {
		t.Errorf("%d packets went in and %d out", s.delivered, child.NumQueued())
	}
	rep := e.Report()
	if len(found) != 2 || rep.Packets != 3 || rep.Connections != 3 || rep.Broken(oracle.Hard) != 2 {
		t.Errorf("found %v; %+v", found, rep)
	}
	write(t, e, syn(here, there, 4000, false))
	if again := e.Report(); again.Packets != 3 {
		t.Errorf("%d packets were judged after the end", again.Packets)
	}
}

// TestEthernet judges what stands behind an Ethernet header.
func TestEthernet(t *testing.T) {
	child := channel.New(8, 1500, "\x02\x00\x00\x00\x00\x01")
	defer child.Close()
	e := live.Wrap(ethernet.New(child), live.Options{Oracle: oracle.Options{Wire: true}})
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.EthernetMinimumSize,
		Payload:            syn(here, there, 1000, false).ToBuffer(),
	})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	pkt.EgressRoute.RemoteLinkAddress = "\x02\x00\x00\x00\x00\x02"
	e.AddHeader(pkt)
	write(t, e, pkt)
	if rep := e.Report(); rep.Segments != 1 || len(rep.Skipped) > 0 {
		t.Errorf("%+v", rep)
	}
}

// TestConcurrent writes from several goroutines at once.
func TestConcurrent(t *testing.T) {
	child := channel.New(1000, 1500, "")
	defer child.Close()
	e := live.Wrap(child, live.Options{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 50 {
				write(t, e, syn(here, there, uint16(1000*i+k), false))
			}
		})
	}
	wg.Wait()
	if rep := e.Report(); rep.Connections != 200 || rep.Broken(oracle.Hard) != 0 {
		t.Errorf("%+v", rep)
	}
}

// Example watches a link and prints what is wrong with what crosses it.
func Example() {
	link := live.Wrap(channel.New(8, 1500, ""), live.Options{Oracle: oracle.Options{
		Found: func(f oracle.Finding) { fmt.Println(f.Rule, f.Text) },
	}})
	var list stack.PacketBufferList
	list.PushBack(syn(here, there, 1000, true))
	link.WritePackets(list)
	list.DecRef()
	fmt.Println(link.Report().Broken(oracle.Hard))
	link.Close()
	// Output:
	// checksum the checksum is wrong
	// 1
}
