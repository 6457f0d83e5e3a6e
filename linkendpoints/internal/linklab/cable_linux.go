package linklab

import (
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/plumbline/plumbline/internal/nstest"
)

// The names of the ends of a Cable.
const (
	Ours    = "ours"
	Kernels = "kernels"
)

// Cable is a veth pair in a namespace of its own: the endpoint's end has no IP
// address, so that the kernel does not answer on it.
type Cable struct {
	NS            *nstest.Namespace
	Ours, Kernels netlink.Link
}

// NewCable makes a pair whose ends have an MTU in bytes, and so many queues in
// each direction; the addresses, in CIDR form, are for the kernel's end. It lives
// until t ends.
func NewCable(t testing.TB, mtu, queues int, addrs ...string) *Cable {
	t.Helper()
	c := &Cable{NS: nstest.New(t)}
	// What the kernel says on its own would disturb those who count.
	c.NS.Sysctl(t, "net.ipv6.conf.default.accept_ra", "0")
	c.NS.Sysctl(t, "net.ipv6.conf.default.router_solicitations", "0")
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumRxQueues, attrs.NumTxQueues = Ours, mtu, queues, queues
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: Kernels, PeerMTU: uint32(mtu),
		PeerNumRxQueues: uint32(queues), PeerNumTxQueues: uint32(queues),
	}
	if err := c.NS.Netlink().LinkAdd(veth); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	c.Ours, c.Kernels = c.Link(t, Ours), c.Link(t, Kernels)
	c.NS.Sysctl(t, "net.ipv6.conf."+Ours+".disable_ipv6", "1")
	c.NS.SetUp(t, c.Ours)
	c.NS.SetUp(t, c.Kernels)
	c.WaitUp(t)
	for _, a := range addrs {
		c.NS.AddAddr(t, c.Kernels, a)
	}
	return c
}

// WaitUp returns when both ends are up: until the kernel has noticed that the
// other end is, it loses what is sent.
func (c *Cable) WaitUp(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, name := range []string{Ours, Kernels} {
		for c.Link(t, name).Attrs().OperState != netlink.OperUp {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come up", name)
			}
			runtime.Gosched()
		}
	}
}

// Link looks a device of the namespace up, as it is now.
func (c *Cable) Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := c.NS.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
