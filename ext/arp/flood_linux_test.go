package arp

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	stock "gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// cpu is the processor time that the process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkAttack is the cost of a packet from, or a look-up of, one of millions of neighbours, and what is left afterwards. An operation is one neighbour; cpu-ns/op is
// what the process was given of the processors, which other processes' load changes little.
func BenchmarkAttack(b *testing.B) {
	for _, bb := range []struct {
		name    string
		factory stack.NetworkProtocolFactory
		attack  func(r *rig, n int)
	}{
		{"flood/stock", stock.NewProtocol, func(r *rig, n int) { r.flood(n, nil) }},
		{"flood/ours", ours(Options{}), func(r *rig, n int) { r.flood(n, nil) }},
		{"flood/unlimited", unlimited(), func(r *rig, n int) { r.flood(n, nil) }},
		{"scan/stock", stock.NewProtocol, (*rig).scan},
		{"scan/ours", ours(Options{}), (*rig).scan},
		{"scan/unlimited", unlimited(), (*rig).scan},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := attacked(b, bb.factory)
			before := heap()
			b.ReportAllocs()
			spent := cpu(b)
			b.ResetTimer()
			bb.attack(r, b.N)
			b.StopTimer()
			b.ReportMetric(float64(cpu(b)-spent)/float64(b.N), "cpu-ns/op")
			b.ReportMetric((float64(heap())-float64(before))/1024, "KiB-more")
			gateway := 0.0
			if e, ok := r.entry(gwIP); ok && e.LinkAddr == gwMAC {
				gateway = 1
			}
			b.ReportMetric(gateway, "gateways-kept")
			all, _ := r.s.Neighbors(nicID, header.IPv4ProtocolNumber)
			b.ReportMetric(float64(len(all)), "entries")
		})
	}
}
