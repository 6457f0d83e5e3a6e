package tcpx

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	code := m.Run()
	tcpip.ReleaseDanglingEndpoints()
	refs.DoLeakCheck() // Panics if a packet or a piece of payload was not released.
	os.Exit(code)
}

// world is two hosts, a and b, joined by a wire, in virtual time. Everything happens inline, in the test's goroutine.
type world struct {
	t     testing.TB
	clock *vclock.Clock
	a, b  *host

	handleLocal bool
}

// host is a netstack with the addresses 10.0.0.x and fd00::x.
type host struct {
	*world
	stack  *stack.Stack
	v4, v6 tcpip.Address
	wire   *wire
}

// wire is one direction of a link that a test can look at and cut.
type wire struct {
	*pipe.Endpoint
	// pass decides about each packet that leaves; nil passes all.
	pass func(p *packet) bool
	// mark decides which packets that allow it are marked as CE; nil marks none.
	mark func(p *packet) bool
	// forward, if not nil, takes the packets instead of the other end.
	forward func(pkt *stack.PacketBuffer)
	// full makes the link refuse packets.
	full bool
	// log holds the packets that left.
	log []packet
	// mu guards log; tests with one goroutine need not care.
	mu sync.Mutex
}

// packet is a TCP segment on the wire, or an empty one for anything else.
type packet struct {
	tcp     header.TCP
	payload int
	tos     uint8
	ttl     uint8
	opts    tcb.Options
}

func (p *packet) flags() tcb.Flags { return tcb.Flags(p.tcp.Flags()) }

func parsePacket(pkt *stack.PacketBuffer) (p packet) {
	if pkt.TransportProtocolNumber != ProtocolNumber {
		return packet{tcp: make(header.TCP, header.TCPMinimumSize)}
	}
	p.tcp = bytes.Clone(pkt.TransportHeader().Slice())
	p.payload = pkt.Data().Size()
	if h := pkt.NetworkHeader().Slice(); pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		p.tos, _ = header.IPv4(h).TOS()
		p.ttl = header.IPv4(h).TTL()
	} else {
		p.tos, _ = header.IPv6(h).TOS()
		p.ttl = header.IPv6(h).HopLimit()
	}
	tcb.ParseOptions(p.tcp[header.TCPMinimumSize:], &p.opts)
	return p
}

// WritePackets implements stack.LinkWriter.
func (w *wire) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if w.full {
			return i, &tcpip.ErrNoBufferSpace{}
		}
		p := parsePacket(pkt)
		w.mu.Lock()
		w.log = append(w.log, p)
		w.mu.Unlock()
		if w.pass != nil && !w.pass(&p) {
			continue
		}
		if w.mark != nil && p.tos&3 != 0 && w.mark(&p) {
			markCE(pkt)
		}
		if w.forward != nil {
			w.forward(pkt)
			continue
		}
		var l stack.PacketBufferList
		l.PushBack(pkt)
		w.Endpoint.WritePackets(l)
	}
	return pkts.Len(), nil
}

// count returns how many packets of the log satisfy f.
func (w *wire) count(f func(*packet) bool) (n int) {
	for i := range w.log {
		if f(&w.log[i]) {
			n++
		}
	}
	return n
}

func newWorld(t testing.TB, opts ...Option) *world { return newWorldWith(t, 1500, true, opts...) }

// newWorldWith is newWorld with a choice of MTU and of HandleLocal, which a host that takes packets for any address cannot have.
func newWorldWith(t testing.TB, mtu uint32, handleLocal bool, opts ...Option) *world {
	return newWorldOf(t, mtu, handleLocal, opts, opts)
}

// newWorldOf is newWorldWith with options for each host.
func newWorldOf(t testing.TB, mtu uint32, handleLocal bool, a, b []Option) *world {
	w := &world{t: t, clock: vclock.New(), handleLocal: handleLocal}
	p, q := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", mtu)
	w.a = w.newHost(1, &wire{Endpoint: p}, a)
	w.b = w.newHost(2, &wire{Endpoint: q}, b)
	t.Cleanup(func() {
		w.a.stack.Destroy()
		w.b.stack.Destroy()
	})
	return w
}

// lockedSource32 makes the stack's insecure randomness repeatable.
type lockedSource32 struct {
	mu sync.Mutex
	rand.Source
}

func (s *lockedSource32) Int63() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Source.Int63()
}

func (w *world) newHost(n byte, link *wire, opts []Option) *host {
	h := &host{world: w, wire: link}
	h.v4 = tcpip.AddrFrom4([4]byte{10, 0, 0, n})
	h.v6 = tcpip.AddrFrom16([16]byte{0xfd, 15: n})
	h.stack = newStack(w.clock, n, w.handleLocal, opts)
	if err := h.stack.CreateNIC(1, link); err != nil {
		w.t.Fatal(err)
	}
	addAddress(w.t, h.stack, 1, h.v4, 24)
	addAddress(w.t, h.stack, 1, h.v6, 64)
	if err := h.stack.CreateNIC(2, loopback.New()); err != nil {
		w.t.Fatal(err)
	}
	addAddress(w.t, h.stack, 2, header.IPv4Loopback, 8)
	addAddress(w.t, h.stack, 2, header.IPv6Loopback, 128)
	lo := tcpip.AddressWithPrefix{Address: header.IPv4Loopback, PrefixLen: 8}.Subnet()
	lo6 := tcpip.AddressWithPrefix{Address: header.IPv6Loopback, PrefixLen: 128}.Subnet()
	h.stack.SetRouteTable([]tcpip.Route{
		{Destination: lo, NIC: 2}, {Destination: lo6, NIC: 2},
		{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1},
	})
	return h
}

func newStack(clock tcpip.Clock, seed byte, handleLocal bool, opts []Option) *stack.Stack {
	return stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{New(opts...)},
		Clock:              clock,
		HandleLocal:        handleLocal,
		RandSource:         &lockedSource32{Source: rand.NewSource(int64(seed))},
		SecureRNG:          &seededReader{rng: rand.New(rand.NewSource(int64(seed)))},
	})
}

type seededReader struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (r *seededReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Read(b)
}

func addAddress(t testing.TB, s *stack.Stack, nic tcpip.NICID, a tcpip.Address, prefix int) {
	t.Helper()
	p := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: prefix}}
	if a.Len() == 16 {
		p.Protocol = ipv6.ProtocolNumber
	}
	if err := s.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
}

// run lets d of virtual time pass.
func (w *world) run(d time.Duration) {
	for end := w.clock.Elapsed() + d; w.clock.Step(end); {
	}
}

// at is an address of h.
func (h *host) at(port uint16) tcpip.FullAddress { return tcpip.FullAddress{Addr: h.v4, Port: port} }
func (h *host) at6(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: h.v6, Port: port}
}

// socket is an endpoint with its queue, which counts events.
type socket struct {
	*Endpoint
	t     testing.TB
	queue *waiter.Queue
	entry waiter.Entry
	mask  atomic.Uint64
}

// seen returns the events since the last forget.
func (s *socket) seen() waiter.EventMask { return waiter.EventMask(s.mask.Load()) }

func (s *socket) forget() { s.mask.Store(0) }

func newSocket(t testing.TB, e tcpip.Endpoint, q *waiter.Queue) *socket {
	s := &socket{t: t, Endpoint: e.(*Endpoint), queue: q}
	s.entry = waiter.NewFunctionEntry(waiter.AllEvents, func(m waiter.EventMask) { s.mask.Or(uint64(m)) })
	q.EventRegister(&s.entry)
	return s
}

func (h *host) socket(net tcpip.NetworkProtocolNumber) *socket {
	h.t.Helper()
	q := new(waiter.Queue)
	e, err := h.stack.NewEndpoint(ProtocolNumber, net, q)
	if err != nil {
		h.t.Fatal(err)
	}
	return newSocket(h.t, e, q)
}

func (h *host) listen(port uint16, backlog int) *socket {
	h.t.Helper()
	s := h.socket(ipv4.ProtocolNumber)
	s.must(s.Bind(tcpip.FullAddress{Port: port}))
	s.must(s.Listen(backlog))
	return s
}

// dial starts to connect; over a wire that passes all it is connected on return.
func (h *host) dial(to tcpip.FullAddress) *socket {
	h.t.Helper()
	s := h.socket(ipv4.ProtocolNumber)
	s.want(s.Connect(to), &tcpip.ErrConnectStarted{})
	return s
}

// connect returns both ends of a connection from a to b.
func (w *world) connect() (c, s *socket) {
	w.t.Helper()
	l := w.b.listen(80, 10)
	c = w.a.dial(w.b.at(80))
	s = l.accept()
	l.Close()
	return c, s
}

func (s *socket) accept() *socket {
	s.t.Helper()
	e, q, err := s.Accept(nil)
	s.must(err)
	return newSocket(s.t, e, q)
}

func (s *socket) must(err tcpip.Error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) want(got, want tcpip.Error) {
	s.t.Helper()
	if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
		s.t.Fatalf("error %v (%T), want %v", got, got, want)
	}
}

func (s *socket) state(want tcp.EndpointState) {
	s.t.Helper()
	if got := s.EndpointState(); got != want {
		s.t.Fatalf("state %v, want %v", got, want)
	}
}

func (s *socket) write(data string) {
	s.t.Helper()
	n, err := s.Write(bytes.NewReader([]byte(data)), tcpip.WriteOptions{})
	if err != nil || int(n) != len(data) {
		s.t.Fatalf("Write(%q) = %d, %v", data, n, err)
	}
}

func (s *socket) read() string {
	s.t.Helper()
	var b bytes.Buffer
	_, err := s.Read(&b, tcpip.ReadOptions{})
	s.must(err)
	return b.String()
}

func (s *socket) wantRead(want string) {
	s.t.Helper()
	if got := s.read(); got != want {
		s.t.Fatalf("read %q, want %q", got, want)
	}
}

func (s *socket) wantReadError(want tcpip.Error) {
	s.t.Helper()
	_, err := s.Read(io.Discard, tcpip.ReadOptions{})
	s.want(err, want)
}

// protocol returns the host's TCP.
func (h *host) protocol() *protocol { return protocolOf(h.stack) }
