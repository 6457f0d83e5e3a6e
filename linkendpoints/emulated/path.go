package emulated

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Path is a path between hosts on two sides. Its methods may be called concurrently.
type Path struct {
	clock tcpip.Clock
	start tcpip.MonotonicTime
	mtu   uint32
	seed  uint64

	left, right      side
	forward, reverse direction

	closeOnce sync.Once
}

// side is the hosts at one end of a path.
type side struct {
	hosts []host
	// byAddr finds hosts by address, and fallback is the one for all other addresses, or -1.
	byAddr   map[tcpip.Address]int32
	fallback int32
	// leastDelay is that of the host with the least.
	leastDelay time.Duration
}

type host struct {
	endpoint *Endpoint
	delay    time.Duration
}

// New makes a path. It returns an error that names the first option that is impossible.
func New(opts Options) (*Path, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("emulated: %w", err)
	}
	if opts.MTU == 0 {
		opts.MTU = DefaultMTU
	}
	if opts.Clock == nil {
		opts.Clock = tcpip.NewStdClock()
	}
	p := &Path{clock: opts.Clock, start: opts.Clock.NowMonotonic(), mtu: opts.MTU, seed: opts.Seed}
	p.left.init(p, opts.Left, &p.forward, &opts)
	p.right.init(p, opts.Right, &p.reverse, &opts)
	p.forward.init(p, &p.right, opts.Forward, opts.Seed, 1)
	p.reverse.init(p, &p.left, opts.Reverse, opts.Seed, 2)
	return p, nil
}

func (s *side) init(p *Path, hosts []Host, out *direction, opts *Options) {
	if len(hosts) == 0 {
		hosts = []Host{{}}
	}
	s.byAddr = make(map[tcpip.Address]int32)
	s.fallback = -1
	s.leastDelay = hosts[0].Delay
	for i, h := range hosts {
		e := &Endpoint{path: p, out: out, linkAddr: h.LinkAddress, offload: opts.ChecksumOffload}
		e.mtu.Store(opts.MTU)
		e.idle.L = &e.mu
		s.hosts = append(s.hosts, host{endpoint: e, delay: h.Delay})
		for _, a := range h.Addresses {
			s.byAddr[a] = int32(i)
		}
		if len(h.Addresses) == 0 && s.fallback < 0 {
			s.fallback = int32(i)
		}
		s.leastDelay = min(s.leastDelay, h.Delay)
	}
}

// hostOf returns the number of the host for a destination, -1 if there is none.
func (s *side) hostOf(dst []byte) int32 {
	if len(s.byAddr) > 0 && dst != nil {
		if i, ok := s.byAddr[tcpip.AddrFromSlice(dst)]; ok {
			return i
		}
	}
	return s.fallback
}

// now returns the time since the path was made.
func (p *Path) now() time.Duration { return p.clock.NowMonotonic().Sub(p.start) }

// Left returns the endpoint of host i of the left side, and Right that of the right side. They panic if there is no such host.
func (p *Path) Left(i int) *Endpoint { return p.left.hosts[i].endpoint }

// Right returns the endpoint of host i of the right side. It panics if there is no such host.
func (p *Path) Right(i int) *Endpoint { return p.right.hosts[i].endpoint }

// Forward returns the counters of the direction from left to right as of now.
func (p *Path) Forward() Stats { return p.forward.snapshot() }

// Reverse returns the counters of the direction from right to left as of now.
func (p *Path) Reverse() Stats { return p.reverse.snapshot() }

// Close closes all endpoints, drops what is under way, and stops the timers.
func (p *Path) Close() {
	p.closeOnce.Do(func() {
		for _, s := range []*side{&p.left, &p.right} {
			for _, h := range s.hosts {
				h.endpoint.Close()
			}
		}
		p.forward.close()
		p.reverse.close()
	})
}
