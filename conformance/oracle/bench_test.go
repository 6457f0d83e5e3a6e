//go:build unix

package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/internal/wire"
)

// bulk is the packets of connections that each send full segments with an
// acknowledgment for every second one, in turn: what a bulk transfer looks like,
// with windows, timestamps and checksums that are right.
func bulk(connections, rounds int) [][]byte {
	var out [][]byte
	payload := make([]byte, 1448)
	for i := range payload {
		payload[i] = byte(i * 31)
	}
	ts := func(v, e uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, v)
		return binary.BigEndian.AppendUint32(b, e)
	}
	packet := func(c int, reverse bool, seg wire.TCP) {
		p := wire.Packet{IP: wire.IP{Src: endA.Addr(), Dst: endB.Addr()}, TCP: &seg}
		seg.SrcPort, seg.DstPort = uint16(10_000+c), 80
		if reverse {
			p.IP.Src, p.IP.Dst = p.IP.Dst, p.IP.Src
			seg.SrcPort, seg.DstPort = seg.DstPort, seg.SrcPort
		}
		out = append(out, p.Encode(wire.Spoil{}))
	}
	const syn = "\x02\x04\x05\xb4\x01\x01\x04\x02\x01\x03\x03\x07"
	for c := range connections {
		packet(c, false, wire.TCP{Flags: wire.SYN, Window: 65535, Options: append([]byte(syn), ts(1, 0)...)})
		packet(c, true, wire.TCP{Ack: 1, Flags: wire.SYN | wire.ACK, Window: 65535, Options: append([]byte(syn), ts(1, 1)...)})
		packet(c, false, wire.TCP{Seq: 1, Ack: 1, Flags: wire.ACK, Window: 512, Options: ts(2, 1)})
	}
	for r := range rounds {
		now := uint32(r + 3)
		for c := range connections {
			seq := uint32(1 + 2896*r)
			packet(c, false, wire.TCP{Seq: seq, Ack: 1, Flags: wire.ACK, Window: 512, Options: ts(now, now-2), Payload: payload})
			packet(c, false, wire.TCP{Seq: seq + 1448, Ack: 1, Flags: wire.ACK, Window: 512, Options: ts(now, now-2), Payload: payload})
			packet(c, true, wire.TCP{Seq: 1, Ack: seq + 2896, Flags: wire.ACK, Window: 512, Options: ts(now-1, now)})
		}
	}
	return out
}

// cpu measures the CPU time of a benchmark, which a busy machine does not change
// as much as the time on the clock. What it returns reports the packets in each
// second of it.
func cpu(b *testing.B) func(packets int) {
	now := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := now()
	return func(packets int) {
		b.ReportMetric(float64(packets)/(now()-start).Seconds(), "packets/cpu-s")
	}
}

// BenchmarkChecker judges packets that are in memory; an operation is a packet.
func BenchmarkChecker(b *testing.B) {
	for _, connections := range []int{1, 100} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			packets := bulk(connections, 20_000/connections)
			octets := 0
			for _, p := range packets {
				octets += len(p)
			}
			b.SetBytes(int64(octets / len(packets)))
			b.ReportAllocs()
			var c *Checker
			i := len(packets)
			used := cpu(b)
			for b.Loop() {
				if i == len(packets) {
					if c != nil && c.Report().Broken(Hard) > 0 {
						b.Fatal(c.Report().Findings)
					}
					c, i = New(onPath), 0
				}
				c.IP(time.Duration(i)*10*time.Microsecond, packets[i], len(packets[i]))
				i++
			}
			used(b.N)
		})
	}
}

// BenchmarkCheck judges a file; an operation is a file.
func BenchmarkCheck(b *testing.B) {
	n := (&ngFrom{AppendByteOrder: binary.LittleEndian}).header().iface(6)
	packets := bulk(100, 200)
	for i, p := range packets {
		n.packet(uint64(i*10), p, len(p))
	}
	b.SetBytes(int64(len(n.b)))
	used := cpu(b)
	for b.Loop() {
		if r, err := Check(bytes.NewReader(n.b), onPath); err != nil || r.Broken(Hard) > 0 {
			b.Fatal(err, r)
		}
	}
	used(b.N * len(packets))
}
