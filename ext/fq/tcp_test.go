package fq_test

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/ext/fq"
	"github.com/plumbline/plumbline/tcpx"
)

// New is given to a NIC where gVisor's fifo would be.
func ExampleNew() {
	s := stack.New(stack.Options{})
	defer s.Destroy()
	link, seed := loopback.New(), s.SecureRNG()
	s.CreateNICWithOptions(1, link, stack.NICOptions{QDisc: fq.New(link, s.Clock(), fq.Options{
		LinkRate: 12_500_000, // 100 Mbit/s
		Seed:     seed.Uint32(),
	})})
	// Output:
}

var addresses = [2]tcpip.Address{tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})}

func newStack(t *testing.T, clock tcpip.Clock, n int, link stack.LinkEndpoint, q stack.QueueingDiscipline) *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.NewProtocol},
		Clock:              clock,
	})
	t.Cleanup(func() {
		s.RemoveNIC(1)
		s.Destroy()
	})
	if err := s.CreateNICWithOptions(1, link, stack.NICOptions{QDisc: q}); err != nil {
		t.Fatal(err)
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: addresses[n], PrefixLen: 24}}
	if err := s.AddProtocolAddress(1, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return s
}

func socket(t *testing.T, s *stack.Stack) tcpip.Endpoint {
	ep, err := s.NewEndpoint(tcpx.ProtocolNumber, ipv4.ProtocolNumber, new(waiter.Queue))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ep.Abort)
	return ep
}

// Connections that all have more to send than the link carries get the same, whatever their windows, and lose nothing: a full queue refuses and tcpx waits.
func TestConnectionsShareTheLink(t *testing.T) {
	const flows, rate, seconds = 5, 1_000_000, 8
	clock := vclock.New()
	near, far := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
	d := fq.New(near, clock, fq.Options{LinkRate: rate})
	a, b := newStack(t, clock, 0, near, d), newStack(t, clock, 1, far, nil)

	l := socket(t, b)
	if err := l.Bind(tcpip.FullAddress{Port: 80}); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(flows); err != nil {
		t.Fatal(err)
	}
	var senders, receivers []tcpip.Endpoint
	for range flows {
		c := socket(t, a)
		if _, ok := c.Connect(tcpip.FullAddress{Addr: addresses[1], Port: 80}).(*tcpip.ErrConnectStarted); !ok {
			t.Fatal("connect did not start")
		}
		for clock.Step(clock.Elapsed() + time.Second) {
		}
		s, _, err := l.Accept(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Abort)
		senders, receivers = append(senders, c), append(receivers, s)
	}
	text := make([]byte, 1<<20)
	var got [flows]float64
	for end := clock.Elapsed() + seconds*time.Second; clock.Elapsed() < end; {
		for i := range flows {
			senders[i].Write(bytes.NewReader(text), tcpip.WriteOptions{})
			var w count
			for {
				if _, err := receivers[i].Read(&w, tcpip.ReadOptions{}); err != nil {
					break
				}
			}
			got[i] += float64(w)
		}
		for tick := clock.Elapsed() + 10*time.Millisecond; clock.Step(tick); {
		}
	}
	var sum, squares float64
	for _, n := range got {
		sum, squares = sum+n, squares+n*n
	}
	if jain := sum * sum / (flows * squares); jain < 0.99 {
		t.Errorf("Jain's index is %.3f: %v", jain, got)
	}
	if share := sum / (rate * seconds); share < 0.9 || share > 1 {
		t.Errorf("the link carried %.2f of its rate", share)
	}
	if n := a.Stats().TCP.Retransmits.Value(); n != 0 {
		t.Errorf("%d segments were sent again", n)
	}
	if s := d.Stats(); s.FlowRefused == 0 {
		t.Errorf("no flow filled its queue: %+v", s)
	}
}

// count counts what is written to it.
type count int

func (c *count) Write(b []byte) (int, error) {
	*c += count(len(b))
	return len(b), nil
}
