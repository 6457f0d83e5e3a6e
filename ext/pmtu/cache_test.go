package pmtu

import (
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/conformance/target/vclock"
)

var (
	dest4 = Path{Remote: tcpip.AddrFrom4([4]byte{192, 0, 2, 1})}
	dest6 = Path{Remote: tcpip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})}
)

func TestTooBig(t *testing.T) {
	type report struct {
		mtu, size uint32
		want      Verdict
		after     uint32
	}
	tests := []struct {
		name    string
		path    Path
		link    uint32
		opts    Options
		reports []report
	}{
		{"an honest error", dest4, 1500, Options{}, []report{{1400, 1500, Lowered, 1400}, {1300, 1400, Lowered, 1300}}},
		{"never an increase", dest4, 1500, Options{}, []report{{1400, 1500, Lowered, 1400}, {1400, 1500, RefusedRaise, 1400}, {1450, 1500, RefusedRaise, 1400}}},
		{"larger than the link", dest4, 1500, Options{}, []report{{9000, 0, RefusedRaise, 1500}}},
		{"the packet would have fit", dest4, 1500, Options{}, []report{{1400, 1400, RefusedAbsurd, 1500}, {1400, 60, RefusedAbsurd, 1500}}},
		{"no MTU: plateaus by the packet's size", dest4, 1500, Options{}, []report{{0, 1500, Lowered, 1492}, {0, 1492, Lowered, 1280}, {0, 1280, Lowered, 1006}, {0, 900, Lowered, 576}, {0, 576, Lowered, 552}, {0, 552, RefusedRaise, 552}}},
		{"no MTU, no size: plateaus by what is in use", dest4, 1500, Options{}, []report{{0, 0, Lowered, 1492}, {0, 0, Lowered, 1280}}},
		{"no MTU: one burst is one error", dest4, 1500, Options{}, []report{{0, 1500, Lowered, 1492}, {0, 1500, RefusedRaise, 1492}, {0, 1500, RefusedRaise, 1492}, {0, 1492, Lowered, 1280}, {0, 1492, RefusedRaise, 1280}}},
		{"MTU 1", dest4, 1500, Options{}, []report{{1, 1500, Lowered, 1492}}},
		{"MTU 68 stops at the floor", dest4, 1500, Options{}, []report{{68, 1500, Lowered, 552}, {68, 552, RefusedRaise, 552}}},
		{"a floor of one's own", dest4, 1500, Options{FloorIPv4: 576}, []report{{68, 1500, Lowered, 576}}},
		{"IPv6", dest6, 1500, Options{}, []report{{1279, 1500, RefusedAbsurd, 1500}, {0, 1500, RefusedAbsurd, 1500}, {1280, 1500, Lowered, 1280}, {68, 1280, RefusedAbsurd, 1280}}},
		{"jumbo", dest4, 9000, Options{}, []report{{0, 9000, Lowered, 8166}, {1500, 8166, Lowered, 1500}}},
		{"forged", dest4, 1500, Options{Validate: func(_ Path, r Report) bool { return r.Size == 1500 }}, []report{{1400, 1499, RefusedForged, 1500}, {1400, 1500, Lowered, 1400}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var changes []uint32
			tt.opts.OnChange = func(e Entry) { changes = append(changes, e.MTU) }
			c := New(vclock.New(), tt.opts)
			lowered := 0
			for i, r := range tt.reports {
				if v := c.TooBig(tt.path, tt.link, Report{MTU: r.mtu, Size: r.size}); v != r.want {
					t.Errorf("report %d (MTU %d): %v, want %v", i, r.mtu, v, r.want)
				}
				if got := c.MTU(tt.path, tt.link); got != r.after {
					t.Errorf("report %d (MTU %d): MTU is %d, want %d", i, r.mtu, got, r.after)
				}
				if r.want == Lowered {
					lowered++
				}
			}
			if len(changes) != lowered || c.Stats().Verdicts[Lowered] != uint64(lowered) {
				t.Errorf("changes %v, stats %v; want %d", changes, c.Stats(), lowered)
			}
		})
	}
}

func TestBelowTheFloorPacketsGoWithoutDF(t *testing.T) {
	c := New(vclock.New(), Options{})
	c.TooBig(dest4, 1500, Report{MTU: 300, Size: 1500})
	if e, ok := c.Lookup(dest4, 1500); !ok || !e.Fragment || e.MTU != 552 {
		t.Errorf("entry %+v", e)
	}
}

func TestExpiry(t *testing.T) {
	clock := vclock.New()
	pass := func(d time.Duration) {
		for limit := clock.Elapsed() + d; clock.Step(limit); {
		}
	}
	c := New(clock, Options{})
	c.TooBig(dest4, 1500, Report{MTU: 1300, Size: 1500})
	pass(10*time.Minute - 1)
	if got := c.MTU(dest4, 1500); got != 1300 {
		t.Errorf("MTU %d before it expires", got)
	}
	pass(1)
	if got := c.MTU(dest4, 1500); got != 1500 || c.Len() != 0 || c.Stats().Expired != 1 {
		t.Errorf("MTU %d after it expired", got)
	}

	c = New(clock, Options{Raise: RaiseByPlateau})
	c.TooBig(dest4, 9000, Report{MTU: 600, Size: 1500})
	var got []uint32
	pass(10 * time.Minute)
	for range 8 {
		got = append(got, c.MTU(dest4, 9000))
		pass(2 * time.Minute)
	}
	if want := []uint32{1006, 1280, 1492, 1500, 2002, 4352, 8166, 9000}; !slices.Equal(got, want) {
		t.Errorf("MTUs %v, want %v", got, want)
	}
	c.TooBig(dest4, 1500, Report{MTU: 600, Size: 1500})
	pass(time.Hour)
	if got := c.MTU(dest4, 1500); got != 1500 {
		t.Errorf("MTU %d after an hour unasked", got)
	}
}

func TestBoundListAndFlush(t *testing.T) {
	c := New(vclock.New(), Options{MaxEntries: 100})
	via := Path{NIC: 2, NextHop: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), Remote: dest4.Remote}
	c.TooBig(dest4, 1500, Report{MTU: 1400})
	c.TooBig(via, 1500, Report{MTU: 1300})
	for i := range 10000 {
		c.TooBig(Path{Remote: tcpip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}, 1500, Report{MTU: 1280})
		if got := c.MTU(dest4, 1500); got != 1400 {
			t.Fatalf("a path in use was evicted: MTU %d", got)
		}
		c.MTU(via, 1500)
	}
	all := c.Entries()
	if len(all) != 100 || c.Stats().Evicted != 10002-100 {
		t.Errorf("%d entries, %d evicted", len(all), c.Stats().Evicted)
	}
	if last := all[99]; last.Path != via || last.MTU != 1300 || last.Path.String() != "192.0.2.1 via 10.0.0.1 dev 2" {
		t.Errorf("last entry %v", last)
	}
	if n := c.Flush(func(e Entry) bool { return e.MTU == 1280 }); n != 98 || c.Len() != 2 {
		t.Errorf("flushed %d, %d left", n, c.Len())
	}
	c.Flush(nil)
	if c.MTU(dest4, 1500) != 1500 {
		t.Error("an entry survived")
	}
}

func TestFlowsShareWhatTheyLearn(t *testing.T) {
	clock := vclock.New()
	c := New(clock, Options{})
	a, b := c.Flow(dest4, 1500, Config{}), c.Flow(dest4, 1500, Config{})
	check := func(f *Flow, mtu uint32, changed bool) {
		t.Helper()
		if m, ch := f.MTU(); m != mtu || ch != changed {
			t.Errorf("MTU %d, changed %v; want %d, %v", m, ch, mtu, changed)
		}
	}
	check(a, 1500, false)
	a.TooBig(Report{MTU: 1400, Size: 1500})
	check(a, 1400, true)
	check(a, 1400, false)
	check(b, 1400, true)
	check(c.Flow(dest4, 1500, Config{}), 1400, false)
	for clock.Step(10 * time.Minute) {
	}
	check(a, 1500, true) // it expired
	check(b, 1500, true)

	// What one flow finds by probing, another starts with.
	p := c.Flow(dest4, 1500, Config{Mode: Always})
	p.Start()
	for size, ok := p.Probe(); ok; size, ok = p.Probe() {
		p.ProbeSent()
		if size <= 1420 {
			p.Acked(size)
		} else {
			p.ProbeLost()
		}
	}
	check(p, 1420, true)
	check(a, 1420, true)
	q := c.Flow(dest4, 1500, Config{Mode: Always})
	q.Start()
	if q.State() != Complete {
		t.Errorf("state %v", q.State())
	}
	check(q, 1420, true)

	v6 := c.Flow(dest6, 1500, Config{Mode: Always})
	check(v6, 1280, false)
}

func TestFlowFallsIntoABlackHoleAndClimbsOut(t *testing.T) {
	c := New(vclock.New(), Options{})
	f := c.Flow(dest4, 1500, Config{Mode: OnBlackHole})
	f.Start()
	if f.TimedOut(1500) || !f.TimedOut(1500) {
		t.Fatal("not found at the second timeout")
	}
	if mtu, changed := f.MTU(); mtu != 552 || !changed { // nothing at all has arrived
		t.Errorf("MTU %d", mtu)
	}
	for size, ok := f.Probe(); ok; size, ok = f.Probe() {
		f.ProbeSent()
		if size <= 1400 {
			f.Acked(size)
		} else {
			f.ProbeLost()
		}
	}
	if mtu, _ := f.MTU(); mtu > 1400 || mtu <= 1400-16 {
		t.Errorf("MTU %d, want 1400 less at most a step", mtu)
	}
}

// TestFlowHeedsTheCache: a search starts within what routers said, and below Base if they said so.
func TestFlowHeedsTheCache(t *testing.T) {
	for _, tt := range []struct {
		mode       Mode
		icmp, want uint32
		state      State
	}{
		{Always, 1000, 1000, Error}, {Always, 1300, 1300, Complete}, {Always, 1200, 1200, Complete},
		{OnBlackHole, 1000, 1000, Disabled}, {Off, 1000, 1000, Disabled}, {Off, 300, 552, Disabled},
	} {
		c := New(vclock.New(), Options{})
		c.TooBig(dest4, 1500, Report{MTU: tt.icmp, Size: 1500})
		f := c.Flow(dest4, 1500, Config{Mode: tt.mode})
		if mtu := f.Current(); mtu > tt.want {
			t.Errorf("%+v: MTU %d before anything was sent", tt, mtu)
		}
		f.Start()
		probe(f, 1500)
		if mtu, _ := f.MTU(); mtu != tt.want || f.State() != tt.state || f.Fragment() != (tt.icmp < 552) {
			t.Errorf("%+v: MTU %d, state %v, fragment %v", tt, mtu, f.State(), f.Fragment())
		}
	}
}

// probe lets a flow probe a path that carries mtu, and loses what is larger.
func probe(f *Flow, mtu uint32) {
	for size, ok := f.Probe(); ok; size, ok = f.Probe() {
		f.ProbeSent()
		if size <= mtu {
			f.Acked(size)
		} else {
			f.ProbeLost()
		}
	}
}

// TestFlowByTimer: nobody tells of losses, as with UDP: whoever ticks at Deadline finds the MTU all the same, and searches again when that is due.
func TestFlowByTimer(t *testing.T) {
	clock := vclock.New()
	c := New(clock, Options{})
	f := c.Flow(dest4, 1500, Config{Mode: Always})
	f.Start()
	find := func(mtu uint32) {
		t.Helper()
		for n := 0; ; n++ {
			if size, ok := f.Probe(); ok {
				f.ProbeSent()
				if size <= mtu {
					f.Acked(size)
					continue
				}
			}
			wait, ok := f.Deadline()
			if !ok || n > 100 {
				t.Fatalf("state %v: due %v, %d probes", f.State(), ok, n)
			}
			if wait >= 9*time.Minute {
				break
			}
			for end := clock.Elapsed() + wait; clock.Step(end); {
			}
			f.Tick()
		}
		if got, _ := f.MTU(); got > mtu || got <= mtu-16 || f.State() != Complete || c.MTU(dest4, 1500) != got {
			t.Errorf("MTU %d on a path of %d, state %v, in the cache %d", got, mtu, f.State(), c.MTU(dest4, 1500))
		}
	}
	find(1400)
	wait, _ := f.Deadline()
	for end := clock.Elapsed() + wait; clock.Step(end); {
	}
	f.Tick()
	find(1500)
}

// TestLimitIsNotThePath: a peer that takes small packets only says nothing of the path, and nobody else hears of it.
func TestLimitIsNotThePath(t *testing.T) {
	c := New(vclock.New(), Options{})
	f := c.Flow(dest4, 1500, Config{Mode: Always})
	f.Limit(1340)
	f.Start()
	probe(f, 1500)
	if mtu, _ := f.MTU(); mtu != 1340 || f.State() != Complete || c.Len() != 0 {
		t.Errorf("MTU %d, state %v, %d entries", mtu, f.State(), c.Len())
	}
	f.Limit(0)
	probe(f, 1500)
	if mtu, _ := f.MTU(); mtu != 1500 {
		t.Errorf("MTU %d without limit", mtu)
	}
	f.Limit(400)
	if mtu, _ := f.MTU(); mtu != 400 {
		t.Errorf("MTU %d with a limit below the floor", mtu)
	}
	c.TooBig(dest4, 1500, Report{MTU: 900})
	g := c.Flow(dest4, 1500, Config{})
	g.Limit(800)
	if mtu, _ := g.MTU(); mtu != 800 {
		t.Errorf("MTU %d, limit 800", mtu)
	}
	g.Limit(0)
	if mtu, _ := g.MTU(); mtu != 900 {
		t.Errorf("MTU %d, 900 in the cache", mtu)
	}
}

// TestErrorsAboutProbes: one that names an MTU says what to try next, one that names none ends the size at once; what is in use stays.
func TestErrorsAboutProbes(t *testing.T) {
	for _, tt := range []struct {
		mtu, size, next uint32
	}{
		{1400, 1500, 1400}, {1300, 1500, 0}, {0, 1500, 1400}, {9000, 1500, 1500}, {1500, 1500, 1500},
	} {
		clock := vclock.New()
		c := New(clock, Options{})
		c.Found(dest4, 1500, 1300)
		f := c.Flow(dest4, 1500, Config{Mode: Always})
		f.Start()
		for clock.Step(10 * time.Minute) {
		}
		f.MTU() // begins a new search
		f.ProbeSent()
		f.TooBig(Report{MTU: tt.mtu, Size: tt.size})
		if mtu, _ := f.MTU(); f.m.probe != tt.next || mtu != 1300 {
			t.Errorf("%+v: probe of %d next, MTU %d", tt, f.m.probe, mtu)
		}
	}
}

func BenchmarkFlowMTU(b *testing.B) {
	c := New(vclock.New(), Options{})
	f := c.Flow(dest4, 1500, Config{})
	b.ReportAllocs()
	for b.Loop() {
		f.MTU()
	}
}

func BenchmarkTooBigAttack(b *testing.B) {
	c := New(vclock.New(), Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.TooBig(Path{Remote: tcpip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})}, 1500, Report{MTU: 1400})
	}
}

// TestBlackHoleIsToldAtOnce: a flow that began before one fell into a black hole, and one that begins after, start small and find the MTU by themselves. Flows
// that search already are left alone.
func TestBlackHoleIsToldAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		fall func(f *Flow) bool
		told uint32 // 0 if the cache hears nothing
	}{
		{"large packets are lost among small ones", func(f *Flow) bool {
			f.Lost(1500)
			f.Acked(600)
			f.Lost(1500)
			return f.Lost(1500)
		}, 1200},
		{"time-outs, and Base passes", func(f *Flow) bool {
			f.TimedOut(1500)
			f.Acked(1200)
			return f.TimedOut(1500)
		}, 1200},
		{"time-outs, and something smaller than Base passes", func(f *Flow) bool {
			f.TimedOut(1500)
			f.Acked(552)
			return f.TimedOut(1500)
		}, 552},
		{"time-outs, and nothing passes: the path may be down", func(f *Flow) bool {
			f.TimedOut(1500)
			return f.TimedOut(1500)
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(vclock.New(), Options{})
			begin := func(mode Mode) *Flow {
				f := c.Flow(dest4, 1500, Config{Mode: mode})
				f.Start()
				return f
			}
			before, fallen, off := begin(OnBlackHole), begin(OnBlackHole), begin(Off)
			if !tt.fall(fallen) {
				t.Fatal("no black hole")
			}
			after, always := begin(OnBlackHole), begin(Always)
			want, small := tt.told, tt.told
			if tt.told == 0 {
				want, small = 1500, 1200 // Always begins with Base anyway
			}
			for i, f := range []*Flow{before, after, off, always} {
				w := want
				if f == always {
					w = small
				}
				if mtu, _ := f.MTU(); mtu != w {
					t.Errorf("flow %d: MTU %d, want %d", i, mtu, w)
				}
			}
			e, ok := c.Lookup(dest4, 1500)
			if ok != (tt.told != 0) || ok && (e.MTU != tt.told || e.Origin != FromBlackHole) || c.Announce(dest4, 1500) != want {
				t.Fatalf("entry %+v, to be announced %d", e, c.Announce(dest4, 1500))
			}
			if !ok {
				return
			}
			// What passes is told on the way up, and what was found in the end.
			after.Acked(1200)
			if e, _ := c.Lookup(dest4, 1500); e.MTU != 1200 || e.Origin != FromBlackHole {
				t.Errorf("entry %+v after Base arrived", e)
			}
			probe(after, 1300)
			mtu, _ := after.MTU()
			if e, _ := c.Lookup(dest4, 1500); e.MTU != mtu || mtu <= 1300-16 || mtu > 1300 || e.Origin != FromProbe || after.State() != Complete {
				t.Errorf("entry %+v after the search, state %v, MTU %d", e, after.State(), mtu)
			}
			before.MTU()
			probe(before, 1300)
			if got, _ := before.MTU(); got > 1300 || got <= 1300-16 {
				t.Errorf("the flow that began before has MTU %d", got)
			}
		})
	}
}

// TestAnnounce: what the destination should send depends on black holes of either way, not on what routers said of one.
func TestAnnounce(t *testing.T) {
	clock := vclock.New()
	back := dest4
	back.Inbound = true
	for _, tt := range []struct {
		name string
		do   func(c *Cache)
		want uint32
	}{
		{"nothing known", func(*Cache) {}, 1500},
		{"an ICMP error", func(c *Cache) { c.TooBig(dest4, 1500, Report{MTU: 1300, Size: 1500}) }, 1500},
		{"an ICMP error without MTU", func(c *Cache) { c.TooBig(dest4, 1500, Report{Size: 1500}) }, 1500},
		{"found by probes", func(c *Cache) { c.Found(dest4, 1500, 1300) }, 1300},
		{"a black hole of ours", func(c *Cache) { c.Vanished(dest4, 1500, 1200) }, 1200},
		{"a black hole of theirs", func(c *Cache) { c.Vanished(back, 1500, 1200) }, 1200},
		{"both", func(c *Cache) { c.Vanished(back, 1500, 552); c.Found(dest4, 1500, 1300) }, 552},
		{"never a raise", func(c *Cache) { c.Vanished(back, 1500, 552); c.Vanished(back, 1500, 1200) }, 552},
		{"no less than IPv4 has", func(c *Cache) { c.Vanished(back, 1500, 0) }, 68},
		{"as much as the link has", func(c *Cache) { c.Vanished(back, 1500, 1500) }, 1500},
		{"of another destination", func(c *Cache) { c.Vanished(dest6, 1500, 1280) }, 1500},
	} {
		c := New(clock, Options{})
		tt.do(c)
		if got := c.Announce(dest4, 1500); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
		for clock.Step(clock.Elapsed() + 10*time.Minute) {
		}
		if got := c.Announce(dest4, 1500); got != 1500 {
			t.Errorf("%s: %d after ten minutes", tt.name, got)
		}
	}
	c := New(clock, Options{})
	c.Vanished(back, 1500, 1200)
	c.Vanished(dest4, 1500, 1280)
	if e := c.Entries(); len(e) != 2 || e[0].Path.String() != "192.0.2.1" || e[1].Path.String() != "192.0.2.1 inbound" || c.MTU(dest4, 1500) != 1280 {
		t.Errorf("entries %v", e)
	}
}
