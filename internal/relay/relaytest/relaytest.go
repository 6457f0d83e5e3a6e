// Package relaytest offers connections in memory that can be half-closed and
// reset, which net.Pipe's cannot.
package relaytest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// ErrReset is what a Conn reports after either end called Abort.
var ErrReset = errors.New("relaytest: connection reset")

// Conn is one end of a connection. Its methods may be called concurrently.
type Conn struct {
	in, out *stream
	closed  atomic.Bool
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

// Pipe returns the two ends of a connection that holds up to limit bytes in each
// direction.
func Pipe(limit int) (near, far *Conn) {
	x, y := newStream(limit), newStream(limit)
	return &Conn{in: x, out: y}, &Conn{in: y, out: x}
}

// Read returns io.EOF once the far end has called CloseWrite or Close and all is
// read.
func (c *Conn) Read(b []byte) (int, error) {
	s := c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.data.Len() == 0 && !s.fin && !s.reset {
		s.changed.Wait()
	}
	defer s.changed.Broadcast()
	switch {
	case s.reset:
		return 0, ErrReset
	case s.data.Len() > 0:
		return s.data.Read(b)
	}
	return 0, io.EOF
}

// Write blocks while the connection is full.
func (c *Conn) Write(b []byte) (n int, err error) {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		for s.data.Len() >= s.limit && !s.reset {
			s.changed.Wait()
		}
		if s.reset {
			return n, ErrReset
		}
		k := min(len(b), s.limit-s.data.Len())
		s.data.Write(b[:k])
		b, n = b[k:], n+k
		s.changed.Broadcast()
	}
	return n, nil
}

// CloseWrite ends the direction to the far end.
func (c *Conn) CloseWrite() error {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset {
		return ErrReset
	}
	s.fin = true
	s.changed.Broadcast()
	return nil
}

// Close ends the direction to the far end, if that has not happened yet.
func (c *Conn) Close() error {
	c.closed.Store(true)
	_ = c.CloseWrite()
	return nil
}

// Closed says whether Close was called.
func (c *Conn) Closed() bool { return c.closed.Load() }

// RemoteAddr returns an address of no network.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

// addr is the address of every Conn.
type addr struct{}

// Network implements net.Addr.
func (addr) Network() string { return "memory" }

// String implements net.Addr.
func (addr) String() string { return "memory" }

// Abort resets the connection: data under way is lost on both ends.
func (c *Conn) Abort() {
	for _, s := range []*stream{c.in, c.out} {
		s.mu.Lock()
		s.reset = true
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}
