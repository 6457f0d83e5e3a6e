package bench

import (
	"fmt"
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx"
)

const nic = 1

var addrs = [2]tcpip.Address{tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})}

// transports are what is compared.
var transports = []struct {
	name string
	make stack.TransportProtocolFactory
}{
	{"tcpx", tcpx.NewProtocol},
	{"gvisor", tcp.NewProtocol},
}

// gsoLink lets a pipe take super-segments, as a TAP with a virtio-net header does.
type gsoLink struct{ *pipe.Endpoint }

func (gsoLink) GSOMaxSize() uint32               { return 65000 }
func (gsoLink) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }
func (l gsoLink) Capabilities() stack.LinkEndpointCapabilities {
	return l.Endpoint.Capabilities() | stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

// pair returns two stacks joined by a link.
func pair(tb testing.TB, mtu uint32, gso bool, f stack.TransportProtocolFactory) [2]*stack.Stack {
	tb.Helper()
	a, b := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", mtu)
	var s [2]*stack.Stack
	for i, l := range []*pipe.Endpoint{a, b} {
		s[i] = stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{f},
		})
		var ep stack.LinkEndpoint = l
		if gso {
			ep = gsoLink{l}
		}
		if err := s[i].CreateNIC(nic, ep); err != nil {
			tb.Fatal(err)
		}
		addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addrs[i].WithPrefix()}
		if err := s[i].AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
			tb.Fatal(err)
		}
		s[i].SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	}
	tb.Cleanup(func() {
		for _, x := range s {
			x.Destroy()
		}
	})
	return s
}

func at(i int, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: addrs[i], Port: port}
}

func listen(tb testing.TB, s [2]*stack.Stack, port uint16) net.Listener {
	tb.Helper()
	l, err := gonet.ListenTCP(s[1], at(1, port), ipv4.ProtocolNumber)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func dial(s [2]*stack.Stack, port uint16) (net.Conn, error) {
	c, err := gonet.DialTCP(s[0], at(1, port), ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}

// connected returns both ends of one connection.
func connected(tb testing.TB, s [2]*stack.Stack) (a, b net.Conn) {
	tb.Helper()
	l := listen(tb, s, 80)
	a, err := dial(s, 80)
	if err != nil {
		tb.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.Close(); b.Close(); l.Close() })
	return a, b
}
