package pmtu

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzMachine drives a Machine with arbitrary events and checks that nothing takes it out of its bounds, that only arrivals raise the MTU, and that it always has
// something to do or a reason not to.
func FuzzMachine(f *testing.F) {
	f.Add(uint8(2), uint16(0), uint16(0), uint16(0), []byte("aAbBcCdDeEfFgG"))
	f.Add(uint8(1), uint16(552), uint16(1200), uint16(1500), []byte{3, 5, 220, 3, 5, 220, 4, 5, 220})
	f.Add(uint8(2), uint16(1280), uint16(1280), uint16(9000), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, mode uint8, low, base, high uint16, events []byte) {
		m := NewMachine(Config{Mode: Mode(mode % 3), Min: uint32(low), Base: uint32(base), Max: uint32(high)})
		cfg := m.Config()
		if cfg.Min > cfg.Base || cfg.Base > cfg.Max {
			t.Fatalf("config %+v", cfg)
		}
		var now time.Duration
		m.Start(at(0), 0)
		for ; len(events) >= 3; events = events[3:] {
			size := uint32(binary.BigEndian.Uint16(events[1:]))
			before, state := m.MTU(), m.State()
			arrived := false
			switch events[0] % 10 {
			case 0:
				m.Sent(at(now))
			case 1:
				m.Acked(at(now), size)
				arrived = true
			case 2:
				m.ProbeLost(at(now))
			case 3:
				m.TimedOut(at(now), size)
			case 4:
				m.Lost(at(now), size)
			case 5:
				m.TooBig(at(now), size)
			case 6:
				now += time.Duration(size) * time.Second / 16
				m.Tick(at(now))
			case 7:
				m.ProbeUnsent()
			case 8:
				if p, ok := m.Probe(); ok {
					m.Sent(at(now))
					m.Acked(at(now), p)
					arrived = true
				}
			case 9:
				for range cfg.MaxProbes {
					m.Sent(at(now))
					m.ProbeLost(at(now))
				}
			}
			mtu := m.MTU()
			if mtu < cfg.Min || mtu > cfg.Max {
				t.Fatalf("MTU %d is not within %d and %d", mtu, cfg.Min, cfg.Max)
			}
			// A search that ends in Error settles on what it knows to work; that was found by arrivals before.
			if mtu > before && !arrived && state != Error && m.State() != Complete {
				t.Fatalf("event %d raised the MTU from %d to %d", events[0]%10, before, mtu)
			}
			probe, ok := m.Probe()
			if _, due := m.Deadline(); !ok && !due && m.State() != Disabled {
				t.Fatalf("state %v: nothing to send, and nothing to wait for", m.State())
			}
			if ok && (probe < cfg.Min || probe > cfg.Max) {
				t.Fatalf("probe of %d", probe)
			}
			if cfg.Mode == Off && (ok || m.State() != Disabled) {
				t.Fatal("off, yet it probes")
			}
		}
		// Whatever happened, a path that carries everything is found.
		if cfg.Mode == Always {
			limit := now + time.Hour
			walk(m, &now, limit, cfg.Max, false)
			if m.MTU() != cfg.Max {
				t.Fatalf("found %d on a path of %d (%v)", m.MTU(), cfg.Max, m.State())
			}
		}
	})
}

// FuzzParse feeds packets to the parsers, and what they say to a cache.
func FuzzParse(f *testing.F) {
	f.Add(tooBig4(1400, packet4(local4, dest4.Remote, 6, 1500, segment(2)[:8])))
	f.Add(tooBig6(1400, packet6(local6, dest6.Remote, 17, 1460, segment(2)[:8])))
	f.Add(packet4(local4, dest4.Remote, 6, 0, segment(2, 2, 4, 5, 180)))
	f.Add(packet6(local6, dest6.Remote, 6, 0, segment(2, 1, 2, 4, 5, 180, 1, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := ParseICMP(b); ok {
			c := New(stopped{}, Options{})
			p := Path{Remote: r.Remote}
			v := c.TooBig(p, 1500, r)
			mtu := c.MTU(p, 1500)
			if mtu < c.floor(p) || mtu > 1500 || (mtu < 1500) != (v == Lowered) {
				t.Fatalf("%+v: %v, MTU %d", r, v, mtu)
			}
		}
		n := len(b)
		if first := ClampMSS(b, 1000); first && ClampMSS(b, 1000) {
			t.Fatal("clamped twice")
		}
		if len(b) != n {
			t.Fatal("length changed")
		}
	})
}
