//go:build amd64 || arm64

package main

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/plumbline/plumbline/internal/nstest"
)

// newVethLab makes a lab with a veth pair: dev0 is for the proxy, and the
// kernel's addresses are on the other end.
func newVethLab(t *testing.T, mtu, queues int) *lab {
	t.Helper()
	l := &lab{Namespace: nstest.New(t), t: t, link: "xdp:dev0"}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumRxQueues, attrs.NumTxQueues = "dev0", mtu, queues, queues
	h := l.Netlink()
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "dev1", PeerMTU: uint32(mtu),
		PeerNumRxQueues: uint32(queues), PeerNumTxQueues: uint32(queues),
	}
	if err := h.LinkAdd(veth); err != nil {
		t.Fatalf("adding a veth pair: %v", err)
	}
	l.Sysctl(t, "net.ipv6.conf.dev0.disable_ipv6", "1") // the kernel stays out of it
	ours, err := h.LinkByName("dev0")
	if err == nil {
		l.device, err = h.LinkByName("dev1")
	}
	if err != nil {
		t.Fatal(err)
	}
	l.SetUp(t, ours)
	l.AddAddr(t, l.device, kernelIP["IPv4"]+"/24")
	l.AddAddr(t, l.device, kernelIP["IPv6"]+"/64")
	return l
}

// ping, curl and iperf3 reach the netstack over AF_XDP.
func TestKernelXDP(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newVethLab(t, 1500, 2)
		n := size(8 << 20)
		l.program("Server listening", "iperf3", "--server", "--port", "5201", "--forceflush")
		p := l.proxy(stack, "--listen", "80", "--to", l.serveHTTP(n), "--listen", "5201", "--to", "127.0.0.1:5201")

		l.ping(version, 1400)
		l.curl(version, n)
		const enough = 32 << 20 // bytes
		l.iperf(stackIP[version], "5201", enough)
		l.iperf(stackIP[version], "5201", enough, "--reverse")
		p.stop()
		if out, _ := p.output(); !strings.Contains(out, "xdp:dev0:    copy mode") {
			t.Errorf("no statistics of the device:\n%s", out)
		}
	})
}

// Jumbo frames take several buffers, and arrive unaltered.
func TestKernelXDPJumbo(t *testing.T) {
	l := newVethLab(t, 9000, 1)
	n := size(20e6)
	serve := func(c *net.TCPConn) {
		if err := exchangePattern(c, n); err != nil {
			t.Errorf("server: %v", err)
		}
	}
	p := l.proxy("tcpx", "--listen", "7", "--to", l.serve("", serve))
	if err := exchangePattern(l.dial(net.JoinHostPort(stackIP["IPv4"], "7")), n); err != nil {
		t.Errorf("client: %v", err)
	}
	p.stop()
	if out, _ := p.output(); strings.Contains(out, "(0 large") {
		t.Errorf("no large frames:\n%s", out)
	}
}

// The proxy ends with one line when its device is deleted.
func TestKernelXDPDeleted(t *testing.T) {
	l := newVethLab(t, 1500, 1)
	p := l.proxy("tcpx", "--listen", "7", "--to", "127.0.0.1:7")
	if err := l.Netlink().LinkDel(l.device); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	out, _ := p.output()
	if p.err == nil || !strings.Contains(out, "xdp: dev0: the device is gone") {
		t.Errorf("the proxy ended with %v:\n%s", p.err, out)
	}
}
