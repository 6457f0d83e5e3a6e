package lifecycle

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// nobody is a dispatcher.
type nobody struct{}

func (nobody) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (nobody) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// subject is a Lifecycle that notes what happens.
type subject struct {
	Lifecycle
	mu       sync.Mutex
	events   []string
	running  atomic.Int32
	together atomic.Int32 // the most that ran at once
	failure  error
}

func newSubject(receivers int) *subject {
	s := &subject{}
	c := Config{
		Name:      "test: dev0",
		Release:   func() { s.note("release") },
		OnFailure: func(err error) { s.failure = err; s.note("failure") },
	}
	for range receivers {
		c.Receivers = append(c.Receivers, s.receive)
	}
	s.Init(c)
	s.SetOnCloseAction(func() { s.note("on-close") })
	return s
}

func (s *subject) note(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
}

// receive waits for the end of a session as a receiver does.
func (s *subject) receive(session *Session) {
	n := s.running.Add(1)
	defer s.running.Add(-1)
	for most := s.together.Load(); n > most && !s.together.CompareAndSwap(most, n); most = s.together.Load() {
	}
	for !session.Stopping() {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(session.Wake()), Events: unix.POLLIN}}, -1)
	}
}

// What runs, how often, and in which order.
func TestOrder(t *testing.T) {
	gone := errors.New("gone")
	for _, tt := range []struct {
		name string
		run  func(*subject)
		want []string
		err  error
	}{
		{"close without attach", func(s *subject) { s.Close() }, []string{"on-close", "release"}, nil},
		{"detach is no close", func(s *subject) { s.Attach(nobody{}); s.Attach(nil); s.Wait() }, nil, nil},
		{"close twice", func(s *subject) { s.Attach(nobody{}); s.Attach(nil); s.Close(); s.Close() }, []string{"on-close", "release"}, nil},
		{"close while attached", func(s *subject) { s.Attach(nobody{}); s.Close() }, []string{"on-close", "release"}, nil},
		{"two sessions", func(s *subject) { s.Attach(nobody{}); s.Attach(nil); s.Attach(nobody{}); s.Close() }, []string{"on-close", "release"}, nil},
		{"attach after close", func(s *subject) { s.Close(); s.Attach(nobody{}) }, []string{"on-close", "release"}, nil},
		{"failure while attached", func(s *subject) { s.Attach(nobody{}); s.Fail(gone); s.Wait() }, []string{"on-close", "failure", "release"}, gone},
		{"failure and close", func(s *subject) { s.Fail(gone); s.Close(); s.Fail(errors.New("other")) }, []string{"on-close", "release", "failure"}, gone},
		{"failure after close", func(s *subject) { s.Close(); s.Fail(gone) }, []string{"on-close", "release"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSubject(3)
			tt.run(s)
			s.Wait()
			// A failure may be reported before or after the last receiver returns.
			slices.Sort(s.events)
			slices.Sort(tt.want)
			if !slices.Equal(s.events, tt.want) {
				t.Errorf("events %q, want %q", s.events, tt.want)
			}
			if !errors.Is(s.Err(), tt.err) || !errors.Is(s.failure, tt.err) {
				t.Errorf("Err = %v, OnFailure got %v, want %v", s.Err(), s.failure, tt.err)
			}
			if tt.err != nil && s.Err().Error() != "test: dev0: gone" {
				t.Errorf("Err = %q", s.Err())
			}
			if s.IsAttached() || s.running.Load() != 0 {
				t.Errorf("attached %t, %d receivers run", s.IsAttached(), s.running.Load())
			}
			s.Close()
		})
	}
}

// The receivers of one session return before those of the next begin.
func TestSessionsDoNotOverlap(t *testing.T) {
	const receivers = 2
	s := newSubject(receivers)
	for range 200 {
		s.Attach(nobody{})
		s.Attach(nobody{}) // changes nothing
		s.Attach(nil)
	}
	s.Close()
	s.Wait()
	if n := s.together.Load(); n > receivers {
		t.Errorf("%d receivers ran at once, want %d at most", n, receivers)
	}
}

// Any calls at once neither race nor hang, and release once.
func TestConcurrent(t *testing.T) {
	for range 50 {
		s := newSubject(2)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 10 {
					s.Attach(nobody{})
					s.Use(func() {
						if s.users == 0 {
							t.Error("Use after Release")
						}
					})
					s.Attach(nil)
					s.Wait()
				}
				if i%2 == 0 {
					s.Close()
				} else {
					s.Fail(errors.New("gone"))
				}
			})
		}
		wg.Wait()
		s.Wait()
		n := 0
		for _, e := range s.events {
			if e == "release" {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("released %d times", n)
		}
	}
}
