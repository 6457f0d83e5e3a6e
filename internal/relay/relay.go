// Package relay joins two TCP connections so that what one peer does, the other
// sees: data, a half-close, a reset.
package relay

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Conn is one side of a relay. Read returns io.EOF after the peer's FIN, and
// another error after a reset; Close and Abort end calls that are blocked.
type Conn interface {
	io.ReadWriter
	// CloseWrite sends a FIN after what was written.
	CloseWrite() error
	// Close lets go of the connection without a reset, if it may.
	Close() error
	// Abort sends a reset and lets go of the connection. It may be called more
	// than once and concurrently with all other methods.
	Abort()
}

// Counters count bytes as they are relayed. They may be shared by many relays.
type Counters struct {
	AToB, BToA atomic.Uint64
}

// bufferSize is how much one read takes at most: large enough for a segment of
// 64 KiB from an offloading link.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Join relays between a and b until both directions have ended, and closes
// both.
//
// A FIN ends one direction and is passed on; data may go on in the other. If a
// connection fails in any other way, by a reset or a timeout, both are aborted,
// so that the far peer learns that data may be missing. Join then returns the
// first error, which says on which side and in what it happened.
func Join(a, b Conn, c *Counters) error {
	j := joint{a: a, b: b}
	var wg sync.WaitGroup
	wg.Go(func() { j.pump("from A to B", b, a, &c.AToB) })
	j.pump("from B to A", a, b, &c.BToA)
	wg.Wait()
	if j.err == nil {
		// The order matters to nobody: both have sent and received a FIN.
		return errors.Join(a.Close(), b.Close())
	}
	return j.err
}

// joint is what the two directions of a Join share.
type joint struct {
	a, b Conn
	once sync.Once
	err  error // set by once, read when both directions have ended
}

// fail aborts both connections.
func (j *joint) fail(err error) {
	j.once.Do(func() {
		j.err = err
		j.a.Abort()
		j.b.Abort()
	})
}

// pump relays one direction until its FIN or an error.
func (j *joint) pump(name string, dst, src Conn, count *atomic.Uint64) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			w, werr := dst.Write(buf[:n])
			count.Add(uint64(w))
			if werr != nil {
				j.fail(fmt.Errorf("relaying %s: %w", name, werr))
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if err := dst.CloseWrite(); err != nil {
				j.fail(fmt.Errorf("passing on the end %s: %w", name, err))
			}
			return
		case err != nil:
			j.fail(fmt.Errorf("relaying %s: %w", name, err))
			return
		}
	}
}
