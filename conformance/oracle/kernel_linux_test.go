package oracle_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/oracle/live"
	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// bridge hands what one endpoint delivers to another.
type bridge struct{ to stack.LinkEndpoint }

func (b bridge) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	out := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
	out.NetworkProtocolNumber = proto
	var list stack.PacketBufferList
	list.PushBack(out)
	b.to.WritePackets(list)
	list.DecRef()
}

func (bridge) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// kernels are two namespaces with an emulated path between them.
type kernels struct {
	ns     [2]*nstest.Namespace
	taps   [2]*tap.Endpoint
	path   *emulated.Path
	oracle *live.Endpoint
}

// The addresses of both kernels.
var kernelAddrs = [2][2]string{{"10.77.0.1", "fd77::1"}, {"10.77.0.2", "fd77::2"}}

// newKernels makes them. The oracle is next to the first.
func newKernels(t *testing.T, link emulated.Link, sysctls map[string]string) *kernels {
	k := &kernels{}
	var err error
	if k.path, err = emulated.New(emulated.Options{Forward: link, Reverse: link, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range k.ns {
		ns := nstest.New(t)
		dev := ns.AddTAP(t, nstest.TAP{Name: "tun0", TUN: true, Addrs: []string{kernelAddrs[i][0] + "/24", kernelAddrs[i][1] + "/64"}})
		// A packet that the device drops is one that the oracle does not see.
		if err := ns.Netlink().LinkSetTxQLen(dev, 20_000); err != nil {
			t.Fatal(err)
		}
		ns.Do(func() { k.taps[i], err = tap.New(tap.Options{Name: "tun0", Mode: tap.TUN, NoOffload: true}) })
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range sysctls {
			ns.Sysctl(t, name, value)
		}
		k.ns[i] = ns
		ns.SetUp(t, dev)
	}
	k.oracle = live.Wrap(k.taps[0], live.Options{Oracle: oracle.Options{
		Near:     []netip.Addr{netip.MustParseAddr(kernelAddrs[0][0]), netip.MustParseAddr(kernelAddrs[0][1])},
		Complete: true, Wire: true,
	}})
	k.path.Left(0).Attach(bridge{k.oracle})
	k.path.Right(0).Attach(bridge{k.taps[1]})
	k.oracle.Attach(bridge{k.path.Left(0)})
	k.taps[1].Attach(bridge{k.path.Right(0)})
	t.Cleanup(func() {
		for _, e := range []stack.LinkEndpoint{k.oracle, k.taps[1]} {
			e.Close()
			e.Wait()
		}
		k.path.Close()
	})
	return k
}

// order is how a connection ends.
type order byte

const (
	clientFirst order = iota
	serverFirst
	bothAtOnce
	halfClose
	clientAborts
	serverAborts
	clientUnread
	serverUnread
	orders
)

// job is a connection: what each end sends, and how it ends.
type job struct {
	order    order
	up, down int
}

// header is how the client tells the server.
func (j job) header() []byte {
	b := []byte{byte(j.order)}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(j.up)), uint32(j.down))
}

// noise is what is sent.
var noise = func() []byte {
	b := make([]byte, 1<<16)
	src := rand.NewChaCha8([32]byte{7})
	src.Read(b)
	return b
}()

// send writes n octets.
func send(c net.Conn, n int) {
	for n > 0 {
		k, err := c.Write(noise[:min(n, len(noise))])
		if err != nil {
			return
		}
		n -= k
	}
}

// abort closes with a RST.
func abort(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// patience is more than any connection of these tests takes.
const patience = 30 * time.Second

// serve is the server's side of a connection.
func serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	head := make([]byte, 9)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	j := job{order(head[0]), int(binary.BigEndian.Uint32(head[1:])), int(binary.BigEndian.Uint32(head[5:]))}
	switch j.order {
	case serverUnread:
		return
	case serverAborts:
		io.CopyN(io.Discard, c, int64(j.up))
		abort(c)
		return
	case serverFirst, bothAtOnce:
		send(c, j.down)
		io.CopyN(io.Discard, c, int64(j.up))
		if j.order == serverFirst {
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		}
		return
	case halfClose:
		io.Copy(io.Discard, c)
		send(c, j.down)
		return
	}
	send(c, j.down)
	io.Copy(io.Discard, c)
}

// dial is the client's side.
func dial(ns *nstest.Namespace, addr string, j job) error {
	c, err := ns.Dial("tcp", addr, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(j.header()); err != nil {
		return err
	}
	switch j.order {
	case clientUnread:
		io.CopyN(io.Discard, c, int64(j.down)/2)
		return nil
	case clientAborts:
		send(c, j.up)
		abort(c)
		return nil
	}
	send(c, j.up)
	switch j.order {
	case halfClose:
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	case clientFirst, bothAtOnce:
		io.CopyN(io.Discard, c, int64(j.down))
	default:
		io.Copy(io.Discard, c)
	}
	return nil
}

// run makes n connections, in both directions and over both versions of IP.
func (k *kernels) run(t *testing.T, n int) {
	var servers sync.WaitGroup
	var addrs [2][2]string
	for i, ns := range k.ns {
		for v, a := range kernelAddrs[i] {
			l := ns.Listen(t, "tcp", net.JoinHostPort(a, "0"))
			addrs[i][v] = l.Addr().String()
			servers.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					servers.Go(func() { serve(c) })
				}
			})
			defer l.Close()
		}
	}
	jobs := make(chan int)
	var clients sync.WaitGroup
	for range 48 {
		clients.Go(func() {
			for i := range jobs {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				j := job{order(i % int(orders)), rng.IntN(20_000), rng.IntN(20_000)}
				if i%40 < 2 {
					j = job{order(i % 2), 700_000 * (i % 2), 700_000 * (1 - i%2)}
				}
				from := i / int(orders) % 2
				if err := dial(k.ns[from], addrs[1-from][i/16%2], j); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	clients.Wait()
}

// TestKernel judges the Linux kernel with itself: on clean and on bad paths,
// with every congestion control that it has, without SACK and without
// timestamps, and closed in every order. The kernel breaks no rule of the hard
// tier.
func TestKernel(t *testing.T) {
	clean := emulated.Link{Delay: 2 * time.Millisecond, Rate: 300 * emulated.Mbps, Queue: emulated.FIFO{Bytes: 4 << 20}}
	shallow := emulated.Link{Delay: 2 * time.Millisecond, Rate: 100 * emulated.Mbps, Queue: emulated.FIFO{Bytes: 200_000}}
	bad := clean
	bad.Loss = emulated.RandomLoss(0.01)
	bad.Reorder = emulated.Reorder{Probability: 0.02, Delay: 3 * time.Millisecond}
	bad.Duplicate = 0.01
	const cc, sack, ts, ws = "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_sack", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_window_scaling"
	profiles := []struct {
		name    string
		link    emulated.Link
		sysctls map[string]string
	}{
		{"cubic", clean, map[string]string{cc: "cubic"}},
		{"cubic, bad path", bad, map[string]string{cc: "cubic"}},
		{"cubic, shallow queue", shallow, map[string]string{cc: "cubic"}},
		{"reno, bad path, no SACK", bad, map[string]string{cc: "reno", sack: "0"}},
		{"reno, shallow queue, no timestamps", shallow, map[string]string{cc: "reno", ts: "0"}},
		{"bbr", clean, map[string]string{cc: "bbr"}},
		{"bbr, bad path", bad, map[string]string{cc: "bbr"}},
		{"no options", bad, map[string]string{cc: "cubic", sack: "0", ts: "0", ws: "0"}},
	}
	n := 130
	if testing.Short() {
		n = 32
	}
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			k := newKernels(t, p.link, p.sysctls)
			k.run(t, n)
			stats := k.taps[0].Stats()
			rep := k.oracle.Report()
			t.Logf("%d segments, %d connections; %+v", rep.Segments, rep.Connections, stats)
			if rep.Connections < int64(n)*9/10 { // some have the ports of one before
				t.Errorf("%d connections were seen of %d", rep.Connections, n)
			}
			soft := map[string]int{}
			for i := range rep.Findings {
				f := &rep.Findings[i]
				if f.Tier == oracle.Hard {
					t.Error(f)
				} else {
					soft[fmt.Sprintf("%s %.1f", f.Rule, f.Confidence)]++
				}
			}
			t.Logf("soft findings: %v", soft)
		})
	}
}
