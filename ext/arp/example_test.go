package arp_test

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/ext/arp"
)

// A stack with this ARP, a permanent entry, and a neighbour that announces where it moved to.
func Example() {
	link := channel.New(16, 1500, "\x02\x00\x00\x00\x00\x01")
	link.LinkEPCapabilities |= stack.CapabilityResolutionRequired
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocolWithOptions(arp.Options{Accept: arp.AcceptSubnet})},
		Clock:            vclock.New(), // without it, the real clock
	})
	defer s.Destroy()
	if err := s.CreateNIC(1, link); err != nil {
		panic(err)
	}

	a, _ := arp.Of(s)
	addr := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), PrefixLen: 24}
	if err := a.AddAddress(1, addr, arp.AddressOptions{NoProbe: true}); err != nil {
		panic(err)
	}
	if err := a.AddPermanent(1, tcpip.AddrFrom4([4]byte{192, 0, 2, 254}), "\x02\x00\x00\x00\x00\xfe"); err != nil {
		panic(err)
	}

	moved := tcpip.AddrFrom4([4]byte{192, 0, 2, 7})
	announcement := arp.Packet{Op: arp.OpRequest, SenderLink: "\x02\x00\x00\x00\x00\x07", Sender: moved, Target: moved}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(announcement.AppendTo(nil))})
	pkt.PktType = tcpip.PacketBroadcast
	link.InjectInbound(header.ARPProtocolNumber, pkt)
	pkt.DecRef()

	neighbors, _ := a.Neighbors(1)
	for _, n := range neighbors {
		fmt.Println(n)
	}
	// Output:
	// 192.0.2.7 dev 1 lladdr 02:00:00:00:00:07 STALE
	// 192.0.2.254 dev 1 lladdr 02:00:00:00:00:fe PERMANENT
}
