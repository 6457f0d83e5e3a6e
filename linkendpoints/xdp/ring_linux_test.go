//go:build amd64 || arm64

package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

const testFrames = 64

// fakeKernel is the other side of an endpoint's rings, in ordinary memory.
type fakeKernel struct {
	e *Endpoint
	k *socket
	// The indices that a kernel owns.
	rxProducer, completionProducer, txConsumer uint32
}

// ringOffsets is how a ring lies in a fake mapping.
var ringOffsets = unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}

// newFake makes an endpoint with one queue without a kernel behind it.
func newFake(t testing.TB, opts Options) *fakeKernel {
	t.Helper()
	descs := func() *descRing {
		mem := make([]uint64, (192+testFrames*16)/8)
		r, err := newDescRing(unsafe.Slice((*byte)(unsafe.Pointer(&mem[0])), len(mem)*8), ringOffsets, testFrames)
		if err != nil {
			t.Fatal(err)
		}
		r.mem = nil // no mapping to remove
		return r
	}
	addrs := func() *addrRing {
		mem := make([]uint64, (192+testFrames*8)/8)
		r, err := newAddrRing(unsafe.Slice((*byte)(unsafe.Pointer(&mem[0])), len(mem)*8), ringOffsets, testFrames)
		if err != nil {
			t.Fatal(err)
		}
		r.mem = nil
		return r
	}
	k := &socket{fd: -1, rx: descs(), tx: descs(), fill: addrs(), completion: addrs()}
	mem, err := unix.Mmap(-1, 0, 2*testFrames*frameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	s := &sockets{all: []*socket{k}, mem: mem, frames: testFrames, mode: Copy, sg: true, needWakeup: true}
	k.fillAll(0)
	d := Device{Name: "fake", Index: 1, MTU: 9000, LinkAddress: []byte("\x02\x00\x5e\x00\x53\xaa"), Queues: []int{0}}
	f := &fakeKernel{e: newEndpoint(d, s, opts), k: k}
	t.Cleanup(f.e.Close)
	return f
}

// chunk returns the bytes of the memory at an address.
func (f *fakeKernel) chunk(addr uint64) []byte {
	return f.e.sockets.mem[addr:][:frameSize-addr%frameSize]
}

// receive puts descriptors into the receive ring.
func (f *fakeKernel) receive(descs ...unix.XDPDesc) {
	for _, d := range descs {
		f.k.rx.entries[f.rxProducer%testFrames] = d
		f.rxProducer++
	}
	atomic.StoreUint32(f.k.rx.producer, f.rxProducer)
}

// sent takes all descriptors out of the transmit ring.
func (f *fakeKernel) sent() (descs []unix.XDPDesc) {
	for producer := atomic.LoadUint32(f.k.tx.producer); f.txConsumer != producer; f.txConsumer++ {
		descs = append(descs, f.k.tx.entries[f.txConsumer%testFrames])
	}
	atomic.StoreUint32(f.k.tx.consumer, f.txConsumer)
	return descs
}

// complete puts addresses into the completion ring.
func (f *fakeKernel) complete(addrs ...uint64) {
	for _, a := range addrs {
		f.k.completion.entries[f.completionProducer%testFrames] = a
		f.completionProducer++
	}
	atomic.StoreUint32(f.k.completion.producer, f.completionProducer)
}

// deliver lets the endpoint handle what is in the receive ring.
func (f *fakeKernel) deliver(t testing.TB, c *counter) {
	t.Helper()
	q := f.e.rx[0]
	s := &lifecycle.Session{Dispatcher: c}
	for {
		n, err := f.k.rx.available()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		q.batch(s, n)
	}
}

// A ring lies within its mapping, whatever the offsets say.
func TestRingOffsets(t *testing.T) {
	mem := make([]byte, 192+64*16)
	for _, tt := range []struct {
		name string
		off  unix.XDPRingOffset
		ok   bool
	}{
		{"right", ringOffsets, true},
		{"producer past the end", unix.XDPRingOffset{Producer: 1216, Consumer: 64, Flags: 128, Desc: 192}, false},
		{"consumer across the end", unix.XDPRingOffset{Producer: 0, Consumer: 1214, Flags: 128, Desc: 192}, false},
		{"flags not aligned", unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 129, Desc: 192}, false},
		{"flags at the largest offset", unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 1<<64 - 4, Desc: 192}, false},
		{"entries across the end", unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 200}, false},
		{"entries at the largest offset", unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 1<<64 - 8}, false},
	} {
		if _, err := newDescRing(mem, tt.off, 64); (err == nil) != tt.ok || (err != nil && !errors.Is(err, errCorrupt)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// An index that is ahead by more than the ring is long is an error, also where
// indices wrap.
func TestRingAvailable(t *testing.T) {
	f := newFake(t, Options{})
	for _, tt := range []struct {
		own, producer, want uint32
		err                 error
	}{
		{0, 0, 0, nil},
		{0, 64, 64, nil},
		{0, 65, 0, errCorrupt},
		{1, 0, 0, errCorrupt},
		{1<<32 - 1, 63, 64, nil},
		{1<<32 - 1, 64, 0, errCorrupt},
	} {
		f.k.rx.own = tt.own
		atomic.StoreUint32(f.k.rx.producer, tt.producer)
		if n, err := f.k.rx.available(); n != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("own %d, producer %d: %d, %v, want %d, %v", tt.own, tt.producer, n, err, tt.want, tt.err)
		}
	}
}

// Descriptors that a kernel would not make are counted and cost no chunk;
// what follows is delivered.
func TestBadDescriptors(t *testing.T) {
	frame := ethernet("\x02\x00\x5e\x00\x53\xaa", header.IPv4ProtocolNumber, ipv4UDP(1, 200))
	size := uint32(len(frame))
	const txMemory = testFrames * frameSize
	for _, tt := range []struct {
		name  string
		descs []unix.XDPDesc
		want  uint64 // RxDroppedDescriptor
	}{
		{"beyond all memory", []unix.XDPDesc{{Addr: 1 << 40, Len: size}}, 1},
		{"at the largest address", []unix.XDPDesc{{Addr: 1<<64 - 1, Len: size}}, 1},
		{"in transmit memory", []unix.XDPDesc{{Addr: txMemory, Len: size}}, 1},
		{"across the end of its chunk", []unix.XDPDesc{{Addr: 5*frameSize - 10, Len: size}}, 1},
		{"longer than a chunk", []unix.XDPDesc{{Addr: 4 * frameSize, Len: frameSize + 1}}, 1},
		{"of the greatest length", []unix.XDPDesc{{Addr: 4*frameSize + 1, Len: 1<<32 - 1}}, 1},
		{"without an end", []unix.XDPDesc{{Addr: 0, Len: size, Options: unix.XDP_PKT_CONTD}}, 1},
		{"the same chunk twice in a frame", []unix.XDPDesc{{Addr: 0, Len: size, Options: unix.XDP_PKT_CONTD}, {Addr: 100, Len: size}}, 1},
		{"a bad piece in the middle", []unix.XDPDesc{
			{Addr: 0, Len: size, Options: unix.XDP_PKT_CONTD},
			{Addr: txMemory, Len: size, Options: unix.XDP_PKT_CONTD},
			{Addr: frameSize, Len: size},
		}, 1},
		{"unknown options", []unix.XDPDesc{{Addr: 3 * frameSize, Len: 1, Options: 1<<32 - 2}}, 0},
		{"nothing in it", []unix.XDPDesc{{Addr: 3 * frameSize, Len: 0}}, 0},
		{"pieces of nothing", []unix.XDPDesc{
			{Addr: 3 * frameSize, Options: unix.XDP_PKT_CONTD}, {Addr: 4 * frameSize, Options: unix.XDP_PKT_CONTD}, {Addr: 6 * frameSize},
		}, 0},
	} {
		f := newFake(t, Options{})
		c := newCounter()
		f.receive(tt.descs...)
		f.deliver(t, c) // an unfinished frame is all that there is
		const good = 20 * frameSize
		copy(f.chunk(good), frame)
		f.receive(unix.XDPDesc{Addr: good, Len: size})
		f.deliver(t, c)
		if len(c.numbers) != 1 || c.numbers[0] != 1 {
			t.Errorf("%s: delivered %v, want the good frame that follows", tt.name, c.numbers)
		}
		s := f.e.Stats()
		if s.RxDroppedDescriptor != tt.want || s.RxFrames != 1 || s.RxDropped() != 1 {
			t.Errorf("%s: %+v, want %d for the descriptor, one frame delivered and one dropped", tt.name, s, tt.want)
		}
		f.wantAllLent(t)
	}
}

// wantAllLent checks that every chunk to receive into is with the kernel.
func (f *fakeKernel) wantAllLent(t testing.TB) {
	t.Helper()
	for i, lent := range f.e.rx[0].frames.lent {
		if !lent {
			t.Fatalf("chunk %d was not given back", i)
		}
	}
}

// FuzzReceive plays a kernel that writes any descriptors and any frames.
// Whatever it does, every chunk that it gives back it gets again, once.
func FuzzReceive(f *testing.F) {
	good := ethernet("\x02\x00\x5e\x00\x53\xaa", header.IPv4ProtocolNumber, ipv4UDP(1, 40))
	record := func(kind byte, chunk, offset, length uint16, options byte) []byte {
		b := []byte{kind}
		for _, v := range []uint16{chunk, offset, length} {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return append(b, options)
	}
	f.Add(record(0, 1, 256, uint16(len(good)), 0), good)
	f.Add(bytes.Join([][]byte{record(0, 1, 256, 3840, 1), record(0, 2, 256, 100, 0)}, nil), good)
	f.Add(bytes.Join([][]byte{record(0, 1, 0, 60, 0), record(0, 1, 0, 60, 0), record(1, 7, 9, 60, 0)}, nil), good)
	f.Add(bytes.Repeat(record(0, 3, 0, 4096, 1), 30), good)
	f.Fuzz(func(t *testing.T, script, frame []byte) {
		fake := newFake(t, Options{Promiscuous: true})
		for i := range testFrames {
			copy(fake.chunk(uint64(i*frameSize+256)), frame)
		}
		c := newCounter()
		frames := uint64(0)
		for len(script) >= 8 {
			var batch []unix.XDPDesc
			for ; len(script) >= 8 && len(batch) < testFrames; script = script[8:] {
				d := unix.XDPDesc{
					Addr:    uint64(binary.LittleEndian.Uint16(script[1:]))*frameSize + uint64(binary.LittleEndian.Uint16(script[3:])),
					Len:     uint32(binary.LittleEndian.Uint16(script[5:])),
					Options: uint32(script[7]),
				}
				if script[0]&1 != 0 {
					d.Addr *= 0x9e3779b97f4a7c15 // anywhere
					d.Len *= 0x9e3779b1
					d.Options *= 0x9e3779b1
				}
				batch = append(batch, d)
				if d.Options&unix.XDP_PKT_CONTD == 0 {
					frames++
				}
			}
			if batch[len(batch)-1].Options&unix.XDP_PKT_CONTD != 0 {
				frames++
			}
			fill := atomic.LoadUint32(fake.k.fill.producer)
			fake.receive(batch...)
			fake.deliver(t, c)
			fake.wantAllLent(t)
			seen := map[uint64]int{}
			for i := fill; i != atomic.LoadUint32(fake.k.fill.producer); i++ {
				addr := fake.k.fill.entries[i%testFrames]
				seen[addr]++
				if addr%frameSize != 0 || addr >= testFrames*frameSize {
					t.Fatalf("address %#x in the fill ring", addr)
				}
			}
			if n := atomic.LoadUint32(fake.k.fill.producer) - fill; n > uint32(len(batch)) {
				t.Fatalf("%d chunks given back for %d descriptors", n, len(batch))
			}
		}
		if s := fake.e.Stats(); s.RxFrames+s.RxDropped() != frames {
			t.Fatalf("%d frames delivered and %d dropped of %d", s.RxFrames, s.RxDropped(), frames)
		}
	})
}

// A packet lies in as many chunks as it needs, and the chunks come back with
// their completions. Completions of anything else are counted.
func TestTransmitChunks(t *testing.T) {
	f := newFake(t, Options{})
	sizes := []int{60, 4096 - 14, 4096 - 13, 9000}
	for i, size := range sizes {
		if n, err := write(f.e, udpPacket(f.e, uint32(i+1), size)); n != 1 || err != nil {
			t.Fatalf("WritePackets = %d, %v", n, err)
		}
	}
	descs := f.sent()
	var addrs []uint64
	var packet []byte
	var got []int
	for _, d := range descs {
		addrs = append(addrs, d.Addr)
		if d.Addr < testFrames*frameSize || d.Addr%frameSize != 0 || d.Len == 0 || d.Len > frameSize {
			t.Errorf("descriptor %+v", d)
		}
		packet = append(packet, f.chunk(d.Addr)[:d.Len]...)
		if d.Options&unix.XDP_PKT_CONTD == 0 {
			want := ipv4UDP(uint32(len(got)+1), sizes[len(got)])
			if !bytes.Equal(packet[header.EthernetMinimumSize:], want) {
				t.Errorf("packet %d was altered", len(got)+1)
			}
			got, packet = append(got, len(packet)), nil
		}
	}
	if len(got) != len(sizes) || len(descs) != 1+1+2+3 {
		t.Errorf("%d packets in %d descriptors, want %d in 7", len(got), len(descs), len(sizes))
	}
	f.complete(append(addrs, addrs[0], 0, 1<<60, addrs[0]+frameSize*50)...)
	q := f.e.tx[0]
	q.mu.Lock()
	q.reap()
	free := len(q.free)
	q.mu.Unlock()
	if s := f.e.Stats(); free != testFrames || s.TxBadCompletions != 4 || s.TxMultiBuffer != 2 {
		t.Errorf("%d of %d chunks are free, %d bad completions, %d packets in several chunks, want all, 4, 2",
			free, testFrames, s.TxBadCompletions, s.TxMultiBuffer)
	}
}

// When all chunks are with the kernel, the policy says what happens.
func TestBackpressure(t *testing.T) {
	const packets = testFrames + 10
	for _, tt := range []struct {
		policy        Backpressure
		n             int
		full          bool
		refused, lost uint64
	}{
		{Refuse, testFrames, true, 10, 0},
		{Drop, packets, false, 0, 10},
	} {
		f := newFake(t, Options{Backpressure: tt.policy})
		n, err := write(f.e, manyPackets(f.e, packets)...)
		s := f.e.Stats()
		if n != tt.n || isType[*tcpip.ErrNoBufferSpace](err) != tt.full || s.TxRefusedFull != tt.refused || s.TxDroppedFull != tt.lost {
			t.Errorf("%v: %d, %v, %d refused, %d dropped, want %d, %d, %d", tt.policy, n, err, s.TxRefusedFull, s.TxDroppedFull, tt.n, tt.refused, tt.lost)
		}
		if sent := f.sent(); len(sent) != testFrames || s.TxFrames != testFrames {
			t.Errorf("%v: %d packets in the ring, counted %d", tt.policy, len(sent), s.TxFrames)
		}
	}
}

// A device that completes nothing for ten seconds, with a transport that tries again
// each millisecond and the endpoint's timer that does too, keeps what it was given, is
// given nothing of what was refused, and goes on when there is room.
func TestFullForLong(t *testing.T) {
	const tries = 10_000
	f := newFake(t, Options{})
	if n, err := write(f.e, manyPackets(f.e, testFrames)...); n != testFrames || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	for range tries {
		if n, err := write(f.e, udpPacket(f.e, 1, 100)); n != 0 || !isType[*tcpip.ErrNoBufferSpace](err) {
			t.Fatalf("WritePackets to a device that is full = %d, %v", n, err)
		}
		f.e.tx[0].kickAgain()
	}
	sent := f.sent()
	if s := f.e.Stats(); len(sent) != testFrames || s.TxFrames != testFrames || s.TxRefusedFull != tries || f.e.Err() != nil {
		t.Errorf("%d frames in the ring, Err = %v, Stats %+v", len(sent), f.e.Err(), s)
	}
	for _, d := range sent {
		f.complete(d.Addr)
	}
	if n, err := write(f.e, manyPackets(f.e, testFrames)...); n != testFrames || err != nil {
		t.Errorf("WritePackets when there is room = %d, %v", n, err)
	}
	if sent := f.sent(); len(sent) != testFrames {
		t.Errorf("%d frames in the ring when there was room again, want %d", len(sent), testFrames)
	}
}

// A writer under Block waits until chunks come back.
func TestBlock(t *testing.T) {
	f := newFake(t, Options{Backpressure: Block})
	const packets = 10 * testFrames
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n, err := write(f.e, manyPackets(f.e, packets)...); n != packets || err != nil {
			t.Errorf("WritePackets = %d, %v", n, err)
		}
	}()
	next := uint32(1)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, d := range f.sent() {
			if got := numberOf(f.chunk(d.Addr)[header.EthernetMinimumSize:d.Len]); got != next {
				t.Errorf("packet %d is sent in place %d", got, next)
			}
			next++
			f.complete(d.Addr)
		}
	}
	if s := f.e.Stats(); next != packets+1 || s.TxBlocked == 0 || s.TxRefused() != 0 {
		t.Errorf("%d packets sent, blocked %d times, refused %d", next-1, s.TxBlocked, s.TxRefused())
	}
}

// Close ends the wait of a blocked writer.
func TestBlockUntilClose(t *testing.T) {
	f := newFake(t, Options{Backpressure: Block})
	write(f.e, manyPackets(f.e, testFrames)...)
	done := make(chan tcpip.Error)
	go func() {
		_, err := write(f.e, udpPacket(f.e, 1, 100))
		done <- err
	}()
	for f.e.Stats().TxBlocked == 0 {
		runtime.Gosched()
	}
	f.e.Close()
	if err := <-done; !isType[*tcpip.ErrClosedForSend](err) {
		t.Errorf("a blocked writer returns %v after Close", err)
	}
}

// A million frames of random bytes, most of them with something that looks like a
// header, in descriptors of which one in eight is wrong: each is delivered or counted,
// every chunk goes back, and the next good frame is delivered.
func TestRandomRing(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n /= 50
	}
	f := newFake(t, Options{})
	random := rand.NewChaCha8([32]byte{7})
	c := newCounter()
	var lengths [testFrames]byte
	for sent := 0; sent < n; sent += testFrames {
		descs := make([]unix.XDPDesc, testFrames)
		_, _ = random.Read(lengths[:])
		for i := range descs {
			d := unix.XDPDesc{Addr: uint64(i)*frameSize + headroom, Len: uint32(lengths[i])}
			b := f.chunk(d.Addr)[:d.Len]
			_, _ = random.Read(b)
			copy(b, f.e.LinkAddress())
			switch lengths[i] % 4 {
			case 0:
				copy(b[min(12, len(b)):], "\x08\x00\x45\x00")
			case 1:
				copy(b[min(12, len(b)):], "\x86\xdd\x60\x00")
			}
			switch random.Uint64() % 32 {
			case 0:
				d.Addr = random.Uint64()
			case 1:
				d.Addr %= testFrames * frameSize / 2 // one that was given back already, or will be
			case 2:
				d.Len = uint32(random.Uint64())
			case 3:
				d.Options = uint32(random.Uint64()) &^ unix.XDP_PKT_CONTD
			}
			descs[i] = d
		}
		f.receive(descs...)
		f.deliver(t, c)
	}
	f.wantAllLent(t)
	if s, want := f.e.Stats(), uint64(n+testFrames-1)/testFrames*testFrames; s.RxFrames+s.RxDropped() != want || s.RxFrames == 0 || s.RxDroppedDescriptor == 0 {
		t.Errorf("%+v, want %d frames in all, some of them delivered and some with a bad descriptor", s, want)
	}
	good := ethernet(f.e.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(77, 100))
	copy(f.chunk(headroom), good)
	f.receive(unix.XDPDesc{Addr: headroom, Len: uint32(len(good))})
	f.deliver(t, c)
	if len(c.numbers) == 0 || c.numbers[len(c.numbers)-1] != 77 {
		t.Errorf("the good frame behind them was not delivered")
	}
}
