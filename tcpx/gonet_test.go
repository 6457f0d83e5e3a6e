package tcpx_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx"
)

// These tests use the stack as programs do: through gonet, with goroutines and the real clock, beside stock's TCP as a peer.

var (
	addrA = tcpip.AddrFrom4([4]byte{10, 0, 0, 1})
	addrB = tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
)

func makeStack(t testing.TB, f stack.TransportProtocolFactory, link stack.LinkEndpoint, addr tcpip.Address) *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{f},
	})
	if err := s.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	pa := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addr.WithPrefix()}
	if err := s.AddProtocolAddress(1, pa, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return s
}

// stacks returns two stacks joined by a pipe.
func stacks(t testing.TB, mtu uint32, a, b stack.TransportProtocolFactory) (*stack.Stack, *stack.Stack) {
	p, q := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", mtu)
	x, y := makeStack(t, a, p, addrA), makeStack(t, b, q, addrB)
	t.Cleanup(func() { x.Destroy(); y.Destroy() })
	return x, y
}

func listen(t testing.TB, s *stack.Stack, addr tcpip.Address) *gonet.TCPListener {
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{Addr: addr, Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(s *stack.Stack, addr tcpip.Address) (*gonet.TCPConn, error) {
	return gonet.DialTCP(s, tcpip.FullAddress{Addr: addr, Port: 80}, ipv4.ProtocolNumber)
}

// connect returns both ends of a connection from a to b.
func connect(t testing.TB, a, b *stack.Stack) (c, d net.Conn) {
	l := listen(t, b, addrB)
	accepted := make(chan net.Conn, 1)
	go func() {
		d, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- d
	}()
	c, err := dial(a, addrB)
	if err != nil {
		t.Fatal(err)
	}
	d = <-accepted
	t.Cleanup(func() { c.Close(); d.Close() })
	return c, d
}

// pairings are the transports of the two ends.
var pairings = []struct {
	name string
	a, b stack.TransportProtocolFactory
}{
	{"tcpx to tcpx", tcpx.NewProtocol, tcpx.NewProtocol},
	{"tcpx to stock", tcpx.NewProtocol, tcp.NewProtocol},
	{"stock to tcpx", tcp.NewProtocol, tcpx.NewProtocol},
}

func TestGonetTransfer(t *testing.T) {
	data := make([]byte, 10<<20)
	rand.New(rand.NewSource(1)).Read(data)
	want := sha256.Sum256(data)
	for _, tt := range pairings {
		for _, mtu := range []uint32{1500, 65000} {
			t.Run(fmt.Sprintf("%s at %d", tt.name, mtu), func(t *testing.T) {
				a, b := stacks(t, mtu, tt.a, tt.b)
				c, d := connect(t, a, b)
				var wg sync.WaitGroup
				for _, x := range [][2]net.Conn{{c, d}, {d, c}} { // Both ways at once.
					wg.Go(func() {
						if _, err := x[0].Write(data); err != nil {
							t.Error(err)
						}
						if err := x[0].(*gonet.TCPConn).CloseWrite(); err != nil {
							t.Error(err)
						}
					})
					wg.Go(func() {
						h := sha256.New()
						n, err := io.Copy(h, x[1])
						if err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
							t.Errorf("%d bytes arrived, %v", n, err)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// Half-close: an end that has sent everything still receives.
func TestGonetHalfClose(t *testing.T) {
	a, b := stacks(t, 1500, tcpx.NewProtocol, tcpx.NewProtocol)
	c, d := connect(t, a, b)
	go func() {
		req, _ := io.ReadAll(d)
		d.Write(bytes.ToUpper(req))
		d.Close()
	}()
	c.Write([]byte("question"))
	c.(*gonet.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "QUESTION" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestGonetDeadline(t *testing.T) {
	a, b := stacks(t, 1500, tcpx.NewProtocol, tcpx.NewProtocol)
	c, _ := connect(t, a, b)
	past := time.Unix(1, 0)
	c.SetReadDeadline(past)
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.SetReadDeadline(past)
	if err := <-done; err != nil && (!errors.As(err, &ne) || !ne.Timeout()) {
		t.Errorf("blocked read: %v", err)
	}
	// A writer that has filled all buffers gives up.
	go func() {
		_, err := c.Write(make([]byte, 64<<20))
		done <- err
	}()
	c.SetWriteDeadline(past)
	if err := <-done; !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("blocked write: %v", err)
	}
}

func TestGonetErrors(t *testing.T) {
	a, b := stacks(t, 1500, tcpx.NewProtocol, tcpx.NewProtocol)
	if _, err := dial(a, addrB); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial to a closed port: %v", err)
	}
	c, d := connect(t, a, b)
	d.Write([]byte("x"))
	c.Close() // With unread data: RST.
	if _, err := io.ReadAll(d); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read after RST: %v", err)
	}
	if _, err := d.Write([]byte("x")); err == nil {
		t.Error("write after RST succeeds")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := gonet.DialContextTCP(ctx, a, tcpip.FullAddress{Addr: addrB, Port: 80}, ipv4.ProtocolNumber); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with a canceled context: %v", err)
	}
}

// A close from another goroutine ends a blocked read.
func TestGonetCloseWhileReading(t *testing.T) {
	a, b := stacks(t, 1500, tcpx.NewProtocol, tcpx.NewProtocol)
	c, _ := connect(t, a, b)
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.Close()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

func TestHTTP(t *testing.T) {
	for _, tt := range pairings {
		t.Run(tt.name, func(t *testing.T) {
			a, b := stacks(t, 1500, tt.a, tt.b)
			body := bytes.Repeat([]byte("plumbline "), 100000)
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				w.Header().Set("X-Received", fmt.Sprint(n))
				w.Write(body)
			})}
			l := listen(t, b, addrB)
			served := make(chan error)
			go func() { served <- srv.Serve(l) }()
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return gonet.DialContextTCP(ctx, a, tcpip.FullAddress{Addr: addrB, Port: 80}, ipv4.ProtocolNumber)
			}}}
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 4 {
						resp, err := client.Post("http://plumb/", "text/plain", bytes.NewReader(body[:50000]))
						if err != nil {
							t.Error(err)
							return
						}
						got, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || !bytes.Equal(got, body) || resp.Header.Get("X-Received") != "50000" {
							t.Errorf("%d bytes, %v, %s received", len(got), err, resp.Header.Get("X-Received"))
						}
					}
				})
			}
			wg.Wait()
			client.CloseIdleConnections()
			srv.Close()
			l.Shutdown()
			<-served
		})
	}
}

// 1,000 connections at once, and no goroutine left after they are closed.
func TestManyConnections(t *testing.T) {
	a, b := stacks(t, 1500, tcpx.NewProtocol, tcpx.NewProtocol)
	before := runtime.NumGoroutine()
	l := listen(t, b, addrB)
	const n = 1000
	accepted := make(chan net.Conn, n)
	go func() {
		for range n {
			d, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			accepted <- d
		}
		close(accepted)
	}()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			c, err := dial(a, addrB)
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(c, "connection %4d", i)
			conns[i] = c
		})
	}
	wg.Wait()
	var seen [n]bool
	for d := range accepted {
		var buf [15]byte
		if _, err := io.ReadFull(d, buf[:]); err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscanf(string(buf[:]), "connection %d", &i); err != nil || seen[i] {
			t.Fatalf("%q: %v", buf, err)
		}
		seen[i] = true
		d.Write(buf[:])
		d.Close()
	}
	for _, c := range conns {
		if got, err := io.ReadAll(c); err != nil || len(got) != 15 {
			t.Fatalf("%q, %v", got, err)
		}
		c.Close()
	}
	l.Close()
	a.Close()
	b.Close()
	for runtime.NumGoroutine() > before {
		runtime.Gosched()
	}
	for _, s := range []*stack.Stack{a, b} {
		if n := len(s.RegisteredEndpoints()); n != 0 {
			t.Errorf("%d endpoints left", n)
		}
		if n := tcpx.MemoryInUse(s); n != 0 {
			t.Errorf("%d bytes left in use", n)
		}
	}
}

// lossy drops, repeats and reorders a share of the packets.
type lossy struct {
	*pipe.Endpoint
	mu   sync.Mutex
	rng  *rand.Rand
	held *stack.PacketBuffer
}

func (l *lossy) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		l.mu.Lock()
		fate := l.rng.Intn(100)
		var release *stack.PacketBuffer
		if fate < 5 && l.held == nil {
			l.held = pkt.Clone() // Overtaken by the next.
			l.mu.Unlock()
			continue
		}
		release, l.held = l.held, nil
		l.mu.Unlock()
		if fate >= 7 {
			l.send(pkt)
		}
		if fate >= 98 {
			l.send(pkt)
		}
		if release != nil {
			l.send(release)
			release.DecRef()
		}
	}
	return pkts.Len(), nil
}

func (l *lossy) send(pkt *stack.PacketBuffer) {
	var list stack.PacketBufferList
	list.PushBack(pkt)
	l.Endpoint.WritePackets(list)
}

// 2 % loss with reordering and duplication: everything arrives intact.
func TestLossyTransfer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	data := make([]byte, 2<<20)
	rand.New(rand.NewSource(1)).Read(data)
	for _, tt := range pairings {
		t.Run(tt.name, func(t *testing.T) {
			p, q := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
			links := [2]*lossy{{Endpoint: p, rng: rand.New(rand.NewSource(1))}, {Endpoint: q, rng: rand.New(rand.NewSource(2))}}
			a, b := makeStack(t, tt.a, links[0], addrA), makeStack(t, tt.b, links[1], addrB)
			c, d := connect(t, a, b)
			go func() {
				c.Write(data)
				c.(*gonet.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(d)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, %v", len(got), err)
			}
			c.Close()
			d.Close()
			a.Destroy()
			b.Destroy()
			for _, l := range links {
				if l.held != nil {
					l.held.DecRef()
				}
			}
		})
	}
}

// The migration in ten lines: stock's stack with tcpx.NewProtocol in place of tcp.NewProtocol.
func Example() {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.NewProtocol},
	})
	defer s.Destroy()
	if err := s.CreateNIC(1, loopback.New()); err != nil {
		fmt.Println(err)
	}
	local := tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
	s.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: local.WithPrefix()}, stack.AddressProperties{})
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})

	l, err := gonet.ListenTCP(s, tcpip.FullAddress{Addr: local, Port: 8080}, ipv4.ProtocolNumber)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c) // Echo.
			c.Close()
		}
	}()
	c, err := gonet.DialTCP(s, tcpip.FullAddress{Addr: local, Port: 8080}, ipv4.ProtocolNumber)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(c, "plumb")
	c.CloseWrite()
	io.Copy(os.Stdout, c)
	c.Close()
	l.Close()
	// Output: plumb
}

// A gateway that accepts a connection only once the far side has been reached.
func ExampleNewAsyncForwarder() {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.New(tcpx.WithMemoryBudget(64 << 20))},
	})
	defer s.Destroy()
	f := tcpx.NewAsyncForwarder(s, tcpx.AsyncForwarderOptions{
		MaxPerDestination: 64,
		TimeLimit:         10 * time.Second,
		Decide: func(r *tcpx.AsyncRequest) {
			id := r.ID()
			far, err := new(net.Dialer).DialContext(r.Context(), "tcp", net.JoinHostPort(id.LocalAddress.String(), fmt.Sprint(id.LocalPort)))
			if err != nil {
				r.Reject()
				return
			}
			defer far.Close()
			// r.Accept(queue) returns the near side's endpoint; copy both ways from here.
		},
	})
	s.SetTransportProtocolHandler(tcpx.ProtocolNumber, f.HandlePacket)
	fmt.Println(f.InFlight(), "requests in flight")
	// Output: 0 requests in flight
}
