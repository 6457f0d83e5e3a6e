package linkbench

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/plumbline/plumbline/internal/namespace"
)

// The addresses of the two ends of every device, and its MTU.
const (
	kernelAddress = "10.77.0.1"
	stackAddress  = "10.77.0.2"
	prefixLength  = 24
	mtu           = 1500
)

// world is a network namespace with a device in it.
type world struct {
	*namespace.Namespace
	ours netlink.Link // the end for the endpoint: with a TAP, the only one
	far  netlink.Link // the kernel's end
}

// newWorld makes an empty namespace.
func newWorld() (*world, error) {
	ns, err := namespace.New()
	if err != nil {
		return nil, err
	}
	return &world{Namespace: ns}, nil
}

// addVeth makes a veth pair whose far end has the kernel's address.
func (w *world) addVeth() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "ours", mtu
	if err := w.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		return fmt.Errorf("adding a veth pair: %w", err)
	}
	var err error
	if w.ours, err = w.Netlink().LinkByName("ours"); err != nil {
		return err
	}
	if w.far, err = w.Netlink().LinkByName("far"); err != nil {
		return err
	}
	if err := w.Sysctl("net.ipv6.conf.ours.disable_ipv6", "1"); err != nil {
		return err
	}
	return w.up()
}

// addOurs takes over the end of a veth pair that was moved here from another
// namespace.
func (w *world) addOurs() error {
	l, err := w.Netlink().LinkByName("ours")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(stackAddress), Mask: net.CIDRMask(prefixLength, 32)}}
	if err := w.Netlink().AddrAdd(l, addr); err != nil {
		return fmt.Errorf("adding an address: %w", err)
	}
	return w.Netlink().LinkSetUp(l)
}

// findTAP sets the device up that an endpoint has made.
func (w *world) findTAP() error {
	l, err := w.Netlink().LinkByName("ours")
	if err != nil {
		return err
	}
	w.ours, w.far = l, l
	return w.up()
}

// up gives the far end its address and sets all up.
func (w *world) up() error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(kernelAddress), Mask: net.CIDRMask(prefixLength, 32)}}
	if err := w.Netlink().AddrAdd(w.far, addr); err != nil {
		return fmt.Errorf("adding an address: %w", err)
	}
	for _, l := range []netlink.Link{w.ours, w.far} {
		if err := w.Netlink().LinkSetUp(l); err != nil {
			return fmt.Errorf("setting %s up: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// farReceived returns how many frames the kernel's end has received.
func (w *world) farReceived() (uint64, error) {
	l, err := w.Netlink().LinkByIndex(w.far.Attrs().Index)
	if err != nil {
		return 0, err
	}
	if l.Attrs().Statistics == nil {
		return 0, errors.New("the kernel tells no statistics of a device")
	}
	return l.Attrs().Statistics.RxPackets, nil
}
