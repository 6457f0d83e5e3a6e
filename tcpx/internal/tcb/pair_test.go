package tcb

import (
	"bytes"
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
	"gvisor.dev/gvisor/pkg/buffer"
)

// testConfig is a stack's configuration with the defaults that tests start from.
func testConfig() *Config {
	return &Config{
		MinRTO: 200 * time.Millisecond, MaxRTO: 120 * time.Second, InitialRTO: time.Second, MaxRetries: 15, OrphanRetries: 8,
		SACK: true, Timestamps: true, WindowScaling: true, RACK: true, TimeWait: time.Minute, DelayedACK: 40 * time.Millisecond,
		InitialWindow: 10, RcvBufMax: 16 << 20, SndBufMax: 16 << 20, ChallengeACKInterval: 500 * time.Millisecond, Moderate: true,
	}
}

func testSettings() Settings {
	return Settings{
		RcvBuf: 128 << 10, SndBuf: 64 << 10,
		Tuning: &Tuning{KeepIdle: 2 * time.Hour, KeepIntvl: 75 * time.Second, KeepCount: 9, Linger2: time.Minute, SynRetries: 7},
	}
}

// path is one direction's treatment of segments.
type path struct {
	delay, jitter        time.Duration
	loss, dup            float64
	refuse               float64 // the link is full
	drop                 func(n int, s *Segment) bool
	sent, lost, refusals int
}

// peer is one end: a TCB and its user.
type peer struct {
	TCB
	w        *world
	other    *peer
	path     path
	counts   [numCounters]uint64
	events   Event
	received bytes.Buffer
	reads    bool
	log      []string
	pressure Pressure
	held     int
	params   OpenParams
	syn      bool // opens when a SYN comes
	finder   PathMTU
}

// world runs two peers in virtual time.
type world struct {
	t     testing.TB
	now   Time
	rng   *rand.Rand
	queue arrivals
	order int
	a, b  *peer
	steps int
	gro   bool
	// quiet keeps no log of segments, which a long run would fill memory with.
	quiet bool
}

type arrival struct {
	at    Time
	order int
	to    *peer
	seg   Segment
}

type arrivals []arrival

func (q arrivals) Len() int { return len(q) }
func (q arrivals) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q arrivals) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *arrivals) Push(x any)   { *q = append(*q, x.(arrival)) }
func (q *arrivals) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, now: 1, rng: rand.New(rand.NewPCG(seed, 1))}
	w.a, w.b = w.peer(testConfig(), 1000), w.peer(testConfig(), 1<<32-5000)
	w.a.other, w.b.other = w.b, w.a
	w.b.syn = true
	return w
}

func (w *world) peer(cfg *Config, iss Seq) *peer {
	p := &peer{w: w, reads: true, path: path{delay: 10 * time.Millisecond}}
	p.params = OpenParams{ISS: iss, TSOffset: 77, MTUPayload: 1460, DefaultMSS: 536, AdvertisedMSS: 1460}
	p.Init(cfg, p, testSettings())
	return p
}

// Transmit implements Owner.
func (p *peer) Transmit(s *Out) bool {
	w := p.w
	if p.path.refuse > 0 && w.rng.Float64() < p.path.refuse {
		p.path.refusals++
		return false
	}
	text := s.Payload.Flatten()
	s.Payload.Release()
	if len(text) > int(p.params.MTUPayload)-s.OptLen && p.params.GSOMax == 0 {
		w.t.Fatalf("%v: segment of %d octets and %d of options exceeds the MTU", w.now, len(text), s.OptLen)
	}
	step := max(s.MSS, 1)
	if w.gro {
		step = max(len(text), 1)
	}
	q := s.Seq
	for first := true; first || len(text) > 0; first = false {
		n := min(len(text), step)
		in := Segment{Seq: q, Ack: s.Ack, Flags: s.Flags, Wnd: s.Wnd, Up: s.Up, Len: n, Segs: max((n+s.MSS-1)/max(s.MSS, 1), 1)}
		if n < len(text) {
			in.Flags &^= FIN | PSH
		}
		if !ParseOptions(s.Opts[:s.OptLen], &in.Opts) {
			w.t.Fatalf("sent malformed options % x", s.Opts[:s.OptLen])
		}
		w.send(p, in, text[:n])
		text, q = text[n:], q.Add(n)
	}
	return true
}

// send puts one wire segment on the path.
func (w *world) send(p *peer, in Segment, text []byte) {
	p.path.sent++
	if !w.quiet {
		p.log = append(p.log, fmt.Sprintf("%v %v seq %d len %d ack %d wnd %d %+v", w.now, in.Flags, in.Seq, in.Len, in.Ack, in.Wnd, in.Opts))
	}
	lost := p.path.drop != nil && p.path.drop(p.path.sent, &in) || p.path.loss > 0 && w.rng.Float64() < p.path.loss
	if lost {
		p.path.lost++
		return
	}
	for n := 1; n > 0; n-- {
		d := p.path.delay
		if p.path.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(p.path.jitter)))
		}
		if p.path.dup > 0 && w.rng.Float64() < p.path.dup {
			n++
		}
		w.order++
		c := in
		c.Payload = buffer.MakeWithData(text)
		heap.Push(&w.queue, arrival{w.now + d, w.order, p.other, c})
	}
}

// Count implements Owner.
func (p *peer) Count(c Counter, n uint64) { p.counts[c] += n }

// Rand implements Owner.
func (p *peer) Rand() *rand.Rand { return p.w.rng }

// AnnouncedMSS implements Owner.
func (p *peer) AnnouncedMSS() uint16 { return 65535 }

// PathMTU implements Owner.
func (p *peer) PathMTU(int, bool) PathMTU { return p.finder }

// NewController implements Owner.
func (p *peer) NewController() congestion.Controller { return reno.New() }

// Budget implements Owner.
func (p *peer) Budget(n int) Pressure {
	p.held += n
	if p.held < 0 {
		p.w.t.Fatalf("returned more memory than was reserved: %d", p.held)
	}
	return p.pressure
}

// step goes to the next arrival or deadline; false if there is none before end.
func (w *world) step(end Time) bool {
	at, who := Time(0), (*peer)(nil)
	for _, p := range []*peer{w.a, w.b} {
		if d := p.Deadline(); d != 0 && (at == 0 || d < at) {
			at, who = d, p
		}
	}
	if len(w.queue) > 0 && (who == nil || w.queue[0].at <= at) {
		at, who = w.queue[0].at, nil
	}
	if at == 0 || at > end {
		w.now = max(w.now, end)
		return false
	}
	w.now = max(w.now, at)
	if w.steps++; w.steps > 5_000_000 {
		w.t.Fatal("the run does not end")
	}
	if who != nil {
		who.OnTimer(w.now)
		w.after(who)
		return true
	}
	x := heap.Pop(&w.queue).(arrival)
	if x.to.syn && x.to.state == StateClosed && x.seg.Flags.Has(SYN) && !x.seg.Flags.Has(ACK) {
		x.to.syn = false
		x.to.OpenPassive(w.now, &x.to.params, &x.seg)
	} else if x.to.state == StateClosed {
		if o, ok := Reset(&x.seg); ok {
			x.to.Transmit(&o)
		}
	} else {
		x.to.SegmentArrives(w.now, &x.seg)
	}
	x.seg.Payload.Release()
	w.after(x.to)
	return true
}

// after plays the user and checks invariants.
func (w *world) after(p *peer) {
	p.events |= p.TakeEvents()
	if p.reads && p.ReadSize() > 0 {
		if _, err := p.Read(w.now, &p.received, p.ReadSize(), false); err != nil {
			w.t.Fatal(err)
		}
	}
	p.check()
}

func (p *peer) check() {
	p.w.t.Helper()
	if err := verify(&p.TCB); err != nil {
		p.w.t.Fatalf("%v: %v: %v", p.w.now, p.state, err)
	}
}

// run steps until end.
func (w *world) run(d time.Duration) {
	for end := w.now + d; w.step(end); {
	}
}

// until steps until ok or fails after limit.
func (w *world) until(limit time.Duration, ok func() bool) {
	w.t.Helper()
	for end := w.now + limit; !ok(); {
		if !w.step(end) && !ok() {
			w.t.Fatalf("not reached after %v: a %v b %v", limit, w.a.state, w.b.state)
		}
	}
}

// connect opens from a to b.
func (w *world) connect() {
	w.t.Helper()
	w.a.OpenActive(w.now, &w.a.params)
	w.until(time.Minute, func() bool { return w.a.state == StateEstablished && w.b.state == StateEstablished })
}

// write queues all of data, waiting for room as a user would.
func (w *world) write(p *peer, data []byte) {
	w.t.Helper()
	r := bytes.NewReader(data)
	for r.Len() > 0 {
		n, err := p.Write(w.now, r, r.Len(), false, false)
		if err != nil && err != io.EOF {
			w.t.Fatal(err)
		}
		w.after(p)
		if n == 0 {
			if p.reason != ReasonNone {
				w.t.Fatalf("connection failed: %v", p.reason)
			}
			w.until(10*time.Minute, func() bool { return p.WriteSpace() > 0 })
		}
	}
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
