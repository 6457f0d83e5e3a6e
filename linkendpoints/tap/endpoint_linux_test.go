package tap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// collector is a dispatcher that keeps what it is given.
type collector struct {
	packets chan *stack.PacketBuffer
}

func newCollector() *collector { return &collector{make(chan *stack.PacketBuffer, 100)} }

func (c *collector) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	c.packets <- pkt.IncRef()
}

func (*collector) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// drain releases what was kept.
func (c *collector) drain() {
	for {
		select {
		case pkt := <-c.packets:
			pkt.DecRef()
		default:
			return
		}
	}
}

// newTestEndpoint makes an endpoint on a pair, which is closed with the test.
func newTestEndpoint(t testing.TB, mode Mode, opts Options) (*Endpoint, *wire) {
	d, w := newPair(t, mode, true)
	e := newEndpoint(d, opts)
	t.Cleanup(func() {
		e.Close()
		e.Wait()
	})
	return e, w
}

// tcpPacket makes an outgoing TCP segment as a transport does that leaves
// checksum and segmentation to the link.
func tcpPacket(e *Endpoint, payload int, gso stack.GSO) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(e.MaxHeaderLength()) + header.IPv4MinimumSize + header.TCPMinimumSize,
		Payload:            buffer.MakeWithData(bytes.Repeat([]byte{7}, payload)),
	})
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
	header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize)).Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + header.TCPMinimumSize + payload), TTL: 64, Protocol: 6,
	})
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = e.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = kernelAddress
	pkt.GSOOptions = gso
	e.AddHeader(pkt)
	return pkt
}

// write writes packets and releases them.
func write(e *Endpoint, pkts ...*stack.PacketBuffer) (int, tcpip.Error) {
	var list stack.PacketBufferList
	for _, p := range pkts {
		list.PushBack(p)
	}
	defer func() {
		for _, p := range pkts {
			p.DecRef()
		}
	}()
	return e.WritePackets(list)
}

var hostGSO = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, MSS: 1000, L3HdrLen: header.IPv4MinimumSize}

// What a transport leaves to the link is in the virtio-net header on the wire.
func TestTransmitOffload(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mode    Mode
		opts    Options
		payload int
		gso     stack.GSO
		want    vnet.Header
		stats   Stats
	}{
		{"no offload asked for", TAP, Options{}, 1000, stack.GSO{}, vnet.Header{}, Stats{TxFrames: 1, TxBytes: 1054}},
		{"checksum", TAP, Options{}, 1000, hostGSO, vnet.Header{Flags: 1, CsumStart: 34, CsumOffset: 16}, Stats{TxFrames: 1, TxBytes: 1054, TxPartialChecksum: 1}},
		{"segmentation", TAP, Options{}, 60000, hostGSO, vnet.Header{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 1000, CsumStart: 34, CsumOffset: 16},
			Stats{TxFrames: 1, TxBytes: 60054, TxPartialChecksum: 1, TxGSO: 1}},
		{"segmentation on TUN", TUN, Options{}, 60000, hostGSO, vnet.Header{Flags: 1, GSOType: 1, HdrLen: 40, GSOSize: 1000, CsumStart: 20, CsumOffset: 16},
			Stats{TxFrames: 1, TxBytes: 60040, TxPartialChecksum: 1, TxGSO: 1}},
		{"none offered", TAP, Options{NoOffload: true}, 1000, stack.GSO{}, vnet.Header{}, Stats{TxFrames: 1, TxBytes: 1054}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, w := newTestEndpoint(t, tt.mode, tt.opts)
			if n, err := write(e, tcpPacket(e, tt.payload, tt.gso)); n != 1 || err != nil {
				t.Fatalf("WritePackets = %d, %v", n, err)
			}
			raw, err := w.Peer.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := vnet.Parse(raw); got != tt.want {
				t.Errorf("header %+v, want %+v", got, tt.want)
			}
			if diff := cmp.Diff(tt.stats, e.Stats()); diff != "" {
				t.Errorf("Stats (-want +got)\n%s", diff)
			}
		})
	}
}

// The capabilities follow from the options and the device.
func TestCapabilities(t *testing.T) {
	for _, tt := range []struct {
		mode    Mode
		vnetHdr bool
		opts    Options
		caps    stack.LinkEndpointCapabilities
		gso     stack.SupportedGSO
		header  uint16
		address tcpip.LinkAddress
		arp     header.ARPHardwareType
	}{
		{TAP, true, Options{}, stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload, stack.HostGSOSupported, 14, "\x02\x00\x5e\x00\x53\xff", header.ARPHardwareEther},
		{TAP, true, Options{NoOffload: true}, stack.CapabilityResolutionRequired, stack.GSONotSupported, 14, "\x02\x00\x5e\x00\x53\xff", header.ARPHardwareEther},
		{TAP, false, Options{LinkAddress: "\x02\x00\x5e\x00\x53\x77"}, stack.CapabilityResolutionRequired, stack.GSONotSupported, 14, "\x02\x00\x5e\x00\x53\x77", header.ARPHardwareEther},
		{TUN, true, Options{LinkAddress: "\x02\x00\x5e\x00\x53\x77"}, stack.CapabilityRXChecksumOffload, stack.HostGSOSupported, 0, "", header.ARPHardwareNone},
	} {
		d, _ := newPair(t, tt.mode, tt.vnetHdr)
		e := newEndpoint(d, tt.opts)
		if e.Capabilities() != tt.caps || e.SupportedGSO() != tt.gso || e.MaxHeaderLength() != tt.header || e.LinkAddress() != tt.address || e.ARPHardwareType() != tt.arp {
			t.Errorf("%s, vnet %t, %+v: capabilities %#x, GSO %v, header %d, address %s, ARP type %d",
				tt.mode, tt.vnetHdr, tt.opts, e.Capabilities(), e.SupportedGSO(), e.MaxHeaderLength(), e.LinkAddress(), e.ARPHardwareType())
		}
		e.Close()
	}
}

// ipv4TCP makes a received frame around a TCP segment whose checksum is sum.
func ipv4TCP(payload int, sum uint16) []byte {
	b := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize+payload)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: kernelAddress, DstAddr: "\x02\x00\x5e\x00\x53\xff", Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: 6})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip.Payload())
	tcp.Encode(&header.TCPFields{DataOffset: header.TCPMinimumSize})
	tcp.SetChecksum(sum)
	return b
}

// raw puts a virtio-net header in front of a frame.
func raw(h vnet.Header, frame []byte) []byte {
	b := make([]byte, vnet.HeaderSize, vnet.HeaderSize+len(frame))
	h.Put(b)
	return append(b, frame...)
}

// Each frame is delivered, or dropped and counted for what is wrong with it.
func TestReceiveVerdicts(t *testing.T) {
	partial := vnet.Header{Flags: vnet.FlagNeedsCsum, CsumStart: 34, CsumOffset: 16}
	super := vnet.Header{Flags: vnet.FlagNeedsCsum, GSOType: vnet.GSOTCPv4, GSOSize: 1448, HdrLen: 54, CsumStart: 34, CsumOffset: 16}
	// The sum of a segment of zeros from and to 0.0.0.0: what the headers add up to.
	const right = 0xffff - (0x6 + 0x5000 + 20 + 100)
	other := ipv4TCP(100, right)
	other[5] ^= 1
	arp := make([]byte, 60)
	header.Ethernet(arp).Encode(&header.EthernetFields{SrcAddr: kernelAddress, DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
	badIP := ipv4TCP(100, right)
	badIP[22]++
	malformed := ipv4TCP(100, right)
	malformed[14] = 0x44
	for _, tt := range []struct {
		name string
		opts Options
		raw  []byte
		want Stats // without bytes
	}{
		{"partial checksum", Options{}, raw(partial, ipv4TCP(100, 0xbad)), Stats{RxFrames: 1, RxPartialChecksum: 1}},
		{"super-segment", Options{}, raw(super, ipv4TCP(60000, 0xbad)), Stats{RxFrames: 1, RxPartialChecksum: 1, RxGSO: 1}},
		{"right checksum", Options{}, raw(vnet.Header{}, ipv4TCP(100, right)), Stats{RxFrames: 1, RxVerified: 1}},
		{"wrong checksum", Options{}, raw(vnet.Header{}, ipv4TCP(100, right+1)), Stats{RxDroppedChecksum: 1}},
		{"wrong checksum, vouched for", Options{}, raw(vnet.Header{Flags: vnet.FlagDataValid}, ipv4TCP(100, right+1)), Stats{RxFrames: 1}},
		{"wrong checksum, for the stack to find", Options{NoOffload: true}, raw(vnet.Header{}, ipv4TCP(100, right+1)), Stats{RxFrames: 1}},
		{"wrong IP checksum", Options{}, raw(partial, badIP), Stats{RxDroppedChecksum: 1}},
		{"malformed", Options{}, raw(partial, malformed), Stats{RxDroppedMalformed: 1}},
		{"ARP", Options{}, raw(vnet.Header{}, arp), Stats{RxFrames: 1, RxVerified: 1}},
		{"another host", Options{}, raw(partial, other), Stats{RxDroppedOtherHost: 1}},
		{"another host, promiscuous", Options{Promiscuous: true}, raw(partial, other), Stats{RxFrames: 1, RxPartialChecksum: 1}},
		{"no virtio-net header", Options{}, []byte{1, 2, 3}, Stats{RxDroppedShort: 1}},
		{"nothing else", Options{}, raw(vnet.Header{}, nil), Stats{RxDroppedShort: 1}},
		{"no Ethernet header", Options{}, raw(vnet.Header{}, make([]byte, 13)), Stats{RxDroppedShort: 1}},
		{"an Ethernet header alone", Options{}, raw(vnet.Header{}, arp[:14]), Stats{RxFrames: 1, RxVerified: 1}},
		{"giant", Options{}, raw(vnet.Header{}, make([]byte, 14+65536)), Stats{RxDroppedGiant: 1}},
		{"longer than the buffer", Options{}, raw(vnet.Header{}, make([]byte, 100000)), Stats{RxDroppedGiant: 1}},
		{"checksum outside", Options{}, raw(vnet.Header{Flags: 1, CsumStart: 60000}, ipv4TCP(100, right)), Stats{RxDroppedHeader: 1}},
		{"UDP segmentation", Options{}, raw(vnet.Header{GSOType: 5, GSOSize: 100}, ipv4TCP(100, right)), Stats{RxDroppedHeader: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, w := newTestEndpoint(t, TAP, tt.opts)
			c := newCollector()
			defer c.drain()
			e.Attach(c)
			if err := w.Peer.Send(tt.raw); err != nil {
				t.Fatal(err)
			}
			// The frame behind it has been seen when it is delivered.
			if err := w.Peer.Send(raw(vnet.Header{}, arp)); err != nil {
				t.Fatal(err)
			}
			pkt := <-c.packets
			if tt.want.RxFrames == 1 {
				if got, want := int(pkt.Size()), len(tt.raw)-vnet.HeaderSize; got != want {
					t.Errorf("delivered %d bytes, want %d", got, want)
				}
				pkt.DecRef()
				pkt = <-c.packets
			}
			pkt.DecRef()
			e.Attach(nil)
			e.Wait()
			tt.want.RxFrames++
			if !tt.opts.NoOffload {
				tt.want.RxVerified++
			}
			if diff := cmp.Diff(tt.want, e.Stats(), cmpopts.IgnoreFields(Stats{}, "RxBytes")); diff != "" {
				t.Errorf("Stats (-want +got)\n%s", diff)
			}
		})
	}
}

// A full device refuses what it cannot take and says so; nothing that was
// taken is lost, nothing that was refused is sent.
func TestBackpressure(t *testing.T) {
	e, w := newTestEndpoint(t, TAP, Options{})
	numbered := func(n int) *stack.PacketBuffer {
		pkt := tcpPacket(e, 2000, stack.GSO{})
		binary.BigEndian.PutUint32(pkt.TransportHeader().Slice()[4:], uint32(n))
		return pkt
	}
	taken, refused := 0, 0
	for refused == 0 {
		batch := make([]*stack.PacketBuffer, 10)
		for i := range batch {
			batch[i] = numbered(taken + i)
		}
		n, err := write(e, batch...)
		switch err.(type) {
		case nil:
			if n != 10 {
				t.Fatalf("WritePackets = %d without an error", n)
			}
		case *tcpip.ErrNoBufferSpace:
			refused = 10 - n
		default:
			t.Fatalf("WritePackets = %d, %v", n, err)
		}
		taken += n
	}
	if s := e.Stats(); s.TxFrames != uint64(taken) || s.TxRefusedFull != uint64(refused) {
		t.Errorf("Stats %+v, want %d frames taken and %d refused", s, taken, refused)
	}
	for want := range taken {
		b, err := w.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint32(b[38:]); got != uint32(want) {
			t.Fatalf("packet %d on the wire in place %d", got, want)
		}
	}
	if n, err := write(e, numbered(taken)); n != 1 || err != nil {
		t.Fatalf("WritePackets after the device was emptied = %d, %v", n, err)
	}
	if b, err := w.Recv(t.Context()); err != nil || binary.BigEndian.Uint32(b[38:]) != uint32(taken) {
		t.Errorf("the packet after the refused ones did not arrive: %v", err)
	}
}

// A packet that can never be sent does not hold up those behind it.
func TestInvalidPacketInBatch(t *testing.T) {
	e, w := newTestEndpoint(t, TAP, Options{})
	giant := func() *stack.PacketBuffer { return tcpPacket(e, 65535, stack.GSO{}) }
	empty := func() *stack.PacketBuffer { return stack.NewPacketBuffer(stack.PacketBufferOptions{}) }
	good := func() *stack.PacketBuffer { return tcpPacket(e, 10, stack.GSO{}) }
	if n, err := write(e, good(), giant(), good(), empty(), good()); n != 5 || err != nil {
		t.Errorf("WritePackets = %d, %v, want to be done with all 5", n, err)
	}
	n, err := write(e, good(), giant())
	if _, ok := err.(*tcpip.ErrMessageTooLong); !ok || n != 1 {
		t.Errorf("WritePackets of a giant last = %d, %v", n, err)
	}
	n, err = write(e, empty())
	if _, ok := err.(*tcpip.ErrMalformedHeader); !ok || n != 0 {
		t.Errorf("WritePackets of an empty packet = %d, %v", n, err)
	}
	for range 4 {
		if _, err := w.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := e.Stats(); s.TxFrames != 4 || s.TxDroppedInvalid != 4 {
		t.Errorf("Stats %+v, want 4 frames sent and 4 invalid", s)
	}
}

// A descriptor that ends, as a device's never does, does not keep the receiver
// busy for ever.
func TestEndOfDescriptor(t *testing.T) {
	failures := make(chan error, 1)
	e, w := newTestEndpoint(t, TAP, Options{OnFailure: func(err error) { failures <- err }})
	e.Attach(newCollector())
	w.Close()
	if err := <-failures; !errors.Is(err, errDeviceGone) {
		t.Errorf("OnFailure got %v", err)
	}
	e.Wait()
	if n := e.Stats().RxErrors; n == 0 || n > maxReadErrors {
		t.Errorf("%d errors counted", n)
	}
}

func TestOptionsCheck(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "neither"},
		{Options{Name: "tap0", FDs: []int{3}}, "both"},
		{Options{Name: "sixteen-bytes-xx"}, "longer than 15 bytes"},
		{Options{Name: "tap0", Mode: 2}, "unknown mode"},
		{Options{Name: "tap0", Queues: -1}, "-1 queues"},
		{Options{Name: "tap0", Queues: 257}, "257 queues"},
		{Options{FDs: make([]int, 257)}, "257 descriptors"},
		{Options{Name: "tap0", MTU: 65536}, "MTU 65536"},
		{Options{Name: "tap0", LinkAddress: "123"}, "3 bytes"},
		{Options{Name: "tap0", LinkAddress: "\x01\x00\x5e\x00\x00\x01"}, "group address"},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v, want an error with %q", tt.o, err, tt.want)
		}
	}
}

// Whatever a device writes, each frame is delivered or counted once, and no
// byte outside of it is looked at.
func FuzzReceive(f *testing.F) {
	f.Add(true, false, raw(vnet.Header{}, ipv4TCP(100, 0)))
	f.Add(true, false, raw(vnet.Header{Flags: 1, GSOType: 1, GSOSize: 1448, HdrLen: 54, CsumStart: 34, CsumOffset: 16}, ipv4TCP(5000, 0)))
	f.Add(false, true, raw(vnet.Header{Flags: 1, CsumStart: 20, CsumOffset: 16}, ipv4TCP(100, 0)[14:]))
	f.Add(true, true, []byte{1, 2, 3})
	segment := ipv4TCP(100, 0)
	header.TCP(segment[header.EthernetMinimumSize+header.IPv4MinimumSize:]).SetFlags(uint8(header.TCPFlagAck))
	f.Add(true, false, raw(vnet.Header{Flags: vnet.FlagDataValid}, append(segment, 0, 0, 0)))
	f.Fuzz(func(t *testing.T, tap, promiscuous bool, b []byte) {
		mode := TUN
		if tap {
			mode = TAP
		}
		e, _ := newTestEndpoint(t, mode, Options{Promiscuous: promiscuous})
		q := e.rx[0]
		q.head, q.tail = buffer.NewViewSize(headSize), buffer.NewViewSize(tailSize)
		defer q.release()
		rest := b[copy(q.header[:], b):]
		rest = rest[copy(q.head.AsSlice(), rest):]
		copy(q.tail.AsSlice(), rest)
		c := newCollector()
		defer c.drain()
		n := min(len(b), vnet.HeaderSize+headSize+tailSize)
		session := &lifecycle.Session{Dispatcher: c}
		q.merge.Begin(session)
		q.receive(session, n)
		q.flush()
		s := e.Stats()
		if s.RxFrames+s.RxDropped() != 1 {
			t.Fatalf("a frame of %d bytes left the counters at %+v", len(b), s)
		}
		if s.RxFrames != uint64(len(c.packets)) {
			t.Fatalf("%d frames counted and %d delivered", s.RxFrames, len(c.packets))
		}
		if s.RxFrames == 1 {
			pkt := <-c.packets
			// What pads a segment is left out if it could have been put together with
			// others.
			whole := n - vnet.HeaderSize
			if size := pkt.Size(); size > whole || size < whole && pkt.PktType != tcpip.PacketHost {
				t.Errorf("delivered %d of %d bytes", size, whole)
			}
			pkt.DecRef()
		}
	})
}

// A frame that is read as the stack lets go is for the next one, and counted if
// there is none.
func TestHeldFrame(t *testing.T) {
	e, _ := newTestEndpoint(t, TAP, Options{})
	frame := raw(vnet.Header{Flags: vnet.FlagDataValid}, ipv4TCP(100, 0))
	hold := func() {
		q := e.rx[0]
		q.release()
		q.head, q.tail = buffer.NewViewSize(headSize), buffer.NewViewSize(tailSize)
		copy(q.header[:], frame)
		copy(q.head.AsSlice(), frame[vnet.HeaderSize:])
		q.held = len(frame)
	}
	hold()
	c := newCollector()
	e.Attach(c)
	pkt := <-c.packets
	if got, want := pkt.Size(), len(frame)-vnet.HeaderSize; got != want {
		t.Errorf("delivered %d bytes, want %d", got, want)
	}
	pkt.DecRef()
	e.Attach(nil)
	e.Wait()
	hold()
	e.Close()
	e.Wait()
	if s := e.Stats(); s.RxFrames != 1 || s.RxDroppedDetached != 1 {
		t.Errorf("Stats %+v, want a frame delivered and one dropped", s)
	}
}

// Segments that follow each other within a batch are put together; what the kernel
// has put together passes as it is, behind what came before it.
func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		opts Options
		want []int // payload of each packet
		then Stats
	}{
		{Options{}, []int{200, 60000, 300}, Stats{RxCoalesced: 5, RxGSO: 1}},
		{Options{NoOffload: true}, []int{100, 100, 60000, 100, 100, 100}, Stats{RxGSO: 1}},
	} {
		e, w := newTestEndpoint(t, TAP, tt.opts)
		seq := 0
		for _, payload := range []int{100, 100, 60000, 100, 100, 100} {
			h := vnet.Header{Flags: vnet.FlagDataValid}
			if payload > 1500 {
				h.GSOType, h.GSOSize = vnet.GSOTCPv4, 1448
			}
			b := ipv4TCP(payload, 0)
			segment := header.TCP(b[header.EthernetMinimumSize+header.IPv4MinimumSize:])
			segment.SetSequenceNumber(uint32(seq))
			segment.SetFlags(uint8(header.TCPFlagAck))
			if err := w.Peer.Send(raw(h, b)); err != nil {
				t.Fatal(err)
			}
			seq += payload
		}
		c := newCollector()
		e.Attach(c)
		for i, want := range tt.want {
			pkt := <-c.packets
			if got := pkt.Data().Size() - header.IPv4MinimumSize - header.TCPMinimumSize; got != want {
				t.Errorf("packet %d has %d bytes of payload, want %d", i+1, got, want)
			}
			pkt.DecRef()
		}
		s := e.Stats()
		if s.RxFrames != 6 || s.RxCoalesced != tt.then.RxCoalesced || s.RxGSO != tt.then.RxGSO || s.RxDropped() != 0 {
			t.Errorf("%+v, want 6 frames and %+v", s, tt.then)
		}
	}
}

// A million frames of random bytes, most of them with something that looks like a
// header, are each delivered or counted.
func TestRandomFrames(t *testing.T) {
	frames := 1_000_000
	if testing.Short() {
		frames /= 50
	}
	e, _ := newTestEndpoint(t, TAP, Options{})
	q := e.rx[0]
	q.tail = buffer.NewViewSize(tailSize)
	c := &tally{}
	session := &lifecycle.Session{Dispatcher: c}
	q.merge.Begin(session)
	random := rand.NewChaCha8([32]byte{8})
	for range frames {
		if q.head == nil { // the stack has it
			q.head = buffer.NewViewSize(headSize)
		}
		n := vnet.HeaderSize + int(random.Uint64()%160)
		b := q.head.AsSlice()[:n]
		_, _ = random.Read(b)
		_, _ = random.Read(q.header[:])
		copy(b, e.LinkAddress())
		switch random.Uint64() % 4 {
		case 0:
			copy(b[min(12, n):], "\x08\x00\x45\x00")
			clear(q.header[:])
		case 1:
			copy(b[min(12, n):], "\x86\xdd\x60\x00")
			copy(q.header[:], "\x02\x00") // vouched for
		}
		q.receive(session, n)
	}
	q.flush()
	s := e.Stats()
	if got := s.RxFrames + s.RxDropped(); got != uint64(frames) || s.RxFrames == 0 || s.RxDropped() == 0 || c.packets == 0 {
		t.Errorf("%+v, %d packets delivered, want %d frames in all, delivered ones and dropped ones", s, c.packets, frames)
	}
}

// tally is a dispatcher that counts.
type tally struct{ packets int }

func (c *tally) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { c.packets++ }
func (*tally) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)      {}
