package testbed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"github.com/plumbline/plumbline/internal/seeded"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// world is a running simulation: hosts in pairs, one at each side of the path, and the flows between them.
type world struct {
	scenario *Scenario
	clock    *vclock.Clock
	path     *emulated.Path
	pairs    []*pair
	flows    []*flow

	// recording is what a check sees of the sender, nil without a check.
	recording *recording

	// mu guards ready: goroutines of a stack may notify.
	mu sync.Mutex
	// ready are the connections that have something to do, and turn those being served.
	ready, turn []*socket
}

// pair is a host on the left and one on the right with stacks of the same kind. Flows of one kind and delay share a pair.
type pair struct {
	index       int
	kind        Kind
	delay       time.Duration
	left, right *stack.Stack
	listener    *socket
	// ports finds the flow of an accepted connection.
	ports map[uint16]*flow
}

const (
	nicID      = tcpip.NICID(1)
	serverPort = 5001
	firstPort  = 10_000
)

// address returns the address of a host: side is 0 on the left and 1 on the right.
func address(side, pair int) tcpip.Address {
	return tcpip.AddrFrom4([4]byte{10, byte(side), byte(pair >> 8), byte(pair)})
}

// newWorld builds everything; nothing has happened yet.
func newWorld(s *Scenario, opts *Options) (*world, error) {
	w := &world{scenario: s, clock: vclock.New()}
	if s.check != nil {
		w.recording = &recording{clock: w.clock, start: w.clock.NowMonotonic()}
	}
	for i := range s.Flows {
		f := newFlow(w, i, &s.Flows[i])
		f.pair = w.pairFor(&s.Flows[i])
		f.port = uint16(firstPort + i)
		f.pair.ports[f.port] = f
		w.flows = append(w.flows, f)
	}
	if err := w.makePath(opts); err != nil {
		return nil, err
	}
	for i, p := range w.pairs {
		if err := w.makePair(i, p, opts); err != nil {
			w.close()
			return nil, err
		}
	}
	for _, f := range w.flows {
		w.clock.AfterFunc(f.spec.Start, f.connect)
	}
	return w, nil
}

// pairFor returns the pair of hosts for a flow, a new one if need be.
func (w *world) pairFor(f *Flow) *pair {
	for _, p := range w.pairs {
		if p.kind.Name == f.Stack && p.delay == f.Delay {
			return p
		}
	}
	kind, err := KindOf(f.Stack)
	if err != nil {
		panic(err) // Validate has seen to it.
	}
	p := &pair{index: len(w.pairs), kind: kind, delay: f.Delay, ports: make(map[uint16]*flow)}
	w.pairs = append(w.pairs, p)
	return p
}

// makePath joins the hosts.
func (w *world) makePath(opts *Options) error {
	var left, right []emulated.Host
	for i, p := range w.pairs {
		// The left host's access link delays what it receives, the right host's what it receives.
		left = append(left, emulated.Host{Addresses: []tcpip.Address{address(0, i)}, Delay: p.delay})
		right = append(right, emulated.Host{Addresses: []tcpip.Address{address(1, i)}, Delay: p.delay})
	}
	var err error
	w.path, err = emulated.New(emulated.Options{
		Forward: w.scenario.Forward, Reverse: w.scenario.Reverse,
		Left: left, Right: right,
		MTU: w.scenario.mtu(), Clock: w.clock, Seed: w.scenario.Seed,
		ChecksumOffload: opts.Capture == nil,
	})
	return err
}

// makePair makes the stacks of a pair and lets the right one listen.
func (w *world) makePair(i int, p *pair, opts *Options) error {
	var err error
	if p.left, err = w.makeStack(p, i, 0, w.path.Left(i), opts); err != nil {
		return err
	}
	if p.right, err = w.makeStack(p, i, 1, w.path.Right(i), opts); err != nil {
		return err
	}
	p.listener, err = w.listen(p)
	return err
}

// makeStack makes one host.
func (w *world) makeStack(p *pair, i, side int, link stack.LinkEndpoint, opts *Options) (*stack.Stack, error) {
	if side == 0 && opts.Capture != nil {
		var err error
		if link, err = opts.Capture(link, w.clock); err != nil {
			return nil, err
		}
	}
	if side == 0 && w.recording != nil {
		link = w.recording.record(link)
	}
	seed := w.scenario.Seed<<16 | uint64(i)<<1 | uint64(side)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{p.kind.protocol(w.scenario.buffer())},
		Clock:              w.clock,
		SecureRNG:          seeded.Reader(seed),
		RandSource:         seeded.Source(seed),
	})
	if err := s.CreateNIC(nicID, link); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("create interface: %v", err)
	}
	addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address(side, i).WithPrefix()}
	if err := s.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("add address: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	return s, nil
}

// buffer returns a size of socket buffers that limits no flow: several times what can be under way.
func (s *Scenario) buffer() int {
	const (
		least = 4 << 20
		most  = 1 << 29
	)
	longest := time.Duration(0)
	for i := range s.Flows {
		longest = max(longest, s.Flows[i].Delay)
	}
	capacity, rtt := s.Capacity(), s.BaseRTT()+2*longest
	for _, step := range s.Forward.Steps {
		capacity, rtt = max(capacity, step.Rate), max(rtt, step.Delay+s.Reverse.Delay+2*longest)
	}
	inFlight := capacity.Bytes(rtt)
	if q, ok := s.Forward.Queue.(emulated.FIFO); ok {
		inFlight += max(q.Bytes, q.Packets*int(s.mtu()))
	} else {
		inFlight += emulated.DefaultQueuePackets * int(s.mtu())
	}
	return min(max(4*inFlight, least), most)
}

// The methods of a lab.

func (w *world) elapsed() time.Duration       { return w.clock.Elapsed() }
func (w *world) forward() emulated.Stats      { return w.path.Forward() }
func (w *world) observe(i int) view           { return w.flows[i].observe() }
func (w *world) realTime() (*RealTime, error) { return nil, nil }

// runUntil lets virtual time pass.
func (w *world) runUntil(_ context.Context, t time.Duration) error {
	for {
		w.serve()
		if !w.clock.Step(t) {
			break
		}
		w.settle()
		if w.recording != nil {
			v := w.flows[0].observe()
			w.recording.look(&v)
		}
	}
	for _, f := range w.flows {
		if f.err != nil {
			return f.err
		}
	}
	return nil
}

// evaluate makes the check of the scenario.
func (w *world) evaluate(r *Result) error {
	c := w.scenario.check
	if c == nil {
		return nil
	}
	w.recording.duplicates = w.path.Forward().Duplicated
	value, err := c.measure(w.recording)
	if err != nil {
		return err
	}
	r.Check = new(Check)
	*r.Check = c.Check
	r.Check.Value = value
	return nil
}

// settle waits for the goroutines of the stacks that have some, twice: one may hand a segment to another that was found idle already.
func (w *world) settle() {
	for _, p := range w.pairs {
		if !p.kind.goroutines {
			continue
		}
		for range 2 {
			for _, s := range []*stack.Stack{p.left, p.right} {
				tcp := s.TransportProtocolInstance(header.TCPProtocolNumber)
				tcp.Pause()
				tcp.Resume()
			}
		}
	}
}

// serve lets the applications act until none has anything more to do at this instant.
func (w *world) serve() {
	for {
		w.mu.Lock()
		w.turn, w.ready = w.ready, w.turn[:0]
		turn := w.turn
		w.mu.Unlock()
		if len(turn) == 0 {
			return
		}
		w.order(turn)
		for _, s := range turn {
			s.queued.Store(false)
			s.act()
		}
		w.settle()
	}
}

// close gives everything back.
func (w *world) close() {
	for _, f := range w.flows {
		f.close()
	}
	for _, p := range w.pairs {
		if p.listener != nil {
			p.listener.ep.Close()
		}
		for _, s := range []*stack.Stack{p.left, p.right} {
			if s != nil {
				s.Destroy()
			}
		}
	}
	w.path.Close()
}
