package tcpx

import (
	"bytes"
	"math/rand"
	"sync"
	"testing"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// The backlog keeps the order of each goroutine that pushes, loses nothing, and knows its size.
func TestBacklogOrder(t *testing.T) {
	const producers, each = 4, 5000
	var b backlog
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				s := &inbound{size: 1}
				s.seg.Seq, s.seg.Ack = tcb.Seq(i), tcb.Seq(p)
				if !b.push(s, 1<<40) {
					t.Error("refused")
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var next [producers]tcb.Seq
	total := 0
	take := func() {
		for s := b.takeAll(); s != nil; s = s.next {
			if s.seg.Seq != next[s.seg.Ack] {
				t.Fatalf("producer %d: got %d, want %d", s.seg.Ack, s.seg.Seq, next[s.seg.Ack])
			}
			next[s.seg.Ack]++
			total++
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		take()
	}
	take()
	if total != producers*each || b.bytes.Load() != 0 || !b.empty() {
		t.Errorf("%d taken, %d bytes left", total, b.bytes.Load())
	}
}

func TestBacklogLimit(t *testing.T) {
	var b backlog
	for i, tt := range []struct {
		size int32
		want bool
	}{{1000, true}, {1, false}, {1, false}} { // One packet always fits, whatever its size.
		if got := b.push(&inbound{size: tt.size}, 500); got != tt.want {
			t.Errorf("push %d: %v", i, got)
		}
	}
	b.takeAll()
	if !b.push(&inbound{size: 400}, 500) || !b.push(&inbound{size: 100}, 500) || b.push(&inbound{size: 1}, 500) {
		t.Error("the limit is not exact")
	}
}

// While a user call holds the endpoint, packets wait; beyond the limit they are dropped and counted.
func TestBacklogWhileLocked(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	s.lock()
	c.write("hello")
	if s.backlog.empty() {
		t.Error("nothing in the backlog")
	}
	s.leave()
	s.wantRead("hello")

	s.ops.SetReceiveBufferSize(1, false)
	s.ops.SetSendBufferSize(1, false)
	s.lock()
	for range 200 {
		w.a.inject(w.b, control{flags: tcb.ACK}) // Not for s: goes elsewhere.
		c.tcb.Settings.NoDelay = true
		c.write("x")
	}
	s.leave()
	if st := s.statistics(); st.ReceiveErrors.SegmentQueueDropped.Value() == 0 {
		t.Error("no packet was dropped")
	}
	s.Abort()
	s.Close()
	c.Close()
}

// What waited in the backlog is answered by one ACK (RFC 9293 MUST-58, MUST-59).
func TestBacklogIsAnsweredOnce(t *testing.T) {
	w := newWorld(t)
	c, s := w.connect()
	c.ops.SetDelayOption(false)
	acks := func() int {
		return w.b.wire.count(func(p *packet) bool { return p.flags() == tcb.ACK && p.payload == 0 })
	}
	s.lock()
	for range 5 {
		c.write("hello")
	}
	before := acks()
	s.leave()
	w.run(time.Second) // for a delayed ACK
	if got := acks() - before; got != 1 {
		t.Errorf("%d ACKs for five queued segments", got)
	}
	s.wantRead("hellohellohellohellohello")
}

// Two endpoints of one stack that send to each other from many goroutines: no deadlock, nothing lost. It is the race detector that makes this test.
func TestConcurrentLoopback(t *testing.T) {
	w := newWorld(t)
	l := w.a.listen(80, 10)
	const rounds = 300
	var wg sync.WaitGroup
	for pair := range 3 {
		c := w.a.socket(ipv4.ProtocolNumber)
		c.want(c.Connect(tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), Port: 80}), &tcpip.ErrConnectStarted{})
		s := l.accept()
		for i, e := range []*socket{c, s} {
			data := make([]byte, 1000)
			rand.New(rand.NewSource(int64(pair*2 + i))).Read(data)
			wg.Go(func() { sendAll(e, data, rounds) })
			peer := [...]*socket{s, c}[i]
			wg.Go(func() { receiveAll(t, peer, data, rounds) })
		}
		wg.Go(func() {
			for range rounds {
				c.TCPInfo()
				s.Readiness(waiter.AllEvents)
				s.ops.SetDelayOption(false)
				c.Stats()
			}
		})
		defer s.Close()
		defer c.Close()
	}
	wg.Wait()
	l.Close()
}

func sendAll(e *socket, data []byte, rounds int) {
	entry, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	for range rounds {
		for r := bytes.NewReader(data); r.Len() > 0; {
			if _, err := e.Write(r, tcpip.WriteOptions{}); err != nil {
				<-ch
			}
		}
	}
}

func receiveAll(t *testing.T, e *socket, want []byte, rounds int) {
	entry, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	var b bytes.Buffer
	for b.Len() < rounds*len(want) {
		if _, err := e.Read(&b, tcpip.ReadOptions{}); err != nil {
			if _, wait := err.(*tcpip.ErrWouldBlock); !wait {
				t.Errorf("read: %v", err)
				return
			}
			<-ch
		}
	}
	if !bytes.Equal(b.Bytes(), bytes.Repeat(want, rounds)) {
		t.Error("data differ")
	}
}

// Whoever closes a listener, aborts and times out at the same time must not deadlock or leave anything behind.
func TestConcurrentTeardown(t *testing.T) {
	for seed := range 30 {
		w := newWorld(t)
		l := w.b.listen(80, 4)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				c := w.a.socket(ipv4.ProtocolNumber)
				c.Connect(w.b.at(80))
				if (seed+i)%2 == 0 {
					c.Abort()
				}
				c.Close()
			})
		}
		wg.Go(func() {
			if e, _, err := l.Accept(nil); err == nil {
				e.Close()
			}
		})
		wg.Go(l.Close)
		wg.Go(func() { w.b.protocol().Pause(); w.b.protocol().Resume() })
		wg.Wait()
		w.run(10 * time.Minute)
		for _, h := range []*host{w.a, w.b} {
			if n := len(h.stack.RegisteredEndpoints()); n != 0 {
				t.Errorf("seed %d: %d endpoints left", seed, n)
			}
			if n := MemoryInUse(h.stack); n != 0 {
				t.Errorf("seed %d: %d bytes of memory left", seed, n)
			}
		}
	}
}

func TestEndpointSize(t *testing.T) {
	// The allocator rounds up to the next size class, of which 1152 is one and 1280 the next.
	if n := unsafe.Sizeof(Endpoint{}); n > 1152 {
		t.Errorf("an endpoint takes %d bytes, want 1152 at most", n)
	} else {
		t.Logf("an endpoint takes %d bytes, %d of them the core's, %d SocketOptions", n, unsafe.Sizeof(tcb.TCB{}), unsafe.Sizeof(tcpip.SocketOptions{}))
	}
}

func TestMemoryPressure(t *testing.T) {
	a := account{limit: 1000}
	for _, tt := range []struct {
		add  int
		want tcb.Pressure
	}{{499, tcb.PressureNone}, {1, tcb.PressureModerate}, {250, tcb.PressureHigh}, {250, tcb.PressureExhausted}, {-1, tcb.PressureHigh}, {-999, tcb.PressureNone}} {
		if got := a.add(tt.add); got != tt.want {
			t.Errorf("after %+d: %v, want %v", tt.add, got, tt.want)
		}
	}
	none := account{}
	if none.add(1<<50) != tcb.PressureNone {
		t.Error("pressure without a limit")
	}
}

// Without memory new connections are refused, and what is held is given back in the end.
func TestMemoryBudget(t *testing.T) {
	w := newWorld(t, WithMemoryBudget(100<<10))
	l := w.b.listen(80, 10)
	c := w.a.dial(w.b.at(80))
	s := l.accept()
	chunk := make([]byte, 16<<10)
	for range 20 {
		c.Write(bytes.NewReader(chunk), tcpip.WriteOptions{})
		w.run(time.Second)
	}
	used := MemoryInUse(w.b.stack)
	if used < 50<<10 || used > 200<<10 {
		t.Errorf("%d bytes in use", used)
	}
	w.b.protocol().memory.used.Add(200 << 10)
	d := w.a.dial(w.b.at(80))
	if n := w.b.stack.Stats().TCP.ListenOverflowSynDrop.Value(); n != 1 {
		t.Errorf("%d SYNs dropped", n)
	}
	w.b.protocol().memory.used.Add(-200 << 10)
	for _, x := range []*socket{d, c, s, l} {
		x.Abort()
		x.Close()
	}
	if a, b := MemoryInUse(w.a.stack), MemoryInUse(w.b.stack); a != 0 || b != 0 {
		t.Errorf("left in use: %d and %d bytes", a, b)
	}
}

func TestISN(t *testing.T) {
	w := newWorld(t)
	p := w.a.protocol()
	s := &inbound{}
	s.id.LocalAddress, s.id.RemoteAddress, s.id.LocalPort = w.a.v4, w.b.v4, 1
	now := time.Hour
	x := p.isn(&s.id, now)
	if y := p.isn(&s.id, now+4*time.Millisecond); y-x != 1000 {
		t.Errorf("the clock moved by %d in 4 ms, want 1000", y-x)
	}
	other := s.id
	other.LocalPort++
	if p.isn(&other, now) == x {
		t.Error("another port has the same ISN")
	}
	if w.b.protocol().isn(&s.id, now) == x {
		t.Error("another stack has the same ISN")
	}
	if p.timestampOffset(&other) != p.timestampOffset(&s.id) {
		t.Error("the timestamp offset depends on the ports")
	}
}
