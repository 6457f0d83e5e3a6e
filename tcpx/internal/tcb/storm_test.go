package tcb

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
)

// pacedReno is Reno at a rate.
type pacedReno struct {
	congestion.Controller
	also congestion.Capabilities
}

func (p pacedReno) Control() congestion.Control {
	c := p.Controller.Control()
	c.PacingRate, c.Capabilities = 100_000, congestion.NeedsPacing|p.also
	return c
}

func paced(also congestion.Capabilities) func(*rig) {
	return func(r *rig) { r.controller = pacedReno{reno.New(), also} }
}

// storm drives the sender by bytes: a peer that acknowledges whatever it likes, true or not, a link that refuses, a clock that jumps. Whatever happens, the invariants hold
// after each step, and once the peer is honest again everything gets through.
func storm(tb testing.TB, data []byte, seed uint64) {
	var change []func(*rig)
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	for bit, f := range []func(*rig){noSACK, noRACK, withTS, func(r *rig) { r.params.GSOMax = 10 * segSize }, func(r *rig) { r.NoDelay = true }, paced(0), paced(congestion.OwnsRecovery)} {
		if seed>>bit&1 != 0 {
			change = append(change, f)
		}
	}
	s := newScripted(tb, 50*time.Millisecond, change...)
	s.SndBuf = 1 << 20
	s.MaxRetries = 200
	// seq picks a sequence number around what is outstanding, mostly at a segment's border.
	seq := func() Seq {
		n := s.sndNxt.Sub(s.sndUna)
		x := n * next() / 255
		switch k := next(); {
		case k < 200:
			x -= x % segSize
		case k < 210:
			x = n + k
		case k < 220:
			x = -k * 100
		}
		return s.sndUna.Add(x)
	}
	for len(data) > 0 && s.state != StateClosed {
		switch op := next() % 16; op {
		case 0, 1:
			s.write(strings.Repeat("x", min(next()*next()/4+1, s.WriteSpace())))
		case 2:
			s.sleep(time.Duration(next()) * time.Millisecond)
		case 3:
			s.sleep(time.Duration(next()) * time.Second / 50)
		case 4:
			s.refuse = !s.refuse
		case 5:
			if next() < 8 {
				s.PacketTooBig(s.now, s.sndUna, 300+next()*3)
				s.sane()
			}
		case 6:
			if next() < 4 {
				s.ShutdownWrite(s.now)
				s.sane()
			}
		default:
			a := s.ack(0)
			a.Ack, a.Wnd = s.sndUna, 65535
			if op < 10 {
				a.Ack = seq()
			}
			if next() < 16 {
				a.Wnd = uint16(next() % 3)
			}
			if s.has(flagTS) {
				a.Opts.TS, a.Opts.TSVal = true, 1000+uint32(s.now/1e6)
				a.Opts.TSEcr = s.tsNow(s.now - Time(next())*1e6)
			}
			for range next() % 4 {
				a.Opts.SACK[a.Opts.NumSACK] = Block{seq(), seq()}
				a.Opts.NumSACK++
			}
			s.in(a, "")
		}
		s.take()
	}
	s.calm()
}

// calm lets an honest peer take everything.
func (s *scripted) calm() {
	s.tb.Helper()
	s.refuse = false
	for n := 0; s.state != StateClosed && (s.unsent() > 0 || s.outstanding()); n++ {
		if n > 5000 {
			s.tb.Fatalf("%d octets unsent, %d outstanding after 5000 round trips; %s", s.unsent(), s.sndNxt-s.sndUna, s.vars())
		}
		s.sleep(10 * time.Millisecond)
		a := s.ack(0)
		a.Wnd = 65535
		if s.has(flagTS) {
			a.Opts.TS, a.Opts.TSVal, a.Opts.TSEcr = true, 1000+uint32(s.now/1e6), s.tsNow(s.now)
		}
		s.in(a, "")
	}
}

// TestStorm plays random storms.
func TestStorm(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 9))
		data := make([]byte, 1500)
		for i := 0; i < len(data); i += 4 {
			binary.BigEndian.PutUint32(data[i:min(i+4, len(data))], rng.Uint32())
		}
		storm(t, data, seed)
	}
}

// FuzzStorm searches for a storm that the sender does not weather.
func FuzzStorm(f *testing.F) {
	f.Add([]byte{0, 255, 255, 7, 128, 0, 0, 2, 9, 20, 100, 0, 50, 0}, uint64(0))
	f.Add([]byte{0, 255, 255, 3, 200, 7, 10, 10, 99, 0, 0, 2, 255}, uint64(1))
	f.Add([]byte{0, 255, 255, 4, 3, 100, 4, 9, 128, 0, 99, 0, 2, 100, 10, 50, 200, 99}, uint64(5))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) { storm(t, data[:min(len(data), 2000)], seed) })
}
