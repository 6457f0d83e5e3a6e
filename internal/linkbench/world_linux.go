package linkbench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of the two ends of every device, and its MTU.
const (
	kernelAddress = "10.77.0.1"
	stackAddress  = "10.77.0.2"
	prefixLength  = 24
	mtu           = 1500
)

// errNamespace ends a run.
var errNamespace = errors.New("cannot make a network namespace, which takes CAP_SYS_ADMIN (run it as root)")

// world is a network namespace with a device in it.
type world struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	ours   netlink.Link // the end for the endpoint: with a TAP, the only one
	far    netlink.Link // the kernel's end
}

// enterNewNamespace moves the calling thread into a new namespace.
func enterNewNamespace() (netns.NsHandle, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return netns.None(), fmt.Errorf("%w: %w", errNamespace, err)
	}
	return netns.Get()
}

// newWorld makes an empty namespace.
func newWorld() (*world, error) {
	w := &world{}
	err := onThread(func() (err error) {
		w.ns, err = enterNewNamespace()
		return err
	})
	if err != nil {
		return nil, err
	}
	if w.handle, err = netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE); err != nil {
		w.ns.Close()
		return nil, err
	}
	return w, nil
}

// close lets go of the namespace, which the kernel removes with its devices
// once nobody uses it.
func (w *world) close() {
	w.handle.Close()
	w.ns.Close()
}

// do calls f on a thread in the namespace.
func (w *world) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(w.ns); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// addVeth makes a veth pair whose far end has the kernel's address.
func (w *world) addVeth() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "ours", mtu
	if err := w.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		return fmt.Errorf("adding a veth pair: %w", err)
	}
	var err error
	if w.ours, err = w.handle.LinkByName("ours"); err != nil {
		return err
	}
	if w.far, err = w.handle.LinkByName("far"); err != nil {
		return err
	}
	if err := w.sysctl("net/ipv6/conf/ours/disable_ipv6", "1"); err != nil {
		return err
	}
	return w.up()
}

// addOurs takes over the end of a veth pair that was moved here from another
// namespace.
func (w *world) addOurs() error {
	l, err := w.handle.LinkByName("ours")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(stackAddress), Mask: net.CIDRMask(prefixLength, 32)}}
	if err := w.handle.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("adding an address: %w", err)
	}
	return w.handle.LinkSetUp(l)
}

// findTAP sets the device up that an endpoint has made.
func (w *world) findTAP() error {
	l, err := w.handle.LinkByName("ours")
	if err != nil {
		return err
	}
	w.ours, w.far = l, l
	return w.up()
}

// up gives the far end its address and sets all up.
func (w *world) up() error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(kernelAddress), Mask: net.CIDRMask(prefixLength, 32)}}
	if err := w.handle.AddrAdd(w.far, addr); err != nil {
		return fmt.Errorf("adding an address: %w", err)
	}
	for _, l := range []netlink.Link{w.ours, w.far} {
		if err := w.handle.LinkSetUp(l); err != nil {
			return fmt.Errorf("setting %s up: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// sysctl sets what belongs to the namespace. A kernel that does not have it does
// not need it.
func (w *world) sysctl(path, value string) error {
	return w.do(func() error {
		err := os.WriteFile("/proc/sys/"+path, []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// farReceived returns how many frames the kernel's end has received.
func (w *world) farReceived() (uint64, error) {
	l, err := w.handle.LinkByIndex(w.far.Attrs().Index)
	if err != nil {
		return 0, err
	}
	if l.Attrs().Statistics == nil {
		return 0, errors.New("the kernel tells no statistics of a device")
	}
	return l.Attrs().Statistics.RxPackets, nil
}
