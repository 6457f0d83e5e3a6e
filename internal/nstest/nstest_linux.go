package nstest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// requireEnv turns skips into failures if set to 1.
const requireEnv = "PLUMBLINE_REQUIRE_PRIVILEGED"

// Missing says that the machine lacks something: it skips t, or fails it if
// PLUMBLINE_REQUIRE_PRIVILEGED=1.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv(requireEnv) == "1" {
		t.Fatalf("%s, and %s=1", reason, requireEnv)
	}
	t.Skip(reason)
}

// Program returns the path of a program, or calls Missing.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "the program %s is not installed", name)
	}
	return path
}

// A Namespace is a network namespace with its loopback interface up. Its
// methods may be called concurrently.
type Namespace struct {
	fd      netns.NsHandle
	netlink *netlink.Handle
}

// New makes a namespace that lives until t ends. Without CAP_SYS_ADMIN it
// calls Missing.
func New(t testing.TB) *Namespace {
	t.Helper()
	ns := &Namespace{}
	var err error
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns.fd, err = netns.Get()
		}
	})
	if err != nil {
		Missing(t, "cannot make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.fd.Close() })
	h, err := netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatalf("netlink in the new namespace: %v", err)
	}
	t.Cleanup(h.Close)
	ns.netlink = h
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatalf("setting lo up: %v", err)
	}
	return ns
}

// Do calls f on a thread in the namespace and returns when f does. Sockets,
// devices and processes that f makes belong to the namespace for good.
// Goroutines that f starts do not run in it.
func (ns *Namespace) Do(f func()) {
	onThread(func() {
		if err := netns.Set(ns.fd); err != nil {
			panic(fmt.Sprintf("nstest: entering a namespace of an ended test: %v", err))
		}
		f()
	})
}

// onThread runs f on a thread of its own. The thread is never unlocked, so that
// it ends with the goroutine instead of running others in the wrong namespace.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// Netlink returns a handle on the namespace's interfaces, addresses and routes.
func (ns *Namespace) Netlink() *netlink.Handle { return ns.netlink }

// Start starts cmd in the namespace.
func (ns *Namespace) Start(cmd *exec.Cmd) (err error) {
	ns.Do(func() { err = cmd.Start() })
	return err
}

// Run runs a program in the namespace until it ends and returns its standard
// output. It fails t, with all output, if the exit status is not 0.
func (ns *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Program(t, name), args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// Listen listens in the namespace. The address must be literal.
func (ns *Namespace) Listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() {
		// MPTCP sockets fall back to TCP, but are not the sockets under test.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, addr)
	})
	if err != nil {
		t.Fatalf("listening on %s: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Dial connects from within the namespace. The address must be literal, since
// a resolver runs goroutines elsewhere. Control, if not nil, is called with the
// descriptor before it connects.
func (ns *Namespace) Dial(network, addr string, control func(fd int)) (conn net.Conn, err error) {
	d := net.Dialer{}
	if control != nil {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { control(int(fd)) })
		}
	}
	ns.Do(func() { conn, err = d.Dial(network, addr) })
	return conn, err
}

// Sysctl sets a value under /proc/sys, its name given with dots. If the kernel
// has no such setting, or refuses the value, it calls Missing.
func (ns *Namespace) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	var err error
	// What lies below /proc/sys/net belongs to the namespace of the thread.
	ns.Do(func() { err = os.WriteFile(path, []byte(value), 0) })
	if err != nil {
		Missing(t, "sysctl %s=%s: %v", name, value, err)
	}
}

// TAP describes a device for AddTAP.
type TAP struct {
	Name       string
	TUN        bool // IP packets instead of Ethernet frames
	MTU        int  // 1500 if zero
	MultiQueue bool
	Addrs      []string // of the kernel's end, in CIDR form
}

// AddTAP makes a persistent device and gives it addresses. Whoever opens it by
// name in the namespace has the other end. The device is down.
//
// To set it up is for SetUp, once the other end is open: a device that is up
// before has no carrier, and when it gets one, the kernel drops what it sends
// until a work queue has run.
func (ns *Namespace) AddTAP(t testing.TB, o TAP) netlink.Link {
	t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		Missing(t, "no TAP devices: %v", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = o.Name
	attrs.MTU = o.MTU
	if attrs.MTU == 0 {
		attrs.MTU = 1500
	}
	dev := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if o.TUN {
		dev.Mode = netlink.TUNTAP_MODE_TUN
	}
	if o.MultiQueue {
		dev.Flags |= netlink.TUNTAP_MULTI_QUEUE
	}
	var err error
	// The device is made with an ioctl, which the handle cannot redirect.
	ns.Do(func() { err = netlink.LinkAdd(dev) })
	if err != nil {
		t.Fatalf("adding %s: %v", o.Name, err)
	}
	link, err := ns.netlink.LinkByName(o.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.netlink.LinkSetMTU(link, attrs.MTU); err != nil {
		t.Fatalf("MTU %d on %s: %v", attrs.MTU, o.Name, err)
	}
	for _, a := range o.Addrs {
		ns.AddAddr(t, link, a)
	}
	return link
}

// SetUp sets a device up.
func (ns *Namespace) SetUp(t testing.TB, link netlink.Link) {
	t.Helper()
	if err := ns.netlink.LinkSetUp(link); err != nil {
		t.Fatalf("setting %s up: %v", link.Attrs().Name, err)
	}
}

// AddAddr gives a device an address in CIDR form. It is usable at once:
// duplicate address detection is off for it.
func (ns *Namespace) AddAddr(t testing.TB, link netlink.Link, cidr string) {
	t.Helper()
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		t.Fatal(err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := ns.netlink.AddrAdd(link, addr); err != nil {
		t.Fatalf("adding %s to %s: %v", cidr, link.Attrs().Name, err)
	}
}
