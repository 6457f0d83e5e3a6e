package tap

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
)

// load sends in both directions, with peer at the kernel's end, until stop is called,
// errors or not.
func load(e *Endpoint, peer *packetSocket) (stop func()) {
	var stopping atomic.Bool
	var wg sync.WaitGroup
	frame := ipv4TCP(1000, 0)
	copy(frame, e.LinkAddress())
	for _, f := range []func(){
		func() {
			_ = peer.SendSuper(frame, 54, 400)
			_ = peer.SendSuper(frame, 54, 2000)
		},
		func() { write(e, tcpPacket(e, 3000, hostGSO), tcpPacket(e, 10, stack.GSO{})) },
	} {
		wg.Go(func() {
			for !stopping.Load() {
				f()
			}
		})
	}
	return sync.OnceFunc(func() {
		stopping.Store(true)
		wg.Wait()
	})
}

// moves waits until both directions have moved 50 frames more.
func moves(e *Endpoint) {
	before := e.Stats()
	for s := e.Stats(); s.RxFrames < before.RxFrames+50 || s.TxFrames < before.TxFrames+50; s = e.Stats() {
		runtime.Gosched()
	}
}

// A link that goes down and comes up again under load ends nothing, and traffic in
// both directions resumes.
func TestDownAndUpUnderLoad(t *testing.T) {
	for _, queues := range []int{1, 2} {
		ns := nstest.New(t)
		link := ns.AddTAP(t, nstest.TAP{Name: "tap0", MultiQueue: queues > 1})
		e := open(t, ns, Options{Name: "tap0", Queues: queues})
		ns.SetUp(t, link)
		e.Attach(nobody{})
		stop := load(e, newPacketSocket(t, ns, link.Attrs().Index, false))
		defer stop()
		moves(e)
		for range 5 {
			refused := e.Stats().TxRefusedDown
			if err := ns.Netlink().LinkSetDown(link); err != nil {
				t.Fatal(err)
			}
			for e.Stats().TxRefusedDown == refused {
				runtime.Gosched()
			}
			ns.SetUp(t, link)
			moves(e)
		}
		stop()
		if err := e.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
	}
}

// A device that is deleted under load ends the endpoint with one error, and lets go
// of packets, descriptors and goroutines.
func TestDeletedUnderLoad(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() { refs.SetLeakMode(before) })
	for _, queues := range []int{1, 2} {
		ns := nstest.New(t)
		link := ns.AddTAP(t, nstest.TAP{Name: "tap0", MultiQueue: queues > 1})
		ns.SetUp(t, link)
		peer := newPacketSocket(t, ns, link.Attrs().Index, false)
		files := openFiles(t)
		var failures, closed atomic.Int32
		e := open(t, ns, Options{Name: "tap0", Queues: queues, OnFailure: func(error) { failures.Add(1) }})
		e.SetOnCloseAction(func() { closed.Add(1) })
		e.Attach(nobody{})
		stop := load(e, peer)
		defer stop()
		moves(e)
		if err := ns.Netlink().LinkDel(link); err != nil {
			t.Fatal(err)
		}
		for failures.Load() == 0 {
			runtime.Gosched()
		}
		e.Wait()
		n, err := write(e, tcpPacket(e, 100, stack.GSO{}))
		if _, ok := err.(*tcpip.ErrClosedForSend); !ok || n != 0 {
			t.Errorf("WritePackets to a deleted device = %d, %v", n, err)
		}
		stop()
		if !errors.Is(e.Err(), errDeviceGone) || failures.Load() != 1 || closed.Load() != 1 || e.IsAttached() {
			t.Errorf("Err = %v, %d failures, %d on-close actions, attached %t", e.Err(), failures.Load(), closed.Load(), e.IsAttached())
		}
		linklab.NoReceivers(t)
		if after := openFiles(t); after != files {
			t.Errorf("%d descriptors are open, %d before", after, files)
		}
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%v", r)
		}
	}()
	refs.DoRepeatedLeakCheck()
}

// openFiles counts the descriptors of this process that are no runtime's.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			n++
		}
	}
	return n
}

// A device that is full for ten seconds, with a transport that tries again each
// millisecond, loses nothing of what it has taken, sends nothing of what it has refused,
// and goes on when there is room.
func TestFullForLong(t *testing.T) {
	const tries = 10_000
	e, w := newTestEndpoint(t, TAP, Options{})
	taken := 0
	for full := false; !full; {
		n, err := write(e, tcpPacket(e, 2000, stack.GSO{}), tcpPacket(e, 2000, stack.GSO{}))
		taken += n
		full = err != nil
	}
	refused := e.Stats().TxRefusedFull
	for range tries {
		n, err := write(e, tcpPacket(e, 2000, stack.GSO{}))
		if _, ok := err.(*tcpip.ErrNoBufferSpace); !ok || n != 0 {
			t.Fatalf("WritePackets to a device that is full = %d, %v", n, err)
		}
	}
	if s := e.Stats(); s.TxFrames != uint64(taken) || s.TxRefusedFull != refused+tries || e.Err() != nil {
		t.Errorf("Err = %v, Stats %+v, want %d frames taken and %d refused", e.Err(), s, taken, refused+tries)
	}
	b := make([]byte, 1<<16)
	for range taken {
		if _, err := readOne(w, b); err != nil {
			t.Fatalf("a packet that was taken is missing: %v", err)
		}
	}
	if n, err := write(e, tcpPacket(e, 100, stack.GSO{})); n != 1 || err != nil {
		t.Errorf("WritePackets when there is room = %d, %v", n, err)
	}
	if n, err := readOne(w, b); err != nil || n > 1000 {
		t.Errorf("what comes next has %d bytes (%v), want the packet that was taken when there was room", n, err)
	}
}
