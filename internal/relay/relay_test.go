package relay

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
)

// errReset is what a fake connection reports after a reset.
var errReset = errors.New("connection reset")

// fake is one end of an in-memory connection that can be half-closed and reset.
type fake struct {
	in, out *stream
	closed  bool
}

// stream is one direction.
type stream struct {
	mu      sync.Mutex
	changed sync.Cond
	data    bytes.Buffer
	limit   int // of bytes that wait
	fin     bool
	reset   bool
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.changed.L = &s.mu
	return s
}

// newFake returns the two ends of a connection.
func newFake(limit int) (near, far *fake) {
	x, y := newStream(limit), newStream(limit)
	return &fake{in: x, out: y}, &fake{in: y, out: x}
}

func (f *fake) Read(b []byte) (int, error) {
	s := f.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.data.Len() == 0 && !s.fin && !s.reset {
		s.changed.Wait()
	}
	defer s.changed.Broadcast()
	switch {
	case s.reset:
		return 0, errReset
	case s.data.Len() > 0:
		return s.data.Read(b)
	}
	return 0, io.EOF
}

func (f *fake) Write(b []byte) (n int, err error) {
	s := f.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		for s.data.Len() >= s.limit && !s.reset {
			s.changed.Wait()
		}
		if s.reset {
			return n, errReset
		}
		k := min(len(b), s.limit-s.data.Len())
		s.data.Write(b[:k])
		b, n = b[k:], n+k
		s.changed.Broadcast()
	}
	return n, nil
}

func (f *fake) CloseWrite() error {
	s := f.out
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset {
		return errReset
	}
	s.fin = true
	s.changed.Broadcast()
	return nil
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func (f *fake) Abort() {
	for _, s := range []*stream{f.in, f.out} {
		s.mu.Lock()
		s.reset = true
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// setup starts a Join between two connections and returns their far ends.
func setup(limit int) (a, b, nearA, nearB *fake, c *Counters, done <-chan error) {
	nearA, a = newFake(limit)
	nearB, b = newFake(limit)
	c = &Counters{}
	ch := make(chan error, 1)
	go func() { ch <- Join(nearA, nearB, c) }()
	return a, b, nearA, nearB, c, ch
}

// Both directions carry everything, whatever fits at a time, and end one by one.
func TestJoin(t *testing.T) {
	for _, limit := range []int{1 << 20, 1000, 1} {
		a, b, nearA, nearB, c, done := setup(limit)
		toB, toA := bytes.Repeat([]byte("plumb"), 20000), bytes.Repeat([]byte("line"), 10000)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.Write(toB); err != nil {
				t.Error(err)
			}
			a.CloseWrite()
		})
		got, err := io.ReadAll(b) // ends with a's half-close
		if err != nil || !bytes.Equal(got, toB) {
			t.Errorf("limit %d: b read %d bytes, %v; want %d", limit, len(got), err, len(toB))
		}
		// The other direction is still open.
		wg.Go(func() {
			if _, err := b.Write(toA); err != nil {
				t.Error(err)
			}
			b.CloseWrite()
		})
		got, err = io.ReadAll(a)
		if err != nil || !bytes.Equal(got, toA) {
			t.Errorf("limit %d: a read %d bytes, %v; want %d", limit, len(got), err, len(toA))
		}
		wg.Wait()
		if err := <-done; err != nil {
			t.Errorf("limit %d: Join = %v", limit, err)
		}
		if !nearA.closed || !nearB.closed {
			t.Errorf("limit %d: the connections were not closed", limit)
		}
		if c.AToB.Load() != uint64(len(toB)) || c.BToA.Load() != uint64(len(toA)) {
			t.Errorf("limit %d: counted %d and %d bytes", limit, c.AToB.Load(), c.BToA.Load())
		}
	}
}

// A reset on one side resets the other, whatever the relay was doing.
func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(a, b *fake)
	}{
		{"idle, from A", func(a, _ *fake) { a.Abort() }},
		{"idle, from B", func(_, b *fake) { b.Abort() }},
		{"after A's half-close", func(a, b *fake) {
			a.CloseWrite()
			io.ReadAll(b)
			b.Abort()
		}},
		{"blocked in a write to B", func(a, b *fake) {
			a.Write(make([]byte, 1000)) // more than the relay can pass on
			b.Abort()
		}},
		{"blocked in a write to A", func(a, b *fake) {
			b.Write(make([]byte, 1000))
			a.Abort()
		}},
	} {
		a, b, _, _, _, done := setup(600)
		tt.run(a, b)
		if err := <-done; !errors.Is(err, errReset) {
			t.Errorf("%s: Join = %v, want the reset", tt.name, err)
		}
		for name, far := range map[string]*fake{"A": a, "B": b} {
			// What was under way before the reset may still be read.
			if _, err := io.ReadAll(far); !errors.Is(err, errReset) {
				t.Errorf("%s: %s reads %v, want a reset", tt.name, name, err)
			}
		}
	}
}

// failing fails in a way of its own.
type failing struct {
	*fake
	closeWrite error
}

func (f failing) CloseWrite() error { return f.closeWrite }

// An end that cannot be passed on is a failure, too.
func TestCloseWriteFails(t *testing.T) {
	nearA, a := newFake(100)
	nearB, _ := newFake(100)
	want := errors.New("no")
	a.CloseWrite()
	if err := Join(nearA, failing{nearB, want}, &Counters{}); !errors.Is(err, want) {
		t.Errorf("Join = %v, want %v", err, want)
	}
}
