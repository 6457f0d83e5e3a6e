package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Lab is kernels, a path and flows at work. State and RunUntil are for one goroutine at a time.
type Lab struct {
	config Config
	clock  *clock
	path   *emulated.Path
	// start is the clock's time at which the path was made, and all began.
	start time.Duration
	// hosts are those of the left and of the right side, by pair.
	hosts     [2][]*host
	listeners []*socket
	flows     []*flow

	// calm undoes urgent.
	calm    func()
	workers sync.WaitGroup
	// stop is closed when the applications shall end, failed when a flow has failed, with err being why.
	stop, failed chan struct{}
	mu           sync.Mutex
	stopped      bool
	err          error
}

// New makes everything and starts the time. It takes CAP_SYS_ADMIN and CAP_NET_ADMIN: see Check.
func New(cfg Config) (l *Lab, err error) {
	if len(cfg.Pairs) > MaxPairs || len(cfg.Flows) > MaxFlows {
		return nil, fmt.Errorf("%d pairs of hosts with %d flows are more than %d with %d", len(cfg.Pairs), len(cfg.Flows), MaxPairs, MaxFlows)
	}
	l = &Lab{config: cfg, flows: make([]*flow, len(cfg.Flows)), stop: make(chan struct{}), failed: make(chan struct{})}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for pair := range cfg.Pairs {
		for side := range l.hosts {
			h, err := newHost(address(side, pair), address(1-side, pair), &cfg)
			if err != nil {
				return nil, err
			}
			l.hosts[side] = append(l.hosts[side], h)
		}
		if err := l.listen(pair); err != nil {
			return nil, err
		}
	}
	if err := l.openFlows(); err != nil {
		return nil, err
	}
	if l.clock, err = newClock(); err != nil {
		return nil, err
	}
	if err := l.join(); err != nil {
		return nil, err
	}
	l.calm = urgent()
	l.begin()
	return l, nil
}

// listen lets the right host of a pair listen.
func (l *Lab) listen(pair int) error {
	return l.hosts[1][pair].ns.Do(func() error {
		s, err := open(func(fd int) error {
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: serverPort}); err != nil {
				return fmt.Errorf("bind: %w", err)
			}
			return unix.Listen(fd, MaxFlows)
		})
		l.listeners = append(l.listeners, s)
		return err
	})
}

// openFlows makes the senders' sockets.
func (l *Lab) openFlows() error {
	for pair, h := range l.hosts[0] {
		err := h.ns.Do(func() error {
			for i := range l.config.Flows {
				if l.config.Flows[i].Pair != pair {
					continue
				}
				f := &flow{lab: l, spec: &l.config.Flows[i], index: i}
				l.flows[i] = f
				if err := f.open(); err != nil {
					return fmt.Errorf("flow %d: %w", i, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// join makes the path between the hosts.
func (l *Lab) join() error {
	opts := emulated.Options{Forward: l.config.Forward, Reverse: l.config.Reverse, MTU: l.config.MTU, Clock: l.clock, Seed: l.config.Seed}
	for pair, delay := range l.config.Pairs {
		// The left host's access link delays what it receives, the right host's what it receives.
		opts.Left = append(opts.Left, emulated.Host{Addresses: []tcpip.Address{tcpip.AddrFrom4(address(0, pair))}, Delay: delay})
		opts.Right = append(opts.Right, emulated.Host{Addresses: []tcpip.Address{tcpip.AddrFrom4(address(1, pair))}, Delay: delay})
	}
	var err error
	if l.path, err = emulated.New(opts); err != nil {
		return err
	}
	l.start = l.clock.elapsed()
	for pair := range l.config.Pairs {
		var left stack.LinkEndpoint = l.path.Left(pair)
		if l.config.Capture != nil {
			if left, err = l.config.Capture(left, l.clock); err != nil {
				return err
			}
		}
		l.hosts[0][pair].connect(left)
		l.hosts[1][pair].connect(l.path.Right(pair))
	}
	return nil
}

// begin starts the applications.
func (l *Lab) begin() {
	for pair, s := range l.listeners {
		l.workers.Go(func() { l.accept(pair, s) })
	}
	for _, f := range l.flows {
		l.workers.Go(f.send)
	}
}

// accept gives the flows of a pair their connections until the listener is closed.
func (l *Lab) accept(pair int, listener *socket) {
	for {
		s, port, err := listener.accept()
		if err != nil {
			return
		}
		i := port - firstPort
		if i < 0 || i >= len(l.flows) || l.flows[i].spec.Pair != pair || !l.flows[i].receiver.CompareAndSwap(nil, s) {
			s.abort()
			continue
		}
		// Close may have looked at the flow before it had this connection.
		select {
		case <-l.stop:
			s.abort()
			return
		default:
		}
		l.workers.Go(func() { l.flows[i].receive(s) })
	}
}

// fail notes why a flow has ended, unless all do.
func (l *Lab) fail(f *flow, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.err != nil {
		return
	}
	l.err = fmt.Errorf("flow %d: %w", f.index, err)
	close(l.failed)
}

// Elapsed returns the time since the start.
func (l *Lab) Elapsed() time.Duration { return l.clock.elapsed() - l.start }

// sleepUntil waits, and reports false if the lab is closed before.
func (l *Lab) sleepUntil(t time.Duration) bool {
	timer := time.NewTimer(t - l.Elapsed())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.stop:
		return false
	}
}

// RunUntil waits until t. The error says that ctx has ended or a flow failed.
func (l *Lab) RunUntil(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t - l.Elapsed())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.failed:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.err
	}
}

// Forward returns the counters of the direction in which data flows, and Reverse those of the other.
func (l *Lab) Forward() emulated.Stats { return l.path.Forward() }

// Reverse returns the counters of the direction of the acknowledgments.
func (l *Lab) Reverse() emulated.Stats { return l.path.Reverse() }

// State returns what is known of a flow.
func (l *Lab) State(i int) State { return l.flows[i].state() }

// Missed returns how many packets were lost outside of the path, at the devices: any at all, and the run measured something else.
func (l *Lab) Missed() (uint64, error) {
	var n uint64
	var errs []error
	for _, side := range l.hosts {
		for _, h := range side {
			missed, err := h.missed()
			n += missed
			errs = append(errs, err)
		}
	}
	return n, errors.Join(errs...)
}

// Close ends everything and waits until it has ended.
func (l *Lab) Close() {
	l.mu.Lock()
	first := !l.stopped
	l.stopped = true
	l.mu.Unlock()
	if !first {
		return
	}
	close(l.stop)
	for _, s := range l.listeners {
		s.abort()
	}
	for _, f := range l.flows {
		if f != nil {
			f.close()
		}
	}
	l.workers.Wait()
	for _, side := range l.hosts {
		for _, h := range side {
			h.close()
		}
	}
	if l.path != nil {
		l.path.Close()
	}
	if l.clock != nil {
		l.clock.close()
	}
	if l.calm != nil {
		l.calm()
	}
}
