package fq

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/target/vclock"
)

func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	code := m.Run()
	refs.DoLeakCheck()
	os.Exit(code)
}

// link notes what is sent through it, as "flow@time".
type link struct {
	clock *vclock.Clock
	mu    sync.Mutex
	sent  []string
	bytes map[uint32]int
	// take is how many packets it takes before it has no room; negative for all.
	take int
	err  tcpip.Error
	// answer is called for each packet.
	answer func()
}

func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range list.AsSlice() {
		l.mu.Lock()
		if l.take == 0 {
			l.mu.Unlock()
			return i, l.err
		}
		l.take--
		l.sent = append(l.sent, fmt.Sprintf("%d@%v", pkt.Hash, l.clock.Elapsed()))
		l.bytes[pkt.Hash] += pkt.Size()
		l.mu.Unlock()
		if l.answer != nil {
			l.answer()
		}
	}
	return list.Len(), nil
}

func newLink() *link {
	return &link{clock: vclock.New(), bytes: make(map[uint32]int), take: -1, err: &tcpip.ErrNoBufferSpace{}}
}

// packet makes a packet of a flow.
func packet(flow uint32, size int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, size))})
	pkt.Hash = flow
	return pkt
}

func write(t testing.TB, d *Discipline, flow uint32, size int) tcpip.Error {
	t.Helper()
	pkt := packet(flow, size)
	defer pkt.DecRef()
	return d.WritePacket(pkt)
}

func mustWrite(t testing.TB, d *Discipline, flow uint32, size, n int) {
	t.Helper()
	for range n {
		if err := write(t, d, flow, size); err != nil {
			t.Fatalf("WritePacket: %v", err)
		}
	}
}

// run lets virtual time pass.
func (l *link) run(d time.Duration) {
	for end := l.clock.Elapsed() + d; l.clock.Step(end); {
	}
}

func TestWithoutRatesEverythingLeavesAtOnce(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{})
	defer d.Close()
	mustWrite(t, d, 1, 1000, 3)
	if want := []string{"1@0s", "1@0s", "1@0s"}; !slices.Equal(l.sent, want) {
		t.Errorf("sent %v, want %v", l.sent, want)
	}
	if s := d.Stats(); s.Sent != 3 || s.Waiting != 0 || s.Flows != 0 {
		t.Errorf("%+v", s)
	}
}

func TestFlowRatePacesEachFlow(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{FlowRate: 100_000}) // 1000 bytes are 10 ms
	defer d.Close()
	mustWrite(t, d, 1, 1000, 3)
	l.run(5 * time.Millisecond)
	mustWrite(t, d, 2, 1000, 2)
	l.run(time.Second)
	// The first packet uses the millisecond that passed unused before it.
	want := []string{"1@0s", "2@5ms", "1@9ms", "2@14ms", "1@19ms"}
	if !slices.Equal(l.sent, want) {
		t.Errorf("sent %v, want %v", l.sent, want)
	}
	if s := d.Stats(); s.Flows != 0 {
		t.Errorf("%d flows are remembered", s.Flows)
	}
}

func TestLinkRateIsSharedFairly(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{LinkRate: 1_000_000, FlowLimit: 1000})
	defer d.Close()
	// Large and small packets, many and few: each flow with enough to send gets the same share of bytes.
	for range 500 {
		mustWrite(t, d, 1, 1500, 1)
		mustWrite(t, d, 2, 300, 2)
		mustWrite(t, d, 3, 64, 1)
	}
	l.run(200 * time.Millisecond)
	a, b, c := l.bytes[1], l.bytes[2], l.bytes[3]
	if total := a + b + c; total < 198_000 || total > 204_000 {
		t.Errorf("%d bytes left in 200 ms at 1 MB/s", total)
	}
	if c != 500*64 {
		t.Errorf("the flow that asks for less than its share sent %d bytes of %d", c, 500*64)
	}
	if diff := a - b; diff > 2*3028 || diff < -2*3028 {
		t.Errorf("two flows with enough to send sent %d and %d bytes", a, b)
	}
}

func TestSparseFlowGoesFirst(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{LinkRate: 1_000_000})
	defer d.Close()
	for flow := range uint32(10) {
		mustWrite(t, d, 10+flow, 1500, 50)
	}
	l.run(100 * time.Millisecond) // all have had their first turn
	n := len(l.sent)
	mustWrite(t, d, 2, 100, 1)
	l.run(3 * time.Millisecond)
	if at := slices.IndexFunc(l.sent, func(s string) bool { return s[0] == '2' }); at != n {
		t.Errorf("the sparse flow's packet was number %d behind %d that had left: %v", at, n, l.sent)
	}
}

// A flow whose next packet comes when others have had their turn is not new each time (RFC 8290 §4.2), or it would get half of the link.
func TestSinglePacketsTakeTurns(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{LinkRate: 1_000_000})
	defer d.Close()
	others, written := 0, 0
	l.answer = func() {
		if n := l.bytes[1] + l.bytes[3] + l.bytes[4] + l.bytes[5]; n > others {
			others = n
			if l.bytes[2] == written {
				written += 1500
				mustWrite(t, d, 2, 1500, 1)
			}
		}
	}
	for range 100 {
		for _, flow := range []uint32{1, 3, 4, 5} {
			mustWrite(t, d, flow, 1500, 1)
		}
	}
	l.run(300 * time.Millisecond)
	if share := float64(l.bytes[2]) / float64(l.bytes[2]+others); share > 0.25 {
		t.Errorf("one of five flows got %.2f of the link", share)
	}
}

// Time that passed unused is made up for by a millisecond and no more.
func TestUnusedTimeIsNotSaved(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{LinkRate: 1_000_000}) // 100 bytes are 0.1 ms
	defer d.Close()
	mustWrite(t, d, 1, 100, 1)
	l.run(500 * time.Millisecond)
	l.sent = nil
	mustWrite(t, d, 1, 100, 50)
	if n := len(l.sent); n < 10 || n > 11 {
		t.Errorf("%d packets of 0.1 ms left at once, want a millisecond's worth", n)
	}
}

// With both rates a packet waits for the later of its flow's time and the link's.
func TestBothRates(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{FlowRate: 100_000, LinkRate: 50_000}) // 1000 bytes are 10 ms of the flow and 20 ms of the link
	defer d.Close()
	mustWrite(t, d, 1, 1000, 3)
	l.run(time.Second)
	if want := []string{"1@0s", "1@19ms", "1@39ms"}; !slices.Equal(l.sent, want) {
		t.Errorf("sent %v, want %v", l.sent, want)
	}
}

// Flows come back from their rest in the order of their times, whatever the order in which they went.
func TestRestEndsInOrder(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{FlowRate: 100_000})
	defer d.Close()
	var want []string
	sizes := []int{900, 300, 1400, 200, 700, 1100, 500, 1300, 400, 1000, 600, 800, 1200}
	for i, size := range sizes {
		mustWrite(t, d, uint32(i+1), size, 2)
		want = append(want, fmt.Sprintf("%d@%v", i+1, time.Duration(size)*10*time.Microsecond-time.Millisecond))
	}
	first := len(l.sent)
	l.run(time.Second)
	got := slices.Clone(l.sent[first:])
	byTime := slices.Clone(want)
	slices.SortFunc(byTime, func(a, b string) int {
		var x, y int
		fmt.Sscanf(a, "%d@", &x)
		fmt.Sscanf(b, "%d@", &y)
		return sizes[x-1] - sizes[y-1]
	})
	if !slices.Equal(got, byTime) {
		t.Errorf("sent %v, want %v", got, byTime)
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  Options
		flows []uint32
		want  Stats
	}{
		{"in all", Options{Limit: 3, LinkRate: 1}, []uint32{1, 2, 3, 4, 5, 6}, Stats{Refused: 2}},
		{"of one flow", Options{FlowLimit: 2, LinkRate: 1}, []uint32{1, 1, 1, 1, 2}, Stats{Refused: 1, FlowRefused: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLink()
			d := New(l, l.clock, tc.opts)
			defer d.Close()
			for _, f := range tc.flows {
				if err := write(t, d, f, 1000); err != nil {
					if _, ok := err.(*tcpip.ErrNoBufferSpace); !ok {
						t.Errorf("refused with %v", err)
					}
				}
			}
			if s := d.Stats(); s.Refused != tc.want.Refused || s.FlowRefused != tc.want.FlowRefused {
				t.Errorf("%+v, want %+v", s, tc.want)
			}
		})
	}
}

func TestRefusedByTheLinkIsTriedAgain(t *testing.T) {
	l := newLink()
	l.take = 2
	d := New(l, l.clock, Options{})
	defer d.Close()
	mustWrite(t, d, 1, 1000, 5)
	if len(l.sent) != 2 {
		t.Fatalf("sent %v", l.sent)
	}
	l.take = 1
	l.run(time.Millisecond)
	l.take = -1
	l.run(time.Millisecond)
	if want := []string{"1@0s", "1@0s", "1@1ms", "1@2ms", "1@2ms"}; !slices.Equal(l.sent, want) {
		t.Errorf("sent %v, want %v", l.sent, want)
	}
	if s := d.Stats(); s.Waiting != 0 || s.Sent != 5 || s.Dropped != 0 || s.LinkRefused < 2 {
		t.Errorf("%+v", s)
	}
}

func TestFailureOfTheLinkDrops(t *testing.T) {
	l := newLink()
	l.take, l.err = 0, &tcpip.ErrClosedForSend{}
	d := New(l, l.clock, Options{})
	defer d.Close()
	mustWrite(t, d, 1, 1000, 2)
	if s := d.Stats(); s.Dropped != 2 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// What answers a packet at once, from within the link, waits for its turn.
func TestAnswerFromWithinTheLink(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{})
	defer d.Close()
	n := 0
	l.answer = func() {
		if n++; n < 5 {
			mustWrite(t, d, uint32(n), 100, 1)
		}
	}
	mustWrite(t, d, 9, 100, 1)
	if len(l.sent) != 5 {
		t.Errorf("sent %v", l.sent)
	}
}

func TestClose(t *testing.T) {
	l := newLink()
	d := New(l, l.clock, Options{LinkRate: 1000, FlowRate: 10})
	mustWrite(t, d, 1, 1000, 5)
	mustWrite(t, d, 2, 1000, 5)
	d.Close()
	d.Close()
	if _, ok := write(t, d, 1, 1000).(*tcpip.ErrClosedForSend); !ok {
		t.Error("a packet was accepted after Close")
	}
	if l.clock.Armed() != 0 {
		t.Error("a timer is armed after Close")
	}
	n := len(l.sent)
	l.run(time.Hour)
	if len(l.sent) != n {
		t.Error("a packet left after Close")
	}
}

// Packets without a hash are told apart by what they carry.
func TestFlowsWithoutHash(t *testing.T) {
	d, other := New(newLink(), vclock.New(), Options{Seed: 7}), New(newLink(), vclock.New(), Options{Seed: 8})
	keyOf := d.key
	ports := func(src, dst byte, fragment uint16) uint32 {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 100})
		defer pkt.DecRef()
		copy(pkt.TransportHeader().Push(8), []byte{0, src, 0, dst})
		ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{Protocol: 17, FragmentOffset: fragment, SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2})})
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
		return keyOf(pkt)
	}
	first := ports(1, 2, 0)
	if again := ports(1, 2, 0); again != first {
		t.Error("a flow has two keys")
	}
	if first == ports(1, 3, 0) || first == ports(2, 2, 0) {
		t.Error("ports do not tell flows apart")
	}
	if ports(1, 2, 800) != ports(3, 4, 800) {
		t.Error("what a fragment carries was taken for ports")
	}
	if keyOf = other.key; ports(1, 2, 0) == first {
		t.Error("the seed makes no difference")
	}
}

func TestConcurrentUse(t *testing.T) {
	l := newLink()
	d := New(l, tcpip.NewStdClock(), Options{Limit: 100, LinkRate: 1 << 30})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				pkt := packet(uint32(g*10+i%7+1), 500)
				d.WritePacket(pkt)
				pkt.DecRef()
			}
		})
	}
	wg.Wait()
	d.Close()
	if s := d.Stats(); s.Sent+s.Refused > 8000 || s.Sent == 0 {
		t.Errorf("%+v", s)
	}
}

// In the steady state a packet costs no memory.
func TestAllocations(t *testing.T) {
	l := newLink()
	d := New(discard{}, l.clock, Options{})
	defer d.Close()
	pkt := packet(1, 1000)
	defer pkt.DecRef()
	flow := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		flow = flow%64 + 1
		pkt.Hash = flow
		d.WritePacket(pkt)
	}); n > 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

type discard struct{}

func (discard) WritePackets(l stack.PacketBufferList) (int, tcpip.Error) { return l.Len(), nil }

func BenchmarkWritePacket(b *testing.B) {
	for _, flows := range []uint32{1, 100} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			d := New(discard{}, tcpip.NewStdClock(), Options{})
			defer d.Close()
			pkt := packet(1, 1000)
			defer pkt.DecRef()
			b.ReportAllocs()
			for i := range b.N {
				pkt.Hash = uint32(i)%flows + 1
				d.WritePacket(pkt)
			}
		})
	}
}
