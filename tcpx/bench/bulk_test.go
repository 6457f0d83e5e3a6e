package bench

import (
	"fmt"
	"io"
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// chunk is what the user writes and reads at a time.
const chunk = 64 << 10

// BenchmarkBulk measures one connection's bulk throughput.
func BenchmarkBulk(b *testing.B) {
	for _, link := range []struct {
		name string
		mtu  uint32
		gso  bool
	}{{"mtu1500", 1500, false}, {"mtu65000", 65000, false}, {"gso", 1500, true}} {
		for _, t := range transports {
			b.Run(fmt.Sprintf("%s/%s", link.name, t.name), func(b *testing.B) {
				w, r := connected(b, pair(b, link.mtu, link.gso, t.make))
				bulk(b, w, r)
			})
		}
		for _, touch := range []bool{true, false} {
			if link.gso {
				continue
			}
			name := map[bool]string{true: "touch", false: "wire"}[touch]
			b.Run(fmt.Sprintf("%s/%s", link.name, name), func(b *testing.B) { nothing(b, link.mtu, touch) })
		}
	}
}

func bulk(b *testing.B, w, r net.Conn) {
	done := make(chan error, 1)
	total := int64(b.N) * chunk
	buf := make([]byte, chunk)
	send := func(n int64) {
		for ; n > 0; n -= chunk {
			if _, err := w.Write(buf); err != nil {
				b.Error(err)
				return
			}
		}
	}
	recv := func(n int64) {
		in := make([]byte, chunk)
		for n > 0 {
			k, err := r.Read(in[:min(n, chunk)])
			if err != nil && err != io.EOF {
				done <- err
				return
			}
			n -= int64(k)
		}
		done <- nil
	}
	// Past slow start and buffer tuning first.
	go recv(1024 * chunk)
	send(1024 * chunk)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	go recv(total)
	send(total)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// nothing sends the packets of a bulk transfer through a transport that does nothing.
func nothing(b *testing.B, mtu uint32, touch bool) {
	var protos [2]*nullProtocol
	i := 0
	s := pair(b, mtu, false, func(s *stack.Stack) stack.TransportProtocol {
		protos[i] = &nullProtocol{stack: s, touch: touch}
		i++
		return protos[i-1]
	})
	send := newNullSender(b, s[0], int(mtu)-20-nullHeader, touch)
	protos[1].ack = newNullSender(b, s[1], 0, false)
	b.SetBytes(chunk)
	b.ResetTimer()
	defer cpu(b)()
	for n := int64(b.N) * chunk; n > 0; {
		n -= int64(send.packet(int(min(n, chunk))))
	}
}
