package mutants

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	randv2 "math/rand/v2"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/oracle/live"
	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
	"github.com/plumbline/plumbline/tcpx"
)

// The addresses of both hosts: the one with the fault, and its peer.
var (
	mutantAddr = netip.MustParseAddr("192.0.2.1")
	peerAddr   = netip.MustParseAddr("192.0.2.2")
)

// port is what the listener listens on.
const port = 80

// rig is two hosts with a path between them in virtual time.
type rig struct {
	clock  *vclock.Clock
	path   *emulated.Path
	hosts  [2]*host // the mutant, and the peer
	oracle *live.Endpoint
	apps   []*app
	err    error
}

// host is one stack with its fault layer.
type host struct {
	stack *stack.Stack
	addr  netip.Addr
	layer *layer
}

// newRig makes the hosts. The oracle is next to the mutant.
func newRig(link emulated.Link, mtu uint32, seed uint64) (*rig, error) {
	r := &rig{clock: vclock.New()}
	var err error
	r.path, err = emulated.New(emulated.Options{Forward: link, Reverse: link, MTU: mtu, Clock: r.clock, Seed: seed})
	if err != nil {
		return nil, err
	}
	r.oracle = live.Wrap(r.path.Left(0), live.Options{
		Clock:  r.clock,
		Oracle: oracle.Options{Near: []netip.Addr{mutantAddr}, Complete: true, Wire: true},
	})
	for i, end := range []struct {
		link stack.LinkEndpoint
		addr netip.Addr
	}{{r.oracle, mutantAddr}, {r.path.Right(0), peerAddr}} {
		h := &host{addr: end.addr, layer: newLayer(r, end.link)}
		if err := h.open(r.clock, seed+uint64(i)); err != nil {
			return nil, err
		}
		r.hosts[i] = h
	}
	return r, nil
}

// open makes the stack.
func (h *host) open(clock tcpip.Clock, seed uint64) error {
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.NewProtocol},
		Clock:              clock,
		SecureRNG:          randv2.NewChaCha8([32]byte{byte(seed)}),
		RandSource:         rand.NewSource(int64(seed)),
	})
	sack := tcpip.TCPSACKEnabled(true)
	if err := h.stack.SetTransportProtocolOption(header.TCPProtocolNumber, &sack); err != nil {
		return fmt.Errorf("SACK: %v", err)
	}
	if err := h.stack.CreateNIC(1, h.layer); err != nil {
		return fmt.Errorf("interface: %v", err)
	}
	addr := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(h.addr.As4()), PrefixLen: 24},
	}
	if err := h.stack.AddProtocolAddress(1, addr, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("address: %v", err)
	}
	h.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return nil
}

// close ends everything.
func (r *rig) close() {
	for _, a := range r.apps {
		if a.ep != nil {
			a.ep.Close()
		}
	}
	for _, h := range r.hosts {
		h.stack.Destroy()
	}
	r.path.Close()
}

// run lets time pass until t, and the applications do what they can.
func (r *rig) run(t time.Duration) {
	for r.pump(); r.clock.Step(t); {
		r.pump()
	}
}

// fail keeps the first error.
func (r *rig) fail(what string, err tcpip.Error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s at %v: %v", what, r.clock.Elapsed(), err)
	}
}

// app is an application at one end of a connection.
type app struct {
	ep       tcpip.Endpoint
	listener tcpip.Endpoint
	sends    int // octets
	sent     int
	deaf     bool // does not read
	closes   bool // shuts its sending side down once all is sent, or the other end has
	hasty    bool // closes although it has sent nothing
	shut     bool
	got      int
	eof      bool
	broken   tcpip.Error
}

// endpoint makes a socket.
func (h *host) endpoint() (tcpip.Endpoint, tcpip.Error) {
	return h.stack.NewEndpoint(header.TCPProtocolNumber, ipv4.ProtocolNumber, &waiter.Queue{})
}

// listen starts an application that takes one connection.
func (r *rig) listen(h *host, a *app, set ...func(tcpip.Endpoint) tcpip.Error) *app {
	ep, err := h.endpoint()
	r.fail("socket", err)
	for _, f := range set {
		r.fail("option", f(ep))
	}
	r.fail("bind", ep.Bind(tcpip.FullAddress{Port: port}))
	r.fail("listen", ep.Listen(4))
	a.listener = ep
	r.apps = append(r.apps, a)
	return a
}

// connect starts an application that connects to the other host.
func (r *rig) connect(h, to *host, a *app, set ...func(tcpip.Endpoint) tcpip.Error) *app {
	ep, err := h.endpoint()
	r.fail("socket", err)
	for _, f := range set {
		r.fail("option", f(ep))
	}
	r.dial(ep, to, port)
	a.ep = ep
	r.apps = append(r.apps, a)
	return a
}

// dial starts to connect.
func (r *rig) dial(ep tcpip.Endpoint, to *host, port uint16) {
	err := ep.Connect(tcpip.FullAddress{Addr: tcpip.AddrFrom4(to.addr.As4()), Port: port})
	if _, started := err.(*tcpip.ErrConnectStarted); !started {
		r.fail("connect", err)
	}
}

// pump lets every application do what it can without time passing.
func (r *rig) pump() {
	for busy := true; busy; {
		busy = false
		for _, a := range r.apps {
			busy = a.step() || busy
		}
	}
}

// step does one thing and reports whether there may be more to do.
func (a *app) step() bool {
	switch {
	case a.ep == nil:
		return a.accept()
	case a.broken != nil:
		return false
	}
	return a.write() || a.read()
}

// accept takes the connection of a listener.
func (a *app) accept() bool {
	ep, _, err := a.listener.Accept(nil)
	if err != nil {
		return false
	}
	a.listener.Close()
	a.ep = ep
	return true
}

// content is the octets of every stream: such that neighbours differ.
var content = func() []byte {
	b := make([]byte, 1<<16)
	for i := range b {
		b[i] = byte(i*31 ^ i>>8)
	}
	return b
}()

// write sends what is left to send.
func (a *app) write() bool {
	if a.sent == a.sends {
		if !a.closes || a.shut || a.sends == 0 && !a.eof && !a.hasty || a.ep.Readiness(waiter.WritableEvents) == 0 {
			return false
		}
		err := a.ep.Shutdown(tcpip.ShutdownWrite)
		a.shut = err == nil
		return a.shut
	}
	from := a.sent % len(content)
	chunk := content[from:min(len(content), from+a.sends-a.sent)]
	n, err := a.ep.Write(bytes.NewReader(chunk), tcpip.WriteOptions{})
	a.sent += int(n)
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock, *tcpip.ErrNotConnected:
	default:
		a.broken = err
	}
	return err == nil
}

// read takes what has arrived.
func (a *app) read() bool {
	if a.deaf || a.eof {
		return false
	}
	res, err := a.ep.Read(io.Discard, tcpip.ReadOptions{})
	a.got += res.Count
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock, *tcpip.ErrNotConnected:
	case *tcpip.ErrClosedForReceive:
		a.eof = true
	default:
		a.broken = err
	}
	return err == nil
}

// bufferOf returns a packet as the network layer makes it.
func bufferOf(raw []byte) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(raw)})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	return pkt
}
