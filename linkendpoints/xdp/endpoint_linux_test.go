//go:build amd64 || arm64

package xdp

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
)

// programOn returns the identifier of the XDP program on our end, or 0.
func (c *cable) programOn(t testing.TB) uint32 {
	t.Helper()
	x := c.Link(t, "ours").Attrs().Xdp
	if x == nil || !x.Attached {
		return 0
	}
	return x.ProgId
}

// Options that make no sense are refused in one line, before anything is opened.
func TestOptions(t *testing.T) {
	dev := Device{Index: 1, MTU: 1500, LinkAddress: make([]byte, 6), Queues: []int{0}}
	with := func(f func(*Device)) *Device {
		d := dev
		f(&d)
		return &d
	}
	for _, tt := range []struct {
		opts Options
		want string
	}{
		{Options{}, "neither a device name nor descriptors"},
		{Options{Name: "a", FDs: []int{1}}, "both a device name and descriptors"},
		{Options{FDs: []int{1}}, "without their Device"},
		{Options{FDs: []int{1}, Device: with(func(d *Device) { d.Index = 0 })}, "device index 0"},
		{Options{FDs: []int{1}, Device: with(func(d *Device) { d.MTU = 0 })}, "device MTU 0"},
		{Options{FDs: []int{1}, Device: with(func(d *Device) { d.LinkAddress = nil })}, "address of 0 bytes"},
		{Options{FDs: []int{1}, Device: with(func(d *Device) { d.Queues = nil })}, "0 queues"},
		{Options{Name: "sixteen-letters-"}, "longer than 15"},
		{Options{Name: "a", Queues: []int{0, 1, 0}}, "queue 0 given twice"},
		{Options{Name: "a", Queues: []int{-1}}, "negative"},
		{Options{Name: "a", Queues: make([]int, 257)}, "257 queues"},
		{Options{Name: "a", Mode: 9}, "unknown mode 9"},
		{Options{Name: "a", MTU: 65536}, "MTU 65536"},
		{Options{Name: "a", Frames: 65}, "65 frames"},
		{Options{Name: "a", Frames: 32}, "32 frames"},
		{Options{Name: "a", Frames: 1 << 17}, "131072 frames"},
		{Options{Name: "a", Backpressure: 3}, "policy 3"},
		{Options{Name: "a", BusyPoll: time.Minute}, "busy polling for 1m0s"},
		{Options{Name: "a", LinkAddress: "abc"}, "link address of 3 bytes"},
		{Options{Name: "a", LinkAddress: "\x01\x00\x5e\x00\x00\x01"}, "group address"},
		{Options{Name: "a", Filter: Filter{TCPPorts: make([]uint16, 65)}}, "more than 64"},
	} {
		e, err := New(tt.opts)
		if e != nil || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "xdp: ") {
			t.Errorf("New(%+v) = %v, want an error with %q", tt.opts, err, tt.want)
		}
	}
}

// What the machine cannot do is said in one line that names the device.
func TestNewErrors(t *testing.T) {
	c := newCable(t, 9000, 1)
	taken := c.open(t, Options{})
	defer taken.Close()
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"no such device", Options{Name: "nothing"}, "device nothing: no such device"},
		{"not Ethernet", Options{Name: "lo"}, "lo is no Ethernet device"},
		{"no such queue", Options{Queues: []int{1}}, "ours has no receive queue 1, only 1"},
		{"MTU too large", Options{MTU: 9001}, "MTU 9001 is more than the 9000 of ours"},
		{"taken", Options{}, "has an XDP program already"},
	} {
		_, err := c.tryOpen(tt.opts)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	taken.Close()
	if _, err := c.tryOpen(Options{Mode: ZeroCopy}); err == nil || !strings.Contains(err.Error(), "several buffers") {
		t.Errorf("zero-copy with jumbo frames on veth: %v", err)
	}
	if _, err := c.tryOpen(Options{Mode: ZeroCopy, MTU: 1500}); err == nil || !strings.Contains(err.Error(), "not possible in zero-copy mode") {
		t.Errorf("zero-copy on veth: %v", err)
	}
	if id := c.programOn(t); id != 0 {
		t.Errorf("program %d is still attached after New failed", id)
	}
}

// withoutCapabilities runs f on a thread that has none.
func withoutCapabilities(t testing.TB, c *cable, f func()) {
	t.Helper()
	var err error
	c.NS.Do(func() {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err = unix.Capset(&hdr, &none[0]); err == nil {
			f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Without privileges New says which are missing; with descriptors that somebody
// else prepared it needs none.
func TestUnprivileged(t *testing.T) {
	c := newCable(t, 1500, 2)
	withoutCapabilities(t, c, func() {
		_, err := New(Options{Name: "ours"})
		var missing *CapabilityError
		if !errors.As(err, &missing) || !errors.Is(err, unix.EPERM) || missing.Capability != "CAP_NET_RAW" {
			t.Errorf("New without capabilities: %v, want a CapabilityError for CAP_NET_RAW", err)
		}
	})

	var p *Prepared
	var err error
	c.NS.Do(func() { p, err = Prepare(Options{Name: "ours", Queues: []int{1, 0}}) })
	if err != nil {
		t.Fatal(err)
	}
	// The description survives a trip to another process.
	text, err := json.Marshal(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	var dev Device
	if err := json.Unmarshal(text, &dev); err != nil {
		t.Fatal(err)
	}
	fds := duplicates(t, p.Files)
	p.Close()

	var e *Endpoint
	withoutCapabilities(t, c, func() { e, err = New(Options{FDs: fds, Device: &dev}) })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.LinkAddress(), tcpip.LinkAddress(c.Ours.Attrs().HardwareAddr); got != want || e.MTU() != 1500 || e.Name() != "ours" {
		t.Errorf("link address %s of %s, MTU %d, want %s of ours, 1500", got, e.Name(), e.MTU(), want)
	}
	received := newCounter()
	e.Attach(received)
	peer := newPacketSocket(t, c)
	if err := peer.Send(ethernet(e.LinkAddress(), 0x0800, ipv4UDP(7, 100))); err != nil {
		t.Fatal(err)
	}
	received.wait(t, 1)
	e.Close()
	e.Wait()
	if id := c.programOn(t); id != 0 {
		t.Errorf("program %d is still attached after Close", id)
	}
}

// duplicates returns descriptors as another process would receive them.
func duplicates(t testing.TB, files []*os.File) (fds []int) {
	t.Helper()
	for _, f := range files {
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

// Descriptors that are not what they should be are refused, and stay open.
func TestWrongDescriptors(t *testing.T) {
	c := newCable(t, 1500, 1)
	var p *Prepared
	var err error
	c.NS.Do(func() { p, err = Prepare(Options{Name: "ours"}) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	fds := make([]int, len(p.Files))
	for i, f := range p.Files {
		fds[i] = int(f.Fd())
	}
	two := p.Device
	two.Queues = []int{0, 1}
	elsewhere := p.Device
	elsewhere.Index = 9999
	for _, tt := range []struct {
		name string
		fds  []int
		dev  *Device
	}{
		{"another order", []int{fds[1], fds[0]}, &p.Device},
		{"too many queues", fds, &two},
		{"too few descriptors", fds[:1], &two},
		{"closed", []int{1 << 20}, &p.Device},
		{"another device", fds, &elsewhere},
	} {
		if e, err := New(Options{FDs: tt.fds, Device: tt.dev}); err == nil {
			t.Errorf("%s: no error", tt.name)
			e.Close()
		} else {
			t.Logf("%s: %v", tt.name, err)
		}
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("descriptor %d was closed", fd)
		}
	}
}

// Closing detaches the program, and the device can be opened again at once.
func TestReopen(t *testing.T) {
	c := newCable(t, 1500, 2)
	before := openFiles(t)
	for i := range 5 {
		e, err := c.tryOpen(Options{})
		if err != nil {
			t.Fatalf("opening the device for time %d: %v", i+1, err)
		}
		if c.programOn(t) == 0 {
			t.Error("no program while the endpoint is open")
		}
		e.Attach(newCounter())
		e.Close()
		e.Wait()
		if id := c.programOn(t); id != 0 {
			t.Errorf("program %d is still attached after Close and Wait", id)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

// openFiles counts the descriptors of the process, but for those of the
// runtime's poller, which appear when first needed.
func openFiles(t testing.TB) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		target, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err == nil && !strings.Contains(target, "eventpoll") && !strings.Contains(target, "/proc") {
			n++
		}
	}
	return n
}

// A device that is deleted while packets fly ends the endpoint with one error.
func TestDeviceDeleted(t *testing.T) {
	for _, mode := range []Mode{Copy, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			c := newCable(t, 1500, 2)
			before := openFiles(t)
			failed := make(chan error, 2)
			e, err := c.tryOpen(Options{Mode: mode, OnFailure: func(err error) { failed <- err }})
			if err != nil {
				t.Fatal(err)
			}
			actions := 0
			e.SetOnCloseAction(func() { actions++ })
			received := newCounter()
			e.Attach(received)
			stop := load(t, c, e)
			received.wait(t, 10)
			if err := c.NS.Netlink().LinkDel(c.Ours); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-failed:
				if !errors.Is(err, errDeviceGone) || !strings.HasPrefix(err.Error(), "xdp: ours: the device is gone") {
					t.Errorf("the endpoint failed with %v", err)
				}
			case <-time.After(patience):
				t.Fatal("the endpoint does not notice that the device is gone")
			}
			e.Wait()
			stop()
			if e.Err() == nil || actions != 1 || len(failed) != 0 {
				t.Errorf("Err = %v, %d on-close actions, %d more errors", e.Err(), actions, len(failed))
			}
			linklab.NoReceivers(t)
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors are open, %d before", after, before)
			}
		})
	}
}

// The same without any traffic.
func TestIdleDeviceDeleted(t *testing.T) {
	c := newCable(t, 1500, 1)
	failed := make(chan error, 2)
	e := c.open(t, Options{OnFailure: func(err error) { failed <- err }})
	e.Attach(newCounter())
	if err := c.NS.Netlink().LinkDel(c.Ours); err != nil {
		t.Fatal(err)
	}
	select {
	case <-failed:
	case <-time.After(patience):
		t.Fatal("the endpoint does not notice that the device is gone")
	}
}

// While the device is down it refuses packets; when it is up again, traffic
// resumes in both directions.
func TestLinkDown(t *testing.T) {
	for _, mode := range []Mode{Copy, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			c := newCable(t, 1500, 1)
			e := c.open(t, Options{Mode: mode})
			received := newCounter()
			e.Attach(received)
			peer := newPacketSocket(t, c)
			h := c.NS.Netlink()
			if err := h.LinkSetDown(c.Ours); err != nil {
				t.Fatal(err)
			}
			// The first packet finds out, or a receiver does that sends it.
			deadline := time.Now().Add(patience)
			for {
				n, err := write(e, udpPacket(e, 1, 100))
				if n == 0 && isType[*tcpip.ErrNetworkUnreachable](err) {
					break
				}
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("WritePackets on a device that is down = %d, %v", n, err)
				}
				runtime.Gosched()
			}
			if s := e.Stats(); s.TxRefusedDown != 1 {
				t.Errorf("TxRefusedDown = %d, want 1", s.TxRefusedDown)
			}
			if err := h.LinkSetUp(c.Ours); err != nil {
				t.Fatal(err)
			}
			c.WaitUp(t)
			if n, err := write(e, udpPacket(e, 3, 100)); n != 1 || err != nil {
				t.Errorf("WritePackets on a device that is up again = %d, %v", n, err)
			}
			peer.expect(t, 3)
			if err := peer.Send(ethernet(e.LinkAddress(), 0x0800, ipv4UDP(4, 100))); err != nil {
				t.Fatal(err)
			}
			received.waitFor(t, 4)
		})
	}
}

// slow is a dispatcher that is stuck in its first delivery.
type slow struct {
	entered, release chan struct{}
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (s *slow) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
}

// DeliverLinkPacket implements stack.NetworkDispatcher.
func (*slow) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// A delivery that does not return holds up nothing that is sent.
func TestSendDuringDelivery(t *testing.T) {
	c := newCable(t, 1500, 1)
	e := c.open(t, Options{})
	s := &slow{make(chan struct{}, 1), make(chan struct{})}
	e.Attach(s)
	peer := newPacketSocket(t, c)
	if err := peer.Send(ethernet(e.LinkAddress(), 0x0800, ipv4UDP(1, 100))); err != nil {
		t.Fatal(err)
	}
	<-s.entered
	if n, err := write(e, udpPacket(e, 2, 100)); n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v", n, err)
	}
	peer.expect(t, 2)
	close(s.release)
}

// isType says whether err is a T.
func isType[T tcpip.Error](err tcpip.Error) bool {
	_, ok := err.(T)
	return ok
}

// load sends in both directions until stop is called.
func load(t testing.TB, c *cable, e *Endpoint) (stop func()) {
	peer := newPacketSocket(t, c)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range []func(){
		func() { _ = peer.Send(ethernet(e.LinkAddress(), 0x0800, ipv4UDP(1, 1000))) },
		func() { write(e, udpPacket(e, 1, 1000), udpPacket(e, 2, 100)) },
	} {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f()
				}
			}
		})
	}
	var once sync.Once
	return func() {
		once.Do(func() { close(done) })
		wg.Wait()
		peer.Close()
	}
}

var _ stack.NetworkDispatcher = (*counter)(nil)
