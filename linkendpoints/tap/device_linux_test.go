package tap

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
)

// open opens an endpoint in a namespace and closes it with the test.
func open(t *testing.T, ns *nstest.Namespace, opts Options) *Endpoint {
	t.Helper()
	var e *Endpoint
	var err error
	ns.Do(func() { e, err = New(opts) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		e.Wait()
	})
	return e
}

// New creates a device that does not exist, which ends with the endpoint.
func TestCreate(t *testing.T) {
	ns := nstest.New(t)
	e := open(t, ns, Options{Name: "made%d", Queues: 2})
	if e.Name() != "made0" {
		t.Errorf("the device is called %q", e.Name())
	}
	link, err := ns.Netlink().LinkByName("made0")
	if err != nil {
		t.Fatal(err)
	}
	kernel := tcpip.LinkAddress(link.Attrs().HardwareAddr)
	if e.LinkAddress() == kernel || e.LinkAddress() != oppositeAddress(kernel) {
		t.Errorf("both ends: %s and %s", e.LinkAddress(), kernel)
	}
	if e.MTU() != uint32(link.Attrs().MTU) {
		t.Errorf("MTU %d, the device's is %d", e.MTU(), link.Attrs().MTU)
	}
	e.Close()
	e.Wait()
	if _, err := ns.Netlink().LinkByName("made0"); err == nil {
		t.Error("the device is still there after Close")
	}
}

// Descriptors that somebody else opened are examined, not trusted.
func TestAdopt(t *testing.T) {
	ns := nstest.New(t)
	queue := func(name string, flags uint16) int {
		var fd int
		var err error
		ns.Do(func() { fd, _, err = openQueue(name, flags) })
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	const multi = unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE
	for _, tt := range []struct {
		name string
		fds  []int
		want string // in the error; "" for none
		gso  stack.SupportedGSO
		mode Mode
	}{
		{"tap", []int{queue("a", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)}, "", stack.HostGSOSupported, TAP},
		{"tun", []int{queue("b", unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)}, "", stack.HostGSOSupported, TUN},
		{"no virtio-net header", []int{queue("c", unix.IFF_TAP|unix.IFF_NO_PI)}, "", stack.GSONotSupported, TAP},
		{"two queues", []int{queue("d", unix.IFF_TAP|multi), queue("d", unix.IFF_TAP|multi)}, "", stack.GSONotSupported, TAP},
		{"two devices", []int{queue("e", unix.IFF_TAP|multi), queue("f", unix.IFF_TAP|multi)}, "are not queues of one device", 0, TAP},
		{"not attached", []int{notAttached(t)}, "TUNGETIFF", 0, TAP},
		{"not open", []int{1 << 20}, "bad file descriptor", 0, TAP},
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
			if e.mode != tt.mode || e.SupportedGSO() != tt.gso {
				t.Errorf("mode %s, GSO %d", e.mode, e.SupportedGSO())
			}
			if e.MTU() != 1500 {
				t.Errorf("MTU %d of a device in another namespace, want 1500", e.MTU())
			}
			e.Close()
			e.Wait()
		})
	}
}

// notAttached returns a descriptor of no device.
func notAttached(t *testing.T) int {
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// The offloads of a persistent device are what the present endpoint wants, not
// what the one before left.
func TestOffloadIsSet(t *testing.T) {
	ns := nstest.New(t)
	ns.AddTAP(t, nstest.TAP{Name: "tap0"})
	for _, noOffload := range []bool{false, true, false} {
		e := open(t, ns, Options{Name: "tap0", NoOffload: noOffload})
		features := ns.Run(t, "ethtool", "-k", "tap0")
		want := ": on"
		if noOffload {
			want = ": off"
		}
		for _, f := range []string{"tx-checksumming", "tcp-segmentation-offload"} {
			if !strings.Contains(features, f+want) {
				t.Errorf("NoOffload %t: ethtool does not say %s%s:\n%s", noOffload, f, want, features)
			}
		}
		e.Close()
		e.Wait()
	}
}

// A device that is down refuses packets and takes them again when it is up.
func TestDeviceDown(t *testing.T) {
	ns := nstest.New(t)
	link := ns.AddTAP(t, nstest.TAP{Name: "tap0"})
	e := open(t, ns, Options{Name: "tap0"})
	c := newCollector()
	e.Attach(c)
	defer c.drain()
	for range 3 {
		if err := ns.Netlink().LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		n, err := write(e, tcpPacket(e, 100, stack.GSO{}), tcpPacket(e, 100, stack.GSO{}))
		if _, ok := err.(*tcpip.ErrNetworkUnreachable); !ok || n != 0 {
			t.Errorf("WritePackets to a device that is down = %d, %v", n, err)
		}
		if err := ns.Netlink().LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if n, err := write(e, tcpPacket(e, 100, hostGSO)); n != 1 || err != nil {
			t.Errorf("WritePackets to a device that is up again = %d, %v", n, err)
		}
		// The kernel announces itself, which shows that receiving goes on.
		(<-c.packets).DecRef()
	}
	if s := e.Stats(); s.TxRefusedDown != 6 || s.TxFrames != 3 {
		t.Errorf("Stats %+v, want 6 packets refused and 3 sent", s)
	}
	if err := e.Err(); err != nil {
		t.Errorf("Err = %v", err)
	}
}

// A device that is deleted ends the endpoint once, from whichever side it is
// noticed, and all is let go of.
func TestDeviceDeleted(t *testing.T) {
	ns := nstest.New(t)
	for _, queues := range []int{1, 4} {
		link := ns.AddTAP(t, nstest.TAP{Name: "tap0", MultiQueue: queues > 1})
		failures, closed := make(chan error, 10), make(chan struct{}, 10)
		e := open(t, ns, Options{Name: "tap0", Queues: queues, OnFailure: func(err error) { failures <- err }})
		e.SetOnCloseAction(func() { closed <- struct{}{} })
		e.Attach(newCollector())
		if err := ns.Netlink().LinkDel(link); err != nil {
			t.Fatal(err)
		}
		err := <-failures
		if !errors.Is(err, errDeviceGone) || !strings.HasPrefix(err.Error(), "tap: tap0: ") || !errors.Is(e.Err(), err) {
			t.Errorf("OnFailure got %v, Err = %v", err, e.Err())
		}
		e.Wait()
		<-closed
		n, terr := write(e, tcpPacket(e, 100, stack.GSO{}))
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

// What cannot be opened gives an error that says what is missing.
func TestOpenErrors(t *testing.T) {
	ns := nstest.New(t)
	ns.AddTAP(t, nstest.TAP{Name: "tap0"})
	ns.AddTAP(t, nstest.TAP{Name: "tun0", TUN: true})
	open(t, ns, Options{Name: "tap0"})
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"in use", Options{Name: "tap0"}, "somebody else has it open"},
		{"not a tap", Options{Name: "tun0"}, "another kind"},
		{"not a tun", Options{Name: "lo", Mode: TUN}, "another kind"},
	} {
		var err error
		ns.Do(func() { _, err = New(tt.o) })
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.o.Name) {
			t.Errorf("%s: New = %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	// Errors that this test cannot provoke.
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "open", Path: cloneDevice, Err: unix.ENOENT}, "CONFIG_TUN"},
		{&os.PathError{Op: "open", Path: cloneDevice, Err: unix.EACCES}, "permission"},
		{os.NewSyscallError("TUNSETIFF", unix.EPERM), "CAP_NET_ADMIN"},
		{os.NewSyscallError("TUNSETIFF", unix.E2BIG), "opening tap tap9"},
	} {
		if err := explain(&Options{Name: "tap9"}, tt.err); !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("explain(%v) = %v, want %q in it", tt.err, err, tt.want)
		}
	}
}
