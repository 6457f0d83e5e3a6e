package tcb

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
	"gvisor.dev/gvisor/pkg/buffer"
)

// Sequence numbers of a rig's connection before its first octet: ours and the peer's. Both wrap within the first segments.
const (
	rigISS Seq = 1<<32 - 3
	rigIRS Seq = 1<<32 - 5
)

// rig is one core with a captured output, driven by hand-made segments.
type rig struct {
	TCB
	tb       testing.TB
	now      Time
	rng      *rand.Rand
	counts   [numCounters]uint64
	held     int
	pressure Pressure
	refuse   bool
	deaf     bool // what is sent goes unheard: for benchmarks
	sent     []wire
	params   OpenParams
	// controller is the congestion controller, Reno if nil.
	controller congestion.Controller
	// finder finds the path's MTU, nil for nobody.
	finder PathMTU
	// announced is the MSS for SYNs that are sent again, 0 for the same.
	announced uint16
}

// wire is a segment as it left, with its text copied.
type wire struct {
	Segment
	text string
}

func newRig(tb testing.TB, change ...func(*rig)) *rig {
	r := &rig{tb: tb, now: Time(time.Second), rng: rand.New(rand.NewPCG(1, 2))}
	r.params = OpenParams{ISS: rigISS, MTUPayload: 1460, DefaultMSS: 536, AdvertisedMSS: 1460}
	cfg := testConfig()
	cfg.Timestamps = false
	r.Init(cfg, r, testSettings())
	r.RcvBufLocked = true
	for _, f := range change {
		f(r)
	}
	return r
}

// Transmit implements Owner.
func (r *rig) Transmit(s *Out) bool {
	if r.refuse {
		return false
	}
	if r.deaf {
		s.Payload.Release()
		return true
	}
	text := string(s.Payload.Flatten())
	s.Payload.Release()
	w := wire{Segment{Seq: s.Seq, Ack: s.Ack, Flags: s.Flags, Wnd: s.Wnd, Up: s.Up, Len: len(text), ECN: s.ECN}, text}
	if !ParseOptions(s.Opts[:s.OptLen], &w.Opts) {
		r.tb.Fatalf("sent malformed options % x", s.Opts[:s.OptLen])
	}
	r.sent = append(r.sent, w)
	return true
}

// Count implements Owner.
func (r *rig) Count(c Counter, n uint64) { r.counts[c] += n }

// Rand implements Owner.
func (r *rig) Rand() *rand.Rand { return r.rng }

// AnnouncedMSS implements Owner.
func (r *rig) AnnouncedMSS() uint16 {
	if r.announced != 0 {
		return r.announced
	}
	return r.params.AdvertisedMSS
}

// PathMTU implements Owner.
func (r *rig) PathMTU(int, bool) PathMTU { return r.finder }

// NewController implements Owner.
func (r *rig) NewController() congestion.Controller {
	if r.controller != nil {
		return r.controller
	}
	return reno.New()
}

// Budget implements Owner.
func (r *rig) Budget(n int) Pressure {
	if r.held += n; r.held < 0 {
		r.tb.Fatalf("returned more memory than was reserved: %d", r.held)
	}
	return r.pressure
}

// take returns what was sent since the last call.
func (r *rig) take() []wire {
	s := r.sent
	r.sent = nil
	return s
}

// in passes a segment with text and returns what it made the core send.
func (r *rig) in(s Segment, text string) []wire {
	r.tb.Helper()
	s.Payload, s.Len = buffer.MakeWithData([]byte(text)), len(text)
	s.Segs = max(s.Segs, 1)
	r.SegmentArrives(r.now, &s)
	s.Payload.Release()
	r.sane()
	return r.take()
}

// ack returns a segment of the peer at RCV.NXT that acknowledges all.
func (r *rig) ack(fl Flags) Segment {
	return Segment{Seq: r.rcvNxt, Ack: r.sndNxt, Flags: ACK | fl, Wnd: 32000}
}

// sleep lets time pass; timers fire at their instants.
func (r *rig) sleep(d time.Duration) []wire {
	r.tb.Helper()
	end := r.now + d
	for n := 0; r.Deadline() != 0 && r.Deadline() <= end; n++ {
		if n > 1_000_000 {
			r.tb.Fatalf("timers never rest: %v", r.timers)
		}
		r.now = max(r.now, r.Deadline())
		r.OnTimer(r.now)
		r.sane()
	}
	r.now = end
	return r.take()
}

// write queues text and returns what was sent.
func (r *rig) write(text string) []wire {
	r.tb.Helper()
	n, err := r.Write(r.now, strings.NewReader(text), len(text), false, false)
	if n != len(text) || err != nil && err != io.EOF {
		r.tb.Fatalf("Write took %d of %d: %v", n, len(text), err)
	}
	r.sane()
	return r.take()
}

// read returns all that can be read.
func (r *rig) read() string {
	r.tb.Helper()
	var b strings.Builder
	if _, err := r.Read(r.now, &b, r.ReadSize(), false); err != nil {
		r.tb.Fatal(err)
	}
	r.sane()
	return b.String()
}

// sane checks what must hold after every call.
func (r *rig) sane() {
	r.tb.Helper()
	if err := verify(&r.TCB); err != nil {
		r.tb.Fatal(err)
	}
	if r.state == StateClosed && r.rcvBuf.len() == 0 && r.held != 0 {
		r.tb.Fatalf("%d octets of the budget are held in CLOSED", r.held)
	}
}

// String renders a segment as the tests write it: flags, sequence number and acknowledgment relative to the start, text.
func (w wire) String() string {
	var b strings.Builder
	for i, c := range "FSRP.UEC" {
		if w.Flags&(1<<i) != 0 {
			b.WriteRune(c)
		}
	}
	fmt.Fprintf(&b, " %d:%d", w.Seq-rigISS, w.Seq-rigISS+Seq(w.Len))
	if w.Flags.Has(ACK) {
		fmt.Fprintf(&b, " ack %d", w.Ack-rigIRS)
	}
	return b.String()
}

// expect compares segments with their renderings.
func (r *rig) expect(got []wire, want ...string) {
	r.tb.Helper()
	var s []string
	for _, w := range got {
		s = append(s, w.String())
	}
	if strings.Join(s, "; ") != strings.Join(want, "; ") {
		r.tb.Fatalf("in %v: sent [%s], want [%s]", r.state, strings.Join(s, "; "), strings.Join(want, "; "))
	}
}

// expectState fails unless the state is s.
func (r *rig) expectState(s State) {
	r.tb.Helper()
	if r.state != s {
		r.tb.Fatalf("state %v, want %v", r.state, s)
	}
}

// syn is the peer's SYN.
func (r *rig) syn() Segment {
	o := Options{MSS: 1460, SACKPermitted: true, WScale: 1}
	if r.cfg.Timestamps {
		o.TS, o.TSVal = true, 1000
	}
	return Segment{Seq: rigIRS, Flags: SYN, Wnd: 32000, Opts: o}
}

// passive opens passively up to SYN-RECEIVED.
func (r *rig) passive() *rig {
	r.tb.Helper()
	s := r.syn()
	r.OpenPassive(r.now, &r.params, &s)
	r.take()
	r.now += 10 * Time(time.Millisecond)
	r.expectState(StateSynRecv)
	return r
}

// to brings a fresh rig into a state; after ESTABLISHED by way of a passive open.
func (r *rig) to(s State) *rig {
	r.tb.Helper()
	switch s {
	case StateClosed:
		return r
	case StateSynSent:
		r.OpenActive(r.now, &r.params)
		r.now += 10 * Time(time.Millisecond)
		r.take()
		return r
	case StateSynRecv:
		return r.passive()
	}
	r.passive()
	r.in(r.ack(0), "")
	r.expectState(StateEstablished)
	return r.walk(s)
}

// walk goes on from ESTABLISHED to a later state.
func (r *rig) walk(s State) *rig {
	r.tb.Helper()
	fin := func() { r.in(r.ack(FIN), "") }
	oldFIN := func() { s := r.ack(FIN); s.Ack = r.sndUna; r.in(s, "") }
	closing := func() { r.ShutdownWrite(r.now); r.take() }
	switch s {
	case StateFinWait1:
		closing()
	case StateFinWait2:
		closing()
		r.in(r.ack(0), "")
	case StateCloseWait:
		fin()
	case StateClosing:
		closing()
		oldFIN()
	case StateLastAck:
		fin()
		closing()
	case StateTimeWait:
		closing()
		fin()
	}
	r.expectState(s)
	r.TakeEvents()
	r.take()
	return r
}

// viewOf returns text as memory for a payload.
func viewOf(text string) *buffer.View { return buffer.NewViewWithData([]byte(text)) }
