package tcb

import (
	"bytes"
	"testing"
	"time"
)

// TestTransferArrivesIntact sends data both ways over every kind of path and closes: each octet arrives once and in order, and both ends reach CLOSED.
func TestTransferArrivesIntact(t *testing.T) {
	type ends struct{ a, b func(*peer) }
	conf := func(f func(*Config)) func(*peer) {
		return func(p *peer) { c := *p.cfg; f(&c); p.cfg = &c }
	}
	none := func(*peer) {}
	tests := []struct {
		name string
		path path
		ends ends
		gro  bool
		size int
	}{
		{name: "clean", path: path{delay: 10 * time.Millisecond}, size: 4 << 20},
		{name: "no delay", path: path{}, size: 4 << 20},
		{name: "loss 2 %", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 2 << 20},
		{name: "loss 10 %", path: path{delay: 5 * time.Millisecond, loss: 0.10}, size: 512 << 10},
		{name: "loss 30 %", path: path{delay: 5 * time.Millisecond, loss: 0.30}, size: 64 << 10},
		{name: "reordering", path: path{delay: 5 * time.Millisecond, jitter: 4 * time.Millisecond}, size: 2 << 20},
		{name: "loss, reordering, duplication", path: path{delay: 5 * time.Millisecond, jitter: 3 * time.Millisecond, loss: 0.02, dup: 0.02}, size: 2 << 20},
		{name: "link refuses", path: path{delay: 5 * time.Millisecond, refuse: 0.2}, size: 1 << 20},
		{name: "no SACK", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 1 << 20, ends: ends{b: conf(func(c *Config) { c.SACK = false })}},
		{name: "no timestamps", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 1 << 20, ends: ends{a: conf(func(c *Config) { c.Timestamps = false })}},
		{name: "no options at all", path: path{delay: 5 * time.Millisecond, loss: 0.02, jitter: 2 * time.Millisecond}, size: 1 << 20, ends: ends{a: conf(func(c *Config) { c.Timestamps, c.SACK, c.WindowScaling = false, false, false })}},
		{name: "RFC 6675", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 1 << 20, ends: ends{a: conf(func(c *Config) { c.RACK = false }), b: conf(func(c *Config) { c.RACK = false })}},
		{name: "GSO", path: path{delay: 5 * time.Millisecond, loss: 0.01}, size: 4 << 20, ends: ends{a: func(p *peer) { p.params.GSOMax = 65000 }}},
		{name: "GSO and GRO", path: path{delay: 5 * time.Millisecond}, size: 4 << 20, gro: true, ends: ends{a: func(p *peer) { p.params.GSOMax = 65000 }, b: func(p *peer) { p.params.GSOMax = 65000 }}},
		{name: "small receive buffer", path: path{delay: 5 * time.Millisecond, loss: 0.01}, size: 256 << 10, ends: ends{b: func(p *peer) { p.RcvBuf, p.RcvBufLocked = 4096, true }}},
		{name: "tiny receive buffer", path: path{delay: 5 * time.Millisecond}, size: 64 << 10, ends: ends{b: func(p *peer) { p.RcvBuf, p.RcvBufLocked = 1024, true }}},
		{name: "memory pressure", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 1 << 20, ends: ends{b: func(p *peer) { p.pressure = PressureHigh }}},
		{name: "small MSS", path: path{delay: 5 * time.Millisecond, loss: 0.02}, size: 128 << 10, ends: ends{a: func(p *peer) { p.params.MTUPayload = 100 }}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(3) {
				w := newWorld(t, seed)
				w.gro = tt.gro
				w.a.path, w.b.path = tt.path, tt.path
				for _, f := range []struct {
					p *peer
					f func(*peer)
				}{{w.a, tt.ends.a}, {w.b, tt.ends.b}} {
					if f.f == nil {
						f.f = none
					}
					f.f(f.p)
				}
				w.connect()
				up, down := pattern(tt.size, seed), pattern(tt.size/4, seed+100)
				w.write(w.a, up)
				w.write(w.b, down)
				w.a.ShutdownWrite(w.now)
				w.until(time.Hour, func() bool { return w.b.state == StateCloseWait })
				w.b.ShutdownWrite(w.now)
				w.until(time.Hour, func() bool { return w.a.state == StateClosed && w.b.state == StateClosed })
				if !bytes.Equal(w.b.received.Bytes(), up) {
					t.Errorf("seed %d: a to b: %d of %d octets, the first difference at %d", seed, w.b.received.Len(), len(up), firstDifference(w.b.received.Bytes(), up))
				}
				if !bytes.Equal(w.a.received.Bytes(), down) {
					t.Errorf("seed %d: b to a: %d of %d octets, or not the same", seed, w.a.received.Len(), len(down))
				}
				if w.a.reason != ReasonNone || w.b.reason != ReasonNone {
					t.Errorf("seed %d: failed: a %v, b %v", seed, w.a.reason, w.b.reason)
				}
				if w.a.held != 0 || w.b.held != 0 {
					t.Errorf("seed %d: memory still reserved: %d, %d", seed, w.a.held, w.b.held)
				}
				t.Logf("seed %d: %v, %d sent, %d lost, retransmits %d, timeouts %d, spurious %d", seed, w.now, w.a.path.sent, w.a.path.lost,
					w.a.counts[CountRetransmit], w.a.counts[CountTimeout], w.a.counts[CountSpuriousRecovery])
			}
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
