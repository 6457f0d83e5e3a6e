package emulated

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/target/vclock"
)

// Every packet buffer of every test is released: the leak check panics otherwise.
func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	code := m.Run()
	refs.DoLeakCheck()
	os.Exit(code)
}

// arrival is a packet that a host received.
type arrival struct {
	At   time.Duration
	N    int // its number
	Size int
	ECN  uint8
}

// rig is a path in virtual time. Hosts on the left send, those on the right record.
type rig struct {
	t     *testing.T
	clock *vclock.Clock
	path  *Path
	got   [][]arrival // by host of the right side
}

// recorder is the dispatcher of one host.
type recorder struct {
	r    *rig
	host int
}

func (c *recorder) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	b := pkt.Data().AsRange().ToSlice()
	f, _ := parseFields(b)
	if b[0]>>4 == header.IPv4Version && !header.IPv4(b).IsChecksumValid() {
		c.r.t.Errorf("the IPv4 checksum of % x is wrong", b[:20])
	}
	n := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	c.r.got[c.host] = append(c.r.got[c.host], arrival{c.r.clock.Elapsed(), n, len(b), f.ecn})
}

func (*recorder) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	r := &rig{t: t, clock: vclock.New()}
	opts.Clock = r.clock
	var err error
	if r.path, err = New(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.path.Close)
	r.got = make([][]arrival, max(1, len(opts.Right)))
	for i := range r.got {
		r.path.Right(i).Attach(&recorder{r, i})
	}
	return r
}

// forward makes a rig whose forward direction is l.
func forward(t *testing.T, l Link) *rig {
	t.Helper()
	return newRig(t, Options{Forward: l})
}

// packetSpec is a packet to send.
type packetSpec struct {
	n, size int
	ecn     uint8
	dst     byte // the last byte of the address of the destination
	port    uint16
	v6      bool
}

func (s packetSpec) bytes() []byte {
	b := make([]byte, max(s.size, 48))
	transport := b[header.IPv4MinimumSize:]
	if s.v6 {
		header.IPv6(b).Encode(&header.IPv6Fields{
			TrafficClass: s.ecn, PayloadLength: uint16(len(b) - header.IPv6MinimumSize), TransportProtocol: 17, HopLimit: 64,
			SrcAddr: tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 1}), DstAddr: tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: s.dst}),
		})
		transport = b[header.IPv6MinimumSize:]
	} else {
		ip := header.IPv4(b)
		ip.Encode(&header.IPv4Fields{
			TOS: s.ecn, TotalLength: uint16(len(b)), TTL: 64, Protocol: 17,
			SrcAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), DstAddr: tcpip.AddrFrom4([4]byte{198, 51, 100, s.dst}),
		})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	binary.BigEndian.PutUint16(transport, s.port)
	binary.BigEndian.PutUint32(b[len(b)-4:], uint32(s.n))
	return b
}

// send writes packets in one batch, now.
func (r *rig) send(specs ...packetSpec) {
	r.t.Helper()
	var list stack.PacketBufferList
	for _, s := range specs {
		list.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(s.bytes())}))
	}
	if n, err := r.path.Left(0).WritePackets(list); n != len(specs) || err != nil {
		r.t.Fatalf("WritePackets = %d, %v", n, err)
	}
	list.DecRef()
}

// burst sends packets with numbers from first, all of the same size, now.
func (r *rig) burst(first, count, size int) {
	r.t.Helper()
	specs := make([]packetSpec, count)
	for i := range specs {
		specs[i] = packetSpec{n: first + i, size: size}
	}
	r.send(specs...)
}

// run lets virtual time pass until t.
func (r *rig) run(t time.Duration) {
	for r.clock.Step(t) {
	}
}

// every sends one packet of size bytes at each multiple of interval, until end.
func (r *rig) every(interval, end time.Duration, size int) (sent int) {
	for ; r.clock.Elapsed() < end; sent++ {
		r.send(packetSpec{n: sent, size: size})
		r.run(min(r.clock.Elapsed()+interval, end))
	}
	return sent
}

// numbers returns the numbers of packets in the order of arrival.
func numbers(a []arrival) []int {
	out := make([]int, len(a))
	for i := range a {
		out[i] = a[i].N
	}
	return out
}
