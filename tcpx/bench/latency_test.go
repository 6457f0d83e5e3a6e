package bench

import (
	"io"
	"net"
	"testing"
)

// BenchmarkRoundTrip measures one-byte requests and answers on one connection.
func BenchmarkRoundTrip(b *testing.B) {
	for _, t := range transports {
		b.Run(t.name, func(b *testing.B) {
			c, s := connected(b, pair(b, 1500, false, t.make))
			go echo(s)
			var x [1]byte
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if _, err := c.Write(x[:]); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, x[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func echo(c net.Conn) {
	var x [1]byte
	for {
		if _, err := io.ReadFull(c, x[:]); err != nil {
			return
		}
		if _, err := c.Write(x[:]); err != nil {
			return
		}
	}
}

// BenchmarkConnect measures connections opened, accepted and closed one after the other.
func BenchmarkConnect(b *testing.B) {
	for _, t := range transports {
		b.Run(t.name, func(b *testing.B) {
			s := pair(b, 1500, false, t.make)
			l := listen(b, s, 80)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				c, err := dial(s, 80)
				if err != nil {
					b.Fatal(err)
				}
				// The server closes first, so that the client's port is free again at once.
				var x [1]byte
				if _, err := c.Read(x[:]); err != io.EOF {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
