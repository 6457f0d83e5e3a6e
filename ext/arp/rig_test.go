package arp

import (
	"math/rand"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/conformance/target/vclock"
)

const (
	nicID     = 1
	ourMAC    = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x01")
	peerMAC   = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x02")
	newMAC    = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x03")
	gwMAC     = tcpip.LinkAddress("\x02\x00\x00\x00\x00\xfe")
	evilMAC   = tcpip.LinkAddress("\x02\x66\x66\x66\x66\x66")
	broadcast = header.EthernetBroadcastAddress
)

func ip(a, b, c, d byte) tcpip.Address { return tcpip.AddrFrom4([4]byte{a, b, c, d}) }

var (
	ourIP  = ip(10, 0, 0, 1)
	peerIP = ip(10, 0, 0, 2)
	gwIP   = ip(10, 0, 0, 254)
	farIP  = ip(192, 0, 2, 9)
)

// rig is a stack on a link whose other end is the test, in virtual time.
type rig struct {
	t     testing.TB
	clock *vclock.Clock
	link  *channel.Endpoint
	s     *stack.Stack
	p     *Protocol // nil with stock's ARP
	watch *Watcher
	udp   tcpip.Endpoint
}

func newRig(t testing.TB, factory stack.NetworkProtocolFactory) *rig {
	t.Helper()
	r := &rig{t: t, clock: vclock.New(), link: channel.New(1024, 1500, ourMAC), watch: NewWatcher(0)}
	r.link.LinkEPCapabilities |= stack.CapabilityResolutionRequired
	r.s = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, factory},
		TransportProtocols: []stack.TransportProtocolFactory{udp.NewProtocol},
		Clock:              r.clock,
		NUDDisp:            r.watch,
		RandSource:         rand.NewSource(1),
	})
	t.Cleanup(r.s.Destroy)
	r.p, _ = Of(r.s)
	if err := r.s.CreateNIC(nicID, r.link); err != nil {
		t.Fatal(err)
	}
	r.addr(ourIP, 24)
	subnet := tcpip.AddressWithPrefix{Address: ourIP, PrefixLen: 24}.Subnet()
	r.s.SetRouteTable([]tcpip.Route{
		{Destination: subnet, NIC: nicID},
		{Destination: header.IPv4EmptySubnet, Gateway: gwIP, NIC: nicID},
	})
	r.run(0)
	r.sent()
	return r
}

func ours(o Options) stack.NetworkProtocolFactory {
	o.NoAnnounce = true
	return NewProtocolWithOptions(o)
}

func (r *rig) addr(a tcpip.Address, prefix int) {
	r.t.Helper()
	pa := tcpip.ProtocolAddress{Protocol: header.IPv4ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: prefix}}
	if err := r.s.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
		r.t.Fatal(err)
	}
}

// run lets d pass.
func (r *rig) run(d time.Duration) {
	limit := r.clock.Elapsed() + d
	for r.clock.Step(limit) {
	}
}

// frame is what the stack sent: an ARP packet, or the destination of an IPv4 one.
type frame struct {
	to  tcpip.LinkAddress
	arp Packet
	ip  tcpip.Address
}

// sent takes what the stack sent so far.
func (r *rig) sent() (out []frame) {
	r.t.Helper()
	for pkt := r.link.Read(); pkt != nil; pkt = r.link.Read() {
		f := frame{to: pkt.EgressRoute.RemoteLinkAddress}
		b := pkt.NetworkHeader().Slice()
		if pkt.NetworkProtocolNumber == ProtocolNumber {
			var why Malformed
			if f.arp, why = Parse(b); why != WellFormed {
				r.t.Fatalf("sent a malformed packet: %v", why)
			}
		} else {
			f.ip = header.IPv4(b).DestinationAddress()
		}
		pkt.DecRef()
		out = append(out, f)
	}
	return out
}

// inject delivers octets as an ARP packet, to us or to everybody.
func (r *rig) inject(b []byte, to tcpip.PacketType) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer pkt.DecRef()
	pkt.PktType = to
	r.link.InjectInbound(ProtocolNumber, pkt)
}

func (r *rig) recv(p Packet, to tcpip.PacketType) { r.inject(p.AppendTo(nil), to) }

// reply delivers an answer to us.
func (r *rig) reply(addr tcpip.Address, mac tcpip.LinkAddress) {
	r.recv(Packet{Op: OpReply, SenderLink: mac, Sender: addr, TargetLink: ourMAC, Target: ourIP}, tcpip.PacketHost)
}

// gratuitous delivers an announcement.
func (r *rig) gratuitous(op Op, addr tcpip.Address, mac tcpip.LinkAddress) {
	r.recv(Packet{Op: op, SenderLink: mac, Sender: addr, Target: addr}, tcpip.PacketBroadcast)
}

func (r *rig) request(from tcpip.Address, mac tcpip.LinkAddress, target tcpip.Address) {
	r.recv(Packet{Op: OpRequest, SenderLink: mac, Sender: from, Target: target}, tcpip.PacketBroadcast)
}

// datagram sends a UDP datagram and lets the stack come to rest.
func (r *rig) datagram(to tcpip.Address) {
	r.t.Helper()
	if r.udp == nil {
		var wq waiter.Queue
		ep, err := r.s.NewEndpoint(udp.ProtocolNumber, header.IPv4ProtocolNumber, &wq)
		if err != nil {
			r.t.Fatal(err)
		}
		r.udp = ep
		r.t.Cleanup(ep.Close)
	}
	var p payload
	if _, err := r.udp.Write(&p, tcpip.WriteOptions{To: &tcpip.FullAddress{Addr: to, Port: 9}}); err != nil {
		r.t.Fatalf("write to %s: %v", to, err)
	}
	r.run(0)
}

// payload is one octet to write.
type payload struct{ read bool }

func (p *payload) Len() int {
	if p.read {
		return 0
	}
	return 1
}

func (p *payload) Read(b []byte) (int, error) {
	p.read = true
	return copy(b, "x"), nil
}

// resolve makes a neighbour REACHABLE with one datagram.
func (r *rig) resolve(addr tcpip.Address, mac tcpip.LinkAddress) {
	r.t.Helper()
	r.datagram(addr)
	r.reply(addr, mac)
	r.run(0)
	r.sent()
	r.expect(addr, mac, stack.Reachable)
}

func (r *rig) entry(addr tcpip.Address) (stack.NeighborEntry, bool) {
	r.t.Helper()
	all, err := r.s.Neighbors(nicID, header.IPv4ProtocolNumber)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range all {
		if n.Addr == addr {
			return n, true
		}
	}
	return stack.NeighborEntry{}, false
}

func (r *rig) expect(addr tcpip.Address, mac tcpip.LinkAddress, s stack.NeighborState) {
	r.t.Helper()
	n, ok := r.entry(addr)
	if !ok || n.LinkAddr != mac || n.State != s {
		r.t.Fatalf("neighbour %s is %s %s (known: %v), want %s %s", addr, n.LinkAddr, n.State, ok, mac, s)
	}
}
