package tcpx_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/tap"
	"github.com/plumbline/plumbline/tcpx"
)

// kernelPeer is a namespace with Fast Open on, and a stack on the other end of its TAP device.
func kernelPeer(t *testing.T) (*nstest.Namespace, *stack.Stack) {
	t.Helper()
	ns := nstest.New(t)
	ns.Sysctl(t, "net.ipv4.tcp_fastopen", "3")
	dev := ns.AddTAP(t, nstest.TAP{Name: "tap0", Addrs: []string{"10.9.0.1/24"}})
	var link *tap.Endpoint
	var err error
	ns.Do(func() { link, err = tap.New(tap.Options{Name: "tap0"}) })
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcpx.New(tcpx.WithFastOpen(tcpx.FastOpenConfig{Client: true, Deferred: true, Server: true, Backlog: -1})),
		},
	})
	t.Cleanup(func() {
		s.Destroy()
		link.Wait()
	})
	if err := s.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	address := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{10, 9, 0, 2}), PrefixLen: 24},
	}
	if err := s.AddProtocolAddress(1, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: address.AddressWithPrefix.Subnet(), NIC: 1}})
	ns.SetUp(t, dev)
	return ns, s
}

// echo answers each connection with what it says.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		c.Close()
	}
}

// exchange dials, says something and expects to hear it.
func exchange(t *testing.T, dial func() (net.Conn, error)) {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("request")) // a shutdown before the handshake is over would end it
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "request" {
		t.Fatalf("heard %q, %v", got, err)
	}
}

// TestFastOpenKernelClient: the Linux kernel gets a cookie with its first connection, and the data on its second SYN is taken.
func TestFastOpenKernelClient(t *testing.T) {
	ns, s := kernelPeer(t)
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	dial := func() (net.Conn, error) {
		return ns.Dial("tcp4", "10.9.0.2:80", func(fd int) {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
				nstest.Missing(t, "TCP_FASTOPEN_CONNECT: %v", err)
			}
		})
	}
	for range 3 {
		exchange(t, dial)
	}
	if st := tcpx.StatsOf(s); st.FastOpenCookiesGiven.Value() != 1 || st.FastOpenPassive.Value() != 2 {
		t.Errorf("%d cookies given, data taken of %d SYNs; want 1 and 2", st.FastOpenCookiesGiven.Value(), st.FastOpenPassive.Value())
	}
}

// TestFastOpenKernelServer: the kernel gives a cookie to the first connection of a stack, and takes the data of the next.
func TestFastOpenKernelServer(t *testing.T) {
	ns, s := kernelPeer(t)
	l := ns.Listen(t, "tcp4", "10.9.0.1:80")
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) }); err != nil || failed != nil {
		nstest.Missing(t, "TCP_FASTOPEN: %v, %v", err, failed)
	}
	go echo(l)
	dial := func() (net.Conn, error) {
		return gonet.DialTCP(s, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}), Port: 80}, ipv4.ProtocolNumber)
	}
	for range 3 {
		exchange(t, dial)
	}
	if st := tcpx.StatsOf(s); st.FastOpenActive.Value() != 2 || st.FastOpenActiveAccepted.Value() != 2 {
		t.Errorf("%d SYNs with data, of which %d were taken; want 2 and 2", st.FastOpenActive.Value(), st.FastOpenActiveAccepted.Value())
	}
}
