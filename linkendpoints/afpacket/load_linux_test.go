package afpacket

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// load sends in both directions until stop is called, errors or not.
func load(t *testing.T, c *cable, e *Endpoint) (stop func()) {
	t.Helper()
	peer := newPacketSocket(t, c)
	var stopping atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		f := udpFrame(e.LinkAddress(), 1000)
		for !stopping.Load() {
			_, _ = unix.Write(peer.FD, f)
		}
	})
	wg.Go(func() {
		for !stopping.Load() {
			_, _ = write(e, udpPacket(e, 1000), udpPacket(e, 10))
		}
	})
	return sync.OnceFunc(func() {
		stopping.Store(true)
		wg.Wait()
	})
}

// nobody is a dispatcher that keeps nothing.
type nobody struct{}

func (nobody) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (nobody) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// Links that go down and come up again under load end nothing, and traffic in
// both directions resumes.
func TestDownAndUpUnderLoad(t *testing.T) {
	for _, queues := range []int{1, 2} {
		c := newCable(t, 1500)
		e := c.open(t, Options{Queues: queues})
		e.Attach(nobody{})
		stop := load(t, c, e)
		defer stop()
		for range 5 {
			for _, l := range []string{"ours", "kernels"} {
				link := c.Link(t, l)
				if err := c.NS.Netlink().LinkSetDown(link); err != nil {
					t.Fatal(err)
				}
				c.NS.SetUp(t, link)
			}
			before := e.Stats()
			for s := e.Stats(); s.RxFrames < before.RxFrames+10 || s.TxFrames < before.TxFrames+10; s = e.Stats() {
				runtime.Gosched()
			}
		}
		stop()
		if err := e.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
	}
}

// A device that is deleted under load ends the endpoint, which lets go of all
// packets.
func TestDeletedUnderLoad(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() { refs.SetLeakMode(before) })
	for _, backpressure := range []Backpressure{Refuse, Block, Drop} {
		failed := make(chan error, 1)
		c := newCable(t, 1500)
		e := c.open(t, Options{Queues: 2, Backpressure: backpressure, OnFailure: func(err error) { failed <- err }})
		e.Attach(nobody{})
		stop := load(t, c, e)
		for e.Stats().RxFrames < 100 || e.Stats().TxFrames < 100 {
			runtime.Gosched()
		}
		if err := c.NS.Netlink().LinkDel(c.Ours); err != nil {
			t.Fatal(err)
		}
		<-failed
		stop()
		e.Wait()
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%v", r)
		}
	}()
	refs.DoRepeatedLeakCheck()
}

// A million frames of random bytes, most of them with a header that means
// something, from a device whose far end is hostile: none ends receiving.
func TestRandomFrames(t *testing.T) {
	frames := 1_000_000
	if testing.Short() {
		frames = 20_000
	}
	ns := nstest.New(t)
	link := ns.AddTAP(t, nstest.TAP{Name: "tap0"})
	tap := openTAP(t, ns, "tap0")
	ns.SetUp(t, link)
	var e *Endpoint
	var err error
	ns.Do(func() { e, err = New(Options{Name: "tap0", LinkAddress: stackAddress}) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		e.Close()
		e.Wait()
	}()
	e.Attach(nobody{})
	random := rand.NewChaCha8([32]byte{4})
	b := make([]byte, vnet.HeaderSize+3000)
	for i := range frames {
		n := vnet.HeaderSize + int(random.Uint64()%1600)
		_, _ = random.Read(b[:min(n, 80)])
		if kind := random.Uint64(); kind&3 != 0 {
			// A header that the kernel accepts, and a packet that looks like one.
			clear(b[:vnet.HeaderSize])
			copy(b[vnet.HeaderSize:], stackAddress)
			copy(b[vnet.HeaderSize+12:], []byte{8, 0, 0x45})
			if kind&4 != 0 {
				partialUDP.Put(b)
			}
			if kind&8 != 0 {
				copy(b[vnet.HeaderSize+12:], []byte{0x86, 0xdd, 0x60})
			}
		} else if kind&16 == 0 {
			b[1] &= vnet.GSOTCPv4 | vnet.GSOTCPv6
		}
		_, _ = unix.Write(tap, b[:n]) // the kernel refuses some
		if i%64 == 0 {
			runtime.Gosched()
		}
	}
	// Receiving goes on.
	good := append(make([]byte, vnet.HeaderSize), udpFrame(e.LinkAddress(), 50)...)
	verified := func() uint64 { return e.Stats().RxVerified }
	for before := verified(); verified() == before; runtime.Gosched() {
		if _, err := unix.Write(tap, good); err != nil {
			t.Fatal(err)
		}
	}
	if s := e.Stats(); e.Err() != nil || s.RxDroppedMalformed == 0 || s.RxDroppedChecksum == 0 || s.RxDroppedOtherHost == 0 {
		t.Errorf("Err = %v, Stats %+v", e.Err(), s)
	}
}
