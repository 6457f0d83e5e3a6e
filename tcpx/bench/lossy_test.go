package bench

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// lossyLink drops, duplicates and delays the packets that are written to it. A delayed packet leaves after some of those that follow it.
type lossyLink struct {
	*pipe.Endpoint

	mu   sync.Mutex
	rng  *rand.Rand
	held []held
}

type held struct {
	pkt  *stack.PacketBuffer
	wait int
}

func (l *lossyLink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		for _, p := range l.treat(pkt) {
			var one stack.PacketBufferList
			one.PushBack(p)
			if _, err := l.Endpoint.WritePackets(one); err != nil {
				return 0, err
			}
			p.DecRef()
		}
	}
	return pkts.Len(), nil
}

// treat returns what leaves now, with a reference each.
func (l *lossyLink) treat(pkt *stack.PacketBuffer) []*stack.PacketBuffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*stack.PacketBuffer
	switch x := l.rng.Float64(); {
	case x < 0.02:
	case x < 0.03:
		out = append(out, pkt.Clone(), pkt.Clone())
	case x < 0.05:
		l.held = append(l.held, held{pkt.Clone(), 1 + l.rng.IntN(5)})
	default:
		out = append(out, pkt.Clone())
	}
	kept := l.held[:0]
	for _, h := range l.held {
		if h.wait--; h.wait < 0 {
			out = append(out, h.pkt)
		} else {
			kept = append(kept, h)
		}
	}
	l.held = kept
	return out
}

// mixed returns two stacks with transports of their own, joined by links that lose, duplicate and reorder.
func mixed(tb testing.TB, seed uint64, f [2]stack.TransportProtocolFactory) [2]*stack.Stack {
	tb.Helper()
	a, b := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
	var s [2]*stack.Stack
	for i, l := range []*pipe.Endpoint{a, b} {
		link := &lossyLink{Endpoint: l, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		s[i] = stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{f[i]},
		})
		if err := s[i].CreateNIC(nic, link); err != nil {
			tb.Fatal(err)
		}
		addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addrs[i].WithPrefix()}
		if err := s[i].AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
			tb.Fatal(err)
		}
		s[i].SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
		tb.Cleanup(s[i].Destroy)
	}
	return s
}

// TestEveryPairing sends 10 MB each way between every pairing of tcpx and gVisor's TCP over links that lose 2 % of the packets, duplicate 1 % and reorder 2 %.
func TestEveryPairing(t *testing.T) {
	size := 10 << 20
	if testing.Short() {
		size = 1 << 20
	}
	for _, client := range transports {
		for _, server := range transports {
			t.Run(fmt.Sprintf("%s to %s", client.name, server.name), func(t *testing.T) {
				t.Parallel()
				s := mixed(t, 1, [2]stack.TransportProtocolFactory{client.make, server.make})
				a, b := connected(t, s)
				var wg sync.WaitGroup
				for i, c := range []net.Conn{a, b} {
					data := make([]byte, size)
					_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
					wg.Add(2)
					go func() {
						defer wg.Done()
						if _, err := c.Write(data); err != nil {
							t.Errorf("write: %v", err)
						}
						if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
							t.Errorf("close: %v", err)
						}
					}()
					peer := []net.Conn{b, a}[i]
					go func() {
						defer wg.Done()
						h := sha256.New()
						n, err := io.Copy(h, peer)
						if err != nil || n != int64(size) {
							t.Errorf("read %d of %d: %v", n, size, err)
						}
						if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
							t.Error("the data that arrived is not what was sent")
						}
					}()
				}
				wg.Wait()
			})
		}
	}
}
