package fuzz

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/target"
)

// mutant is tcpx with a fault between it and its link, or between it and the
// application: what the fuzzer is to find. (Those of conformance/oracle, which measure
// the oracle, need a TCP as a peer.)
type mutant struct {
	target.Target
	// out changes a segment that is sent, and reports whether it goes on; in is the
	// same for one that arrives; result changes what a call returned.
	out, in func(p *wire.Packet) bool
	spoil   func(p *wire.Packet) wire.Spoil
	result  func(c target.Call, res *target.Result)

	// What a fault may need to know.
	seen map[uint32]bool // sequence numbers of data that was sent
	isn  uint32          // the target's
	// storm repeats what is sent without end.
	storm bool
}

// pair is a call under way whose result is changed.
type pair struct {
	target.Pending
	m *mutant
	c target.Call
}

func (p pair) Result() (target.Result, bool) {
	res, done := p.Pending.Result()
	if done {
		p.m.result(p.c, &res)
	}
	return res, done
}

// Syscall implements target.Target.
func (m *mutant) Syscall(c target.Call) (target.Pending, error) {
	p, err := m.Target.Syscall(c)
	if m.result == nil || err != nil {
		return p, err
	}
	return pair{p, m, c}, nil
}

// Inject implements target.Target.
func (m *mutant) Inject(b []byte) error {
	p, err := wire.Decode(b)
	if m.in == nil || err != nil || p.TCP == nil || len(p.Faults) > 0 {
		return m.Target.Inject(b)
	}
	if !m.in(p) {
		return nil
	}
	return m.Target.Inject(p.Encode(wire.Spoil{}))
}

// Drain implements target.Target.
func (m *mutant) Drain() []target.Packet {
	var out []target.Packet
	for _, x := range m.Target.Drain() {
		p, err := wire.Decode(x.Data)
		if m.out == nil || err != nil || p.TCP == nil {
			out = append(out, x)
			continue
		}
		if p.TCP.Flags&wire.SYN != 0 {
			m.isn = p.TCP.Seq
		}
		if m.out(p) {
			p.TCP.DataOffset = 0
			spoil := wire.Spoil{}
			if m.spoil != nil {
				spoil = m.spoil(p)
			}
			x.Data = p.Encode(spoil)
			out = append(out, x)
		}
		for range map[bool]int{true: maxBurst}[m.storm] {
			out = append(out, x)
		}
		if len(p.TCP.Payload) > 0 {
			m.seen[p.TCP.Seq] = true
		}
	}
	return out
}

// withFault returns tcpx with a fault.
func withFault(fault func(m *mutant)) target.Kind {
	kind := target.TCPX()
	open := kind.Open
	kind.Name = "mutant"
	kind.Open = func(cfg target.Config) (target.Target, error) {
		t, err := open(cfg)
		m := &mutant{Target: t, seen: make(map[uint32]bool)}
		fault(m)
		return m, err
	}
	return kind
}

func is(p *wire.Packet, flags uint16) bool { return p.TCP.Flags&flags == flags }

func data(p *wire.Packet) bool { return len(p.TCP.Payload) > 0 }

// rewrites makes a fault of what is sent.
func rewrites(f func(m *mutant, p *wire.Packet)) func(*mutant) {
	return func(m *mutant) {
		m.out = func(p *wire.Packet) bool { f(m, p); return true }
	}
}

// mutants are the faults, with the class that each is found in and the most steps that
// may be left of a case that shows it.
var mutants = []struct {
	name, class string
	steps       int
	fault       func(*mutant)
}{
	{"acknowledges one octet too many of each segment", "oracle:ack-unsent", 3, rewrites(func(_ *mutant, p *wire.Packet) {
		if is(p, wire.ACK) && !is(p, wire.SYN) && !is(p, wire.RST) {
			p.TCP.Ack++
		}
	})},
	{"answers with a RST whose number is of nothing", "oracle:rst", 4, rewrites(func(_ *mutant, p *wire.Packet) {
		if is(p, wire.RST) {
			p.TCP.Seq += 1 << 20
		}
	})},
	{"sends the second copy of data with another octet", "oracle:same-bytes", 5, rewrites(func(m *mutant, p *wire.Packet) {
		if data(p) && m.seen[p.TCP.Seq] {
			p.TCP.Payload[0] ^= 1
		}
	})},
	{"spoils the last octet of long segments", "payload", 5, rewrites(func(_ *mutant, p *wire.Packet) {
		if n := len(p.TCP.Payload); n > 500 {
			p.TCP.Payload[n-1] ^= 1
		}
	})},
	{"has no ACK in a FIN", "oracle:ack-flag", 4, rewrites(func(_ *mutant, p *wire.Packet) {
		if is(p, wire.FIN) {
			p.TCP.Flags &^= wire.ACK
		}
	})},
	{"sets reserved bits while it is being probed with them", "oracle:reserved", 3, func(m *mutant) {
		echo := uint8(0)
		m.in = func(p *wire.Packet) bool { echo = p.TCP.Reserved; return true }
		m.out = func(p *wire.Packet) bool { p.TCP.Reserved = echo; return true }
	}},
	{"sends data beyond the window", "oracle:window", 5, func(m *mutant) {
		m.in = func(p *wire.Packet) bool { p.TCP.Window = max(p.TCP.Window, 20000); return true }
	}},
	{"moves its FIN by an octet when it sends it again", "oracle:fin", 5, func(m *mutant) {
		fins := 0
		m.out = func(p *wire.Packet) bool {
			if is(p, wire.FIN) {
				if fins++; fins > 1 {
					p.TCP.Seq++
				}
			}
			return true
		}
	}},
	{"claims to hold what was never sent", "oracle:sack-unsent", 5, rewrites(func(_ *mutant, p *wire.Packet) {
		for i := 0; i+10 <= len(p.TCP.Options); i++ {
			if o := p.TCP.Options[i:]; o[0] == 5 && o[1] >= 10 && int(o[1]) <= len(o) {
				binary.BigEndian.PutUint32(o[6:], binary.BigEndian.Uint32(o[6:])+1)
				return
			}
		}
	})},
	{"never retransmits data", "stuck-sending", 5, func(m *mutant) {
		m.out = func(p *wire.Packet) bool { return !data(p) || !m.seen[p.TCP.Seq] }
		m.in = func(p *wire.Packet) bool { return true }
	}},
	{"does not see that a window opens again", "stuck-sending", 6, func(m *mutant) {
		shut := false
		m.in = func(p *wire.Packet) bool {
			if shut = shut || p.TCP.Window == 0 && p.TCP.Flags == wire.ACK; shut {
				p.TCP.Window = 0
			}
			return true
		}
	}},
	{"forgets what arrives out of order, but acknowledges it", "stuck-sending", 6, func(m *mutant) {
		// The application never gets what it was told to have: its last octet is lost
		// on the way out for good.
		m.out = func(p *wire.Packet) bool {
			if data(p) && p.TCP.Seq-m.isn > 2000 {
				return false
			}
			return true
		}
	}},
	{"ignores every RST", "leftover", 4, func(m *mutant) {
		m.in = func(p *wire.Packet) bool { return !is(p, wire.RST) }
	}},
	{"ignores every FIN", "stuck-receiving", 4, func(m *mutant) {
		m.in = func(p *wire.Packet) bool { p.TCP.Flags &^= wire.FIN; return true }
	}},
	{"delivers a wrong octet to long reads", "read", 5, func(m *mutant) {
		m.result = func(c target.Call, res *target.Result) {
			if _, ok := c.(target.Read); ok && len(res.Data) > 100 {
				res.Data[100] ^= 0x80
			}
		}
	}},
	{"tells the application of a reset that was none", "gave-up", 5, func(m *mutant) {
		m.result = func(c target.Call, res *target.Result) {
			if _, ok := c.(target.Read); ok && res.Errno == "EAGAIN" {
				res.Errno = "ECONNRESET"
			}
		}
	}},
	{"panics at an urgent pointer behind the data", "panic:fuzz.explode", 4, func(m *mutant) {
		m.in = func(p *wire.Packet) bool {
			if is(p, wire.URG|wire.ACK) && int(p.TCP.Urgent) > len(p.TCP.Payload) {
				explode()
			}
			return true
		}
	}},
	{"sends on and on after a CWR", "storm", 4, func(m *mutant) {
		m.in = func(p *wire.Packet) bool {
			m.storm = m.storm || is(p, wire.CWR) && !is(p, wire.SYN)
			return true
		}
		m.out = func(*wire.Packet) bool { return true }
	}},
}

func explode() { panic("boom") }

// TestFindsMutants shows that each fault is found within some hundred cases, that the
// case is shrunk to a few steps, and that package runner fails at its script.
func TestFindsMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			kind := withFault(m.fault)
			for n := range uint64(400) {
				c, failures := Generate(kind, 1, n)
				for _, f := range failures {
					if f.Class != m.class {
						continue
					}
					f.Case = Shrink(kind, c, f.Class)
					f.write(kind)
					t.Logf("case %d: %d steps shrunk to %d\n%s", n, len(c.Steps), len(f.Case.Steps), f.Script)
					if len(f.Case.Steps) > m.steps {
						t.Errorf("%d steps are left, want %d", len(f.Case.Steps), m.steps)
					}
					if !f.Reproduced {
						t.Error("the runner does not fail at the script")
					}
					return
				}
			}
			t.Errorf("no %s in 400 cases", m.class)
		})
	}
}
