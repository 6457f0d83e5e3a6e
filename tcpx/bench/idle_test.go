package bench

import (
	"io"
	"net"
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// open opens n connections, perPort to each port, and returns both ends of each.
func open(tb testing.TB, s [2]*stack.Stack, n int) (clients, servers []net.Conn) {
	tb.Helper()
	const perPort = 10000
	clients, servers = make([]net.Conn, 0, n), make([]net.Conn, 0, n)
	for port := uint16(1); len(clients) < n; port++ {
		l, err := gonet.ListenTCP(s[1], at(1, port), ipv4.ProtocolNumber)
		if err != nil {
			tb.Fatal(err)
		}
		for range min(perPort, n-len(clients)) {
			c, err := dial(s, port)
			if err != nil {
				tb.Fatalf("connection %d: %v", len(clients), err)
			}
			a, err := l.Accept()
			if err != nil {
				tb.Fatal(err)
			}
			clients, servers = append(clients, c), append(servers, a)
		}
		l.Close()
	}
	return clients, servers
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestManyIdleConnections opens 100,000 connections, passes a byte over each, closes them all and finds nothing left.
func TestManyIdleConnections(t *testing.T) {
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 2_000
	}
	goroutines := runtime.NumGoroutine()
	s := pair(t, 1500, false, transports[0].make)
	clients, servers := open(t, s, n)
	if got := runtime.NumGoroutine(); got > goroutines+10 {
		t.Errorf("%d goroutines for %d connections", got-goroutines, n)
	}
	var x [1]byte
	for i, c := range clients {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(servers[i], x[:]); err != nil || x[0] != byte(i) {
			t.Fatalf("connection %d: read %d, %v", i, x[0], err)
		}
	}
	for i := range clients {
		clients[i].Close()
		servers[i].Close()
	}
	if got := s[0].Stats().TCP.CurrentEstablished.Value() + s[1].Stats().TCP.CurrentEstablished.Value(); got != 0 {
		t.Errorf("%d connections still established", got)
	}
}

// BenchmarkIdle measures the memory of an idle endpoint with its gonet object, and what opening and closing a connection costs among many.
func BenchmarkIdle(b *testing.B) {
	const n = 10_000
	for _, t := range transports {
		b.Run(t.name, func(b *testing.B) {
			var each float64
			for range b.N {
				s := pair(b, 1500, false, t.make)
				before := heap()
				clients, servers := open(b, s, n)
				each = float64(heap()-before) / (2 * n)
				for i := range clients {
					clients[i].Close()
					servers[i].Close()
				}
			}
			b.ReportMetric(each, "B/endpoint")
		})
	}
}
