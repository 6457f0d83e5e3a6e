//go:build amd64 || arm64

package xdp

import (
	"cmp"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	stock "gvisor.dev/gvisor/pkg/tcpip/link/xdp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// window is how long a round of a benchmark takes for each endpoint.
const window = 200 * time.Millisecond

// tally is a dispatcher that counts.
type tally struct{ n atomic.Uint64 }

func (c *tally) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { c.n.Add(1) }
func (*tally) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)      {}

// contender is an endpoint in a benchmark, on a cable of its own.
type contender struct {
	*cable
	name     string
	ep       stack.LinkEndpoint
	received *tally
	rates    []float64 // packets a second, one for each round
	costs    []float64 // nanoseconds of processor time for each packet
}

// contenders makes our endpoint and stock's on cables alike. Stock's gets its
// socket and program from Prepare, as it has no program of its own.
func contenders(b *testing.B, addrs ...string) []*contender {
	b.Helper()
	ours := &contender{cable: newCable(b, 1500, 1, addrs...), name: "ours", received: &tally{}}
	ours.ep = ours.open(b, Options{})
	theirs := &contender{cable: newCable(b, 1500, 1, addrs...), name: "stock", received: &tally{}}
	var p *Prepared
	var err error
	theirs.NS.Do(func() { p, err = Prepare(Options{Name: "ours"}) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Close)
	// Its receiver cannot be stopped: it gets a duplicate that is never closed.
	fd, err := unix.Dup(int(p.Files[0].Fd()))
	if err != nil {
		b.Fatal(err)
	}
	theirs.ep, err = stock.New(&stock.Options{
		FD: fd, Bind: true, InterfaceIndex: p.Device.Index, Address: tcpip.LinkAddress(p.Device.LinkAddress),
	})
	if err != nil {
		b.Fatal(err)
	}
	return []*contender{ours, theirs}
}

// measure runs f for a window and notes the rate of what count counts.
func (c *contender) measure(count func() uint64, f func()) {
	before, used, start := count(), processorTime(), time.Now()
	for time.Since(start) < window {
		f()
	}
	took, used := time.Since(start), processorTime()-used
	n := float64(count() - before)
	c.rates = append(c.rates, n/took.Seconds())
	c.costs = append(c.costs, float64(used.Nanoseconds())/max(n, 1))
}

// processorTime returns the processor time that the process has used, the
// kernel's work for it included. Unlike a rate it does not depend much on what
// else the machine does.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// report reports medians over the rounds and the ratio of ours to stock's.
func report(b *testing.B, cs []*contender) {
	for _, c := range cs {
		b.ReportMetric(median(c.rates)/1e6, c.name+"-Mpps")
		b.ReportMetric(median(c.costs), c.name+"-cpu-ns/pkt")
	}
	var rates, costs []float64
	for i := range cs[0].rates {
		rates = append(rates, cs[0].rates[i]/cs[1].rates[i])
		costs = append(costs, cs[0].costs[i]/cs[1].costs[i])
	}
	b.ReportMetric(median(rates), "rate-ours/stock")
	b.ReportMetric(median(costs), "cpu-ours/stock")
	b.ReportMetric(0, "ns/op") // says nothing
}

// median returns the middle of the values.
func median[T cmp.Ordered](values []T) T {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}

// BenchmarkReceive compares how many frames of 60 and 1514 bytes the endpoint
// and gVisor's own deliver while more arrive than they can take. Rounds alternate;
// -benchtime 7x makes seven.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{60, 1514} {
		b.Run(name(size), func(b *testing.B) {
			cs := contenders(b)
			runs := make([]func(), len(cs))
			for i, c := range cs {
				c.ep.Attach(c.received)
				runs[i] = generator(b, c, size)
			}
			for range b.N {
				for i, c := range cs {
					c.measure(c.received.n.Load, runs[i])
				}
			}
			report(b, cs)
		})
	}
}

// name returns the name of a sub-benchmark.
func name(size int) string {
	if size < 100 {
		return "60B"
	}
	return "1514B"
}

// generator returns a function that sends a burst of frames to c's endpoint
// from the kernel's end. They are frames of an XDP program that the kernel runs
// on request: no socket is as fast. They get into the pair by ndo_xdp_xmit, for
// which our end has to have a native program.
func generator(b *testing.B, c *contender, size int) func() {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.XDP,
		License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(c.Kernels.Attrs().Index)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { prog.Close() })
	frame := ethernet(c.ep.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(1, size-header.EthernetMinimumSize))
	const burst = 2048
	return func() {
		var err error
		c.NS.Do(func() {
			_, err = prog.Run(&ebpf.RunOptions{Data: frame, Repeat: burst, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransmit compares how many frames of 60 and 1514 bytes arrive at the
// other end, written 32 at a time, as gVisor's queueing discipline does.
func BenchmarkTransmit(b *testing.B) {
	for _, size := range []int{60, 1514} {
		b.Run(name(size), func(b *testing.B) {
			cs := contenders(b)
			for _, c := range cs {
				c.discard(b)
			}
			for range b.N {
				for _, c := range cs {
					var list stack.PacketBufferList
					for range 32 {
						list.PushBack(udpPacket(c.ep, 1, size-header.EthernetMinimumSize))
					}
					c.measure(func() uint64 { return c.arrived(b) }, func() {
						for range 100 {
							_, _ = c.ep.WritePackets(list)
						}
					})
					list.DecRef()
				}
			}
			report(b, cs)
		})
	}
}

// discard makes the kernel's end drop what it receives, by a program of its own.
func (c *contender) discard(b *testing.B) {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer prog.Close()
	var l link.Link
	c.NS.Do(func() {
		l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: c.Kernels.Attrs().Index, Flags: link.XDPDriverMode})
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
}

// arrived returns how many frames the kernel's end has received.
func (c *contender) arrived(b *testing.B) uint64 {
	b.Helper()
	return c.Link(b, "kernels").Attrs().Statistics.RxPackets
}

// BenchmarkTCP compares bulk transfers between the kernel's TCP and tcpx over the
// endpoint and gVisor's own, on one connection, at MTU 1500.
func BenchmarkTCP(b *testing.B) {
	for _, sends := range []bool{true, false} {
		direction := "receive"
		if sends {
			direction = "send"
		}
		b.Run(direction, func(b *testing.B) {
			cs := contenders(b, "192.0.2.1/24")
			runs := make([]func(), len(cs))
			counts := make([]atomic.Uint64, len(cs))
			for i, c := range cs {
				if c.name == "stock" {
					// It verifies checksums that the kernel leaves to a device.
					c.NS.Run(b, "ethtool", "-K", "kernels", "tx", "off")
				}
				from, to := c.connect(b)
				if sends {
					from, to = to, from
				}
				go func() {
					buf := make([]byte, 1<<18)
					for {
						n, err := to.Read(buf)
						counts[i].Add(uint64(n))
						if err != nil {
							return
						}
					}
				}()
				data := make([]byte, 1<<16)
				runs[i] = func() {
					if _, err := from.Write(data); err != nil {
						b.Fatal(err)
					}
				}
			}
			for range b.N {
				for i, c := range cs {
					c.measure(counts[i].Load, runs[i])
				}
			}
			var ratios []float64
			for i := range cs[0].rates {
				ratios = append(ratios, cs[0].rates[i]/cs[1].rates[i])
			}
			for _, c := range cs {
				b.ReportMetric(median(c.rates)*8/1e9, c.name+"-Gbit/s")
			}
			b.ReportMetric(median(ratios), "rate-ours/stock")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// connect makes a netstack on c's endpoint and connects the kernel to it.
func (c *contender) connect(b *testing.B) (kernel, netstack net.Conn) {
	b.Helper()
	s := newStack(b, c.ep)
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		b.Fatal(err)
	}
	if kernel, err = c.NS.Dial("tcp", "192.0.2.2:7", nil); err == nil {
		netstack, err = l.Accept()
	}
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	b.Cleanup(func() {
		kernel.Close()
		netstack.Close()
		l.Close()
	})
	return kernel, netstack
}

// BenchmarkDeliver is what the endpoint itself costs for a received frame, with
// rings in memory and no kernel: from the descriptor to the dispatcher, checksums
// verified.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{60, 1514} {
		b.Run(name(size), func(b *testing.B) {
			f := newFake(b, Options{})
			data := ethernet(f.e.LinkAddress(), header.IPv4ProtocolNumber, ipv4UDP(1, size-header.EthernetMinimumSize))
			descs := make([]unix.XDPDesc, testFrames)
			for i := range descs {
				descs[i] = unix.XDPDesc{Addr: uint64(i) * frameSize, Len: uint32(len(data))}
				copy(f.chunk(descs[i].Addr), data)
			}
			s := &lifecycle.Session{Dispatcher: nobody{}}
			b.ReportAllocs()
			for n := 0; n < b.N; n += testFrames {
				f.receive(descs...)
				f.e.rx[0].batch(s, testFrames)
			}
		})
	}
}
