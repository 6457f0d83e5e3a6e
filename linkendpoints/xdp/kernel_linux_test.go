//go:build amd64 || arm64

package xdp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx"
)

// newStack makes a netstack with address 192.0.2.2 on e.
func newStack(t testing.TB, e stack.LinkEndpoint) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcpx.NewProtocol},
	})
	if _, ours := e.(*Endpoint); ours { // gVisor's does not stop
		t.Cleanup(func() {
			// The endpoint first: Stack.Wait waits for it with a lock held that
			// a delivery may need.
			e.Close()
			e.Wait()
			s.Close()
			s.Wait()
		})
	}
	addr := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: ourIP, PrefixLen: 24},
	}
	if err := s.CreateNIC(1, e); err != nil {
		t.Fatal(err)
	}
	if err := s.AddProtocolAddress(1, addr, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: addr.AddressWithPrefix.Subnet(), NIC: 1}})
	return s
}

// The kernel's TCP and tcpx exchange bytes over every kind of link. In generic
// mode the kernel's segments come uncut, in several buffers each.
func TestKernelTCP(t *testing.T) {
	size := 8 << 20
	if testing.Short() {
		size = 1 << 20
	}
	for _, tt := range []struct {
		name        string
		mtu, queues int
		opts        Options
		uncut       bool // segments longer than an MTU arrive
	}{
		{"native", 1500, 1, Options{}, false},
		{"generic", 1500, 1, Options{Mode: Generic}, true},
		{"native with jumbo frames", 9000, 1, Options{}, true},
		{"four queues, blocking", 1500, 4, Options{Frames: 128, Backpressure: Block}, false},
		{"dropping", 1500, 1, Options{Frames: 64, Backpressure: Drop}, false},
		{"busy polling", 1500, 1, Options{BusyPoll: 20 * time.Microsecond}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCable(t, tt.mtu, tt.queues, "192.0.2.1/24")
			e := c.open(t, tt.opts)
			s := newStack(t, e)
			l, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() { // an echo server
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
			conn, err := c.NS.Dial("tcp", net.JoinHostPort("192.0.2.2", "7"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(3 * patience))
			data := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				_, _ = conn.Write(data)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back of %d, or others, %v", len(got), len(data), err)
			}
			st := e.Stats()
			if (st.RxMultiBuffer > 0) != tt.uncut {
				t.Errorf("%d frames in several buffers, want some: %t", st.RxMultiBuffer, tt.uncut)
			}
			if st.RxDroppedChecksum+st.RxDroppedMalformed+st.RxDroppedDescriptor+st.TxErrors+st.TxBadCompletions+st.KernelInvalidDescriptors != 0 {
				t.Errorf("%+v", st)
			}
			t.Logf("%.0f frames a kick", float64(st.TxFrames)/float64(max(st.TxKicks, 1)))
		})
	}
}
