package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"

	"github.com/plumbline/plumbline/internal/relay/relaytest"
)

// memory is a host without a network. Both what it dials and what it listens on
// are pipes.
type memory struct {
	dialled  chan *relaytest.Conn // far ends of what was dialled; nil refuses
	incoming chan *relaytest.Conn // near ends of what is to be accepted
	closed   chan struct{}
	once     sync.Once
}

func newMemory() *memory {
	return &memory{dialled: make(chan *relaytest.Conn, 16), incoming: make(chan *relaytest.Conn, 16), closed: make(chan struct{})}
}

func (m *memory) Dial(_ context.Context, addr string) (HostConn, error) {
	if addr == "nobody:80" {
		return nil, errors.New("refused")
	}
	near, far := relaytest.Pipe(10000)
	m.dialled <- far
	return near, nil
}

func (m *memory) Listen(context.Context, string) (HostListener, error) { return m, nil }

func (m *memory) Accept() (HostConn, error) {
	select {
	case c := <-m.incoming:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// connect makes a connection that m will accept and returns its far end.
func (m *memory) connect() *relaytest.Conn {
	near, far := relaytest.Pipe(10000)
	m.incoming <- near
	return far
}

// pair makes two proxies whose links are the two ends of a pipe: what is
// dialled through one netstack is accepted by the other.
func pair(t *testing.T, cidrA, cidrB string, a, b Config) (*Proxy, *Proxy) {
	t.Helper()
	linkA, linkB := pipe.New("\x02\x00\x5e\x00\x53\x01", "\x02\x00\x5e\x00\x53\x02", 1500)
	a.Link, b.Link = linkA, linkB
	a.Addresses, b.Addresses = []netip.Prefix{netip.MustParsePrefix(cidrA)}, []netip.Prefix{netip.MustParsePrefix(cidrB)}
	pb, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pb.Close)
	pa, err := New(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pa.Close)
	return pa, pb
}

// A connection to the host goes through two netstacks and back to the host,
// data and half-closes in both directions.
func TestThroughTwoStacks(t *testing.T) {
	for _, tt := range []struct{ name, a, b, to string }{
		{"IPv4", "10.0.0.1/24", "10.0.0.2/24", "10.0.0.2:80"},
		{"IPv6", "fd00::1/64", "fd00::2/64", "[fd00::2]:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := newMemory(), newMemory()
			pa, pb := pair(t, tt.a, tt.b,
				Config{Host: near, Dial: []DialRule{{To: netip.MustParseAddrPort(tt.to)}}},
				Config{Host: far, Listen: []ListenRule{{Listen: netip.AddrPortFrom(netip.Addr{}, 80), To: "server:80"}}})
			request, answer := bytes.Repeat([]byte("request"), 50000), bytes.Repeat([]byte("answer"), 70000)
			client := near.connect()
			server := <-far.dialled
			var wg sync.WaitGroup
			wg.Go(func() {
				if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, request) {
					t.Errorf("the server read %d bytes, %v", len(got), err)
				}
				server.Write(answer)
				server.CloseWrite()
			})
			if _, err := client.Write(request); err != nil {
				t.Fatal(err)
			}
			client.CloseWrite()
			if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("the client read %d bytes, %v; want %d", len(got), err, len(answer))
			}
			wg.Wait()
			for _, p := range []*Proxy{pa, pb} {
				if err := p.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				s := p.Stats()
				if s.Accepted != 1 || s.Completed != 1 || s.Active != 0 || s.Aborted != 0 || s.DialFailed != 0 {
					t.Errorf("stats %+v, want one connection, completed", s)
				}
			}
			if s := pb.Stats(); s.ToHost != uint64(len(request)) || s.FromHost != uint64(len(answer)) {
				t.Errorf("%d bytes to the host and %d from it, want %d and %d", s.ToHost, s.FromHost, len(request), len(answer))
			}
		})
	}
}

// Who cannot be connected is reset, not kept waiting.
func TestNotConnected(t *testing.T) {
	for _, tt := range []struct{ name, to string }{
		{"refused by the host", "10.0.0.2:80"},
		{"refused in the netstack", "10.0.0.2:81"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := newMemory(), newMemory()
			pair(t, "10.0.0.1/24", "10.0.0.2/24",
				Config{Host: near, Dial: []DialRule{{To: netip.MustParseAddrPort(tt.to)}}},
				Config{Host: far, Listen: []ListenRule{{Listen: netip.AddrPortFrom(netip.Addr{}, 80), To: "nobody:80"}}})
			if _, err := io.ReadAll(near.connect()); !errors.Is(err, relaytest.ErrReset) {
				t.Errorf("read: %v, want a reset", err)
			}
		})
	}
}

// Close ends connections that nobody else would.
func TestCloseWithConnections(t *testing.T) {
	near, far := newMemory(), newMemory()
	pa, pb := pair(t, "10.0.0.1/24", "10.0.0.2/24",
		Config{Host: near, Dial: []DialRule{{To: netip.MustParseAddrPort("10.0.0.2:80")}}},
		Config{Host: far, Listen: []ListenRule{{Listen: netip.AddrPortFrom(netip.Addr{}, 80), To: "server:80"}}})
	client := near.connect()
	server := <-far.dialled
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pb.Shutdown(ctx); err == nil {
		t.Error("Shutdown returned while a connection was open")
	}
	pb.Close()
	pb.Close()
	for _, c := range []*relaytest.Conn{client, server} {
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a connection ended as if all had been relayed")
		}
	}
	pa.Close()
}

func TestConfigCheck(t *testing.T) {
	prefixes := func(s ...string) (ps []netip.Prefix) {
		for _, s := range s {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	addrs := func(s ...string) (as []netip.Addr) {
		for _, s := range s {
			as = append(as, netip.MustParseAddr(s))
		}
		return as
	}
	rule := []ListenRule{{Listen: netip.MustParseAddrPort("10.0.0.2:80"), To: "localhost:8080"}}
	for _, tt := range []struct {
		name string
		c    Config
		want string // in the error, "" for none
	}{
		{"fine", Config{Addresses: prefixes("10.0.0.2/24", "fd00::2/64"), Gateways: addrs("10.0.0.1", "fe80::1"), Listen: rule}, ""},
		{"no address", Config{Listen: rule}, "no address"},
		{"no rule", Config{Addresses: prefixes("10.0.0.2/24")}, "nothing to do"},
		{"multicast", Config{Addresses: prefixes("224.0.0.1/24"), Listen: rule}, "224.0.0.1/24"},
		{"two gateways", Config{Addresses: prefixes("10.0.0.2/24"), Gateways: addrs("10.0.0.1", "10.0.0.3"), Listen: rule}, "second gateway"},
		{"gateway elsewhere", Config{Addresses: prefixes("10.0.0.2/24"), Gateways: addrs("10.0.1.1"), Listen: rule}, "in no subnet"},
		{"own gateway", Config{Addresses: prefixes("10.0.0.2/24"), Gateways: addrs("10.0.0.2"), Listen: rule}, "in no subnet"},
		{"foreign listen address", Config{Addresses: prefixes("10.0.0.3/24"), Listen: rule}, "no address of the netstack"},
		{"bad target", Config{Addresses: prefixes("10.0.0.2/24"), Listen: []ListenRule{{To: "nowhere"}}}, "not host:port"},
		{"dial port 0", Config{Addresses: prefixes("10.0.0.2/24"), Dial: []DialRule{{To: netip.MustParseAddrPort("10.0.0.1:0")}}}, "cannot dial"},
		{"dial the other version", Config{Addresses: prefixes("10.0.0.2/24"), Dial: []DialRule{{To: netip.MustParseAddrPort("[fd00::1]:80")}}}, "IP version"},
	} {
		err := tt.c.check()
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: check = %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, c := range []Config{
		{Transport: "nonesuch"},
		{Congestion: "nonesuch"},
	} {
		link, _ := pipe.New("\x02\x00\x5e\x00\x53\x01", "\x02\x00\x5e\x00\x53\x02", 1500)
		c.Link, c.Addresses, c.Listen = link, prefixes("10.0.0.2/24"), rule
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "nonesuch") {
			t.Errorf("New = %v, want an error that names what is unknown", err)
		}
	}
}

// Print says what there is to say even if nothing happened.
func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := (Stats{Accepted: 3, Stack: tcpip.Stats{}.FillIn()}).Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "connections: 3 accepted") {
		t.Errorf("Print wrote %q", out.String())
	}
}
