package afpacket

import (
	"errors"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
)

// collector is a dispatcher that keeps IPv4 packets.
type collector struct{ packets chan *stack.PacketBuffer }

func newCollector(t testing.TB) *collector {
	c := &collector{make(chan *stack.PacketBuffer, 1000)}
	t.Cleanup(func() {
		for len(c.packets) > 0 {
			(<-c.packets).DecRef()
		}
	})
	return c
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (c *collector) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if proto == header.IPv4ProtocolNumber {
		c.packets <- pkt.IncRef()
	}
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*collector) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// next returns the bytes of the next packet, link header included.
func (c *collector) next() []byte {
	pkt := <-c.packets
	defer pkt.DecRef()
	v := pkt.ToView()
	defer v.Release()
	return v.ToSlice()
}

// udpPacket makes an outgoing UDP packet.
func udpPacket(e *Endpoint, payload int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(e.MaxHeaderLength()) + header.IPv4MinimumSize + header.UDPMinimumSize,
		Payload:            buffer.MakeWithData(make([]byte, payload)),
	})
	header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize)).Encode(&header.UDPFields{
		SrcPort: 9, DstPort: 9, Length: uint16(header.UDPMinimumSize + payload),
	})
	header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize)).Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + header.UDPMinimumSize + payload), TTL: 64, Protocol: 17,
	})
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = e.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = header.EthernetBroadcastAddress
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

// What the device has is what the endpoint has, unless the options say
// otherwise.
func TestProperties(t *testing.T) {
	c := newCable(t, 1400)
	e := c.open(t, Options{})
	if got, want := e.LinkAddress(), tcpip.LinkAddress(c.Ours.Attrs().HardwareAddr); got != want {
		t.Errorf("LinkAddress = %s, the device has %s", got, want)
	}
	if e.MTU() != 1400 || e.Name() != "ours" || e.SupportedGSO() != stack.HostGSOSupported || e.Capabilities()&stack.CapabilityRXChecksumOffload == 0 {
		t.Errorf("MTU %d, name %q, GSO %d, capabilities %#x", e.MTU(), e.Name(), e.SupportedGSO(), e.Capabilities())
	}
	e = c.open(t, Options{MTU: 1300, LinkAddress: "\x02\x00\x5e\x00\x53\x77", NoOffload: true, VLAN: 7})
	if e.MTU() != 1300 || e.LinkAddress() != "\x02\x00\x5e\x00\x53\x77" || e.MaxHeaderLength() != 18 ||
		e.SupportedGSO() != stack.GSONotSupported || e.Capabilities() != stack.CapabilityResolutionRequired {
		t.Errorf("MTU %d, address %s, header %d, GSO %d, capabilities %#x", e.MTU(), e.LinkAddress(), e.MaxHeaderLength(), e.SupportedGSO(), e.Capabilities())
	}
}

func TestOptionsCheck(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "neither"},
		{Options{Name: "eth0", FDs: []int{3}}, "both"},
		{Options{Name: "sixteen-bytes-xx"}, "longer than 15 bytes"},
		{Options{Name: "eth0", Queues: -1}, "-1 queues"},
		{Options{Name: "eth0", Queues: 257}, "257 queues"},
		{Options{FDs: make([]int, 257)}, "257 descriptors"},
		{Options{Name: "eth0", MTU: 65536}, "MTU 65536"},
		{Options{Name: "eth0", VLAN: 4095}, "VLAN 4095"},
		{Options{Name: "eth0", Backpressure: 3}, "policy 3"},
		{Options{Name: "eth0", RingSize: -1}, "ring of -1 bytes"},
		{Options{Name: "eth0", RingSize: 1<<30 + 1}, "ring of"},
		{Options{Name: "eth0", LinkAddress: "123"}, "3 bytes"},
		{Options{Name: "eth0", LinkAddress: "\x01\x00\x5e\x00\x00\x01"}, "group address"},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v, want an error with %q", tt.o, err, tt.want)
		}
	}
}

// Who may not open a packet socket is told which capability that takes; with
// sockets that somebody else opened it takes none.
func TestUnprivileged(t *testing.T) {
	c := newCable(t, 1500)
	fds := []int{c.socket(t, c.Ours), c.socket(t, c.Ours)}
	c.NS.Do(func() {
		// The thread ends with its goroutine, and its capabilities concern no
		// other.
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			nstest.Missing(t, "cannot drop capabilities: %v", err)
		}
		_, err := New(Options{Name: "ours"})
		var missing *CapabilityError
		if !errors.As(err, &missing) || missing.Capability != "CAP_NET_RAW" || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
			t.Errorf("New without capabilities = %v, want a CapabilityError", err)
		}
		e, err := New(Options{FDs: fds})
		if err != nil {
			t.Errorf("New without capabilities, with sockets: %v", err)
			return
		}
		e.Close()
		e.Wait()
	})
}

// Descriptors that somebody else opened are examined, not trusted.
func TestAdopt(t *testing.T) {
	c := newCable(t, 1500)
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unbound := -1
	c.NS.Do(func() { unbound, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	withRing := c.socket(t, c.Ours)
	r, err := newRing(withRing, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer r.unmap()
	for _, tt := range []struct {
		name string
		fds  []int
		want string // in the error; "" for none
	}{
		{"one", []int{c.socket(t, c.Ours)}, ""},
		{"three queues", []int{c.socket(t, c.Ours), c.socket(t, c.Ours), c.socket(t, c.Ours)}, ""},
		{"two devices", []int{c.socket(t, c.Ours), c.socket(t, c.Kernels)}, "different devices"},
		{"unbound", []int{unbound}, "not bound"},
		{"a pipe", pipe, "getsockopt"},
		{"a UDP socket", []int{udp}, "not a packet socket"},
		{"not open", []int{1 << 20}, "bad file descriptor"},
		{"with a ring", []int{withRing}, "busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := New(Options{FDs: tt.fds})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("New = %v, want an error with %q", err, tt.want)
				}
				for _, fd := range tt.fds {
					// They are still the caller's.
					if err := unix.Close(fd); err != nil && fd < 1<<20 {
						t.Errorf("descriptor %d is closed after New failed: %v", fd, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Name() != "ours" || e.LinkAddress() != tcpip.LinkAddress(c.Ours.Attrs().HardwareAddr) {
				t.Errorf("device %s with address %s", e.Name(), e.LinkAddress())
			}
			e.Close()
			e.Wait()
			if err := unix.Close(tt.fds[0]); err == nil {
				t.Error("the descriptor is open after Close")
			}
		})
	}
}

// What cannot be opened gives an error that says what is wrong.
func TestOpenErrors(t *testing.T) {
	c := newCable(t, 1500)
	if _, err := c.tryOpen(Options{Name: "nosuch"}); err == nil || !strings.Contains(err.Error(), "nosuch") || !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device that does not exist: %v", err)
	}
	c.NS.AddTAP(t, nstest.TAP{Name: "tun0", TUN: true})
	if _, err := c.tryOpen(Options{Name: "tun0"}); err == nil || !strings.Contains(err.Error(), "not an Ethernet device") {
		t.Errorf("a device without Ethernet: %v", err)
	}
	if e, err := c.tryOpen(Options{Name: "lo"}); err != nil {
		t.Errorf("the loopback device: %v", err)
	} else {
		e.Close()
	}
	if err := explainSocket("eth0", unix.EAFNOSUPPORT); !strings.Contains(err.Error(), "CONFIG_PACKET") {
		t.Errorf("a kernel without packet sockets: %v", err)
	}
}

// A device that is down refuses packets and takes them again when it is up.
func TestDeviceDown(t *testing.T) {
	c := newCable(t, 1500)
	for _, queues := range []int{1, 2} {
		e := c.open(t, Options{Queues: queues})
		got := newCollector(t)
		e.Attach(got)
		peer := newPacketSocket(t, c)
		for range 2 {
			if err := c.NS.Netlink().LinkSetDown(c.Ours); err != nil {
				t.Fatal(err)
			}
			n, err := write(e, udpPacket(e, 100), udpPacket(e, 100))
			if _, ok := err.(*tcpip.ErrNetworkUnreachable); !ok || n != 0 {
				t.Errorf("WritePackets to a device that is down = %d, %v", n, err)
			}
			if err := c.NS.Netlink().LinkSetUp(c.Ours); err != nil {
				t.Fatal(err)
			}
			c.WaitUp(t)
			if n, err := write(e, udpPacket(e, 100)); n != 1 || err != nil {
				t.Errorf("WritePackets to a device that is up again = %d, %v", n, err)
			}
			if err := peer.Send(udpFrame(e.LinkAddress(), 0)); err != nil {
				t.Fatal(err)
			}
			got.next()
		}
		if s := e.Stats(); s.TxRefusedDown != 4 || s.TxFrames != 2 {
			t.Errorf("Stats %+v, want 4 packets refused and 2 sent", s)
		}
		if err := e.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
		e.Close()
		e.Wait()
	}
}

// A device that is deleted, up or down, ends the endpoint once, and all is let
// go of.
func TestDeviceDeleted(t *testing.T) {
	for _, down := range []bool{false, true} {
		c := newCable(t, 1500)
		failures, closed := make(chan error, 10), make(chan struct{}, 10)
		e := c.open(t, Options{Queues: 3, OnFailure: func(err error) { failures <- err }})
		e.SetOnCloseAction(func() { closed <- struct{}{} })
		e.Attach(newCollector(t))
		if down {
			if err := c.NS.Netlink().LinkSetDown(c.Ours); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.NS.Netlink().LinkDel(c.Ours); err != nil {
			t.Fatal(err)
		}
		err := <-failures
		if !errors.Is(err, errDeviceGone) || !strings.HasPrefix(err.Error(), "afpacket: ours: ") || !errors.Is(e.Err(), err) {
			t.Errorf("OnFailure got %v, Err = %v", err, e.Err())
		}
		e.Wait()
		<-closed
		n, terr := write(e, udpPacket(e, 100))
		if _, ok := terr.(*tcpip.ErrClosedForSend); !ok || n != 0 {
			t.Errorf("WritePackets to a deleted device = %d, %v", n, terr)
		}
		if len(failures) != 0 || len(closed) != 0 {
			t.Errorf("%d more failures and %d more on-close actions", len(failures), len(closed))
		}
		if e.IsAttached() {
			t.Error("still attached")
		}
	}
}

// udpFrame makes a broadcast or unicast frame with an IPv4 packet in it that
// UDP does not look at: payload bytes of protocol 253 (RFC 3692).
func udpFrame(dst tcpip.LinkAddress, payload int) []byte {
	b := make([]byte, l2+header.IPv4MinimumSize+payload)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x5e\x00\x53\x01", DstAddr: dst, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[l2:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: 253})
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

// An endpoint gets the frames of its own VLAN, without their tags, and no
// others; what it sends is tagged.
func TestVLAN(t *testing.T) {
	c := newCable(t, 1500)
	peer := newPacketSocket(t, c)
	tagged := func(tci uint16, payload int) []byte {
		b := udpFrame(header.EthernetBroadcastAddress, payload)
		return slices.Concat(b[:12], []byte{0x81, 0, byte(tci >> 8), byte(tci)}, b[12:])
	}
	frames := [][]byte{
		udpFrame(header.EthernetBroadcastAddress, 100),
		tagged(0x6000, 101), // a priority only
		tagged(7, 102),
		tagged(0xe007, 103),
		tagged(8, 104),
		tagged(7, 1480),
	}
	for _, tt := range []struct {
		vlan uint16
		want []int // payload sizes
	}{
		{0, []int{100, 101}},
		{7, []int{102, 103, 1480}},
		{8, []int{104}},
		{9, nil},
	} {
		e := c.open(t, Options{VLAN: tt.vlan})
		got := newCollector(t)
		e.Attach(got)
		for _, f := range frames {
			if err := peer.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		for _, size := range tt.want {
			if b := got.next(); len(b) != l2+header.IPv4MinimumSize+size || header.Ethernet(b).Type() != header.IPv4ProtocolNumber {
				t.Errorf("VLAN %d: got a frame of %d bytes and type %#x, want a payload of %d", tt.vlan, len(b), header.Ethernet(b).Type(), size)
			}
		}
		for e.Stats().RxDroppedOtherVLAN < uint64(len(frames)-len(tt.want)) {
			runtime.Gosched()
		}
		if n, err := write(e, udpPacket(e, 1472)); n != 1 || err != nil {
			t.Errorf("VLAN %d: WritePackets = %d, %v", tt.vlan, n, err)
		}
		e.Close()
		e.Wait()
	}
	t.Run("on the wire", func(t *testing.T) { testVLANWire(t, c) })
	t.Run("against a VLAN device of the kernel", func(t *testing.T) {
		vlans := c.NS.Netlink()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "vlan7", c.Kernels.Attrs().Index
		if err := vlans.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 7}); err != nil {
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this kernel has no VLAN devices (CONFIG_VLAN_8021Q)")
			}
			t.Fatal(err)
		}
		link := c.Link(t, "vlan7")
		c.NS.AddAddr(t, link, "10.1.0.1/24")
		if err := vlans.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		e := c.open(t, Options{VLAN: 7})
		newNetstack(t, e, stockTCP, "10.1.0.2/24")
		c.NS.Run(t, "ping", "-c", "2", "-i", "0.01", "-w", "10", "10.1.0.2")
	})
}

// The policies for a full device: a queueing discipline with no room.
func TestBackpressure(t *testing.T) {
	if _, err := exec.LookPath("tc"); err != nil {
		nstest.Missing(t, "no tc")
	}
	c := newCable(t, 1500)
	c.NS.Run(t, "tc", "qdisc", "add", "dev", "ours", "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600")
	fill := func(e *Endpoint) (int, tcpip.Error) {
		var pkts []*stack.PacketBuffer
		for range 20 {
			pkts = append(pkts, udpPacket(e, 1000))
		}
		return write(e, pkts...)
	}
	e := c.open(t, Options{})
	n, err := fill(e)
	if _, ok := err.(*tcpip.ErrNoBufferSpace); !ok || n >= 20 {
		t.Errorf("refuse: WritePackets = %d, %v", n, err)
	}
	if s := e.Stats(); s.TxFrames != uint64(n) || s.TxRefusedFull != uint64(20-n) {
		t.Errorf("refuse: %d packets taken, Stats %+v", n, s)
	}
	// As a transport that tries again each millisecond for ten seconds; the device may
	// send one in between.
	const tries = 10_000
	for range tries {
		m, _ := write(e, udpPacket(e, 1000))
		n += m
	}
	if s := e.Stats(); n > 20 || s.TxFrames != uint64(n) || s.TxRefusedFull != uint64(20+tries-n) || e.Err() != nil {
		t.Errorf("full for long: %d packets taken, Err = %v, Stats %+v", n, e.Err(), s)
	}
	c.NS.Run(t, "tc", "qdisc", "del", "dev", "ours", "root")
	if n, err := fill(e); n != 20 || err != nil {
		t.Errorf("full no more: WritePackets = %d, %v", n, err)
	}
	c.NS.Run(t, "tc", "qdisc", "add", "dev", "ours", "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600")
	e = c.open(t, Options{Backpressure: Drop})
	if n, err := fill(e); n != 20 || err != nil {
		t.Errorf("drop: WritePackets = %d, %v", n, err)
	}
	if s := e.Stats(); s.TxDroppedFull == 0 || s.TxFrames+s.TxDroppedFull != 20 {
		t.Errorf("drop: Stats %+v", s)
	}
	// A writer that waits goes on when there is room, and does not keep the
	// endpoint from being closed.
	e = c.open(t, Options{Backpressure: Block})
	done := make(chan tcpip.Error)
	go func() {
		_, err := fill(e)
		done <- err
	}()
	for e.Stats().TxWaits == 0 {
		runtime.Gosched()
	}
	c.NS.Run(t, "tc", "qdisc", "del", "dev", "ours", "root")
	if err := <-done; err != nil {
		t.Errorf("block: WritePackets = %v", err)
	}
	c.NS.Run(t, "tc", "qdisc", "add", "dev", "ours", "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600")
	go func() {
		_, err := fill(e)
		done <- err
	}()
	for waits := e.Stats().TxWaits; e.Stats().TxWaits == waits; {
		runtime.Gosched()
	}
	e.Close()
	if err, ok := (<-done).(*tcpip.ErrClosedForSend); !ok {
		t.Errorf("block: WritePackets during Close = %v", err)
	}
	// Around the queueing discipline nothing is in the way.
	e = c.open(t, Options{QdiscBypass: true})
	if n, err := fill(e); n != 20 || err != nil {
		t.Errorf("bypass: WritePackets = %d, %v", n, err)
	}
}

// A packet that can never be sent does not hold up those behind it.
func TestInvalidPacketInBatch(t *testing.T) {
	c := newCable(t, 1500)
	for _, queues := range []int{1, 3} {
		e := c.open(t, Options{Queues: queues, Promiscuous: true})
		good := func() *stack.PacketBuffer { return udpPacket(e, 100) }
		long := func() *stack.PacketBuffer { return udpPacket(e, 3000) }
		empty := func() *stack.PacketBuffer { return stack.NewPacketBuffer(stack.PacketBufferOptions{}) }
		if n, err := write(e, good(), long(), good(), empty(), good()); n != 5 || err != nil {
			t.Errorf("WritePackets = %d, %v, want to be done with all 5", n, err)
		}
		n, err := write(e, good(), long())
		if _, ok := err.(*tcpip.ErrMessageTooLong); !ok || n != 1 {
			t.Errorf("WritePackets of a giant last = %d, %v", n, err)
		}
		n, err = write(e, empty())
		if _, ok := err.(*tcpip.ErrMalformedHeader); !ok || n != 0 {
			t.Errorf("WritePackets of an empty packet = %d, %v", n, err)
		}
		if s := e.Stats(); s.TxFrames != 4 || s.TxDroppedInvalid != 4 {
			t.Errorf("Stats %+v, want 4 frames sent and 4 invalid", s)
		}
	}
}

// A frame with a segmentation type that the kernel cannot describe ends its use
// of a ring. The endpoint goes on with another.
func TestRingRebuilt(t *testing.T) {
	ns := nstest.New(t)
	link := ns.AddTAP(t, nstest.TAP{Name: "tap0"})
	tap := openTAP(t, ns, "tap0")
	ns.SetUp(t, link)
	var e *Endpoint
	var err error
	ns.Do(func() { e, err = New(Options{Name: "tap0", LinkAddress: "\x02\x00\x5e\x00\x53\x09"}) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		e.Close()
		e.Wait()
	}()
	got := newCollector(t)
	e.Attach(got)
	send := func(gsoType byte, frame []byte) {
		t.Helper()
		h := []byte{0, gsoType, 0, 0, 0, 0, 0, 0, 0, 0}
		if gsoType != 0 {
			h = []byte{1, gsoType, 42, 0, 0xe8, 3, 34, 0, 6, 0}
		}
		if _, err := unix.Write(tap, append(h, frame...)); err != nil {
			t.Fatal(err)
		}
	}
	send(0, udpFrame(e.LinkAddress(), 50))
	got.next()
	ufo := udpSuper(e.LinkAddress(), 5000)
	send(3, ufo) // VIRTIO_NET_HDR_GSO_UDP: IP fragments
	// Kernels that have no such fault drop the frame and deliver the next.
	for sent := 0; len(got.packets) == 0; sent++ {
		send(0, udpFrame(e.LinkAddress(), 50))
		runtime.Gosched()
		if e.Stats().RxRingRebuilt > 0 && len(got.packets) == 0 {
			send(0, udpFrame(e.LinkAddress(), 50))
			got.next()
			break
		}
	}
	if err := e.Err(); err != nil {
		t.Errorf("Err = %v", err)
	}
}

// openTAP opens the far end of a TAP device, virtio-net header included.
func openTAP(t *testing.T, ns *nstest.Namespace, name string) int {
	t.Helper()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	fd := -1
	// The descriptor looks for the device where it was opened.
	ns.Do(func() {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}
	})
	t.Cleanup(func() { unix.Close(fd) })
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// udpSuper makes a UDP datagram over IPv4 with a partial checksum.
func udpSuper(dst tcpip.LinkAddress, payload int) []byte {
	b := udpFrame(dst, header.UDPMinimumSize+payload)
	ip := header.IPv4(b[l2:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), ID: 100, TTL: 64, Protocol: 17,
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2})})
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip.Payload())
	udp.Encode(&header.UDPFields{SrcPort: 1, DstPort: 2, Length: uint16(len(udp))})
	udp.SetChecksum(header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(udp))))
	for i := range payload {
		udp[header.UDPMinimumSize+i] = byte(i)
	}
	return b
}
