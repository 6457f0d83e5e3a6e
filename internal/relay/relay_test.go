package relay

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/plumbline/plumbline/internal/relay/relaytest"
)

// setup starts a Join between two connections and returns their far ends.
func setup(limit int) (a, b, nearA, nearB *relaytest.Conn, c *Counters, done <-chan error) {
	nearA, a = relaytest.Pipe(limit)
	nearB, b = relaytest.Pipe(limit)
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
		if !nearA.Closed() || !nearB.Closed() {
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
		run  func(a, b *relaytest.Conn)
	}{
		{"idle, from A", func(a, _ *relaytest.Conn) { a.Abort() }},
		{"idle, from B", func(_, b *relaytest.Conn) { b.Abort() }},
		{"after A's half-close", func(a, b *relaytest.Conn) {
			a.CloseWrite()
			io.ReadAll(b)
			b.Abort()
		}},
		{"blocked in a write to B", func(a, b *relaytest.Conn) {
			a.Write(make([]byte, 1000)) // more than the relay can pass on
			b.Abort()
		}},
		{"blocked in a write to A", func(a, b *relaytest.Conn) {
			b.Write(make([]byte, 1000))
			a.Abort()
		}},
	} {
		a, b, _, _, _, done := setup(600)
		tt.run(a, b)
		if err := <-done; !errors.Is(err, relaytest.ErrReset) {
			t.Errorf("%s: Join = %v, want the reset", tt.name, err)
		}
		for name, far := range map[string]*relaytest.Conn{"A": a, "B": b} {
			// What was under way before the reset may still be read.
			if _, err := io.ReadAll(far); !errors.Is(err, relaytest.ErrReset) {
				t.Errorf("%s: %s reads %v, want a reset", tt.name, name, err)
			}
		}
	}
}

// failing fails in a way of its own.
type failing struct {
	*relaytest.Conn
	closeWrite error
}

func (f failing) CloseWrite() error { return f.closeWrite }

// An end that cannot be passed on is a failure, too.
func TestCloseWriteFails(t *testing.T) {
	nearA, a := relaytest.Pipe(100)
	nearB, _ := relaytest.Pipe(100)
	want := errors.New("no")
	a.CloseWrite()
	if err := Join(nearA, failing{nearB, want}, &Counters{}); !errors.Is(err, want) {
		t.Errorf("Join = %v, want %v", err, want)
	}
}
