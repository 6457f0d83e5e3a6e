//go:build amd64 || arm64

package xdp

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
	"github.com/plumbline/plumbline/linkendpoints/internal/linklab"
)

// nobody is a dispatcher that keeps nothing.
type nobody struct{}

func (nobody) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (nobody) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// gVisor's own check finds no packet buffer and no chunk of memory that is still
// referenced after Close, whatever was sent, refused, delivered or dropped.
func TestNoReferenceLeaks(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() { refs.SetLeakMode(before) })
	c := newCable(t, 9000, 1)
	e := c.open(t, Options{Frames: 64})
	e.Attach(nobody{})
	peer := newPacketSocket(t, c)
	damaged := ipv4UDP(1, 200)
	damaged[100] ^= 1
	for range 20 {
		for _, size := range []int{60, 500, 1500, 3800, 3900, 9000} {
			_ = peer.Send(ethernet(e.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(1, size)))
		}
		_ = peer.Send(ethernet(peerAddress, header.IPv4ProtocolNumber, ipv4UDP(1, 100)))
		_ = peer.Send(ethernet(e.LinkAddress(), header.IPv4ProtocolNumber, damaged))
		_ = peer.Send(ethernet(e.LinkAddress(), header.IPv4ProtocolNumber, damaged[:50]))
		write(e, append(manyPackets(e, 100), udpPacket(e, 1, 9000), udpPacket(e, 1, 9001))...)
	}
	e.Close()
	e.Wait()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%v", r)
		}
	}()
	refs.DoRepeatedLeakCheck()
}

// Sending and receiving allocate nothing, however the packets lie in memory.
func TestAllocations(t *testing.T) {
	f := newFake(t, Options{})
	pkt := udpPacket(f.e, 1, 3000)
	defer pkt.DecRef()
	var list stack.PacketBufferList
	list.PushBack(pkt)
	avg := testing.AllocsPerRun(1000, func() {
		if n, err := f.e.WritePackets(list); n != 1 || err != nil {
			t.Fatalf("WritePackets = %d, %v", n, err)
		}
		d := f.k.tx.entries[f.txConsumer%testFrames]
		f.txConsumer++
		f.complete(d.Addr)
	})
	if avg != 0 {
		t.Errorf("%v allocations for each packet sent", avg)
	}

	frame := ethernet(f.e.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(1, 1000))
	s := &lifecycle.Session{Dispatcher: nobody{}}
	next := 0
	avg = testing.AllocsPerRun(1000, func() {
		addr := uint64(next%testFrames) * frameSize
		next++
		copy(f.chunk(addr), frame)
		f.receive(unix.XDPDesc{Addr: addr, Len: uint32(len(frame))})
		f.e.rx[0].batch(s, 1)
	})
	// The pools of gVisor's buffers are emptied by a collection now and then.
	if avg >= 0.1 {
		t.Errorf("%v allocations for each packet received", avg)
	}
}

// Datagrams of the kernel come without a checksum over a veth pair, which
// leaves it to a device; the netstack gets them with one.
func TestPartialChecksums(t *testing.T) {
	for _, mode := range []Mode{Copy, Generic} {
		c := newCable(t, 1500, 1, "192.0.2.1/24")
		e := c.open(t, Options{Mode: mode})
		c.NS.Run(t, "ip", "neighbor", "add", "192.0.2.2", "lladdr", e.LinkAddress().String(), "dev", "kernels")
		e.Attach(newCounter())
		conn, err := c.NS.Dial("udp", net.JoinHostPort("192.0.2.2", "9"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const n = 10
		for range n {
			if _, err := conn.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		s := waitStats(t, e, func(s Stats) bool { return s.RxFrames+s.RxDroppedChecksum >= n })
		if s.RxPartialChecksum != n || s.RxDropped() != 0 {
			t.Errorf("%v mode: %+v, want %d frames without a checksum delivered", mode, s, n)
		}
	}
}

// waitStats waits until the counters satisfy ok, and returns them.
func waitStats(t testing.TB, e *Endpoint, ok func(Stats) bool) Stats {
	t.Helper()
	p := linklab.Peer{FD: -1} // to wait a little with
	for range patience / linklab.PollInterval {
		if s := e.Stats(); ok(s) {
			return s
		}
		p.Poll(0)
	}
	t.Fatalf("the counters stay at %+v", e.Stats())
	return Stats{}
}

// Links that go down and come up again under load end nothing, and traffic in both
// directions resumes.
func TestDownAndUpUnderLoad(t *testing.T) {
	for _, mode := range []Mode{Copy, Generic} {
		c := newCable(t, 1500, 1)
		e := c.open(t, Options{Mode: mode})
		e.Attach(nobody{})
		stop := load(t, c, e)
		defer stop()
		for range 3 {
			for _, l := range []string{linklab.Ours, linklab.Kernels} {
				link := c.Link(t, l)
				if err := c.NS.Netlink().LinkSetDown(link); err != nil {
					t.Fatal(err)
				}
				c.NS.SetUp(t, link)
			}
			before := e.Stats()
			waitStats(t, e, func(s Stats) bool { return s.RxFrames >= before.RxFrames+50 && s.TxFrames >= before.TxFrames+50 })
		}
		stop()
		if err := e.Err(); err != nil {
			t.Errorf("%v mode: Err = %v", mode, err)
		}
	}
}

// Random frames, with and without something that looks like a header, are
// delivered or counted, and end nothing.
func TestRandomFrames(t *testing.T) {
	n := 50_000
	if testing.Short() {
		n = 5_000
	}
	c := newCable(t, 9000, 1)
	e := c.open(t, Options{})
	received := newCounter()
	e.Attach(received)
	peer := newPacketSocket(t, c)
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 9014)
	var sent uint64
	for range n {
		size := header.EthernetMinimumSize + r.IntN(100)
		if r.IntN(20) == 0 {
			size = header.EthernetMinimumSize + r.IntN(9000)
		}
		for i := 0; i < size; i++ {
			b[i] = byte(r.Uint32())
		}
		copy(b, e.LinkAddress())
		switch r.IntN(3) {
		case 0:
			copy(b[12:], "\x08\x00\x45\x00")
		case 1:
			copy(b[12:], "\x86\xdd\x60\x00")
		}
		if peer.Send(b[:size]) == nil {
			sent++
		}
	}
	if err := peer.Send(ethernet(e.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(77, 100))); err != nil {
		t.Fatal(err)
	}
	received.waitFor(t, 77)
	if s := e.Stats(); s.RxErrors+s.RxDroppedDescriptor+s.KernelInvalidDescriptors != 0 {
		t.Errorf("of %d frames: %+v", sent, s)
	}
}

// childEnv names, in the environment of a process started by
// TestProcessDies, the device to open.
const childEnv = "PLUMBLINE_TEST_XDP_CHILD"

// TestMain makes this binary the process that TestProcessDies kills.
func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	e, err := New(Options{Name: name})
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	e.Attach(nobody{})
	println("ready")
	select {}
}

// A process that is killed leaves no program on the device.
func TestProcessDies(t *testing.T) {
	c := newCable(t, 1500, 1)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=ours")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = c.NS.Start(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := stderr.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "ready") {
		t.Fatalf("the process says %q, %v", line[:n], err)
	}
	if c.programOn(t) == 0 {
		t.Error("no program while the process runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if id := c.programOn(t); id != 0 {
		t.Errorf("program %d is still attached after the process was killed", id)
	}
	e := c.open(t, Options{}) // the queue may be busy for a moment
	if c.programOn(t) == 0 {
		t.Errorf("%s has no program", e.Name())
	}
}
