package afpacket

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/plumbline/plumbline/tcpx"
)

// stockTCP is gVisor's own.
func stockTCP(s *stack.Stack) stack.TransportProtocol { return tcp.NewProtocol(s) }

// newNetstack makes a stack on a link, which is closed with the test.
func newNetstack(t testing.TB, link stack.LinkEndpoint, transport stack.TransportProtocolFactory, addrs ...string) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{transport, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	t.Cleanup(func() {
		// Destroy holds a lock while it waits for a link's last delivery, which
		// may want the lock. Removing the NIC does not.
		if err := s.RemoveNIC(1); err != nil {
			t.Errorf("RemoveNIC: %v", err)
		}
		link.Close()
		link.Wait()
		s.Destroy()
	})
	if err := s.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	var routes []tcpip.Route
	for _, a := range addrs {
		p := netip.MustParsePrefix(a)
		address := tcpip.ProtocolAddress{
			Protocol:          header.IPv4ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()},
		}
		if p.Addr().Is6() {
			address.Protocol = header.IPv6ProtocolNumber
		}
		if err := s.AddProtocolAddress(1, address, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, tcpip.Route{Destination: address.AddressWithPrefix.Subnet(), NIC: 1})
	}
	s.SetRouteTable(routes)
	return s
}

// endpoints are the addresses of a cable's two ends.
var endpoints = []struct {
	name          string
	kernel, stack string
	proto         tcpip.NetworkProtocolNumber
}{
	{"IPv4", "10.0.0.1", "10.0.0.2", ipv4.ProtocolNumber},
	{"IPv6", "fd00::1", "fd00::2", ipv6.ProtocolNumber},
}

// The kernel pings a netstack and exchanges data with it over TCP, in both
// directions.
func TestKernelPeer(t *testing.T) {
	const size = 2 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for _, transport := range []struct {
		name string
		make stack.TransportProtocolFactory
	}{{"tcpx", tcpx.NewProtocol}, {"stock", stockTCP}} {
		for _, o := range []struct {
			name string
			opts Options
		}{
			{"offload", Options{}},
			{"no offload", Options{NoOffload: true}},
			{"two queues, own address", Options{Queues: 2, LinkAddress: "\x02\x00\x5e\x00\x53\x42"}},
		} {
			t.Run(transport.name+"/"+o.name, func(t *testing.T) {
				c := newCable(t, 1500, "10.0.0.1/24", "fd00::1/64")
				e := c.open(t, o.opts)
				s := newNetstack(t, e, transport.make, "10.0.0.2/24", "fd00::2/64")
				for _, ends := range endpoints {
					c.NS.Run(t, "ping", "-c", "3", "-i", "0.01", "-w", "10", "-s", "1000", ends.stack)
					echo(t, c, s, ends.kernel, ends.stack, ends.proto, data)
				}
				stats := e.Stats()
				if offload := !o.opts.NoOffload; (stats.RxGSO > 0) != offload || (stats.TxGSO > 0) != offload {
					t.Errorf("offload %t, and Stats %+v", offload, stats)
				}
				if o.opts.NoOffload && stats.RxSplit == 0 {
					t.Errorf("no super-segment was cut: %+v", stats)
				}
				if n := stats.RxDropped() - stats.RxDroppedOtherHost; n != 0 || stats.TxDropped() != 0 {
					t.Errorf("frames were dropped: %+v", stats)
				}
			})
		}
	}
}

// serveEcho sends what comes to port 7 of the netstack back, for one connection. The
// caller calls what it returns.
func serveEcho(t *testing.T, s *stack.Stack, proto tcpip.NetworkProtocolNumber) (closeListener func()) {
	t.Helper()
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, proto)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	return func() { l.Close() }
}

// echo sends data from the kernel to the netstack, which sends it back.
func echo(t *testing.T, c *cable, s *stack.Stack, kernel, stackAddr string, proto tcpip.NetworkProtocolNumber, data []byte) {
	t.Helper()
	defer serveEcho(t, s, proto)()
	conn, err := c.NS.Dial("tcp", net.JoinHostPort(stackAddr, "7"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("sent %d bytes and got %d back, equal %t, %v", len(data), len(got), bytes.Equal(got, data), err)
	}
}

// UDP super-segments (UDP_SEGMENT) arrive as the datagrams that the kernel's
// user sent.
func TestKernelUDPSegments(t *testing.T) {
	for _, opts := range []Options{{}, {NoOffload: true}} {
		c := newCable(t, 1500, "10.0.0.1/24", "fd00::1/64")
		e := c.open(t, opts)
		s := newNetstack(t, e, stockTCP, "10.0.0.2/24", "fd00::2/64")
		for _, ends := range endpoints {
			pc, err := gonet.DialUDP(s, &tcpip.FullAddress{Port: 9}, nil, ends.proto)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := c.NS.Dial("udp", net.JoinHostPort(ends.stack, "9"), func(fd int) {
				const udpSegment = 103 // linux/udp.h
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpSegment, 1000); err != nil {
					t.Errorf("UDP_SEGMENT: %v", err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			payload := bytes.Repeat([]byte("0123456789"), 1150) // 11,500 bytes
			if _, err := conn.Write(payload); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 2000)
			for at := 0; at < len(payload); {
				n, err := pc.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				if want := min(1000, len(payload)-at); n != want || !bytes.Equal(b[:n], payload[at:at+n]) {
					t.Fatalf("%s: got a datagram of %d bytes at %d, want %d", ends.name, n, at, want)
				}
				at += n
			}
			conn.Close()
			pc.Close()
		}
		if got := e.Stats(); got.RxSplit != 2 {
			t.Errorf("Stats %+v, want 2 super-segments", got)
		}
	}
}

// The flows of several queues spread, and no frame comes twice.
func TestKernelFanout(t *testing.T) {
	c := newCable(t, 1500, "10.0.0.1/24")
	e := c.open(t, Options{Queues: 4})
	s := newNetstack(t, e, stockTCP, "10.0.0.2/24")
	pc, err := gonet.DialUDP(s, &tcpip.FullAddress{Port: 9}, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	const flows = 64
	for i := range flows {
		conn, err := c.NS.Dial("udp", "10.0.0.2:9", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	seen := make(map[byte]bool)
	var b [10]byte
	for range flows {
		if _, err := pc.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		if seen[b[0]] {
			t.Errorf("datagram %d came twice", b[0])
		}
		seen[b[0]] = true
	}
	used := 0
	for _, q := range e.rx {
		if q.counters.frames.Load() > 0 {
			used++
		}
	}
	if used < 3 {
		t.Errorf("%d of 4 queues received something", used)
	}
}
